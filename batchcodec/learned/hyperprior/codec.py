"""Codec `hyperprior-1`: a learned transform codec that decodes to the same pixels on every machine.

See `network` for what it is, `docs/hyperprior-1.md` for every constant and rounding.

Images are continued at their right and bottom edges to multiples of the stride. A model for one channel codes images of more
channels as that many planes; otherwise the channels must be those of the model.

See `payloads` for their bytes, and `coding` for the order of the integers that these code.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from batchcodec.codec import Codec
from batchcodec.errors import ModelError, OptionError
from batchcodec.learned import crew, model_file, shipped
from batchcodec.learned.checked import other_channels
from batchcodec.learned.hyperprior.architecture import Architecture
from batchcodec.learned.inference import batches
from batchcodec.learned.inference import inference as one_thread
from batchcodec.types import JSON, GroupSpec, ImageSpec, Pixels

if TYPE_CHECKING:
    from batchcodec.learned.hyperprior.coding import Conditions
    from batchcodec.learned.hyperprior.engine import Latents
    from batchcodec.learned.hyperprior.model import LoadedModel

SYNTHESIS_PIXELS = 1 << 19
"""Pixels that the decoder makes at once. Activations are bytes; with fewer, threads wait for each other."""
STRIP_PIXELS = 1 << 20
"""Pixels of a large image that are synthesised at once."""
SHARE_LINES = 16
"""Lines of latents of an image that are worth the help of another core."""
DEFAULT_QUALITY = 55
DEFAULT_EFFORT = 2
TUNES = ("psnr", "mse")
DEFAULT_MODELS = {1: "photo-gray", 2: "photo-gray", 3: "photo-rgb", 4: "photo-gray"}
"""By channels. A model for one channel codes images of 2 and 4 channels as planes."""
MAX_NAME = 200
MAX_GRAIN = 100
"""Percent: as much noise as was measured to be missing."""


class HyperpriorCodec(Codec):
    """Codes 8-bit images with a model that was shipped, trained or fitted.

    Args:
        model: the bytes of a model file; without the encoder's weights it can only decode.
        quality: 1 to 100.
        effort: 1 (fast) to 9 (small); decoding does not depend on it.
        tune: "psnr" lets the quality of an image differ from `quality` where that raises the mean PSNR at the same size;
            "mse" gives all images the same, which is best for the mean squared error of all of them together.
        model_ref: the archive names its model by SHA-256 and does not hold it; reading finds it with `shipped`.
        bits: in place of a quality: so many bits of each latent on average, or "auto:X": of X, with the quantiser step of each
            channel chosen anew; see `precision`.
        bits_map: in place of a quality: bits of each latent channel, a list, or a JSON file with one.
        grain: percent of the noise that stands, when it decodes, for texture that was too faint to be coded, 0 to 100: rougher
            pictures of a lower PSNR, from which a network learns what textures are like; see `grain`.
    """

    codec_id = "hyperprior-1"
    summary = "learned, integer-exact: the same pixels on every machine; shipped models photo-rgb and photo-gray, or --model"
    options_help = {  # noqa: RUF012
        "quality": "1 to 100 (default 55)",
        "effort": "1 (fast) to 9 (small) (default 2)",
        "tune": "psnr (mean of the images' PSNR) or mse (of all images together) (default psnr)",
        "grain": "0 to 100: percent of noise that stands for texture too faint to be coded, to train from (default 0)",
        "bits": "in place of quality: of a latent on average, or auto:X with steps chosen for X: --bits",
        "bits_map": "in place of quality: a JSON file with the bits of each latent channel: --bits-map",
        "model_ref": "true names the model in the archive and leaves it out: --model-ref (default false)",
    }
    channels = (1, 2, 3, 4)
    needs_model = True

    def __init__(
        self,
        *,
        model: bytes,
        quality: int = DEFAULT_QUALITY,
        effort: int = DEFAULT_EFFORT,
        tune: str = "psnr",
        model_ref: bool = False,
        bits: float | str | None = None,
        bits_map: str | Path | Sequence[float] | None = None,
        grain: int = 0,
    ) -> None:
        if type(quality) is not int or not 1 <= quality <= 100:
            raise OptionError("quality", quality, "a whole number from 1 to 100")
        if type(effort) is not int or not 1 <= effort <= 9:
            raise OptionError("effort", effort, "a whole number from 1 to 9")
        if tune not in TUNES:
            raise OptionError("tune", tune, " or ".join(TUNES))
        if type(model_ref) is not bool:
            raise OptionError("model_ref", model_ref, "true or false")
        if type(grain) is not int or not 0 <= grain <= MAX_GRAIN:
            raise OptionError("grain", grain, f"a whole number from 0 to {MAX_GRAIN}")
        self._n_channels, self._name = _channels_and_name(model)
        if bits is not None or bits_map is not None:
            model, quality = _with_bits(model, quality, bits, bits_map, model_ref)
        self._quality, self._effort, self._tune, self._by_reference = quality, effort, tune, model_ref
        self._grain = grain
        self._blob = model
        self._device = "cpu"

    @cached_property
    def _model(self) -> LoadedModel:
        from batchcodec.learned.hyperprior.model import LoadedModel

        return LoadedModel(self._blob, self._device)

    def use_device(self, name: str) -> None:
        """Run the networks there; entropy coding stays on the processor. "auto" is cuda where torch has it.

        Raises:
            OptionError: this machine has no such device, or torch cannot use it.
        """
        device = "cpu"
        if name != "cpu":
            import torch

            if torch.cuda.is_available():
                device = "cuda"
            elif name != "auto":
                raise OptionError("device", name, "cpu or auto: torch finds no such device here")
        if device != self._device:
            self._device = device
            self.__dict__.pop("_model", None)

    def _decoding(self) -> contextlib.AbstractContextManager[None]:
        """What `decode` runs in: on the CPU all is integers, which need no care of how torch computes."""
        return one_thread() if self._device == "cpu" else inference()

    @classmethod
    def default_model(cls, spec: ImageSpec) -> bytes | None:
        """The shipped model for photographs of so many channels."""
        name = DEFAULT_MODELS.get(spec.channels)
        return shipped.read(name) if name and shipped.path_of(name) else None

    def check(self, spec: ImageSpec) -> None:
        """Refuse images of other channels than the model was trained with, unless it is a model for one channel."""
        super().check(spec)
        if self._n_channels not in (1, spec.channels):
            instead = "use another model, or one for gray images, which takes any"
            raise other_channels(self.codec_id, self._n_channels, spec, instead)

    def get_config(self) -> dict[str, JSON]:
        """The grain, if there is any, and with `model_ref` the SHA-256 and the name of the model.

        All else is in the model and in the payloads.
        """
        config: dict[str, JSON] = {"grain": self._grain} if self._grain else {}
        if self._by_reference:
            config["model"] = {"sha256": hashlib.sha256(self._stored).hexdigest(), "name": self._name}
        return config

    def get_model(self) -> bytes:
        """What decoding needs: integers of the decoder's networks, and tables. Nothing with `model_ref`."""
        return b"" if self._by_reference else self._stored

    @cached_property
    def _stored(self) -> bytes:
        """The model as an archive holds it."""
        return self._model.without_encoder()

    @classmethod
    def restore(cls, config: dict[str, JSON], model: bytes) -> Self:
        """The decoder from what an archive stores."""
        reference, grain = model_reference(config), _grain_of(config)
        if reference is None:
            codec = cls(model=model, grain=grain)
        elif model:
            raise ModelError("the codec's config names a model by its hash, and the archive holds one: expected one of both")
        else:
            sha256, name = reference
            codec = cls(model=shipped.find_stored(sha256, name), model_ref=True, grain=grain)
            codec._name = name
        _ = codec._model.engine, codec._model.bank  # a bad model is found when it is restored, not inside of a group
        return codec

    def encode(self, images: Pixels) -> bytes:
        """uint8 [N, H, W, C] to a payload."""
        from batchcodec.learned.hyperprior import effort

        self.check(ImageSpec.of(images[0]))
        planes = _to_planes(images, self._n_channels)
        with inference(), crew.working():
            return effort.encode(self._model, planes, self._quality, self._effort, self._tune)

    def decode(self, payload: bytes, spec: GroupSpec, items: Sequence[int] | None = None) -> Pixels:
        """A payload to uint8 [N, H, W, C]; the synthesis runs for the asked items only."""
        from batchcodec.learned.hyperprior import payloads

        self.check(spec.image)
        model = self._model
        per_image = spec.image.channels // self._n_channels
        n, stride = spec.n_items * per_image, model.arch.stride
        height, width = -(-spec.image.height // stride), -(-spec.image.width // stride)
        with self._decoding(), crew.working():
            rows = None if items is None else [i * per_image + c for i in items for c in range(per_image)]
            conditions, latents = payloads.read_latents(model, payload, n, height, width, rows, self._grain)
            planes = synthesised(model, latents, conditions)
        planes = planes[:, : spec.image.height, : spec.image.width]
        return _from_planes(planes, per_image)


def synthesised(model: LoadedModel, latents: Latents, conditions: Conditions) -> Pixels:
    """uint8 [N, h * stride, w * stride, C] of the latents int16 [N, h, w, M]."""
    stride, reach, plane = model.arch.stride, model.arch.reach, conditions.arrays[2]
    n, height, width = latents.shape[:3]
    out = np.empty((n, height * stride, width * stride, model.arch.channels), np.uint8)
    strip = max(SHARE_LINES, STRIP_PIXELS // (width * stride**2))

    def make(image: slice, first: int, last: int) -> None:
        """Lines of latents, strip by strip: what a strip needs of its neighbours is a few lines, and sums are exact."""
        for top in range(first, last, strip):
            bottom = min(last, top + strip)
            above, below = max(0, top - reach), min(height, bottom + reach)
            pixels = out[image, top * stride : bottom * stride]
            model.engine.pixels(latents[image, above:below], plane[image], pixels, top - above)

    def make_all(first: int, last: int) -> None:
        for part in parts[first:last]:
            if part.stop - part.start > 1 or height <= strip:
                model.engine.pixels(latents[part], plane[part], out[part])
            else:
                make(part, 0, height)

    parts = batches(n, height * width * stride**2, SYNTHESIS_PIXELS)
    if n == 1:
        crew.share(height, SHARE_LINES, partial(make, slice(0, 1)))
    else:
        crew.share(len(parts), 1, make_all)
    return out


def _to_planes(images: Pixels, n_channels: int) -> Pixels:
    """[N, H, W, C] to [N * C / n_channels, H, W, n_channels]."""
    n, height, width, channels = images.shape
    if channels == n_channels:
        return np.ascontiguousarray(images)
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)).reshape(n * channels, height, width, 1)


def _from_planes(planes: Pixels, per_image: int) -> Pixels:
    if per_image == 1:
        return np.ascontiguousarray(planes)
    n, height, width, _ = planes.shape
    return np.ascontiguousarray(planes.reshape(n // per_image, per_image, height, width).transpose(0, 2, 3, 1))


def model_reference(config: Mapping[str, JSON]) -> tuple[str, str] | None:
    """SHA-256 and name of the model that a stored config refers to; None where the archive holds the model.

    Raises:
        ModelError: it is no such reference, or the config has something else than it and the grain.
    """
    if not set(config) <= {"model", "grain"}:
        raise ModelError(f"the codec's config has {sorted(config)}, expected nothing, or 'model' or 'grain'")
    if "model" not in config:
        return None
    reference = config["model"]
    if not isinstance(reference, dict) or set(reference) != {"sha256", "name"}:
        raise ModelError("the codec's config has a 'model' that is not a 'sha256' and a 'name'")
    sha256, name = reference["sha256"], reference["name"]
    if not isinstance(sha256, str) or not re.fullmatch("[0-9a-f]{64}", sha256) or not isinstance(name, str):
        raise ModelError("the codec's config does not name its model by a SHA-256 and a name")
    return sha256, name[:MAX_NAME]


def _grain_of(config: Mapping[str, JSON]) -> int:
    """The percent of grain that a stored config asks for; 0 where it says nothing of it.

    Raises:
        ModelError: it is no such number.
    """
    if "grain" not in config:
        return 0
    grain = config["grain"]
    if type(grain) is not int or not 1 <= grain <= MAX_GRAIN:
        raise ModelError(f"the codec's config has grain {grain!r}, expected 1 to {MAX_GRAIN}")
    return grain


def _with_bits(
    model: bytes, quality: int, bits: float | str | None, bits_map: str | Path | Sequence[float] | None, model_ref: bool
) -> tuple[bytes, int]:
    """The model and the quality that the options of bits ask for."""
    from batchcodec.learned.hyperprior import precision

    name, value = ("bits", bits) if bits is not None else ("bits-map", str(bits_map)[:100])
    if bits is not None:
        precision.check_bits(bits)
    if bits is not None and bits_map is not None:
        raise OptionError("bits-map", str(bits_map)[:100], "no bits beside it: the map says all")
    if quality != DEFAULT_QUALITY:
        raise OptionError(name, value, "no quality beside it: bits choose one")
    if model_ref and not isinstance(bits, int | float):
        raise OptionError(name, value, "no model-ref beside it: the archive's model gets steps of its own")
    return precision.chosen(model, bits, bits_map)


def _channels_and_name(blob: bytes) -> tuple[int, str]:
    """What a model is for and what it calls itself, without loading torch."""
    document = model_file.parse(blob)[1]
    if document.get("codec") != HyperpriorCodec.codec_id:
        raise ModelError(f"a model for codec {document.get('codec')!r}, not for {HyperpriorCodec.codec_id}")
    if not isinstance(document.get("config"), dict):
        raise ModelError("a model without config")
    name = document.get("name")
    return Architecture.from_json(document["config"]).channels, name[:MAX_NAME] if isinstance(name, str) else ""


@contextlib.contextmanager
def inference() -> Iterator[None]:
    """Exact numerics, no gradients, one thread for each call."""
    import torch

    from batchcodec.learned.exact import numerics

    with numerics(), torch.no_grad():  # not inference_mode: refinement takes gradients of tensors made here
        yield
