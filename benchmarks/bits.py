"""What bits of latents bring: `autoencoder-1` with uint8, with as many bits in every channel, and with `bits=auto:X`.

    python benchmarks/bits.py                          # Fashion-MNIST at 64x64, the first 1,000 test images
    python benchmarks/bits.py --images 10000 --models benchmarks/models/fashion64-latent12-mse.safetensors
    python benchmarks/bits.py --redraw                 # the figure of the last run again; measures nothing

For each model and entropy coder: real archives at 8 bits (plain uint8), at 2 to 7 bits in every channel, and at automatic bits
of the same averages and between. Bytes are those of the archive without weights, which stand apart; PSNR is of what `pack`
decoded from the payload. Automatic bits are compared with uniform ones at the same average, and at the same bytes, between two
archives: *dominates* means a higher mean PSNR at the same bytes. The program fails where they are worse by 0.01 dB or more.

Then `hyperprior-1`, whose steps were trained for each channel: those steps, one common step for all, and `bits=auto:X`.
Bytes are compared at equal mean PSNR.

Needs BATCHCODEC_DATA with `fashion-mnist/` in it. Test images were not trained on.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rates
from rates import Dataset, with_json, write_json

from batchcodec import PackOptions, pack
from batchcodec.archive.reader import Archive
from batchcodec.entropy.codes import ENTROPY_CODERS
from batchcodec.learned import model_file
from batchcodec.learned.hyperprior import precision
from batchcodec.registry import registry

HERE = Path(__file__).parent
MODELS = [HERE / "models" / f"fashion64-latent12-{loss}.safetensors" for loss in ("mse", "rate2.5")]
UNIFORM = [2, 3, 4, 5, 6, 7, 8]
AUTOMATIC = [2, 2.5, 3, 3.5, 4, 4.5, 5, 5.5, 6, 7]
HYPERPRIOR = rates.FASHION_MODEL
HYPERPRIOR_BITS = [0.2, 0.26, 0.34, 0.42, 0.52, 0.65]
NEAR = 0.1
"""dB below plain uint8 that count as "as good", for the table of what is saved."""
WORSE = 0.01
"""dB at equal bytes."""


@dataclass(frozen=True)
class Row:
    """One archive.

    Attributes:
        model, entropy: what it was packed with.
        way: "uniform" (as many bits in every channel) or "auto"; of hyperprior-1 also "trained" and "common".
        average: bits asked for.
        bits: of each channel; none where all have 8.
        bytes_per_image: of the archive without weights.
        weight_bytes: in the archive once.
        mean_psnr: mean over images, dB.
        pooled_psnr: of all errors together, dB.
    """

    model: str
    entropy: str
    way: str
    average: float
    bits: list[int]
    bytes_per_image: float
    weight_bytes: int
    mean_psnr: float
    pooled_psnr: float


def measure(dataset: Dataset, model: Path, entropy: str, way: str, average: float) -> Row:
    """Pack, and look into the archive."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "a.cpack")
        options = PackOptions(
            codec="autoencoder-1",
            model=model,
            entropy=entropy,
            bits=int(average) if way == "uniform" else f"auto:{average:g}",
            preprocess=dataset.preprocess,
            workers=1,
        )
        packed = pack(dataset.path, target, options)
        with Archive(target, registry().restore) as archive:
            (record,) = archive.codecs.values()
    config: Any = record.config.get("precision", {"bits": []})
    return Row(
        model=model.stem.removeprefix("fashion64-"),
        entropy=entropy,
        way=way,
        average=average,
        bits=config["bits"],
        bytes_per_image=(packed.n_bytes - packed.bytes.model) / packed.n_items,
        weight_bytes=packed.bytes.model,
        mean_psnr=packed.mean_psnr or 0.0,
        pooled_psnr=packed.pooled_psnr or 0.0,
    )


def line(row: Row) -> str:
    return (
        f"{row.model:<18} {row.entropy:<8} {row.way:<8} {row.average:4g} {row.bytes_per_image:8.1f} {row.mean_psnr:7.2f} "
        f"{row.pooled_psnr:7.2f} {row.weight_bytes:9,}  {''.join(map(str, row.bits))}"
    )


def points_of(rows: Sequence[Row], model: str, entropy: str, way: str) -> dict[float, Row]:
    """By the average; 8 bits are on both curves."""
    return {
        row.average: row
        for row in rows
        if (row.model, row.entropy) == (model, entropy) and (row.way == way or row.average == 8)
    }


def pairs_of(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Models and entropy coders."""
    return list(dict.fromkeys((row.model, row.entropy) for row in rows))


def verdicts(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Automatic beside uniform bits at each average that both have, and at the bytes of the automatic ones."""
    found = []
    for model, entropy in pairs_of(rows):
        uniform, auto = (points_of(rows, model, entropy, way) for way in ("uniform", "auto"))
        curve = sorted(uniform.values(), key=lambda p: p.bytes_per_image)
        sizes, decibels = np.log([p.bytes_per_image for p in curve]), [p.mean_psnr for p in curve]
        for average in sorted((uniform.keys() & auto.keys()) - {8}):
            a, b = auto[average], uniform[average]
            at_equal_bytes = a.mean_psnr - float(np.interp(np.log(a.bytes_per_image), sizes, decibels))
            found.append(
                {
                    "model": model,
                    "entropy": entropy,
                    "average": average,
                    "uniform": [b.bytes_per_image, b.mean_psnr],
                    "auto": [a.bytes_per_image, a.mean_psnr],
                    "db_at_equal_bytes": at_equal_bytes,
                    "dominates": at_equal_bytes > 0,
                }
            )
    return found


def savings(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Plain uint8, and the bytes at which each way is as good: between its archives, linear in (dB, log bytes)."""
    found = []
    for model, entropy in pairs_of(rows):
        plain = points_of(rows, model, entropy, "uniform")[8]
        row: dict[str, Any] = {
            "model": model,
            "entropy": entropy,
            "plain": plain.bytes_per_image,
            "plain_db": plain.mean_psnr,
            "weights": plain.weight_bytes,
        }
        for way in ("uniform", "auto"):
            points = sorted(points_of(rows, model, entropy, way).values(), key=lambda p: (p.mean_psnr, p.bytes_per_image))
            decibels, sizes = [p.mean_psnr for p in points], np.log([p.bytes_per_image for p in points])
            sizes = np.minimum.accumulate(sizes[::-1])[::-1]  # fewer bytes at a higher PSNR: that point is taken
            row[way] = float(np.exp(np.interp(plain.mean_psnr - NEAR, decibels, sizes)))
        found.append(row)
    return found


def hyperprior_rows(dataset: Dataset, folder: Path) -> list[Row]:
    """`hyperprior-1` with its own steps, with the same step in all channels, and with `auto`."""
    blob = HYPERPRIOR.read_bytes()
    steps = model_file.parse(blob)[0]["steps"].astype(float)
    middle = len(steps) // 2
    common = folder / "common.safetensors"
    common.write_bytes(precision.with_factors(blob, np.exp(np.log(steps[middle]).mean()) / steps[middle]))
    rows = []
    for way, model in (("trained", HYPERPRIOR), ("common", common), ("auto", HYPERPRIOR)):
        for average in HYPERPRIOR_BITS:
            options = PackOptions(
                codec="hyperprior-1:effort=2,tune=mse",
                model=model,
                bits=f"auto:{average:g}" if way == "auto" else average,
                preprocess=dataset.preprocess,
                workers=1,
                force=True,
            )
            packed = pack(dataset.path, folder / "a.cpack", options)
            size = (packed.n_bytes - packed.bytes.model) / packed.n_items
            psnrs = packed.mean_psnr or 0.0, packed.pooled_psnr or 0.0
            rows.append(Row("hyperprior", "rans", way, average, [], size, packed.bytes.model, *psnrs))
            print(line(rows[-1]), flush=True)
    return rows


def beside_trained(rows: Sequence[Row]) -> dict[str, float]:
    """Bytes at equal mean PSNR beside the trained steps, in percent: the mean over the archives of each other way."""
    trained = sorted((row for row in rows if row.way == "trained"), key=lambda row: row.mean_psnr)
    decibels, sizes = [row.mean_psnr for row in trained], np.log([row.bytes_per_image for row in trained])
    found = {}
    for way in ("common", "auto"):
        inside = [row for row in rows if row.way == way and decibels[0] <= row.mean_psnr <= decibels[-1]]
        logs = [np.log(row.bytes_per_image) - np.interp(row.mean_psnr, decibels, sizes) for row in inside]
        found[way] = 100 * (float(np.exp(np.mean(logs))) - 1)
    return found


def draw(rows: Sequence[Row], others: Sequence[Row], path: Path) -> None:
    """Mean PSNR over bytes, one panel for each model."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    models = list(dict.fromkeys(row.model for row in rows))
    n_panels = len(models) + bool(others)
    figure, axes = plt.subplots(1, n_panels, figsize=(5.6 * n_panels, 5.4), layout="constrained", squeeze=False)
    colours = dict(zip(ENTROPY_CODERS, ("tab:gray", "tab:blue", "tab:orange", "tab:red"), strict=True))
    for axis, model in zip(axes[0], models, strict=False):
        for entropy in ENTROPY_CODERS:
            for way, style in (("uniform", "--x"), ("auto", "-o")):
                points = sorted(points_of(rows, model, entropy, way).values(), key=lambda p: p.bytes_per_image)
                label = f"{entropy}, {'auto:X' if way == 'auto' else 'same bits in all channels'}"
                x, y = [p.bytes_per_image for p in points], [p.mean_psnr for p in points]
                axis.plot(x, y, style, color=colours[entropy], markersize=4, linewidth=1.2, label=label)
            plain = points_of(rows, model, entropy, "uniform")[8]
            axis.plot(plain.bytes_per_image, plain.mean_psnr, "*", color=colours[entropy], markersize=13)
        axis.plot([], [], "*", color="black", linestyle="", markersize=11, label="plain uint8")
        axis.set(title=f"autoencoder-1, {model}", ylabel="mean PSNR, dB")
    for way, style in (("common", "--x"), ("trained", "-s"), ("auto", "-o")):
        points = sorted((row for row in others if row.way == way), key=lambda p: p.bytes_per_image)
        label = {"common": "one step for all channels", "trained": "trained steps", "auto": "auto:X"}[way]
        x, y = [p.bytes_per_image for p in points], [p.mean_psnr for p in points]
        if points:
            axes[0][-1].plot(x, y, style, markersize=4, linewidth=1.2, label=label)
            axes[0][-1].set(title="hyperprior-1")
    for axis in axes[0]:
        axis.set(xscale="log", xlabel="bytes per image, all but weights (log)")
        low, high = axis.get_xlim()
        axis.set_xticks([n for n in (40, 50, 70, 100, 140, 200, 280, 400, 560, 800) if low < n < high])
        axis.xaxis.set_major_formatter(mpl.ticker.FormatStrFormatter("%g"))
        axis.xaxis.set_minor_locator(mpl.ticker.NullLocator())
        axis.grid(alpha=0.3)
        if axis is axes[0][0] or (others and axis is axes[0][-1]):  # the panels of `autoencoder-1` share one
            axis.legend(fontsize=8, loc="upper left")
    figure.suptitle("fewer bits for latents: Fashion-MNIST test images at 64x64")
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, nargs="+", default=MODELS)
    parser.add_argument("--images", type=int, default=1000, help="first test images")
    parser.add_argument("--only", choices=("autoencoder", "hyperprior"), help="keep what the last run found of the other")
    parser.add_argument("--coders", nargs="+", choices=ENTROPY_CODERS, default=ENTROPY_CODERS, help="keep the others' rows")
    parser.add_argument("--redraw", action="store_true", help="draw the figure of the last run again, and measure nothing")
    with_json(parser, "bits")
    args = parser.parse_args()
    found: dict[str, Any] = json.loads(args.json.read_text()) if args.json.exists() else {}
    if not args.redraw:
        with tempfile.TemporaryDirectory() as folder:
            dataset = rates.fashion(Path(folder), args.images)
            print(f"{len(dataset.images):,} test images of Fashion-MNIST at 64x64")
            print(f"{'model':<18} {'entropy':<8} {'way':<8} bits {'B/image':>8} {'dB':>7} {'pooled':>7} {'weights':>9}  bits")
            found["images"] = len(dataset.images)
            if args.only != "hyperprior":
                kept = [Row(**row) for row in found.get("rows", []) if row["entropy"] not in args.coders]
                found |= autoencoder(dataset, args.models, args.coders, kept)
            if args.only != "autoencoder":
                rows = hyperprior_rows(dataset, Path(folder))
                found |= {"hyperprior": [asdict(row) for row in rows], "beside_trained": beside_trained(rows)}
                print("\nhyperprior-1, bytes at equal mean PSNR beside its trained steps")
                for way, percent in found["beside_trained"].items():
                    print(f"  {way:<8} {percent:+.2f} %")
        write_json(args.json, **found)
    rows, others = ([Row(**row) for row in found.get(name, [])] for name in ("rows", "hyperprior"))
    draw(rows, others, args.json.with_suffix(".png"))
    if any(verdict["db_at_equal_bytes"] <= -WORSE for verdict in found.get("verdicts", [])):
        sys.exit("automatic bits are worse than uniform ones somewhere")


def autoencoder(dataset: Dataset, models: Sequence[Path], coders: Sequence[str], kept: Sequence[Row]) -> dict[str, Any]:
    """Rows of `autoencoder-1`, and what is read from them and from those that are kept."""
    rows: list[Row] = []
    for model in models:
        for entropy in coders:
            for way, averages in (("uniform", UNIFORM), ("auto", AUTOMATIC)):
                for average in averages:
                    rows.append(measure(dataset, model, entropy, way, average))
                    print(line(rows[-1]), flush=True)
    rows = sorted([*kept, *rows], key=lambda row: (row.model, ENTROPY_CODERS.index(row.entropy)))
    found, saved = verdicts(rows), savings(rows)
    print("\nat equal averages: bytes and dB, uniform and auto; and dB that auto gains at equal bytes")
    for v in found:
        said = "dominates" if v["dominates"] else "does not dominate"
        pairs = "  ".join(f"{v[way][0]:6.1f} B {v[way][1]:5.2f} dB" for way in ("uniform", "auto"))
        print(f"{v['model']:<18} {v['entropy']:<8} {v['average']:4g}  {pairs} {v['db_at_equal_bytes']:+7.3f} dB  {said}")
    print(f"\nbytes per image at {NEAR} dB below plain uint8")
    for s in saved:
        print(f"{s['model']:<18} {s['entropy']:<8} {s['plain']:8.1f} uniform {s['uniform']:8.1f} auto {s['auto']:8.1f}")
    return {"near": NEAR, "rows": [asdict(row) for row in rows], "verdicts": found, "savings": saved}


if __name__ == "__main__":
    main()
