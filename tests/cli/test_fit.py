"""`pack --fit`: what is chosen, what is said, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import picture

import batchcodec
from batchcodec.choice import FALLBACK_CODEC
from batchcodec.errors import InputError, OptionError
from batchcodec.fit import parse_time
from batchcodec.learned.hyperprior.architecture import PROFILES, profile
from batchcodec.learned.hyperprior.fitting import Candidate, FitOptions, fit
from batchcodec.learned.hyperprior.model import LoadedModel
from batchcodec.learned.hyperprior.network import macs_per_pixel


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 gray pictures of 32x32."""
    path = tmp_path_factory.mktemp("frames") / "frames.npy"
    np.save(path, np.stack([picture((32, 32, 1), i) for i in range(40)]))
    return path


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("5m", 300), ("2h", 7200), ("30", 30), ("1.5m", 90)])
def test_times(text: str, seconds: float) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "-5m", "5 m", "0s", "0.5s", "5d", "1e3", "stretch", "99999999m"])
def test_bad_times(text: str) -> None:
    with pytest.raises(OptionError, match="such as 90s"):
        parse_time(text)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize(("name", "limit"), list(zip(PROFILES, (1_000, 6_000, 20_000), strict=True)))
def test_profiles_keep_their_limit(name: str, limit: int, channels: int) -> None:
    assert sum(macs_per_pixel(profile(name, channels)[0]).values()) <= limit


def test_a_fitted_model_goes_into_the_archive(frames: Path, tmp_path: Path, tiny_shipped: Path) -> None:
    options = batchcodec.PackOptions(codec="hyperprior-1:quality=60,effort=1", fit_seconds=2)
    report = batchcodec.pack(frames, tmp_path / "a.cpack", options)
    assert report.advice[0].startswith("fit chose ")
    assert "bytes and" in report.advice[0]
    assert list(report.codecs) == ["hyperprior-1:quality=60,effort=1"]
    with batchcodec.open(tmp_path / "a.cpack") as archive:
        assert len(archive) == 40
        assert archive[39].pixels.shape == (32, 32, 1)


def test_few_pixels_go_to_the_better_one(frames: Path, tmp_path: Path, tiny_shipped: Path) -> None:
    """Two seconds of training do not make weights worth their bytes for 40 small pictures."""
    plain = batchcodec.pack(frames, tmp_path / "plain.cpack")
    fitted = batchcodec.pack(frames, tmp_path / "fitted.cpack", batchcodec.PackOptions(fit_seconds=2))
    assert list(plain.codecs) == list(fitted.codecs) == [FALLBACK_CODEC]
    assert fitted.n_bytes == plain.n_bytes
    assert FALLBACK_CODEC in fitted.advice[0]
    assert "fitted" in fitted.advice[0]


def test_a_rival_that_costs_nothing_wins(tiny_shipped: Path) -> None:
    images = [picture((32, 32, 1), i) for i in range(12)]
    rival = Candidate("nothing", weight_bytes=0, payload_bytes=1, psnr=99.0, squared_error=0.0)
    report = fit(images, FitOptions(1.0), n_pixels=12 * 1024, start=None, rivals=[rival])
    assert report.model is None
    assert report.chosen == "nothing"
    assert len(report.candidates) == 2


def test_a_good_start_is_never_made_worse(tiny_shipped: Path) -> None:
    """What is kept is never dearer than the model that the fit started from, on the images held out."""
    images = [picture((32, 32, 1), i) for i in range(24)]
    start = (tiny_shipped / "photo-gray.safetensors").read_bytes()
    report = fit(images, FitOptions(1.0, quality=40), n_pixels=10**9, start=start)
    assert report.model is not None
    LoadedModel(report.model).decoder  # noqa: B018  # it passes its own self-check
    chosen = next(c for c in report.candidates if c.name == report.chosen)
    assert all(chosen.cost(0.005) <= c.cost(0.005) * 1.5 for c in report.candidates)


def test_what_cannot_be_fitted(frames: Path, tmp_path: Path) -> None:
    for options in (
        batchcodec.PackOptions(codec="jpeg:quality=50", fit_seconds=5),
        batchcodec.PackOptions(codec="hyperprior-1", fit_seconds=5, model_ref=True),
    ):
        with pytest.raises(OptionError):
            batchcodec.pack(frames, tmp_path / "x.cpack", options)
    assert not (tmp_path / "x.cpack").exists()


def test_a_model_for_other_channels(tmp_path: Path) -> None:
    """It could code them as planes, but not be fitted to them."""
    np.save(tmp_path / "rgb.npy", np.stack([picture((32, 32, 3), i) for i in range(4)]))
    options = batchcodec.PackOptions(codec="hyperprior-1", model=Path("photo-gray"), fit_seconds=2)
    with pytest.raises(InputError, match="3 channels, the model 1"):
        batchcodec.pack(tmp_path / "rgb.npy", tmp_path / "a.cpack", options)
    assert not (tmp_path / "a.cpack").exists()
