"""Flip, cut and lose bytes of archives, and see that damage is found, stays where it is, and is repaired as far as it can be.

    python tests/faults/damage.py                    # what `make soak` runs
    python tests/faults/damage.py --flips 200 --step 9   # a quick look

A small archive gets every byte flipped and is cut at every length; a large one gets random bytes flipped; one with parity loses
random blocks. Prints what was done and what failed, and ends with 1 if anything did.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

import batchcodec
from batchcodec import PackOptions
from batchcodec.archive import wire
from batchcodec.archive.blocks import BlockFile
from batchcodec.archive.wire import BlockEntry, BlockType
from batchcodec.checking.repair import repair
from batchcodec.checking.verify import verify
from batchcodec.errors import BatchcodecError
from batchcodec.types import Pixels

PARITY = 0.05


class Damage:
    """Counts what is tried and what fails."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bad, self.good = folder, folder / "bad.cpack", folder / "good.cpack"
        self.counts: Counter[str] = Counter()
        self.failures: list[str] = []

    def packed(self, name: str, images: Pixels, **options: object) -> Sample:
        source = self.folder / f"{name}.npy"
        np.save(source, images[..., None])
        target = self.folder / f"{name}.cpack"
        batchcodec.pack(source, target, PackOptions(**{"codec": "zstd", **options}))  # type: ignore[arg-type]
        return Sample(target, images)

    def fail(self, what: str) -> None:
        self.failures.append(what)

    def flip(self, sample: Sample, place: int, bit: int) -> None:
        """One bit: `verify` finds it, readers lose at most the group that was hit, and `repair` gives all others."""
        data = bytearray(sample.data)
        data[place] ^= 1 << bit
        self.bad.write_bytes(data)
        self.counts["flips"] += 1
        what = f"{sample.path.name}: bit {bit} of byte {place}"
        try:
            found = verify(self.bad).verdict == "damage"
        except BatchcodecError:  # of another version, or no archive any more
            found = True
        self.counts["flips found"] += found
        if not found:
            self.fail(f"{what}: not found")
        hit = sample.group_at(place)
        if hit is not None and self.groups_read() != sample.but(hit):
            self.fail(f"{what}: other groups than {hit} were lost")
        self.counts["flips in one group, which alone was lost"] += hit is not None

    def groups_read(self) -> list[bytes]:
        """What a reader gets of the damaged archive, group by group."""
        with batchcodec.open(self.bad) as archive:
            groups = archive.groups(lambda group, error: None)
            return [b"".join(item.pixels.tobytes() for _, item in group) for group in groups]

    def cut(self, sample: Sample, length: int) -> None:
        """The end is lost: `repair` gives every group before it."""
        self.bad.write_bytes(sample.data[:length])
        self.counts["cuts"] += 1
        expected = [pixels for entry, pixels in zip(sample.groups, sample.pixels, strict=True) if _end(entry) <= length]
        try:
            repair(self.bad, self.good, force=True)
        except BatchcodecError:
            if expected:
                self.fail(f"cut at {length}: nothing repaired, {len(expected)} groups are whole")
            return
        with batchcodec.open(self.good) as archive:
            found = [b"".join(item.pixels.tobytes() for _, item in group) for group in archive.groups()]
        self.counts["groups before a cut, repaired"] += len(found)
        if found != expected:
            self.fail(f"cut at {length}: {len(found)} groups repaired, {len(expected)} are whole")

    def lose(self, sample: Sample, rng: np.random.Generator) -> None:
        """Random blocks of one with parity: all comes back, bit for bit."""
        data = bytearray(sample.data)
        entries = [sample.entries[i] for i in rng.permutation(len(sample.entries))[: int(len(sample.entries) * PARITY)]]
        for entry in entries:
            data[entry.offset : _end(entry)] = rng.bytes(wire.BLOCK.size + entry.n_bytes)
        self.bad.write_bytes(data)
        repair(self.bad, self.good, force=True)
        self.counts["losses of 5 % of the blocks"] += 1
        same = self.good.read_bytes() == sample.data
        self.counts["losses restored bit for bit"] += same
        if not same:
            self.fail(f"blocks at {[entry.offset for entry in entries]} lost: not restored")


class Sample:
    """A whole archive, and what is in it."""

    def __init__(self, path: Path, images: Pixels) -> None:
        self.path, self.data = path, path.read_bytes()
        with BlockFile(path) as file:
            self.entries = file.entries
        self.groups = [entry for entry in self.entries if entry.type == BlockType.GROUP]
        size = self.groups[0].n_items
        self.pixels = [images[i : i + size].tobytes() for i in range(0, len(images), size)]

    def group_at(self, place: int) -> int | None:
        """The group whose block a byte is in."""
        return next((i for i, entry in enumerate(self.groups) if entry.offset <= place < _end(entry)), None)

    def but(self, group: int) -> list[bytes]:
        """The pixels of all other groups."""
        return self.pixels[:group] + self.pixels[group + 1 :]


def _end(entry: BlockEntry) -> int:
    return entry.offset + wire.BLOCK.size + entry.n_bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=10_000, help="of random bits of the large archive")
    parser.add_argument("--losses", type=int, default=200)
    parser.add_argument("--step", type=int, default=1, help="of the small archive, every so many bytes")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        damage = Damage(Path(folder))
        small = damage.packed("small", rng.integers(0, 256, (8, 5, 4), np.uint8), group_items=2)
        for place in range(0, len(small.data), args.step):
            damage.flip(small, place, int(rng.integers(8)))
        for length in range(0, len(small.data), args.step):
            damage.cut(small, length)
        large = damage.packed("large", rng.integers(0, 256, (400, 48, 48), np.uint8), group_items=16)
        for place in rng.integers(0, len(large.data), args.flips):
            damage.flip(large, int(place), int(rng.integers(8)))
        with_parity = damage.packed("parity", rng.integers(0, 256, (800, 20, 20), np.uint8), group_items=4, parity=PARITY)
        for _ in range(args.losses):
            damage.lose(with_parity, rng)
    counts = {
        "bytes of the small and the large archive": f"{len(small.data):,} and {len(large.data):,}",
        **damage.counts,
        "failures": len(damage.failures),
    }
    if args.json:
        print(json.dumps({**counts, "messages": damage.failures}))
    else:
        print(
            "\n".join(
                f"{name:<42} {count:,}" if isinstance(count, int) else f"{name:<42} {count}" for name, count in counts.items()
            )
        )
        print("\n".join(damage.failures[:20]))
    sys.exit(bool(damage.failures))


if __name__ == "__main__":
    main()
