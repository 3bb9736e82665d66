"""Which codec codes an image: the one that was asked for, or with "auto" one that suits its bit depth."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from batchcodec.codec import Codec
from batchcodec.errors import OptionError, UnsupportedImageError
from batchcodec.registry import Registry
from batchcodec.types import ImageSpec

DEFAULT_CODEC = "avif:quality=60,mosaic=true"
"""For 8-bit images when none is chosen: visually good, and the best of the classical ones in our measurements."""
DEFAULT_CODEC_16 = "jxl:lossless=true"
"""For 16-bit images when none is chosen and imagecodecs is installed."""
FALLBACK_CODEC_16 = "zstd"


class CodecChoice:
    """The codec for each image spec: the one asked for, or with "auto" one for 8-bit and one for 16-bit images."""

    def __init__(self, text: str, model: Path | None, entropy: str | None, plugins: Registry) -> None:
        self._plugins = plugins
        self._by_text: dict[str, Codec] = {}
        self._text = text
        self._more: dict[str, Any] = {}
        if text == "auto":
            if model is not None:
                raise OptionError("model", str(model), "a --codec that uses a model, such as autoencoder-1")
            if entropy is not None:
                raise OptionError("entropy", entropy, "a --codec that has this choice, such as autoencoder-1")
            return
        codec = plugins.codec_class(text.partition(":")[0])
        if entropy is not None:
            if "entropy" not in codec.options_help:
                raise OptionError("entropy", entropy, f"none: codec {codec.codec_id} has no such choice")
            self._more["entropy"] = entropy
        if model is not None:
            if not codec.needs_model:
                raise OptionError("model", str(model), f"none: codec {codec.codec_id} uses no model")
            self._more["model"] = _read_model(model)
        elif codec.needs_model:
            raise OptionError("model", None, f"a model file for {codec.codec_id}; `batchcodec train` makes one")
        self._make(self._text)

    def _make(self, text: str) -> Codec:
        if text not in self._by_text:
            self._by_text[text] = self._plugins.make_codec(text, **self._more)
        return self._by_text[text]

    def texts(self) -> dict[int, str]:
        """Text of each codec in use, by its identity."""
        return {id(codec): text for text, codec in self._by_text.items()}

    def for_spec(self, spec: ImageSpec) -> Codec:
        """A codec that holds images of this spec.

        Raises:
            UnsupportedImageError: the codec that was asked for does not; the message names others.
        """
        codec = self._automatic(spec) if self._text == "auto" else self._make(self._text)
        try:
            codec.check(spec)
        except UnsupportedImageError as exc:
            others = ", ".join(i for i in self._plugins.holding(spec) if i != codec.codec_id) or "none"
            raise UnsupportedImageError(f"{exc}; codecs for such images: {others}", **exc.fields) from exc
        return codec

    def _automatic(self, spec: ImageSpec) -> Codec:
        if spec.dtype == "uint8":
            return self._make(DEFAULT_CODEC)
        return self._make(DEFAULT_CODEC_16 if find_spec("imagecodecs") else FALLBACK_CODEC_16)


def _read_model(path: Path) -> bytes:
    from batchcodec.learned import model_file

    return model_file.read(path)
