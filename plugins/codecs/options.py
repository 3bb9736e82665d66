"""Codec options as a table: one `Option` per keyword gives the check, the default and the help line.

`OptionsCodec` is the base of the classical codecs: a subclass lists its options in `option_table`, and reads the
checked values from `self.options`. The config is these values by name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeAlias

from batchcodec.codec import Codec
from batchcodec.errors import ModelError, OptionError, PayloadError, UnsupportedImageError
from batchcodec.types import JSON, GroupSpec

OptionValue: TypeAlias = bool | int | float | str


@dataclass(frozen=True, slots=True)
class Option:
    """One keyword of a codec. The type of `default` is the type of its values.

    Attributes:
        name: the keyword.
        default: the value when it is not given.
        meaning: what it does, in a few words.
        low, high: the range of a number, both ends included.
        choices: the values of a string.
    """

    name: str
    default: OptionValue
    meaning: str
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[str, ...] = ()

    @property
    def allowed(self) -> str:
        """The values in words."""
        if isinstance(self.default, bool):
            return "true or false"
        if self.choices:
            return " or ".join(self.choices)
        kind = "an integer" if isinstance(self.default, int) else "a number"
        return f"{kind} from {self.low:g} to {self.high:g}"

    @property
    def help(self) -> str:
        """One line: meaning, values, default."""
        default = str(self.default).lower() if isinstance(self.default, bool) else self.default
        return f"{self.meaning}: {self.allowed} (default {default})"

    def read(self, value: object) -> OptionValue:
        """The value in the option's type, or `OptionError`. An integer is taken for a float, and nothing else converted."""
        if isinstance(self.default, float) and type(value) is int:
            value = float(value) if abs(value) < 2**53 else math.inf
        if type(value) is type(self.default):
            if isinstance(value, bool) or (isinstance(value, str) and value in self.choices):
                return value
            if isinstance(value, int | float) and self.low <= value <= self.high:
                return value
        raise OptionError(self.name, value, self.allowed)


def read_options(table: Sequence[Option], given: Mapping[str, object]) -> dict[str, OptionValue]:
    """The value of every option of the table: the given one, checked, or the default.

    Raises:
        OptionError: a bad value or a keyword that the table lacks.
    """
    known = {option.name: option for option in table}
    for name, value in given.items():
        if name not in known:
            raise OptionError(name, value, f"one of the options {', '.join(known)}" if known else "no option at all")
    return {name: option.read(given[name]) if name in given else option.default for name, option in known.items()}


class OptionsCodec(Codec):
    """A codec without a model whose config is its options.

    Attributes:
        option_table: its keywords.
        options: their checked values by name.
    """

    option_table: ClassVar[tuple[Option, ...]] = ()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.options_help = {option.name: option.help for option in cls.option_table}

    def __init__(self, **options: OptionValue) -> None:
        self.options: dict[str, Any] = dict(read_options(self.option_table, options))

    def get_config(self) -> dict[str, JSON]:
        """The options; those that only the encoder uses are there for information."""
        return dict(self.options)

    @classmethod
    def restore(cls, config: dict[str, JSON], model: bytes) -> Self:
        """The decoder for this config.

        Names that this version does not know are passed over: a codec id stands for one byte format, so a later option
        cannot change decoding.

        Raises:
            PayloadError: a value that this codec never writes.
            ModelError: there is a model.
        """
        if model:
            raise ModelError(f"codec {cls.codec_id} has no model, got {len(model)} bytes", codec=cls.codec_id)
        if not isinstance(config, dict):
            raise PayloadError(f"config of codec {cls.codec_id}: expected an object, got {type(config).__name__}")
        names = {option.name for option in cls.option_table}
        try:
            return cls(**{name: value for name, value in config.items() if name in names})  # type: ignore[arg-type]
        except OptionError as exc:
            raise PayloadError(f"config of codec {cls.codec_id}: {exc}", codec=cls.codec_id) from exc

    def _check_payload_spec(self, spec: GroupSpec) -> None:
        """Raise `PayloadError` for a spec that `encode` would have refused."""
        try:
            self.check(spec.image)
        except UnsupportedImageError as exc:
            raise PayloadError(f"codec {self.codec_id}: no payload has this spec: {exc}", codec=self.codec_id) from exc
        if spec.n_items < 1:
            raise PayloadError(f"codec {self.codec_id}: a group of {spec.n_items} items", codec=self.codec_id)


def item_indices(items: Sequence[int] | None, n_items: int) -> Sequence[int]:
    """The asked items, all of them for None; an `IndexError` for one that is not of the group."""
    if items is None:
        return range(n_items)
    for item in items:
        if not 0 <= item < n_items:
            raise IndexError(f"item {item} of a group of {n_items}")
    return items
