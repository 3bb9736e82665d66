"""What each level of effort of `hyperprior-1` saves and takes: bytes at equal PSNR beside effort 1, and images per second.

    python benchmarks/effort.py fashion --images 512            # Fashion-MNIST test images
    python benchmarks/effort.py kodak --model runs/photo-rgb.safetensors    # crops of 256x256 of the Kodak images

Effort 1 is packed at many qualities, which gives its curve; each other effort at two. Its bytes are set against the curve's at
the same PSNR: the mean of the images' PSNR for `--tune psnr`, pooled PSNR for `--tune mse`. Decoding costs the same for all.
Needs BATCHCODEC_DATA.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from rates import (
    FASHION_MODEL,
    Dataset,
    bytes_at,
    fashion,
    from_arrays,
    kodak,
    line,
    measure,
    numbers,
    table,
    with_json,
    write_json,
)

CROP = 256


def kodak_crops(folder: Path, n_images: int | None) -> Dataset:
    """The middle of each Kodak image; each is a group of its own."""
    crops = []
    for image in kodak(n_images)[1]:
        top, left = (image.shape[0] - CROP) // 2, (image.shape[1] - CROP) // 2
        crops.append(image[top : top + CROP, left : left + CROP])
    return from_arrays(folder / "crops.npz", crops, group_items=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=("fashion", "kodak"))
    parser.add_argument("--model", type=Path, help="by default that of benchmarks/fashion.py, or the shipped one")
    parser.add_argument("--images", type=int, help="first images only; by default 512, or all of Kodak")
    parser.add_argument("--efforts", type=numbers, default=list(range(1, 10)))
    parser.add_argument("--qualities", type=numbers, default=[30, 65], help="two, at which all efforts are packed")
    parser.add_argument("--tune", default="psnr", choices=("psnr", "mse"))
    parser.add_argument("--workers", type=int, default=1, help="groups coded at once; seconds stay those of one core")
    with_json(parser, "effort")
    args = parser.parse_args()
    on_fashion, pooled = args.dataset == "fashion", args.tune == "mse"
    model = args.model or (FASHION_MODEL if on_fashion else None)
    high = max(args.qualities)
    reach = sorted({q for q in (*range(1, high + 17, 6), *args.qualities) if q <= 100})
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        dataset = fashion(path, args.images or 512) if on_fashion else kodak_crops(path, args.images)
        print(f"{len(dataset.images)} images, tune={args.tune}: the curve of effort 1")
        print(table([]))
        points = []
        for q in reach:
            points.append(measure(dataset, f"hyperprior-1:quality={q},effort=1,tune={args.tune}", model, workers=args.workers))
            print(line(points[-1]), flush=True)
        print(f"\n{'effort':>6} {'quality':>8} {'B/image':>9} {'dB':>7} {'pooled':>7} {'to effort 1':>12} {'images/s':>9}")
        for effort in args.efforts:
            for q in args.qualities:
                text = f"hyperprior-1:quality={q},effort={effort},tune={args.tune}"
                point = measure(dataset, text, model, workers=args.workers)
                beside = bytes_at(points, point.pooled_psnr if pooled else point.mean_psnr, pooled=pooled)
                change = None if beside is None else 100 * (point.bytes_per_item / beside - 1)
                speed = point.n_items / point.encode_seconds
                ratio = "-" if change is None else f"{change:+.2f} %"
                print(
                    f"{effort:>6} {q:>8} {point.bytes_per_item:9.1f} {point.mean_psnr:7.2f} {point.pooled_psnr:7.2f} "
                    f"{ratio:>12} {speed:9.1f}",
                    flush=True,
                )
                rows.append({"effort": effort, "quality": q, "percent": change, "images_per_second": speed, "point": point})
    target = args.json.with_name(f"{args.json.stem}-{args.dataset}{args.json.suffix}")
    write_json(target, dataset=args.dataset, images=len(dataset.images), tune=args.tune, curve=points, rows=rows)


if __name__ == "__main__":
    main()
