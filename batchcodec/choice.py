"""Which codec codes an image: the one that was asked for, or with "auto" one that suits its kind and the dataset's size."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from batchcodec.codec import Codec
from batchcodec.errors import OptionError, UnsupportedImageError
from batchcodec.registry import Registry
from batchcodec.types import CHANNEL_NAMES, ImageSpec, Item

DEFAULT_CODEC = "hyperprior-1:quality=55"
"""For 8-bit gray and RGB images when none is chosen: exact on every machine. Its weights must not outweigh what it saves."""
FALLBACK_CODEC = "avif:quality=60,mosaic=true"
"""For 8-bit images with alpha, and for datasets of few pixels: visually good, and the best of the classical ones."""
FITTED_CODEC = "hyperprior-1"
"""What `pack --fit` fits."""
DEFAULT_CODEC_16 = "jxl:lossless=true"
"""For 16-bit images when none is chosen and imagecodecs is installed."""
FALLBACK_CODEC_16 = "zstd"

FEW_PIXELS = 8_000_000
"""Below this number of pixels in a dataset, the weights that an archive holds are likely to weigh more than they save."""
N_SAMPLED = 8
MANY_SPECS = 4096


class CodecChoice:
    """The codec for each image spec: the one asked for, or with "auto" one for each kind of image.

    Args:
        text: `name:key=value,...`, or "auto".
        model: a model file, or the name of a model that `batchcodec.learned.shipped` finds.
        entropy: entropy coder of a codec that has a choice.
        plugins: where codecs are found.
        bits: precision of a codec that has a choice.
        bits_map: the same by channel, in a file.
        model_ref: whether archives name their model in place of holding it.
        n_pixels: of the dataset, where it is known; of few of them "auto" does not put weights into the archive.
        fitted: models that were fitted to the dataset, by the channels of the images that they are for.
        device: where codecs are to run that have a choice; see `Codec.use_device`.
    """

    def __init__(
        self,
        text: str,
        model: Path | None,
        entropy: str | None,
        plugins: Registry,
        *,
        bits: float | str | None = None,
        bits_map: Path | None = None,
        model_ref: bool = False,
        n_pixels: int | None = None,
        fitted: dict[int, bytes] | None = None,
        device: str = "auto",
    ) -> None:
        self._plugins = plugins
        self._fitted = fitted or {}
        self._device = device
        self._text = text
        self._model: bytes | None = None
        self._options = {
            "entropy": entropy,
            "bits": bits,
            "bits_map": None if bits_map is None else str(bits_map),
            "model_ref": model_ref or None,
        }
        self.n_pixels = n_pixels
        self._few_pixels = n_pixels is not None and n_pixels < FEW_PIXELS and not model_ref
        self._made: dict[tuple[str, bytes | None], Codec] = {}
        # Asked for with each image, and the answer may take reading a model. Bounded: each image may have a size of its own.
        self._chosen = functools.lru_cache(MANY_SPECS)(self._choose)
        self.fell_back = False
        """Whether an image got another codec because the dataset has few pixels."""
        if text == "auto":
            if model is not None:
                raise OptionError("model", str(model), "a --codec that uses a model, such as hyperprior-1")
            for name in ("entropy", "bits", "bits_map"):
                if self._options[name] is not None:
                    allowed = "a --codec that has this choice, such as autoencoder-1"
                    raise OptionError(name.replace("_", "-"), self._options[name], allowed)
            return
        codec = plugins.codec_class(text.partition(":")[0])
        for name, value in self._options.items():
            if value is not None and name not in codec.options_help:
                raise OptionError(name.replace("_", "-"), value, f"none: codec {codec.codec_id} has no such choice")
        if model is not None:
            if not codec.needs_model:
                raise OptionError("model", str(model), f"none: codec {codec.codec_id} uses no model")
            self._model = _read_model(model)
        if self._model is not None or not codec.needs_model:
            self._make(text, self._model)  # bad options are found before the dataset is read

    def _make(self, text: str, model: bytes | None) -> Codec:
        """One codec for each text and model, so an archive stores each model once."""
        key = (text, model)
        if key not in self._made:
            has = self._plugins.codec_class(text.partition(":")[0]).options_help
            given = {"model": model, **self._options}
            more = {name: value for name, value in given.items() if value is not None and (name == "model" or name in has)}
            codec = self._plugins.make_codec(text, **more)
            codec.use_device(self._device)
            self._made[key] = codec
        return self._made[key]

    def texts(self) -> dict[int, str]:
        """Text of each codec in use, by its identity."""
        return {id(codec): text for (text, _), codec in self._made.items()}

    def for_spec(self, spec: ImageSpec) -> Codec:
        """A codec that holds images of this spec.

        Raises:
            UnsupportedImageError: the codec that was asked for does not; the message names others.
            OptionError: it needs a model, none was given, and it has none for such images.
        """
        codec = self._chosen(spec)
        try:
            codec.check(spec)
        except UnsupportedImageError as exc:
            others = ", ".join(i for i in self._plugins.holding(spec) if i != codec.codec_id) or "none"
            raise UnsupportedImageError(f"{exc}; codecs for such images: {others}", **exc.fields) from exc
        return codec

    def _choose(self, spec: ImageSpec) -> Codec:
        text = self._automatic(spec) if self._text == "auto" else self._text
        kind = self._plugins.codec_class(text.partition(":")[0])
        model = self._fitted.get(spec.channels, self._model) if text.startswith(FITTED_CODEC) else self._model
        if kind.needs_model and model is None:
            model = kind.default_model(spec)
            if model is None:
                made_for = f"{CHANNEL_NAMES.get(spec.channels, spec.channels)} images"
                raise OptionError(
                    "model", None, f"a model file for {kind.codec_id} and {made_for}; `batchcodec train` makes one"
                )
        return self._make(text, model)

    def _automatic(self, spec: ImageSpec) -> str:
        if spec.dtype != "uint8":
            return DEFAULT_CODEC_16 if find_spec("imagecodecs") else FALLBACK_CODEC_16
        if spec.channels not in (1, 3):
            return FALLBACK_CODEC
        self.fell_back |= self._few_pixels
        return FALLBACK_CODEC if self._few_pixels else DEFAULT_CODEC


def estimated_pixels(dataset: Sequence[Item], preprocess: Callable[[Item], Item]) -> int | None:
    """About the pixels of a dataset, going by its first images; None if none of them can be read.

    It reads no more than it takes to know that they are not few. It takes the first items, although others say more of a
    dataset that is sorted by size: compressed streams can only be read forwards, so an item in the middle costs half a pass.
    """
    if len(dataset) >= FEW_PIXELS:
        return len(dataset)
    sizes: list[int] = []
    for index in range(min(N_SAMPLED, len(dataset))):
        # Whatever is wrong with an item is told when it is packed.
        with contextlib.suppress(Exception):
            height, width = preprocess(dataset[index]).pixels.shape[:2]
            sizes.append(height * width)
            if sum(sizes) >= FEW_PIXELS:
                break
    return len(dataset) * sum(sizes) // len(sizes) if sizes else None


def _read_model(name: Path) -> bytes:
    from batchcodec.learned import shipped

    return shipped.read(name)
