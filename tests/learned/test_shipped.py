"""Models by name and by hash: the package's own, those of BATCHCODEC_MODELS, and what is said when there is none."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import picture

from batchcodec.errors import ModelError
from batchcodec.learned import model_file, shipped
from batchcodec.learned.hyperprior.codec import HyperpriorCodec, model_reference
from batchcodec.testing import check_codec
from batchcodec.types import ImageSpec


def _stored(blob: bytes) -> bytes:
    return model_file.without_encoder(*model_file.parse(blob))


def _hash(blob: bytes) -> str:
    return hashlib.sha256(_stored(blob)).hexdigest()


@pytest.fixture
def rgb(hyperprior_models: Path) -> bytes:
    return (hyperprior_models / "tiny-rgb.safetensors").read_bytes()


@pytest.mark.parametrize("name", ["photo-rgb", "photo-gray"])
def test_the_package_brings_its_models(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(shipped.VARIABLE, raising=False)
    assert name in shipped.names()
    blob = shipped.read(name)
    codec = HyperpriorCodec(model=blob)
    codec.check(ImageSpec(8, 8, 3 if name == "photo-rgb" else 1))
    assert model_file.parse(blob)[1]["name"] == name
    assert shipped.find_stored(_hash(blob), name) == codec.get_model()


def test_folders_are_searched_in_order(
    tiny_shipped: Path, hyperprior_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rgb: bytes
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "photo-rgb.safetensors").write_bytes(b"not a model: the package's own goes first")
    (mine / "other.safetensors").write_bytes(rgb)
    (mine / "other.safetensors.checkpoint").write_bytes(b"")
    folders = [tmp_path / "missing", mine, hyperprior_models]
    monkeypatch.setenv(shipped.VARIABLE, os.pathsep + os.pathsep.join(map(str, folders)))
    assert shipped.folders() == [tiny_shipped, *folders]
    assert shipped.names() == ["other", "photo-gray", "photo-rgb", "tiny-gray", "tiny-rgb"]
    assert shipped.path_of("photo-rgb") == tiny_shipped / "photo-rgb.safetensors"
    assert shipped.path_of("other") == mine / "other.safetensors"
    assert shipped.read("other") == rgb


def test_a_file_goes_before_a_name(tiny_shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert shipped.read("photo-rgb") == (tiny_shipped / "photo-rgb.safetensors").read_bytes()
    Path("photo-rgb").write_bytes(b"a file")
    assert shipped.read("photo-rgb") == b"a file"
    assert shipped.read(tiny_shipped / "photo-gray.safetensors") == (tiny_shipped / "photo-gray.safetensors").read_bytes()


def test_a_model_that_changes_is_read_again(tiny_shipped: Path) -> None:
    before = shipped.read("photo-rgb")
    (tiny_shipped / "photo-rgb.safetensors").write_bytes(before + b"x")
    assert shipped.read("photo-rgb") == before + b"x"


@pytest.mark.parametrize("name", ["no-such-model", "", ".", "..", "../photo-rgb", "/photo-rgb", "photo-rgb/", "a\x1bb"])
def test_names_that_name_nothing(name: str, tiny_shipped: Path) -> None:
    assert shipped.path_of(name) is None
    with pytest.raises(ModelError):
        shipped.read(name)


def test_an_unknown_name_names_the_known_ones(tiny_shipped: Path) -> None:
    with pytest.raises(ModelError, match=r"model photo: .*known: photo-gray, photo-rgb \(BATCHCODEC_MODELS"):
        shipped.read("photo")


def test_found_by_hash_whatever_it_is_called(
    tiny_shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rgb: bytes
) -> None:
    wanted = _hash(rgb)
    assert shipped.find_stored(wanted, "of any name") == _stored(rgb)
    (tiny_shipped / "photo-rgb.safetensors").write_bytes(b"damaged")
    with pytest.raises(ModelError) as caught:
        shipped.find_stored(wanted, "tiny-rgb")
    for part in (wanted, "'tiny-rgb'", "BATCHCODEC_MODELS", str(tiny_shipped)):
        assert part in str(caught.value)
    # what an archive stores of a model serves as well as the model file
    (tmp_path / "x.safetensors").write_bytes(_stored(rgb))
    monkeypatch.setenv(shipped.VARIABLE, str(tmp_path))
    assert shipped.find_stored(wanted, "tiny-rgb") == _stored(rgb)


def test_what_is_stored_of_a_model_is_what_the_codec_gives(rgb: bytes) -> None:
    stored = _stored(rgb)
    assert HyperpriorCodec(model=rgb).get_model() == stored == _stored(stored)
    assert len(stored) < len(rgb)
    for document in ({}, {"codec": 1, "config": {}}, {"codec": "hyperprior-1", "config": []}):
        with pytest.raises(ModelError):
            model_file.without_encoder({}, document)


def test_the_default_models(tiny_shipped: Path) -> None:
    for channels, name in ((1, "gray"), (2, "gray"), (3, "rgb"), (4, "gray")):
        expected = (tiny_shipped / f"photo-{name}.safetensors").read_bytes()
        assert HyperpriorCodec.default_model(ImageSpec(8, 8, channels)) == expected
    (tiny_shipped / "photo-rgb.safetensors").unlink()
    assert HyperpriorCodec.default_model(ImageSpec(8, 8, 3)) is None


def test_a_codec_by_reference_keeps_the_contract(tiny_shipped: Path, rgb: bytes) -> None:
    codec = HyperpriorCodec(model=rgb, model_ref=True, quality=60)
    assert codec.get_model() == b""
    assert codec.get_config() == {"model": {"sha256": _hash(rgb), "name": "tiny-rgb"}}
    restored = HyperpriorCodec.restore(codec.get_config(), b"")
    assert restored.get_config() == codec.get_config()
    check_codec(codec, np.stack([picture((17, 24, 3), i) for i in range(3)]), n_damaged=8)


SHA256 = "0" * 64


@pytest.mark.parametrize(
    "config",
    [
        {"quality": 50},
        {"model": None},
        {"model": "photo-rgb"},
        {"model": {"sha256": SHA256}},
        {"model": {"sha256": SHA256, "name": "x", "url": "y"}},
        {"model": {"sha256": SHA256, "name": 3}},
        {"model": {"sha256": SHA256[1:], "name": "x"}},
        {"model": {"sha256": "Z" * 64, "name": "x"}},
        {"model": {"sha256": 0, "name": "x"}},
        {"model": {"sha256": SHA256, "name": "x"}, "more": 1},
    ],
    ids=str,
)
def test_configs_that_are_no_reference(config: dict[str, object], rgb: bytes) -> None:
    for model in (b"", rgb):
        with pytest.raises(ModelError):
            HyperpriorCodec.restore(config, model)  # type: ignore[arg-type]


def test_a_reference_beside_a_model_is_refused(rgb: bytes) -> None:
    with pytest.raises(ModelError, match="one of both"):
        HyperpriorCodec.restore({"model": {"sha256": _hash(rgb), "name": "tiny-rgb"}}, rgb)
    assert model_reference({}) is None


def test_names_and_hashes_need_no_torch(hyperprior_models: Path, rgb: bytes) -> None:
    code = (
        "import sys; import batchcodec.learned.plugin; from batchcodec.learned import shipped; "
        f"shipped.read('tiny-rgb'); shipped.find_stored({_hash(rgb)!r}, 'tiny-rgb'); assert 'torch' not in sys.modules"
    )
    environment = os.environ | {shipped.VARIABLE: str(hyperprior_models)}
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env=environment)
