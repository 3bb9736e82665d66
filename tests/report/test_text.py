"""Text for a terminal: no control character gets through, and numbers are short."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchcodec.report import text


@given(st.text(st.characters()))  # lone surrogates too: names that are not valid Unicode
def test_printable_has_nothing_that_moves_the_cursor(value: str) -> None:
    shown = text.printable(value)
    assert shown.isprintable()
    assert len(shown.encode("utf-8")) >= len(value)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain name.png", "plain name.png"),
        ("日本 ünï 🙂", "日本 ünï 🙂"),
        ("a\nb\tc", r"a\nb\tc"),
        ("\x1b[31m", r"\x1b[31m"),
        ("\x9b2J", r"\x9b2J"),
        ("a\u202egnp.exe", r"a\u202egnp.exe"),
        ("\udcff", r"\udcff"),
        ("", ""),
    ],
)
def test_printable(value: str, shown: str) -> None:
    assert text.printable(value) == shown


def test_every_character_is_shown_or_escaped() -> None:
    for code in range(0, sys.maxunicode, 97):
        assert text.printable(chr(code)).isprintable()


@pytest.mark.parametrize(
    ("n_bytes", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (12_345, "12,345 B"),
        (99_999, "99,999 B"),
        (100_000, "100 kB"),
        (1_234_567, "1.23 MB"),
        (12_345_678, "12.35 MB"),
        (123_456_789, "123 MB"),
        (5_000_000_000, "5.00 GB"),
        (7.5e15, "7,500 TB"),
    ],
)
def test_size(n_bytes: float, shown: str) -> None:
    assert text.size(n_bytes) == shown


def test_table() -> None:
    assert text.table([("a", "1"), ("bbb", "22")], ("n", "size")).splitlines() == [
        "n    size",
        "---  ----",
        "a       1",
        "bbb    22",
    ]
    assert text.table([]) == ""


def test_counts() -> None:
    assert text.counts({"a\n": 3000, "b": 1}) == r"a\n 3,000, b 1"
    assert text.counts({str(i): i for i in range(10)}, 2) == "0 0, 1 1, and 8 more kinds"
