"""The classical codec between the two networks: any registered one that needs no model itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from batchcodec.codec import Codec
from batchcodec.errors import ModelError, OptionError, UnknownCodecError
from batchcodec.types import JSON


def made(codec_id: object, options: Mapping[str, Any]) -> Codec:
    """The base codec with options of its own.

    Raises:
        OptionError: there is no such codec, it is a learned one, or it has no such option.
    """
    from batchcodec.registry import registry

    try:
        kind = registry().codec_class(str(codec_id))
    except UnknownCodecError as exc:
        raise OptionError("base", codec_id, "a codec without a model, such as jpeg; see `batchcodec codecs`") from exc
    if kind.needs_model:
        raise OptionError("base", codec_id, "a codec without a model, such as jpeg")
    for name, value in options.items():
        if name not in kind.options_help:
            allowed = ", ".join(kind.options_help)
            raise OptionError(name, value, f"an option of the base codec {codec_id} ({allowed or 'it has none'})")
    return kind(**options)


def to_config(base: Codec) -> dict[str, JSON]:
    """What an archive stores of a base codec."""
    from batchcodec.registry import registry

    record = registry().record(base)
    return {"codec": record.codec_id, "config": record.config, "distribution": record.distribution}


def from_config(stored: JSON) -> Codec:
    """The base codec that an archive stores.

    Raises:
        ModelError: that is no base codec.
        UnknownCodecError: no plugin has it.
    """
    from batchcodec.registry import registry

    match stored:
        case {"codec": str(codec_id), "config": dict(config), "distribution": str() | None as distribution, **rest} if not rest:
            kind = registry().codec_class(codec_id, distribution)
        case _:
            raise ModelError(f"the codec's base is {stored!r}, expected its codec, config and distribution")
    if kind.needs_model:
        raise ModelError(f"the codec's base is {codec_id}, expected a codec without a model")
    return kind.restore(config, b"")
