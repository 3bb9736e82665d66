"""`pack --bits` and `--bits-map`: through report and unpack, and what they refuse."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import RunCli
from test_partial import stopped_after

import batchcodec
from batchcodec import PackOptions
from batchcodec.errors import UnfinishedError
from batchcodec.types import Pixels


@pytest.fixture
def source(tmp_path: Path, gray_32: list[Pixels]) -> Path:
    np.save(tmp_path / "x.npy", np.stack(gray_32)[..., 0])
    return tmp_path / "x.npy"


@pytest.fixture
def bits_map(tmp_path: Path) -> Path:
    (tmp_path / "bits.json").write_text(json.dumps({"bits": [5, 0, 8, 3]}))
    return tmp_path / "bits.json"


def test_pack_report_unpack(run_cli: RunCli, source: Path, tiny_model: Path, tmp_path: Path) -> None:
    archive = tmp_path / "a.cpack"
    how = ("-c", "autoencoder-1", "-m", tiny_model, "--bits", "auto:3.5", "--entropy", "none")
    packed = run_cli("pack", source, archive, *how)
    assert packed.rc == 0, packed.stderr
    report = run_cli("report", archive, "--against", source, "--json")
    assert report.rc == 0
    assert report.json["quality"]["mean_psnr"] > 15
    assert run_cli("verify", archive, "--deep").rc == 0
    assert run_cli("unpack", archive, tmp_path / "again.npy").rc == 0
    original = np.load(source)
    assert np.square(np.load(tmp_path / "again.npy").astype(float) - original).mean() < original.var() / 2
    with batchcodec.open(archive) as opened:
        (record,) = opened.codecs.values()
    assert record.config["precision"]["entropy"] == "none"
    assert sum(record.config["precision"]["bits"]) == 4 * 3.5


def test_a_map(invoke: RunCli, source: Path, tiny_model: Path, bits_map: Path, tmp_path: Path) -> None:
    common = ("pack", source, tmp_path / "a.cpack", "-m", tiny_model, "--force")
    groups = []
    for more in (
        ("-c", "autoencoder-1:entropy=none", "--bits-map", bits_map),
        ("-c", f"autoencoder-1:entropy=none,bits-map={bits_map}"),
        ("-c", f"autoencoder-1:bits-map={bits_map}", "--bits-map", bits_map, "--entropy", "none"),
    ):
        assert invoke(*common, *more).rc == 0
        with batchcodec.open(tmp_path / "a.cpack") as opened:
            (record,) = opened.codecs.values()
            assert record.config == {"precision": {"entropy": "none", "bits": [5, 0, 8, 3]}}
            groups.append([item.pixels.tobytes() for item in opened])
    assert groups[0] == groups[1] == groups[2]
    assert len(groups[0]) == 64


def test_bits_in_the_codec_text(invoke: RunCli, source: Path, tiny_model: Path, tmp_path: Path) -> None:
    sizes = []
    for text in ("autoencoder-1:bits=2", "autoencoder-1:bits=auto:2", "autoencoder-1:bits=8", "autoencoder-1"):
        how = ("-m", tiny_model, "-c", text, "--entropy", "none", "--force", "--json")
        done = invoke("pack", source, tmp_path / "a.cpack", *how)
        assert done.rc == 0
        sizes.append(done.json["bytes"]["payload"])
    assert sizes[0] < sizes[2] == sizes[3]
    assert sizes[1] < sizes[2]


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (("-c", "autoencoder-1", "--bits", "9"), "bits"),
        (("-c", "autoencoder-1", "--bits", "0"), "bits"),
        (("-c", "autoencoder-1", "--bits", "4.5"), "bits"),
        (("-c", "autoencoder-1", "--bits", "many"), "bits"),
        (("-c", "autoencoder-1", "--bits", "auto:-1"), "bits"),
        (("-c", "autoencoder-1:bits=9"), "bits"),
        (("-c", "autoencoder-1:bits=4", "--bits", "5"), "bits"),
        (("-c", "autoencoder-1", "--bits-map", "no.json"), "bits-map"),
        (("-c", "autoencoder-1", "--bits-map", "three.json"), "bits-map"),
        (("-c", "autoencoder-1", "--bits-map", "bits.json", "--bits", "4"), "bits-map"),
    ],
    ids=str,
)
def test_what_they_refuse(
    options: tuple[str, ...],
    name: str,
    invoke: RunCli,
    source: Path,
    tiny_model: Path,
    bits_map: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "three.json").write_text("[8, 8, 8]")
    done = invoke("pack", source, tmp_path / "a.cpack", "-m", tiny_model, *options)
    assert done.rc == 2
    assert f"option {name}: got" in " ".join(done.stderr.split())
    assert not (tmp_path / "a.cpack").exists()


@pytest.mark.parametrize("codec", ["auto", "zstd"])
def test_codecs_without_the_choice(codec: str, invoke: RunCli, source: Path, bits_map: Path, tmp_path: Path) -> None:
    for name, value in (("bits", "4"), ("bits-map", bits_map)):
        done = invoke("pack", source, tmp_path / "a.cpack", "-c", codec, f"--{name}", value)
        assert done.rc == 2
        assert f"option {name}: got" in " ".join(done.stderr.split())


@pytest.mark.parametrize("in_the_codec", [False, True])
def test_resume_goes_by_what_the_map_says(
    in_the_codec: bool, source: Path, tiny_model: Path, bits_map: Path, tmp_path: Path
) -> None:
    target = tmp_path / "a.cpack"
    options = PackOptions(codec="autoencoder-1", model=tiny_model, group_items=8, workers=1)
    if in_the_codec:
        options = replace(options, codec=f"autoencoder-1:bits-map={bits_map}")
    else:
        options = replace(options, bits_map=bits_map)
    batchcodec.pack(source, tmp_path / "whole.cpack", options)
    with stopped_after(3):
        batchcodec.pack(source, target, options)
    before = bits_map.read_text()
    bits_map.write_text("[1, 2, 3, 4]")
    with pytest.raises(UnfinishedError, match="files of the codec" if in_the_codec else "bits-map"):
        batchcodec.pack(source, target, replace(options, resume=True))
    with pytest.raises(UnfinishedError, match="bits None, not 4"):
        batchcodec.pack(source, target, replace(options, codec="autoencoder-1", resume=True, bits_map=None, bits=4))
    bits_map.write_text(before)
    assert batchcodec.pack(source, target, replace(options, resume=True)).n_resumed == 3
    assert target.read_bytes() == (tmp_path / "whole.cpack").read_bytes()


# ---- hyperprior-1


def test_hyperprior(invoke: RunCli, source: Path, hyperprior_models: Path, tmp_path: Path) -> None:
    model = hyperprior_models / "tiny-gray.safetensors"
    sizes = []
    for bits in ("0.4", "auto:0.4", "auto:1.2"):
        archive = tmp_path / f"{bits.replace(':', '')}.cpack"
        packed = invoke("pack", source, archive, "-c", "hyperprior-1:effort=1", "-m", model, "--bits", bits, "--json")
        assert packed.rc == 0, packed.stderr
        sizes.append(packed.json["bytes"]["payload"])
        assert invoke("verify", archive, "--deep").rc == 0
    assert 0.8 < sizes[1] / sizes[0] < 1.25
    assert sizes[2] > 1.3 * sizes[1]
    assert invoke("report", archive, "--against", source, "--json").json["quality"]["mean_psnr"] > 20
    for number, more in enumerate(((), ("--reference",))):  # the independent decoder reads steps of any kind
        assert invoke("unpack", archive, tmp_path / f"{number}.npy", *more).rc == 0
    assert np.array_equal(np.load(tmp_path / "0.npy"), np.load(tmp_path / "1.npy"))


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (("-c", "hyperprior-1", "--bits", "0"), "bits"),
        (("-c", "hyperprior-1", "--bits", "auto:17"), "bits"),
        (("-c", "hyperprior-1:quality=70", "--bits", "0.5"), "bits"),
        (("-c", "hyperprior-1", "--bits", "0.5", "--fit", "10s"), "bits"),
        (("-c", "hyperprior-1", "--bits-map", "bits.json", "--fit", "10s"), "bits-map"),
        (("-c", "hyperprior-1", "--bits", "auto:0.5", "--model-ref"), "bits"),
        (("-c", "hyperprior-1", "--bits-map", "bits.json"), "bits-map"),
    ],
    ids=str,
)
def test_what_hyperprior_refuses(
    options: tuple[str, ...],
    name: str,
    invoke: RunCli,
    source: Path,
    hyperprior_models: Path,
    bits_map: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    model = () if "--fit" in options else ("-m", hyperprior_models / "tiny-gray.safetensors")
    done = invoke("pack", source, tmp_path / "a.cpack", *model, *options)
    assert done.rc == 2
    assert f"option {name}: got" in " ".join(done.stderr.split())
    assert not (tmp_path / "a.cpack").exists()
