"""The 24 Kodak images: rate, quality and time of the shipped photo model beside JPEG, WebP, AVIF and JPEG XL files.

    python benchmarks/kodak.py                                  # efforts 1 and 2
    python benchmarks/kodak.py --efforts 1,2,5,9 --fewer 1,35,68,100  # an hour: four qualities are enough for effort 9
    python benchmarks/kodak.py --efforts 1 --images 2 --qualities 20,60
    python benchmarks/kodak.py --model runs/photo-rgb.safetensors

Each image is a group of its own, so each decodes alone. BD-rates are against JPEG (4:2:0, optimised tables, progressive where
that is smaller; its encoding time has both), over the PSNR that both codecs have, on the mean over images of PSNR and of bytes.
Seconds are CPU seconds of one core for one image. Weights stand in a column of their own: the shipped model is in the archive,
too. If `compressai` is installed, its bmshj2018 architectures are timed with untrained weights, on the same core; their rates
would mean nothing.

Kodak was never trained on. Needs BATCHCODEC_DATA with `kodak/` in it.
"""

from __future__ import annotations

import argparse
import importlib
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from rates import Dataset, Point, bd_rate, kodak, line, measure, numbers, table, with_json, write_json

from batchcodec import Preprocess
from batchcodec.types import Pixels

RIVALS = {
    "jpeg 4:2:0": ("jpeg:quality={q}", (5, 10, 15, 20, 30, 40, 50, 60, 70, 80, 90, 95)),
    "webp": ("webp:quality={q}", (0, 5, 15, 30, 50, 65, 75, 85, 92, 97)),
    "avif speed 6": ("avif:quality={q},speed=6", (8, 15, 25, 35, 45, 55, 65, 75, 85)),
    "jxl effort 7": ("jxl:quality={q},effort=7", (5, 10, 20, 35, 50, 65, 75, 85, 92)),
}
COMPRESSAI = ("bmshj2018_factorized", "bmshj2018_hyperprior")


def summary(families: dict[str, list[Point]]) -> list[dict[str, object]]:
    """BD-rates and seconds: the second table."""
    anchor = families["jpeg 4:2:0"]
    print(f"\n{'codec':<16} {'BD-rate':>9} {'on pooled':>10} {'enc s':>8} {'dec s':>8}   PSNR range, dB")
    rows: list[dict[str, object]] = []
    for name, points in families.items():
        found = [bd_rate(anchor, points, pooled=pooled) for pooled in (False, True)]
        texts = ["-" if rate is None else f"{rate:+.1f} %" for rate in found]
        n = sum(p.n_items for p in points)
        encode, decode = sum(p.encode_seconds for p in points) / n, sum(p.decode_seconds for p in points) / n
        low, high = min(p.mean_psnr for p in points), max(p.mean_psnr for p in points)
        print(f"{name:<16} {texts[0]:>9} {texts[1]:>10} {encode:8.3f} {decode:8.3f}   {low:.2f} to {high:.2f}")
        rows.append({"codec": name, "bd_rate": found[0], "bd_rate_pooled": found[1], "encode_s": encode, "decode_s": decode})
    return rows


def time_compressai(images: Sequence[Pixels], n_images: int = 3) -> list[dict[str, object]]:
    """Seconds for one image of CompressAI's architectures with untrained weights, on one core."""
    import torch

    models = importlib.import_module("compressai.models")
    zoo: dict[str, Any] = {
        "bmshj2018_factorized": lambda: models.FactorizedPrior(128, 192),
        "bmshj2018_hyperprior": lambda: models.ScaleHyperprior(128, 192),
    }
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    rows: list[dict[str, object]] = []
    print(f"\nCompressAI {importlib.import_module('compressai').__version__}, untrained weights (quality 1 to 5: N 128, M 192)")
    try:
        for name in COMPRESSAI:
            torch.manual_seed(0)
            network = zoo[name]().eval()
            network.update(force=True)
            seconds = np.zeros(2)
            with torch.no_grad():
                for n_run, image in enumerate([images[0], *images[:n_images]]):
                    x = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255
                    times = [time.process_time()]
                    coded = network.compress(x)
                    times.append(time.process_time())
                    network.decompress(coded["strings"], coded["shape"])
                    times.append(time.process_time())
                    seconds += np.diff(times) * (n_run > 0)  # the first run warms up
            encode, decode = seconds / min(n_images, len(images))
            print(f"{name:<24} {encode:8.3f} {decode:8.3f}   s for one image: encode, decode")
            rows.append({"architecture": name, "encode_s": encode, "decode_s": decode})
    finally:
        torch.set_num_threads(before)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="in place of the shipped one")
    parser.add_argument("--images", type=int, help="first images only")
    parser.add_argument("--efforts", type=numbers, default=[1, 2])
    parser.add_argument("--qualities", type=numbers, default=[1, 15, 30, 45, 60, 75, 88, 100])
    parser.add_argument("--fewer", type=numbers, help="qualities of effort 9 in place of those")
    parser.add_argument("--tune", default="psnr", choices=("psnr", "mse"))
    parser.add_argument("--workers", type=int, default=1, help="groups coded at once; seconds stay those of one core")
    with_json(parser, "kodak")
    args = parser.parse_args()
    folder, images = kodak(args.images)
    if args.images is None:
        dataset = Dataset(folder, images, group_items=1)
        rows, points = run(dataset, args)
    else:
        rows, points = run_first(images, args)
    timed: list[dict[str, object]] = []
    if find_spec("compressai"):
        timed = time_compressai(images)
    else:
        print("\ncompressai is not installed: its architectures are left out")
    model = args.model.name if args.model else "shipped"
    write_json(args.json, images=len(images), model=model, summary=rows, points=points, compressai_untrained=timed)


def run(dataset: Dataset, args: argparse.Namespace) -> tuple[list[dict[str, object]], dict[str, list[Point]]]:
    """All curves of a dataset, and their summary."""
    print(f"{len(dataset.images)} Kodak images, each a group of its own")
    print(table([]))
    families: dict[str, list[Point]] = {}

    def add(name: str, text: str, setting: str, model: Path | None = None) -> None:
        point = measure(dataset, text, model, codec=name, setting=setting, workers=args.workers)
        print(line(point), flush=True)
        families.setdefault(name, []).append(point)

    for name, (template, qualities) in RIVALS.items():
        for q in qualities:
            add(name, template.format(q=q), f"quality={q}")
    for effort in args.efforts:
        for q in args.fewer if effort == 9 and args.fewer else args.qualities:
            text = f"hyperprior-1:quality={q},effort={effort},tune={args.tune}"
            add(f"hyperprior e{effort}", text, f"quality={q}", args.model)
    return summary(families), families


def run_first(images: Sequence[Pixels], args: argparse.Namespace) -> tuple[list[dict[str, object]], dict[str, list[Point]]]:
    """The same of the first images, from a folder of their own."""
    import tempfile

    from PIL import Image

    with tempfile.TemporaryDirectory() as name:
        for i, image in enumerate(images):
            Image.fromarray(image).save(Path(name, f"{i:02}.png"), compress_level=1)
        return run(Dataset(Path(name), images, Preprocess(), group_items=1), args)


if __name__ == "__main__":
    main()
