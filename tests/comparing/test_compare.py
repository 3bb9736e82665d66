"""`compare` on generated pictures: curves of real archives, a journal that goes on and refuses what is not its own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import picture

import batchcodec
from batchcodec import PackOptions
from batchcodec.comparing import run as comparing
from batchcodec.comparing.run import CompareOptions, compare
from batchcodec.comparing.series import parse_series, split_codecs
from batchcodec.comparing.subject import SampleOptions, draw
from batchcodec.errors import CodecError, EmptyDatasetError, OptionError, UnknownCodecError
from batchcodec.registry import registry
from batchcodec.report.compare_page import compare_page
from batchcodec.report.compare_text import compare_csv, compare_text

FAST = CompareOptions(codecs=("jpeg", "webp:mosaic=true"), qualities=(30, 60, 90), workers=1)


@pytest.fixture
def tiles(tmp_path: Path) -> Path:
    path = tmp_path / "tiles.npz"
    np.savez(path, images=np.stack([picture((24, 24, 3), i) for i in range(20)]))
    return path


@pytest.mark.parametrize(
    ("text", "codecs"),
    [
        ("jpeg", ["jpeg"]),
        ("avif:speed=4,mosaic=true,jpeg, png", ["avif:speed=4,mosaic=true", "jpeg", "png"]),
        ("jpeg2000:psnr=30|35,avif", ["jpeg2000:psnr=30|35", "avif"]),
        ("avif,mosaic=true,jpeg", ["avif:mosaic=true", "jpeg"]),
    ],
)
def test_codecs_are_told_from_options(text: str, codecs: list[str]) -> None:
    assert split_codecs(text) == codecs


def test_what_changes_along_a_curve() -> None:
    def series(text: str) -> tuple[str, tuple[str, ...]]:
        found = parse_series(text, (20, 40), registry())
        return found.name, found.texts

    assert series("jpeg") == ("jpeg", ("jpeg:quality=20", "jpeg:quality=40"))
    assert series("avif:mosaic=true") == ("avif:mosaic=true", ("avif:quality=20,mosaic=true", "avif:quality=40,mosaic=true"))
    assert series("jpeg2000:psnr=30|35") == ("jpeg2000", ("jpeg2000:psnr=30", "jpeg2000:psnr=35"))
    assert series("avif:quality=7") == ("avif:quality=7", ("avif:quality=7",))
    assert series("webp:lossless=true") == ("webp:lossless=true", ("webp:lossless=true",))
    assert series("png")[1] == series("png")[:1]
    for bad in ("jpeg:quality=1|2,subsampling=4:4:4|4:2:0", "jpeg:quality=20|20", "jpeg:quality=20|"):
        with pytest.raises(OptionError, match="alternatives"):
            parse_series(bad, (20,), registry())
    with pytest.raises(OptionError):
        split_codecs("mosaic=true")


def test_points_are_those_of_real_archives(tiles: Path, tmp_path: Path) -> None:
    report = compare(tiles, FAST)
    assert (report.n_images, report.n_dataset, report.anchor, report.n_kept) == (20, 20, "jpeg", 0)
    packed = batchcodec.pack(tiles, tmp_path / "a.cpack", PackOptions(codec="webp:quality=60,mosaic=true"))
    point = report.curves[1].points[1]
    assert point.setting == "quality=60"
    assert point.bytes_per_item * 20 == pytest.approx(packed.n_bytes)
    assert (point.mean_psnr, point.pooled_psnr) == pytest.approx((packed.mean_psnr, packed.pooled_psnr))
    assert point.mean_ssim is not None
    assert 0.3 < point.mean_ssim < 1
    rate = report.curves[1].bd_rate
    assert rate is not None
    assert rate < -30  # headers of 20 files
    assert report.curves[0].bd_rate == pytest.approx(0)
    text = compare_text(report)
    assert "BD-rate against jpeg" in text
    page = compare_page(report)
    assert page.count("<svg") >= 1
    assert "webp:mosaic=true" in page
    rows = compare_csv(report).splitlines()
    assert len(rows) == 7
    assert rows[0].startswith("codec,setting,images")


def test_a_sample_is_drawn_by_its_seed(tiles: Path) -> None:
    plugins = registry()
    one, again, other = (draw(tiles, SampleOptions(images=5, seed=seed), plugins) for seed in (1, 1, 2))
    assert one.fingerprint == again.fingerprint != other.fingerprint
    assert (len(one.subject.images), one.n_dataset) == (5, 20)
    few = draw(tiles, SampleOptions(), plugins, max_bytes=3 * 24 * 24 * 3)
    assert (len(few.subject.images), few.n_left_out) == (3, 17)


def test_a_journal_goes_on_and_takes_more(tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = tmp_path / "x.journal"
    options = replace(FAST, journal=journal)
    measure, calls = comparing.measure, []

    def killed(subject: object, text: str, *args: object, **more: object) -> object:
        calls.append(text)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return measure(subject, text, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(comparing, "measure", killed)
    with pytest.raises(KeyboardInterrupt) as stopped:
        compare(tiles, options)
    assert "2 points are kept" in stopped.value.__notes__[0]
    with journal.open("ab") as file:
        file.write(b"0123456789abcdef {torn")
    report = compare(tiles, options)
    assert report.n_kept == 2
    assert calls[3:] == ["jpeg:quality=90", *(f"webp:quality={q},mosaic=true" for q in (30, 60, 90))]
    monkeypatch.undo()
    assert report.curves[0].points[0] == compare(tiles, options).curves[0].points[0]
    more = compare(tiles, replace(options, qualities=(30, 45, 60, 90)))
    assert (more.n_kept, len(more.curves[0].points)) == (6, 4)
    assert compare(tiles, replace(options, anew=True)).n_kept == 0


def test_a_journal_of_something_else_is_refused_and_stays(tiles: Path, tmp_path: Path) -> None:
    journal = tmp_path / "x.journal"
    compare(tiles, replace(FAST, codecs=("jpeg",), journal=journal))
    kept = journal.read_bytes()
    for options, what in (
        (replace(FAST, journal=journal, sample=SampleOptions(images=7)), "sample"),
        (replace(FAST, journal=journal, structural=False), "SSIM"),
    ):
        with pytest.raises(OptionError, match=f"same {what}"):
            compare(tiles, options)
    assert journal.read_bytes() == kept
    journal.write_text("my notes")
    with pytest.raises(OptionError, match="neither"):
        compare(tiles, replace(FAST, journal=journal))
    assert journal.read_text() == "my notes"


def test_a_codec_that_fails_does_not_end_the_others(tmp_path: Path) -> None:
    path = tmp_path / "deep.npz"
    np.savez(path, images=np.stack([picture((16, 16), i, "uint16") for i in range(4)]))
    report = compare(path, replace(FAST, codecs=("jpeg", "png")))
    assert "cannot hold" in str(report.curves[0].error)
    assert report.curves[1].points[0].mean_psnr == 100
    assert "exact" in compare_text(report)
    with pytest.raises(CodecError, match="no codec could be measured"):
        compare(path, replace(FAST, codecs=("jpeg",)))


def test_bad_options(tiles: Path, tmp_path: Path) -> None:
    for bad in (
        {"codecs": ()},
        {"codecs": ("jpeg", "jpeg")},
        {"qualities": ()},
        {"anchor": "png"},
        {"sample": SampleOptions(images=0)},
        {"sample": SampleOptions(seed=-1)},
    ):
        with pytest.raises(OptionError):
            replace(FAST, **bad)  # type: ignore[arg-type]
    with pytest.raises(UnknownCodecError):
        compare(tiles, replace(FAST, codecs=("nothing",)))
    with pytest.raises(OptionError, match="quality"):
        compare(tiles, replace(FAST, qualities=(500,)))
    with pytest.raises(OptionError, match="model"):
        compare(tiles, replace(FAST, model=tmp_path / "m"))
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"no picture")
    with pytest.raises(EmptyDatasetError, match="can be read"):
        compare(folder, FAST)


def test_without_the_package_there_are_no_bd_rates_and_a_word_on_it(tiles: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchcodec.comparing.curves.find_spec", lambda name: None)
    report = compare(tiles, replace(FAST, codecs=("jpeg",)))
    assert report.curves[0].bd_rate is None
    assert "batchcodec[compare]" in compare_text(report)


def test_the_report_is_json(tiles: Path) -> None:
    from batchcodec.console import _dumped

    found = json.loads(_dumped(compare(tiles, replace(FAST, codecs=("jpeg",)))))
    assert found["curves"][0]["points"][0]["codec"] == "jpeg"
