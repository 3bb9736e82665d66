"""Satellite tiles: a model fitted to a data set, beside the strongest alternatives, on tiles that it never saw.

    python benchmarks/eurosat.py --fit 30 --model runs/eurosat.safetensors       # train on from the photo model, then measure
    python benchmarks/eurosat.py --model runs/eurosat.safetensors --efforts 2    # measure again

5,000 EuroSAT tiles of 64x64: of each of the 10 classes 100 are held out for the measurement, 400 are there to fit to; the
split follows from `--seed` alone. `--fit` starts from `--start` (by default the shipped model), which is measured too.
A fitted model is in the archive, and its weights stand in a column of their own. BD-rates are against the AVIF mosaic, on the
mean of the tiles' PSNR and on pooled PSNR; the learned codec is tuned for the one and for the other.

Needs BATCHCODEC_DATA with `eurosat.tar` in it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from rates import Point, bd_rate, bytes_at, data_folder, from_arrays, line, measure, numbers, table, with_json, write_json

import batchcodec
from batchcodec.learned.hyperprior.model import LoadedModel
from batchcodec.learned.hyperprior.trainer import Settings, Trainer
from batchcodec.learned.settings import TrainStatus
from batchcodec.registry import registry
from batchcodec.types import Pixels

SHIPPED = Path(batchcodec.__file__).parent / "models" / "photo-rgb.safetensors"
ANCHOR = "avif mosaic"
RIVALS = {
    "avif:quality={q},speed=4,subsampling=4:4:4,mosaic=true": (10, 20, 30, 40, 50, 60, 70, 80, 88),
    "jxl:quality={q},mosaic=true": (5, 15, 30, 45, 60, 75, 85, 92),
    "jpeg:quality={q}": (5, 10, 20, 30, 45, 60, 75, 85, 92),
}
PER_CLASS = 100


def split(seed: int, n_test: int | None = None) -> tuple[list[Pixels], list[Pixels]]:
    """Tiles to fit to, and tiles to test with, 100 of each class; `n_test` takes the first in an order that mixes classes."""
    source = data_folder("eurosat.tar") / "eurosat.tar"
    items = registry().format_of(source, None, None).read(source)
    tiles = [items[i] for i in range(len(items))]
    classes: dict[str, list[Pixels]] = {}
    for item in tiles:
        classes.setdefault(Path(item.name).parent.name, []).append(item.pixels)
    rng = np.random.default_rng(seed)
    fit: list[Pixels] = []
    test: list[Pixels] = []
    for name in sorted(classes):
        order = rng.permutation(len(classes[name]))
        test += [classes[name][i] for i in order[:PER_CLASS]]
        fit += [classes[name][i] for i in order[PER_CLASS:]]
    order = rng.permutation(len(test))
    return fit, [test[i] for i in order[:n_test]]


def fitted(images: list[Pixels], start: Path, target: Path, minutes: float, threads: int) -> None:
    """Train on from a model, and write the result."""
    settings = Settings(minutes=minutes, threads=threads, batch=16, crop=64, learning_rate=1e-3, flip=True)
    trainer = Trainer(images, settings, start=LoadedModel(start.read_bytes()))
    shown = 0

    def show(status: TrainStatus) -> None:
        nonlocal shown
        for row in status.log[shown:]:
            print(json.dumps(row), flush=True)
        shown = len(status.log)

    print(f"fitting {start.name} to {len(trainer.data.train):,} tiles for {minutes:g} minutes", flush=True)
    trainer.run(progress=show)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(trainer.release(name=target.stem))
    print(f"{target}: {trainer.step:,} steps; {trainer.log[-1]}")


def summary(families: dict[str, list[Point]]) -> list[dict[str, object]]:
    """BD-rates, and bytes at 35 dB."""
    print(f"\n{'codec':<28} {'BD-rate':>9} {'on pooled':>10} {'B at 35 dB':>11} {'pooled':>8} {'weights':>9} {'images/s':>9}")
    rows: list[dict[str, object]] = []
    for name, points in families.items():
        rates = [bd_rate(families[ANCHOR], points, pooled=pooled) for pooled in (False, True)]
        at_35 = [bytes_at(points, 35, pooled=pooled) for pooled in (False, True)]
        texts = ["-" if rate is None else f"{rate:+.1f} %" for rate in rates]
        texts += ["-" if n is None else f"{n:.1f}" for n in at_35]
        speed = sum(p.n_items for p in points) / sum(p.encode_seconds for p in points)
        weights = points[0].weight_bytes
        print(f"{name:<28} {texts[0]:>9} {texts[1]:>10} {texts[2]:>11} {texts[3]:>8} {weights or '':>9} {speed:9.1f}")
        rows.append(
            {
                "codec": name,
                "bd_rate": rates[0],
                "bd_rate_pooled": rates[1],
                "bytes_at_35_db": at_35[0],
                "bytes_at_35_db_pooled": at_35[1],
                "weight_bytes": weights,
                "images_per_second": speed,
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="the fitted model; with --fit it is written")
    parser.add_argument("--start", type=Path, default=SHIPPED, help="what --fit starts from; measured too, if it is there")
    parser.add_argument("--fit", type=float, metavar="MINUTES", help="train first")
    parser.add_argument("--threads", type=int, default=1, help="training threads")
    parser.add_argument("--images", type=int, help="test with the first of the 1,000 tiles only")
    parser.add_argument("--efforts", type=numbers, default=[1, 2])
    parser.add_argument("--qualities", type=numbers, default=[1, 15, 30, 45, 60, 75, 88, 100])
    parser.add_argument("--seed", type=int, default=0, help="of the split")
    parser.add_argument("--workers", type=int, default=1, help="groups coded at once; seconds stay those of one core")
    with_json(parser, "eurosat")
    args = parser.parse_args()
    fit, test = split(args.seed, args.images)
    if args.fit:
        fitted(fit, args.start, args.model, args.fit, args.threads)
    if not args.model.exists():
        sys.exit(f"{args.model} is not there: give --fit MINUTES to make it")
    models = [("fitted", args.model)] + ([("start", args.start)] if args.start.exists() else [])
    families: dict[str, list[Point]] = {}
    print(f"{len(test):,} test tiles; {len(fit):,} others to fit to")
    print(table([]))
    with tempfile.TemporaryDirectory() as folder:
        dataset = from_arrays(Path(folder, "test.npz"), test)

        def add(name: str, text: str, quality: int, model: Path | None = None) -> None:
            codec = name.removesuffix(",tune=psnr").removesuffix(",tune=mse")
            setting = f"quality={quality}{name.removeprefix(codec)}"
            point = measure(dataset, text, model, codec=codec, setting=setting, workers=args.workers)
            print(line(point), flush=True)
            families.setdefault(name, []).append(point)

        for template, qualities in RIVALS.items():
            name = template.partition(":")[0] + (" mosaic" if "mosaic" in template else " files")
            for q in qualities:
                add(name, template.format(q=q), q)
        for label, model in models:
            for effort in args.efforts:
                for tune in ("psnr", "mse") if effort > 1 else ("mse",):  # effort 1 allots nothing
                    for q in args.qualities:
                        text = f"hyperprior-1:quality={q},effort={effort},tune={tune}"
                        add(f"{label} e{effort},tune={tune}", text, q, model)
    rows = summary(families)
    write_json(
        args.json,
        tiles=len(test),
        fit_tiles=len(fit),
        model=args.model.name,
        start=args.start.name,
        summary=rows,
        points=families,
    )


if __name__ == "__main__":
    main()
