"""Codec `autoencoder-1`: the source paper's convolutional autoencoder with uint8 latents and a choice of entropy coder.

Images are continued at their right and bottom edges to multiples of the stride
(2 for each stage: 8 in the paper), go through the analysis transform to latents
[N, C, H/8, W/8], are quantised to uint8 with one range for each channel, and are coded with one static integer table for each
channel. The range and the tables were fixed at training and travel with the decoder's weights (float16) in the archive.

Payload: the quantised latents in the order [C, N, H/8, W/8], coded by `config["entropy"]` (see `batchcodec.entropy.codes`).

The synthesis transform runs in float32, so a sample may differ by 1 between machines: `exact` is false.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from batchcodec.codec import Codec
from batchcodec.entropy.codes import ENTROPY_CODERS, most_symbols, pack_symbols, unpack_symbols
from batchcodec.entropy.tables import check_freqs
from batchcodec.errors import ModelError, OptionError, PayloadError, UnsupportedImageError
from batchcodec.learned import model_file
from batchcodec.learned.architecture import Shape
from batchcodec.learned.inference import batches, inference
from batchcodec.learned.quantiser import LEVELS, Quantiser
from batchcodec.types import CHANNEL_NAMES, JSON, GroupSpec, ImageSpec, Pixels

if TYPE_CHECKING:
    from batchcodec.learned.networks import Autoencoder


class AutoencoderCodec(Codec):
    """Codes gray or RGB images with a model that `batchcodec train` made.

    Args:
        model: the bytes of a model file; without the encoder's weights it can only decode.
        entropy: none, zstd, huffman or rans.
    """

    codec_id = "autoencoder-1"
    summary = "convolutional autoencoder, uint8 latents (Knyazev & Sklyarenko 2025); needs --model"
    options_help = {"entropy": "none, zstd, huffman or rans (default rans)"}  # noqa: RUF012
    needs_model = True

    def __init__(self, *, model: bytes, entropy: str = "rans") -> None:
        if entropy not in ENTROPY_CODERS:
            raise OptionError("entropy", entropy, " or ".join(ENTROPY_CODERS))
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
        tables = self._tensor("tables", np.uint16, (self._latent, LEVELS))
        self._freqs = check_freqs(tables.astype(np.uint32))

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
            made_for = CHANNEL_NAMES[self._n_channels]
            raise UnsupportedImageError(
                f"this model was trained on {made_for} images and cannot hold {spec}; "
                f"use --mode {'gray' if self._n_channels == 1 else 'rgb'} or train another model",
                codec=self.codec_id,
                spec=str(spec),
            )

    def get_config(self) -> dict[str, JSON]:
        """The entropy coder; all else is in the model."""
        return {"entropy": self._entropy}

    def get_model(self) -> bytes:
        """What decoding needs: the decoder's weights, ranges and tables."""
        tensors = {name: tensor for name, tensor in self._tensors.items() if not name.startswith("encoder.")}
        config = {"channels": self._n_channels, "latent": self._latent, **self._shape.to_json()}
        return model_file.dump(tensors, {"codec": self.codec_id, "config": config})

    @classmethod
    def restore(cls, config: dict[str, JSON], model: bytes) -> Self:
        """The decoder from what an archive stores."""
        entropy = config.get("entropy")
        if entropy not in ENTROPY_CODERS:
            raise ModelError(f"unknown entropy coder {entropy!r} in the codec's config")
        return cls(model=model, entropy=str(entropy))

    def encode(self, images: Pixels) -> bytes:
        """uint8 [N, H, W, C] to a payload."""
        self.check(ImageSpec.of(images[0]))
        latents = self._quantiser.quantise(self._analysed(images)).transpose(1, 0, 2, 3)  # [C, N, h, w]
        symbols = np.ascontiguousarray(latents).reshape(-1)
        return pack_symbols(self._entropy, symbols, self._index(symbols.size), self._freqs)

    def decode(self, payload: bytes, spec: GroupSpec, items: Sequence[int] | None = None) -> Pixels:
        """A payload to uint8 [N, H, W, C]; the network runs for the asked items only."""
        self.check(spec.image)
        stride = self._shape.stride
        height, width = -(-spec.image.height // stride), -(-spec.image.width // stride)
        shape = (self._latent, spec.n_items, height, width)
        n_symbols = math.prod(shape)
        if n_symbols > most_symbols(self._entropy, len(payload), self._freqs):
            raise PayloadError(f"autoencoder-1: {len(payload)} bytes cannot hold the {n_symbols} latents of {spec.shape}")
        symbols = unpack_symbols(self._entropy, payload, self._index(n_symbols), self._freqs)
        latents = symbols.reshape(shape).transpose(1, 0, 2, 3)  # [N, C, h, w]
        if items is not None:
            latents = latents[list(items)]
        decoded: Pixels = self._synthesised(latents)[:, : spec.image.height, : spec.image.width]
        return np.ascontiguousarray(decoded)

    def _index(self, n_symbols: int) -> npt.NDArray[np.uint16]:
        """The table of each symbol: its channel."""
        return np.repeat(np.arange(self._latent, dtype=np.uint16), n_symbols // self._latent)

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

    def _synthesised(self, latents: npt.NDArray[np.uint8]) -> Pixels:
        """uint8 [N, h * stride, w * stride, C] of quantised latents [N, C, h, w]."""
        import torch

        stride = self._shape.stride
        height, width = latents.shape[2] * stride, latents.shape[3] * stride
        out = np.empty((len(latents), height, width, self._n_channels), np.uint8)
        with inference():
            for part in batches(len(latents), height * width):
                y = torch.from_numpy(self._quantiser.dequantise(latents[part]))
                x = self._network.decoder(y.contiguous(memory_format=torch.channels_last))
                out[part] = (x * 255).round_().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        return out


def _integer(config: dict[str, Any], name: str, allowed: Sequence[int]) -> int:
    value = config.get(name)
    if type(value) is not int or value not in allowed:
        raise ModelError(f"the model's {name!r} is {value!r}, expected one of {allowed}")
    return value
