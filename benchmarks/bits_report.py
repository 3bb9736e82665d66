"""What the figures of `bits.py` look like in the documentation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Table = Callable[[Sequence[str], Sequence[Sequence[str]]], str]
"""Head and rows to Markdown."""


def autoencoder(run: dict[str, Any], table: Table) -> str:
    """What fewer bits save, and automatic bits beside as many in all channels."""
    near = f"{run['near']} dB below"
    rows = []
    for row in run["savings"]:
        saved = [f"{row[way]:.1f} ({100 * (row[way] / row['plain'] - 1):+.1f} %)" for way in ("uniform", "auto")]
        rows.append([row["model"], f"`{row['entropy']}`", f"{row['plain']:.1f}", f"{row['plain_db']:.2f}", *saved])
    head = ["model", "entropy", "bytes per image, plain uint8", "dB", f"same bits in all channels, {near}", f"`auto`, {near}"]
    saving = table(head, rows)
    rows = []
    for row in run["verdicts"]:
        pairs = [f"{row[way][0]:.1f} B, {row[way][1]:.2f} dB" for way in ("uniform", "auto")]
        rows.append([row["model"], f"`{row['entropy']}`", f"{row['average']:g}", *pairs, f"{row['db_at_equal_bytes']:+.2f}"])
    head = ["model", "entropy", "bits", "in all channels", "`auto` of the same average", "dB gained at the same bytes"]
    least = min(row["db_at_equal_bytes"] for row in run["verdicts"])
    n_better = sum(row["dominates"] for row in run["verdicts"])
    weights = sorted({f"{row['weights']:,}" for row in run["savings"]})
    return (
        f"The first {run['images']:,} test images of Fashion-MNIST at 64x64. `mse` was trained for reconstruction alone, as "
        "the paper does, `rate2.5` with a rate term. Bytes are those of archives without weights, which are "
        f"{' and '.join(weights)} bytes.\n\n"
        f"Bytes at which fewer bits are nearly as good as plain uint8:\n\n{saving}\n\n"
        "The same average in all channels, and given by `auto`. At the same bytes, between two archives with the same bits in "
        f"all channels, `auto` is better {n_better} of {len(run['verdicts'])} times, and never worse by more than "
        f"{max(0.01, -least):.2f} dB:\n\n{table(head, rows)}"
    )


def hyperprior(run: dict[str, Any], table: Table) -> str:
    """Trained steps, one common step, and steps by `auto`."""
    ways = {"trained": "trained steps", "common": "one step for all channels", "auto": "`auto:X`"}
    by_bits: dict[float, dict[str, Any]] = {}
    for row in run["hyperprior"]:
        by_bits.setdefault(row["average"], {})[row["way"]] = row
    rows = [
        [f"{average:g}", *(f"{row[way]['bytes_per_image']:.1f} B, {row[way]['mean_psnr']:.2f} dB" for way in ways)]
        for average, row in by_bits.items()
    ]
    beside = run["beside_trained"]
    return (
        f"The first {run['images']:,} test images of Fashion-MNIST at 64x64 (`benchmarks/bits.py`). Bytes at equal mean PSNR, "
        f"beside the trained steps: one step for all channels {beside['common']:+.1f} %, `auto` {beside['auto']:+.1f} %.\n\n"
        f"{table(['bits', *ways.values()], rows)}"
    )
