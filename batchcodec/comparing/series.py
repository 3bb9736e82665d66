"""Which settings of a codec make a curve: the qualities that were asked for, or what its text says itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from batchcodec.errors import OptionError
from batchcodec.registry import Registry, parse_codec

ALTERNATIVE = "|"


@dataclass(frozen=True)
class Series:
    """One curve.

    Attributes:
        name: the codec without the option that changes.
        settings: what changes, `quality=40`; empty where there is one point alone.
        texts: codec text of each setting.
    """

    name: str
    settings: tuple[str, ...]
    texts: tuple[str, ...]


def split_codecs(text: str) -> list[str]:
    """`avif:speed=4,mosaic=true,jpeg` to codec texts: what has no colon but an equals sign is an option of the codec before."""
    texts: list[str] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        codec = part.partition("=")[0]
        if "=" in part and ":" not in codec:
            if not texts:
                raise OptionError("codecs", text, "codecs such as hyperprior-1,avif:speed=4,mosaic=true,jpeg")
            texts[-1] += ("," if ":" in texts[-1] else ":") + part
        else:
            texts.append(part)
    return texts


def parse_series(text: str, qualities: Sequence[int], plugins: Registry) -> Series:
    """The curve of a codec text.

    An option with alternatives, `psnr=30|35|40`, is what changes; without one it is `quality` at `qualities`, where the codec
    has such an option, is not lossless, and the text does not fix it.

    Raises:
        OptionError: two options with alternatives, or the text is none.
        UnknownCodecError: there is no such codec.
    """
    codec_id, options = parse_codec(text)
    has = {} if codec_id == "auto" else plugins.codec_class(codec_id).options_help
    changing = [key for key, value in options.items() if isinstance(value, str) and ALTERNATIVE in value]
    if len(changing) > 1:
        raise OptionError("codecs", text, f"one option with alternatives, not {len(changing)} ({', '.join(changing)})")
    if changing:
        name, values = changing[0], str(options.pop(changing[0])).split(ALTERNATIVE)
    elif "quality" in has and "quality" not in options and options.get("lossless") is not True:
        name, values = "quality", [str(quality) for quality in qualities]
    else:
        return Series(text, ("",), (text,))
    if len(set(values)) != len(values) or not all(values):
        raise OptionError("codecs", text, "alternatives that differ, such as 30|35|40")
    settings = tuple(f"{name}={value}" for value in values)
    rest = [f"{key}={_written(value)}" for key, value in options.items()]
    texts = tuple(f"{codec_id}:{','.join([setting, *rest])}" for setting in settings)
    return Series(codec_id + (":" + ",".join(rest) if rest else ""), settings, texts)


def _written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
