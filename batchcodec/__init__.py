"""batchcodec: the image archive that learns your dataset.

    import batchcodec

    batchcodec.pack("images", "out.cpack")
    with batchcodec.open("out.cpack") as archive:
        print(len(archive), archive[0].name, archive[0].pixels.shape)

Importing this package never imports torch.
"""

from batchcodec.archive.reader import Archive
from batchcodec.codec import Codec
from batchcodec.dataset import Format, FormatOptions
from batchcodec.errors import BatchcodecError
from batchcodec.hookspecs import hookimpl
from batchcodec.opening import open_archive as open
from batchcodec.pack import PackOptions, pack
from batchcodec.preprocess import Preprocess
from batchcodec.report import report
from batchcodec.types import Item
from batchcodec.unpack import UnpackOptions, unpack
from batchcodec.version import __version__

__all__ = [
    "Archive",
    "BatchcodecError",
    "Codec",
    "Format",
    "FormatOptions",
    "Item",
    "PackOptions",
    "Preprocess",
    "UnpackOptions",
    "__version__",
    "hookimpl",
    "open",
    "pack",
    "report",
    "unpack",
]
