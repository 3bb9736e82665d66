"""The shape of `autoencoder-1`'s networks, and the names that all transforms share. Nothing here needs torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from batchcodec.errors import ModelError

ACTIVATIONS = ("gdn", "leaky-relu", "relu", "gelu", "none")
UPSAMPLINGS = ("transpose", "pixelshuffle", "resize")
"""See `blocks`."""
MAX_DEPTH = 6
MAX_WIDTH = 4096


@dataclass(frozen=True)
class Shape:
    """Of the networks, but for the channels of images and latents.

    Attributes:
        widths: channels after each stride-2 stage.
        activation: between the layers.
        upsample: of the synthesis.
    """

    widths: tuple[int, ...] = (32, 64, 128)
    activation: str = "leaky-relu"
    upsample: str = "transpose"

    @property
    def stride(self) -> int:
        """Pixels of an image, each way, for one position of the latents."""
        return int(2 ** len(self.widths))

    def to_json(self) -> dict[str, Any]:
        """As stored in a model: what is not like the paper's has another key, so that older versions refuse it."""
        if self == Shape(self.widths) and len(self.widths) == 3:
            return {"widths": list(self.widths)}
        return {"network": {"widths": list(self.widths), "activation": self.activation, "upsample": self.upsample}}

    @classmethod
    def from_json(cls, config: Mapping[str, Any]) -> Self:
        """The shape that a model claims, checked.

        Raises:
            ModelError: something is missing, unknown or out of range.
        """
        network = config.get("network", {"widths": config.get("widths"), "activation": "leaky-relu", "upsample": "transpose"})
        if not isinstance(network, dict) or set(network) != {"widths", "activation", "upsample"}:
            raise ModelError("the model's 'network' does not have widths, activation and upsample")
        widths = network["widths"]
        depths = (3,) if "network" not in config else range(1, MAX_DEPTH + 1)
        if not isinstance(widths, list) or len(widths) not in depths:
            expected = "three numbers" if "network" not in config else f"1 to {MAX_DEPTH} numbers"
            raise ModelError(f"the model's `widths` are not {expected}")
        if not all(type(width) is int and 1 <= width <= MAX_WIDTH for width in widths):
            raise ModelError(f"the model's 'widths' are {widths!r}, expected numbers from 1 to {MAX_WIDTH}")
        for name, known in (("activation", ACTIVATIONS), ("upsample", UPSAMPLINGS)):
            if network[name] not in known:
                raise ModelError(f"the model's {name!r} is {network[name]!r}, expected {' or '.join(known)}")
        return cls(tuple(widths), network["activation"], network["upsample"])
