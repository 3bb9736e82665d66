"""The figures of a report are those that come out when they are computed anew from the pixels."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import RunCli, picture
from PIL import Image

import batchcodec
from batchcodec import metrics
from batchcodec.errors import ArchiveError, InputError
from batchcodec.report.measured import ItemTable, summarise
from batchcodec.types import ImageSpec


def _read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(float)


def test_figures_are_those_of_the_pixels(rgb_archive: tuple[Path, Path]) -> None:
    source, archive = rgb_archive
    found = batchcodec.report(archive, source)
    quality = found.quality
    assert quality is not None
    errors: dict[str, float] = {}
    labels = defaultdict(list)
    largest = 0.0
    with batchcodec.open(archive) as opened:
        for item in opened:
            difference = _read(source / item.name) - item.pixels
            errors[item.name] = float((difference**2).mean())
            largest = max(largest, np.abs(difference).max())
            labels[item.label].append(10 * np.log10(255**2 / errors[item.name]))
    psnr = {name: 10 * np.log10(255**2 / mse) for name, mse in errors.items()}
    assert [item.name for item in found.items] == list(errors)
    assert [item.psnr for item in found.items] == pytest.approx(list(psnr.values()))
    assert [item.mse for item in found.items] == pytest.approx(list(errors.values()))
    values = list(psnr.values())
    assert quality.mean_psnr == pytest.approx(np.mean(values))
    assert quality.median_psnr == pytest.approx(np.median(values))
    assert quality.p5_psnr == pytest.approx(np.percentile(values, 5))
    assert quality.min_psnr == pytest.approx(min(values))
    assert quality.pooled_psnr == pytest.approx(10 * np.log10(255**2 / np.mean(list(errors.values()))))
    assert quality.mean_mse == pytest.approx(np.mean(list(errors.values())))
    assert quality.max_error == largest
    assert (quality.n_items, quality.n_equal, quality.missing) == (6, 0, [])
    assert [(x.label, x.n_items) for x in quality.labels] == [("cat", 3), ("dog", 3)]
    assert [x.mean_psnr for x in quality.labels] == pytest.approx([np.mean(labels["cat"]), np.mean(labels["dog"])])
    assert [item.name for item in quality.worst] == sorted(psnr, key=lambda name: psnr[name])


def test_what_was_recorded_when_packing_is_what_is_measured(rgb_archive: tuple[Path, Path]) -> None:
    found = batchcodec.report(rgb_archive[1], rgb_archive[0])
    assert found.quality is not None
    assert found.info.meta["mean_psnr"] == pytest.approx(found.quality.mean_psnr, abs=1e-4)
    assert found.info.meta["pooled_psnr"] == pytest.approx(found.quality.pooled_psnr, abs=1e-4)


def test_sizes_are_those_of_the_file(rgb_archive: tuple[Path, Path]) -> None:
    source, archive = rgb_archive
    info = batchcodec.report(archive).info
    n_bytes = archive.stat().st_size
    assert info.n_bytes == info.bytes.total == n_bytes
    assert info.source_bytes == sum(p.stat().st_size for p in source.rglob("*.png"))
    assert info.raw_bytes == 6 * 24 * 32 * 3
    assert info.n_pixels == 6 * 24 * 32
    assert info.bits_per_pixel == pytest.approx(8 * n_bytes / info.n_pixels)
    assert info.ratio_to_raw == pytest.approx(info.raw_bytes / n_bytes)
    assert info.bytes_per_item == pytest.approx(n_bytes / 6)
    assert sum(codec.payload_bytes for codec in info.codecs) == info.bytes.payload
    assert info.shapes == {"32x24 RGB": 6}


def test_only_the_files_that_were_packed_count_as_the_source(pictures: Path, tmp_path: Path) -> None:
    packed = sum(p.stat().st_size for p in pictures.rglob("*.*") if p.suffix in (".png", ".jpg"))
    (pictures / "large.txt").write_bytes(bytes(100_000))
    (pictures / "bad.png").write_bytes(bytes(100_000))
    options = batchcodec.PackOptions(codec="zstd", on_error="skip")
    assert batchcodec.pack(pictures, tmp_path / "a.cpack", options).source_bytes == packed
    assert batchcodec.report(tmp_path / "a.cpack").info.source_bytes == packed


def test_the_frames_of_a_file_are_no_files(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    first, *others = (Image.fromarray(picture((9, 9), i)) for i in range(3))
    first.save(tmp_path / "source" / "a.gif", save_all=True, append_images=others)
    options = batchcodec.PackOptions(codec="zstd", format_options=batchcodec.FormatOptions(frames="all"))
    found = batchcodec.pack(tmp_path / "source", tmp_path / "a.cpack", options)
    assert found.n_items == 3
    assert found.source_bytes == (tmp_path / "source" / "a.gif").stat().st_size


def test_a_lossless_archive(pictures: Path, tmp_path: Path) -> None:
    batchcodec.pack(pictures, tmp_path / "a.cpack", batchcodec.PackOptions(codec="zstd"))
    found = batchcodec.report(tmp_path / "a.cpack", pictures)
    quality = found.quality
    assert quality is not None
    assert (quality.n_equal, quality.n_items, quality.max_error) == (11, 11, 0)
    assert quality.mean_psnr == quality.pooled_psnr == metrics.LOSSLESS_PSNR
    assert quality.mean_ssim == pytest.approx(1)
    assert len(found.info.shapes) == 5


def test_preprocessing_is_done_to_the_originals_too(pictures: Path, tmp_path: Path) -> None:
    options = batchcodec.PackOptions(codec="zstd", preprocess=batchcodec.Preprocess((16, 12), "lanczos", "crop", "rgb"))
    batchcodec.pack(pictures, tmp_path / "a.cpack", options)
    quality = batchcodec.report(tmp_path / "a.cpack", pictures).quality
    assert quality is not None
    assert quality.n_equal == 11


def test_missing_and_changed_items_are_listed(pictures: Path, tmp_path: Path) -> None:
    batchcodec.pack(pictures, tmp_path / "a.cpack", batchcodec.PackOptions(codec="zstd"))
    (pictures / "cat" / "0.png").unlink()
    (pictures / "cat" / "1.png").write_bytes(b"damaged")
    Image.fromarray(picture((4, 4))).save(pictures / "cat" / "2.png")  # of another size now
    Image.fromarray(picture((4, 4))).save(pictures / "aaa.png")  # shifts the places of all
    found = batchcodec.report(tmp_path / "a.cpack", pictures)
    assert found.quality is not None
    assert found.quality.missing == ["cat/0.png", "cat/1.png", "cat/2.png"]
    assert found.quality.n_items == found.quality.n_equal == 8
    (tmp_path / "other").mkdir()
    Image.fromarray(picture((4, 4))).save(tmp_path / "other" / "x.png")
    with pytest.raises(InputError, match="none of the 11 items"):
        batchcodec.report(tmp_path / "a.cpack", tmp_path / "other")


def test_skipped_items_do_not_shift_the_others(pictures: Path, tmp_path: Path) -> None:
    (pictures / "cat" / "1.png").write_bytes(b"damaged")
    batchcodec.pack(pictures, tmp_path / "a.cpack", batchcodec.PackOptions(codec="zstd", on_error="skip"))
    quality = batchcodec.report(tmp_path / "a.cpack", pictures).quality
    assert quality is not None
    assert (quality.n_equal, quality.missing) == (10, [])


def test_8_and_16_bits_pool_by_their_own_peaks(tmp_path: Path) -> None:
    def items(*found: tuple[float, int]) -> ItemTable:
        n = len(found)
        ones, whole = np.ones(n), np.ones(n, np.int64)
        specs = [ImageSpec(side, side, 1, "uint16" if side == 20 else "uint8") for _, side in found]
        psnr = np.array([psnr for psnr, _ in found])
        return ItemTable(np.arange(n), ["a"] * n, [], -whole, specs, np.arange(n), psnr, ones, ones, whole, ones)

    pooled = summarise(items((30, 10), (40, 20)), []).pooled_psnr
    assert pooled == pytest.approx(-10 * np.log10((1e-3 * 100 + 1e-4 * 400) / 500))
    assert summarise(items((np.inf, 4)), []).pooled_psnr == metrics.LOSSLESS_PSNR


def test_a_record_of_preprocessing_that_makes_no_sense(tmp_path: Path, rgb_archive: tuple[Path, Path]) -> None:
    from batchcodec.archive.writer import ArchiveWriter

    with batchcodec.open(rgb_archive[1]) as good:
        rows, codecs = list(good.rows), good.codecs
        heads = [good.group_head(g) for g in range(good.n_groups)]
        bodies = [good._blocks.body(good._groups.entries[g]) for g in range(good.n_groups)]
    for record in ({"size": "huge"}, {"mode": "pink"}, "text", {"fit": []}):
        with (tmp_path / "a.cpack").open("wb") as file:
            writer = ArchiveWriter(file)
            writer.add_meta({"preprocess": record, "format_options": [1]})
            for codec in codecs.values():
                writer.add_codec(codec)
            for g, (head, body) in enumerate(zip(heads, bodies, strict=True)):
                writer.add_group(head, body[head.n_bytes :], rows[2 * g : 2 * g + 2])
            writer.finish()
        with pytest.raises(ArchiveError, match="preprocessing"):
            batchcodec.report(tmp_path / "a.cpack", rgb_archive[0])


@pytest.mark.parametrize(
    "meta",
    [
        {"source_bytes": 0, "skipped": 3, "n_skipped": [1], "lossless": "yes"},
        {"source_bytes": -7, "mean_psnr": {}, "format_options": {"frames": [], "key": {"a": 1}, "metadata": "x", "other": 1}},
        {"source_bytes": 10**400, "mean_psnr": None, "format_options": None},
        {"source_bytes": True, "mean_psnr": "\x1b[2J"},
    ],
    ids=str,
)
def test_a_record_from_a_stranger(meta: dict[str, Any], tmp_path: Path, invoke: RunCli) -> None:
    from batchcodec_plugins.codecs import StoreCodec

    from batchcodec.archive import digest
    from batchcodec.archive.directory import Row
    from batchcodec.archive.wire import CodecRecord, GroupHead
    from batchcodec.archive.writer import ArchiveWriter
    from batchcodec.types import GroupSpec

    images = picture((8, 8, 1))[None]
    np.save(tmp_path / "x.npy", images)
    with (tmp_path / "a.cpack").open("wb") as file:
        writer = ArchiveWriter(file)
        writer.add_meta(meta)
        codec = writer.add_codec(CodecRecord("store", StoreCodec().get_config(), b"", True, None))
        head = GroupHead(codec, GroupSpec.of(images), digest.digest(images), ())
        writer.add_group(head, StoreCodec().encode(images), [Row(0, "000000.png", None, {})])
        writer.finish()
    for command in (["info"], ["report"], ["report", "--against", tmp_path / "x.npy"]):
        for option in ([], ["--json"]):
            done = invoke(*command, tmp_path / "a.cpack", *option)
            assert done.rc == 0, done
            assert "\x1b" not in done.stdout


def test_csv(rgb_archive: tuple[Path, Path], invoke: RunCli, tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    assert invoke("report", rgb_archive[1], "--against", rgb_archive[0], "--csv", path, "-q").rc == 0
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    items = batchcodec.report(rgb_archive[1], rgb_archive[0]).items
    assert [row["name"] for row in rows] == [item.name for item in items]
    assert [float(row["psnr"]) for row in rows] == [item.psnr for item in items]
    assert [row["label"] for row in rows] == ["cat"] * 3 + ["dog"] * 3
    assert list(rows[0]) == [
        "index",
        "name",
        "label",
        "width",
        "height",
        "channels",
        "psnr",
        "ssim",
        "max_error",
        "mse",
        "ms_ssim",
    ]


def test_text(rgb_archive: tuple[Path, Path], invoke: RunCli) -> None:
    done = invoke("report", rgb_archive[1], "--against", rgb_archive[0])
    quality = batchcodec.report(rgb_archive[1], rgb_archive[0]).quality
    assert quality is not None
    assert f"mean {quality.mean_psnr:.2f} dB, pooled {quality.pooled_psnr:.2f}" in done.stdout
    assert f"{quality.mean_ssim:.4f}" in done.stdout
    assert "cat" in done.stdout
