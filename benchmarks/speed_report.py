"""Tables and ratios of what `throughput.py` measured, as Markdown: for the terminal, and for docs/performance.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from peers import NOT_HERE, PEERS
from speed_sets import CLASSICAL, GROUP, PROFILES

Measured = dict[str, dict[str, Any]]
TITLES = {
    **{profile: f"batchcodec, `{profile}`" for profile in PROFILES},
    "jpeg": "batchcodec, `jpeg`",
    "avif-mosaic": "batchcodec, `avif` mosaics",
    "jxl-mosaic": "batchcodec, `jxl` mosaics",
    "zstd": "batchcodec, `zstd`",
    **{name: peer.title for name, peer in PEERS.items()},
}
UNPACKED_TO = {"npz": ".npz", "npy": ".npy", "folder": "PNG files"}
SETS = {"fashion": "10,000 Fashion-MNIST test images, 64x64 gray", "eurosat": "5,000 EuroSAT tiles, 64x64 RGB"}


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """As GitHub wants it."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def number(value: float | None, digits: int = 0) -> str:
    """With separators; nothing where there is none."""
    return "" if value is None else f"{value:,.{digits}f}"


def both(all_cores: float | None, one: float | None) -> str:
    """A rate with all cores, and with one."""
    return "" if all_cores is None and one is None else f"{number(all_cores)} / {number(one)}"


# ---- tables


def formats(content: dict[str, Any], name: str) -> str:
    """A row for each format that one set was stored in."""
    measured, n = content["measured"], content["machine"]["cores"]
    rows = []
    for kind, subjects in (("archive", [*PROFILES, *CLASSICAL]), ("peer", list(PEERS))):
        for subject in subjects:
            every, one = (measured.get(f"{kind} {name} {subject} {cores}", {}) for cores in (n, 1))
            if "missing" in every or "error" in every or not every:
                why = "not installed" if "missing" in every else "failed" if every else "not measured"
                rows.append([TITLES[subject], why, *[""] * 7])
                continue
            lossless = every["mean_psnr"] >= 99
            rows.append(
                [
                    TITLES[subject],
                    number(every["bytes_per_image"], 1),
                    "exact" if lossless else number(every["mean_psnr"], 1),
                    # other libraries write with one process
                    both(every.get("write_per_s"), one.get("write_per_s"))
                    if kind == "archive"
                    else number(one.get("write_per_s")),
                    both(every["read_per_s"], one.get("read_per_s")),
                    both(every.get("epoch_per_s"), one.get("epoch_per_s")),
                    both(every.get("batch_per_s"), one.get("batch_per_s")),
                    number(every.get("single_ms"), 2),
                    number(every.get("single_p95_ms"), 2),
                ]
            )
    rows += [[title, "does not install", *[""] * 7] for title in NOT_HERE.values()]
    head = ["format", "B/image", "dB", "write", "read", "epoch", "batches", "one, ms", "95 %"]
    return f"{SETS[name]}:\n\n{table(head, rows)}"


def codecs(content: dict[str, Any], name: str) -> str:
    """Codecs alone, in memory."""
    measured, n = content["measured"], content["machine"]["cores"]
    subjects = [("codec", s, TITLES[s].removeprefix("batchcodec, ")) for s in (*PROFILES, "avif-mosaic", "jxl-mosaic")]
    subjects += [("jpeg_loop", "pillow", "JPEG, Pillow"), ("jpeg_loop", "simplejpeg", "JPEG, simplejpeg")]
    if name == "eurosat":
        subjects.append(("compressai", "bmshj2018-factorized", "CompressAI bmshj2018-factorized, untrained"))
    rows = []
    for kind, subject, title in subjects:
        every, one = (measured.get(f"{kind} {name} {subject} {cores}", {}) for cores in (n, 1))
        if "decode_per_s" not in every:
            rows.append([title, "not installed" if "missing" in every else "not measured", "", "", ""])
            continue
        rows.append(
            [
                title,
                number(every.get("bytes_per_image"), 1),
                number(every.get("mean_psnr"), 1),
                both(every["encode_per_s"], one.get("encode_per_s")),
                both(every["decode_per_s"], one.get("decode_per_s")),
            ]
        )
    return f"{SETS[name]}:\n\n{table(['codec', 'B/image', 'dB', 'encode', 'decode'], rows)}"


def photos(content: dict[str, Any]) -> str:
    """The Kodak pictures."""
    measured, n = content["measured"], content["machine"]["cores"]
    subjects = {**{p: f"`{p}`" for p in PROFILES}, "pillow-avif": "AVIF, Pillow", "pillow-jpeg": "JPEG, Pillow"}
    rows = []
    for subject, title in subjects.items():
        every, one = (measured.get(f"photos kodak {subject} {cores}", {}) for cores in (n, 1))
        if "decode_ms" in every:
            size = number(every["bytes_per_image"])
            times = [_both_ms(every.get(key), one.get(key)) for key in ("encode_ms", "decode_ms")]
            rows.append([title, size, number(every["mean_psnr"], 1), *times])
    every, one = (measured.get(f"compressai kodak bmshj2018-factorized {cores}", {}) for cores in (n, 1))
    if "decode_ms" in every:
        times = [_both_ms(every.get(key), one.get(key)) for key in ("encode_ms", "decode_ms")]
        rows.append(["CompressAI bmshj2018-factorized, untrained", "", "", *times])
    return table(["codec", "bytes", "dB", "encode, ms", "decode, ms"], rows)


def _both_ms(every: float | None, one: float | None) -> str:
    return f"{number(every, 1)} / {number(one, 1)}"


def stages(content: dict[str, Any]) -> str:
    """Where the time of `unpack` goes."""
    rows = []
    for name in SETS:
        for profile in PROFILES:
            found = content["measured"].get(f"stages {name} {profile}", {})
            for to, what in UNPACKED_TO.items():
                if to in found:
                    shares = [f"{round(100 * share)} %" for share in found[to].values()]
                    rows.append([f"{name}, `{profile}`, to {what}", *shares])
    head = ["unpack of", "entropy decoding", "reading", "digest", "networks", "writing", "the rest"]
    return table(head, rows)


# ---- ratios


@dataclass(frozen=True)
class Ratio:
    """One thing that was promised.

    Attributes:
        what: in words.
        value: what was measured; None where something is missing.
        bound: what it is to be.
        at_most: whether `bound` is an upper one.
        detail: the figures that it is made of.
        unit: of value and bound.
    """

    what: str
    value: float | None
    bound: float
    at_most: bool = False
    detail: str = ""
    unit: str = ""

    @property
    def met(self) -> bool | None:
        """Whether it holds; None if it is not known."""
        if self.value is None:
            return None
        return self.value <= self.bound if self.at_most else self.value >= self.bound


Figure = tuple[str, str]
"""Name of a measurement, and of one of its figures."""


def quotient(measured: Measured, what: str, above: Figure, below: Figure, bound: float, *, at_most: bool = False) -> Ratio:
    """One figure through another."""
    a, b = (measured.get(name, {}).get(key) for name, key in (above, below))
    digits = 1 if above[1].endswith("_ms") else 0
    value = None if a is None or b is None else a / b
    return Ratio(what, value, bound, at_most, f"{number(a, digits)} to {number(b, digits)}")


def ratios(content: dict[str, Any]) -> list[Ratio]:
    """What the tables come down to."""
    measured, n = content["measured"], content["machine"]["cores"]
    found: list[Ratio] = []
    for name in SETS:
        found += small_images(measured, name, n)
    for cores in sorted({n, 1}, reverse=True):
        found += large_images(measured, cores)
    for profile in ("fast", "balanced"):
        found += access(measured, profile)
    for name in SETS:
        for profile in ("fast", "balanced"):
            found += parts_of_unpack(measured.get(f"stages {name} {profile}", {}), f"{name}, `{profile}`:")
    return found


def small_images(measured: Measured, name: str, n: int) -> list[Ratio]:
    """Images of 64x64, with all of n cores."""
    found = []
    jpeg, files, avif = f"jpeg_loop {name} pillow {n}", f"peer {name} jpeg-files {n}", f"codec {name} avif-mosaic {n}"
    for profile, bound in (("fast", 0.5), ("balanced", 0.1)):
        codec, archive, title = f"codec {name} {profile} {n}", f"archive {name} {profile} {n}", f"{name}, `{profile}`:"
        decode, encode, read = (codec, "decode_per_s"), (codec, "encode_per_s"), (archive, "read_per_s")
        wanted: list[tuple[str, Figure, Figure, float]] = [
            ("decoding groups / Pillow's JPEG on threads", decode, (jpeg, "decode_threads_per_s"), bound),
            ("decoding groups / Pillow's JPEG in processes", decode, (jpeg, "decode_processes_per_s"), bound),
            ("reading the archive / JPEG files with Pillow", read, (files, "read_per_s"), bound),
            ("encoding at effort 1 / AVIF mosaics, speed 4", encode, (avif, "encode_per_s"), 20),
            ("encoding at effort 1 / Pillow's JPEG", encode, (jpeg, "encode_per_s"), 0.25),
            ("`pack` as a whole / Pillow's JPEG encoder", (archive, "write_per_s"), (jpeg, "encode_per_s"), 0.25),
        ]
        found += [quotient(measured, f"{title} {what}", above, below, least) for what, above, below, least in wanted]
    return found


def large_images(measured: Measured, cores: int) -> list[Ratio]:
    """Kodak, one picture after the other."""
    on = f"Kodak, {cores} core{'s' if cores > 1 else ''}:"
    subjects = ("fast", "balanced", "pillow-avif")
    if f"in turn kodak {cores}" in measured:
        fast, balanced, avif = ((f"in turn kodak {cores}", f"{subject}_ms") for subject in subjects)
    else:  # an older run, one after the other
        fast, balanced, avif = ((f"photos kodak {subject} {cores}", "decode_ms") for subject in subjects)
    other = f"compressai kodak bmshj2018-factorized {cores}", "decode_ms"
    return [
        quotient(measured, f"{on} time to decode, `fast` / AVIF with Pillow", fast, avif, 2, at_most=True),
        quotient(measured, f"{on} time to decode, `balanced` / AVIF with Pillow", balanced, avif, 8, at_most=True),
        quotient(measured, f"{on} time to decode, CompressAI's bmshj2018-factorized / `balanced`", other, balanced, 15),
    ]


def access(measured: Measured, profile: str) -> list[Ratio]:
    """Reading in other orders than that of the archive."""
    large = measured.get(f"groups fashion-60k {profile} {GROUP}", {})
    in_order = max((large[key] for key in ("read_per_s", "sequential_per_s") if key in large), default=None)
    epoch = large.get("epoch_per_s")
    found = [
        Ratio(
            f"60,000 images, `{profile}`: batches of 256, shuffled by groups / in order",
            None if epoch is None or in_order is None else epoch / in_order,
            0.7,
            detail=f"{number(epoch)} to {number(in_order)}; drawn from all of it {number(large.get('batch_per_s'))}",
        )
    ]
    small = [(group, measured.get(f"groups fashion {profile} {group}", {})) for group in (16, 64)]
    for group, own in (*small, (GROUP, large)):
        late, size = number(own.get("single_p95_ms"), 1), number(own.get("bytes_per_image"), 1)
        what, detail = f"one image at random, `{profile}`, groups of {group}", f"95th percentile {late} ms; {size} B/image"
        found.append(Ratio(what, own.get("single_ms"), 5, at_most=True, detail=detail, unit=" ms"))
    return found


def parts_of_unpack(found: dict[str, Any], title: str) -> list[Ratio]:
    """What `unpack` to an array spends beside the networks."""
    ratios = []
    for to in ("npz", "npy"):
        share = found.get(to, {})
        entropy, moved = share.get("entropy decoding"), None if not share else share["reading"] + share["writing"]
        for what, value, bound in (("entropy decoding", entropy, 0.15), ("reading and writing", moved, 0.1)):
            percent = None if value is None else 100 * value
            ratios.append(Ratio(f"{title} {what}, of `unpack` to .{to}", percent, 100 * bound, at_most=True, unit=" %"))
    return ratios


def ratio_table(content: dict[str, Any], *, measured_only: bool = False) -> str:
    """All of them, or those that a part of the measurements has."""
    rows = []
    for ratio in ratios(content):
        if measured_only and ratio.value is None:
            continue
        digits = 0 if (ratio.value or 0) >= 20 else 2
        rows.append(
            [
                ratio.what,
                "" if ratio.value is None else number(ratio.value, digits) + ratio.unit,
                f"{'at most' if ratio.at_most else 'at least'} {ratio.bound:g}{ratio.unit}",
                {True: "yes", False: "no", None: "not measured"}[ratio.met],
                ratio.detail,
            ]
        )
    return table(["what", "measured", "wanted", "met", "of"], rows)


def report(content: dict[str, Any]) -> str:
    """Everything, for a terminal."""
    parts: list[Callable[[dict[str, Any]], str]] = [
        *(lambda c, name=name: formats(c, name) for name in SETS),
        *(lambda c, name=name: codecs(c, name) for name in SETS),
        photos,
        stages,
        ratio_table,
    ]
    return "\n\n".join(part(content) for part in parts)
