"""The table of a directory: round trips of any rows, its size, and every way in which it can be wrong."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchcodec.archive import directory, wire
from batchcodec.archive.columns import parse_table
from batchcodec.archive.directory import Cursor, Row, pack_table, varint
from batchcodec.archive.wire import Malformed

from .test_wire import OBJECTS

NAMES = st.lists(st.text(min_size=1, max_size=20), max_size=12, unique=True)


@st.composite
def row_lists(draw: st.DrawFn) -> list[Row]:
    names = draw(NAMES)
    orders = draw(st.permutations(range(len(names))) | st.just([i * 2**40 for i in range(len(names))]))
    label = st.none() | st.sampled_from(["cat", "dog", "", "Katze \U0001f408"])
    return [Row(order, name, draw(label), draw(st.just({}) | OBJECTS)) for order, name in zip(orders, names, strict=True)]


@given(row_lists())
@settings(max_examples=60)
def test_round_trip(rows: list[Row]) -> None:
    assert parse_table(pack_table(rows), len(rows)) == rows


@pytest.mark.parametrize("name", ["a\nb", "\x00", "ä/ö.png", "a\u0308", "\U0001f408" * 1024, "x" * 4096, "../up", " "])
def test_unusual_names(name: str) -> None:
    rows = [Row(0, "a"), Row(1, name), Row(2, name[:-2] + "é")]
    assert parse_table(pack_table(rows), 3) == rows


@pytest.mark.parametrize("name", ["", "x" * 4097])
def test_names_that_cannot_be_stored(name: str) -> None:
    with pytest.raises(Malformed):
        pack_table([Row(0, name)])


def test_a_name_may_share_half_a_character_with_the_one_before() -> None:
    rows = [Row(0, "é"), Row(1, "è")]  # equal first bytes
    assert parse_table(pack_table(rows), 2) == rows


@given(st.integers(0, 2**64 - 1))
def test_varint(value: int) -> None:
    data = varint(value)
    cursor = Cursor(data)
    assert cursor.varint() == value
    assert cursor.at_end
    assert len(data) == max(1, -(-value.bit_length() // 7))


@pytest.mark.parametrize("data", [b"", b"\x80", b"\xff" * 9 + b"\x02", b"\x80" * 10 + b"\x00", b"\xff" * 5000])
def test_a_bad_varint(data: bytes) -> None:
    with pytest.raises(Malformed):
        Cursor(data).varint()


@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 300), max_size=20), st.binary(max_size=3))
def test_varints_at_once(values: list[int], rest: bytes) -> None:
    cursor = Cursor(b"?" + b"".join(map(varint, values)) + rest)
    cursor.take(1)
    assert cursor.varints(len(values)).tolist() == values
    assert cursor.take(len(rest)) == rest
    assert cursor.at_end


@given(st.binary(max_size=40), st.integers(0, 5))
def test_varints_at_once_are_as_one_by_one(data: bytes, count: int) -> None:
    one, all_at_once = Cursor(data), Cursor(data)
    try:
        want = [one.varint() for _ in range(count)]
    except Malformed:
        with pytest.raises(Malformed):
            all_at_once.varints(count)
    else:
        assert all_at_once.varints(count).tolist() == want
        assert all_at_once.position == one.position


def column(ident: int, data: bytes) -> bytes:
    return bytes([ident]) + varint(len(data)) + data


def table(*columns: bytes, n_rows: int = 2) -> bytes:
    return varint(n_rows) + b"".join(columns)


ORDERS = column(1, b"\0\0")
AB = column(2, b"\0\0\1\1ab")


def test_the_hand_written_table_is_right() -> None:
    assert parse_table(table(ORDERS, AB), 2) == [Row(0, "a"), Row(1, "b")] == parse_table(table(AB, ORDERS), 2)


def test_unknown_columns() -> None:
    assert len(parse_table(table(column(128, b"?"), ORDERS, AB, column(255, b"?"), column(255, b"?")), 2)) == 2
    for ident in (0, 5, 127):
        with pytest.raises(Malformed, match="unknown"):
            parse_table(table(ORDERS, AB, column(ident, b"")), 2)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        table(ORDERS, AB, n_rows=3),
        table(n_rows=2),
        table(ORDERS),
        table(AB),
        table(ORDERS, AB, AB),
        table(ORDERS, AB)[:-1],
        table(ORDERS, AB, b"\x03"),
        table(ORDERS, AB, b"\x03\x7f"),
        table(column(1, b"\0"), AB),
        table(column(1, b"\0\0\0"), AB),
        table(column(1, b"\1\0"), AB),  # order -1
        table(column(1, varint(2**64 - 2) + b"\0"), AB),  # order 2**63
        table(ORDERS, column(2, b"\1\0\1\1ab")),  # shares with nothing
        table(ORDERS, column(2, b"\0\2\1\1ab")),
        table(ORDERS, column(2, b"\0\0\0\1a")),  # an empty name
        table(ORDERS, column(2, b"\0\0\1\1abc")),
        table(ORDERS, column(2, b"\0\0\1\1a")),
        table(ORDERS, column(2, b"\0\0\1\1a\xff")),
        table(ORDERS, column(2, b"\0\0" + varint(4097) + b"\1" + b"a" * 4098)),
        table(ORDERS, AB, column(3, b"\3\1a\1b\1c\0\0")),
        table(ORDERS, AB, column(3, b"\1\1c\0\2")),
        table(ORDERS, AB, column(3, b"\1\1c\0")),
        table(ORDERS, AB, column(3, b"\1\1c\0\0\0")),
        table(ORDERS, AB, column(3, b"\1\1\xff\0\0")),
        table(ORDERS, AB, column(3, varint(2**63))),
        table(ORDERS, AB, column(4, b"")),
        table(ORDERS, AB, column(4, b"[]")),
        table(ORDERS, AB, column(4, b'{"k":[null,[1]]}')),
        table(ORDERS, AB, column(4, b'{"k":[[0],[1,2]]}')),
        table(ORDERS, AB, column(4, b'{"k":[[2],[1]]}')),
        table(ORDERS, AB, column(4, b'{"k":[[-1],[1]]}')),
        table(ORDERS, AB, column(4, b'{"k":[[true],[1]]}')),
        table(ORDERS, AB, column(4, b'{"k":[[0,0],[1,1]]}')),
        table(ORDERS, AB, column(4, b'{"k":[[1,0],[1,1]]}')),
        table(ORDERS, AB, column(4, b'{"k":{}}')),
        table(ORDERS, AB, column(4, b'{"k":[[0],{}]}')),
        table(ORDERS, AB, column(4, b'{"k":' + b"[" * 100_000)),
    ],
)
def test_a_bad_table(data: bytes) -> None:
    with pytest.raises(Malformed):
        parse_table(data, 2)


def test_every_cut_and_every_flip_of_a_table_is_malformed_or_another_table() -> None:
    rows = [Row(1, "b/1", "x", {"k": [1]}), Row(0, "b/2", None, {"k": "é", "m": 2}), Row(2, "a", "y")]
    data = pack_table(rows)
    damaged = [data[:cut] for cut in range(len(data))]
    for place in range(len(data)):
        damaged += [data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :] for bit in range(8)]
    for broken in damaged:
        with contextlib.suppress(Malformed):
            assert len(parse_table(broken, 3)) == 3


def test_much_from_little_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row of two bytes would repeat a name of 4 KiB."""
    n = 100
    names = varint(0) + varint(4096) * (n - 1) + varint(4096) + varint(0) * (n - 1) + b"x" * 4096
    data = table(column(1, bytes(n)), column(2, names), n_rows=n)
    assert len(parse_table(data, n)) == n
    monkeypatch.setattr(directory, "MAX_TEXT", 4096 * n - 1)
    with pytest.raises(Malformed, match="names of over"):
        parse_table(data, n)


def test_what_is_too_large_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [Row(i, str(i), None, {"k": "x" * 100}) for i in range(10)]
    monkeypatch.setattr(directory, "MAX_ATTRIBUTES", 1000)
    with pytest.raises(Malformed, match="smaller groups"):
        pack_table(rows)
    monkeypatch.setattr(directory, "MAX_ROWS", 9)
    with pytest.raises(Malformed, match="smaller groups"):
        pack_table(rows)


def test_names_in_sequence_cost_far_less_than_two_bytes() -> None:
    rows = [Row(i, f"{i:06}.png") for i in range(10_000)]
    body = wire.pack_directory(pack_table(rows), 3)
    assert len(body) < 0.5 * len(rows)
    shuffled = [Row(i ^ 1, f"{i % 10}/{i:06}.png", str(i % 10)) for i in range(10_000)]
    assert len(wire.pack_directory(pack_table(shuffled), 3)) < 2 * len(rows)
