"""What the model files of codecs have in common: a config of plain numbers and names, and tensors of known shapes, all checked.

Nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from batchcodec.errors import ModelError, OptionError, UnsupportedImageError
from batchcodec.learned import model_file
from batchcodec.types import CHANNEL_NAMES, ImageSpec


@dataclass(frozen=True)
class CheckedConfig:
    """The shape of networks. A subclass adds a field for each key of its tables.

    Attributes:
        BOUNDS: the range of each number, both ends included.
        CHOICES: the values of each name.
        SWITCHES: what is true or false.
    """

    BOUNDS: ClassVar[dict[str, tuple[int, int]]] = {}
    CHOICES: ClassVar[dict[str, tuple[str, ...]]] = {}
    SWITCHES: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def chosen(cls, **options: Any) -> Self:
        """The config of these options.

        Raises:
            OptionError: one is unknown or out of range.
        """
        for name, value in options.items():
            if allowed := cls._expected(name, value):
                raise OptionError(name, value, allowed)
        return cls(**options)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """The config that a model claims.

        Raises:
            ModelError: something is missing, unknown or out of range.
        """
        if set(document) != {field.name for field in fields(cls)}:
            raise ModelError(f"the model's architecture has {sorted(document)}, expected {[f.name for f in fields(cls)]}")
        for name, value in document.items():
            if allowed := cls._expected(name, value):
                raise ModelError(f"the model's {name!r} is {value!r}, expected {allowed}")
        return cls(**document)

    def to_json(self) -> dict[str, Any]:
        """As stored in a model."""
        return asdict(self)

    @classmethod
    def _expected(cls, name: str, value: Any) -> str | None:
        """What the value should have been; None if it is good."""
        if name in cls.SWITCHES:
            return None if isinstance(value, bool) else "true or false"
        if name in cls.CHOICES:
            return None if value in cls.CHOICES[name] else " or ".join(cls.CHOICES[name])
        low, high = cls.BOUNDS.get(name, (0, -1))
        return None if type(value) is int and low <= value <= high else f"a number from {low} to {high}"


class ModelTensors:
    """The tensors and the document of a model file of one codec.

    Args:
        blob: the file.
        codec_id: that it must be for.

    Attributes:
        tensors: by name; those of floats are finite.
        document: beside them.
        config: of the document.

    Raises:
        ModelError: it is no such model, or damaged.
    """

    def __init__(self, blob: bytes, codec_id: str) -> None:
        self.tensors, self.document = model_file.parse(blob)
        if self.document.get("codec") != codec_id:
            raise ModelError(f"a model for codec {self.document.get('codec')!r}, not for {codec_id}")
        config = self.document.get("config")
        if not isinstance(config, dict):
            raise ModelError("a model without config")
        self.config: dict[str, Any] = config
        for name, tensor in self.tensors.items():
            if tensor.dtype.kind == "f" and not np.isfinite(tensor).all():
                raise ModelError(f"the model's tensor {name!r} has values that are not finite")

    def tensor(self, name: str, dtype: type, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """The tensor of this name, which must be of this type and shape."""
        found = self.tensors.get(name)
        if found is None or found.dtype != dtype or found.shape != shape:
            what = "missing" if found is None else f"{found.dtype} {list(found.shape)}"
            raise ModelError(f"the model's tensor {name!r} is {what}, expected {np.dtype(dtype)} {list(shape)}")
        return found

    def without_encoder(self) -> bytes:
        """What an archive stores."""
        return model_file.without_encoder(self.tensors, self.document)


def other_channels(codec_id: str, channels: int, spec: ImageSpec, instead: str) -> UnsupportedImageError:
    """That a model for images of so many channels cannot hold those of `spec`, and what to do instead."""
    return UnsupportedImageError(
        f"this model was trained on {CHANNEL_NAMES[channels]} images and cannot hold {spec}; {instead}",
        codec=codec_id,
        spec=str(spec),
    )
