"""Speed and size of the entropy coders on one stream, in one run, beside constriction's ANS coder; and of `values`, on its own.

    python benchmarks/entropy.py                    # symbols drawn from 40 Gaussian tables, mixed
    python benchmarks/entropy.py --file photo.raw   # the bytes of a file, one table

The ideal is the information content of the stream under its tables, which all coders but `zstd` and `none` use; the tables
themselves are not counted. Times are the best of `--repeats`, one thread, and include the checks of the arguments and the
lookup tables of a call. constriction takes one model at a time: it gets the stream sorted by table, one call for each, which
is easier than what the others do; its models are built outside the timed part. Its state starts empty, so a run of the first
symbol at the end of a stream costs it nothing, and its bytes may come out below the ideal.

`values` is the coder of the learned codecs: signed integers, here rounded Gaussians of the scales of its fixed bank, with the
mapping to symbols and the escapes in the timed part. One stream has all scales equally often, and is read whole and in pieces,
as a context model reads it; another has those up to 2 steps only. Its ideal counts 8 bits for each byte of an escape. The bank
is built outside the timed part, since a codec keeps it.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from batchcodec.entropy import codes, gaussian, huffman, rans, values
from batchcodec.entropy.tables import code_length_bits, count_symbols, cumulative, quantise_counts

Result = TypeVar("Result")
Coded = TypeVar("Coded", bytes, tuple[bytes, bytes])
Bytes = NDArray[np.uint8]


def gaussian_stream(n: int, n_tables: int, seed: int) -> tuple[Bytes, Bytes]:
    """Symbols and table index, uint8 [n]: rounded zero-mean Gaussians, scales log-spaced from 0.1 to 40, in random order."""
    rng = np.random.default_rng(seed)
    scales = np.geomspace(0.1, 40, n_tables)
    index = rng.integers(0, n_tables, n).astype(np.uint8)
    symbols = np.clip(np.rint(rng.normal(0, 1, n) * scales[index]) + 128, 0, 255).astype(np.uint8)
    return symbols, index


def best_time(repeats: int, run: Callable[[], Result]) -> tuple[float, Result]:
    """Seconds of the fastest of some runs, and the last result. One more run goes first: it may compile."""
    result = run()
    seconds = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        result = run()
        seconds = min(seconds, time.perf_counter() - start)
    return seconds, result


def timed(
    coder: str,
    encode: Callable[[], Coded],
    decode: Callable[[Coded], NDArray[Any]],
    expected: NDArray[Any],
    ideal_bytes: float,
    runs: int,
) -> dict[str, Any]:
    """One row of the results, with the decoded symbols checked; coded data are bytes, or parts of them."""
    encode_s, data = best_time(runs, encode)
    decode_s, back = best_time(runs, lambda: decode(data))
    if not np.array_equal(back, expected):
        raise SystemExit(f"{coder}: decoded other symbols")
    n_bytes = sum(len(part) for part in data) if isinstance(data, tuple) else len(data)
    return {
        "coder": coder,
        "bytes": n_bytes,
        "bytes_per_ideal": n_bytes / ideal_bytes,
        "bits_per_symbol": 8 * n_bytes / len(expected),
        "encode_symbols_per_s": len(expected) / encode_s,
        "decode_symbols_per_s": len(expected) / decode_s,
    }


def measure(symbols: Bytes, index: Bytes, n_tables: int, repeats: int) -> list[dict[str, Any]]:
    freqs = quantise_counts(count_symbols(symbols, index, n_tables, 256))
    cdfs = cumulative(freqs)
    lengths = huffman.code_lengths(freqs)
    ideal_bytes = code_length_bits(symbols, index, freqs) / 8
    rows: list[dict[str, Any]] = []

    def add(
        coder: str, encode: Callable[[], bytes], decode: Callable[[bytes], Any], expected: Bytes, runs: int = repeats
    ) -> None:
        rows.append(timed(coder, encode, decode, expected, ideal_bytes, runs))

    add("rans", lambda: rans.encode(symbols, index, cdfs), lambda data: rans.decode(data, index, cdfs), symbols)
    add("huffman", lambda: huffman.encode(symbols, index, lengths), lambda data: huffman.decode(data, index, lengths), symbols)
    for kind in ("zstd", "none"):
        add(
            kind,
            lambda kind=kind: codes.pack_symbols(kind, symbols, index, freqs),  # type: ignore[misc]
            lambda data, kind=kind: codes.unpack_symbols(kind, data, index, freqs),  # type: ignore[misc]
            symbols,
            runs=1 if kind == "zstd" else repeats,
        )
    add_constriction(add, symbols, index, freqs)
    return rows


def add_constriction(add: Callable[..., None], symbols: Bytes, index: Bytes, freqs: NDArray[np.uint32]) -> None:
    try:
        import constriction
    except ImportError:
        print("constriction is not installed: left out")
        return
    ans = constriction.stream.stack.AnsCoder
    parts = [
        (symbols[index == t].astype(np.int32), constriction.stream.model.Categorical(freqs[t] / 65536, perfect=False))
        for t in range(len(freqs))
    ]

    def encode() -> bytes:
        coder = ans()
        for part, model in reversed(parts):
            coder.encode_reverse(part, model)
        return bytes(coder.get_compressed().tobytes())

    def decode(data: bytes) -> NDArray[np.int32]:
        coder = ans(np.frombuffer(data, np.uint32))
        return np.concatenate([coder.decode(model, len(part)) for part, model in parts])

    add("constriction ANS", encode, decode, np.concatenate([part for part, _ in parts]))


def measure_values(n: int, n_pieces: int, repeats: int, seed: int) -> list[dict[str, Any]]:
    """The rows of `values`: n signed integers with the fixed bank."""
    bank = values.Bank(gaussian.frequencies())

    def row(coder: str, n_scales: int, n_pieces: int) -> dict[str, Any]:
        rng = np.random.default_rng(seed)
        index = rng.integers(0, n_scales, n).astype(np.uint16)
        scales = np.exp2(index / gaussian.SCALES_PER_OCTAVE + gaussian.FIRST_LOG2)
        signed = np.rint(rng.normal(0, 1, n) * scales).astype(np.int32)
        pieces = np.array_split(index, n_pieces)

        def decode(coded: tuple[bytes, bytes]) -> NDArray[np.int32]:
            decoder = values.Decoder([coded], bank)
            taken = [decoder.take(piece) for piece in pieces]
            decoder.finish()
            return taken[0] if n_pieces == 1 else np.concatenate(taken)

        ideal_bytes = float(bank.bits(signed, index).sum(dtype=np.float64)) / 8
        return timed(coder, lambda: values.encode(signed, index, bank), decode, signed, ideal_bytes, repeats)

    up_to_2 = (1 - gaussian.FIRST_LOG2) * gaussian.SCALES_PER_OCTAVE + 1
    return [
        row("values", gaussian.N_SCALES, 1),
        row(f"values, {n_pieces} pieces", gaussian.N_SCALES, n_pieces),
        row(f"values, {up_to_2} scales", up_to_2, 1),
    ]


def print_rows(rows: list[dict[str, Any]]) -> None:
    print(f"{'coder':18}{'bytes':>12}{'/ ideal':>10}{'bits/symbol':>13}{'encode M/s':>12}{'decode M/s':>12}")
    for row in rows:
        print(
            f"{row['coder']:18}{row['bytes']:>12}{row['bytes_per_ideal']:>10.4f}{row['bits_per_symbol']:>13.4f}"
            f"{row['encode_symbols_per_s'] / 1e6:>12.1f}{row['decode_symbols_per_s'] / 1e6:>12.1f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--symbols", type=int, default=1_000_000, help="how many (default: 1,000,000)")
    parser.add_argument("--tables", type=int, default=40, help="how many, 1 to 256 (default: 40)")
    parser.add_argument("--file", type=Path, help="take the first bytes of this file as the symbols, with one table")
    parser.add_argument("--pieces", type=int, default=64, help="in how many pieces `values` reads a stream (default: 64)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the results to this file")
    args = parser.parse_args()
    if min(args.symbols, args.repeats, args.pieces) < 1 or args.tables not in range(1, 257):
        parser.error("--symbols, --repeats and --pieces are at least 1, --tables 1 to 256")

    if args.file:
        with args.file.open("rb") as stream:
            symbols = np.frombuffer(stream.read(args.symbols), np.uint8)
        index, n_tables = np.zeros(len(symbols), np.uint8), 1
        if not len(symbols):
            parser.error(f"{args.file} is empty")
    else:
        n_tables = args.tables
        symbols, index = gaussian_stream(args.symbols, n_tables, args.seed)
    rows = measure(symbols, index, n_tables, args.repeats)
    values_rows = measure_values(args.symbols, args.pieces, args.repeats, args.seed)

    source = args.file or f"{n_tables} Gaussian tables, seed {args.seed}"
    print(f"{len(symbols):,} symbols, {source}, {platform.machine()}, one thread, best of {args.repeats} (zstd: 1)")
    print_rows(rows)
    print(f"\n{args.symbols:,} signed values, the bank of {gaussian.N_SCALES} Gaussian scales, seed {args.seed}")
    print_rows(values_rows)
    if args.json:
        results = {"source": str(source), "symbols": len(symbols), "repeats": args.repeats, "coders": rows}
        results["values"] = {"symbols": args.symbols, "pieces": args.pieces, "coders": values_rows}
        args.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
