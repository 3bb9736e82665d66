"""The shape of the networks of `balle2017-1`: plain numbers and names, checked. Nothing here needs torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from batchcodec.learned.architecture import ACTIVATIONS, UPSAMPLINGS
from batchcodec.learned.checked import CheckedConfig

FIRST_STRIDE, STRIDE = 4, 2
N_QUALITIES = 100


@dataclass(frozen=True)
class Architecture(CheckedConfig):
    """The shape of the networks.

    Attributes:
        channels: of the images, 1 to 4.
        latent: channels of the latents.
        width: channels between the layers.
        depth: layers of each transform: the first has stride 4, the others 2.
        activation: between them, see `blocks`.
        upsample: of the synthesis, see `blocks`.
        anchors: qualities that have gains of their own.
    """

    channels: int = 3
    latent: int = 128
    width: int = 96
    depth: int = 3
    activation: str = "gdn"
    upsample: str = "transpose"
    anchors: int = 6

    BOUNDS: ClassVar[dict[str, tuple[int, int]]] = {
        "channels": (1, 4),
        "latent": (1, 512),
        "width": (1, 512),
        "depth": (1, 5),
        "anchors": (2, 100),
    }
    CHOICES: ClassVar[dict[str, tuple[str, ...]]] = {"activation": ACTIVATIONS, "upsample": UPSAMPLINGS}

    @property
    def stride(self) -> int:
        """Pixels of one latent position, each way."""
        return int(FIRST_STRIDE * STRIDE ** (self.depth - 1))
