"""batchcodec: the image archive that learns your dataset.

    import batchcodec

    batchcodec.pack("images", "out.cpack")
    with batchcodec.open("out.cpack") as archive:
        print(len(archive), archive[0].name, archive[0].pixels.shape)

Importing this package never imports torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

from batchcodec.codec import Codec
from batchcodec.dataset import Format, FormatOptions
from batchcodec.errors import BatchcodecError
from batchcodec.hookspecs import hookimpl
from batchcodec.opening import Archive
from batchcodec.opening import open_archive as open
from batchcodec.pack import PackOptions, pack
from batchcodec.preprocess import Preprocess
from batchcodec.report import report
from batchcodec.selection import Selection
from batchcodec.types import Item
from batchcodec.unpack import UnpackOptions, unpack
from batchcodec.version import __version__

if TYPE_CHECKING:
    from batchcodec.checking.repair import repair
    from batchcodec.checking.verify import verify
    from batchcodec.copying.combine import append, merge
    from batchcodec.copying.divide import extract, split

__all__ = [
    "Archive",
    "BatchcodecError",
    "Codec",
    "Format",
    "FormatOptions",
    "Item",
    "PackOptions",
    "Preprocess",
    "Selection",
    "UnpackOptions",
    "__version__",
    "append",
    "extract",
    "hookimpl",
    "merge",
    "open",
    "pack",
    "repair",
    "report",
    "split",
    "unpack",
    "verify",
]

_WHEN_ASKED = {
    "append": "copying.combine",
    "extract": "copying.divide",
    "merge": "copying.combine",
    "repair": "checking.repair",
    "split": "copying.divide",
    "verify": "checking.verify",
}
"""Where names are that are seldom wanted: importing the package must not take the time to import these."""


def __getattr__(name: str) -> Any:
    if name in _WHEN_ASKED:
        return getattr(importlib.import_module(f"batchcodec.{_WHEN_ASKED[name]}"), name)
    raise AttributeError(f"module 'batchcodec' has no attribute {name!r}")
