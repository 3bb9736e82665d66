"""The parts of `bench` that measure nothing: which items, which pictures, what a process is told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers import picture

from batchcodec import Item, PackOptions, Preprocess, pack
from batchcodec.bench import measures
from batchcodec.bench.generated import generate, write_npz
from batchcodec.bench.job import Job
from batchcodec.bench.run import BenchOptions, run
from batchcodec.dataset import FormatOptions
from batchcodec.errors import BatchcodecError
from batchcodec.registry import registry
from batchcodec.sampling import Sample, SamplingRegistry, spread


@pytest.mark.parametrize(("n_items", "n_wanted"), [(0, 5), (3, 5), (5, 5), (7, 5), (1000, 7), (10**9, 3)])
def test_picks_are_spread_and_rise(n_items: int, n_wanted: int) -> None:
    found = spread(n_items, n_wanted)
    assert len(found) == min(n_items, n_wanted)
    assert all(0 <= i < n_items for i in found)
    steps = np.diff(found)
    assert len(steps) == 0 or (steps.min() > 0 and steps.max() - steps.min() <= 1)


def test_a_sample_reads_what_it_is_asked_for() -> None:
    items = [Item(f"{i}.png", picture((4, 4), i)[:, :, None]) for i in range(10)]
    sample = Sample(items, spread(10, 4))
    assert [item.name for item in sample] == ["0.png", "2.png", "5.png", "7.png"]
    assert [item.name for item in sample[1:3]] == ["2.png", "5.png"]
    assert sample[-1] is items[7]
    with pytest.raises(IndexError):
        sample[4]


def test_pack_reads_a_sample_through_the_format_of_the_source(pictures: Path, tmp_path: Path) -> None:
    sampling = SamplingRegistry(registry(), lambda n_items: spread(n_items, 3))
    assert sampling.codec_ids() == registry().codec_ids()
    report = pack(pictures, tmp_path / "a.cpack", PackOptions(codec="store"), plugins=sampling)
    assert (report.n_items, report.format) == (3, "folder")


def test_generated_pictures_are_the_same_for_the_same_seed(tmp_path: Path) -> None:
    pictures = generate(5, seed=1)
    assert (pictures.shape, pictures.dtype) == ((5, 64, 64, 3), np.uint8)
    np.testing.assert_array_equal(pictures, generate(5, seed=1))
    assert (pictures[:3] != generate(3, seed=2)).any()
    assert pictures.std() > 20
    write_npz(tmp_path / "x.npz", 5, 1)
    with np.load(tmp_path / "x.npz") as content:
        np.testing.assert_array_equal(content["images"], pictures)


def test_a_job_goes_through_json() -> None:
    job = Job(
        kind="pack",
        source=Path("a"),
        archive=Path("b"),
        codec="zstd",
        model=Path("m"),
        preprocess=Preprocess((32, 48), mode="gray"),
        format_options=FormatOptions(key="x"),
    )
    for one in (job, Job(kind="read", source=Path("a"), archive=Path("b"), codec="zstd")):
        assert Job.from_json(json.loads(json.dumps(one.to_json()))) == one


def test_a_model_is_for_the_codecs_that_take_one(hyperprior_models: Path) -> None:
    model = hyperprior_models / "tiny-gray.safetensors"
    options = BenchOptions(codecs=("hyperprior-1", "zstd"), model=model)
    jobs = [options.job("pack", Path("a"), Path("b"), codec) for codec in options.codecs]
    assert [job.model for job in jobs] == [model, None]


def test_memory_is_that_of_this_process() -> None:
    before = measures.peak_mb()
    block = np.ones(100_000_000 + round(1e6 * before), np.uint8)
    assert measures.peak_mb() > before + 50
    del block


def test_random_reads_hop_between_groups(rgb_archive: tuple[Path, Path]) -> None:
    job = Job(kind="single", source=rgb_archive[0], archive=rgb_archive[1], codec="jpeg", seconds=0.2)
    with measures._opened(job) as archive:
        hops = measures._hopping(archive, np.random.default_rng(0))
        groups = archive.groups_of([next(hops) for _ in range(50)])
    assert groups[0] != 0  # the one that was decoded to warm up
    assert (np.diff(groups) != 0).all()


def test_what_happens_to_the_process_is_said(tmp_path: Path) -> None:
    job = Job(kind="read", source=tmp_path, archive=tmp_path / "none.cpack", codec="zstd")
    with pytest.raises(BatchcodecError, match=r"none\.cpack"):
        run(job)
    with pytest.raises(BatchcodecError, match=r"ended with 1: .*nonsense"):
        run(Job(kind="nonsense", source=tmp_path, archive=tmp_path, codec="zstd"))
