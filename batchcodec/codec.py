"""The `Codec` contract: pixels to payload and back.

A codec turns a *group*, images of one shape and dtype, into one self-contained payload of bytes, and that payload back into
pixels. All that decoding needs besides the payload is the config (plain JSON) and the model (bytes, maybe none): an archive
stores both once, so `restore(get_config(), get_model())` in another process, years later, must decode every payload
that this instance has encoded.

Laws, held by `batchcodec.testing.check_codec`:

- `codec_id` names a *byte format*, written by hand and frozen once released. A change of the bytes is a new id.
- `encode` is deterministic: same images, options and model, same bytes.
- Each payload decodes alone, whatever was encoded before it, and to the same pixels whichever items are asked for (within the
  tolerance of an inexact codec).
- Images that a codec cannot hold (16 bits, alpha, too large) are refused by `check` with `UnsupportedImageError`; they are
  never clipped or stripped.
- A damaged payload raises `PayloadError` (or decodes to other pixels, which the archive's digest finds); it never crashes,
  hangs or allocates without bound.
- `encode` and `decode` are called from several threads at once, each with a group of its own: that is how cores are used, so a
  codec keeps to one thread itself.
- Importing a codec's module is cheap: heavy packages are imported where they are used.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, Self

from batchcodec.errors import UnsupportedImageError
from batchcodec.types import JSON, GroupSpec, ImageSpec, Pixels

Progress = Callable[[str, float], None]
"""Called with a short text and the part that is done, from 0 to 1."""


class Codec(ABC):
    """Codes groups of images. Options are keyword-only; a bad one raises `OptionError`.

    Attributes:
        codec_id: permanent name of the byte format, such as `jpeg` or `autoencoder-1`.
        summary: one line for `batchcodec codecs`.
        options_help: option name to one line that says its values and default.
        dtypes: element types that it takes.
        channels: numbers of channels that it takes.
        needs_model: whether it works with a model, whose bytes are the keyword `model` of the constructor: the file that `pack`
            is given, or else what `default_model` says.
    """

    codec_id: ClassVar[str]
    summary: ClassVar[str] = ""
    options_help: ClassVar[dict[str, str]] = {}
    dtypes: ClassVar[tuple[str, ...]] = ("uint8",)
    channels: ClassVar[tuple[int, ...]] = (1, 3)
    needs_model: ClassVar[bool] = False

    @property
    def lossless(self) -> bool:
        """Whether decoding gives the very pixels that were encoded."""
        return False

    @property
    def exact(self) -> bool:
        """Whether decoding gives the same pixels on every machine. If not, a sample may differ by 1."""
        return True

    @property
    def partial(self) -> bool:
        """Whether `decode` of a few items costs less than that of the whole group."""
        return True

    def check(self, spec: ImageSpec) -> None:
        """Raise `UnsupportedImageError` if images of this spec cannot be encoded."""
        if spec.dtype not in self.dtypes or spec.channels not in self.channels:
            takes = f"{' or '.join(self.dtypes)} with {', '.join(map(str, self.channels))} channels"
            raise UnsupportedImageError(
                f"codec {self.codec_id} cannot hold {spec} images ({spec.dtype}, {spec.channels} channels); it takes {takes}",
                codec=self.codec_id,
                spec=str(spec),
            )

    @classmethod
    def default_model(cls, spec: ImageSpec) -> bytes | None:
        """The model for images of this spec when none is given; None if one must be given. Equal specs give equal bytes."""
        return None

    def fit(self, images: Sequence[Pixels], *, seconds: float, progress: Progress | None = None) -> None:  # noqa: B027
        """Adapt to these images ([H, W, C] each) for about so many seconds. Optional: the default does nothing."""

    def use_device(self, name: str) -> None:  # noqa: B027
        """Run where the user asked for: "cpu", "cuda", or "auto", which is cuda where there is one that helps.

        The default does nothing: most codecs run on the processor, whatever is asked.

        Raises:
            OptionError: the codec could run there, and this machine has no such device.
        """

    @abstractmethod
    def get_config(self) -> dict[str, JSON]:
        """All that decoding needs besides the model, as plain JSON."""

    def get_model(self) -> bytes:
        """The weights and tables that decoding needs: b"" or safetensors. Stored once, addressed by SHA-256."""
        return b""

    @classmethod
    @abstractmethod
    def restore(cls, config: dict[str, JSON], model: bytes) -> Self:
        """The decoder for what an instance with this config and model has encoded."""

    @abstractmethod
    def encode(self, images: Pixels) -> bytes:
        """Code uint8 or uint16 [N, H, W, C], N at least 1, into one self-contained payload."""

    @abstractmethod
    def decode(self, payload: bytes, spec: GroupSpec, items: Sequence[int] | None = None) -> Pixels:
        """Decode a payload to `spec.shape`, or the asked items of it to [len(items), H, W, C].

        Raises:
            PayloadError: the payload is damaged or not of this spec.
        """
