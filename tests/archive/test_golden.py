"""Golden archives of every released format version are decoded for ever, by the library and by the reference reader."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import reference_reader

from batchcodec.archive.blocks import RawFile
from batchcodec.archive.healing import heal
from batchcodec.archive.reader import NOTES, Archive
from batchcodec.archive.wire import BlockType, CodecRecord
from batchcodec.codec import Codec
from batchcodec.reference import ReferenceHyperprior
from batchcodec.registry import registry

from .samples import blocks_of, packed

GOLDEN = Path(__file__).parent.parent / "golden"
NAMES = [
    "balle2017",
    "bits",
    "comcnn",
    "hyperprior",
    "jpeg",
    "later_minor",
    "learned",
    "names",
    "parity",
    "png_files",
    "png_mosaic",
    "segments",
    "skipped",
    "store",
    "streams",
    "uint16",
    "zstd_mixed",
]
"""Written out, so that a file that went missing is noticed."""
EXPECTED: dict[str, Any] = json.loads((GOLDEN / "v1" / "expected.json").read_text(encoding="utf-8"))
NOT_FOR_REFERENCE = ("balle2017", "bits", "comcnn", "hyperprior", "jpeg", "learned", "png_mosaic", "streams")
FOR_REFERENCE = [name for name in NAMES if name not in NOT_FOR_REFERENCE]


def test_none_is_missing_and_none_too_many() -> None:
    assert sorted(EXPECTED) == [f"{name}.cpack" for name in NAMES]
    assert sorted(path.name for path in (GOLDEN / "v1").iterdir()) == sorted([*EXPECTED, "expected.json"])


@pytest.mark.parametrize("name", NAMES)
def test_the_library_reads_it(name: str) -> None:
    want = EXPECTED[f"{name}.cpack"]
    with Archive(GOLDEN / "v1" / f"{name}.cpack", registry().restore) as archive:
        assert list(archive.version) == want["version"]
        assert archive.meta == want["meta"]
        assert archive.n_groups == want["groups"]
        assert sorted({record.codec_id for record in archive.codecs.values()}) == want["codecs"]
        assert len(archive) == len(want["items"])
        for item, fields in zip(archive, want["items"], strict=True):
            assert [item.name, item.label, item.attributes, list(item.notes)] == [
                fields[key] for key in ("name", "label", "attributes", "notes")
            ]
            assert [list(item.pixels.shape), str(item.pixels.dtype)] == [fields["shape"], fields["dtype"]]
            if want["exact"]:
                little = item.pixels.astype(item.pixels.dtype.newbyteorder("<")).tobytes()
                assert hashlib.sha256(little).hexdigest() == fields["sha256"]


@pytest.mark.parametrize("name", FOR_REFERENCE)
def test_the_reference_reader_reads_it(name: str) -> None:
    want = EXPECTED[f"{name}.cpack"]["items"]
    found = list(reference_reader.read(GOLDEN / "v1" / f"{name}.cpack"))
    assert len(found) == len(want)
    for (item_name, label, attributes, pixels), fields in zip(found, want, strict=True):
        notes = {NOTES: fields["notes"]} if fields["notes"] else {}
        assert (item_name, label, attributes) == (fields["name"], fields["label"], fields["attributes"] | notes)
        assert list(pixels.shape) == fields["shape"]
        assert hashlib.sha256(pixels.tobytes()).hexdigest() == fields["sha256"]


@pytest.mark.parametrize(("name", "channels"), [("hyperprior", {1, 3, 4}), ("streams", {3})])
def test_the_reference_of_hyperprior_reads_it(name: str, channels: set[int]) -> None:
    """In integers, without torch."""
    want = EXPECTED[f"{name}.cpack"]["items"]

    def restore(record: CodecRecord) -> Codec:
        return ReferenceHyperprior.restore(record.config, record.model)

    with Archive(GOLDEN / "v1" / f"{name}.cpack", restore) as archive:
        assert len({record.model for record in archive.codecs.values()}) == 2
        assert {item.pixels.shape[2] for item in archive} == channels
        assert [hashlib.sha256(item.pixels.tobytes()).hexdigest() for item in archive] == [fields["sha256"] for fields in want]


def test_the_reference_reader_knows_its_limits() -> None:
    for name in ("jpeg", "png_mosaic"):
        with pytest.raises(NotImplementedError):
            list(reference_reader.read(GOLDEN / "v1" / f"{name}.cpack"))


def test_the_parity_restores_it(tmp_path: Path) -> None:
    data = (GOLDEN / "v1" / "parity.cpack").read_bytes()
    path = tmp_path / "damaged.cpack"
    for start in range(0, len(data) - 200, 97):
        path.write_bytes(data[:start] + bytes(200) + data[start + 200 :])
        with RawFile(path) as file, heal(file) as healing:
            assert healing.whole
            assert healing.file.read(0, len(data)) == data


def test_the_files_are_what_their_names_say() -> None:
    kinds = {name: [block[0] for block in blocks_of((GOLDEN / "v1" / f"{name}.cpack").read_bytes())] for name in NAMES}
    assert kinds["segments"].count(BlockType.DIRECTORY) == 3
    assert 200 in kinds["later_minor"]
    with Archive(GOLDEN / "v1" / "jpeg.cpack", registry().restore) as archive:
        assert len(archive.group_head(0).sketch) == 8
    with Archive(GOLDEN / "v1" / "zstd_mixed.cpack", registry().restore) as archive:
        assert not archive.in_order
    assert EXPECTED["skipped.cpack"]["meta"]["skipped"][0]["item"] == "a/broken.png"


def test_the_reference_reader_refuses_any_flipped_byte(tmp_path: Path) -> None:
    data = (GOLDEN / "v1" / "segments.cpack").read_bytes()
    path = tmp_path / "a.cpack"
    for place in range(0, len(data), 7):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x41]) + data[place + 1 :])
        with pytest.raises(Exception):  # noqa: B017, PT011
            list(reference_reader.read(path))


def test_the_reference_reader_imports_nothing_of_the_library() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys, reference_reader; sys.exit('batchcodec' in sys.modules)"],
        cwd=GOLDEN.parent,
        check=False,
    )
    assert done.returncode == 0
    assert len((GOLDEN.parent / "reference_reader.py").read_text().splitlines()) <= 130


def test_make_refuses_to_replace(tmp_path: Path) -> None:
    shutil.copy(GOLDEN / "make.py", tmp_path)
    (tmp_path / "v1").mkdir()
    (tmp_path / "v1" / "store.cpack").write_bytes(packed([]))
    done = subprocess.run([sys.executable, "make.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "never replaced" in done.stderr
