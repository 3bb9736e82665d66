"""Put the figures of committed runs into README.md and docs: they are what benchmarks/results/*.json say.

python benchmarks/tables.py          # rewrites the tables
python benchmarks/tables.py --check  # exit 1 if a table is not what the results say (a test does this)
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import bits_report
import downstream
import speed_report
import systems_report
import torch

from batchcodec.learned.hyperprior.architecture import PROFILES, profile
from batchcodec.learned.hyperprior.network import Decoder, macs_per_pixel

HERE = Path(__file__).parent


def results(name: str) -> Any:
    return json.loads((HERE / "results" / f"{name}.json").read_text())


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def profiles() -> str:
    rows = []
    for name in PROFILES:
        for channels, kind in ((1, "gray"), (3, "RGB")):
            arch = profile(name, channels)[0]
            macs = macs_per_pixel(arch)
            with torch.device("meta"):
                n_weights = sum(parameter.numel() for parameter in Decoder(arch).parameters())
            cost = f"{macs['entropy']:,.0f} + {macs['synthesis']:,.0f} = {sum(macs.values()):,.0f}"
            rows.append([f"`{name}`", kind, cost, f"{n_weights:,}"])
    return table(["profile", "for", "multiplications per pixel: entropy + synthesis", "weights"], rows)


def fashion() -> str:
    run = results("fashion")["test"]
    targets = sorted({row["target_db"] for row in run["at"]})
    by_codec: dict[str, dict[float, dict[str, Any]]] = {}
    for row in run["at"]:
        by_codec.setdefault(row["codec"], {})[row["target_db"]] = row
    rows = []
    for codec, at in sorted(by_codec.items(), key=lambda row: not row[0].startswith("hyperprior")):  # ours first
        shown = [f"{at[t]['bytes']:.1f}" if at.get(t) and at[t]["bytes"] is not None else "" for t in targets]
        weights = next((p["weight_bytes"] for p in run["points"][codec]), 0)
        rows.append([codec, *shown, f"{weights:,}" if weights else ""])
    head = ["codec", *(f"bytes per image at {target} dB" for target in targets), "weights, bytes"]
    return f"{run['images']:,} test images.\n\n{table(head, rows)}"


def fashion_itself() -> str:
    run = results("fashion")["training"]
    rows = [
        [f"{row['target_db']}", row["codec"], f"{row['bytes']:.1f}", f"{row['bytes_with_weights']:.1f}"]
        for row in run["at"]
        if row["bytes"] is not None
    ]
    return f"{run['images']:,} images.\n\n" + table(["dB", "codec", "bytes per image", "with all weights"], rows)


def bd_rates(name: str, against: str) -> str:
    run = results(name)
    rows = []
    for row in run["summary"]:
        speed = [f"{row['encode_s']:.3f}", f"{row['decode_s']:.3f}"] if "encode_s" in row else []
        rows.append([row["codec"], f"{row['bd_rate']:+.1f} %", f"{row['bd_rate_pooled']:+.1f} %", *speed])
    timed = ["encode, s", "decode, s"] if "encode_s" in run["summary"][0] else []
    return table(["codec", f"BD-rate against {against}, mean PSNR", "pooled PSNR", *timed], rows)


def effort() -> str:
    run = results("effort-fashion")
    rows: dict[int, list[dict[str, Any]]] = {}
    for row in run["rows"]:
        rows.setdefault(row["effort"], []).append(row)
    cells = [
        [str(level), *(f"{row['percent']:+z.1f} %" for row in found), f"{found[0]['images_per_second']:.1f}"]
        for level, found in sorted(rows.items())
    ]
    qualities = [f"bytes at equal PSNR, quality {row['quality']}" for row in next(iter(rows.values()))]
    text = table(["effort", *qualities, "images/s, one core"], cells)
    return f"{run['images']:,} Fashion-MNIST test images of 64x64, beside effort 1 (`benchmarks/effort.py fashion`):\n\n{text}"


def similarity() -> str:
    run = results("similarity")
    anchor, tested = run["points"].values()
    rows = []
    for before, after in zip(anchor, tested, strict=True):
        shown = [f"{p['bits_per_pixel']:.4f}, {p['mean_psnr']:.2f} dB, {p['ms_ssim']:.4f}" for p in (before, after)]
        rows.append([f"{before['quality']:.0f}", *shown])
    rates = run["bd_rate"]
    text = table(["quality", "squared error alone: bits per pixel, PSNR, MS-SSIM", f"`--ms-ssim {run['share']:g}`"], rows)
    return (
        f"{run['steps']:,} steps each, from the model of `fashion.py`; {run['images']:,} test images. At equal MS-SSIM "
        f"{rates['ms_ssim_db']:+.1f} % of the bits, at equal PSNR {rates['mean_psnr']:+.1f} %.\n\n{text}"
    )


def exactness() -> str:
    run = results("exactness")
    rows = [
        [name, f"{rate['mean_psnr']:+.2f} %", f"{rate['pooled_psnr']:+.2f} %"] for name, rate in run["bd_rate_to_float"].items()
    ]
    return f"{run['steps']:,} steps each.\n\n" + table(["network", "BD-rate against float, mean PSNR", "pooled PSNR"], rows)


def all_results() -> str:
    parts = [
        ("Fashion-MNIST at 64x64, model trained on the 60,000 training images (`benchmarks/fashion.py`)", fashion),
        ("The training images themselves", fashion_itself),
        (
            "Kodak, the shipped model `photo-rgb`, not fitted (`benchmarks/kodak.py`)",
            lambda: bd_rates("kodak", "JPEG 4:2:0"),
        ),
        (
            "EuroSAT tiles, fitted on 4,000, measured on 1,000 others (`benchmarks/eurosat.py`)",
            lambda: bd_rates("eurosat", "AVIF mosaic"),
        ),
    ]
    return "\n\n".join(f"**{title}**\n\n{make()}" for title, make in parts)


def roofline(name: str = "roofline") -> str:
    content = results(name)
    rows = []
    for run in content["runs"]:
        share = run["shares"]
        rows.append(
            [
                run["subject"].replace("-", ", "),
                f"{run['us_per_image']:,.0f}",
                f"{run['mac_per_pixel']:,.0f}",
                f"{run['of_float32_peak']:.0%}",
                f"{run['main_layers']:.0%}",
                f"{run['synthesis_times_faster_than_plain']:.1f}",
                f"{share['layers']:.0%}",
                f"{share['latents']:.0%}",
                f"{share['entropy decoding']:.0%}",
            ]
        )
    head = ["images, profile", "us per image", "multiplications per pixel", "float32", "main layers", "times plain"]
    peaks = content["peaks"]
    said = f"Peaks: {peaks['float32']:.0f} (float32) and {peaks['bytes']:.0f} (bytes) x 10^9 multiplications per second."
    return f"{said}\n\n{table([*head, 'layers', 'latents', 'entropy decoding'], rows)}"


def ways(run: str = "roofline") -> str:
    rows = results(run)["candidates"]
    names = [name for name in rows[0] if name != "layer"]
    return table(["10^9 multiplications/s", *names], [[row["layer"], *(f"{row[name]:.0f}" for name in names)] for row in rows])


def against_formats() -> str:
    content = results("throughput")
    machine = content["machine"]
    libraries = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    parts = [f"{machine['processor']}, {machine['cores']} cores; Python {machine['python']}, {libraries}."]
    return "\n\n".join([*parts, *(speed_report.formats(content, name) for name in speed_report.SETS)])


def codecs_alone() -> str:
    content = results("throughput")
    return "\n\n".join(speed_report.codecs(content, name) for name in speed_report.SETS)


UNCODED = {
    downstream.ORIGINALS: "originals",
    downstream.NOISE: "originals with white noise",
    downstream.IDEAL: "what an ideal codec leaves",
}


def trained_from_archives() -> str:
    run = results("downstream")
    rows = []
    for row in run["summary"]:
        codec, _, options = row["codec"].partition(":")
        grain = ", with grain" * row["codec"].endswith(downstream.GRAIN)
        name = f"`{codec}`, {options.split(',')[0].replace('=', ' ')}{grain}"
        name = UNCODED.get(codec, name)
        psnr = "" if row["mean_psnr"] is None else f"{row['mean_psnr']:.2f}"
        accuracies = [
            downstream.percent(row["accuracy"], row["spread"]),
            downstream.percent(row["accuracy_decoded"], row["spread_decoded"]),
        ]
        seconds = [f"{row['first_epoch_s']:.1f}", f"{row['epoch_s']:.1f}"]
        rows.append([row["set"], name, f"{row['bytes_per_image']:.1f}", psnr, *accuracies, *seconds])
    head = ["set", "trained from", "B/image", "dB", "tested on originals", "on decoded images", "epoch 1, s", "later, s"]
    said = [f"- {downstream.sentence(verdict)}." for verdict in run["verdicts"]]
    seeds = sorted({row["seeds"] for row in run["summary"]})
    text = f"Accuracy: mean over {' or '.join(map(str, seeds))} seeds, lowest and highest.\n\n{table(head, rows)}\n\n"
    return text + "\n".join(said)


def viewer() -> str:
    run = results("view-scale")
    asked = {
        "page_ms": "the page, with the names and pictures of the first 64 images",
        "first_search_ms": "a search at once after that: the names are still being read",
        "search_ms": "a search of a part of a name, that 100 images have",
        "search_all_ms": "the same, that all images have",
        "pattern_ms": "a search of a shell pattern",
        "label_ms": "the images of a label",
        "search_again_ms": "further images of a search that was made",
        "names_ms": "64 names, anywhere",
        "pictures_ms": "64 pictures, anywhere",
    }
    rows = [[text, f"{run[name]:,.0f}"] for name, text in asked.items()]
    said = (
        f"{run['images']:,} images of 32x32, {run['machine']}. The server takes {run['peak_mb']:.0f} MB; a process that only "
        f"opens the archive, {run['baseline_mb']:.0f} MB."
    )
    return f"{said}\n\n{table(['asked for', 'ms'], rows)}"


def planned() -> str:
    run = results("plan")
    rows = []
    for name, row in run["sets"].items():
        cells = [name, f"`{row['codec']}`", f"{row['groups_tried']} of {row['groups']:.0f}"]
        for what, unit, digits in (("n_bytes", 1000, 0), ("mean_psnr", 1, 2), ("pooled_psnr", 1, 2)):
            stated, actual = row["stated"][what], row["actual"][what]
            ends = [f"{stated[end] / unit:,.{digits}f}" if stated[end] is not None else "?" for end in ("low", "high")]
            cells.append(
                f"{' to '.join(ends)}: {'' if row['inside'][what] else '**'}{actual / unit:,.{digits}f}"
                f"{'' if row['inside'][what] else '** (outside)'}"
            )
        rows.append(cells)
    n_inside = [ok for row in run["sets"].values() for ok in row["inside"].values()]
    head = ["set", "recommended", "groups tried", "kB, stated: true", "mean dB, stated: true", "pooled dB, stated: true"]
    said = (
        f"{sum(n_inside)} of {len(n_inside)} figures are inside of their intervals; "
        f"{run['minutes']:.0f} minutes for each plan, 4 where a fit was asked for."
    )
    return f"{said}\n\n{table(head, rows)}"


def scale() -> str:
    """Of `scale.py`: what a million images cost."""
    rows = []
    run = results("scale")
    for row in run["rows"]:
        first = next(other for other in run["rows"] if other["codec"] == row["codec"])
        rows.append(
            [
                f"`{row['codec']}`",
                f"{row['images']:,}",
                *(f"{row[name]:.0f}" for name in ("microseconds", "cpu_microseconds", "peak_mb")),
                f"{row['cpu_microseconds'] / first['cpu_microseconds']:.2f}",
                f"{row['peak_mb'] / first['peak_mb']:.2f}",
                *(f"{1000 * row[name]:.1f}" for name in ("open_seconds", "item_seconds")),
            ]
        )
    head = ["codec", "images", "us/image", "processor", "MB", "processor, ratio", "MB, ratio", "open, ms", "first item, ms"]
    return table(head, rows)


def report_speed() -> str:
    """Of `report_speed.py`: report beside unpack."""
    rows = [
        [
            row["codec"],
            f"{row['images']:,}",
            f"{row['to_folder']:.2f}",
            f"{row['to_npz']:.2f}",
            f"{row['to_npz_processor']:.2f}",
            f"{row['report']['peak_mb']:.0f}",
            f"{row['unpack_npz']['peak_mb']:.0f}",
        ]
        for row in results("report-speed")["rows"]
    ]
    head = ("codec", "images", "to a folder", "to npz", "to npz, processor", "MB, report", "MB, unpack")
    return table(head, rows)


def all_systems() -> dict[str, Any]:
    return systems_report.load(HERE / "results" / "systems.json")


def system_tables(name: str) -> Callable[[], str]:
    return lambda: table(systems_report.head(name), systems_report.rows_of(name, all_systems()[name]))


def system_gains() -> str:
    return table(systems_report.GAINS, systems_report.gains(all_systems()["kodak"]))


PAGES: dict[Path, dict[str, Callable[[], str]]] = {
    HERE.parent / "docs" / "learned.md": {
        "profiles": profiles,
        "effort": effort,
        "results": all_results,
        "exactness": exactness,
        "similarity": similarity,
        "bits": lambda: bits_report.hyperprior(results("bits"), table),
    },
    HERE.parent / "docs" / "performance.md": {
        "roofline": roofline,
        "ways": ways,
        "roofline-avx2": lambda: roofline("roofline-avx2"),
        "ways-avx2": lambda: ways("roofline-avx2"),
        "ratios-avx2": lambda: speed_report.ratio_table(results("throughput-avx2"), measured_only=True),
        "ratios": lambda: speed_report.ratio_table(results("throughput")),
        "formats": against_formats,
        "codecs": codecs_alone,
        "photos": lambda: speed_report.photos(results("throughput")),
        "stages": lambda: speed_report.stages(results("throughput")),
        "scale": scale,
        "downstream": trained_from_archives,
    },
    HERE.parent / "docs" / "codecs" / "autoencoder-1.md": {"bits": lambda: bits_report.autoencoder(results("bits"), table)},
    HERE.parent / "docs" / "codecs" / "comcnn-1.md": {"gains": system_gains},
    HERE.parent / "docs" / "systems.md": {name: system_tables(name) for name in systems_report.TITLES},
    HERE.parent / "docs" / "viewing.md": {"viewer": viewer},
    HERE.parent / "docs" / "planning.md": {"planned": planned},
    HERE.parent / "docs" / "reports.md": {"report-speed": report_speed},
    HERE.parent / "README.md": {"fashion": fashion},
}


def filled(page: str, sections: dict[str, Callable[[], str]]) -> str:
    """The page with every section between its markers made anew."""
    for name, make in sections.items():
        start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        before, rest = page.split(start)
        page = f"{before}{start}\n\n{make()}\n\n{end}{rest.split(end)[1]}"
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    made = {page: filled(page.read_text(), sections) for page, sections in PAGES.items()}
    if args.check:
        sys.exit(int(any(text != page.read_text() for page, text in made.items())))
    for page, text in made.items():
        page.write_text(text)


if __name__ == "__main__":
    main()
