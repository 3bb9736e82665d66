"""Targets: learned codecs. Model files from strangers, packed weights, payloads; the numpy decoder beside torch's."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from functools import cache, partial
from typing import Any
from unittest import mock

import numpy as np

from batchcodec import reference
from batchcodec.entropy.codes import ENTROPY_CODERS
from batchcodec.errors import CodecError, ModelError, PayloadError
from batchcodec.learned import model_file
from batchcodec.learned.autoencoder import AutoencoderCodec
from batchcodec.learned.balle.codec import Balle2017Codec
from batchcodec.learned.comcnn.codec import ComcnnCodec
from batchcodec.learned.hyperprior.codec import HyperpriorCodec
from batchcodec.types import JSON, GroupSpec, ImageSpec, Pixels

from . import mutators
from .oracle import CORPUS, Target

# ---- autoencoder-1: a model file, or the bytes of a payload behind a sound model


def autoencoder_model() -> bytes:
    """The smallest model for gray images, with the decoder alone."""
    import torch

    from batchcodec.learned.architecture import Shape
    from batchcodec.learned.networks import Autoencoder

    torch.manual_seed(0)
    network = Autoencoder(1, 2, Shape((1, 2, 1)), norm=False)
    weights = {n: t.numpy().astype(np.float16) for n, t in network.state_dict().items() if n.startswith("decoder.")}
    tables = np.full((2, 256), 256, np.uint16)
    tables[1, :2] = 256 + 100, 256 - 100
    ranges = {"quantiser.low": np.float32([-1, 0]), "quantiser.step": np.float32([0.01, 0.02])}
    config = {"channels": 1, "latent": 2, "widths": [1, 2, 1]}
    return model_file.dump({**weights, **ranges, "tables": tables}, {"codec": "autoencoder-1", "config": config})


def read_autoencoder(data: bytes) -> None:
    """A model from a stranger decodes one small group, or is refused."""
    codec = AutoencoderCodec.restore({"entropy": "none"}, data)
    channels, latent = codec._n_channels, codec._latent
    pixels = codec.decode(bytes(latent), GroupSpec(1, ImageSpec(5, 8, channels)))
    assert pixels.shape == (1, 5, 8, channels)
    bits = [c % 9 for c in range(latent)]
    fewer = AutoencoderCodec.restore({"precision": {"entropy": "none", "bits": bits}}, data)
    assert fewer.decode(bytes(-(-sum(bits) // 8)), GroupSpec(1, ImageSpec(5, 8, channels))).shape == pixels.shape
    assert AutoencoderCodec.restore(codec.get_config(), codec.get_model()).get_model() == codec.get_model()


AUTOENCODER = Target(
    "autoencoder_model",
    read_autoencoder,
    lambda: [autoencoder_model()],
    (CodecError,),
    mutators.safetensors,
    max_length=1 << 14,
)


PRECISIONS = ([8, 8], [3, 0], [1, 6], [0, 0])
"""Bits of the two channels."""


@cache
def _autoencoder(kind: str, precision: int) -> AutoencoderCodec:
    return AutoencoderCodec(model=stored("autoencoder_model"), entropy=kind, bits_map=PRECISIONS[precision])


def read_autoencoder_payload(data: bytes) -> None:
    """Byte 0 chooses the entropy coder and bits, bytes 1 to 6 the group, up to one far larger than the payload."""
    head = np.frombuffer(data[1:7].ljust(6, b"\0"), "<u2").tolist()
    spec = GroupSpec(1 + head[0] % 2048, ImageSpec(1 + head[1], 1 + head[2], 1))
    if spec.n_bytes > 1 << 20:  # what `wire` would have refused, see `SMALL_LIMITS`
        return
    precision, kind = divmod((data + b"\0")[0] % 16, 4)
    codec = _autoencoder(ENTROPY_CODERS[kind], precision)
    assert codec.decode(data[7:], spec).shape == spec.shape


def _autoencoder_payloads() -> Iterable[bytes]:
    from batchcodec.entropy import fields
    from batchcodec.entropy.codes import pack_symbols

    for i in range(4 * len(PRECISIONS)):
        precision, kind = divmod(i, 4)
        codec = _autoencoder(ENTROPY_CODERS[kind], precision)
        for n, height, width in ((1, 8, 8), (3, 9, 20)):
            size = n * -(-height // 8) * -(-width // 8)
            n_cells = (codec._coded_freqs > 0).sum(axis=1)
            rows = (np.arange(len(n_cells) * size).reshape(-1, size) % n_cells[:, None]).astype(np.uint8)
            head = np.array([n - 1, height - 1, width - 1], "<u2").tobytes()
            if kind == 0 or not len(rows):
                payload = fields.pack(rows, codec._cells.bits[codec._coded])
            else:
                payload = pack_symbols(ENTROPY_CODERS[kind], rows.reshape(-1), codec._index(size), codec._coded_freqs)
            yield bytes([i]) + head + payload


AUTOENCODER_PAYLOAD = Target(
    "autoencoder_payload", read_autoencoder_payload, _autoencoder_payloads, (CodecError,), max_length=512
)


# ---- balle2017-1: a model file, or the bytes of a payload behind a sound model


def balle_model(activation: str, upsample: str, depth: int) -> bytes:
    """The smallest model for gray images, with the decoder alone."""
    import torch

    from batchcodec.learned.balle import density
    from batchcodec.learned.balle import model as models
    from batchcodec.learned.balle.architecture import Architecture
    from batchcodec.learned.balle.network import Transforms

    torch.manual_seed(0)
    transforms = models.rounded(Transforms(Architecture(1, 2, 2, depth, activation, upsample, 2)))
    cells = np.abs(np.arange(density.CELLS) - 127.5)
    masses = density.to_masses(np.exp(-cells / [[1.5], [6.0]]))
    widths = np.rint(np.geomspace(9000, 500, 100)[:, None] * [1, 2]).astype(np.uint16)
    return Balle2017Codec(model=models.dump(transforms, masses, widths)).get_model()


def read_balle(data: bytes) -> None:
    """A model from a stranger decodes one small group, or is refused."""
    codec = Balle2017Codec.restore({}, data)
    assert Balle2017Codec.restore({}, codec.get_model()).get_model() == codec.get_model()
    spec = GroupSpec(1, ImageSpec(5, 8, codec._model.arch.channels))
    payload = bytes([50, 0]) + hashlib.sha256(data).digest()
    pixels = _outcome(lambda: codec.decode(payload, spec))
    assert pixels is None or pixels.shape == spec.shape


BALLE = Target(
    "balle2017_model",
    read_balle,
    lambda: [balle_model("gdn", "transpose", 2), balle_model("leaky-relu", "pixelshuffle", 1)],
    (CodecError,),
    mutators.safetensors,
    max_length=1 << 14,
)


@cache
def _balle() -> Balle2017Codec:
    return Balle2017Codec(model=stored("balle2017_model"))


def read_balle_payload(data: bytes) -> None:
    """Bytes 0 to 5 choose the group, up to one far larger than the payload."""
    head = np.frombuffer(data[:6].ljust(6, b"\0"), "<u2").tolist()
    spec = GroupSpec(1 + head[0] % 2048, ImageSpec(1 + head[1], 1 + head[2], 1))
    if spec.n_bytes > 1 << 20:  # what `wire` would have refused, see `SMALL_LIMITS`
        return
    assert _balle().decode(data[6:], spec).shape == spec.shape


def _balle_payloads() -> Iterable[bytes]:
    from batchcodec.entropy import leb128, values

    rng = np.random.default_rng(0)
    for n, height, width, quality in ((1, 1, 1, 50), (3, 9, 20, 1), (2, 33, 8, 100)):
        n_positions = n * -(-height // 8) * -(-width // 8)
        index = np.repeat(np.arange(2, dtype=np.uint16), n_positions)
        integers = np.rint(rng.laplace(0, 3, len(index))).astype(np.int32)
        integers[0] = 3000  # an escape
        words, escapes = values.encode(integers, index, _balle()._model.bank(quality))
        head = np.array([n - 1, height - 1, width - 1], "<u2").tobytes()
        yield head + bytes([quality]) + leb128.pack(len(escapes)) + escapes + words


BALLE_PAYLOAD = Target("balle2017_payload", read_balle_payload, _balle_payloads, (CodecError,), max_length=512)


# ---- comcnn-1: a model file over a base codec whose payloads have targets of their own

COMCNN_CONFIG: dict[str, Any] = {"base": {"codec": "store", "config": {}, "distribution": "batchcodec"}}


def comcnn_model(**shape: Any) -> bytes:
    """A small model for gray images, with RecCNN alone."""
    import torch

    from batchcodec.learned.comcnn import model as models
    from batchcodec.learned.comcnn.architecture import Architecture
    from batchcodec.learned.comcnn.network import Networks

    torch.manual_seed(0)
    return ComcnnCodec(model=models.dump(Networks(Architecture(channels=1, width=2, **shape)))).get_model()


def read_comcnn(data: bytes) -> None:
    """A model from a stranger restores one small group, or is refused."""
    codec = ComcnnCodec.restore(COMCNN_CONFIG, data)
    assert ComcnnCodec.restore(COMCNN_CONFIG, codec.get_model()).get_model() == codec.get_model()
    arch = codec._model.arch
    spec = GroupSpec(1, ImageSpec(5, 8, arch.channels))
    n_bytes = arch.channels * (3 * 4 if arch.compact else 5 * 8)
    assert codec.decode(bytes([16]) + bytes(n_bytes), spec).shape == spec.shape


COMCNN = Target(
    "comcnn_model",
    read_comcnn,
    lambda: [comcnn_model(depth=4), comcnn_model(depth=3, activation="gdn", upsample="resize", compact=False)],
    (CodecError,),
    mutators.safetensors,
    max_length=1 << 14,
)


# ---- hyperprior-1


def stored(target: str) -> bytes:
    """The model that is the first seed of a target: what the seeds of payloads were coded with."""
    return (CORPUS / target / "seed-00.bin").read_bytes()


def _outcome(decode: Callable[[], Pixels]) -> Pixels | None:
    try:
        return decode()
    except CodecError:
        return None


def _same(first: Pixels | None, second: Pixels | None) -> None:
    assert (first is None) == (second is None), "torch and numpy do not agree on whether it can be decoded"
    assert first is None or second is None or np.array_equal(first, second), "torch and numpy give other pixels"


def read_hyperprior_model(data: bytes) -> None:
    """Torch and numpy take the same models, and make the same pixels of one payload."""
    try:
        codec = HyperpriorCodec.restore({}, data)
    except CodecError:
        try:
            reference.ReferenceHyperprior.restore({}, data)
        except CodecError:
            return
        raise AssertionError("numpy takes a model that torch refuses") from None
    other = reference.ReferenceHyperprior.restore({}, codec.get_model())
    spec = GroupSpec(1, ImageSpec(9, 8, codec._n_channels))
    payload = bytes([0, 50, 0]) + hashlib.sha256(data).digest()
    _same(_outcome(lambda: codec.decode(payload, spec)), _outcome(lambda: other.decode(payload, spec)))


def _sealed(data: bytes, change: mutators.Change, seed: int) -> bytes:
    """A changed model, for two of three seeds with the self-check that fits its numbers, so that all of it is used."""
    from learned.test_reference import sealed

    changed = mutators.safetensors(data, change, seed)
    if seed % 3:
        try:
            return sealed(*model_file.parse(changed))
        except (CodecError, ValueError, RuntimeError, TypeError, KeyError, AttributeError):
            return changed
    return changed


def _hyperprior_models() -> Iterable[bytes]:
    from learned.test_reference import perturbed, wild

    # as archives hold them; noise on all weights, so that each layer decides pixels
    yield HyperpriorCodec(model=perturbed("least")).get_model()
    yield HyperpriorCodec(model=wild("least")).get_model()


HYPERPRIOR_MODEL = Target(
    "hyperprior_model", read_hyperprior_model, _hyperprior_models, (CodecError,), _sealed, max_length=1 << 14
)


@cache
def _decoders(grain: bool) -> tuple[HyperpriorCodec, reference.ReferenceHyperprior]:
    blob, config = stored("hyperprior_model"), dict[str, JSON]({"grain": 100} if grain else {})
    return HyperpriorCodec.restore(config, blob), reference.ReferenceHyperprior.restore(config, blob)


def read_hyperprior(data: bytes) -> None:
    """Byte 0 chooses the group and if there is grain; both decoders give the same pixels or refuse; so do single items."""
    first = (data + b"\0")[0]
    codec, other = _decoders(first // 4 % 2 == 1)
    n, height, width = ((1, 1, 1), (2, 9, 20), (3, 17, 8), (1, 33, 33))[first % 4]
    spec, payload = GroupSpec(n, ImageSpec(height, width, codec._n_channels)), data[1:]
    pixels = _outcome(lambda: codec.decode(payload, spec))
    _same(pixels, _outcome(lambda: other.decode(payload, spec)))
    if pixels is not None:
        assert np.array_equal(codec.decode(payload, spec, [n - 1])[0], pixels[-1])


def _hyperprior_payloads() -> Iterable[bytes]:
    from learned.test_reference import perturbed, pictures

    for i, (n, height, width) in enumerate(((1, 1, 1), (2, 9, 20), (3, 17, 8), (1, 33, 33))):
        images = pictures(n, height, width, 1)
        for quality in (20, 90):
            coded = HyperpriorCodec(model=perturbed("least"), quality=quality, effort=1)
            yield bytes([i]) + coded.encode(images)
            yield bytes([i + 4]) + coded.encode(images)
            if n > 1:
                yield bytes([i]) + _in_streams(coded, images)


def _in_streams(codec: HyperpriorCodec, images: Pixels) -> bytes:
    """The payload with a stream for each image."""
    from batchcodec.learned.hyperprior import payloads  # not while imports are instrumented: numba compiles no such code

    with mock.patch.object(payloads, "write", partial(payloads.write, each=1)):
        return codec.encode(images)


HYPERPRIOR = Target("hyperprior_payload", read_hyperprior, _hyperprior_payloads, (CodecError,), max_length=1024)


# ---- what all model files share


def read_model_file(data: bytes) -> None:
    """Packed weights by the kernel and by plain Python; what an archive would store of it gives itself again."""
    found = _parsed(data, None)
    other = _parsed(data, reference.unpacked)
    assert (found is None) == (other is None), "the two decoders of packed weights do not agree"
    if found is None or other is None:
        return
    assert all(np.array_equal(tensor, other[0][name], equal_nan=tensor.dtype.kind == "f") for name, tensor in found[0].items())
    try:
        stored = model_file.without_encoder(*found)
    except ModelError:
        return
    assert model_file.without_encoder(*model_file.parse(stored)) == stored


def _parsed(data: bytes, unpacker: Any) -> Any:
    try:
        return model_file.parse(data, unpacker)
    except (ModelError, PayloadError):
        return None


def _model_files() -> Iterable[bytes]:
    document = {"codec": "x", "config": {"a": [1, 2]}}
    rng = np.random.default_rng(0)
    tensors = {
        "a": np.rint(rng.normal(size=(3, 4, 2)) * 9).astype(np.int8),
        "b": np.float16([[1, 2]]),
        "c": np.full((2, 2), -128, np.int8),
    }
    yield model_file.dump(tensors, document)
    yield model_file.without_encoder(tensors, document)
    yield model_file.dump({}, {})


MODEL_FILE = Target("model_file", read_model_file, _model_files, (ModelError,), mutators.safetensors)
