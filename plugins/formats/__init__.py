"""The built-in formats: folders of image files, NumPy arrays, IDX files, tar archives and Parquet tables.

Importing this package is cheap: Pillow and the optional decoders are imported where pixels are read or written.
"""

from __future__ import annotations

from collections.abc import Iterable

from batchcodec.dataset import Format
from batchcodec.hookspecs import hookimpl

from .folder import FolderFormat
from .idx import IdxFormat
from .npy import NpyFormat
from .npz import NpzFormat
from .parquet import ParquetFormat
from .tar import TarFormat

__all__ = ["FolderFormat", "IdxFormat", "NpyFormat", "NpzFormat", "ParquetFormat", "TarFormat", "register_formats"]


@hookimpl
def register_formats() -> Iterable[type[Format]]:
    """The built-in formats."""
    return (FolderFormat, NpyFormat, NpzFormat, IdxFormat, TarFormat, ParquetFormat)
