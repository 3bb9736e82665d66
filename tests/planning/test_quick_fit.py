"""A fit within a plan: to which groups, when it is tried, what is said of it, and whether that comes true."""

from __future__ import annotations

import math
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import RunCli, striped
from hypothesis import given
from hypothesis import strategies as st

from batchcodec.errors import OptionError
from batchcodec.planning import quick_fit
from batchcodec.planning import trials as trying
from batchcodec.planning.frame import Cluster, Stratum, divided
from batchcodec.planning.goal import Goal
from batchcodec.planning.options import PlanOptions
from batchcodec.planning.plan import plan
from batchcodec.planning.race import Race
from batchcodec.planning.trials import FITTED, Held, codec_id, plain
from batchcodec.registry import registry
from batchcodec.report.plan_text import plan_text
from batchcodec.types import ImageSpec, Item

from .test_goal import forecast

SPEC = ImageSpec(32, 32, 3, "uint8")
# 36.5 dB are more than what pack takes without --codec gives these pictures, so the learned codec is left, fitted or not.
FORCED = PlanOptions(
    seconds=60, codecs=("hyperprior-1",), lossless=(), fit_seconds=2, group_items=10, workers=1, min_psnr=36.5, device="cpu"
)


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 groups of 10 pictures, of so few pixels that a small network, fitted, takes less than the shipped one."""
    path = tmp_path_factory.mktemp("fit") / "tiles.npz"
    np.savez(path, images=striped(160, 64))
    return path


def cluster(number: int, n_items: int = 16, file_bytes: int | None = None) -> Cluster:
    places = tuple(range(100 * number, 100 * number + n_items))
    return Cluster(SPEC, places, n_items * 1024, file_bytes, "")


def held(n: int, n_items: int = 16) -> list[Held]:
    item = Item("x", np.zeros(SPEC.shape, np.uint8))
    return [Held(0, number, cluster(number, n_items), [item] * n_items) for number in range(n)]


# ---- which groups


@given(st.integers(0, 60), st.sampled_from([16, 1000, 9000]))
def test_what_every_codec_is_tried_on_first_is_not_fitted_to(n: int, n_items: int) -> None:
    groups = held(n, 1)
    groups = [replace(group, cluster=cluster(group.number, n_items)) for group in groups]
    chosen = quick_fit.groups_to_fit(groups, 1e9)
    others = set(range(n)) - set(chosen)
    assert set(range(min(n, 3))) <= others
    assert len(chosen) <= len(others) or n <= 3
    assert bool(chosen) == (n > 3)
    assert sum(groups[i].cluster.n_pixels for i in chosen[1:]) <= quick_fit.FIT_PIXELS
    assert quick_fit.groups_to_fit(groups, 0) == chosen[:1]


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 9999)), min_size=4, max_size=20), st.data())
def test_the_two_parts_of_a_stratum_add_up(sizes: list[tuple[int, int]], data: st.DataObject) -> None:
    clusters = [cluster(number, n, size) for number, (n, size) in enumerate(sizes)]
    apart = data.draw(st.lists(st.sampled_from(range(len(sizes))), min_size=1, max_size=len(sizes) - 1, unique=True))
    known = {name: float(sum(getattr(c, name) for c in clusters)) for name in ("n_pixels", "file_bytes")}
    whole = Stratum("RGB uint8", clusters, list(range(len(sizes))), len(sizes) * 2.0, 2.0 * sum(n for n, _ in sizes),
                    2 * known["n_pixels"], 2 * known["file_bytes"], 0.01)  # fmt: skip
    some, rest = divided(whole, apart)
    for name in ("n_clusters", "n_items", "n_pixels", "file_bytes"):
        assert getattr(some, name) + getattr(rest, name) == pytest.approx(getattr(whole, name))
    for by_items in (False, True):
        assert some.known(apart, by_items=by_items).sum(0) == pytest.approx(some.known_totals(by_items=by_items))
    assert some.scatter == 0
    assert rest.scatter * rest.n_pixels**2 == pytest.approx(whole.scatter * whole.n_pixels**2)


# ---- when


def test_a_fit_is_tried_where_it_may_pay() -> None:
    """3,000 bytes of payload and 1,000 of weights: 2,600 with 30 % less of the one and half of the other."""
    learned = replace(forecast(4000, 34), weight_bytes=1000)
    for rival, pays in ((2500, False), (2700, True)):
        tried = {"hyperprior-1": {50: learned}, "avif": {40: forecast(rival, 34)}}
        assert quick_fit.can_pay(Goal(psnr=34), tried, "hyperprior-1", 0.3) is pays
        assert not quick_fit.can_pay(Goal(psnr=34), tried, "hyperprior-1", 0.25)
    # brought to the goal, the learned codec's payload is less
    tried = {"hyperprior-1": {50: learned}, "avif": {40: forecast(2300, 32)}}
    assert quick_fit.can_pay(Goal(psnr=32), tried, "hyperprior-1", 0.3)


def test_what_may_be_hoped_for() -> None:
    assert quick_fit.hoped(0) == 0
    assert quick_fit.hoped(72) == pytest.approx(0.085, abs=0.001)
    assert quick_fit.hoped(900) == quick_fit.hoped(9000) == 0.3


@pytest.mark.parametrize(
    ("family", "wished", "quality"),
    [("hyperprior-1", 40, 40), ("hyperprior-1:effort=1", None, 55), ("hyperprior-1:quality=70", 40, 70)],
)
def test_the_quality_that_is_trained_for(family: str, wished: int | None, quality: int) -> None:
    assert quick_fit.quality_of(family, wished) == quality


def test_which_codec_is_fitted() -> None:
    assert quick_fit.fitting_family(("jpeg", "hyperprior-1:effort=1", "hyperprior-1")) == "hyperprior-1:effort=1"
    assert quick_fit.fitting_family(("jpeg", "avif")) is None
    series = quick_fit.series("fitted hyperprior-1:effort=1", (40, 50), registry())
    assert series.texts == ("fitted hyperprior-1:quality=40,effort=1", "fitted hyperprior-1:quality=50,effort=1")
    assert [plain(text) for text in series.texts] == list(quick_fit.series("hyperprior-1:effort=1", (40, 50), registry()).texts)
    assert codec_id(series.texts[0]) == "hyperprior-1"


def test_what_stands_in_the_way() -> None:
    def stratum(spec: ImageSpec) -> Stratum:
        return Stratum("x", [replace(cluster(0), spec=spec)], [0], 1, 16, 1024, None, 0)

    rgb = stratum(SPEC)
    assert quick_fit.obstacle([rgb], held(4)) is None
    assert "too few" in str(quick_fit.obstacle([rgb], held(3)))
    assert "too few" in str(quick_fit.obstacle([rgb], held(4, 1)))
    assert "several kinds" in str(quick_fit.obstacle([rgb, stratum(ImageSpec(8, 8, 1, "uint8"))], held(9)))
    assert "8-bit" in str(quick_fit.obstacle([stratum(ImageSpec(8, 8, 3, "uint16"))], held(9)))
    assert "8-bit" in str(quick_fit.obstacle([stratum(ImageSpec(8, 8, 4, "uint8"))], held(9)))


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        ({"fit_seconds": 0.5}, "1s to 60s"),
        ({"fit_seconds": 61.0}, "half of --minutes"),
        ({"fit_seconds": 5.0, "codecs": ("jpeg",)}, "hyperprior-1 among"),
        ({"save_model": Path(__file__)}, "does not exist yet"),
    ],
)
def test_bad_options(bad: dict[str, object], what: str) -> None:
    with pytest.raises(OptionError, match=what):
        PlanOptions(**bad)  # type: ignore[arg-type]


# ---- what comes of it


def test_fitted_and_other_groups_are_estimated_apart(tiles: Path, tmp_path: Path) -> None:
    """However well the model does on what it was fitted to, nothing of that is taken to hold for other groups."""
    fitted = Race(tiles, replace(FORCED, target=tmp_path / "out.cpack"), registry(), lambda what, part: None)
    fitted.run()
    trials, fit = fitted.trials, fitted.fit
    assert fit is not None
    assert fit.kept, fit.reason
    assert sorted(trials.fitted_on) == [3, 5]
    assert fit.n_images == sum(len(trials.held[i].items) for i in trials.fitted_on)
    text = "fitted hyperprior-1:quality=60"
    seen = [0, 1, 2, *trials.fitted_on]  # all of the fitted groups, and three of the others
    trials.made = {key: trial for key, trial in trials.made.items() if key[0] != text}
    assert trials.run([(text, number) for number in seen], math.inf, lambda done, total: None)
    before = fitted.forecaster.forecast(text)
    lost = 0
    for number in trials.fitted_on:
        lost += trials.made[text, number].n_bytes - 1
        trials.made[text, number] = replace(trials.made[text, number], n_bytes=1)
    after = fitted.forecaster.forecast(text)
    assert before is not None
    assert after is not None
    assert before.n_bytes.value - after.n_bytes.value == pytest.approx(lost)
    assert before.n_bytes.high - after.n_bytes.high == pytest.approx(lost)


def test_what_is_said_of_a_fitted_model_comes_true(
    invoke: RunCli, tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    report = plan(tiles, FORCED)
    assert report.fit is not None
    assert str(report.recommended).startswith("fitted hyperprior-1:quality="), report.refused
    stated = next(f for f in report.forecasts if f.codec == report.recommended)
    words = shlex.split(str(report.command))
    assert words[words.index("--codec") + 1] == plain(stated.codec)
    assert words[words.index("--model") + 1] == str(report.fit.saved) == "tiles.safetensors"
    packed = invoke(*words[1:], "--json")
    assert packed.rc == 0, packed.stderr
    assert stated.n_bytes.contains(packed.json["n_bytes"])
    assert stated.mean_psnr.contains(packed.json["mean_psnr"])
    assert stated.pooled_psnr.contains(packed.json["pooled_psnr"])
    assert stated.weight_bytes > 0
    text = plan_text(report)
    assert "trained for 2 s on 20 images of 2 groups" in text
    assert "saved as tiles.safetensors" in text
    assert "What longer training gains was not tried" in text


def test_part_of_the_groups_holds_the_truth_too(
    invoke: RunCli, tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trying, "MAX_GROUPS", 8)
    report = plan(tiles, replace(FORCED, target=tmp_path / "out.cpack"))
    assert str(report.recommended).startswith(FITTED), report.refused
    stated = next(f for f in report.forecasts if f.codec == report.recommended)
    assert stated.n_groups <= 8
    packed = invoke(*shlex.split(str(report.command))[1:], "--json")
    assert packed.rc == 0, packed.stderr
    assert stated.n_bytes.low < packed.json["n_bytes"] < stated.n_bytes.high
    assert stated.mean_psnr.contains(packed.json["mean_psnr"])


def test_a_fit_that_fails_is_told_and_ends_nothing(tiles: Path, tmp_path: Path) -> None:
    """A model for gray codes RGB images as planes, and cannot be trained on them."""
    options = replace(FORCED, model=Path("photo-gray"), min_psnr=30)
    report = plan(tiles, replace(options, target=tmp_path / "out.cpack"))
    assert report.fit is None
    assert "3 channels" in report.refused["fitted hyperprior-1"]
    assert report.recommended is not None
    assert not report.recommended.startswith(FITTED)
    assert list(tmp_path.glob("*.safetensors")) == []
    assert "fitted hyperprior-1" in plan_text(report)


def test_an_interrupt_ends_the_plan_and_leaves_nothing(tiles: Path, tmp_path: Path) -> None:
    seen = []

    def stop(what: str, part: float) -> None:
        seen.append(what)
        if what.startswith("fit: "):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        plan(tiles, replace(FORCED, target=tmp_path / "out.cpack", save_model=tmp_path / "m.safetensors"), progress=stop)
    assert seen[-1].startswith("fit: ")
    assert list(tmp_path.iterdir()) == []


def test_a_model_is_kept_where_it_was_asked_for(tiles: Path, tmp_path: Path) -> None:
    """Also if something else is better."""
    options = replace(FORCED, codecs=("hyperprior-1", "webp:mosaic=true"), min_psnr=None, target_bytes=300_000)
    report = plan(tiles, replace(options, save_model=tmp_path / "m.safetensors"))
    assert report.fit is not None
    assert report.fit.kept, report.fit.reason
    assert report.fit.saved == tmp_path / "m.safetensors"
    assert report.fit.saved.stat().st_size > 1000


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"seconds": 5.0}, "too short"),
        ({"group_items": 100}, "2 groups, too few"),
    ],
)
def test_why_there_was_no_fit(tiles: Path, tmp_path: Path, changed: dict[str, float], why: str) -> None:
    report = plan(tiles, replace(FORCED, fit_seconds=None, target=tmp_path / "out.cpack", **changed))  # type: ignore[arg-type]
    assert report.fit is None
    assert any(note.startswith("no model was fitted: ") and why in note for note in report.notes), report.notes


def test_who_asked_for_a_fit_finds_why_there_is_none(tiles: Path, tmp_path: Path) -> None:
    report = plan(tiles, replace(FORCED, min_psnr=100, lossless=("zstd",), target=tmp_path / "out.cpack"))
    assert report.refused["fitted hyperprior-1"] == "nothing may be lost"
    assert report.recommended == "zstd"


def test_no_fit_where_none_is_wanted(tiles: Path, tmp_path: Path) -> None:
    report = plan(tiles, replace(FORCED, fits=False, fit_seconds=None, target=tmp_path / "out.cpack"))
    assert report.fit is None
    assert not [text for text in (*report.refused, *report.notes) if "fit" in text]


def test_no_fit_where_the_model_cannot_be_written(tiles: Path, tmp_path: Path) -> None:
    report = plan(tiles, replace(FORCED, target=tmp_path / "nowhere" / "out.cpack"))
    assert "could not be saved" in report.refused["fitted hyperprior-1"]
