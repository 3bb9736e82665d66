"""Plans of generated pictures with quick codecs, held against what `pack` then makes."""

from __future__ import annotations

import math
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import picture

import batchcodec
from batchcodec import PackOptions, Preprocess
from batchcodec.errors import EmptyDatasetError, InputError, OptionError, UnknownCodecError
from batchcodec.planning import trials as trying
from batchcodec.planning.final import is_known
from batchcodec.planning.options import PlanOptions
from batchcodec.planning.plan import plan
from batchcodec.report.plan_text import plan_text

from .test_goal import forecast

QUICK = PlanOptions(
    seconds=20, codecs=("webp:mosaic=true", "jpeg"), lossless=("png", "zstd"), group_items=16, workers=1, min_psnr=33
)


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plan") / "tiles.npz"
    images = np.stack([picture((32, 32, 3), i) for i in range(200)])
    np.savez(path, images=images, labels=np.arange(200) // 100)
    return path


def test_a_plan_of_all_groups_is_what_comes_true(tiles: Path, tmp_path: Path) -> None:
    report = plan(tiles, replace(QUICK, target=tmp_path / "out.cpack"))
    best = next(f for f in report.forecasts if f.codec == report.recommended)
    packed = batchcodec.pack(tiles, tmp_path / "out.cpack", PackOptions(codec=best.codec, group_items=16))
    assert best.n_groups == packed.n_groups == 13
    assert best.n_bytes.contains(packed.n_bytes)
    assert best.n_bytes.relative < 0.05
    assert best.mean_psnr.contains(packed.mean_psnr)
    assert best.pooled_psnr.contains(packed.pooled_psnr)
    assert best.overhead_bytes == pytest.approx(packed.bytes.overhead, abs=256)
    assert packed.mean_psnr >= 33
    assert report.survey.labels == {"0": 100, "1": 100}
    others = [f for f in report.forecasts if f.codec != best.codec and f.mean_psnr.value >= 33]
    assert all(f.n_bytes.value > best.n_bytes.value for f in others)
    text = plan_text(report)
    assert f"Recommended: {best.codec}" in text
    assert str(report.command) in text


def test_a_plan_of_some_groups_holds_the_truth(tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trying, "MAX_GROUPS", 6)
    report = plan(tiles, replace(QUICK, target=tmp_path / "out.cpack"))
    best = next(f for f in report.forecasts if f.codec == report.recommended)
    packed = batchcodec.pack(tiles, tmp_path / "out.cpack", PackOptions(codec=best.codec, group_items=16))
    assert best.n_groups <= 6
    assert best.n_bytes.low < packed.n_bytes < best.n_bytes.high
    assert best.mean_psnr.contains(packed.mean_psnr)
    assert best.n_bytes.relative < 0.3


def test_a_size_is_kept(tiles: Path, tmp_path: Path) -> None:
    report = plan(tiles, replace(QUICK, min_psnr=None, target_bytes=60_000))
    assert report.recommended is not None
    packed = batchcodec.pack(tiles, tmp_path / "a.cpack", PackOptions(codec=report.recommended, group_items=16))
    assert 40_000 < packed.n_bytes <= 60_000


def test_lossless_is_a_goal(tiles: Path) -> None:
    report = plan(tiles, replace(QUICK, min_psnr=100))
    assert report.goal.lossless
    assert report.recommended in ("png", "zstd")
    assert all(f.lossless for f in report.forecasts)
    assert "Nothing may be lost" in plan_text(report)


def test_nothing_is_recommended_where_nothing_will_do(tiles: Path) -> None:
    report = plan(tiles, replace(QUICK, min_psnr=None, target_bytes=100))
    assert (report.recommended, report.command) == (None, None)
    assert "nothing that was tried comes to this goal" in plan_text(report)


def test_without_a_goal_it_is_what_pack_would_give(tiles: Path, tmp_path: Path) -> None:
    report = plan(tiles, replace(QUICK, min_psnr=None))
    packed = batchcodec.pack(tiles, tmp_path / "plain.cpack", PackOptions(group_items=16))
    assert report.goal.psnr == pytest.approx(packed.mean_psnr - 0.1, abs=0.15)
    assert report.automatic is not None
    assert report.automatic.codec == batchcodec.choice.FALLBACK_CODEC  # few pixels
    assert report.goal.psnr == pytest.approx(report.automatic.mean_psnr.value, abs=0.5)
    assert report.automatic in report.forecasts
    assert report.recommended in [f.codec for f in report.forecasts]


def test_a_winner_of_which_little_is_known_is_one(tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trying, "MAX_GROUPS", 1)
    report = plan(tiles, replace(QUICK, target=tmp_path / "out.cpack"))
    assert any("it was tried on 1 of about 13 groups only" in reason for reason in report.reasons)
    whole = plan(tiles, replace(QUICK, min_psnr=None, target=tmp_path / "out.cpack"))
    assert "note: the quality of pack without options is known from one group only" in plan_text(whole)


def test_what_is_enough_to_rely_on() -> None:
    assert is_known(forecast(1000, 34, 0.04))
    assert not is_known(forecast(1000, 34, 0.06))
    assert not is_known(forecast(1000, 34, math.inf))


def test_what_is_tried_for_its_speed_alone_is_not_recommended(tiles: Path) -> None:
    """WebP mosaics come to this goal with the fewest bytes, and --codecs does not ask for them."""
    report = plan(tiles, replace(QUICK, codecs=("jpeg",), min_psnr=30))
    assert any(f.codec.startswith("webp") and f.mean_psnr.low > 30 for f in report.others)
    assert str(report.recommended).startswith("jpeg") or report.recommended == batchcodec.choice.FALLBACK_CODEC
    assert report.recommended in [f.codec for f in report.forecasts]


def test_sixteen_bits_are_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "deep.npy"
    np.save(path, np.stack([picture((16, 16), i, "uint16") for i in range(8)]))
    report = plan(path, replace(QUICK, min_psnr=None))
    assert "webp:mosaic=true" in report.refused
    assert report.recommended in ("png", "zstd")


def test_the_command_skips_what_is_broken_and_is_quoted(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "it's mine"
    pictures.rename(folder)
    (folder / "dog" / "broken.png").write_bytes(b"no picture")
    monkeypatch.chdir(tmp_path)
    options = replace(QUICK, codecs=(), lossless=("zstd",), min_psnr=100, preprocess=Preprocess(mode="rgb", size=(16, 8)))
    report = plan(folder, options)
    words = shlex.split(str(report.command))
    assert words[:4] == ["batchcodec", "pack", str(folder), "it's mine.cpack"]
    assert words[4:] == [
        *("--codec", "zstd", "--size", "16x8", "--mode", "rgb"),
        *("--group", "16", "--workers", "1", "--on-error", "skip"),
    ]


def test_a_target_that_exists_is_not_proposed(tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "tiles.cpack" in PlanOptions().command(tiles, "png", skip=False, model=None)
    (tmp_path / "tiles.cpack").touch()
    assert "tiles-2.cpack" in PlanOptions().command(tiles, "png", skip=False, model=None)
    assert "./-x" in PlanOptions().command(Path("-x"), "png", skip=False, model=None)


@pytest.mark.parametrize(
    "bad",
    [
        {"seconds": 0},
        {"min_psnr": 0},
        {"target_bytes": 0.5},
        {"min_psnr": 30, "target_bytes": 1000},
        {"seed": -1},
        {"group_items": 0},
    ],
)
def test_bad_options(bad: dict[str, float]) -> None:
    with pytest.raises(OptionError):
        PlanOptions(**bad)  # type: ignore[arg-type]


def test_bad_datasets(tmp_path: Path, tiles: Path) -> None:
    with pytest.raises(InputError):
        plan(tmp_path / "nothing", QUICK)
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(EmptyDatasetError, match="no image"):
        plan(folder, QUICK)
    (folder / "a.png").write_bytes(b"no picture")
    with pytest.raises(EmptyDatasetError, match=r"can be read.*a\.png"):
        plan(folder, QUICK)
    with pytest.raises(UnknownCodecError):
        plan(tiles, replace(QUICK, codecs=("nothing",)))
