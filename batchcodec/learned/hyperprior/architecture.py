"""The shape of a `hyperprior-1` network: plain numbers, checked, with what decoding costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from batchcodec.errors import ModelError, OptionError

FINE_STRIDE = 4
"""The last layers of the synthesis transform work at a quarter of the image's resolution, and end in a pixel shuffle."""
HYPER_STRIDE = 4
"""Hyper-latents have a quarter of the latents' resolution."""

MAX_CHANNELS = 1024
MAX_BLOCKS = 16
MAX_SLICES = 16


@dataclass(frozen=True)
class Architecture:
    """What the tensors of a model are for.

    Attributes:
        channels: of the images, 1 to 4.
        stride: pixels of one latent position, 8 or 16.
        slices: latent channels of each slice of the context model, coded one after the other.
        width: channels of the synthesis transform at the latents' resolution; 0 leaves the nonlinear part out.
        blocks: residual blocks there.
        fine_width: channels at a quarter of the image's resolution.
        fine_blocks: residual blocks there.
        hyper: hyper-latent channels.
        hyper_width: channels of the features that the hyper-synthesis gives.
        context_width: channels of the features of each context, and of the layers that make means and scales of them.
        anchors: qualities that have quantiser steps of their own.
    """

    channels: int = 3
    stride: int = 8
    slices: tuple[int, ...] = (8, 24, 64)
    width: int = 96
    blocks: int = 2
    fine_width: int = 48
    fine_blocks: int = 1
    hyper: int = 16
    hyper_width: int = 64
    context_width: int = 64
    anchors: int = 9

    @property
    def latent(self) -> int:
        """Latent channels."""
        return sum(self.slices)

    @property
    def reach(self) -> int:
        """How many latent positions away a latent can still change a pixel."""
        if not self.width:
            return 0
        fine = 2 * self.fine_blocks + 1  # 3 x 3 convolutions at a quarter of the image's resolution
        return 1 + 2 * self.blocks + -(-fine * FINE_STRIDE // self.stride)

    def channels_of(self, index: int) -> slice:
        """The latent channels of a slice."""
        start = sum(self.slices[:index])
        return slice(start, start + self.slices[index])

    def to_json(self) -> dict[str, Any]:
        """As stored in a model."""
        return asdict(self) | {"slices": list(self.slices)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """The architecture that a model claims, checked.

        Raises:
            ModelError: a number is missing or out of range.
        """
        bounds = {
            "channels": (1, 4),
            "stride": (8, 16),
            "width": (0, MAX_CHANNELS),
            "blocks": (0, MAX_BLOCKS),
            "fine_width": (1, MAX_CHANNELS),
            "fine_blocks": (0, MAX_BLOCKS),
            "hyper": (1, MAX_CHANNELS),
            "hyper_width": (1, MAX_CHANNELS),
            "context_width": (1, MAX_CHANNELS),
            "anchors": (2, 100),
        }
        if set(document) != {field.name for field in fields(cls)}:
            raise ModelError(f"the model's architecture has {sorted(document)}, expected {[f.name for f in fields(cls)]}")
        for name, (low, high) in bounds.items():
            value = document[name]
            if type(value) is not int or not low <= value <= high:
                raise ModelError(f"the model's {name!r} is {value!r}, expected a number from {low} to {high}")
        slices = document["slices"]
        if not (
            isinstance(slices, list)
            and 1 <= len(slices) <= MAX_SLICES
            and all(type(n) is int and n >= 1 for n in slices)
            and sum(slices) <= MAX_CHANNELS
        ):
            raise ModelError(f"the model's 'slices' are {slices!r}, expected 1 to {MAX_SLICES} positive numbers")
        if document["stride"] not in (8, 16):
            raise ModelError(f"the model's 'stride' is {document['stride']}, expected 8 or 16")
        return cls(**{**document, "slices": tuple(slices)})


PROFILES = ("fast", "balanced", "small")
"""By what decoding costs: at most 1, 6 and 20 thousand multiplications per pixel."""


def profile(name: str, channels: int) -> tuple[Architecture, dict[str, int]]:
    """The architecture of a profile for images of so many channels, and the encoder that goes with it.

    Raises:
        OptionError: there is no such profile.
    """
    if name not in PROFILES:
        raise OptionError("profile", name, ", ".join(PROFILES))
    colour = channels > 1
    slices = {
        "fast": (6, 58) if channels == 3 else (6, 42),
        "balanced": (8, 24, 64) if colour else (6, 42),
        "small": (8, 24, 64) if colour else (6, 18, 40),
    }[name]
    sizes = {
        "fast": {"width": 24, "blocks": 0, "fine_width": 8, "fine_blocks": 0, "hyper_width": 16, "context_width": 16},
        "balanced": {"width": 64, "blocks": 1, "fine_width": 24, "fine_blocks": 1, "hyper_width": 40, "context_width": 40},
        "small": {"width": 96, "blocks": 2, "fine_width": 48, "fine_blocks": 1, "hyper_width": 64, "context_width": 64},
    }[name]
    hyper = {"fast": 6, "balanced": 12, "small": 16}[name]
    encoder = {
        "fast": {"width": 48, "blocks": 1, "fine_width": 0},
        "balanced": {"width": 80, "blocks": 1, "fine_width": 0},
        "small": {"width": 96, "blocks": 2, "fine_width": 48},
    }[name]
    return Architecture(channels=channels, slices=slices, hyper=hyper, **sizes), encoder
