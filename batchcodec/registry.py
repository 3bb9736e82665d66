"""Loads plugins one by one and finds codecs by id and formats by id or path.

A plugin that fails to import, or that has a hook this version does not know, is kept in `Registry.plugins` with its error;
nothing else breaks. An id that two plugins claim belongs to neither: using it raises `PluginConflictError`, all other ids work.

`BATCHCODEC_PLUGINS=a,b` loads, of the plugins that other distributions bring, only those named; empty means none. The built-in
ones always load.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar

import pluggy

from batchcodec import hookspecs
from batchcodec.archive.wire import CodecRecord
from batchcodec.codec import Codec
from batchcodec.dataset import Format, FormatOptions
from batchcodec.errors import (
    InputError,
    OptionError,
    PluginConflictError,
    UnknownCodecError,
    UnknownFormatError,
)

GROUP = "batchcodec"
OWN_DISTRIBUTION = "batchcodec"

T = TypeVar("T")


@dataclass
class PluginInfo:
    """One entry point: where it is from, what it gave, or why it failed."""

    name: str
    distribution: str
    version: str
    codecs: list[str] = field(default_factory=list)
    formats: list[str] = field(default_factory=list)
    error: str | None = None


class _Catalogue(Generic[T]):
    """Classes by id, remembering who gave them."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.providers: dict[str, list[tuple[T, PluginInfo]]] = {}

    def add(self, ident: str, value: T, plugin: PluginInfo) -> None:
        self.providers.setdefault(ident, []).append((value, plugin))

    def get(self, ident: str) -> tuple[T, PluginInfo] | None:
        """The class of an id and its plugin, or None.

        Raises:
            PluginConflictError: two plugins claim it.
        """
        found = self.providers.get(ident)
        if not found:
            return None
        if len(found) > 1:
            raise PluginConflictError(self.kind, ident, *(f"{p.distribution} ({p.name})" for _, p in found[:2]))
        return found[0]


class Registry:
    """All plugins of this environment.

    Args:
        points: entry points to load; by default those installed in the group `batchcodec`.
        allowed: names of the plugins of other distributions to load, None for all.
    """

    def __init__(self, points: Iterable[EntryPoint] | None = None, allowed: set[str] | None = None) -> None:
        self.manager = pluggy.PluginManager(GROUP)
        self.manager.add_hookspecs(hookspecs)
        self.plugins: list[PluginInfo] = []
        self._codecs: _Catalogue[type[Codec]] = _Catalogue("codec")
        self._formats: _Catalogue[type[Format]] = _Catalogue("format")
        found = entry_points(group=GROUP) if points is None else points
        # An editable install beside another one lists the same entry point twice.
        unique = {(p.name, p.value, _distribution(p)): p for p in found}
        for _, point in sorted(unique.items()):
            if allowed is None or _distribution(point) == OWN_DISTRIBUTION or point.name in allowed:
                self._load(point)

    def __reduce__(self) -> tuple[Any, ...]:
        """The registry of a process is pickled as that of the process that unpickles it."""
        if self is not registry():
            raise TypeError("this registry was made by hand and cannot be pickled")
        return registry, ()

    def _load(self, point: EntryPoint) -> None:
        info = PluginInfo(point.name, _distribution(point), point.dist.version if point.dist else "")
        self.plugins.append(info)
        name = f"{info.distribution}:{info.name}"
        try:
            plugin = point.load()
            self.manager.register(plugin, name=name)
            self.manager.check_pending()
            codecs = [(codec.codec_id, codec) for codec in self._given("register_codecs", plugin, Codec)]
            formats = [(kind.format_id, kind) for kind in self._given("register_formats", plugin, Format)]
        except (Exception, SystemExit) as exc:  # whatever a foreign module does at import must not break the others
            info.error = f"{type(exc).__name__}: {str(exc).splitlines()[0] if str(exc) else ''}"
            if self.manager.has_plugin(name):
                self.manager.unregister(name=name)
            return
        # All or nothing: a plugin that fails half way has given nothing.
        for ident, codec in codecs:
            self._codecs.add(ident, codec, info)
            info.codecs.append(ident)
        for ident, kind in formats:
            self._formats.add(ident, kind, info)
            info.formats.append(ident)

    def _given(self, hook: str, plugin: object, base: type) -> list[Any]:
        """What this plugin's implementation of a hook returns: classes that extend `base`."""
        caller = getattr(self.manager.hook, hook)
        values = [value for impl in caller.get_hookimpls() if impl.plugin is plugin for value in impl.function()]
        for value in values:
            if not (isinstance(value, type) and issubclass(value, base)):
                raise TypeError(f"{hook} returned {value!r}, expected subclasses of {base.__name__}")
        return values

    def conflicts(self) -> list[PluginConflictError]:
        """One error for each id that two plugins claim."""
        errors = []
        for catalogue in (self._codecs, self._formats):
            for ident in catalogue.providers:
                try:
                    catalogue.get(ident)
                except PluginConflictError as exc:
                    errors.append(exc)
        return errors

    # ---- codecs

    def codec_ids(self) -> list[str]:
        """All codec ids, sorted."""
        return sorted(self._codecs.providers)

    def codec_class(self, codec_id: str, distribution: str | None = None) -> type[Codec]:
        """The class of a codec id.

        Raises:
            UnknownCodecError: no plugin has it; `distribution` is then named as the one to install.
            PluginConflictError: two plugins have it.
        """
        found = self._codecs.get(codec_id)
        if found is None:
            raise UnknownCodecError(codec_id, self.codec_ids(), distribution)
        return found[0]

    def make_codec(self, text: str, **more: Any) -> Codec:
        """A codec from `name:key=value,...`, with more options from elsewhere."""
        codec_id, options = parse_codec(text)
        codec = self.codec_class(codec_id)
        for key, value in more.items():
            if options.setdefault(key, value) != value:
                raise OptionError(key, value, f"the same as in --codec {text}, or leave it out there")
        try:
            return codec(**options)
        except TypeError as exc:
            known = ", ".join(codec.options_help) or "no options"
            raise OptionError(f"codec {codec_id}", text, f"only options that it has ({known})") from exc

    def restore(self, record: CodecRecord) -> Codec:
        """The decoder for what an archive stores about a codec."""
        return self.codec_class(record.codec_id, record.distribution).restore(record.config, record.model)

    def record(self, codec: Codec) -> CodecRecord:
        """What an archive stores about a codec."""
        found = self._codecs.get(codec.codec_id)
        distribution = found[1].distribution if found else None
        return CodecRecord(codec.codec_id, codec.get_config(), codec.get_model(), codec.exact, distribution)

    def holding(self, spec: Any) -> list[str]:
        """Ids of the codecs that declare to take images of a spec, for messages."""
        classes = {ident: found[0][0] for ident, found in self._codecs.providers.items()}
        return sorted(i for i, c in classes.items() if spec.dtype in c.dtypes and spec.channels in c.channels)

    # ---- formats

    def format_ids(self) -> list[str]:
        """All format ids, sorted."""
        return sorted(self._formats.providers)

    def format_class(self, format_id: str) -> type[Format]:
        """The class of a format id.

        Raises:
            OptionError: no plugin has it.
        """
        found = self._formats.get(format_id)
        if found is None:
            raise OptionError("format", format_id, "one of " + ", ".join(self.format_ids()))
        return found[0]

    def _format_classes(self) -> list[type[Format]]:
        """The formats that one plugin alone claims, sorted by id."""
        return [found[0][0] for _, found in sorted(self._formats.providers.items()) if len(found) == 1]

    def format_of(self, path: Path, options: FormatOptions | None = None, format_id: str | None = None) -> Format:
        """The format that recognises an existing path, or the one asked for.

        Raises:
            InputError: the path does not exist.
            UnknownFormatError: none or several formats recognise it.
        """
        if not path.exists():
            raise InputError(path, "no such file or directory")
        if format_id is not None:
            return self.format_class(format_id)(options)
        matching = [kind for kind in self._format_classes() if _matches(kind, path)]
        if len(matching) == 1:
            return matching[0](options)
        if matching:
            names = ", ".join(kind.format_id for kind in matching)
            raise UnknownFormatError(path, f"several formats match ({names}); choose one with --format")
        raise UnknownFormatError(path, f"no format recognises it; known: {', '.join(self.format_ids())}")

    def format_for_target(self, path: Path, options: FormatOptions | None = None, format_id: str | None = None) -> Format:
        """The format to write a new path in: asked for, or by suffix, or a folder when there is none."""
        if format_id is None:
            name = path.name.lower()
            classes = self._format_classes()
            fitting = [(len(s), c) for c in classes if c.can_write for s in c.suffixes if name.endswith(s)]
            if fitting:
                return max(fitting, key=lambda pair: pair[0])[1](options)
            if path.suffix and not path.is_dir():
                known = sorted({s for c in classes if c.can_write for s in c.suffixes})
                raise UnknownFormatError(
                    path, f"no format writes the suffix {path.suffix!r} ({', '.join(known)}); choose one with --to"
                )
            format_id = "folder"
        chosen = self.format_class(format_id)
        if not chosen.can_write:
            raise OptionError("to", format_id, "a format that can be written")
        return chosen(options)


def _matches(kind: type[Format], path: Path) -> bool:
    try:
        return kind.matches(path)
    except Exception:  # a foreign format that breaks its contract must not break the others
        return False


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist else "unknown"


def parse_codec(text: str) -> tuple[str, dict[str, Any]]:
    """`name:key=value,...` to the codec id and its options; true, false and numbers become what they look like."""
    codec_id, _, rest = text.partition(":")
    options: dict[str, Any] = {}
    for pair in filter(None, rest.split(",")):
        key, equals, value = pair.partition("=")
        key = key.strip().replace("-", "_")
        if not key or not equals or key in options:
            raise OptionError("codec", text, "name or name:key=value,key=value with each key once")
        options[key] = literal(value.strip())
    return codec_id, options


def literal(text: str) -> bool | int | float | str:
    """True, false or the number that a text looks like; else the text."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


@functools.cache
def registry() -> Registry:
    """The registry of this process, loaded once."""
    chosen = os.environ.get("BATCHCODEC_PLUGINS")
    return Registry(allowed=None if chosen is None else {name.strip() for name in chosen.split(",")})
