"""Targets: datasets from strangers. Image files, arrays, IDX files, tars."""

from __future__ import annotations

import base64
import gzip
import io
import tarfile
import zipfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np
from batchcodec_plugins.formats import FolderFormat, IdxFormat, NpyFormat, NpzFormat, TarFormat
from batchcodec_plugins.formats.encode import encode_image, output_suffix
from batchcodec_plugins.formats.pixels import count_frames, read_image
from helpers import picture
from PIL import Image, ImageCms

from batchcodec.dataset import Format, FormatOptions
from batchcodec.errors import BatchcodecError, InputError, ItemError
from batchcodec.names import unsafe_reason
from batchcodec.types import Item

from . import mutators
from .containers import file_with
from .oracle import Target

MAX_ITEMS = 8
"""Of a dataset, that are read: a claim of many may be true."""


def _check(item: Item) -> None:
    assert item.pixels.dtype in (np.uint8, np.uint16)
    assert item.pixels.ndim == 3
    assert item.pixels.size
    assert 1 <= item.pixels.shape[2] <= 4
    assert item.pixels.flags.c_contiguous


def read_dataset(kind: type[Format], path: Path) -> None:
    """The first and the last items of a dataset; one that is damaged says so, and the others go on."""
    assert kind.matches(path)
    items = kind(FormatOptions(metadata=True)).read(path)
    n = len(items)
    for index in (*range(min(n, MAX_ITEMS)), n - 1):
        if 0 <= index < n:
            try:
                item = items[index]
            except ItemError:
                continue
            _check(item)
            if kind is TarFormat:
                assert unsafe_reason(item.name) is None


# ---- image files


def read_picture(data: bytes) -> None:
    """The first frame and the last one, with metadata."""
    n_frames = count_frames(io.BytesIO(data))
    for frame in {None, n_frames - 1} if n_frames > 1 else {None}:
        decoded = read_image(Path("x"), "y", io.BytesIO(data), frame=frame, metadata=True)
        _check(Item("y", decoded.pixels))


def saved(mode: str, kind: str, size: tuple[int, int] = (9, 7), **options: object) -> bytes:
    """A picture of a mode in a format of Pillow."""
    base = Image.fromarray(picture((size[1], size[0], 4)), "RGBA")
    image = base if mode == "RGBA" else base.convert("RGB") if mode == "RGB" else base.convert("RGB").convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _pictures() -> Iterable[bytes]:
    for mode, kind in (
        ("RGB", "PNG"), ("P", "PNG"), ("1", "PNG"), ("RGBA", "PNG"), ("L", "JPEG"), ("RGB", "JPEG"), ("CMYK", "JPEG"),
        ("L", "TIFF"), ("RGB", "TIFF"), ("LAB", "TIFF"), ("P", "GIF"), ("RGB", "WEBP"), ("RGBA", "WEBP"), ("RGB", "BMP"),
        ("1", "PPM"), ("RGB", "PPM"), ("RGB", "JPEG2000"), ("L", "JPEG2000"), ("RGBA", "ICO"), ("P", "PCX"), ("RGB", "PCX"),
        ("RGB", "TGA"), ("RGB", "QOI"),
    ):  # fmt: skip
        yield saved(mode, kind)
    yield saved("RGB", "AVIF", speed=10)
    yield saved("RGB", "TIFF", compression="tiff_lzw")
    yield saved("1", "TIFF", compression="group4")
    exif = Image.Exif()
    exif[274] = 6
    yield saved("RGB", "JPEG", exif=exif)
    frames = [Image.fromarray(picture((5, 6), i)) for i in range(3)]
    for kind in ("GIF", "TIFF", "PNG", "WEBP"):
        buffer = io.BytesIO()
        frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
        yield buffer.getvalue()
    yield b"P6 3 2 65535\n" + picture((2, 3, 3), 0, "uint16").astype(">u2").tobytes()
    yield b"P2 2 2 1000\n1 2 3 999\n"
    yield from _deep_pictures()


def _deep_pictures() -> Iterable[bytes]:
    """16 bits a sample, where the packages for them are installed."""
    try:
        import imagecodecs
        import tifffile
    except ImportError:
        return
    colour = picture((5, 6, 3), 0, "uint16")
    yield bytes(imagecodecs.png_encode(colour))
    yield bytes(imagecodecs.jpeg2k_encode(colour, level=0, codecformat="jp2", reversible=True, numthreads=1))
    for options in ({"photometric": "rgb"}, {"photometric": "rgb", "planarconfig": "separate"}):
        shaped = colour if "planarconfig" not in options else np.moveaxis(colour, -1, 0)
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, shaped, metadata=None, software=None, datetime=None, **options)
        yield buffer.getvalue()
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, picture((5, 6), 0, "uint16"), photometric="miniswhite", metadata=None, compression="zlib")
    yield buffer.getvalue()


PICTURE = Target("image", read_picture, _pictures, (ItemError,), max_length=4096)


# ---- arrays


@cache
def _array(n: int = 3) -> np.ndarray:
    return np.stack([picture((5, 6), i) for i in range(n)])


def npy_bytes(array: np.ndarray, **options: bool) -> bytes:
    """A `.npy` file."""
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def npz_bytes(compressed: bool = False, **arrays: np.ndarray) -> bytes:
    """A `.npz` file without times."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), npy_bytes(array, allow_pickle=True))
    return buffer.getvalue()


def _arrays() -> Iterable[bytes]:
    yield npy_bytes(_array())
    yield npy_bytes(np.asfortranarray(_array()))
    yield npy_bytes(np.stack([picture((5, 6, 3), i, "uint16") for i in range(2)]))
    yield npy_bytes(np.moveaxis(np.stack([picture((5, 6, 3), i) for i in range(2)]), -1, 1))
    yield npy_bytes(_array() > 99)
    yield npy_bytes(_array().astype(">u2"))
    yield npy_bytes(np.array([{"a": 1}], object), allow_pickle=True)


def _npz_files() -> Iterable[bytes]:
    labels, names = np.arange(3), np.array(["a", "b", "ü"])
    yield npz_bytes(images=_array(), labels=labels, names=names)
    yield npz_bytes(True, images=_array(), labels=labels, names=names)
    yield npz_bytes(x_train=_array(), y_train=labels[:, None], other=np.float32([1]))
    yield npz_bytes(images=_array(), labels=np.array([b"x", b"\xff", b""]), names=np.array([1, None, "x"], object))


def _idx_files() -> Iterable[bytes]:
    plain = bytes((0, 0, 8, 3)) + b"".join(n.to_bytes(4, "big") for n in (3, 5, 6)) + _array().tobytes()
    yield plain
    yield gzip.compress(plain, mtime=0)
    yield bytes((0, 0, 8, 4)) + b"".join(n.to_bytes(4, "big") for n in (1, 5, 6, 3)) + picture((5, 6, 3)).tobytes()


def tar_bytes(members: Iterable[tuple[str, bytes]], *, compress: bool = False, kind: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar of files, of as few blocks as may be."""
    out = b""
    for name, data in members:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        out += info.tobuf(kind, "utf-8", "surrogateescape") + data + bytes(-len(data) % 512)
    out += bytes(1024)
    return gzip.compress(out, mtime=0) if compress else out


def _tars() -> Iterable[bytes]:
    png = saved("L", "PNG")
    members = [("a/x.png", png), ("a/x.cls", b"3"), ("a/x.json", b'{"k":[1],"label":"l"}'), ("b/y.jpg", saved("L", "JPEG"))]
    yield tar_bytes(members[:3])
    yield tar_bytes(members, compress=True)
    yield tar_bytes([("ü" * 120 + ".png", png), ("../up.png", png)])
    yield tar_bytes([("n" * 120 + ".png", png)], kind=tarfile.GNU_FORMAT)
    links = b""
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.GNUTYPE_SPARSE):
        info = tarfile.TarInfo("l.png")
        info.type, info.linkname = kind, "/etc/passwd"
        links += info.tobuf(tarfile.GNU_FORMAT)
    yield links + tar_bytes([("c.png", png)])


NPY = Target("npy", lambda data: read_dataset(NpyFormat, file_with(data, "x.npy")), _arrays, (InputError,))
NPZ = Target("npz", lambda data: read_dataset(NpzFormat, file_with(data, "x.npz")), _npz_files, (InputError,), mutators.zipped)
IDX = Target("idx", lambda data: read_dataset(IdxFormat, file_with(data, "x.idx")), _idx_files, (InputError,))
TAR = Target("tar", lambda data: read_dataset(TarFormat, file_with(data, "x.tar")), _tars, (InputError,), mutators.tar)


def read_folder(data: bytes) -> None:
    """One file of a folder: byte 0 chooses its suffix."""
    suffix = ("png", "jpg", "tif", "webp", "gif", "jp2", "ppm", "ico")[(data + b"\0")[0] % 8]
    folder = file_with(b"", "folder.txt").with_name("folder")
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    (folder / f"a.{suffix}").write_bytes(data[1:])
    read_dataset(FolderFormat, folder)


# ---- writing: what an archive from a stranger brings along goes into image files


def write_picture(data: bytes) -> None:
    """Byte 0 chooses the suffix, byte 1 the pixels; then EXIF, ICC and a name, parted by 0xff 0xff, as attributes hold them."""
    which, kind = (data + b"\0\0")[:2]
    shape = (3, 4, 1 + kind % 4)
    pixels = picture(shape, kind, "uint16" if kind & 4 else "uint8")
    exif, icc, name = (data[2:].split(b"\xff\xff", 2) + [b""] * 3)[:3]
    attributes = {key: base64.b64encode(value).decode() for key, value in (("exif", exif), ("icc", icc)) if value}
    if kind & 8:
        attributes = {"exif": exif.decode("latin-1"), "icc": icc.decode("latin-1")}
    suffix = _SUFFIXES[which % len(_SUFFIXES)]
    item = Item(name.decode("utf-8", "replace").replace("\0", "x")[:99] + suffix, pixels, None, attributes)
    suffix = output_suffix(item, "keep")
    encoded = encode_image(item, suffix)
    decoded = read_image(Path("x"), "y", io.BytesIO(encoded), metadata=True)
    assert suffix.lower() in (".jpg", ".jpeg") or np.array_equal(decoded.pixels, pixels), "other pixels were written"


_SUFFIXES = (".png", ".jpg", ".webp", ".bmp", ".tif", ".ppm", ".pgm", ".x")


def _written() -> Iterable[bytes]:
    exif = Image.Exif()
    exif[274], exif[271] = 6, "maker"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    for which in range(len(_SUFFIXES)):
        for kind in (0, 2, 4, 6, 10):
            yield bytes([which, kind]) + exif.tobytes() + b"\xff\xff" + profile[:60] + b"\xff\xffname"


WRITTEN = Target("written", write_picture, _written, (BatchcodecError,), max_length=512)

FOLDER = Target("folder", read_folder, lambda: [bytes([i]) + d for i, d in enumerate(_pictures()) if i % 5 == 0], (InputError,))
