"""`balle2017-1` beside image files and mosaics: Kodak by BD-rate, Fashion-MNIST by bytes at equal PSNR.

    python benchmarks/balle.py                        # both, with the models of benchmarks/train_systems.py
    python benchmarks/balle.py --only fashion --images 1000
    python benchmarks/balle.py --only kodak --photo runs/systems/balle-photo.safetensors

The 24 Kodak images, each a group of its own, against JPEG files (4:2:0, optimised tables): BD-rate on mean PSNR, over the range
that both have, which is printed. The test images of Fashion-MNIST at 64x64 against JPEG files at 30.75 and 35 dB mean PSNR.
Weights stand in a column of their own. Neither set was trained on.

Needs BATCHCODEC_DATA with `kodak/` and `fashion-mnist/` in it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import fashion
import kodak
import rates
from rates import Dataset, Point, line, measure, numbers, table, with_json, write_json

from batchcodec.learned import model_file

NAME = "balle2017"
QUALITIES = [1, 15, 30, 45, 60, 75, 88, 100]
HERE = Path(__file__).parent


def add(families: dict[str, list[Point]], name: str, dataset: Dataset, text: str, model: Path | None, workers: int) -> None:
    point = measure(dataset, text, model, codec=name, setting=text.partition(":")[2], workers=workers)
    print(line(point), flush=True)
    families.setdefault(name, []).append(point)


def ours(families: dict[str, list[Point]], dataset: Dataset, model: Path, args: argparse.Namespace) -> None:
    for quality in args.qualities:
        add(families, NAME, dataset, f"balle2017-1:quality={quality}", model, args.workers)


def on_kodak(args: argparse.Namespace) -> dict[str, Any]:
    folder, images = rates.kodak()
    dataset = Dataset(folder, images, group_items=1)
    print(f"{len(images)} Kodak images, each a group of its own\n{table([])}")
    families: dict[str, list[Point]] = {}
    for name, (template, qualities) in kodak.RIVALS.items():
        for quality in qualities:
            add(families, name, dataset, template.format(q=quality), None, args.workers)
    ours(families, dataset, args.photo, args)
    return {"images": len(images), "model": about(args.photo), "summary": kodak.summary(families), "points": families}


def on_fashion(args: argparse.Namespace) -> dict[str, Any]:
    families: dict[str, list[Point]] = {}
    with tempfile.TemporaryDirectory() as folder:
        dataset = rates.fashion(Path(folder), args.images)
        print(f"{len(dataset.images):,} test images of Fashion-MNIST at 64x64\n{table([])}")
        for template, qualities in fashion.RIVALS.items():
            name = template.partition(":")[0] + (" mosaic" if "mosaic" in template else "")
            for quality in qualities:
                add(families, name, dataset, template.format(q=quality), None, args.workers)
        ours(families, dataset, args.fashion, args)
    rows = []
    for target in rates.TARGETS:
        found = {name: rates.bytes_at(points, target) for name, points in families.items()}
        anchor = found["jpeg"]
        print(f"\nat {target} dB, bytes per image without weights, and beside JPEG files")
        for name, n_bytes in found.items():
            saved = None if n_bytes is None or anchor is None else 100 * (n_bytes / anchor - 1)
            text = "not reached" if n_bytes is None or saved is None else f"{n_bytes:8.1f} {saved:+7.1f} %"
            print(f"  {name:<16} {text}")
            rows.append({"target_db": target, "codec": name, "bytes": n_bytes, "to_jpeg_percent": saved})
    return {"images": len(dataset.images), "model": about(args.fashion), "at": rows, "points": families}


def about(model: Path) -> dict[str, Any]:
    """What a model says of its training."""
    blob = model.read_bytes()
    training = model_file.parse(blob)[1].get("training", {})
    figures = {name: training.get(name) for name in ("steps", "seconds")}
    return {"name": model.name, "sha256": hashlib.sha256(blob).hexdigest(), **figures}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("kodak", "fashion"))
    parser.add_argument("--photo", type=Path, default=HERE / "models" / "photo-balle2017.safetensors")
    parser.add_argument("--fashion", type=Path, default=HERE / "models" / "fashion64-balle2017.safetensors")
    parser.add_argument("--images", type=int, help="first images of Fashion-MNIST only")
    parser.add_argument("--qualities", type=numbers, default=QUALITIES)
    parser.add_argument("--workers", type=int, default=1, help="groups coded at once; seconds stay those of one core")
    with_json(parser, "balle")
    args = parser.parse_args()
    found = json.loads(args.json.read_text()) if args.json.exists() else {}
    if args.only != "fashion":
        found["kodak"] = on_kodak(args)
    if args.only != "kodak":
        found["fashion"] = on_fashion(args)
    write_json(args.json, **found)


if __name__ == "__main__":
    main()
