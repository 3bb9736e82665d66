"""What parity costs and what it restores.

    margin   how often random losses of whole blocks can be restored, by simulation of where blocks and rows lie: why
             `archive.parity.plan` takes as many parity rows as it does
    speed    MB per second of CPU time of making parity and of healing, on random bytes, in memory, on one thread
    damage   an archive of random groups, damaged more and more in four ways, and healed: how many groups come back

The simulation places groups as an archive does, and loses a fraction of all blocks, PARITY blocks among them, at random.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import xxhash

from batchcodec.archive import healing, parity, wire
from batchcodec.archive.directory import Row
from batchcodec.archive.parity import Geometry
from batchcodec.archive.wire import CodecRecord, GroupHead
from batchcodec.archive.writer import ArchiveWriter
from batchcodec.types import GroupSpec, ImageSpec

FRACTIONS = (0.01, 0.02, 0.05, 0.1, 0.2)
GROUPS = (50, 250, 1_000, 10_000)
SIGMAS = (0.0, 0.5, 0.8)
"""Of the logarithm of the groups' sizes: equal; as measured for EuroSAT (0.46); and for photos of mixed sizes (0.80)."""
OTHER_BYTES = 4096
"""Header, META, CODEC and DIRECTORY of the simulated archives, before their first group."""
TRIALS_PER_DRAW = 20
"""Losses that are tried on one draw of sizes."""


@dataclass
class Memory:
    """A file in memory, as `heal` reads it."""

    data: bytes | bytearray

    @property
    def n_bytes(self) -> int:
        """Its length."""
        return len(self.data)

    def read(self, offset: int, n_bytes: int) -> bytes:
        """Bytes at an offset."""
        return bytes(self.data[offset : offset + n_bytes])


# ---- margin


def worst_columns(
    rng: np.random.Generator, n_groups: int, mean_bytes: int, sigma: float, fraction: float, n_trials: int
) -> Iterator[tuple[Geometry, int]]:
    """Of each trial the geometry and the rows that the worst column lacks; 256 if the table of checksums is lost.

    Args:
        rng: decides sizes and losses.
        n_groups: GROUP blocks.
        mean_bytes: of a block.
        sigma: of the logarithm of their sizes.
        fraction: of all blocks that is lost, rounded down; and what the parity is planned for.
        n_trials: losses.
    """
    for _ in range(0, n_trials, TRIALS_PER_DRAW):
        sizes = np.exp(rng.normal(0, sigma, n_groups)) if sigma else np.ones(n_groups)
        ends = OTHER_BYTES + np.cumsum(np.maximum(61, sizes / sizes.mean() * mean_bytes).astype(np.int64))
        geometry = parity.plan(int(ends[-1]), fraction)
        columns, width, n_batches = geometry.columns, geometry.width, geometry.n_batches
        # First and last chunk of each block. A PARITY block takes the columns of its batch.
        first = np.append(OTHER_BYTES, ends[:-1]) // geometry.chunk
        last = (ends - 1) // geometry.chunk + 1
        batches = np.tile(np.arange(n_batches), geometry.n_parity)
        first = np.append(first, batches * width)
        last = np.append(last, np.minimum((batches + 1) * width, columns))
        n_lost = int(fraction * len(first))
        shape = TRIALS_PER_DRAW, len(first)
        lost = np.argpartition(rng.random(shape), n_lost, axis=1)[:, :n_lost]
        # A block hits all columns so many times as it wraps around, and then a run of them, which may wrap as well.
        length = last[lost] - first[lost]
        start = first[lost] % columns
        steps = np.zeros((TRIALS_PER_DRAW, 2 * columns + 1), np.int32)
        trial = np.arange(TRIALS_PER_DRAW)[:, None]
        np.add.at(steps, (trial, start), 1)
        np.add.at(steps, (trial, start + length % columns), -1)
        hits = steps.cumsum(axis=1)[:, : 2 * columns].reshape(TRIALS_PER_DRAW, 2, columns).sum(axis=1)
        worst = hits.max(axis=1) + (length // columns).sum(axis=1)
        lost_blocks = np.zeros((TRIALS_PER_DRAW, n_batches + 1), np.int32)
        np.add.at(lost_blocks, (trial, np.where(lost < n_groups, n_batches, (lost - n_groups) % n_batches)), 1)
        no_table = lost_blocks[:, :n_batches].max(axis=1) > geometry.n_parity - geometry.n_pieces
        for rows in np.where(no_table, 256, worst).tolist():
            yield geometry, rows


def margin(options: argparse.Namespace) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    print(f"{options.trials:,} random losses each; groups of {options.mean_bytes:,} bytes on average")
    print("lost   groups  sigma  rows k + r   cost    restored   rows needed for 99.9 %")
    for fraction in options.fraction or FRACTIONS:
        for n_groups in GROUPS:
            for sigma in SIGMAS:
                rng = np.random.default_rng(0)
                trials = list(worst_columns(rng, n_groups, options.mean_bytes, sigma, fraction, options.trials))
                needed = int(np.quantile([worst for _, worst in trials], 0.999, method="higher"))
                restored = float(np.mean([worst <= geometry.n_parity for geometry, worst in trials]))
                geometry = trials[0][0]
                cost = (geometry.end - geometry.n_covered) / geometry.n_covered
                print(
                    f"{fraction:4.0%}  {n_groups:7,}  {sigma:5.1f}  {geometry.n_data:4} + {geometry.n_parity:3}  {cost:6.1%}"
                    f"   {restored:8.3%}   {needed:4}",
                    flush=True,
                )
                rows.append(
                    {
                        "fraction": fraction,
                        "groups": n_groups,
                        "sigma": sigma,
                        "mean_bytes": options.mean_bytes,
                        "trials": options.trials,
                        "n_data": geometry.n_data,
                        "n_parity": geometry.n_parity,
                        "cost": cost,
                        "restored": restored,
                        "needed": needed,
                    }
                )
    return rows


# ---- speed


def speed(options: argparse.Namespace) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    rng = np.random.default_rng(0)
    n_bytes = options.megabytes * 1_000_000
    data = rng.bytes(n_bytes)
    print(f"{options.megabytes} MB of random bytes; MB of covered bytes per second of CPU time, best of {options.repeat}")
    print("fraction  rows k + r   cost    making  checking  healing: one run in a hundred  a burst of the fraction")
    for fraction in options.fraction or FRACTIONS:
        geometry = parity.plan(n_bytes, fraction)
        file = bytearray(data) + bytes(geometry.end - n_bytes)
        making = float("inf")
        for _ in range(options.repeat):
            began = time.process_time()
            position = n_bytes
            for body in parity.parity_blocks(Memory(data).read, n_bytes, fraction):
                block = wire.pack_block_header(wire.BlockType.PARITY, body, required=False) + body
                file[position : position + len(block)] = block
                position += len(block)
            making = min(making, time.process_time() - began)
        seconds = [making]
        runs = rng.choice(n_bytes // 4096, n_bytes // 409_600, replace=False) * 4096
        burst = int(fraction * n_bytes)
        for damage in ([], [(int(run), 4096) for run in runs], [(n_bytes // 3, burst)]):
            damaged = bytearray(file)
            for start, length in damage:
                damaged[start : start + length] = bytes(length)
            best = float("inf")
            for _ in range(options.repeat):
                began = time.process_time()
                found = healing.heal(Memory(damaged))
                best = min(best, time.process_time() - began)
                with found.file as healed:
                    if found.lost or found.unknown or healed.read(0, n_bytes) != data:
                        raise SystemExit("healing did not restore what it must")
            seconds.append(best)
        rates = [n_bytes / 1e6 / s for s in seconds]
        cost = (geometry.end - n_bytes) / n_bytes
        print(
            f"{fraction:8.0%}  {geometry.n_data:4} + {geometry.n_parity:3}  {cost:6.1%}  {rates[0]:6.0f}  {rates[1]:8.0f}"
            f"  {rates[2]:30.0f}  {rates[3]:23.0f}",
            flush=True,
        )
        names = ("making", "checking", "healing_sectors", "healing_burst")
        rows.append(
            {"fraction": fraction, "megabytes": options.megabytes, "cost": cost, **dict(zip(names, rates, strict=True))}
        )
    return rows


# ---- damage


def archive_of(
    rng: np.random.Generator, n_groups: int, mean_bytes: int, fraction: float
) -> tuple[bytes, list[tuple[int, int]]]:
    """An archive with parity, of random payloads of mixed sizes; and where the bodies of its groups are."""
    file = io.BytesIO()
    writer = ArchiveWriter(file, parity=True)
    reference = writer.add_codec(CodecRecord("store", {}, b"", True))
    places = []
    for number, n_bytes in enumerate((mean_bytes * rng.lognormal(0, 0.5, n_groups)).astype(int).tolist()):
        payload = rng.bytes(n_bytes)
        head = GroupHead(reference, GroupSpec(1, ImageSpec(1, n_bytes, 1, "uint8")), xxhash.xxh3_64_intdigest(payload))
        start = file.tell() + wire.BLOCK.size
        writer.add_group(head, payload, [Row(number, f"{number:06}")])
        places.append((start, start + head.n_bytes + n_bytes))
    writer.add_parity(lambda n_covered: parity.parity_blocks(Memory(file.getvalue()).read, n_covered, fraction))
    writer.finish()
    return file.getvalue(), places


Ranges = npt.NDArray[np.int64]
"""Start and stop, [number, 2]."""


def flips(rng: np.random.Generator, fraction: float, n_bytes: int, blocks: Ranges) -> Ranges:
    """Single bytes: as many as a fraction of the file's KiB."""
    places = rng.integers(0, n_bytes, max(1, int(fraction * n_bytes / 1024)))
    return np.stack([places, places + 1], axis=1)


def sectors(rng: np.random.Generator, fraction: float, n_bytes: int, blocks: Ranges) -> Ranges:
    """A fraction of the file's sectors of 4 KiB."""
    places = 4096 * rng.choice(n_bytes // 4096, max(1, int(fraction * n_bytes / 4096)), replace=False)
    return np.stack([places, places + 4096], axis=1)


def whole_blocks(rng: np.random.Generator, fraction: float, n_bytes: int, blocks: Ranges) -> Ranges:
    """A fraction of all blocks, header and body."""
    return blocks[rng.choice(len(blocks), max(1, int(fraction * len(blocks))), replace=False)]


def burst(rng: np.random.Generator, fraction: float, n_bytes: int, blocks: Ranges) -> Ranges:
    """One piece of a fraction of the file's length, anywhere."""
    length = int(fraction * n_bytes)
    start = int(rng.integers(0, n_bytes - length + 1))
    return np.array([[start, start + length]])


DAMAGE: tuple[Callable[[np.random.Generator, float, int, Ranges], Ranges], ...] = (flips, sectors, whole_blocks, burst)
DAMAGED = (0.001, 0.01, 0.02, 0.05, 0.08, 0.1, 0.12, 0.15)


def damage(options: argparse.Namespace) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for fraction in options.fraction or (0.05,):
        rng = np.random.default_rng(0)
        data, places = archive_of(rng, options.groups, options.mean_bytes, fraction)
        geometry = _geometry(data)
        blocks = np.array(list(_blocks(data)))
        cost = (geometry.end - geometry.n_covered) / geometry.n_covered
        print(f"parity of {fraction:.0%}: {len(data) / 1e6:.1f} MB, {options.groups} groups, cost {cost:.1%}")
        print("damaged  kind          groups right before   after healing   file whole")
        for kind in DAMAGE:
            for damaged in DAMAGED:
                counts = np.zeros(3)
                for _ in range(options.trials):
                    broken = bytearray(data)
                    for start, stop in kind(rng, damaged, len(data), blocks).tolist():
                        broken[start:stop] = bytes(byte ^ 0x55 for byte in broken[start:stop])
                    found = healing.heal(Memory(broken))
                    with found.file as file:
                        counts += (_right(data, broken, places), _right(data, file.read(0, file.n_bytes), places), found.whole)
                before, after, whole = (counts / options.trials).tolist()
                before, after = before / len(places), after / len(places)
                print(f"{damaged:7.1%}  {kind.__name__:12}  {before:19.1%}   {after:13.1%}   {whole:10.0%}", flush=True)
                rows.append(
                    {
                        "fraction": fraction,
                        "kind": kind.__name__,
                        "damaged": damaged,
                        "trials": options.trials,
                        "before": before,
                        "after": after,
                        "whole": whole,
                    }
                )
    return rows


def _geometry(data: bytes) -> Geometry:
    found = healing.heal(Memory(data))
    found.file.close()
    if found.geometry is None:
        raise SystemExit("the archive has no parity")
    return found.geometry


def _blocks(data: bytes) -> Iterator[tuple[int, int]]:
    """Where the blocks before the INDEX are, header and body."""
    index_offset, _ = wire.parse_trailer(data[-wire.TRAILER.size :])
    position = wire.HEADER.size
    while position < index_offset:
        header = wire.parse_block_header(data[position : position + wire.BLOCK.size])
        yield position, position + wire.BLOCK.size + header.n_bytes
        position += wire.BLOCK.size + header.n_bytes


def _right(data: bytes, other: bytes | bytearray, places: list[tuple[int, int]]) -> int:
    """How many groups have the same bytes in both."""
    return sum(data[start:stop] == other[start:stop] for start, stop in places)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for command, trials in ((margin, 5_000), (speed, 0), (damage, 5)):
        sub = commands.add_parser(command.__name__)
        sub.set_defaults(run=command)
        sub.add_argument("--fraction", type=float, action="append", help="of the blocks that may be lost; may be repeated")
        sub.add_argument("--json", type=Path, help="write the figures here")
        if command is speed:
            sub.add_argument("--megabytes", type=int, default=64)
            sub.add_argument("--repeat", type=int, default=3)
        else:
            sub.add_argument("--trials", type=int, default=trials)
            sub.add_argument("--mean-bytes", type=int, default=100_000, help="of a group")
        if command is damage:
            sub.add_argument("--groups", type=int, default=200)
    options = parser.parse_args()
    rows = options.run(options)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
