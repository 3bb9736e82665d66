"""Codec `autoencoder-1`: the source paper's convolutional autoencoder with uint8 latents and a choice of entropy coder.

Images are continued at their right and bottom edges to multiples of the stride
(2 for each stage: 8 in the paper), go through the analysis transform to latents
[N, C, H/8, W/8], are quantised to uint8 with one range for each channel, and are coded with one static integer table for each
channel. The range and the tables were fixed at training and travel with the decoder's weights (float16) in the archive.

With `bits` and `bits_map` each channel has a precision of its own, 0 to 8 bits: its levels fall into cells (see `cells`), and
the config says so.

Payload: the quantised latents (or their cells) in the order [C, N, H/8, W/8], without channels of 0 bits; with entropy `none`
as `batchcodec.entropy.fields` of the channels' bits, else coded by `batchcodec.entropy.codes`.

The synthesis transform runs in float32, so a sample may differ by 1 between machines: `exact` is false.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
import numpy.typing as npt

from batchcodec.codec import Codec
from batchcodec.entropy import fields
from batchcodec.entropy.codes import ENTROPY_CODERS, most_symbols, pack_symbols, unpack_symbols
from batchcodec.entropy.tables import check_freqs
from batchcodec.errors import ModelError, OptionError, PayloadError
from batchcodec.learned import model_file, precision
from batchcodec.learned.architecture import Shape
from batchcodec.learned.cells import MAX_BITS, Cells, rule_of
from batchcodec.learned.checked import other_channels
from batchcodec.learned.inference import batches, inference
from batchcodec.learned.quantiser import LARGEST, LEVELS, Quantiser
from batchcodec.types import JSON, GroupSpec, ImageSpec, Pixels

if TYPE_CHECKING:
    from batchcodec.learned.networks import Autoencoder


class AutoencoderCodec(Codec):
    """Codes gray or RGB images with a model that `batchcodec train` made.

    Args:
        model: the bytes of a model file; without the encoder's weights it can only decode.
        entropy: none, zstd, huffman or rans.
        bits: of each latent, 1 to 8, or "auto:X": differing by channel, and no more of them than X in each would take.
        bits_map: of each channel, 0 to 8: a list, or a JSON file with one.
    """

    codec_id = "autoencoder-1"
    summary = "convolutional autoencoder, uint8 latents (Knyazev & Sklyarenko 2025); needs --model"
    options_help = {  # noqa: RUF012
        "entropy": "none, zstd, huffman or rans (default rans)",
        "bits": "of each latent, 1 to 8, or auto:X for X on average, more where they serve more: --bits (default 8)",
        "bits_map": "a JSON file with the bits of each latent channel, 0 to 8: --bits-map",
    }
    needs_model = True

    def __init__(
        self,
        *,
        model: bytes,
        entropy: str = "rans",
        bits: int | str = MAX_BITS,
        bits_map: str | Path | Sequence[int] | None = None,
    ) -> None:
        if entropy not in ENTROPY_CODERS:
            raise OptionError("entropy", entropy, " or ".join(ENTROPY_CODERS))
        average = precision.average_of(bits)
        if bits_map is not None and bits != MAX_BITS:
            raise OptionError("bits-map", str(bits_map), "no bits beside it: the map says all")
        self._entropy = entropy
        self._tensors, document = model_file.parse(model)
        if document.get("codec") != self.codec_id:
            raise ModelError(f"a model for codec {document.get('codec')!r}, not for {self.codec_id}")
        config = document.get("config")
        if not isinstance(config, dict):
            raise ModelError("a model without config")
        self._n_channels = _integer(config, "channels", (1, 3))
        self._latent = _integer(config, "latent", range(1, 513))
        self._shape = Shape.from_json(config)
        self._quantiser = Quantiser(*(self._tensor(f"quantiser.{n}", np.float32, (self._latent,)) for n in ("low", "step")))
        if not (self._quantiser.step > 0).all():
            raise ModelError("the model's steps are not positive")
        if bad := [name for name, tensor in self._tensors.items() if not np.isfinite(tensor).all()]:
            raise ModelError(f"the model's tensor {bad[0]!r} has values that are not finite")
        if self._quantiser.largest > LARGEST:
            raise ModelError(f"the model's latents reach {self._quantiser.largest:g}, more than {LARGEST}")
        tables = self._tensor("tables", np.uint16, (self._latent, LEVELS))
        self._freqs = check_freqs(tables.astype(np.uint32))
        if bits_map is not None:
            chosen = precision.from_map(bits_map, self._latent)
        elif average is not None:
            chosen = precision.allotted(self._errors(), precision.costs(self._freqs, entropy), average)
        else:
            chosen = np.full(self._latent, bits, np.uint8)
        self._cells = Cells.of(self._freqs, chosen, rule_of(entropy))
        self._coded = np.flatnonzero(chosen)  # channels
        self._coded_freqs = self._cells.freqs[self._coded]

    def _tensor(self, name: str, dtype: type, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        tensor = self._tensors.get(name)
        if tensor is None or tensor.dtype != dtype or tensor.shape != shape:
            found = "missing" if tensor is None else f"{tensor.dtype} {list(tensor.shape)}"
            raise ModelError(f"the model's tensor {name!r} is {found}, expected {np.dtype(dtype)} {list(shape)}")
        return tensor

    @property
    def exact(self) -> bool:
        """False: the synthesis transform runs in float32."""
        return False

    @property
    def partial(self) -> bool:
        """Never: in another batch, the float network may round otherwise."""
        return False

    def check(self, spec: ImageSpec) -> None:
        """Refuse images of other channels than the model was trained with, and 16-bit images."""
        super().check(spec)
        if spec.channels != self._n_channels:
            mode = "gray" if self._n_channels == 1 else "rgb"
            raise other_channels(self.codec_id, self._n_channels, spec, f"use --mode {mode} or train another model")

    def get_config(self) -> dict[str, JSON]:
        """The entropy coder, and with it the bits of the channels where they are not all 8; all else is in the model.

        What older versions cannot decode has another key, so that they refuse it.
        """
        if (self._cells.bits == MAX_BITS).all():
            return {"entropy": self._entropy}
        return {"precision": {"entropy": self._entropy, "bits": self._cells.bits.tolist()}}

    def get_model(self) -> bytes:
        """What decoding needs: the decoder's weights, ranges and tables."""
        tensors = {name: tensor for name, tensor in self._tensors.items() if not name.startswith("encoder.")}
        config = {"channels": self._n_channels, "latent": self._latent, **self._shape.to_json()}
        return model_file.dump(tensors, {"codec": self.codec_id, "config": config})

    @classmethod
    def restore(cls, config: dict[str, JSON], model: bytes) -> Self:
        """The decoder from what an archive stores."""
        given = config.get("precision", config)
        if set(config) not in ({"entropy"}, {"precision"}) or not isinstance(given, dict):
            raise ModelError(f"the codec's config has {sorted(config)}, expected 'entropy', or 'precision' with it")
        entropy, bits = given.get("entropy"), given.get("bits")
        if entropy not in ENTROPY_CODERS:
            raise ModelError(f"unknown entropy coder {entropy!r} in the codec's config")
        if given is config:
            return cls(model=model, entropy=str(entropy))
        if set(given) != {"entropy", "bits"} or not isinstance(bits, list):
            raise ModelError(f"the precision in the codec's config has {sorted(given)}, expected 'entropy' and 'bits'")
        try:
            return cls(model=model, entropy=str(entropy), bits_map=cast("list[int]", bits))
        except OptionError as exc:
            raise ModelError(f"the codec's config: {exc}") from exc

    def encode(self, images: Pixels) -> bytes:
        """uint8 [N, H, W, C] to a payload."""
        self.check(ImageSpec.of(images[0]))
        latents = self._cells.numbers_of(self._quantiser.quantise(self._analysed(images))).transpose(1, 0, 2, 3)  # [C, N, h, w]
        rows = latents[self._coded].reshape(len(self._coded), latents[0].size)
        if self._entropy == "none" or not len(rows):
            return fields.pack(rows, self._cells.bits[self._coded])
        return pack_symbols(self._entropy, rows.reshape(-1), self._index(rows.shape[1]), self._coded_freqs)

    def decode(self, payload: bytes, spec: GroupSpec, items: Sequence[int] | None = None) -> Pixels:
        """A payload to uint8 [N, H, W, C]; the network runs for the asked items only."""
        self.check(spec.image)
        stride = self._shape.stride
        height, width = -(-spec.image.height // stride), -(-spec.image.width // stride)
        rows = self._read(payload, spec.n_items * height * width, spec)
        latents = np.zeros((self._latent, spec.n_items, height, width), np.uint8)
        latents[self._coded] = rows.reshape(-1, *latents.shape[1:])
        latents = latents.transpose(1, 0, 2, 3)  # [N, C, h, w]
        if items is not None:
            latents = latents[list(items)]
        decoded: Pixels = self._synthesised(self._cells.values_of(latents))[:, : spec.image.height, : spec.image.width]
        return np.ascontiguousarray(decoded)

    def _read(self, payload: bytes, n_each: int, spec: GroupSpec) -> npt.NDArray[np.uint8]:
        """The numbers of all coded channels, uint8 [C, n_each]; nothing is allocated that the payload cannot hold."""
        if self._entropy == "none" or not len(self._coded):
            return fields.unpack(payload, self._cells.bits[self._coded], n_each)
        n_symbols = len(self._coded) * n_each
        if n_symbols > most_symbols(self._entropy, len(payload), self._coded_freqs):
            raise PayloadError(f"autoencoder-1: {len(payload)} bytes cannot hold the {n_symbols} latents of {spec.shape}")
        return unpack_symbols(self._entropy, payload, self._index(n_each), self._coded_freqs).reshape(-1, n_each)

    def _index(self, n_each: int) -> npt.NDArray[np.uint16]:
        """The table of each symbol: its place among the coded channels."""
        return np.repeat(np.arange(len(self._coded), dtype=np.uint16), n_each)

    def _errors(self) -> npt.NDArray[np.float64]:
        """What 0 to 8 bits in each channel add to the error of an image, [C, 9], on latents that the tables give."""
        import torch

        def synthesis(y: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
            x = self._network.decoder(torch.from_numpy(y).contiguous(memory_format=torch.channels_last))
            gray_levels: npt.NDArray[np.float32] = (x * 255).numpy()
            return gray_levels

        levels = precision.drawn(self._freqs)
        with inference():
            return precision.errors(synthesis, self._quantiser, self._freqs, levels, rule_of(self._entropy))

    @cached_property
    def _network(self) -> Autoencoder:
        """The folded network with the model's weights; random ones in the encoder where the model has none."""
        import torch

        from batchcodec.learned.networks import Autoencoder

        with torch.device("meta"):  # shapes only: nothing is allocated before the file is known to hold them
            expected = Autoencoder(self._n_channels, self._latent, self._shape, norm=False)
        state = {}
        for name, parameter in expected.state_dict().items():
            if name in self._tensors or name.startswith("decoder."):
                state[name] = torch.from_numpy(self._tensor(name, np.float16, tuple(parameter.shape)).astype(np.float32))
        expected.load_state_dict(state, strict=False, assign=True)
        return expected.eval()

    def _analysed(self, images: Pixels) -> npt.NDArray[np.float32]:
        """Latents float32 [N, C, h, w] of uint8 [N, H, W, C]."""
        import torch

        if "encoder.0.0.weight" not in self._tensors:
            raise ModelError("this model came from an archive: it has no encoder and can only decode")
        height, width = images.shape[1:3]
        stride = self._shape.stride
        pad = ((0, 0), (0, -height % stride), (0, -width % stride), (0, 0))
        parts = []
        with inference():
            for part in batches(len(images), height * width):
                x = torch.from_numpy(np.pad(images[part], pad, mode="edge")).permute(0, 3, 1, 2).float() / 255
                y = self._network.encoder(x.contiguous(memory_format=torch.channels_last))
                parts.append(y.contiguous().numpy())
        return np.concatenate(parts)

    def _synthesised(self, latents: npt.NDArray[np.float32]) -> Pixels:
        """uint8 [N, h * stride, w * stride, C] of latents [N, C, h, w] in levels."""
        import torch

        stride = self._shape.stride
        height, width = latents.shape[2] * stride, latents.shape[3] * stride
        out = np.empty((len(latents), height, width, self._n_channels), np.uint8)
        with inference():
            for part in batches(len(latents), height * width):
                y = torch.from_numpy(self._quantiser.dequantise(latents[part]))
                x = self._network.decoder(y.contiguous(memory_format=torch.channels_last))
                out[part] = torch.nan_to_num_(x * 255).round_().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        return out


def _integer(config: dict[str, Any], name: str, allowed: Sequence[int]) -> int:
    value = config.get(name)
    if type(value) is not int or value not in allowed:
        raise ModelError(f"the model's {name!r} is {value!r}, expected one of {allowed}")
    return value
