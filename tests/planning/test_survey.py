"""What is found in a dataset, and the groups that follow from it: those that `pack` forms."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import picture

import batchcodec
from batchcodec import Item, PackOptions
from batchcodec.packing.grouping import Grouping
from batchcodec.planning.frame import interleaved, strata
from batchcodec.planning.survey import Looked, survey
from batchcodec.preprocess import Preprocess
from batchcodec.registry import registry


def looked_at(source: Path, **more: Any) -> Looked:
    dataset = registry().format_of(source).read(source)
    settings: dict[str, Any] = {"look_seconds": 20, "read_seconds": 20, "workers": 2, "progress": lambda what, part: None}
    return survey(dataset, more.pop("preprocess", Preprocess()), **settings | more)


def test_a_folder_of_mixed_pictures(pictures: Path) -> None:
    shutil.copy(pictures / "cat" / "0.png", pictures / "dog" / "again.png")
    (pictures / "dog" / "broken.png").write_bytes((pictures / "cat" / "1.png").read_bytes()[:200])
    (pictures / "dog" / "empty.jpg").write_bytes(b"")
    found = looked_at(pictures).survey
    assert (found.n_items, found.n_looked, found.n_decoded) == (14, 14, 14)
    assert found.shapes["32x24 RGB"] == 8
    assert found.shapes["12x10 L 16-bit"] == 1
    assert (found.n_unreadable, found.n_duplicates, found.ignored) == (2, 4, 1)  # cats and dogs look the same
    assert any("broken.png" in reason for reason in found.unreadable)
    assert found.labels == {"dog": 8, "cat": 4}
    assert not found.from_start


def test_groups_are_those_of_pack(pictures: Path, tmp_path: Path) -> None:
    shutil.rmtree(pictures / "dog")
    for group in (None, 2):
        report = batchcodec.pack(pictures, tmp_path / f"{group}.cpack", PackOptions(codec="store", group_items=group))
        found = strata(looked_at(pictures), group, np.random.default_rng(0))
        assert sum(len(stratum.clusters) for stratum in found) == report.n_groups
        assert [stratum.n_clusters for stratum in found] == [report.n_groups]
        places = sorted(place for stratum in found for cluster in stratum.clusters for place in cluster.places)
        assert places == list(range(report.n_items))


def test_kinds_are_strata_and_each_is_measured_first(pictures: Path) -> None:
    found = strata(looked_at(pictures), 1, np.random.default_rng(0))
    assert [stratum.name for stratum in found] == ["L uint16", "L uint8", "LA uint8", "RGB uint8", "RGBA uint8"]
    order = interleaved(found)
    assert sorted(h for h, _ in order[:5]) == [0, 1, 2, 3, 4]
    assert len(order) == len(set(order)) == 11


def test_sizes_are_those_that_are_coded(pictures: Path) -> None:
    found = looked_at(pictures, preprocess=Preprocess(size=(16, 8), mode="gray")).survey
    assert found.shapes == {"16x8 L": 10, "16x8 L 16-bit": 1}


@pytest.fixture
def many(tmp_path: Path) -> Path:
    path = tmp_path / "many.npy"
    np.save(path, np.arange(5000 * 16, dtype=np.uint32).astype(np.uint8).reshape(5000, 4, 4, 1))
    return path


def test_a_large_dataset_is_looked_at_in_blocks(many: Path) -> None:
    looked = looked_at(many, max_looked=1000, block_items=200)
    assert (looked.survey.n_items, looked.survey.n_looked) == (5000, 1000)
    assert looked.survey.n_pixels == 5000 * 16
    assert [block[0].place for block in looked.blocks] == [0, 1200, 2400, 3600, 4800]
    assert looked.n_blocks == 25
    found = strata(looked, 50, np.random.default_rng(0))
    assert found[0].n_items == 5000
    assert found[0].n_clusters == pytest.approx(100)
    assert found[0].scatter == 0  # all blocks are alike


def test_the_ends_of_blocks_make_no_groups(many: Path) -> None:
    found = strata(looked_at(many, max_looked=1000, block_items=200), 80, np.random.default_rng(0))
    assert {len(cluster.places) for cluster in found[0].clusters} == {80}
    assert found[0].n_clusters == pytest.approx(5000 / 80)


def test_no_time_is_still_a_look(many: Path) -> None:
    looked = looked_at(many, look_seconds=0, read_seconds=0)
    assert 64 <= looked.survey.n_looked < 5000
    assert looked.survey.n_items == 5000


def test_a_stream_is_read_from_its_beginning(tmp_path: Path) -> None:
    class Stream(list[Item]):
        """A dataset that neither knows heads nor may be read by several threads."""

    items = Stream(Item(f"{i}.png", picture((4, 4), i)[:, :, None]) for i in range(300))
    settings: dict[str, Any] = {"workers": 2, "progress": lambda what, part: None}
    looked = survey(items, Preprocess(), look_seconds=0, read_seconds=0, **settings)
    assert looked.survey.from_start
    assert looked.survey.n_looked == 64
    whole = survey(items, Preprocess(), look_seconds=20, read_seconds=20, **settings)
    assert (whole.survey.n_looked, whole.survey.from_start, len(whole.blocks)) == (300, False, 1)


def test_grouping_needs_no_pixels() -> None:
    blank = np.broadcast_to(np.zeros((), np.uint8), (1 << 14, 1 << 14, 3))
    grouping = Grouping()
    kind = grouping.kind_of(blank, lambda spec: None)  # type: ignore[arg-type, return-value]
    assert len(grouping.add(kind, Item("", blank), 0)) == 1
