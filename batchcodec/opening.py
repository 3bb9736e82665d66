"""Archives with the codecs and formats of this environment: what `batchcodec.open` gives."""

from __future__ import annotations

from pathlib import Path

from batchcodec.archive import reader
from batchcodec.archive.reader import CACHE_BYTES
from batchcodec.dataset import FormatOptions
from batchcodec.registry import registry
from batchcodec.unpack import UnpackOptions, UnpackReport, unpack


class Archive(reader.Archive):
    """A `.cpack` file, open for reading, which can also be written to other formats."""

    def to_webdataset(
        self, target: Path | str, *, image_format: str = "png", force: bool = False, workers: int = 0
    ) -> UnpackReport:
        """Write a tar of image files, with `.cls` for labels and `.json` for attributes; `.tar.gz` and the like is compressed.

        Args:
            target: the file.
            image_format: of the image files, as of `FormatOptions`.
            force: replace an existing file.
            workers: as of `UnpackOptions`.

        Raises:
            ArchiveError, CodecError, OutputError: see `batchcodec.unpack`.
        """
        return self._written(target, "tar", image_format, force, workers)

    def to_parquet(
        self, target: Path | str, *, image_format: str = "png", force: bool = False, workers: int = 0
    ) -> UnpackReport:
        """Write a Parquet table as Hugging Face `datasets` has it. Arguments and errors are those of `to_webdataset`."""
        return self._written(target, "parquet", image_format, force, workers)

    def to_npz(self, target: Path | str, *, force: bool = False, workers: int = 0) -> UnpackReport:
        """Write a `.npz` file of images, labels and names. Arguments and errors are those of `to_webdataset`."""
        return self._written(target, "npz", "png", force, workers)

    def _written(self, target: Path | str, to: str, image_format: str, force: bool, workers: int) -> UnpackReport:
        options = UnpackOptions(to=to, force=force, workers=workers, format_options=FormatOptions(image_format=image_format))
        return unpack(self.where, target, options)


def open_archive(path: Path | str, *, cache_bytes: int = CACHE_BYTES, strict: bool = False, workers: int = 0) -> Archive:
    """An archive as a sequence of items: `[5]`, `["a/b.png"]`, `[10:20]`, `len`, iteration; use it in a `with` block.

    Args:
        path: the `.cpack` file.
        cache_bytes: decoded pixels to keep in memory.
        strict: decode whole groups only: then every pixel was compared with the digest from packing, in this process.
        workers: threads that `read` decodes with; 0 is one for each core.

    Raises:
        ArchiveError: it cannot be read.
    """
    return Archive(path, registry().restore, cache_bytes=cache_bytes, strict=strict, workers=workers)
