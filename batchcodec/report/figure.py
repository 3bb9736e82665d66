"""A picture to look at: originals over reconstructions, as in figures 1 and 3 of the source paper."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from batchcodec.atomic import write_atomically
from batchcodec.errors import InputError, OutputError
from batchcodec.opening import open_archive
from batchcodec.registry import Registry, registry
from batchcodec.report.originals import Originals
from batchcodec.report.text import printable
from batchcodec.types import Pixels

CELL = 160
"""Side of a cell in pixels."""


def _thumbnail(pixels: Pixels) -> Pixels:
    """uint8 RGB that fits a cell; small images are magnified by a whole factor, so that their pixels can be seen."""
    from PIL import Image

    from batchcodec.preprocess import to_channels

    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    rgb = to_channels(pixels, 3)
    height, width = rgb.shape[:2]
    scale = CELL / max(height, width)
    if scale >= 1:
        factor = int(scale)
        return rgb.repeat(factor, axis=0).repeat(factor, axis=1)
    side = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(rgb).resize(side, Image.Resampling.LANCZOS))


def draw_figure(
    path: Path | str,
    against: Path | str,
    target: Path | str,
    *,
    n_items: int = 10,
    format_id: str | None = None,
    plugins: Registry | None = None,
) -> int:
    """Write a picture: a row of originals, reconstructions below, name and PSNR under each; how many items are shown.

    Items are taken at equal distances through the dataset. The suffix of `target` decides the kind of file, PNG or
    whatever else imageio writes.

    Raises:
        InputError: the dataset has none of the items.
        OutputError: the picture cannot be written.
    """
    import imageio.v3 as iio
    from imageio.config import known_extensions
    from PIL import Image, ImageDraw, ImageFont

    from batchcodec import metrics

    target = Path(target)
    if target.suffix.lower() not in known_extensions:
        raise OutputError(target, f"no picture has the suffix {target.suffix!r}; use .png, .jpg, .webp, .tiff ...")
    font = ImageFont.load_default(size=12)
    cells: list[tuple[Pixels, Pixels, str]] = []
    with open_archive(path) as archive:
        originals = Originals(archive, Path(against), format_id, plugins or registry())
        for index in np.unique(np.linspace(0, len(archive) - 1, min(n_items, len(archive))).round().astype(int)).tolist():
            decoded = archive[index]
            original = originals.find(index, decoded.name)
            if original is None or original.pixels.shape != decoded.pixels.shape:
                continue
            psnr = float(metrics.psnr(original.pixels[None], decoded.pixels[None])[0])
            name = printable(decoded.name.rsplit("/", 1)[-1])
            name = name if len(name) <= 22 else name[:10] + ".." + name[-10:]
            shown = f"{name}\n{psnr:.2f} dB" if np.isfinite(psnr) else f"{name}\nequal"
            cells.append((_thumbnail(original.pixels), _thumbnail(decoded.pixels), shown))
    if not cells:
        raise InputError(against, f"it has none of the items of {path}, in the size that was packed")
    gap, left, foot = 8, 96, 40
    sheet = Image.new("RGB", (left + len(cells) * (CELL + gap), 2 * (CELL + gap) + foot), "white")
    pen = ImageDraw.Draw(sheet)
    for row, text in enumerate(("original", "decoded")):
        pen.text((gap, gap + row * (CELL + gap) + CELL // 2 - 8), text, fill="black", font=font)
    for column, (original_pixels, decoded_pixels, caption) in enumerate(cells):
        x = left + column * (CELL + gap)
        for row, pixels in enumerate((original_pixels, decoded_pixels)):
            height, width = pixels.shape[:2]
            sheet.paste(Image.fromarray(pixels), (x + (CELL - width) // 2, gap + row * (CELL + gap) + (CELL - height) // 2))
        pen.multiline_text((x + 2, 2 * (CELL + gap) + 4), caption, fill="black", font=font, spacing=2)
    try:
        encoded: bytes = iio.imwrite("<bytes>", np.asarray(sheet), extension=target.suffix)
    except (OSError, ValueError) as exc:
        raise OutputError(target, f"no such kind of picture can be written: {exc}") from exc
    write_atomically(target, encoded)
    return len(cells)
