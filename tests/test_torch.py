"""The loaders for PyTorch: in `DataLoader` with and without workers, forked and spawned; epochs, shards, damage, pickles."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, RandomSampler, WeightedRandomSampler

import batchcodec
from batchcodec import PackOptions
from batchcodec.errors import CorruptGroupError, MixedShapesError, OptionError
from batchcodec.torch import CpackDataset, CpackIterable

N = 50
FORKED: list[tuple[int, str | None]] = [(0, None), (1, "fork"), (2, "fork")]
SPAWNED = (2, "spawn")  # slow: each worker imports torch anew


@pytest.fixture(scope="module")
def arrays() -> tuple[np.ndarray, np.ndarray]:
    """Images [50, 6, 5, 3] whose first sample is their place, and labels."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (N, 6, 5, 3), dtype=np.uint8)
    images[:, 0, 0, 0] = np.arange(N)
    return images, np.array(["cat", "dog", "owl"])[rng.integers(0, 3, N)]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, arrays: tuple[np.ndarray, np.ndarray]) -> Path:
    folder = tmp_path_factory.mktemp("torch")
    np.savez(folder / "a.npz", images=arrays[0], labels=arrays[1])
    batchcodec.pack(folder / "a.npz", folder / "a.cpack", PackOptions(codec="zstd", group_items=7))
    return folder / "a.cpack"


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Gray pictures of two sizes, one of 16 bits, without labels."""
    from PIL import Image

    (tmp_path / "mixed").mkdir()
    for i in range(6):
        side = 8 + 4 * (i % 2)
        Image.fromarray(np.full((side, side), i, np.uint8)).save(tmp_path / "mixed" / f"{i}.png")
    Image.fromarray(np.full((8, 8), 60_000, np.uint16)).save(tmp_path / "mixed" / "6.png")
    batchcodec.pack(tmp_path / "mixed", tmp_path / "mixed.cpack", PackOptions(codec="zstd", group_items=2))
    return tmp_path / "mixed.cpack"


def halved(image: torch.Tensor) -> torch.Tensor:
    return image.float()[:, :4, :4] / 2


def plus_ten(target: int) -> int:
    return target + 10


def context(name: str | None) -> dict[str, Any]:
    return {} if name is None else {"multiprocessing_context": name}


def check(images: torch.Tensor, targets: torch.Tensor, arrays: tuple[np.ndarray, np.ndarray], classes: list[str]) -> list[int]:
    """That images have their pixels and labels; their places."""
    places: list[int] = images[:, 0, 0, 0].tolist()
    assert images.dtype == torch.uint8
    np.testing.assert_array_equal(images.numpy().transpose(0, 2, 3, 1), arrays[0][places])
    assert [classes[target] for target in targets.tolist()] == arrays[1][places].tolist()
    return places


# ---- map-style


@pytest.mark.parametrize(
    ("opened", "n_workers", "start"), [(o, *s) for o in (False, True) for s in FORKED] + [(True, *SPAWNED)]
)
def test_a_dataset_in_a_loader(
    path: Path, arrays: tuple[np.ndarray, np.ndarray], opened: bool, n_workers: int, start: str | None
) -> None:
    with batchcodec.open(path) as archive:
        archive.read(range(20))  # threads, a cache and decoders are there before the fork
        run_epochs(CpackDataset(archive if opened else path), arrays, n_workers, start)


def run_epochs(dataset: CpackDataset, arrays: tuple[np.ndarray, np.ndarray], n_workers: int, start: str | None) -> None:
    assert len(dataset) == N
    assert dataset.classes == ["cat", "dog", "owl"]
    assert dataset.labels == arrays[1].tolist()
    more = {"persistent_workers": True} if n_workers else {}
    sampler = RandomSampler(dataset, generator=torch.Generator().manual_seed(0))
    loader = DataLoader(dataset, batch_size=8, sampler=sampler, num_workers=n_workers, **more, **context(start))
    orders = []
    for _ in range(2):
        places = [place for images, targets in loader for place in check(images, targets, arrays, dataset.classes)]
        assert sorted(places) == list(range(N))
        orders.append(places)
    assert orders[0] != orders[1]


def test_single_items_and_transforms(path: Path, arrays: tuple[np.ndarray, np.ndarray]) -> None:
    dataset = CpackDataset(path, transform=halved, target_transform=plus_ten)
    image, target = dataset[17]
    assert image.shape == (3, 4, 4)
    assert image[0, 0, 0] == 8.5
    assert target == 10 + dataset.targets[17]
    image, target = CpackDataset(path)[-1]
    np.testing.assert_array_equal(image.numpy().transpose(1, 2, 0), arrays[0][-1])
    assert dataset.classes[target] == arrays[1][-1]
    image += 1  # it is the caller's
    with pytest.raises(IndexError):
        dataset[N]
    loader = DataLoader(dataset, batch_size=10, num_workers=2, multiprocessing_context="fork")
    assert sum(len(images) for images, _ in loader) == N


def test_a_batch_reads_each_group_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = CpackDataset(path, cache_bytes=0)
    read: list[int] = []
    some = dataset.archive._groups.some
    monkeypatch.setattr(dataset.archive._groups, "some", lambda group, places: read.append(group) or some(group, places))
    dataset.__getitems__([0, 49, 3, 20, 1, 48, 0])
    assert sorted(read) == [0, 2, 6, 7] or sorted(read) == sorted(set(read))


def test_classes_of_the_training_set(path: Path) -> None:
    classes = ["owl", "ant", "dog", "cat"]
    dataset = CpackDataset(path, classes=classes)
    assert [classes[t] for t in dataset.targets] == dataset.labels
    again = pickle.loads(pickle.dumps(dataset))
    assert again.targets.tolist() == dataset.targets.tolist()
    with pytest.raises(OptionError, match="also 'cat'"):
        CpackDataset(path, classes=["dog", "owl"])
    weights = 1 / np.bincount(dataset.targets, minlength=4)[dataset.targets]
    loader = DataLoader(dataset, batch_size=10, sampler=WeightedRandomSampler(weights.tolist(), 30))
    assert sum(len(images) for images, _ in loader) == 30


def test_shapes_that_differ_and_16_bits(mixed: Path) -> None:
    dataset = CpackDataset(mixed)
    assert [tuple(image.shape) for image, _ in dataset.__getitems__([0, 1, 6])] == [(1, 8, 8), (1, 12, 12), (1, 8, 8)]
    image, target = dataset[6]
    assert (image.dtype, int(image.max()), target) == (torch.int32, 60_000, -1)
    assert dataset.classes == []
    loader = DataLoader(CpackDataset(mixed, transform=halved), batch_size=7)
    images, targets = next(iter(loader))
    assert images.shape == (7, 1, 4, 4)
    assert targets.tolist() == [-1] * 7


@pytest.mark.parametrize("make", [CpackDataset, lambda path: CpackIterable(path, batch_size=5)])
def test_pickled_by_path(path: Path, make: Callable[[Path], Any]) -> None:
    dataset = make(path)
    before = [image for image, _ in dataset][:3] if isinstance(dataset, CpackIterable) else dataset[3][0]
    data = pickle.dumps(dataset)
    assert len(data) < 5000
    again = pickle.loads(data)
    after = [image for image, _ in again][:3] if isinstance(dataset, CpackIterable) else again[3][0]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


# ---- streams


@pytest.mark.parametrize(("batch", "n_workers", "start"), [(b, *s) for b in (None, 8) for s in FORKED] + [(8, *SPAWNED)])
def test_an_epoch_of_a_stream_has_every_item_once(
    path: Path, arrays: tuple[np.ndarray, np.ndarray], batch: int | None, n_workers: int, start: str | None
) -> None:
    stream = CpackIterable(path, batch_size=batch, seed=5, window=2)
    more = {"persistent_workers": True} if n_workers else {}
    loader = DataLoader(stream, batch_size=None if batch else 8, num_workers=n_workers, **more, **context(start))
    orders = []
    for epoch in (0, 1, 0):
        stream.set_epoch(epoch)  # persistent workers hear of it
        assert stream.epoch == epoch
        batches = list(loader)
        if batch:
            assert len(batches) == len(stream) == len(loader) == 7
        places = [place for images, targets in batches for place in check(images, targets, arrays, stream.classes)]
        assert sorted(places) == list(range(N))
        orders.append(places)
    assert orders[0] == orders[2] != orders[1]
    assert orders[0] != sorted(orders[0])


@pytest.mark.parametrize("batch", [None, 4])
@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_the_items(path: Path, batch: int | None, world: int) -> None:
    found: list[int] = []
    for rank in range(world):
        stream = CpackIterable(path, batch_size=batch, rank=rank, world_size=world)
        loader = DataLoader(stream, batch_size=None, num_workers=2, multiprocessing_context="fork")
        got = list(loader)
        assert len(got) == len(stream) == (-(-len_of(rank, world) // batch) if batch else len_of(rank, world))
        found += [int(image.flatten()[0]) for images, _ in got for image in (images if batch else [images])]
    assert sorted(found) == list(range(N))


def len_of(rank: int, world: int) -> int:
    return (rank + 1) * N // world - rank * N // world


def test_equal_ranks_and_no_short_batch(path: Path) -> None:
    streams = [CpackIterable(path, rank=rank, world_size=3, equal=True) for rank in range(3)]
    assert [len(stream) for stream in streams] == [len(list(stream)) for stream in streams] == [16, 16, 16]
    stream = CpackIterable(path, batch_size=8, drop_last=True)
    assert [len(images) for images, _ in stream] == [8] * 6
    assert len(stream) == 6


def test_each_group_is_decoded_once_an_epoch(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for options in ({}, {"batch_size": 9}, {"batch_size": 9, "shuffle": False, "workers": 3}):
        stream = CpackIterable(path, **options)  # type: ignore[arg-type]
        decoded: list[int] = []
        fresh = stream.archive._groups.fresh
        monkeypatch.setattr(
            stream.archive._groups, "fresh", lambda group, decoded=decoded, fresh=fresh: decoded.append(group) or fresh(group)
        )
        places = [int(x.flatten()[0]) for images, _ in stream for x in (images if "batch_size" in options else [images])]
        assert sorted(decoded) == list(range(8))
        assert "shuffle" not in options or places == list(range(N))


def test_transforms_of_a_stream(path: Path, mixed: Path) -> None:
    stream = CpackIterable(path, batch_size=20, transform=halved, target_transform=plus_ten)
    images, targets = next(iter(stream))
    assert images.shape == (20, 3, 4, 4)
    assert targets.min() >= 10
    with pytest.raises(MixedShapesError, match=r"'\d\.png' and '\d\.png' do not go into one batch"):
        list(CpackIterable(mixed, batch_size=4))
    assert sum(len(images) for images, _ in CpackIterable(mixed, batch_size=4, transform=halved)) == 7
    assert sorted({tuple(image.shape) for image, _ in CpackIterable(mixed)}) == [(1, 8, 8), (1, 12, 12)]
    names = next(iter(CpackIterable(path, batch_size=3, transform=halved, collate=lambda pairs: [type(p) for p in pairs])))
    assert names == [tuple] * 3


def test_a_stream_that_is_left_early_lets_its_threads_go(path: Path) -> None:
    before = threading.active_count()
    for _ in range(5):
        for _batch in CpackIterable(path, batch_size=4, workers=3):
            break
    for thread in threading.enumerate():
        if thread.name.startswith("batchcodec_"):
            thread.join(5)
    assert threading.active_count() <= before + 1


@pytest.mark.parametrize(
    "options",
    [{"rank": 1}, {"world_size": 2}, {"rank": 2, "world_size": 2}, {"batch_size": 0}, {"window": 0}, {"seed": -1}],
)
def test_options_that_make_no_sense(path: Path, options: dict[str, int]) -> None:
    with pytest.raises(OptionError):
        CpackIterable(path, **options)  # type: ignore[arg-type]


def test_the_rank_of_a_distributed_run(path: Path, tmp_path: Path) -> None:
    stream = CpackIterable(path)
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        assert len(stream) == N
        assert stream._shard == (0, 1)
    finally:
        torch.distributed.destroy_process_group()


# ---- damage


@pytest.mark.parametrize("n_workers", [0, 2])
def test_damage_names_group_and_item(path: Path, tmp_path: Path, n_workers: int) -> None:
    data = bytearray(path.read_bytes())
    with batchcodec.open(path) as archive:
        data[archive._groups.entries[3].offset + 80] ^= 1
    bad = tmp_path / "bad.cpack"
    bad.write_bytes(data)
    start = context("fork" if n_workers else None)
    error: type[Exception] = RuntimeError if n_workers else CorruptGroupError  # a loader's worker can only send the text
    with pytest.raises(error, match=r"CorruptGroupError|group 3") as raised:
        list(DataLoader(CpackDataset(bad), batch_size=5, num_workers=n_workers, **start))
    assert "group 3" in str(raised.value)
    assert "asked for: item 2" in str(raised.value)
    with pytest.raises(error) as raised:
        list(DataLoader(CpackIterable(bad, batch_size=5), batch_size=None, num_workers=n_workers, **start))
    assert "group 3" in str(raised.value)
    with pytest.raises(CorruptGroupError):
        CpackDataset(bad)[21]
    assert len(CpackDataset(bad)[0]) == 2


@pytest.mark.parametrize("kind", [CpackDataset, CpackIterable])
def test_a_network_codec_in_forked_workers(tmp_path: Path, hyperprior_models: Path, kind: Any) -> None:
    """The parent has run the decoder network, in threads, before it forks."""
    images = np.repeat(np.arange(40, dtype=np.uint8)[:, None, None, None] * 6, 32 * 32, 1).reshape(40, 32, 32, 1)
    np.save(tmp_path / "a.npy", images)
    options = PackOptions(codec="hyperprior-1", model=hyperprior_models / "tiny-gray.safetensors", group_items=6)
    batchcodec.pack(tmp_path / "a.npy", tmp_path / "a.cpack", options)
    with batchcodec.open(tmp_path / "a.cpack", workers=2) as archive:
        want = archive.to_numpy()
        dataset = kind(archive)
        loader = DataLoader(dataset, batch_size=5, num_workers=2, multiprocessing_context="fork")
        got = np.concatenate([x.numpy() for x, _ in loader]).transpose(0, 2, 3, 1)
    with batchcodec.open(tmp_path / "a.cpack") as archive:
        parts = [archive.read([i]) for i in (0, 20, 39, 11)]  # but for the first, decoded in part
    np.testing.assert_array_equal(np.concatenate(parts), want[[0, 20, 39, 11]])
    if kind is CpackDataset:
        np.testing.assert_array_equal(got, want)
    assert sorted(map(bytes, got)) == sorted(map(bytes, want))
