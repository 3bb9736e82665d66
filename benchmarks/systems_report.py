"""Tables and the figure of `systems.py`, from the curves that it measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rates import Point, bd_rate, bd_rate_of, bytes_at

from batchcodec.comparing.curves import curve

ANCHOR = "jpeg"
TARGETS = {"fashion": 30.75, "kodak": 30.0, "eurosat": 32.0}
"""dB at which bytes are compared."""
WINDOWS = {"fashion": (29.5, 34.0), "kodak": (27.2, 29.5), "eurosat": (32.3, 34.1)}
"""dB that nearly all systems reach: over other ranges, BD-rates of different systems cannot be compared."""
LOW_RATE = 0.5
"""Bits per pixel."""
TITLES = {"fashion": "Fashion-MNIST, 64x64 gray", "kodak": "Kodak, 768x512 RGB", "eurosat": "EuroSAT, 64x64 RGB"}


def at(points: Sequence[Point], target: float) -> tuple[float | None, float | None]:
    """Bytes per image and MS-SSIM at a mean PSNR."""
    rows = sorted((p.mean_psnr, p.mean_ms_ssim or 0) for p in points)
    n_bytes = bytes_at(points, target)
    decibels, similarity = np.array(rows).T
    return n_bytes, None if n_bytes is None else float(np.interp(target, decibels, similarity))


def rate_within(anchor: Sequence[Point], points: Sequence[Point], window: tuple[float, float]) -> float | None:
    """BD-rate over a range of mean PSNR; None for a curve that does not reach over all of it."""
    clipped = []
    for psnr, n_bytes in map(curve, (anchor, points)):
        if len(psnr) < 2 or not psnr[0] <= window[0] <= window[1] <= psnr[-1]:
            return None
        first, last = np.exp(np.interp(window, psnr, np.log(n_bytes))).tolist()
        inside = [(x, y) for x, y in zip(psnr, n_bytes, strict=True) if window[0] < x < window[1]]
        clipped += [list(column) for column in zip((window[0], first), *inside, (window[1], last), strict=True)]
    return bd_rate_of(*clipped)


def rows_of(name: str, found: dict[str, Any]) -> list[list[str]]:
    """The table of a set, best curves first."""
    anchor = found[ANCHOR]["points"]
    rows = []
    for family, kept in found.items():
        points = kept["points"]
        n = sum(p.n_items for p in points)
        rates = [rate_within(anchor, points, WINDOWS[name]), None]
        if len(points) > 1:
            rates[1] = bd_rate(anchor, points)
        n_bytes, similarity = at(points, TARGETS[name])
        low, high = (end(p.mean_psnr for p in points) for end in (min, max))
        row = [
            family,
            *("" if rate is None else f"{rate:+.1f} %" for rate in rates),
            "" if n_bytes is None else f"{n_bytes:,.1f}",
            "" if similarity is None else f"{similarity:.4f}",
            f"{low:.2f} to {high:.2f}" if low < high else "lossless" if low > 90 else f"{low:.2f}",
            f"{min(p.bytes_per_item for p in points):,.1f}"
            + (f" to {max(p.bytes_per_item for p in points):,.1f}" if low < high else ""),
            f"{max(p.weight_bytes for p in points):,}" if points[0].weight_bytes else "",
            f"{1000 * sum(p.encode_seconds for p in points) / n:.2f}",
            f"{1000 * sum(p.decode_seconds for p in points) / n:.2f}",
        ]
        rows.append(([(rate is None, rate or 0) for rate in rates], row))
    return [row for _, row in sorted(rows, key=lambda r: r[0])]


def below(points: Sequence[Point], most: float) -> list[Point]:
    """The points of at most so many bits per pixel, and the one between points that has just so many."""
    rows = sorted(points, key=lambda p: p.bits_per_pixel)
    kept = [p for p in rows if p.bits_per_pixel <= most]
    above = next((p for p in rows if p.bits_per_pixel > most), None)
    if not kept or above is None:
        return kept
    rates = np.log([kept[-1].bits_per_pixel, above.bits_per_pixel])
    psnr = float(np.interp(np.log(most), rates, [kept[-1].mean_psnr, above.mean_psnr]))
    factor = most / above.bits_per_pixel
    return [*kept, replace(above, bits_per_pixel=most, bytes_per_item=factor * above.bytes_per_item, mean_psnr=psnr)]


def pays(files: Sequence[Point], ours: Sequence[Point]) -> str:
    """From the fewest bits on, up to how many of the files' ours are fewer at equal PSNR."""
    (psnr, n_bytes), (our_psnr, our_bytes) = map(curve, (files, ours))
    grid = np.linspace(max(psnr[0], our_psnr[0]), min(psnr[-1], our_psnr[-1]), 400)
    base, own = np.interp(grid, psnr, np.log(n_bytes)), np.interp(grid, our_psnr, np.log(our_bytes))
    if (own < base).all():
        return "everywhere"
    last = int(np.argmin(own < base))
    bits_per_pixel = float(np.exp(base[last - 1])) * files[0].bits_per_pixel / files[0].bytes_per_item
    return f"up to {bits_per_pixel:.2f} bits per pixel" if last else "nowhere"


def gains(found: dict[str, Any]) -> list[list[str]]:
    """What ComCNN and RecCNN bring over each base codec: BD-rate against its files, where these take few bits and anywhere."""
    rows = []
    for family, kept in found.items():
        kind, _, base = family.rpartition(" over ")
        if kind and base in found:
            files, ours = found[base]["points"], kept["points"]
            rates = [bd_rate(below(files, LOW_RATE), ours), bd_rate(files, ours)]
            psnrs = [[p.mean_psnr for p in points] for points in (files, ours)]
            texts = ["" if rate is None else f"{rate:+.1f} %" for rate in rates]
            rows.append([base, kind, pays(files, ours), *texts, f"{max(map(min, psnrs)):.2f} to {min(map(max, psnrs)):.2f}"])
    return sorted(rows)


GAINS = [
    "base",
    "system",
    "fewer bytes",
    f"BD-rate where the base takes less than {LOW_RATE} bits per pixel",
    "anywhere",
    "dB that both have",
]


def head(name: str) -> list[str]:
    target, (low, high) = TARGETS[name], WINDOWS[name]
    return [
        "system",
        f"BD-rate to JPEG files, {low:g} to {high:g} dB",
        "where both are",
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

    figure, axes = plt.subplots(1, len(content), figsize=(7 * len(content), 8.5), layout="constrained", squeeze=False)
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
        axis.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.1), ncol=3)
    figure.savefig(path, dpi=100)
    print(f"written to {path}")


def show(title: str, cells: list[list[str]]) -> None:
    """A table, aligned."""
    print(f"\n{title}")
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    for first, *others in cells:
        print(first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)), sep="  ")


def load(path: Path) -> dict[str, dict[str, Any]]:
    """What earlier runs measured: curves by set and name."""
    if not path.exists():
        return {}
    content = json.loads(path.read_text())
    for found in content.values():
        for kept in found.values():
            kept["points"] = [Point(**row) for row in kept["points"]]
    return {name: content[name] for name in TITLES if name in content}
