"""All systems of the source paper and its rivals on three sets, in one table and one figure.

    python benchmarks/systems.py                # what the last run lacks: about two hours of one core for all
    python benchmarks/systems.py --set kodak    # one set
    python benchmarks/systems.py --only comcnn --again  # measure the curves again whose name this is found in
    python benchmarks/systems.py --show         # the tables and the figure of the JSON, nothing measured

Sets: the first 2,000 test images of Fashion-MNIST at 64x64, gray; the 24 Kodak pictures; 1,000 EuroSAT tiles of 64x64, RGB,
those that `eurosat.py` holds out. Systems: the paper's autoencoder (`autoencoder-1`), Balle 2017 (`balle2017-1`), Jiang/Tao's
ComCNN and RecCNN over several codecs (`comcnn-1`; "reccnn" is RecCNN alone), `hyperprior-1`, and the classical codecs as files
and, for the small images, as mosaics of a group. The models for Fashion-MNIST were trained on its training images, all others
on photographs alone.

Each point is a real archive that is read back. Bytes are of the whole archive but weights, which have a column of their own.
BD-rates are against JPEG files (4:2:0, optimised tables) on mean PSNR: over one range for all curves that reach over it, and
over the range that a curve shares with JPEG. At the set's PSNR, bytes and MS-SSIM are interpolated between points. Milliseconds
are CPU time of one core for one image, mean over a curve's points.

Needs BATCHCODEC_DATA with `fashion-mnist/`, `kodak/` and `eurosat.tar` in it.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import eurosat
import rates
from rates import Dataset, from_arrays, line, measure, table, with_json, write_json
from systems_report import GAINS, TITLES, draw, gains, head, load, rows_of, show

import batchcodec

MODELS = Path(__file__).with_name("models")
SHIPPED = Path(batchcodec.__file__).parent / "models"

JPEG = (5, 10, 15, 20, 30, 45, 60, 75, 88, 95)
WEBP = (0, 10, 25, 45, 65, 80, 92)
AVIF = (1, 5, 10, 20, 30, 45, 60, 72, 84)
JXL = (1, 5, 15, 30, 50, 70, 85, 92)
JPEG2000 = (24, 27, 30, 33, 36, 40)
BITS = (1, 2, 3, 4, 6)
LEARNED = (1, 20, 40, 60, 80, 100)
COMPACT = (8, 20, 40, 65, 90)


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
    yield swept("avif", "avif:quality={q}", AVIF)
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
        plain = MODELS / "fashion64-latent12-mse.safetensors"
        yield Family("autoencoder as in the paper", [("autoencoder-1:entropy=none", plain)])
        yield swept("autoencoder, fewer bits", "autoencoder-1:entropy=none,bits=auto:{q}", BITS, plain)
        trained = [
            MODELS / f"fashion64-latent{name}.safetensors" for name in ("12-rate6", "12-rate2.5", "24-rate2.5", "32-rate2.5")
        ]
        yield Family("autoencoder, rate, rans", [("autoencoder-1:entropy=rans", path) for path in trained])
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
    bases: list[tuple[str, str, Sequence[int]]] = []
    for base in ("jpeg", "webp", "avif", "jxl"):
        slow = ",speed=4" if mosaic and base == "avif" else ""  # as the mosaics alone
        bases.append((f"{base}{' mosaic' if mosaic else ''}", f"{base},quality={{q}}{slow}{mosaic}", COMPACT))
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
        setting = text.partition(":")[2] + (
            f" {model.stem}" if model and len({model for _, model in family.points}) > 1 else ""
        )
        point = measure(dataset, text, model, codec=family.name, setting=setting, workers=workers, structural=True)
        print(line(point), flush=True)
        points.append(point)
    return {"models": sorted({about(model) or "" for _, model in family.points} - {""}), "points": points}


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
        show(TITLES[name], [head(name), *rows_of(name, found)])
        if rows := gains(found):
            show(f"{TITLES[name]}: networks around a codec", [GAINS, *rows])
    if content:
        draw(content, args.json.with_suffix(".png"))


if __name__ == "__main__":
    main()
