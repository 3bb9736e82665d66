"""Models and payloads of `hyperprior-1` from a stranger: every lie is found, soon and without much memory."""

from __future__ import annotations

import contextlib
import time
import tracemalloc
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchcodec.entropy import gaussian, leb128, values
from batchcodec.errors import BatchcodecError, CodecError, ModelError, PayloadError
from batchcodec.learned import model_file, packed_weights
from batchcodec.learned.hyperprior.codec import HyperpriorCodec, inference
from batchcodec.learned.hyperprior.model import LoadedModel
from batchcodec.types import GroupSpec, ImageSpec

from .test_reference import perturbed, pictures

NAME = "rgb"
"""A model with all parts: three slices, nonlinear layers, residual blocks."""
MODEL = perturbed(NAME)
TENSORS, DOCUMENT = model_file.parse(MODEL)
IMAGES = pictures(2, 17, 12, 3)
SPEC = GroupSpec.of(IMAGES)
Change = Callable[[dict[str, Any], dict[str, Any]], Any]

MAX_SECONDS = 5.0
MAX_BYTES = 64 << 20


@cache
def payload() -> bytes:
    return HyperpriorCodec(model=complete(), quality=70, effort=1).encode(IMAGES)


@cache
def complete() -> bytes:
    """The model with all that an encoder asks for."""
    return model_file.dump(TENSORS, DOCUMENT | {"nominal": np.geomspace(64, 1, 9).tolist(), "typical": [1.0, 1.25]})


def changed(change: Change) -> bytes:
    tensors, document = dict(TENSORS), model_file.parse(complete())[1]
    change(tensors, document)
    return model_file.dump(tensors, document)


def decode(blob: bytes) -> None:
    HyperpriorCodec.restore({}, blob).decode(payload(), SPEC)


def encode(blob: bytes) -> None:
    HyperpriorCodec(model=blob, effort=2).encode(IMAGES)


def refused(use: Callable[[bytes], None], blob: bytes, error: type[Exception] = ModelError, *, measured: bool = False) -> None:
    """It is refused with this error, in little time and, where that is measured, which is slow, memory."""
    payload()  # what is made once and kept
    if measured:
        tracemalloc.start()
    started = time.monotonic()
    try:
        with pytest.raises(error):
            use(blob)
        assert time.monotonic() - started < MAX_SECONDS
        assert not measured or tracemalloc.get_traced_memory()[1] < MAX_BYTES + 8 * len(blob)
    finally:
        tracemalloc.stop()


def _set(name: str, value: object) -> Change:
    return lambda tensors, document: document["config"].update({name: value})


def _say(name: str, value: object) -> Change:
    return lambda tensors, document: document.update({name: value})


def _tensor(name: str, change: Callable[[Any], Any]) -> Change:
    return lambda tensors, document: tensors.update({name: change(tensors[name])})


def _without(name: str) -> Change:
    return lambda tensors, document: tensors.pop(name)


def test_the_model_itself_is_taken() -> None:
    decode(complete())
    encode(complete())
    decode(LoadedModel(complete()).without_encoder())


# ---- tensors

DECODING = sorted(name for name in TENSORS if not name.startswith("encoder."))
ENCODING = sorted(name for name in TENSORS if name.startswith("encoder."))


@pytest.mark.parametrize("name", [*DECODING, *ENCODING])
def test_every_tensor_is_checked(name: str) -> None:
    """Missing, of another type, of another shape."""
    use = encode if name in ENCODING else decode
    other = np.int16 if TENSORS[name].dtype != np.int16 else np.int32
    for change in (
        _without(name),
        _tensor(name, lambda x: x.astype(other)),
        _tensor(name, lambda x: x.astype(np.float64)),
        _tensor(name, lambda x: x[None]),
        _tensor(name, lambda x: np.concatenate([x, x])),
        _tensor(name, lambda x: x[:0]),
    ):
        refused(use, changed(change))


def test_values_that_are_not_finite() -> None:
    for name in ENCODING:
        for value in (np.nan, np.inf):
            refused(encode, changed(_tensor(name, lambda x, value=value: np.full_like(x, value))))


# ---- numbers

SIZES = (
    "channels",
    "stride",
    "width",
    "blocks",
    "fine_width",
    "fine_blocks",
    "hyper",
    "hyper_width",
    "context_width",
    "anchors",
)
ABSURD = (10**9, 10**30, -1, -(10**18), True, 1.0, 8.0, 1e300, "8", "", None, [8], {"a": 8})


@pytest.mark.parametrize("name", SIZES)
def test_absurd_sizes(name: str) -> None:
    for value in ABSURD:
        refused(decode, changed(_set(name, value)), measured=value == 10**9)
    refused(decode, changed(lambda tensors, document: document["config"].pop(name)))


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, 1024) for name in ("width", "fine_width", "hyper", "hyper_width", "context_width")]
    + [("blocks", 16), ("fine_blocks", 16), ("anchors", 100), ("stride", 16), ("channels", 4), ("channels", 1), ("width", 0)],
)
def test_sizes_that_the_tensors_do_not_have(name: str, value: int) -> None:
    refused(decode, changed(_set(name, value)), CodecError, measured=True)  # one of other channels cannot hold the images


def test_the_largest_network_that_may_be_claimed() -> None:
    largest = {name: 1024 for name in SIZES if name not in ("channels", "stride")}
    largest |= {"channels": 3, "stride": 16, "blocks": 16, "fine_blocks": 16, "anchors": 100, "slices": [64] * 16}
    steps = np.ones((100, 1024), np.uint16)
    claim = changed(lambda tensors, document: (document["config"].update(largest), tensors.update(steps=steps)))
    refused(decode, claim, measured=True)
    refused(encode, claim, measured=True)


@pytest.mark.parametrize(
    "slices",
    [
        [],
        [0],
        [-1, 17],
        [3, 5, 8, 0],
        [1] * 17,
        [1025],
        [1024, 1],
        [10**9],
        [10**30],
        [True, 15],
        [3.0, 5, 8],
        ["3", 5, 8],
        "358",
        None,
        3,
        {"3": 5},
        [[3, 5, 8]],
        [3, 5],
        [5, 3, 8],
        [16],
    ],
    ids=str,
)
def test_absurd_slices(slices: object) -> None:
    refused(decode, changed(_set("slices", slices)))


ENCODERS: dict[str, object] = {
    "none": None,
    "a list": [8, 0, 8],
    "empty": {},
    "a key more": {"width": 8, "blocks": 0, "fine_width": 8, "depth": 3},
    **{
        f"{name} {value!r}"[:30]: {"width": 8, "blocks": 0, "fine_width": 8} | {name: value}
        for name in ("width", "blocks", "fine_width")
        for value in (10**9, -1, True, 8.0, "8", None, 16)
    },
}


@pytest.mark.parametrize("config", ENCODERS.values(), ids=ENCODERS)
def test_absurd_encoders(config: object) -> None:
    blob = changed(_say("encoder", config))
    refused(encode, blob)
    decode(blob)


NUMBERS: dict[str, Change] = {
    **{f"nominal {value!r}"[:30]: _say("nominal", value) for value in (None, 1, "1", {}, [], [1.0] * 8, [1.0] * 10, ["1"] * 9)},
    **{
        f"a nominal step of {value}"[:30]: _say("nominal", [*[1.0] * 8, value])
        for value in (0, -1.0, 0.0, 1e-300, 1024, 1e300, float("nan"), float("inf"), 10**400, None)
    },
    **{f"typical {value!r}"[:30]: _say("typical", value) for value in (None, 1, "1", {}, [], [1.0], [1.0] * 3, ["1", "2"])},
    **{
        f"typical error e^{value}"[:30]: _say("typical", [value, 1.25])
        for value in (800.0, -800.0, 1e308, float("nan"), float("inf"), -float("inf"), 10**400, None)
    },
    "typical power 10^400": _say("typical", [1.0, 10**400]),
    "typical power infinite": _say("typical", [1.0, float("inf")]),
    "typical power nan": _say("typical", [1.0, float("nan")]),
}


@pytest.mark.parametrize("change", NUMBERS.values(), ids=NUMBERS)
def test_numbers_that_only_an_encoder_asks_for(change: Change) -> None:
    blob = changed(change)
    refused(encode, blob)
    decode(blob)


# ---- bounds

LAYERS = sorted(name.removesuffix(".weight") for name in TENSORS if name.startswith("decoder.") and name.endswith(".weight"))


@pytest.mark.parametrize("layer", LAYERS)
def test_every_layer_is_bounded(layer: str) -> None:
    weight, shift, bias = f"{layer}.weight", f"{layer}.shift", f"{layer}.bias"

    def one(value: int) -> Callable[[Any], Any]:
        return lambda x: np.where(np.arange(x.size).reshape(x.shape) == x.size - 1, value, x).astype(x.dtype)

    for change in (
        _tensor(weight, one(-128)),
        _tensor(shift, one(15)),
        _tensor(shift, one(-5)),
        _tensor(shift, one(127)),
        _tensor(shift, one(-128)),
        _tensor(bias, one(1 << 24)),
        _tensor(bias, one(-(1 << 24))),
        _tensor(bias, one((1 << 31) - 1)),
        _tensor(bias, one(-(1 << 31))),
    ):
        refused(decode, changed(change))


@pytest.mark.parametrize(("layer", "max_input"), [("linear", 4095), ("hyper_in", 63), ("last", 127), ("slices.1.before", 511)])
def test_the_bound_is_tight(layer: str, max_input: int) -> None:
    """Sums of 2^24 - 1 units are taken, 2^24 are refused."""
    size = (
        np.abs(TENSORS[f"decoder.{layer}.weight"].astype(np.int64)).reshape(len(TENSORS[f"decoder.{layer}.shift"]), -1).sum(1)
    )
    room = (1 << 24) - size * max_input
    for sign in (1, -1):
        refused(decode, changed(_tensor(f"decoder.{layer}.bias", lambda x, sign=sign: (sign * room).astype(np.int32))))
        sound = changed(_tensor(f"decoder.{layer}.bias", lambda x, sign=sign: (sign * (room - 1)).astype(np.int32)))
        with contextlib.suppress(PayloadError):  # other means make other numbers of it
            HyperpriorCodec(model=remade(sound)).decode(payload(), SPEC)


def remade(blob: bytes) -> bytes:
    """The model with the self-check that goes with its numbers, if it has one."""
    try:
        from batchcodec.learned.hyperprior import probe
    except ImportError:
        return blob
    tensors, document = model_file.parse(blob)
    found = probe.run(LoadedModel(blob).decoder)
    return model_file.dump(tensors | {"probe": np.array([found], np.uint64)}, document)


def test_a_residual_counts_what_it_adds() -> None:
    def beyond(by: int) -> Change:
        return lambda tensors, document: tensors.update(
            {
                "decoder.coarse.0.b.weight": np.zeros_like(tensors["decoder.coarse.0.b.weight"]),
                "decoder.coarse.0.b.bias": np.full(8, (1 << 24) - (127 << 5) - 1 + by, np.int32),
                "decoder.coarse.0.b.shift": np.full(8, 5, np.int8),
            }
        )

    HyperpriorCodec(model=remade(changed(beyond(0)))).decode(payload(), SPEC)
    refused(decode, changed(beyond(1)))


@pytest.mark.parametrize("value", [0, 1024, 65535])
def test_steps_out_of_range(value: int) -> None:
    refused(
        decode, changed(_tensor("steps", lambda x: np.where(np.arange(x.size).reshape(x.shape) == 7, value, x).astype(x.dtype)))
    )


@pytest.mark.parametrize("value", [-1, 256, 300, 32767, -32768])
def test_offsets_out_of_range(value: int) -> None:
    refused(decode, changed(_tensor("offset", lambda x: np.full_like(x, value))))


# ---- tables


def _scales(sizes: list[int], total: int = 1 << 16) -> Change:
    """Flat tables of these sizes."""
    rows = [np.full(n, total // n) + (np.arange(n) < total % n) for n in sizes]
    freqs = np.concatenate(rows).astype(np.uint16) if rows else np.zeros(0, np.uint16)
    return lambda tensors, document: tensors.update({"scales.sizes": np.array(sizes, np.uint16), "scales.freqs": freqs})


TABLES: dict[str, Change] = {
    "sizes of 1": _tensor("hyper.sizes", np.ones_like),
    "sizes of 0": _tensor("hyper.sizes", np.zeros_like),
    "sizes of 65535": _tensor("hyper.sizes", lambda x: np.full_like(x, 65535)),
    "sizes of 257": lambda tensors, document: tensors.update(
        {"hyper.sizes": np.full(4, 257, np.uint16), "hyper.freqs": np.full(4 * 257, 255, np.uint16)}
    ),
    "a frequency more": _tensor("hyper.freqs", lambda x: np.append(x, np.uint16(1))),
    "frequencies of zero": _tensor("hyper.freqs", np.zeros_like),
    "a frequency of zero": _tensor("hyper.freqs", lambda x: np.where(np.arange(len(x)) == 1, 0, x).astype(np.uint16)),
    "frequencies of 65535": _tensor("hyper.freqs", lambda x: np.full_like(x, 65535)),
    "a sum too small": _tensor("hyper.freqs", lambda x: np.where(x == x.max(), x - np.uint16(1), x)),
    "sizes exchanged": _tensor("hyper.sizes", lambda x: x + np.array([1, -1, 0, 0]).astype(np.uint16)),
    "scales without frequencies": lambda tensors, document: tensors.update({"scales.sizes": np.full(81, 2, np.uint16)}),
    "frequencies without scales": lambda tensors, document: tensors.update({"scales.freqs": np.full(162, 1 << 15, np.uint16)}),
    "80 scales": _scales([2] * 80),
    "82 scales": _scales([2] * 82),
    "no scales": _scales([]),
    "scales of one symbol": _scales([1] * 81),
    "a scale of 4097 symbols": _scales([*[2] * 80, 4097]),
    "a scale of 60000 symbols": _scales([*[2] * 80, 60000]),
    "scales that sum to too little": _scales([2] * 81, total=60000),
    "scales of int32": lambda tensors, document: tensors.update(
        {"scales.sizes": np.full(81, 2, np.int32), "scales.freqs": np.full(162, 1 << 15, np.int32)}
    ),
}


@pytest.mark.parametrize("change", TABLES.values(), ids=TABLES)
def test_tables_that_lie(change: Change) -> None:
    refused(decode, changed(change))
    refused(encode, changed(change))


def test_the_tables_of_a_model_are_used() -> None:
    blob = changed(_scales([2] * 81))
    images = IMAGES[:1]
    codec = HyperpriorCodec(model=blob, effort=1, quality=30)
    coded = codec.encode(images)
    assert leb128.unpack(coded)[0] > 0, "all but 0 are escapes"
    expected = HyperpriorCodec(model=complete(), effort=1, quality=30)
    assert np.array_equal(
        codec.decode(coded, GroupSpec.of(images)), expected.decode(expected.encode(images), GroupSpec.of(images))
    )


# ---- files

STRANGE: dict[str, Change] = {
    f"int8 of the shape {shape}": lambda tensors, document, shape=shape: tensors.update(strange=np.zeros(shape, np.int8))
    for shape in ((0, 3), (3, 0), (1,) * 9)
}


@pytest.mark.parametrize("change", STRANGE.values(), ids=STRANGE)
def test_tensors_that_nobody_asked_for(change: Change) -> None:
    """They do no harm: the model is used, stored, and read again."""
    blob = changed(change)
    encode(blob)
    decode(HyperpriorCodec(model=blob).get_model())


MOST = packed_weights.MAX_WEIGHTS

DOCUMENTS: dict[str, Change] = {
    "another codec": _say("codec", "autoencoder-1"),
    "a codec that is no text": _say("codec", ["hyperprior-1"]),
    "no codec": lambda tensors, document: document.pop("codec"),
    "no config": lambda tensors, document: document.pop("config"),
    "a list for a config": _say("config", []),
    "a text for a config": _say("config", "channels"),
    "an unknown key": _set("depth", 3),
    "packed weights of another kind": _say("packed", {}),
    "packed weights that are not there": _say("packed", [["decoder.linear.weight", [192, 16, 1, 1]]]),
    "many packed weights": _say("packed", [["decoder.linear.weight", [MOST, 1]]]),
    "huge packed weights": _say("packed", [["decoder.linear.weight", [10**9, 10**9]]]),
}


@pytest.mark.parametrize("change", DOCUMENTS.values(), ids=DOCUMENTS)
def test_documents_that_lie(change: Change) -> None:
    refused(decode, changed(change))


@pytest.mark.parametrize("listed", [[["x", [MOST, 1]]], [["x", [MOST - 2, 1]], ["y", [1, 2]]], [["x", [1, MOST]]]], ids=str)
def test_packed_weights_that_claim_too_much(listed: list[Any]) -> None:
    parts = {
        "packed.words": np.zeros(8, np.uint8),
        "packed.escapes": np.zeros(0, np.uint8),
        "packed.tables": np.zeros(1, np.uint8),
    }
    refused(decode, changed(lambda tensors, document: (tensors.update(parts), document.update(packed=listed))), measured=True)


@pytest.mark.parametrize(
    ("shape", "n_bytes"),
    [
        ([10**6, 10**6], 100),
        ([2**62], 100),
        ([2**31, 2**31], 100),
        ([0, 2**63], 0),
        ([1] * 200, 1),
        ([-1], 1),
        (["1"], 1),
        ([], 9),
    ],
    ids=str,
)
def test_shapes_that_are_claimed(shape: list[Any], n_bytes: int) -> None:
    header, start = _header_of(complete())
    first = len(complete()) - start
    entry = f'"strange":{{"dtype":"I8","shape":{shape},"data_offsets":[{first},{first + n_bytes}]}},'
    text = header.replace(b"{", b"{" + entry.replace("'", '"').encode(), 1)
    refused(decode, len(text).to_bytes(8, "little") + text + complete()[start:] + bytes(n_bytes), measured=True)


def _header_of(blob: bytes) -> tuple[bytes, int]:
    start = 8 + int.from_bytes(blob[:8], "little")
    return blob[8:start].rstrip(), start


@pytest.mark.parametrize("part", [0, 0.0001, 0.01, 0.1, 0.5, 0.9, 0.9999])
def test_truncated_models(part: float) -> None:
    for blob in (complete(), LoadedModel(complete()).without_encoder()):
        refused(decode, blob[: int(part * len(blob))])


@cache
def stored() -> bytes:
    return LoadedModel(complete()).without_encoder()


quiet = settings(max_examples=40)


def _flipped(data: st.DataObject, blob: bytes, end: int) -> bytes:
    out = bytearray(blob)
    for _ in range(data.draw(st.integers(1, 3))):
        out[data.draw(st.integers(0, end - 1))] ^= data.draw(st.integers(1, 255))
    return bytes(out)


@quiet
@given(st.data())
def test_flipped_headers(data: st.DataObject) -> None:
    blob = data.draw(st.sampled_from([complete(), stored()]))
    damaged = _flipped(data, blob, _header_of(blob)[1])
    with contextlib.suppress(BatchcodecError):
        decode(damaged)
    with contextlib.suppress(BatchcodecError):
        encode(damaged)


@quiet
@given(st.data())
def test_flipped_contents(data: st.DataObject) -> None:
    blob = data.draw(st.sampled_from([complete(), stored()]))
    damaged = _flipped(data, blob, len(blob))
    with contextlib.suppress(BatchcodecError):
        decode(damaged)
    with contextlib.suppress(BatchcodecError):
        encode(damaged)


# ---- payloads


def decoder() -> HyperpriorCodec:
    return _decoder()


@cache
def _decoder() -> HyperpriorCodec:
    return HyperpriorCodec.restore({}, stored())


@quiet
@given(st.data())
def test_damaged_payloads(data: st.DataObject) -> None:
    if data.draw(st.booleans()):
        damaged = _flipped(data, payload(), data.draw(st.sampled_from([4, len(payload())])))
    else:
        damaged = payload()[: data.draw(st.integers(0, len(payload()) - 1))]
    with contextlib.suppress(PayloadError):
        assert decoder().decode(damaged, SPEC).shape == IMAGES.shape


@quiet
@given(st.binary(max_size=80))
def test_payloads_of_noise(noise: bytes) -> None:
    with contextlib.suppress(PayloadError):
        assert decoder().decode(noise, SPEC).shape == IMAGES.shape


def _body() -> tuple[bytes, bytes]:
    """Escapes and words of the payload."""
    n_escapes, at = leb128.unpack(payload())
    return payload()[at + 2 : at + 2 + n_escapes], payload()[at + 2 + n_escapes :]


def payload_of(*, n_escapes: int | None = None, quality: int = 70, spread: int = 0, more: bytes = b"") -> bytes:
    escapes, words = _body()
    return leb128.pack(len(escapes) if n_escapes is None else n_escapes) + bytes([quality, spread]) + escapes + words + more


def streams_of(each: int, *, sizes: bytes = b"\0\x08\0\x08", quality: int = 70) -> bytes:
    """Two streams that say all they can, of two images."""
    return leb128.pack(each) + bytes([0, quality, 0]) + sizes + b"\0\0\1\0" * 4


@pytest.mark.parametrize(
    "bomb",
    [
        pytest.param(lambda: payload_of(quality=0), id="quality 0"),
        pytest.param(lambda: payload_of(quality=101), id="quality 101"),
        pytest.param(lambda: payload_of(quality=255), id="quality 255"),
        pytest.param(lambda: payload_of(spread=81), id="spread 81"),
        pytest.param(lambda: payload_of(spread=200), id="spread 200"),
        pytest.param(lambda: payload_of(spread=255), id="spread 255"),
        pytest.param(lambda: payload_of(n_escapes=len(payload())), id="all of it escapes"),
        pytest.param(lambda: payload_of(n_escapes=(1 << 31) - 1), id="2^31 escapes"),
        pytest.param(lambda: payload_of(n_escapes=(1 << 35) - 1), id="2^35 escapes"),
        pytest.param(lambda: payload_of(n_escapes=1 << 60), id="2^60 escapes"),
        pytest.param(lambda: payload_of(more=b"\0"), id="a byte more"),
        pytest.param(lambda: payload_of(more=b"\0\0"), id="a word more"),
        pytest.param(lambda: b"", id="nothing"),
        pytest.param(lambda: b"\x80" * 5, id="a length without end"),
        pytest.param(lambda: b"\xff" * 1000, id="ones"),
        pytest.param(lambda: bytes(1000), id="zeros"),
        pytest.param(lambda: b"\0\x46", id="a quality alone"),
        pytest.param(lambda: b"\0\x46\0" + b"\0\0\1\0" * 2, id="states alone"),
        pytest.param(lambda: streams_of(0), id="streams of no images"),
        pytest.param(lambda: streams_of(2), id="a stream for all that says it is one of several"),
        pytest.param(lambda: streams_of((1 << 35) - 1), id="streams of 2^35 images"),
        pytest.param(lambda: streams_of(1, sizes=b""), id="streams without sizes"),
        pytest.param(lambda: streams_of(1, sizes=leb128.pack((1 << 35) - 1) * 4), id="streams of 2^35 bytes"),
        pytest.param(lambda: streams_of(1, sizes=b"\0\x08\0\x06"), id="a stream of too few words"),
        pytest.param(lambda: streams_of(1, sizes=b"\0\x08\0\x0a"), id="streams of other bytes"),
        pytest.param(lambda: streams_of(1, quality=0), id="streams of streams"),
        pytest.param(lambda: streams_of(1), id="streams of states alone"),
    ],
)
def test_payload_bombs(bomb: Callable[[], bytes]) -> None:
    refused(lambda blob: decoder().decode(blob, SPEC) and None, bomb(), PayloadError, measured=True)


def test_a_payload_of_the_same_parts_is_the_payload() -> None:
    assert payload_of() == payload()


def test_a_small_payload_for_a_large_group() -> None:
    for shape in ((1000, 64, 64, 3), (1, 1024, 1024, 3), (1, 1, 1 << 20, 3)):
        with pytest.raises(PayloadError):
            decoder().decode(payload(), GroupSpec(shape[0], ImageSpec(*shape[1:])))


def coded(chosen: Callable[[np.ndarray], np.ndarray], spread: int = 0, qualities: np.ndarray | None = None) -> bytes:
    """A payload whose integers were chosen by a stranger: of each take of the decoder, from its tables."""
    from batchcodec.learned.hyperprior import payloads

    model, numbers, index = decoder()._model, [], []

    class Chooser:
        def __init__(self, *_: object) -> None:
            pass

        def take(self, tables: np.ndarray, each: int) -> np.ndarray:
            taken = qualities if spread and not numbers else chosen(tables)
            numbers.append(np.asarray(taken, np.int64))
            index.append(tables)
            return numbers[-1].clip(-(1 << 31), (1 << 31) - 1).astype(np.int32)

        def finish(self) -> None:
            pass

    with pytest.MonkeyPatch.context() as patched, inference(), contextlib.suppress(PayloadError):
        patched.setattr(payloads.values, "Decoder", Chooser)
        payloads.read_latents(model, bytes([0, 70, spread]) + bytes(8), len(IMAGES), 3, 2)
    words, escapes = values.encode(np.concatenate(numbers), np.concatenate(index), model.bank)
    return leb128.pack(len(escapes)) + bytes([70, spread]) + escapes + words


def _latents_only(value: int) -> Callable[[np.ndarray], np.ndarray]:
    hyper = LoadedModel(stored()).arch.hyper
    return lambda tables: np.where(tables < hyper, 0, value)


@pytest.mark.parametrize("value", [0, 1, -300, 8192, 8193, 100_000, (1 << 31) - 1, -(1 << 31) + 1])
def test_latents_of_any_size_give_pixels(value: int) -> None:
    """What lies beyond the range of a latent is clamped, as the text says."""
    blob = coded(_latents_only(value))
    found = decoder().decode(blob, SPEC)
    assert found.shape == IMAGES.shape
    if abs(value) > 8192:
        assert np.array_equal(found, decoder().decode(coded(_latents_only(8192 * int(np.sign(value)))), SPEC))


@pytest.mark.parametrize("value", [64, -64, 1 << 20, (1 << 31) - 1, -(1 << 31) + 1])
def test_hyper_latents_out_of_range(value: int) -> None:
    refused(lambda blob: decoder().decode(blob, SPEC) and None, coded(lambda tables: np.full(len(tables), value)), PayloadError)


@pytest.mark.parametrize("differences", [[31, 0], [0, -70], [1 << 20, 0], [0, (1 << 31) - 1], [-(1 << 31) + 1, 0]])
def test_qualities_out_of_range(differences: list[int]) -> None:
    blob = coded(_latents_only(0), spread=24, qualities=np.array(differences))
    refused(lambda blob: decoder().decode(blob, SPEC) and None, blob, PayloadError)


@pytest.mark.parametrize("spread", [1, 24, gaussian.N_SCALES - 1])
def test_qualities_at_their_ends(spread: int) -> None:
    blob = coded(_latents_only(0), spread=spread, qualities=np.array([30, -69]))
    assert decoder().decode(blob, SPEC).shape == IMAGES.shape


@pytest.mark.parametrize(
    "escape", [[0xFE, 0xFF, 0xFF, 0xFF, 0x0F], [0xFD, 0xFF, 0xFF, 0xFF, 0x0F], [0xFF] * 4 + [0x7F], [0xFF] * 6]
)
def test_an_escape_that_is_no_int32(escape: list[int]) -> None:
    """z = 2^32 - 1 would be 2^31."""
    half = 1 << 15
    state = ((1 << 16) // half << 16) + (1 << 16) % half + half
    stream = values.Decoder([(state.to_bytes(4, "little") * 2, bytes([0, *escape]))], values.Bank([np.array([half, half])]))
    if escape[0] == 0xFD:
        assert stream.take(np.zeros(2, np.int64)).tolist() == [1, -(1 << 31) + 1]
    else:
        with pytest.raises(PayloadError):
            stream.take(np.zeros(2, np.int64))
