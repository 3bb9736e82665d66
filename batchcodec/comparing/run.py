"""Codecs at several qualities on a sample of a dataset: real archives, all bytes counted, and BD-rates against one of them."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from batchcodec.choice import CodecChoice
from batchcodec.comparing.curves import Point, bd_rate, check_bd_rate, with_weights
from batchcodec.comparing.kept import Kept
from batchcodec.comparing.measuring import Subject, measure
from batchcodec.comparing.series import parse_series
from batchcodec.comparing.subject import SampleOptions, draw
from batchcodec.errors import CodecError, MissingDependencyError, OptionError
from batchcodec.opening import open_archive
from batchcodec.pack import PackOptions, pack
from batchcodec.packing.options import as_paths
from batchcodec.registry import Registry, registry
from batchcodec.version import __version__

DEFAULT_CODECS = ("hyperprior-1", "avif:mosaic=true", "avif", "webp:mosaic=true", "jpeg")
DEFAULT_QUALITIES = (20, 40, 60, 80)
ANCHOR = "jpeg"
"""What BD-rates are against, if it is among the codecs; else it is the first of them."""

Progress = Callable[[str, int, int], None]
"""Called with what is measured next, and how many points are done of how many."""


@dataclass(frozen=True)
class CompareOptions:
    """Settings of `compare`.

    Attributes:
        codecs: texts as of `series.parse_series`, each a curve.
        qualities: of those codecs that have a quality.
        anchor: one of `codecs`, that BD-rates are against; None takes `ANCHOR` or the first.
        model: for the codecs that take one.
        sample: what is drawn, and how it is read and grouped.
        structural: measure SSIM too.
        workers: groups coded at once; 0 is one for each core.
        journal: a file that keeps the points; None keeps none.
        anew: drop what the journal holds.
    """

    codecs: Sequence[str] = DEFAULT_CODECS
    qualities: Sequence[int] = DEFAULT_QUALITIES
    anchor: str | None = None
    model: Path | None = None
    sample: SampleOptions = field(default_factory=SampleOptions)
    structural: bool = True
    workers: int = 0
    journal: Path | None = None
    anew: bool = False

    def __post_init__(self) -> None:
        as_paths(self, "model", "journal")
        if not 1 <= self.sample.images <= 10_000_000:
            raise OptionError("images", self.sample.images, "a number from 1 to 10000000")
        if self.sample.seed < 0:
            raise OptionError("seed", self.sample.seed, "0 or more")
        if not self.codecs or len(set(self.codecs)) != len(self.codecs):
            raise OptionError("codecs", ",".join(self.codecs), "at least one codec, each once")
        if not self.qualities or len(set(self.qualities)) != len(self.qualities):
            raise OptionError("qualities", ",".join(map(str, self.qualities)), "at least one quality, each once")
        if self.anchor is not None and self.anchor not in self.codecs:
            raise OptionError("anchor", self.anchor, "one of the codecs that are compared: " + ", ".join(self.codecs))
        PackOptions(group_items=self.sample.group_items, workers=self.workers)


@dataclass(frozen=True)
class Curve:
    """What one codec came to. BD-rates in %: bytes at equal PSNR beside the anchor, fewer than 0 is smaller.

    Attributes:
        codec: its text without what changes.
        points: in the order in which they were asked for.
        error: why there are no more of them; None if there are all.
        bd_rate: on mean PSNR, weights left out; None where the curves share no PSNR, have one point, or it cannot be computed.
        bd_rate_pooled: the same on pooled PSNR.
        bd_rate_with_weights: on mean PSNR, with the weights spread over the whole dataset.
    """

    codec: str
    points: list[Point]
    error: str | None = None
    bd_rate: float | None = None
    bd_rate_pooled: float | None = None
    bd_rate_with_weights: float | None = None


@dataclass(frozen=True)
class CompareReport:
    """What was measured.

    Attributes:
        source: the dataset.
        n_dataset: its items.
        n_images: of the sample.
        n_pixels: of the sample.
        seed: of the sample.
        shapes: image spec to number of images.
        unreadable: items of the sample that cannot be read, and why.
        n_left_out: images that were drawn and left out because the sample was large enough in bytes.
        anchor: what BD-rates are against.
        curves: one for each codec.
        n_kept: points that an earlier run had measured.
        workers: groups coded at once.
        notes: what else there is to say, a sentence each.
    """

    source: str
    n_dataset: int
    n_images: int
    n_pixels: int
    seed: int
    shapes: dict[str, int]
    unreadable: list[str]
    n_left_out: int
    anchor: str
    curves: list[Curve]
    n_kept: int
    workers: int
    notes: list[str]


def compare(
    source: Path | str,
    options: CompareOptions | None = None,
    *,
    progress: Progress | None = None,
    plugins: Registry | None = None,
) -> CompareReport:
    """Measure.

    Raises:
        InputError: the dataset, or the whole sample, cannot be read.
        OptionError: an option is bad, or the journal is of another comparison.
        CodecError: no codec could be measured. If some could, the others' curves say why not.
    """
    source, options, plugins = Path(source), options or CompareOptions(), plugins or registry()
    every = {text: parse_series(text, options.qualities, plugins) for text in options.codecs}
    models = {text: _model(text, options.model, plugins) for text in options.codecs}
    if options.model is not None and not any(models.values()):
        raise OptionError("model", str(options.model), "codecs of which one uses a model, such as hyperprior-1")
    for text, series in every.items():
        for one in series.texts:
            CodecChoice(one, models[text], None, plugins)  # a typing error shows before hours of measuring
    drawn = draw(source, options.sample, plugins)
    about = {
        "sample": drawn.fingerprint,
        "model": None if options.model is None else _digest(options.model),
        "SSIM": options.structural,
        "preprocessing": options.sample.preprocess.to_json(),
        "batchcodec": __version__,
    }
    workers = PackOptions(workers=options.workers).n_workers()
    curves: dict[str, Curve] = {}
    total = sum(len(series.texts) for series in every.values())
    done, warm = 0, set[str]()
    with Kept(options.journal, about, anew=options.anew) as kept:
        n_kept = sum(kept.get(one) is not None for series in every.values() for one in series.texts)
        for text, series in every.items():
            points: list[Point] = []
            error: str | None = None
            for number, (setting, one) in enumerate(zip(series.settings, series.texts, strict=True)):
                if progress:
                    progress(one, done + number, total)
                point = kept.get(one)
                try:
                    if point is None:
                        _warm_up(drawn.subject, one, models[text], warm)
                    point = point or measure(
                        drawn.subject,
                        one,
                        models[text],
                        codec=series.name,
                        setting=setting,
                        workers=workers,
                        structural=options.structural,
                    )
                except CodecError as exc:
                    error = str(exc)
                    break
                kept.add(one, point)
                points.append(point)
            curves[text] = Curve(series.name, points, error)
            done += len(series.texts)
    if not any(curve.points for curve in curves.values()):
        first = next(iter(curves.values()))
        raise CodecError(f"no codec could be measured; {first.codec}: {first.error}")
    anchor = options.anchor or (ANCHOR if ANCHOR in curves else options.codecs[0])
    rated, notes = _rated(list(curves.values()), curves[anchor], drawn.n_dataset)
    return CompareReport(
        source=str(source),
        n_dataset=drawn.n_dataset,
        n_images=len(drawn.subject.images),
        n_pixels=drawn.subject.n_pixels,
        seed=options.sample.seed,
        shapes=drawn.shapes,
        unreadable=drawn.unreadable,
        n_left_out=drawn.n_left_out,
        anchor=curves[anchor].codec,
        curves=rated,
        n_kept=n_kept,
        workers=workers,
        notes=notes,
    )


def _model(text: str, model: Path | None, plugins: Registry) -> Path | None:
    codec_id = text.partition(":")[0]
    return model if codec_id != "auto" and plugins.codec_class(codec_id).needs_model else None


def _digest(model: Path) -> str:
    return hashlib.sha256(model.read_bytes()).hexdigest() if model.is_file() else str(model)


def _warm_up(subject: Subject, text: str, model: Path | None, warm: set[str]) -> None:
    """Compile, load and import what the first call of a codec does, outside of what is timed."""
    codec_id = text.partition(":")[0]
    if codec_id not in warm:
        with tempfile.TemporaryDirectory(prefix="batchcodec-compare-") as folder:
            np.savez(Path(folder, "small.npz"), images=subject.images[0][None, :64, :64])
            pack(Path(folder, "small.npz"), Path(folder, "small.cpack"), PackOptions(codec=text, model=model, workers=1))
            with open_archive(Path(folder, "small.cpack")) as archive:
                list(archive)
        warm.add(codec_id)


def _rated(curves: list[Curve], anchor: Curve, n_dataset: int) -> tuple[list[Curve], list[str]]:
    """The curves with their BD-rates, and why there are none."""
    try:
        check_bd_rate()
    except MissingDependencyError as exc:
        return curves, [f"no BD-rates: {exc}"]
    heavy = [with_weights(point, n_dataset) for point in anchor.points]
    rated = [
        Curve(
            curve.codec,
            curve.points,
            curve.error,
            bd_rate(anchor.points, curve.points),
            bd_rate(anchor.points, curve.points, pooled=True),
            bd_rate(heavy, [with_weights(point, n_dataset) for point in curve.points]),
        )
        if curve.points and anchor.points
        else curve
        for curve in curves
    ]
    return rated, []
