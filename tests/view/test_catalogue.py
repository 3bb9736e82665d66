"""Searches of names and labels, against plain Python on lists."""

from __future__ import annotations

import fnmatch
import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

import batchcodec
from batchcodec.view.catalogue import Catalogue, Query

LETTERS = "abAB.*?[]!-/\n\0é\u0130ß"
TEXTS = st.text(st.sampled_from(LETTERS), min_size=1, max_size=6)


class Fake:
    """What a catalogue asks of an archive, of names that no folder could have."""

    def __init__(self, names: Sequence[str], order: Sequence[int] | None = None) -> None:
        self._names = names
        self.in_order = order is None
        self.indices = np.arange(len(names)) if order is None else np.array(order, np.int64)

    def name_blocks(self) -> Iterator[list[str]]:
        for start in range(0, len(self._names), 3):
            yield list(self._names[start : start + 3])


def found(names: Sequence[str], text: str, order: Sequence[int] | None = None) -> list[int]:
    archive: Any = Fake(names, order)
    indices = Catalogue(archive).find(Query(text))
    assert indices is not None
    return indices.tolist()


def folded(text: str) -> str:
    return text.lower().replace("\0", "\ufffd")


def expected(names: Sequence[str], text: str) -> list[int]:
    if "*" in text or "?" in text:
        return [i for i, name in enumerate(names) if fnmatch.fnmatchcase(folded(name), folded(text))]
    return [i for i, name in enumerate(names) if folded(text) in folded(name)]


@example(names=["[]", "*", "a*", "[*"], text="[*]")
@example(names=["[]", "*", "a*", "[*"], text="*[*]")
@example(names=["a", "!", "]", "[*"], text="[!*]")
@given(names=st.lists(TEXTS, min_size=1, max_size=10), text=TEXTS)
def test_parts_and_patterns_find_what_plain_python_finds(names: list[str], text: str) -> None:
    assume(not re.search(r"\[.-.!", text, re.DOTALL))  # where fnmatch drops `b-a` from `[b-a!c]`, and takes the rest for `[!c]`
    assert found(names, text) == expected(names, text)


@given(names=st.lists(TEXTS, min_size=1, max_size=8), text=TEXTS, data=st.data())
def test_places_are_those_of_the_dataset(names: list[str], text: str, data: st.DataObject) -> None:
    assume(not re.search(r"\[.-.!", text, re.DOTALL))
    order = data.draw(st.permutations(range(len(names))))
    assert found(names, text, order) == sorted(order[i] for i in expected(names, text))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("b", ["xb"]),
        ("ab", ["xaby"]),  # and not the end of one name with the beginning of the next
        ("*.png", ["cat/1.png", "Cat/2.PNG"]),
        ("cat*", ["cat/1.png", "Cat/2.PNG"]),
        ("?aby", ["xaby"]),
        ("[1]", ["[1]"]),  # brackets are letters, unless there is a star or a question mark
        ("[x]aby*", ["xaby"]),
        ("*[!g]", ["xa", "b", "xaby", "xb", "[1]"]),
    ],
)
def test_what_is_found(text: str, names: list[str]) -> None:
    known = ["xa", "b", "xaby", "xb", "cat/1.png", "Cat/2.PNG", "[1]"]
    if text == "b":
        names = ["b", "xaby", "xb"]
    assert [known[i] for i in found(known, text)] == names


def test_a_pattern_of_many_stars_ends() -> None:
    """Without atomic groups this would take longer than anybody waits."""
    assert found(["a" * 4000] * 50, "*a" * 40 + "*b") == []


def test_labels_of_an_archive(zoo: tuple[Path, Path]) -> None:
    with batchcodec.open(zoo[1]) as archive:
        catalogue = Catalogue(archive)
        catalogue.load()
        assert catalogue.find(Query()) is None
        assert catalogue.labels() == [("cat", 8), ("dog", 13)]
        assert catalogue.n_unlabelled() == 0
        for query, n in [
            (Query(label="cat"), 8),
            (Query("3", label="cat"), 1),
            (Query("3"), 2),
            (Query(label="no"), 0),
            (Query(unlabelled=True), 0),
            (Query("*.PNG", label="dog"), 13),
        ]:
            indices = catalogue.find(query)
            assert indices is not None
            assert len(indices) == n, query
            names, labels = archive.names, archive.labels
            assert all(query.label in (None, labels[i]) for i in indices)
            assert all(i < j for i, j in itertools.pairwise(indices))
            if query.name == "3":
                assert all("3" in names[i] for i in indices)


def test_items_without_a_label(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", images=np.zeros((4, 2, 2, 1), np.uint8), labels=np.array(["a", "", "b", ""]))
    batchcodec.pack(tmp_path / "x.npz", tmp_path / "x.cpack", batchcodec.PackOptions(codec="store"))
    with batchcodec.open(tmp_path / "x.cpack") as archive:
        catalogue = Catalogue(archive)
        assert (catalogue.n_unlabelled(), catalogue.labels()) == (2, [("a", 1), ("b", 1)])
        unlabelled = catalogue.find(Query(unlabelled=True))
        assert unlabelled is not None
        assert unlabelled.tolist() == [1, 3]


def test_what_was_found_last_is_kept_and_not_more(zoo: tuple[Path, Path]) -> None:
    with batchcodec.open(zoo[1]) as archive:
        catalogue = Catalogue(archive)
        first = catalogue.find(Query("3"))
        assert catalogue.find(Query("3")) is first
        for i in range(20):
            catalogue.find(Query(f"no {i}"))
        assert len(catalogue._found) == 8
        assert catalogue.find(Query("3")) is not first


def test_a_search_of_many(many: Path) -> None:
    with batchcodec.open(many) as archive:
        catalogue = Catalogue(archive)
        for text, numbers in [("0001234", []), ("-120001", [120_001]), ("item-14999?", list(range(149_990, 150_000)))]:
            indices = catalogue.find(Query(text))
            assert indices is not None
            assert indices.tolist() == numbers
        both = catalogue.find(Query("*99", label="part 1"))
        assert both is not None
        assert both.tolist() == list(range(50_099, 100_000, 100))
