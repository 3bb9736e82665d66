"""Fashion-MNIST at 64x64: bytes per image at 30.75 dB (the source paper's quality) and at 35 dB.

    python benchmarks/fashion.py                                # the 10,000 test images, efforts 1 and 9, beside rivals
    python benchmarks/fashion.py --images 500 --efforts 1,2     # a quick look
    python benchmarks/fashion.py --add --no-rivals --efforts 9 --qualities 22,28   # hours, beside an earlier run's points
    python benchmarks/fashion.py --training-set --efforts 2     # the 60,000 training images, with all weights counted

Targets are mean PSNR; the pooled PSNR at the same bytes stands beside. `--tune psnr` spends bits where they raise the mean,
which lowers the pooled one; `--tune mse` is for that.

The model saw the 60,000 training images and nothing else. Test images are packed at qualities around each target, which are
searched (or given by `--qualities`), and bytes at the target are interpolated between the two packed points that are next to
it, which are printed too. The rivals' qualities bracket both targets. With `--training-set` the images are the ones that the
model was trained on: it is what an archive of that dataset costs when the codec has learned it, weights included.

Needs BATCHCODEC_DATA with `fashion-mnist/` in it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from rates import (
    FASHION_MODEL,
    TARGETS,
    Dataset,
    Point,
    around,
    bytes_at,
    fashion,
    from_arrays,
    line,
    measure,
    numbers,
    search,
    table,
    with_json,
    write_json,
)

PAPER_BYTES = 600
"""Per image, that the source paper reports at 30.75 dB."""

RIVALS = {
    "avif:quality={q},speed=4,mosaic=true": (15, 20, 25, 30, 35, 40, 45),
    "jxl:quality={q},mosaic=true": (10, 15, 20, 30, 40, 45),
    "webp:quality={q},mosaic=true": (1, 5, 10, 20, 30, 40),
    "jpeg:quality={q}": (8, 10, 12, 15, 20, 25, 30),
}
GUESSES = {"hyperprior": (30, 65), "avif": (22, 41)}
"""Where the search for each target begins."""
SAMPLE = 256
"""Images that are searched first, so that the whole set is packed about twice for each target."""


def show(point: Point) -> Point:
    print(line(point), flush=True)
    return point


def learned_at(dataset: Dataset, args: argparse.Namespace, effort: int, quality: int) -> Point:
    text, model, workers = f"hyperprior-1:quality={quality},effort={effort},tune={args.tune}", args.model, args.workers
    return show(measure(dataset, text, model, codec=f"hyperprior e{effort}", setting=f"quality={quality}", workers=workers))


def rival_at(dataset: Dataset, template: str, workers: int, quality: int) -> Point:
    return show(measure(dataset, template.format(q=quality), workers=workers))


def searched(pack_at: Callable[[int], Point], guesses: Sequence[int]) -> list[Point]:
    """Points around all targets, each packed once."""
    once = cache(pack_at)
    return list(dict.fromkeys(p for target, guess in zip(TARGETS, guesses, strict=True) for p in search(once, target, guess)))


def nearest(points: Sequence[Point]) -> list[int]:
    """The qualities of the points next to each target."""
    best = [min(points, key=lambda p, target=target: abs(p.mean_psnr - target)) for target in TARGETS]  # type: ignore[misc]
    return [int(point.setting.removeprefix("quality=")) for point in best]


def at_targets(families: dict[str, list[Point]], weights_too: bool) -> list[dict[str, object]]:
    """The second table: bytes at each target, and the packed points next to it."""
    rows: list[dict[str, object]] = []
    best: dict[float, float] = {}
    for target in TARGETS:
        rivals = [bytes_at(points, target) for name, points in families.items() if not name.startswith("hyperprior")]
        best[target] = min((n for n in rivals if n is not None), default=float("nan"))
    for target in TARGETS:
        beside = f", the paper {PAPER_BYTES}" if target == TARGETS[0] else ""
        print(f"\nat {target} dB (best rival {best[target]:.1f} B{beside})")
        print(f"  {'codec':<16} {'B/image':>8} {'+weights':>9} {'to rival':>9} {'pooled':>7}   packed next to it")
        for name, points in families.items():
            n_bytes = bytes_at(points, target)
            below, above = around(points, target)
            ends = " and ".join(f"{p.bytes_per_item:.1f} B at {p.mean_psnr:.2f} dB" for p in (below, above) if p)
            row = {"target_db": target, "codec": name, "bytes": n_bytes, "below": below, "above": above}
            pairs = np.array(sorted((p.mean_psnr, p.pooled_psnr) for p in points))
            pooled = float(np.interp(target, pairs[:, 0], pairs[:, 1]))
            if n_bytes is None:
                print(f"  {name:<16} not reached                    {ends}")
                rows.append(row)
                continue
            with_weights = n_bytes + points[0].weight_bytes / points[0].n_items
            compared = with_weights if weights_too else n_bytes
            ratio = f"{100 * (compared / best[target] - 1):+.1f} %"
            print(f"  {name:<16} {n_bytes:8.1f} {with_weights:9.1f} {ratio:>9} {pooled:7.2f}   {ends}")
            rows.append({**row, "bytes_with_weights": with_weights, "pooled_psnr": pooled})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=FASHION_MODEL)
    parser.add_argument("--images", type=int, help="first images only")
    parser.add_argument("--efforts", type=numbers, default=[1, 9])
    parser.add_argument("--qualities", type=numbers, default=[], help="in place of a search")
    parser.add_argument("--tune", default="psnr", choices=("psnr", "mse"), help="mse where pooled PSNR is what counts")
    parser.add_argument("--training-set", action="store_true", help="pack the training images, beside AVIF mosaics alone")
    parser.add_argument("--no-rivals", action="store_true")
    parser.add_argument("--avif", type=numbers, default=[], help="qualities of AVIF for the training set, in place of a search")
    parser.add_argument("--add", action="store_true", help="to the points of an earlier run of the same images and model")
    parser.add_argument("--workers", type=int, default=1, help="groups coded at once; seconds stay those of one core")
    with_json(parser, "fashion")
    args = parser.parse_args()
    families: dict[str, list[Point]] = {}
    with tempfile.TemporaryDirectory() as folder:
        dataset = fashion(Path(folder), args.images, training=args.training_set)
        print(f"{len(dataset.images):,} {'training' if args.training_set else 'test'} images; {args.model.name}")
        print(table([]))
        for effort in args.efforts:
            guesses: Sequence[int] = GUESSES["hyperprior"]
            if not args.qualities and len(dataset.images) > 2 * SAMPLE:
                sample = from_arrays(Path(folder, "sample.npz"), dataset.images[:SAMPLE])
                print(f"effort {effort}: where to begin, from the first {SAMPLE} images")
                guesses = nearest(searched(partial(learned_at, sample, args, effort), guesses))
            pack_at = partial(learned_at, dataset, args, effort)
            families[f"hyperprior e{effort}"] = (
                [pack_at(q) for q in args.qualities] if args.qualities else searched(pack_at, guesses)
            )
        for template, qualities in {} if args.no_rivals else RIVALS.items():
            pack_at = partial(rival_at, dataset, template, args.workers)
            if args.training_set and not template.startswith("avif"):
                continue
            if args.training_set and not args.avif:
                points = searched(pack_at, GUESSES["avif"])
            else:
                points = [pack_at(q) for q in (args.avif if args.training_set else qualities)]
            families[points[0].codec] = points
    part = "training" if args.training_set else "test"
    earlier = json.loads(args.json.read_text()) if args.json.exists() else {}
    content = {
        "images": len(dataset.images),
        "model": args.model.name,
        "model_sha256": hashlib.sha256(args.model.read_bytes()).hexdigest(),
        "tune": args.tune,
    }
    if args.add:
        for name, points in reversed(earlier_points(earlier.get(part, {}), content).items()):
            made = families.pop(name, [])
            settings = {point.setting for point in made}
            families = {name: [*(point for point in points if point.setting not in settings), *made], **families}
    rows = at_targets(families, args.training_set)
    print("\nencoded images per second on one core")
    for name, points in families.items():
        seconds = sum(p.encode_seconds for p in points)
        print(f"  {name:<16} {sum(p.n_items for p in points) / seconds:8.1f}")
    write_json(args.json, **{**earlier, part: {**content, "at": rows, "points": families}})


def earlier_points(run: dict[str, Any], content: dict[str, Any]) -> dict[str, list[Point]]:
    """The points of an earlier run, which must have been of the same images and model."""
    different = [key for key, value in content.items() if run.get(key) != value]
    if different:
        sys.exit(f"--add: the earlier run had another {' and '.join(different)}")
    return {name: [Point(**point) for point in points] for name, points in run["points"].items()}


if __name__ == "__main__":
    main()
