"""Ways to store many small pictures, written and read alike: image files, arrays, and the formats of other libraries.

A `Peer` writes uint8 [N, H, W, C] to a folder and reads them back. What has random access gives items by index; what has not is
a stream. All that hold JPEG hold the very same JPEG files, as Pillow writes them (4:2:0, no optimised tables), and are decoded
by Pillow unless their name says otherwise. The libraries are optional:

    pip install simplejpeg webdataset datasets mosaicml-streaming zarr imagecodecs-numcodecs compressai
"""

from __future__ import annotations

import importlib
import io
import itertools
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image

from batchcodec.types import Pixels

N_SHARDS = 8
MOSAIC = 16
"""Images on a side of a mosaic: 256 of them, as our groups have."""


def load(name: str) -> Any:
    """A module of another library; ModuleNotFoundError if it, or what it needs, is not installed."""
    if name.partition(".")[0] in ("streaming", "compressai"):
        _import_torchvision()
    return importlib.import_module(name)


def _import_torchvision() -> None:
    """Both import it, and use no operator of it here: those PyPI's wheel, built for CUDA, lacks beside a CPU build of torch."""
    if find_spec("torchvision") is None:
        return
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        with mock.patch("torch.library.register_fake", return_value=lambda function: function):
            importlib.import_module("torchvision")


# ---- JPEG


def encode_jpeg(image: Pixels, quality: int) -> bytes:
    """uint8 [H, W, C] to a JPEG file."""
    buffer = io.BytesIO()
    Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def decode_pillow(data: bytes) -> Pixels:
    """An image file to uint8 [H, W, C]."""
    return _with_channels(np.asarray(Image.open(io.BytesIO(data))))


def _with_channels(array: Pixels) -> Pixels:
    """[H, W] or [H, W, C] to [H, W, C]."""
    return array[:, :, None] if array.ndim == 2 else array


def decode_simplejpeg(data: bytes) -> Pixels:
    """The same by libjpeg-turbo without Pillow."""
    simplejpeg = load("simplejpeg")
    gray = simplejpeg.decode_jpeg_header(data)[2] == "Gray"
    array: Pixels = simplejpeg.decode_jpeg(data, colorspace="GRAY" if gray else "RGB")
    return array


# ---- the peers

Write = Callable[[Path, Pixels, int], None]
"""Writes uint8 [N, H, W, C] to an empty folder, with one process, at a quality."""
Items = Callable[[Path], Sequence[Pixels]]
"""Opens a folder: items by index, uint8 [H, W, C]."""
Stream = Callable[[Path, int, int, bool], Iterator[Pixels]]
"""Items, or batches of them [n, H, W, C], of one of some equal parts: folder, part, number of parts, whether shuffled."""


@dataclass(frozen=True)
class Peer:
    """One way to store pictures.

    Attributes:
        title: in tables.
        write: see above.
        items: where there is random access, else None.
        stream: where there is none.
        module: what has to be installed.
        parallel: whether one process reads with all cores, or cannot read parts; else several processes are used.
        lossless: whether there is no quality.
    """

    title: str
    write: Write
    items: Items | None = None
    stream: Stream | None = None
    module: str | None = None
    parallel: bool = False
    lossless: bool = False


class Lazy(Sequence[Pixels]):
    """Items that a function reads."""

    def __init__(self, n_items: int, read: Callable[[int], Pixels]) -> None:
        self._n_items, self._read = n_items, read

    def __len__(self) -> int:
        return self._n_items

    def __getitem__(self, index: Any) -> Any:
        return self._read(int(index))


def write_files(folder: Path, images: Pixels, quality: int) -> None:
    for i, image in enumerate(images):
        (folder / f"{i:06}.jpg").write_bytes(encode_jpeg(image, quality))


def files_with(decode: Callable[[bytes], Pixels]) -> Items:
    def opened(folder: Path) -> Sequence[Pixels]:
        files = sorted(folder.glob("*.jpg"))
        return Lazy(len(files), lambda i: decode(files[i].read_bytes()))

    return opened


def write_npz(folder: Path, images: Pixels, quality: int) -> None:
    np.savez_compressed(folder / "images.npz", images=images)


def stream_npz(folder: Path, part: int, n_parts: int, shuffle: bool) -> Iterator[Pixels]:
    with np.load(folder / "images.npz") as content:
        yield content["images"]


def _shards(n_images: int) -> Iterator[tuple[int, int, int]]:
    """Number, start and stop of each."""
    bounds = np.linspace(0, n_images, N_SHARDS + 1).astype(int).tolist()
    return ((i, start, stop) for i, (start, stop) in enumerate(itertools.pairwise(bounds)))


def write_tar(folder: Path, images: Pixels, quality: int) -> None:
    for shard, start, stop in _shards(len(images)):
        with tarfile.open(folder / f"{shard:03}.tar", "w") as tar:
            for i in range(start, stop):
                data = encode_jpeg(images[i], quality)
                member = tarfile.TarInfo(f"{i:06}.jpg")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def stream_tar(folder: Path, part: int, n_parts: int, shuffle: bool) -> Iterator[Pixels]:
    for shard in sorted(folder.glob("*.tar"))[part::n_parts]:
        with tarfile.open(shard) as tar:
            for member in tar:
                file = tar.extractfile(member)
                if file is not None:
                    yield decode_pillow(file.read())


def write_webdataset(folder: Path, images: Pixels, quality: int) -> None:
    wds = load("webdataset")
    for shard, start, stop in _shards(len(images)):
        with wds.TarWriter(str(folder / f"{shard:03}.tar")) as writer:
            for i in range(start, stop):
                writer.write({"__key__": f"{i:06}", "jpg": encode_jpeg(images[i], quality), "cls": 0})


def stream_webdataset(folder: Path, part: int, n_parts: int, shuffle: bool) -> Iterator[Pixels]:
    shards = sorted(map(str, folder.glob("*.tar")))[part::n_parts]
    samples = load("webdataset").WebDataset(shards, shardshuffle=len(shards) if shuffle else False, empty_check=False)
    if shuffle:
        samples = samples.shuffle(1000)
    return (decode_pillow(sample["jpg"]) for sample in samples)


def write_parquet(folder: Path, images: Pixels, quality: int) -> None:
    datasets = load("datasets")
    datasets.disable_progress_bars()
    rows = [{"bytes": encode_jpeg(image, quality), "path": None} for image in images]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int32")})
    table = datasets.Dataset.from_dict({"image": rows, "label": [0] * len(rows)}, features=features)
    table.to_parquet(str(folder / "images.parquet"))


def items_parquet(folder: Path) -> Sequence[Pixels]:
    datasets = load("datasets")
    datasets.disable_progress_bars()
    cache = folder.with_name(folder.name + "-cache")
    table = datasets.Dataset.from_parquet(str(folder / "images.parquet"), cache_dir=str(cache))
    return Lazy(len(table), lambda i: _with_channels(np.asarray(table[i]["image"])))


def write_mds(folder: Path, images: Pixels, quality: int) -> None:
    with load("streaming").MDSWriter(out=str(folder), columns={"image": "bytes", "label": "int"}) as writer:
        for image in images:
            writer.write({"image": encode_jpeg(image, quality), "label": 0})


def items_mds(folder: Path) -> Sequence[Pixels]:
    streaming = load("streaming")
    streaming.base.util.clean_stale_shared_memory()
    table = streaming.StreamingDataset(local=str(folder), shuffle=False, batch_size=256)
    return Lazy(table.num_samples, lambda i: decode_pillow(table[i]["image"]))


def _zarr_array(folder: Path, images: Pixels, side: int, codec: Any) -> None:
    """Write pictures one below the other, uint8 [N * side, W] or [N * side, W, 3], each a chunk."""
    load("imagecodecs.numcodecs").register_codecs(verbose=False)
    array = load("zarr").create_array(
        str(folder / "images.zarr"),
        shape=images.shape,
        chunks=(side, *images.shape[1:]),
        dtype="u1",
        zarr_format=2,
        filters=None,
        compressors=codec,
    )
    array[:] = images


def _zarr_opened(folder: Path) -> Any:
    load("imagecodecs.numcodecs").register_codecs(verbose=False)
    return load("zarr").open_array(str(folder / "images.zarr"), mode="r")


def write_zarr_jpeg(folder: Path, images: Pixels, quality: int) -> None:
    side, channels = images.shape[1], images.shape[3]
    flat = images.reshape(-1, *images.shape[2:])
    codec = load("imagecodecs.numcodecs").Jpeg(level=quality)
    _zarr_array(folder, flat[..., 0] if channels == 1 else flat, side, codec)  # an axis of length 1 is no picture to it


def items_zarr_jpeg(folder: Path) -> Sequence[Pixels]:
    array = _zarr_opened(folder)
    side = array.chunks[0]
    return Lazy(array.shape[0] // side, lambda i: _with_channels(array[i * side : (i + 1) * side]))


def write_zarr_avif(folder: Path, images: Pixels, quality: int) -> None:
    """Mosaics of 256 images, what our own AVIF mosaics are."""
    height, width, channels = images.shape[1:]
    n = -(-len(images) // MOSAIC**2) * MOSAIC**2
    padded = np.concatenate([images, np.repeat(images[-1:], n - len(images), axis=0)])
    tiles = padded.reshape(-1, MOSAIC, MOSAIC, height, width, channels).transpose(0, 1, 3, 2, 4, 5)
    mosaics = tiles.reshape(-1, MOSAIC * width, channels)
    if channels == 1:  # the codec takes a gray picture for one to be kept without loss
        mosaics = np.repeat(mosaics, 3, axis=2)
    _zarr_array(folder, mosaics, MOSAIC * height, load("imagecodecs.numcodecs").Avif(level=quality, speed=4, numthreads=1))
    (folder / "shape").write_text(",".join(map(str, images.shape)))


def stream_zarr_avif(folder: Path, part: int, n_parts: int, shuffle: bool) -> Iterator[Pixels]:
    array = _zarr_opened(folder)
    n, height, width, channels = map(int, (folder / "shape").read_text().split(","))
    side = array.chunks[0]
    step = 4 * side  # four chunks at a time, which zarr decodes side by side
    for start in range(0, array.shape[0], step):
        block = array[start : start + step][..., :channels]
        tiles = block.reshape(-1, MOSAIC, height, MOSAIC, width, channels).transpose(0, 1, 3, 2, 4, 5)
        yield tiles.reshape(-1, height, width, channels)[: n - start // side * MOSAIC**2]


PEERS = {
    "jpeg-files": Peer("JPEG files, Pillow", write_files, items=files_with(decode_pillow)),
    "jpeg-simplejpeg": Peer("JPEG files, simplejpeg", write_files, items=files_with(decode_simplejpeg), module="simplejpeg"),
    "tar": Peer("tar of JPEG, tarfile", write_tar, stream=stream_tar),
    "webdataset": Peer("WebDataset, JPEG", write_webdataset, stream=stream_webdataset, module="webdataset"),
    "huggingface": Peer("Hugging Face datasets, Parquet of JPEG", write_parquet, items=items_parquet, module="datasets"),
    "mds": Peer("MosaicML Streaming, JPEG", write_mds, items=items_mds, module="streaming"),
    "zarr-jpeg": Peer("Zarr, a JPEG a chunk", write_zarr_jpeg, items=items_zarr_jpeg, module="zarr"),
    "zarr-avif": Peer("Zarr, AVIF mosaics of 256", write_zarr_avif, stream=stream_zarr_avif, module="zarr", parallel=True),
    "npz": Peer(".npz, deflate", write_npz, stream=stream_npz, parallel=True, lossless=True),
}
NOT_HERE = {"ffcv": "FFCV"}
"""Looked for, and no more: its last release, of 2023, needs OpenCV's and libjpeg-turbo's sources to install."""
