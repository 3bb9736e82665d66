"""Every deliberate failure of batchcodec, one class per way to fail.

    BatchcodecError                     1   anything that is not listed below
    |- OptionError (ValueError)         2   an option has a bad value
    |- OutputError                      1   the target cannot be written (disk full, read-only, ...)
    |  |- TargetExistsError             2   the target exists and `--force` was not given
    |  `- UnfinishedError               2   an unfinished archive is in the way, or is not one that this run can go on with
    |- InputError                       3   a dataset cannot be used
    |  |- UnknownFormatError            3   no format, or several, recognise the path
    |  |- EmptyDatasetError             3   there is not one image in it
    |  `- ItemError                     3   one image of it cannot be used
    |     |- DuplicateNameError         3   two items have one name
    |     `- UnsafeNameError            3   a name that must not become a file (absolute, `..`, control characters)
    |- ArchiveError                     4   a `.cpack` file cannot be used
    |  |- NotAnArchiveError             4   the first bytes are not those of a `.cpack`
    |  |- UnsupportedVersionError       4   made by a later version, or needs a feature that this one lacks
    |  |- TruncatedArchiveError         4   the end is missing
    |  |- CorruptArchiveError           4   a checksum, a length or a field is wrong
    |  |  `- CorruptGroupError          4   one group is damaged: its index says which
    |  |- ItemNotFoundError (LookupError) 4  no item of this name or number
    |  `- MixedShapesError (ValueError)  4   items of different shapes or types do not make one array
    |- CodecError                       5   a codec cannot do what is asked
    |  |- UnknownCodecError             5   no plugin provides this codec id
    |  |- MissingDependencyError        5   the codec or format needs a package that is not installed
    |  |- UnsupportedImageError         5   the codec cannot hold images of this kind (16 bits, alpha, ...)
    |  |- PayloadError                  5   a payload is not what this codec writes
    |  |- ModelError                    5   a model file is damaged or does not fit
    |  |- InexactMachineError           5   this machine does not compute the numbers that a model was made with
    |  `- DriftError                    5   decoding gave other pixels than those that were packed
    `- PluginError                      6   a plugin cannot be loaded
       `- PluginConflictError           6   two plugins claim one id

The number is the exit code of the command line. 130 is an interrupt (Ctrl-C).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar


class BatchcodecError(Exception):
    """Base of all deliberate failures. The message says what, where, got, expected and what to do.

    Attributes:
        fields: the facts of the failure by name, JSON-able, for `--json`.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, **fields: Any) -> None:
        super().__init__(message)
        self.message = message
        self.fields: dict[str, Any] = {key: str(value) if isinstance(value, Path) else value for key, value in fields.items()}

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled with all that it says, as it comes from a worker process: constructors differ."""
        return _unpickled, (type(self), self.args), self.__dict__

    def rename(self, old: str, new: str) -> None:
        """Say `new` where the message and the fields say `old`: a path that stood in for another."""
        self.message = self.message.replace(old, new)
        self.fields = {key: value.replace(old, new) if isinstance(value, str) else value for key, value in self.fields.items()}

    def place(self, path: Path, where: str, **fields: Any) -> None:
        """Say in which file and where in it, for what was raised by code that knows neither."""
        if str(path) not in self.message:
            self.message = f"{path}: {where}: {self.message}"
        self.fields = {"path": str(path), **fields, **self.fields}


def _unpickled(cls: type[BatchcodecError], args: tuple[Any, ...]) -> BatchcodecError:
    error = cls.__new__(cls, *args)
    error.args = args
    return error


class OptionError(BatchcodecError, ValueError):
    """An option has a bad value: says the name, the value and what is allowed."""

    exit_code = 2

    def __init__(self, name: str, value: object, allowed: str) -> None:
        super().__init__(
            f"option {name}: got {value!r}, expected {allowed}",
            name=name,
            value=str(value),
            allowed=allowed,
        )


class OutputError(BatchcodecError):
    """The target cannot be written."""

    def __init__(self, path: Path | str, reason: str) -> None:
        super().__init__(f"cannot write {path}: {reason}", path=str(path), reason=reason)


class TargetExistsError(OutputError):
    """The target exists and overwriting was not asked for."""

    exit_code = 2

    def __init__(self, path: Path | str) -> None:
        super().__init__(path, "it exists already; use --force to replace it")


class UnfinishedError(OutputError):
    """An unfinished archive is in the way, or is not one that this run can go on with."""

    exit_code = 2


class InputError(BatchcodecError):
    """A dataset cannot be used."""

    exit_code = 3

    def __init__(self, path: Path | str, reason: str, **fields: Any) -> None:
        super().__init__(f"{path}: {reason}", path=str(path), reason=reason, **fields)


class UnknownFormatError(InputError):
    """No format, or more than one, recognises a path."""


class EmptyDatasetError(InputError):
    """A dataset holds no image."""


class ItemError(InputError):
    """One image of a dataset cannot be used.

    Attributes:
        item: the item's name.
        reason: what is wrong with it.
    """

    def __init__(self, path: Path | str, item: str, reason: str) -> None:
        super().__init__(path, f"{item!r}: {reason}", item=item)
        self.item = item
        self.reason = reason


class DuplicateNameError(ItemError):
    """Two items of one dataset have the same name."""

    def __init__(self, path: Path | str, item: str) -> None:
        super().__init__(path, item, "two items have this name")


class UnsafeNameError(ItemError):
    """A name that must not become a file name."""


class ArchiveError(BatchcodecError):
    """A `.cpack` file cannot be used."""

    exit_code = 4

    def __init__(self, path: Path | str, reason: str, **fields: Any) -> None:
        super().__init__(f"{path}: {reason}", path=str(path), reason=reason, **fields)


class NotAnArchiveError(ArchiveError):
    """The first bytes are not those of a `.cpack`."""


class UnsupportedVersionError(ArchiveError):
    """The archive is of a later version, or needs a feature that this version lacks."""


class TruncatedArchiveError(ArchiveError):
    """The end of the archive is missing."""


class CorruptArchiveError(ArchiveError):
    """A checksum, a length or a field is wrong."""


class CorruptGroupError(CorruptArchiveError):
    """One group is damaged. `fields["group"]` is its index."""


class ItemNotFoundError(ArchiveError, LookupError):
    """No item of this name or number; not a KeyError, which would quote its message."""


class MixedShapesError(ArchiveError, ValueError):
    """Items of different shapes or types do not make one array."""


class CodecError(BatchcodecError):
    """A codec cannot do what is asked."""

    exit_code = 5


class UnknownCodecError(CodecError):
    """No plugin provides this codec id."""

    def __init__(self, codec_id: str, known: Iterable[str], distribution: str | None = None) -> None:
        names = sorted(known)
        hint = f"; the archive names the package {distribution!r}: pip install {distribution}" if distribution else ""
        super().__init__(
            f"unknown codec {codec_id!r}{hint}; known: {', '.join(names)}",
            codec=codec_id,
            known=names,
            distribution=distribution,
        )


class MissingDependencyError(CodecError):
    """An optional package is needed."""

    def __init__(self, what: str, package: str, extra: str) -> None:
        super().__init__(
            f"{what} needs the package {package!r}: pip install 'batchcodec[{extra}]'",
            what=what,
            package=package,
            extra=extra,
        )


class UnsupportedImageError(CodecError):
    """A codec cannot hold images of this kind; nothing is clipped or dropped silently."""


class PayloadError(CodecError):
    """A payload is not what this codec writes: damaged, cut or of another shape."""


class ModelError(CodecError):
    """A model file is damaged, of another kind, or does not fit the images."""


class InexactMachineError(CodecError):
    """The self-check of a model gave other numbers: this machine or its libraries are not exact, or the model is damaged."""

    def __init__(self, found: int, expected: int) -> None:
        super().__init__(
            f"the model's self-check gave {found:016x}, expected {expected:016x}: this machine or its torch does not compute "
            "integers exactly in float32, or the model is damaged; nothing was decoded. "
            "`unpack --reference` decodes without torch",
            found=f"{found:016x}",
            expected=f"{expected:016x}",
        )


class DriftError(CodecError):
    """Decoding gave other pixels than those that were packed: wrong machine, library or model."""


class PluginError(BatchcodecError):
    """A plugin cannot be loaded."""

    exit_code = 6


class PluginConflictError(PluginError):
    """Two plugins claim one id."""

    def __init__(self, kind: str, ident: str, first: str, second: str) -> None:
        super().__init__(
            f"two plugins provide the {kind} {ident!r}: {first} and {second}; uninstall one or set BATCHCODEC_PLUGINS",
            kind=kind,
            id=ident,
            first=first,
            second=second,
        )
