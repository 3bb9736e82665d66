"""The source paper's experiment: Fashion-MNIST at 64x64, the autoencoder with 12, 24 and 32 latents, beside other codecs.

Trains on the 60,000 training images (or uses the models in `--models`), packs the 10,000 test images through the library's own
`pack`, measures with its `report`, and prints bytes per image, PSNR, MSE and SSIM. Bytes are those of the whole archive but
weights, which stand in a column of their own; files of the classical codecs are counted in the archive too, so that
every row pays for names, labels and index. Images that are coded as one mosaic for each group of 256 are marked so.

    python benchmarks/paper.py --minutes 25      # trains three models, about 75 minutes on one core, and measures
    python benchmarks/paper.py --models benchmarks/models       # measures the models that were trained so

Needs BATCHCODEC_DATA with `fashion-mnist/` in it. The paper reports 0.6 KB at 30.75 dB for 12 latent channels.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from batchcodec import PackOptions, Preprocess, pack, report, unpack
from batchcodec.learned import model_file

TRAIN, TEST = "train-images-idx3-ubyte.gz", "t10k-images-idx3-ubyte.gz"
PAPER = {12: (600.0, 30.75)}
"""Bytes per image and dB that the paper reports, by latent channels."""

CLASSICAL = [
    "png",
    "bmp",
    "jxl:lossless=true,mosaic=true",
    *(f"jpeg:quality={q}" for q in (10, 20, 50, 75)),
    *(f"jpeg:quality={q},mosaic=true" for q in (10, 20, 50, 75)),
    *(f"jpeg2000:psnr={q}" for q in (30, 36)),
    *(f"jpeg2000:psnr={q},mosaic=true" for q in (30, 36)),
    *(f"webp:quality={q}" for q in (10, 50)),
    *(f"webp:quality={q},mosaic=true" for q in (1, 10, 50)),
    *(f"avif:quality={q}" for q in (20, 40)),
    *(f"avif:quality={q},speed=4,mosaic=true" for q in (20, 30, 40, 50)),
    *(f"avif:quality={q},speed=4,tune=psnr,mosaic=true" for q in (20, 40)),
    *(f"jxl:quality={q}" for q in (10, 40)),
    *(f"jxl:quality={q},mosaic=true" for q in (10, 40, 60)),
]


@dataclass
class Row:
    """One line of the table."""

    name: str
    codec: str
    latent: int | None
    rate_weight: float | None
    bytes_per_image: float
    weight_bytes: int
    mean_psnr: float
    pooled_psnr: float
    mean_mse: float
    mean_ssim: float
    seconds: float


def train_models(folder: Path, source: Path, latents: list[int], minutes: float, rate_weight: float, threads: int) -> None:
    """Train what is not there yet."""
    from batchcodec.learned.data import load_images
    from batchcodec.learned.settings import TrainStatus, latest
    from batchcodec.learned.train import TrainOptions, train

    missing = [n for n in latents if not model_path(folder, n, rate_weight).exists()]
    if not missing:
        return
    images = load_images(source, Preprocess(size=(64, 64)))
    folder.mkdir(parents=True, exist_ok=True)
    for latent in missing:
        last = 0.0

        def show(status: TrainStatus) -> None:
            nonlocal last
            if status.done - last > 0.05:
                last = status.done
                print(f"  {status.done:4.0%} {latest(status.log)}", flush=True)

        print(f"training latent {latent}, rate weight {rate_weight:g}, {minutes:g} minutes", flush=True)
        options = TrainOptions(latent=latent, rate_weight=rate_weight, minutes=minutes, threads=threads)
        train(images, model_path(folder, latent, rate_weight), options, resume=True, progress=show)


def model_path(folder: Path, latent: int, rate_weight: float) -> Path:
    """Where a model is kept."""
    loss = f"rate{rate_weight:g}" if rate_weight else "mse"
    return folder / f"fashion64-latent{latent}-{loss}.safetensors"


def title_of(model: Path) -> str:
    """Latents and loss of a model, from what it says of its training."""
    options = model_file.parse(model.read_bytes())[1]["training"]["options"]
    loss = f"rate {options['rate_weight']:g}" if options["rate_weight"] else "MSE only"
    return f"autoencoder {options['latent']}, {loss}"


def measure(source: Path, folder: Path, name: str, codec: str, model: Path | None) -> Row:
    """Pack the test images, compare, and give a line."""
    target = folder / "out.cpack"
    started = time.monotonic()
    options = PackOptions(codec=codec, model=model, preprocess=Preprocess(size=(64, 64)), force=True)
    packed = pack(source, target, options)
    seconds = time.monotonic() - started
    found = report(target, source)
    if found.quality is None:
        raise RuntimeError("a report against its source has a quality")
    latent = rate_weight = None
    if model is not None:
        training = model_file.parse(model.read_bytes())[1]["training"]["options"]
        latent, rate_weight = training["latent"], training["rate_weight"]
    return Row(
        name=name,
        codec=codec,
        latent=latent,
        rate_weight=rate_weight,
        bytes_per_image=found.info.bytes_per_item,
        weight_bytes=packed.bytes.model,
        mean_psnr=found.quality.mean_psnr,
        pooled_psnr=found.quality.pooled_psnr,
        mean_mse=found.quality.mean_mse,
        mean_ssim=found.quality.mean_ssim,
        seconds=seconds,
    )


def line(row: Row) -> str:
    """A row as text, with the paper's figure beside it where there is one."""
    paper = PAPER.get(row.latent or 0)
    beside = f"{paper[0]:.0f} B, {paper[1]:.2f} dB" if paper else ""
    weights = f"{row.weight_bytes / 1000:.0f} kB" if row.weight_bytes else ""
    return (
        f"{row.name:<38} {row.bytes_per_image:8.1f} {row.mean_psnr:7.2f} {row.pooled_psnr:7.2f} {row.mean_mse:8.2f} "
        f"{row.mean_ssim:7.4f} {weights:>8} {row.seconds:7.1f}  {beside}"
    )


def draw(rows: list[Row], models: list[Path], folder: Path, test: Path) -> None:
    """The plots: training (figure 2), quality (figure 4), size (figure 5), and quality over size."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.patches import Patch

    learned = [r for r in rows if r.latent]
    figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for path in models:
        training = model_file.parse(path.read_bytes())[1]["training"]
        steps = [entry["step"] * training["options"]["batch"] / training["n_train"] for entry in training["log"]]
        options, label = training["options"], title_of(path)
        axes[0].plot(steps, [entry["psnr"] for entry in training["log"]], label=label)
        if options["rate_weight"]:
            axes[1].plot(steps, [entry["bits_per_pixel"] for entry in training["log"]], label=label)
    axes[0].set(xlabel="epochs", ylabel="validation PSNR, dB", title="training (MSE only: before quantisation)")
    axes[1].set(xlabel="epochs", ylabel="estimated bits per pixel", title="rate")
    for axis in axes:
        axis.grid(alpha=0.3)
        axis.legend()
    figure.savefig(folder / "paper-figure2-training.png", dpi=110)

    bars = [r for r in rows if not r.latent or r.codec.endswith("rans")]
    for key, unit, title, number in (
        ("mean_psnr", "mean PSNR, dB (lossless: 100)", "quality", 4),
        ("bytes_per_image", "bytes per image (log)", "size", 5),
    ):
        figure, axis = plt.subplots(figsize=(9, 0.24 * len(bars) + 1), layout="constrained")
        colours = ["tab:red" if r.latent else "tab:blue" if "mosaic" in r.codec else "tab:gray" for r in bars]
        axis.barh([r.name for r in bars], [getattr(r, key) for r in bars], color=colours)
        axis.invert_yaxis()
        keys: list[Any] = [
            Patch(color="tab:red", label="this network"),
            Patch(color="tab:blue", label="mosaic of 256"),
            Patch(color="tab:gray", label="files"),
        ]
        axis.set(xlabel=unit, title=f"{title}: Fashion-MNIST test images at 64x64")
        if number == 5:
            axis.set_xscale("log")
            keys.append(axis.axvline(600, color="black", linestyle=":", label="paper, latent 12"))
        axis.legend(handles=keys)
        axis.grid(axis="x", alpha=0.3)
        figure.savefig(folder / f"paper-figure{number}-{title}.png", dpi=110)

    figure, axis = plt.subplots(figsize=(9, 6), layout="constrained")
    families: dict[str, list[Row]] = {}
    for row in rows:
        if row.mean_psnr < 60 and not row.latent:
            family = row.codec.split(":")[0] + (" mosaic" if "mosaic" in row.codec else " files")
            families.setdefault(family, []).append(row)
    for family, members in families.items():
        members.sort(key=lambda r: r.bytes_per_image)
        style = "-o" if "mosaic" in family else "--x"
        axis.plot([r.bytes_per_image for r in members], [r.mean_psnr for r in members], style, label=family, markersize=4)
    for row in learned:
        if row.codec.endswith("rans"):
            axis.plot(row.bytes_per_image, row.mean_psnr, "r*", markersize=11)
            side = (8, 6) if row.latent == 32 else (8, -12) if row.latent == 12 else (8, -3)
            short = row.name.removesuffix(", rans").replace("autoencoder", "AE")
            axis.annotate(short, (row.bytes_per_image, row.mean_psnr), side, textcoords="offset points", fontsize=8)
    axis.plot(*PAPER[12], "k*", markersize=13, label="paper, latent 12")
    axis.set(xscale="log", xlabel="bytes per image, all but weights (log)", ylabel="mean PSNR, dB", title=f"{test.name}, 64x64")
    axis.grid(alpha=0.3, which="both")
    axis.legend(fontsize=8)
    figure.savefig(folder / "paper-rate-distortion.png", dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("BATCHCODEC_DATA"), help="folder with fashion-mnist/")
    parser.add_argument("--models", type=Path, default=Path("runs/paper"), help="models are read from here, or trained into it")
    parser.add_argument("--latents", default="12,24,32")
    parser.add_argument("--minutes", type=float, default=25, help="training time of each model that is missing")
    parser.add_argument("--rate-weight", type=float, default=2.5)
    parser.add_argument("--mse-minutes", type=float, default=0, help="also train with MSE alone, as the paper does")
    parser.add_argument("--threads", type=int, default=1, help="training threads")
    parser.add_argument("--images", type=int, default=10_000, help="test images")
    parser.add_argument("--redraw", action="store_true", help="draw the plots of the last run again, and measure nothing")
    parser.add_argument("--only", help="only rows whose name has this in it")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results"), help="where JSON and plots go")
    options = parser.parse_args()
    if options.data is None:
        sys.exit("set BATCHCODEC_DATA or --data to a folder that has fashion-mnist/ with the four .gz files")
    fashion = options.data / "fashion-mnist"
    if options.redraw:
        last = [Row(**row) for row in json.loads((options.out / "paper.json").read_text())["rows"]]
        draw(last, sorted(options.models.glob("*.safetensors")), options.out, fashion / TEST)
        return
    latents = [int(n) for n in options.latents.split(",")]
    train_models(options.models, fashion / TRAIN, latents, options.minutes, options.rate_weight, options.threads)
    if options.mse_minutes:
        train_models(options.models, fashion / TRAIN, latents, options.mse_minutes, 0, options.threads)

    models = sorted(options.models.glob("*.safetensors"))
    jobs: list[tuple[str, str, Path | None]] = [
        (f"{title_of(path)}, {entropy}", f"autoencoder-1:entropy={entropy}", path)
        for path in models
        for entropy in ("none", "zstd", "huffman", "rans")
    ]
    jobs += [(codec.replace(":", " ").replace(",mosaic=true", " mosaic"), codec, None) for codec in CLASSICAL]
    print(f"{'codec':<38} {'B/image':>8} {'dB':>7} {'pooled':>7} {'MSE':>8} {'SSIM':>7} {'weights':>8} {'pack s':>7}  paper")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        test = fashion / TEST
        if options.images < 10_000:
            test = first_images(test, folder, options.images)
        for title, codec, model in jobs:
            if options.only is None or options.only in title:
                rows.append(measure(test, folder, title, codec, model))
                print(line(rows[-1]), flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {"images": options.images, "size": "64x64", "rows": [asdict(row) for row in rows]}
    (options.out / "paper.json").write_text(json.dumps(result, indent=1) + "\n")
    draw(rows, models, options.out, fashion / TEST)
    print(f"written to {options.out}")


def first_images(test: Path, folder: Path, n_images: int) -> Path:
    """An .npz of the first test images, for a quick look."""
    packed, arrays = folder / "all.cpack", folder / "all.npz"
    pack(test, packed, PackOptions(codec="zstd:level=1"))
    unpack(packed, arrays)
    with np.load(arrays) as found:
        np.savez(folder / "first.npz", images=found["images"][:n_images], labels=found["labels"][:n_images])
    return folder / "first.npz"


if __name__ == "__main__":
    main()
