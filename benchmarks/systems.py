"""All systems of the source paper and its rivals on three sets, in one table and one figure.

    python benchmarks/systems.py                # what the last run lacks: about half an hour of one core for all
    python benchmarks/systems.py --set kodak    # one set
    python benchmarks/systems.py --only comcnn --again  # measure the curves again whose name this is found in
    python benchmarks/systems.py --show         # the tables and the figure of the JSON, nothing measured

Sets: the first 2,000 test images of Fashion-MNIST at 64x64, gray; the 24 Kodak pictures; 1,000 EuroSAT tiles of 64x64, RGB,
those that `eurosat.py` holds out. Systems: the paper's autoencoder (`autoencoder-1`), Balle 2017 (`balle2017-1`), Jiang/Tao's
ComCNN and RecCNN over several codecs (`comcnn-1`; "reccnn" is RecCNN alone), `hyperprior-1`, and the classical codecs as files
and, for the small images, as mosaics of a group. The models for Fashion-MNIST were trained on its training images, all others
on photographs alone.

Each point is a real archive that is read back. Bytes are of the whole archive but weights, which have a column of their own.
BD-rates are against JPEG files (4:2:0, optimised tables) on mean PSNR, over the range that both have. At the set's PSNR, bytes
and MS-SSIM are interpolated between points. Milliseconds are CPU time of one core for one image, mean over a curve's points.

Needs BATCHCODEC_DATA with `fashion-mnist/`, `kodak/` and `eurosat.tar` in it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import eurosat
import numpy as np
import rates
from rates import Dataset, Point, bd_rate, bytes_at, from_arrays, line, measure, table, with_json, write_json

import batchcodec

MODELS = Path(__file__).with_name("models")
SHIPPED = Path(batchcodec.__file__).parent / "models"
ANCHOR = "jpeg"
TARGETS = {"fashion": 30.75, "kodak": 30.0, "eurosat": 32.0}
"""dB at which bytes are compared."""
TITLES = {"fashion": "Fashion-MNIST, 64x64 gray", "kodak": "Kodak, 768x512 RGB", "eurosat": "EuroSAT, 64x64 RGB"}

JPEG = (5, 10, 15, 20, 30, 45, 60, 75, 88, 95)
WEBP = (1, 10, 25, 45, 65, 80, 92)
AVIF = (10, 20, 30, 45, 60, 72, 84)
JXL = (5, 15, 30, 50, 70, 85, 92)
JPEG2000 = (24, 27, 30, 33, 36, 40)
LEARNED = (1, 20, 40, 60, 80, 100)
COMPACT = (8, 15, 25, 40, 60, 80, 92)


@dataclass(frozen=True)
class Family:
    """A curve: codec texts of its points, and the model of each."""

    name: str
    points: Sequence[tuple[str, Path | None]]


def swept(name: str, template: str, qualities: Sequence[int], model: Path | None = None) -> Family:
    return Family(name, [(template.format(q=q), model) for q in qualities])


def classical(*, mosaics: bool) -> Iterator[Family]:
    yield Family("png", [("png", None)])
    yield Family("bmp", [("bmp", None)])
    yield swept("jpeg", "jpeg:quality={q}", JPEG)
    yield swept("jpeg2000", "jpeg2000:psnr={q}", JPEG2000)
    yield swept("webp", "webp:quality={q}", WEBP)
    yield swept("avif", "avif:quality={q},speed=4", AVIF)
    yield swept("jxl", "jxl:quality={q}", JXL)
    if mosaics:
        yield swept("jpeg mosaic", "jpeg:quality={q},mosaic=true", JPEG)
        yield swept("webp mosaic", "webp:quality={q},mosaic=true", WEBP)
        yield swept("avif mosaic", "avif:quality={q},speed=4,mosaic=true", AVIF)
        yield swept("jxl mosaic", "jxl:quality={q},mosaic=true", JXL)


def over(model: str, kind: str, bases: Sequence[tuple[str, str, Sequence[int]]]) -> Iterator[Family]:
    """`comcnn-1` with one model over several base codecs."""
    for name, options, qualities in bases:
        yield swept(f"{kind} over {name}", "comcnn-1:base=" + options, qualities, MODELS / model)


def families(name: str) -> Iterator[Family]:
    """The curves of a set."""
    yield from classical(mosaics=name != "kodak")
    if name == "fashion":
        for loss, options in (("mse", "entropy=none"), ("rate2.5", "entropy=rans")):
            paths = [MODELS / f"fashion64-latent{n}-{loss}.safetensors" for n in (12, 24, 32)]
            title = "autoencoder as in the paper" if loss == "mse" else "autoencoder, rate, rans"
            yield Family(title, [(f"autoencoder-1:{options}", path) for path in paths if path.exists()])
        yield swept("balle2017", "balle2017-1:quality={q}", LEARNED, MODELS / "fashion64-balle2017.safetensors")
        small = [
            ("jpeg", "jpeg,quality={q}", COMPACT),
            ("jpeg mosaic", "jpeg,quality={q},mosaic=true", COMPACT),
            ("webp mosaic", "webp,quality={q},mosaic=true", COMPACT),
            ("avif mosaic", "avif,quality={q},speed=4,mosaic=true", COMPACT),
        ]
        yield from over("fashion64-comcnn.safetensors", "comcnn", small)
        yield swept("hyperprior", "hyperprior-1:quality={q},effort=2", LEARNED, MODELS / "fashion64-hyperprior.safetensors")
        return
    yield Family("autoencoder, rate, rans", [("autoencoder-1", MODELS / "photo-latent32-rate2.5.safetensors")])
    yield swept("balle2017", "balle2017-1:quality={q}", LEARNED, MODELS / "photo-balle2017.safetensors")
    mosaic = ",mosaic=true" if name == "eurosat" else ""
    bases: list[tuple[str, str, Sequence[int]]] = [
        (f"{base}{' mosaic' if mosaic else ''}", f"{base},quality={{q}}{mosaic}", COMPACT)
        for base in ("jpeg", "webp", "avif", "jxl")
    ]
    bases.append((f"jpeg2000{' mosaic' if mosaic else ''}", f"jpeg2000,psnr={{q}}{mosaic}", JPEG2000))
    yield from over("photo-comcnn.safetensors", "comcnn", bases)
    yield from over("photo-comcnn-filter.safetensors", "reccnn", bases)
    yield swept("hyperprior", "hyperprior-1:quality={q},effort=2", LEARNED, SHIPPED / "photo-rgb.safetensors")


@contextmanager
def subject(name: str, n_images: int | None) -> Iterator[Dataset]:
    with tempfile.TemporaryDirectory() as folder:
        if name == "fashion":
            yield rates.fashion(Path(folder), n_images or 2000)
        elif name == "kodak":
            yield Dataset(*rates.kodak(), group_items=1)
        else:
            yield from_arrays(Path(folder, "tiles.npz"), eurosat.split(0, n_images)[1])


def about(model: Path | None) -> str | None:
    """Which model a curve is of."""
    return None if model is None else f"{model.name} {hashlib.sha256(model.read_bytes()).hexdigest()[:16]}"


def measured(dataset: Dataset, family: Family, workers: int) -> dict[str, Any]:
    points = []
    for text, model in family.points:
        setting = text.partition(":")[2] + (f" {model.stem}" if model and len(family.points) < 4 else "")
        point = measure(dataset, text, model, codec=family.name, setting=setting, workers=workers, structural=True)
        print(line(point), flush=True)
        points.append(point)
    return {"models": sorted({about(model) or "" for _, model in family.points} - {""}), "points": points}


# ---- what is shown


def at(points: Sequence[Point], target: float) -> tuple[float | None, float | None]:
    """Bytes per image and MS-SSIM at a mean PSNR."""
    rows = sorted((p.mean_psnr, p.mean_ms_ssim or 0) for p in points)
    n_bytes = bytes_at(points, target)
    decibels, similarity = np.array(rows).T
    return n_bytes, None if n_bytes is None else float(np.interp(target, decibels, similarity))


def rows_of(name: str, found: dict[str, Any]) -> list[list[str]]:
    """The table of a set, best curves first."""
    anchor = found[ANCHOR]["points"]
    rows = []
    for family, kept in found.items():
        points = kept["points"]
        n = sum(p.n_items for p in points)
        rate = bd_rate(anchor, points) if len(points) > 1 else None
        n_bytes, similarity = at(points, TARGETS[name])
        low, high = (end(p.mean_psnr for p in points) for end in (min, max))
        row = [
            family,
            "" if rate is None else f"{rate:+.1f} %",
            "" if n_bytes is None else f"{n_bytes:,.1f}",
            "" if similarity is None else f"{similarity:.4f}",
            f"{low:.2f} to {high:.2f}" if low < high else "lossless" if low > 90 else f"{low:.2f}",
            f"{min(p.bytes_per_item for p in points):,.1f}"
            + (f" to {max(p.bytes_per_item for p in points):,.1f}" if low < high else ""),
            f"{max(p.weight_bytes for p in points):,}" if points[0].weight_bytes else "",
            f"{1000 * sum(p.encode_seconds for p in points) / n:.2f}",
            f"{1000 * sum(p.decode_seconds for p in points) / n:.2f}",
        ]
        rows.append((0 if rate is None else -1, rate or 0, row))
    return [row for _, _, row in sorted(rows, key=lambda r: r[:2])]


def head(name: str) -> list[str]:
    target = TARGETS[name]
    return [
        "system",
        "BD-rate to JPEG files",
        f"bytes at {target:g} dB",
        f"MS-SSIM at {target:g} dB",
        "dB",
        "bytes per image",
        "weights, bytes",
        "encode, ms",
        "decode, ms",
    ]


def draw(content: dict[str, Any], path: Path) -> None:
    """A panel for each set: mean PSNR over bits per pixel."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(content), figsize=(7 * len(content), 7), layout="constrained", squeeze=False)
    colours = {"jpeg": "tab:gray", "webp": "tab:green", "avif": "tab:blue", "jxl": "tab:purple", "jpeg2000": "tab:brown"}
    own = {"hyperprior": "tab:red", "balle2017": "tab:orange", "autoencoder, rate, rans": "tab:pink"}
    for axis, (name, found) in zip(axes[0], content.items(), strict=True):
        for family, kept in found.items():
            points = sorted(kept["points"], key=lambda p: p.bits_per_pixel)
            if points[0].mean_psnr > 60:
                continue
            kind, _, base = family.rpartition(" over ")
            codec = base.removesuffix(" mosaic") or family.removesuffix(" mosaic")
            style = {"": "-" if family in own else ":" if family.endswith("mosaic") else "--", "comcnn": "-.", "reccnn": "-"}[
                kind
            ]
            axis.plot(
                [p.bits_per_pixel for p in points],
                [p.mean_psnr for p in points],
                style,
                marker={"comcnn": "v", "reccnn": "^"}.get(kind, "o" if family in own else "."),
                markersize=5,
                linewidth=1.8 if family in own else 1.1,
                color=own.get(family) or colours.get(codec, "black"),
                label=family,
            )
        axis.set(xscale="log", xlabel="bits per pixel, weights not counted (log)", ylabel="mean PSNR, dB", title=TITLES[name])
        axis.grid(alpha=0.3, which="both")
        axis.legend(fontsize=8)
    figure.savefig(path, dpi=100)
    print(f"written to {path}")


def load(path: Path) -> dict[str, dict[str, Any]]:
    """What earlier runs measured: curves by set and name."""
    if not path.exists():
        return {}
    content = json.loads(path.read_text())
    for found in content.values():
        for kept in found.values():
            kept["points"] = [Point(**row) for row in kept["points"]]
    return {name: content[name] for name in TITLES if name in content}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", choices=TITLES, action="append", help="one set; may be given again")
    parser.add_argument("--only", default="", metavar="REGEX", help="curves whose name it is found in")
    parser.add_argument("--again", action="store_true", help="measure what is there already, too")
    parser.add_argument("--images", type=int, help="first images only of the sets of small ones, for a look")
    parser.add_argument("--workers", type=int, default=1, help="groups coded at once; seconds stay those of one core")
    parser.add_argument("--show", action="store_true", help="measure nothing")
    with_json(parser, "systems")
    args = parser.parse_args()
    content = load(args.json)
    for name in [] if args.show else args.set or TITLES:
        found = content.setdefault(name, {})
        wanted = [f for f in families(name) if re.search(args.only, f.name) and (args.again or f.name not in found)]
        missing = [f for f in wanted if all(model is None or model.exists() for _, model in f.points)]
        if left := [f.name for f in wanted if f not in missing]:
            print(f"without a model (benchmarks/train_systems.py makes it): {', '.join(left)}")
        if missing:
            with subject(name, args.images) as dataset:
                print(f"{TITLES[name]}: {len(dataset.images):,} images\n{table([])}")
                for family in missing:
                    found[family.name] = measured(dataset, family, args.workers)
                    write_json(args.json, **content)
    content = {name: content[name] for name in TITLES if name in content}
    for name, found in content.items():
        print(f"\n{TITLES[name]}")
        cells = [head(name), *rows_of(name, found)]
        widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
        for row in cells:
            print(
                "  ".join(
                    cell.ljust(width) if i == 0 else cell.rjust(width)
                    for i, (cell, width) in enumerate(zip(row, widths, strict=True))
                )
            )
    if content:
        draw(content, args.json.with_suffix(".png"))


if __name__ == "__main__":
    main()
