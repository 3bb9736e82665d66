"""The shape of the networks of `comcnn-1`. Nothing here needs torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from batchcodec.learned.architecture import ACTIVATIONS, UPSAMPLINGS
from batchcodec.learned.checked import CheckedConfig

SCALE = 2
"""Pixels of an image, each way, for one of its compact image."""


@dataclass(frozen=True)
class Architecture(CheckedConfig):
    """The shape of the networks.

    Attributes:
        channels: of the images, 1 to 4.
        width: channels between the layers.
        depth: convolutions of RecCNN; 20 in the paper.
        activation: between them, see `blocks`.
        upsample: of RecCNN. With "resize", as in the paper, it runs on the pixels of the upsampled image; with the others on a
            quarter of them, and its last layer brings the residual to the full size, see `blocks`.
        compact: whether ComCNN makes a compact image. Without, the image itself is coded, and RecCNN is a filter against what
            coding does to it.
    """

    channels: int = 3
    width: int = 48
    depth: int = 10
    activation: str = "relu"
    upsample: str = "pixelshuffle"
    compact: bool = True

    BOUNDS: ClassVar[dict[str, tuple[int, int]]] = {"channels": (1, 4), "width": (1, 512), "depth": (2, 64)}
    CHOICES: ClassVar[dict[str, tuple[str, ...]]] = {"activation": ACTIVATIONS, "upsample": UPSAMPLINGS}
    SWITCHES: ClassVar[tuple[str, ...]] = ("compact",)

    @property
    def scale(self) -> int:
        """Pixels of an image, each way, for one of what is coded."""
        return SCALE if self.compact else 1
