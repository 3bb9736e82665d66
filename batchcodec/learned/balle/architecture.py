"""The shape of the networks of `balle2017-1`: plain numbers and names, checked. Nothing here needs torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from batchcodec.errors import ModelError, OptionError
from batchcodec.learned.architecture import ACTIVATIONS, UPSAMPLINGS

FIRST_STRIDE, STRIDE = 4, 2
N_QUALITIES = 100
BOUNDS = {"channels": (1, 4), "latent": (1, 512), "width": (1, 512), "depth": (1, 5), "anchors": (2, 100)}
CHOICES = {"activation": ACTIVATIONS, "upsample": UPSAMPLINGS}


@dataclass(frozen=True)
class Architecture:
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

    @property
    def stride(self) -> int:
        """Pixels of one latent position, each way."""
        return int(FIRST_STRIDE * STRIDE ** (self.depth - 1))

    @classmethod
    def chosen(cls, **options: Any) -> Self:
        """The architecture of these options, checked.

        Raises:
            OptionError: one is unknown or out of range.
        """
        for name, value in options.items():
            known = CHOICES.get(name)
            low, high = BOUNDS.get(name, (0, 0))
            if known and value not in known:
                raise OptionError(name, value, " or ".join(known))
            if not known and not low <= value <= high:
                raise OptionError(name, value, f"a number from {low} to {high}")
        return cls(**options)

    def to_json(self) -> dict[str, Any]:
        """As stored in a model."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """The architecture that a model claims, checked.

        Raises:
            ModelError: something is missing, unknown or out of range.
        """
        if set(document) != {field.name for field in fields(cls)}:
            raise ModelError(f"the model's architecture has {sorted(document)}, expected {[f.name for f in fields(cls)]}")
        for name, (low, high) in BOUNDS.items():
            value = document[name]
            if type(value) is not int or not low <= value <= high:
                raise ModelError(f"the model's {name!r} is {value!r}, expected a number from {low} to {high}")
        for name, known in CHOICES.items():
            if document[name] not in known:
                raise ModelError(f"the model's {name!r} is {document[name]!r}, expected {' or '.join(known)}")
        return cls(**document)
