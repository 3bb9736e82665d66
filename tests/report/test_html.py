"""The pages, tables and JSON that `report` writes. What a browser makes of the page: tests/browser."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import RunCli, picture
from PIL import Image

import batchcodec
from batchcodec.report.markdown import plain
from batchcodec.report.measured import ItemTable
from batchcodec.report.originals import Originals
from batchcodec.report.recorded import rate_curves, rate_point
from batchcodec.report.samples import decoded_samples, measured_samples, within, worst_place

SCHEMA = Path(__file__).parents[2] / "docs" / "report.schema.json"


def _decoded(address: str) -> np.ndarray:
    assert address.startswith("data:image/png;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))))


@pytest.fixture
def mixed(pictures: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Five shapes, 8 and 16 bits, alpha; AVIF, and JPEG XL where AVIF cannot."""
    batchcodec.pack(pictures, tmp_path / "mixed.cpack", batchcodec.PackOptions(codec="jpeg:quality=30", on_error="skip"))
    return pictures, tmp_path / "mixed.cpack"


def test_samples_are_the_pixels(rgb_archive: tuple[Path, Path]) -> None:
    source, archive = rgb_archive
    items = batchcodec.report(archive, source).items
    assert isinstance(items, ItemTable)
    samples = measured_samples(archive, source, items, n_each=2)
    assert [s.kind for s in samples] == ["worst", "worst", "median", "median", "best", "best"]
    assert len({s.name for s in samples}) == 6
    psnr = [s.quality.psnr for s in samples if s.quality]
    assert psnr[:4] == sorted(psnr)[:4]
    assert psnr[4] == max(psnr)
    with batchcodec.open(archive) as opened:
        for sample in samples:
            original, decoded = np.asarray(Image.open(source / sample.name)), opened[sample.name].pixels
            np.testing.assert_array_equal(_decoded(sample.original or ""), original)
            np.testing.assert_array_equal(_decoded(sample.decoded), decoded)
            difference = np.minimum(np.abs(original.astype(int) - decoded) * sample.gain, 255)
            np.testing.assert_array_equal(_decoded(sample.difference or ""), difference)


def test_large_pictures_are_cut_where_the_error_is_largest() -> None:
    original = np.zeros((90, 120, 1), np.uint16)
    decoded = original.copy()
    decoded[70:75, 100:110] = 50_000
    top, left = worst_place(original, decoded, 20, 30)
    assert top <= 70 <= 75 <= top + 20
    assert left <= 100 <= 110 <= left + 30
    assert worst_place(original, decoded, 90, 120) == (0, 0)


def test_samples_of_all_kinds_of_pictures(pictures: Path, tmp_path: Path) -> None:
    batchcodec.pack(pictures, tmp_path / "a.cpack", batchcodec.PackOptions(codec="zstd"))
    samples = decoded_samples(tmp_path / "a.cpack", n=100, side=10)
    assert len(samples) == 11
    assert all(max(s.width, s.height) <= 10 for s in samples)
    deep = next(s for s in samples if "sixteen" in s.name)
    shown = _decoded(deep.decoded)
    assert deep.window is not None
    assert (shown.min(), shown.max()) == (0, 255)  # 16 bits are stretched over what is there
    items = batchcodec.report(tmp_path / "a.cpack", pictures).items
    assert isinstance(items, ItemTable)
    for sample in measured_samples(tmp_path / "a.cpack", pictures, items, n_each=4):
        assert not _decoded(sample.difference or "").any()


def test_samples_beyond_the_room_are_left_out_by_turns(rgb_archive: tuple[Path, Path]) -> None:
    items = batchcodec.report(rgb_archive[1], rgb_archive[0]).items
    assert isinstance(items, ItemTable)
    samples = measured_samples(rgb_archive[1], rgb_archive[0], items, n_each=2)
    assert within(samples, 10**9) == samples
    assert within(samples, 0) == []
    kept = within(samples, sum(s.n_bytes for s in samples) * 6 // 10)
    assert {s.kind for s in kept} == {"worst", "median", "best"}


def test_the_page_is_small_whatever_the_number_of_labels(tmp_path: Path, invoke: RunCli) -> None:
    images = np.stack([picture((12, 12), i % 7) for i in range(3000)])
    np.savez(tmp_path / "x.npz", images=images, labels=np.array([f"label {i}" for i in range(3000)]))
    batchcodec.pack(tmp_path / "x.npz", tmp_path / "a.cpack", batchcodec.PackOptions(codec="jpeg:mosaic=true"))
    target = tmp_path / "r.html"
    assert invoke("report", tmp_path / "a.cpack", "--against", tmp_path / "x.npz", "--html", target, "-q").rc == 0
    text = target.read_text(encoding="utf-8")
    assert len(text) < 1_000_000
    assert "the 500 of most images, of 3,000" in text


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("against", [False, True])
def test_json_is_as_its_schema_says(mixed: tuple[Path, Path], several: bool, against: bool, invoke: RunCli) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    source, archive = mixed
    more = ["--against", source] if against else []
    done = invoke("report", *([archive] * (1 + several)), *more, "--json")
    assert done.rc == 0, done.stderr
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(done.json, schema)
    one = done.json["reports"][1] if several else done.json
    assert (one["quality"] is not None) == against
    for broken in ({**one, "more": 1}, {"info": one["info"]}, {"reports": [one]}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, schema)


def test_csv_of_several_archives(rgb_archive: tuple[Path, Path], tmp_path: Path, invoke: RunCli) -> None:
    source, archive = rgb_archive
    other = tmp_path / "other.cpack"
    batchcodec.pack(source, other, batchcodec.PackOptions(codec="zstd"))
    assert invoke("report", archive, other, "--against", source, "--csv", tmp_path / "a.csv", "-q").rc == 0
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text().splitlines()))
    assert [row["archive"] for row in rows] == [str(archive)] * 6 + [str(other)] * 6
    assert {row["psnr"] for row in rows[6:]} == {"inf"}
    assert {row["ms_ssim"] for row in rows[6:]} == {"1.0"}


def test_markdown(mixed: tuple[Path, Path], tmp_path: Path, invoke: RunCli) -> None:
    source, archive = mixed
    for more in ([], ["--against", source]):
        assert invoke("report", archive, archive, *more, "--markdown", tmp_path / "r.md", "-q", "-f").rc == 0
        text = (tmp_path / "r.md").read_text()
        for rows in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in rows.splitlines()}) == 1
        assert "# mixed.cpack" in text
        assert "Left out when packing: 3." in text  # JPEG has neither alpha nor 16 bits
        assert ("PSNR" in text) == bool(more)
    assert plain("<b>|`x`|[a](b)*\u202e\n") == r"\<b\>\|\`x\`\|\[a\]\(b\)\*\\u202e\\n"


def test_missing_left_out_and_changed_are_said(mixed: tuple[Path, Path], tmp_path: Path, invoke: RunCli) -> None:
    source, archive = mixed
    (source / "cat" / "0.png").unlink()
    assert invoke("report", archive, "--against", source, "--html", tmp_path / "r.html", "-q").rc == 0
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Left out when packing: 3" in text
    assert "dog/sixteen.png" in text
    assert re.search(r"of another shape there: 1.*cat/0.png", text, re.DOTALL)


def test_archives_of_one_codec_make_one_curve(rgb_archive: tuple[Path, Path], tmp_path: Path) -> None:
    reports = []
    for i, codec in enumerate(("jpeg:quality=30", "jpeg:quality=90", "jpeg:quality=30,mosaic=true", "png")):
        path = tmp_path / f"{i}.cpack"
        batchcodec.pack(rgb_archive[0], path, batchcodec.PackOptions(codec=codec))
        reports.append(batchcodec.report(path, rgb_archive[0] if i else None))
    points = [rate_point(found) for found in reports]
    assert [point.recorded for point in points] == [True, False, False, False]
    assert points[0].rate == reports[0].info.n_bytes / 6
    curves = {curve.name: curve for curve in rate_curves(points)}
    assert {name: len(curve.points) for name, curve in curves.items()} == {"jpeg": 2, "jpeg mosaic=true": 1, "png": 1}
    assert curves["png"].points[0][1] == float("inf")
    assert curves["jpeg"].points[0][1] == pytest.approx(reports[0].info.meta["mean_psnr"])


@pytest.mark.parametrize("option", ["--html", "--markdown", "--csv", "--figure"])
def test_no_file_is_overwritten_without_force(
    rgb_archive: tuple[Path, Path], option: str, tmp_path: Path, invoke: RunCli
) -> None:
    target = tmp_path / "x.png"
    target.write_text("mine")
    done = invoke("report", rgb_archive[1], "--against", rgb_archive[0], option, target)
    assert done.rc == 2
    assert target.read_text() == "mine"
    assert invoke("report", rgb_archive[1], "--against", rgb_archive[0], option, target, "--force", "-q").rc == 0
    assert target.read_bytes() != b"mine"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--html", "same", "--markdown", "same"],
        ["--html", "{archive}", "--force"],
        ["--csv", "new.csv"],
        ["--figure", "new.png"],
        ["{archive}", "--against", "{source}", "--figure", "new.png"],
        ["--workers", "-1", "--against", "{source}"],
    ],
    ids=str,
)
def test_options_that_make_no_sense(
    arguments: list[str], rgb_archive: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, invoke: RunCli
) -> None:
    monkeypatch.chdir(tmp_path)
    before = rgb_archive[1].read_bytes()
    done = invoke("report", rgb_archive[1], *(a.format(source=rgb_archive[0], archive=rgb_archive[1]) for a in arguments))
    assert done.rc == 2, done
    assert rgb_archive[1].read_bytes() == before
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_threads_change_nothing(workers: int, pictures: Path, tmp_path: Path) -> None:
    options = batchcodec.PackOptions(codec="webp:quality=40", group_items=2, on_error="skip")
    batchcodec.pack(pictures, tmp_path / "a.cpack", options)
    expected = batchcodec.report(tmp_path / "a.cpack", pictures, workers=1)
    found = batchcodec.report(tmp_path / "a.cpack", pictures, workers=workers)
    assert list(found.items) == list(expected.items)
    assert found.quality == expected.quality


def test_a_dataset_that_one_thread_reads(gray_32: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import gzip

    with gzip.open(tmp_path / "x.npy.gz", "wb") as file:
        np.save(file, np.stack(gray_32))
    np.save(tmp_path / "x.npy", np.stack(gray_32))
    batchcodec.pack(tmp_path / "x.npy", tmp_path / "a.cpack", batchcodec.PackOptions(codec="jpeg:quality=50", group_items=7))
    expected = batchcodec.report(tmp_path / "a.cpack", tmp_path / "x.npy", workers=3)
    made: list[Originals] = []
    init = Originals.__init__

    def spied(self: Originals, *arguments: Any) -> None:
        init(self, *arguments)
        self.parallel = False
        made.append(self)

    monkeypatch.setattr(Originals, "__init__", spied)
    found = batchcodec.report(tmp_path / "a.cpack", tmp_path / "x.npy", workers=3)
    assert made
    assert list(found.items) == list(expected.items)


def test_the_training_of_a_models_file_is_found(tmp_path: Path) -> None:
    from batchcodec.learned import shipped
    from batchcodec.report.model_card import codec_cards

    np.save(tmp_path / "x.npy", np.stack([picture((64, 64), i) for i in range(4)]))
    batchcodec.pack(tmp_path / "x.npy", tmp_path / "a.cpack", batchcodec.PackOptions(codec="hyperprior-1"))
    info = batchcodec.report(tmp_path / "a.cpack").info
    sha256 = info.codecs[0].model_sha256
    assert sha256 is not None
    found = shipped.find_training(sha256)
    assert found is not None
    assert found[0] == "photo-gray.safetensors"
    text = codec_cards(info)
    assert sha256 in text
    assert f"{found[1]['steps']:,}" in text or str(found[1]["steps"]) in text
    assert "Training log" in text
    assert shipped.find_training("0" * 64) is None
