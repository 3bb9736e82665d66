"""One real archive to one point: packed, read back, and compared with what went in."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from batchcodec import metrics
from batchcodec.comparing.curves import Point
from batchcodec.dataset import FormatOptions
from batchcodec.errors import BatchcodecError
from batchcodec.opening import open_archive
from batchcodec.pack import PackOptions, pack
from batchcodec.preprocess import Preprocess
from batchcodec.registry import Registry
from batchcodec.types import Pixels

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Subject:
    """Images and where to pack them from.

    Attributes:
        path: what `pack` reads.
        images: what it codes, uint8 or uint16 [H, W, C] each, in the same order.
        preprocess: from the one to the other.
        group_items: images of a group; None is the library's choice.
        format: of the dataset; by default recognised.
        format_options: how it is read.
        plugins: where codecs and formats are found; one that reads a sample makes that sample the subject.
    """

    path: Path
    images: Sequence[Pixels]
    preprocess: Preprocess = field(default_factory=Preprocess)
    group_items: int | None = None
    format: str | None = None
    format_options: FormatOptions = field(default_factory=FormatOptions)
    plugins: Registry | None = None

    @property
    def n_pixels(self) -> int:
        """Of all images together."""
        return sum(image.shape[0] * image.shape[1] for image in self.images)


def measure(
    subject: Subject,
    text: str,
    model: Path | None = None,
    *,
    codec: str = "",
    setting: str = "",
    workers: int = 1,
    structural: bool = False,
    clock: Callable[[], float] = time.perf_counter,
    folder: Path | None = None,
) -> Point:
    """Pack a subject, read all of it back, and measure.

    Args:
        subject: what to pack.
        text: codec text.
        model: for codecs that take one.
        codec: what the curve is called; by default the codec's id, with "mosaic" where it makes them.
        setting: what the point is called; by default the options of the text.
        workers: groups coded at once.
        structural: measure SSIM and MS-SSIM too.
        clock: of decoding, in seconds.
        folder: where the archive is for the moment; by default the system's folder for such files.

    Raises:
        InputError, CodecError, OptionError: see `batchcodec.pack`.
    """
    name, _, options = text.partition(":")
    with tempfile.TemporaryDirectory(prefix="batchcodec-compare-", dir=folder) as inside:
        target = Path(inside, "out.cpack")
        settings = PackOptions(
            codec=text,
            model=model,
            preprocess=subject.preprocess,
            group_items=subject.group_items,
            format=subject.format,
            format_options=subject.format_options,
            workers=workers,
        )
        packed = pack(subject.path, target, settings, plugins=subject.plugins)
        n_bytes = target.stat().st_size
        found, decode_seconds = _decoded(target, subject, structural, clock)
    if packed.bytes.total != n_bytes or packed.n_items != len(subject.images):
        raise BatchcodecError(
            f"{text}: {n_bytes} bytes and {packed.n_items} items, expected {packed.bytes.total} and {len(subject.images)}; "
            f"was {subject.path} changed in the meantime?"
        )
    samples = np.array([image.size for image in subject.images])
    without_weights = n_bytes - packed.bytes.model
    pooled = float(metrics.psnr_of_mse(np.array([(found.error * samples).sum() / samples.sum()]), 1.0)[0])
    return Point(
        codec=codec or name + (" mosaic" if "mosaic=true" in options else ""),
        setting=setting or options.replace(",mosaic=true", ""),
        n_items=packed.n_items,
        bytes_per_item=without_weights / packed.n_items,
        weight_bytes=packed.bytes.model,
        bits_per_pixel=8 * without_weights / subject.n_pixels,
        mean_psnr=metrics.mean_psnr(metrics.psnr_of_mse(found.error, 1.0)),
        pooled_psnr=min(pooled, metrics.LOSSLESS_PSNR),
        encode_seconds=packed.seconds.encode,
        decode_seconds=decode_seconds,
        mean_ssim=float(found.ssim.mean()) if structural else None,
        mean_ms_ssim=float(found.ms_ssim.mean()) if structural else None,
    )


@dataclass(frozen=True)
class _Found:
    """Of each item [N]: the MSE as a part of the peak's square, and where they were asked for SSIM and MS-SSIM."""

    error: Floats
    ssim: Floats
    ms_ssim: Floats


def _decoded(path: Path, subject: Subject, structural: bool, clock: Callable[[], float]) -> tuple[_Found, float]:
    """What the archive decodes to, measured, and the seconds of decoding by the clock."""
    found = _Found(*(np.full(len(subject.images), np.nan) for _ in range(3)))
    seconds = 0.0
    with open_archive(path) as archive:
        groups = archive.groups()
        while True:
            started = clock()
            group = next(groups, None)
            seconds += clock() - started
            if group is None:
                return found, seconds
            for index, item in group:
                original, decoded = subject.images[index][None], item.pixels[None]
                peak = float(np.iinfo(original.dtype).max)
                if structural:
                    measures = metrics.measure(original, decoded)
                    found.ssim[index], found.ms_ssim[index] = measures.ssim[0], measures.ms_ssim[0]
                    found.error[index] = measures.mse[0] / peak**2
                else:
                    found.error[index] = metrics.mse(original, decoded)[0] / peak**2
