"""Signed values: round trips, escapes, pieces, the reference, golden bytes, sizes, and hostile data."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import constriction
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchcodec.entropy import gaussian, rans
from batchcodec.entropy.reference import decode_values_reference, encode_values_reference
from batchcodec.entropy.tables import code_length_bits, cumulative, quantise_counts
from batchcodec.entropy.values import Bank, Decoder, encode
from batchcodec.errors import ModelError, PayloadError

from .streams import damaged, outcome, stream

LARGEST = 2**31 - 1
Stream = tuple[np.ndarray, np.ndarray, list[np.ndarray]]


def make_rows(rng: np.random.Generator, sizes: Sequence[int], skew: int) -> list[np.ndarray]:
    return [quantise_counts(np.floor(1e9 * rng.random((1, size)) ** (skew + 1)).astype(np.int64))[0] for size in sizes]


def make_values(rng: np.random.Generator, sizes: np.ndarray, wild: float) -> np.ndarray:
    """int32 [n], each within its table of sizes[j] symbols or just beyond; the share `wild` is of any magnitude."""
    values = rng.integers(-(sizes.astype(int) // 2) - 1, sizes.astype(int) // 2 + 2)
    far = np.exp2(rng.uniform(0, 31, len(sizes))).astype(np.int64) * rng.choice([-1, 1], len(sizes))
    edge = rng.choice([-LARGEST, LARGEST], len(sizes))
    far = np.clip(np.where(rng.random(len(sizes)) < 0.2, edge, far), -LARGEST, LARGEST)
    return np.where(rng.random(len(sizes)) < wild, far, values).astype(np.int32)


@st.composite
def streams(draw: st.DrawFn, max_n: int = 200) -> Stream:
    """Values, index and rows; tables of 2 to 600 symbols, side by side in one bank."""
    n = draw(st.one_of(st.integers(0, 3), st.integers(0, max_n)))
    sizes = draw(st.lists(st.one_of(st.integers(2, 5), st.integers(2, 600)), min_size=1, max_size=6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows = make_rows(rng, sizes, draw(st.sampled_from([0, 1, 10, 40, 1000])))
    index = rng.integers(0, len(rows), n).astype(np.uint16)
    return make_values(rng, np.array(sizes)[index], draw(st.sampled_from([0, 0.05, 1]))), index, rows


def sample(seed: int, n: int, sizes: Sequence[int] = (2, 9, 100), wild: float = 0.1) -> Stream:
    rng = np.random.default_rng(seed)
    index = rng.integers(0, len(sizes), n).astype(np.uint16)
    return make_values(rng, np.array(sizes)[index], wild), index, make_rows(rng, sizes, seed % 5)


def decode(words: bytes, escapes: bytes, index: np.ndarray, bank: Bank, cuts: Sequence[int] = ()) -> np.ndarray:
    """All values, read in pieces that end at `cuts`."""
    decoder = Decoder([(words, escapes)], bank)
    pieces = [decoder.take(index[a:b]) for a, b in pairwise([0, *sorted(cuts), len(index)])]
    decoder.finish()
    return np.concatenate(pieces)


def leb128(number: int) -> bytes:
    digits = bytearray()
    while number > 127:
        digits.append(number & 127 | 128)
        number >>= 7
    return bytes([*digits, number])


@given(streams(), st.data())
@settings(max_examples=200)
def test_round_trip_pieces_and_reference(case: Stream, data: st.DataObject) -> None:
    values, index, rows = case
    bank = Bank(rows)
    words, escapes = encode(values, index, bank)
    assert (words, escapes) == encode_values_reference(values, index, rows)
    assert np.array_equal(decode(words, escapes, index, bank), values)
    assert np.array_equal(decode_values_reference(words, escapes, index, rows), values)
    cuts = data.draw(st.lists(st.integers(0, len(index)), max_size=6))
    assert np.array_equal(decode(words, escapes, index, bank, cuts), values)
    assert np.array_equal(decode(words, escapes, index, bank, range(len(index))), values)  # one by one


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.lists(st.integers(1, 40), min_size=1, max_size=4), st.integers(0, 40))
@settings(max_examples=100)
def test_streams_side_by_side(seed: int, n_streams: int, pieces: list[int], rest: int) -> None:
    """Each has as many values of each piece as the others, but for the last."""
    rng = np.random.default_rng(seed)
    rows = make_rows(rng, (2, 9, 100), 1)
    bank, lengths = Bank(rows), np.array([sum(pieces)] * (n_streams - 1) + [sum(pieces) + rest])
    index = [rng.integers(0, 3, n).astype(np.uint16) for n in lengths]
    values = [make_values(rng, np.array([2, 9, 100])[some], 0.1) for some in index]
    decoder, cuts = Decoder([encode(*pair, bank) for pair in zip(values, index, strict=True)], bank), np.cumsum([0, *pieces])
    for k, (first, last) in enumerate(pairwise(cuts)):
        wanted = [slice(first, last)] * (n_streams - 1) + [slice(first, last + rest if k == len(pieces) - 1 else last)]
        taken = decoder.take(np.concatenate([some[at] for some, at in zip(index, wanted, strict=True)]), each=last - first)
        assert np.array_equal(taken, np.concatenate([some[at] for some, at in zip(values, wanted, strict=True)]))
    decoder.finish()


def test_one_value_has_one_state() -> None:
    """A second one beside it would be eight bytes for what four say."""
    values, index, rows = sample(0, 1)
    bank = Bank(rows)
    words, escapes = encode(values, index, bank)
    assert len(words) in (4, 6)
    longer = words[:4] + (1 << 16).to_bytes(4, "little") + words[4:]
    for streams in ([(longer, escapes)], [(words, escapes), (longer, escapes)]):
        decoder = Decoder(streams, bank)
        assert np.array_equal(decoder.take(np.repeat(index, len(streams)), each=1), np.repeat(values, len(streams)))
        with pytest.raises(PayloadError, match="two states"):
            decoder.finish()


def test_one_of_several_streams_is_damaged() -> None:
    values, index, rows = sample(0, 40)
    bank = Bank(rows)
    words, escapes = encode(values, index, bank)
    twice = np.concatenate([index, index])
    for bad in ((words[:-2], escapes), (words, escapes[:-1])):
        for streams in ([(words, escapes), bad], [bad, (words, escapes)]):
            with pytest.raises(PayloadError):
                Decoder(streams, bank).take(twice, each=40)
    for bad in ((words + b"\0\0", escapes), (words, escapes + b"\0")):
        for streams in ([(words, escapes), bad], [bad, (words, escapes)]):
            decoder = Decoder(streams, bank)
            assert np.array_equal(decoder.take(twice, each=40), [*values, *values])
            with pytest.raises(PayloadError):
                decoder.finish()
    for each in (-1, 81):
        with pytest.raises(ValueError, match="values each of 2 streams"):
            Decoder([(words, escapes)] * 2, bank).take(twice, each=each)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 9999, 10000])
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_lengths_and_dtypes(n: int, dtype: type) -> None:
    values, index, rows = sample(n, n)
    bank = Bank([row.astype(dtype) for row in rows])
    words, escapes = encode(values.astype(dtype), index.astype(dtype), bank)
    decoder = Decoder([(memoryview(words), memoryview(escapes))], bank)
    back = decoder.take(index.astype(dtype))
    decoder.finish()
    assert back.dtype == np.int32
    assert back.flags.writeable
    assert np.array_equal(back, values)
    assert encode(values, index, Bank(rows)) == (words, escapes)


def test_small_dtypes() -> None:
    bank = Bank([[65000, 500, 36]])
    values, index = np.array([0, 1, 127, 3], np.uint8), np.zeros(4, np.uint8)
    for dtype in (np.uint8, np.int8, np.uint32, np.uint64):
        words, escapes = encode(values.astype(dtype), index, bank)
        assert decode(words, escapes, index, bank).tolist() == [0, 1, 127, 3]


def test_inputs_may_be_strided_unaligned_or_read_only() -> None:
    values, index, rows = sample(1, 50)
    bank = Bank(rows)
    coded = encode(values, index, bank)
    read_only = values.copy()
    read_only.flags.writeable = False
    unaligned = np.frombuffer(b"x" + index.tobytes(), np.uint16, offset=1)
    assert encode(read_only, unaligned, bank) == coded
    assert encode(np.repeat(values, 2)[::2], np.repeat(index, 2)[::2], bank) == coded


@pytest.mark.parametrize("n", [1, 2, 11, 12, 13, 2000, 200_000])
def test_nothing_but_the_longest_escapes(n: int) -> None:
    """Far more than the room that the encoder starts with."""
    values, index = np.full(n, -LARGEST), np.zeros(n, np.uint8)
    values[::2] = LARGEST
    bank = Bank([[1, 65535]])
    words, escapes = encode(values, index, bank)
    assert len(escapes) == 5 * n
    assert np.array_equal(decode(words, escapes, index, bank), values)


# These bytes are the format: a change here is a new bitstream.
GOLDEN_ROWS = [np.array([32768, 16384, 8192, 8192]), np.array([1, 65535]), np.array([65533, 1, 2])]
GOLDEN = [
    ([], [], "", ""),
    ([0], [0], "00000200", ""),
    ([1, -1], [0, 0], "0080040000c00800", ""),
    ([-2, 2, -2, 0], [0, 0, 0, 2], "00e0470003e00800", "010001"),
    ([0, 1, -1, 63, -64, 64], [1, 1, 1, 1, 1, 1], "00000100060001000400", "00017c7f7e"),
    ([LARGEST, -LARGEST, 0, 1, -1, 2], [0, 1, 2, 2, 2, 2], "02e00400ff7f01800480feff", "faffffff0ffdffffff0f0001"),
]


@pytest.mark.parametrize(("values", "index", "words", "escapes"), GOLDEN)
def test_golden_bytes(values: list[int], index: list[int], words: str, escapes: str) -> None:
    chosen = np.array(index, np.uint8)
    bank = Bank(GOLDEN_ROWS)
    coded = encode(np.array(values, int), chosen, bank)
    assert (coded[0].hex(), coded[1].hex()) == (words, escapes)
    assert decode(bytes.fromhex(words), bytes.fromhex(escapes), chosen, bank).tolist() == values


@pytest.mark.parametrize(("n", "n_symbols", "skew"), [(0, 5, 0), (1, 5, 0), (2, 5, 1), (5001, 256, 8), (5000, 4096, 2)])
def test_without_escapes_the_words_are_those_of_rans(n: int, n_symbols: int, skew: int) -> None:
    symbols, index, freqs = stream(n, n, 7, n_symbols, skew)
    symbols[symbols == n_symbols - 1] = 0
    values = np.where(symbols % 2 == 1, (symbols.astype(int) + 1) // 2, -(symbols.astype(int) // 2))
    words, escapes = encode(values, index, Bank(freqs))
    assert words == rans.encode(symbols, index, cumulative(freqs))
    assert escapes == b""


def test_rows_of_different_sizes_are_filled_up() -> None:
    """A shorter row codes what a longer row does that has its frequencies and then next to nothing."""
    short, long = [30000, 20000, 10000, 5536], [30000, 20000, 10000, 5535, 1]
    values, index = np.array([0, 1, -1, 0, 1, 1, 0]), np.zeros(7, int)
    assert encode(values, index, Bank([short])) == encode(values, index, Bank([short, [1] * 599 + [64937]]))
    assert encode(values, index, Bank([short])) == encode(values, index, Bank([long]))


def gaussian_stream(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rounded Gaussians of all scales of the bank, in random order: the widest escape one time in twenty."""
    rng = np.random.default_rng(seed)
    index = rng.integers(0, gaussian.N_SCALES, n).astype(np.uint8)
    return np.rint(rng.normal(0, 1, n) * np.exp2((index - 24.0) / 8)).astype(np.int32), index


def test_a_million_gaussians_are_near_the_entropy_of_their_tables() -> None:
    values, index = gaussian_stream(1_000_000, 5)
    rows = gaussian.frequencies()
    bank = Bank(rows)
    words, escapes = encode(values, index, bank)
    assert escapes
    assert np.array_equal(decode(words, escapes, index, bank), values)
    size = len(words) + len(escapes)
    assert size == pytest.approx(bank.bits(values, index).sum(dtype=float) / 8, rel=0.005, abs=8)
    # The same without `bits`: the information of the symbols, and the escape bytes as they are.
    wide = np.zeros((len(rows), max(map(len, rows))), int)
    for i, row in enumerate(rows):
        wide[i, : len(row)] = row
    symbols = np.minimum(np.where(values > 0, 2 * values - 1, -2 * values), np.array([len(row) - 1 for row in rows])[index])
    ideal_bytes = (16 - np.log2(wide[index, symbols])).sum() / 8
    assert ideal_bytes <= len(words) <= 1.005 * ideal_bytes + 8


@pytest.mark.parametrize("i", [0, 24, 40, 80])
def test_one_scale_is_near_the_entropy_of_its_table(i: int) -> None:
    rng = np.random.default_rng(i)
    values = np.rint(rng.normal(0, 2.0 ** ((i - 24) / 8), 300_000)).astype(np.int32)
    index = np.full(len(values), i, np.uint8)
    bank = Bank(gaussian.frequencies())
    size = sum(map(len, encode(values, index, bank)))
    assert size == pytest.approx(bank.bits(values, index).sum(dtype=float) / 8, rel=0.005, abs=8)


@given(streams(max_n=50))
@settings(max_examples=50)
def test_bits_of_each_value(case: Stream) -> None:
    values, index, rows = case
    bits = Bank(rows).bits(values, index)
    assert bits.dtype == np.float32
    for v, t, cost in zip(values.tolist(), index.tolist(), bits.tolist(), strict=True):
        z, last = (2 * v - 1 if v > 0 else -2 * v), len(rows[t]) - 1
        expected = 16 - np.log2(float(rows[t][min(z, last)])) + (8 * len(leb128(z - last)) if z >= last else 0)
        assert cost == pytest.approx(expected, rel=1e-6, abs=1e-4)


@pytest.mark.parametrize("beyond", [0, 1, 127, 128, 2**14 - 1, 2**14, 2**21 - 1, 2**21, 2**28 - 1, 2**28, 2**32 - 4])
def test_bits_where_an_escape_grows(beyond: int) -> None:
    bank = Bank([[32767, 1, 32768]])
    z = 2 + beyond
    values, index = np.array([(z + 1) // 2 if z % 2 else -(z // 2)]), np.zeros(1, int)
    assert encode(values, index, bank)[1] == leb128(beyond)
    assert bank.bits(values, index).tolist() == [1 + 8 * len(leb128(beyond))]


@pytest.mark.parametrize(("sizes", "skew"), [([256], 0), ([256], 6), ([3], 2), ([2, 17, 600, 600, 100], 1)])
def test_size_beside_constriction(sizes: list[int], skew: int) -> None:
    rng = np.random.default_rng(6)
    rows = make_rows(rng, sizes, skew)
    index = np.sort(rng.integers(0, len(rows), 200_000)).astype(np.uint8)
    slots = rng.integers(0, 1 << 16, len(index))
    symbols = np.concatenate([np.searchsorted(np.cumsum(row), slots[index == t], "right") for t, row in enumerate(rows)])
    values = np.where(symbols % 2 == 1, (symbols + 1) // 2, -(symbols // 2))
    words, escapes = encode(values, index, Bank(rows))
    assert set(escapes) <= {0}  # the last symbol stands for the first value beyond the table
    assert len(escapes) == (symbols == np.array(sizes)[index] - 1).sum()

    other = constriction.stream.stack.AnsCoder()
    parts = [
        (symbols[index == t].astype(np.int32), constriction.stream.model.Categorical(row / 65536, perfect=False))
        for t, row in enumerate(rows)
    ]
    for part, model in reversed(parts):
        other.encode_reverse(part, model)
    assert len(words) == pytest.approx(other.num_bits() / 8, rel=0.005, abs=8)
    ideal_bits = sum(code_length_bits(part, part * 0, row[None]) for (part, _), row in zip(parts, rows, strict=True))
    assert other.num_valid_bits() == pytest.approx(ideal_bits, rel=0.001)
    decoded = np.concatenate([other.decode(model, len(part)) for part, model in parts])
    assert np.array_equal(decoded, symbols)


def both(words: bytes, escapes: bytes, index: np.ndarray, bank: Bank) -> list[int] | None:
    """What the decoder makes of the data: values, or None for a PayloadError. The reference must say the same."""
    got = outcome(decode, PayloadError, words, escapes, index, bank)
    assert got == outcome(decode_values_reference, PayloadError, words, escapes, index, bank.rows)
    return got


@pytest.mark.parametrize("seed", range(6))
def test_damaged_words(seed: int) -> None:
    values, index, rows = sample(seed, 50 + seed, [(2,), (2, 9, 100), (600, 3)][seed % 3])
    bank = Bank(rows)
    words, escapes = encode(values, index, bank)
    for bad in damaged(words, seed, 200):
        got = both(bad, escapes, index, bank)
        assert got is None or len(got) == len(values)
        if len(bad) != len(words) and (bad.startswith(words) or words.startswith(bad)):
            assert got is None


@pytest.mark.parametrize("seed", range(3))
def test_damaged_escapes(seed: int) -> None:
    values, index, rows = sample(seed, 40, [(2,), (2, 9, 100), (600, 3)][seed % 3], 0.5)
    bank = Bank(rows)
    words, escapes = encode(values, index, bank)
    for bad in damaged(escapes, seed, 200):
        got = both(words, bad, index, bank)
        assert got is None or len(got) == len(values)
        if len(bad) != len(escapes) and (bad.startswith(escapes) or escapes.startswith(bad)):
            assert got is None


@given(st.binary(max_size=80), st.binary(max_size=40), streams(max_n=40))
@settings(max_examples=150)
def test_any_bytes(words: bytes, escapes: bytes, case: Stream) -> None:
    _, index, rows = case
    bank = Bank(rows)
    both(words, escapes, index, bank)
    coded, _ = encode(np.zeros(len(index), int), index, bank)
    both(coded, escapes, index, bank)


@given(st.binary(max_size=60), st.binary(max_size=20), streams(max_n=40), st.integers(1, 8))
@settings(max_examples=100)
def test_a_decoder_that_failed_stays_harmless(words: bytes, escapes: bytes, case: Stream, step: int) -> None:
    _, index, rows = case
    try:
        decoder = Decoder([(words, escapes)], Bank(rows))
    except PayloadError:
        return
    for start in range(0, 3 * len(index), step):
        outcome(decoder.take, PayloadError, index[start % len(index) :][:step])
    try:
        decoder.finish()
    except PayloadError:
        return


def test_wrong_length_of_the_index() -> None:
    values, index, rows = sample(3, 1000)
    bank = Bank(rows)
    words, escapes = encode(values, index, bank)
    for other in (index[:-1], index[:-2], index[:0], np.append(index, index[:1]), np.tile(index, 50)):
        assert both(words, escapes, other, bank) is None


ESCAPE_BANK = Bank([[32768, 32768]])  # 0 is itself; all else escapes, z - 1 in bytes
ZERO = np.zeros(1, int)
ESCAPE_WORDS = encode(np.ones(1, int), ZERO, ESCAPE_BANK)[0]


@pytest.mark.parametrize(
    "escapes",
    [
        b"",
        b"\x80",
        b"\xff\xff\xff\xff",
        bytes([0x81, 0x80, 0x80, 0x80, 0x80, 0x00]),
        b"\x80" * 1000,
        leb128(2**32 - 1),
        leb128(2**35 - 1),
        b"\x00\x00",
        b"\x00\x80",
    ],
    ids=["missing", "cut", "cut late", "six bytes", "endless", "too large", "far too large", "left over", "half left over"],
)
def test_bad_escapes(escapes: bytes) -> None:
    assert both(ESCAPE_WORDS, escapes, ZERO, ESCAPE_BANK) is None


@pytest.mark.parametrize(("z", "value"), [(1, 1), (2, -1), (2**31, -(2**30)), (2**32 - 3, LARGEST), (2**32 - 2, -LARGEST)])
def test_sound_escapes(z: int, value: int) -> None:
    assert both(ESCAPE_WORDS, leb128(z - 1), ZERO, ESCAPE_BANK) == [value]


def test_the_first_escape_that_is_too_large() -> None:
    assert both(ESCAPE_WORDS, leb128(2**32 - 2), ZERO, ESCAPE_BANK) is None


def test_overlong_escapes_mean_one_value_or_are_refused() -> None:
    for escapes in (b"\x80\x00", b"\x80\x80\x00", b"\x80\x80\x80\x80\x00"):
        assert both(ESCAPE_WORDS, escapes, ZERO, ESCAPE_BANK) in ([1], None)


def test_finish_finds_what_is_left() -> None:
    values, index, rows = sample(4, 100)
    bank = Bank(rows)
    words, escapes = encode(values, index, bank)
    assert escapes

    def rest(words: bytes, escapes: bytes, n: int) -> Decoder:
        decoder = Decoder([(words, escapes)], bank)
        assert np.array_equal(decoder.take(index[:n]), values[:n])
        return decoder

    rest(words, escapes, 100).finish()
    with pytest.raises(PayloadError, match="left over"):
        rest(words + b"\0\0", escapes, 100).finish()
    with pytest.raises(PayloadError, match="left over"):
        rest(words, escapes + b"\0", 100).finish()
    for n in (0, 1, 50, 99):
        with pytest.raises(PayloadError):
            rest(words, escapes, n).finish()
    with pytest.raises(PayloadError, match="end early"):  # halved, 0x12345 is too small, and no word is left to fill it up
        Decoder([((0x12345).to_bytes(4, "little"), b"")], ESCAPE_BANK).take(ZERO)
    decoder = Decoder([((0x22345).to_bytes(4, "little"), b"")], ESCAPE_BANK)
    assert decoder.take(ZERO).tolist() == [0]
    with pytest.raises(PayloadError, match="last state"):
        decoder.finish()


def test_an_empty_stream() -> None:
    assert encode(ZERO[:0], ZERO[:0], ESCAPE_BANK) == (b"", b"")
    decoder = Decoder([(b"", b"")], ESCAPE_BANK)
    assert decoder.take(ZERO[:0]).tolist() == []
    decoder.finish()
    for words, escapes in ((b"\0\0", b""), (b"", b"\0"), (ESCAPE_WORDS, b"")):
        assert both(words, escapes, ZERO[:0], ESCAPE_BANK) is None


def test_starts_that_cannot_be() -> None:
    with pytest.raises(PayloadError, match="even"):
        Decoder([(b"\0\0\0", b"")], ESCAPE_BANK)
    for words in (b"", b"\0\0", b"\xff\xff\0\0", ESCAPE_WORDS[:2]):
        with pytest.raises(PayloadError):
            Decoder([(words, b"")], ESCAPE_BANK).take(ZERO)
    for words in (ESCAPE_WORDS, ESCAPE_WORDS + b"\xff\xff\0\0"):  # one state where two are due, a second that is too small
        with pytest.raises(PayloadError):
            Decoder([(words, b"\0\0")], ESCAPE_BANK).take(np.zeros(2, int))


def test_a_stream_of_one_value_ends_there() -> None:
    bank, index = Bank([[1, 65534, 1]]), np.zeros(2, int)
    forged = bytes.fromhex("030001000000")
    assert both(forged, b"", index, bank) is None
    assert outcome(decode, PayloadError, forged, b"", index, bank, [1]) is None


def _wide_bank() -> list[np.ndarray]:
    return [np.full(1024, 64)] + [np.array([65535, 1])] * 4095  # of 4096 * 1025 entries


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [[65536]],
        [[]],
        [[32768, 32767]],
        [[32768, 32769]],
        [[32768, 32768], [32768, 32767]],
        [[0, 65536]],
        [[65536, 0]],
        [[32768, 0, 32768]],
        [[-1, 65537]],
        [[0.5, 65535.5]],
        [np.full(4097, 16)],
        [[[[32768, 32768]]]],
        [np.array([65535, 1])] * 4097,
        _wide_bank(),
    ],
    ids=lambda rows: f"{len(rows)} rows of {len(rows[0]) if rows else 0}",
)
def test_malformed_banks(rows: list[np.ndarray]) -> None:
    with pytest.raises(ModelError):
        Bank(rows)


def test_largest_banks() -> None:
    Bank([np.array([65535, 1])] * 4096)
    Bank([np.full(4096, 16)])
    Bank([np.full(1024, 64)] + [np.array([65535, 1])] * 4091)
    everything = Bank([np.full(4096, 16), np.array([65535, 1])])
    values, index = np.arange(-2100, 2100), np.arange(4200) % 2
    assert np.array_equal(decode(*encode(values, index, everything), index, everything), values)


def test_bad_streams() -> None:
    bank = Bank([[32768, 32768], [65535, 1]])
    for values in (np.zeros(1), np.zeros(2, int), np.zeros((1, 1), int), np.zeros(1, bool)):
        with pytest.raises(ValueError, match="expected"):
            encode(values, ZERO, bank)
    for values in (np.array([2**31]), np.array([-(2**31)]), np.array([2**63], np.uint64), np.array([-(2**63)])):
        with pytest.raises(ValueError, match="2\\^31"):
            encode(values, ZERO, bank)
    for index in (np.array([2]), np.array([-1]), np.array([70000])):
        with pytest.raises(ModelError):
            encode(ZERO, index, bank)
        with pytest.raises(ModelError):
            Decoder([(bytes(4), b"")], bank).take(index)
    with pytest.raises(ModelError, match=r"lie in 0\.\.2"):  # what is of the right type is checked as it goes
        Decoder([(encode(np.zeros(3, int), np.array([0, 1, 0]), bank)[0], b"")], bank).take(np.array([0, 1, 2], np.uint16))
    for index in (np.zeros(1), np.zeros((1, 1), int)):
        with pytest.raises(ValueError, match="expected"):
            Decoder([(bytes(4), b"")], bank).take(index)
