"""Does training suffer? A small classifier trained from archives of several qualities, beside one trained from originals.

    python benchmarks/downstream.py                          # Fashion-MNIST and EuroSAT, about an hour of one core
    python benchmarks/downstream.py --sets eurosat --codecs avif:quality=40,mosaic=true --seeds 1
    OMP_NUM_THREADS=1 taskset -c 1 python benchmarks/downstream.py   # in the background

Images are 64x64. The classifier is a plain network of three convolutions, which reads its batches through
`batchcodec.torch.CpackDataset` whatever it is trained on: originals lie in an archive of the lossless codec `zstd`, others in
archives of `hyperprior-1` at several qualities and, further down than that goes, of AVIF mosaics. Rows with `grain=100` are of
the same bytes as those without. Two rows have no codec, to tell what 30.75 dB cost from what a codec costs: `noise` are
originals with so much white noise, `ideal` is what is left of them where each bit is spent on what saves most squared error.
The classifier is tested on original test images, and on test images that were coded like those that it was trained on.
Accuracies are means over seeds, with the spread from the lowest to the highest. The codecs saw no test image and no label.

Fashion-MNIST: the first 1,000 training images of each class, all 10,000 test images, the model of `train_fashion.py`. EuroSAT:
400 training and 100 test tiles of each class, split as in `eurosat.py`, the shipped model `photo-rgb`, which never saw any.
They are packed in an order that mixes classes: what a video codec chooses for a whole mosaic of one class seems to tell the
class, as decoded test images were recognised better then.

A run goes on where an earlier one stopped: what is in the JSON is not trained again (`--fresh` does).

Needs BATCHCODEC_DATA with `fashion-mnist/` and `eurosat.tar` in it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rates import FASHION_MODEL, FASHION_SIZE, FASHION_TEST, FASHION_TRAIN, data_folder, with_json
from speed_sets import mean_psnr
from torch import Tensor, nn
from torch.utils.data import DataLoader

import batchcodec
from batchcodec import PackOptions, pack
from batchcodec.learned.comcnn.training import dct
from batchcodec.registry import registry
from batchcodec.torch import CpackDataset
from batchcodec.types import Item, Pixels

WORK = Path(__file__).parents[1] / "runs" / "downstream"
SHIPPED = Path(batchcodec.__file__).parent / "models" / "photo-rgb.safetensors"
ORIGINALS = "zstd"
NOISE, IDEAL = "noise", "ideal"
LEARNED = "hyperprior-1:quality={q},effort=1,tune=mse"
GRAIN = ",grain=100"
RIVALS = ("avif:quality=20,mosaic=true", "avif:quality=12,mosaic=true", "avif:quality=1,mosaic=true")
CACHE_BYTES = 128 << 20
"""More than the pixels of a training set: each group is decoded once."""
TARGET_DB = 30.75
"""The quality that must not cost accuracy: the source paper's."""
RINGS = (1, 2, 3, 4, 6, 8, 12, 16, 20, 24, 28, 32, 40, 48, 60)
"""Edges between rings of frequencies, in half waves across an image."""
EVAL_BATCH = 500
TESTS = {"accuracy": "tested on originals", "accuracy_decoded": "tested on decoded images"}


@dataclass(frozen=True)
class Settings:
    """Of one data set: qualities of the learned codec, and other codecs beside it."""

    model: Path
    qualities: tuple[int, ...]
    rivals: tuple[str, ...]
    train_per_class: int
    epochs: int

    @property
    def codecs(self) -> list[str]:
        """Originals first, what 30.75 dB may leave of them, then falling quality."""
        learned = [LEARNED.format(q=q) for q in self.qualities]
        return [ORIGINALS, *DAMAGES, *learned, *(codec + GRAIN for codec in learned), *self.rivals]


SETS = {
    "fashion": Settings(FASHION_MODEL, (65, 40, 20, 1), RIVALS[1:], 1000, 8),
    "eurosat": Settings(SHIPPED, (75, 50, 25, 1), (*RIVALS, "jpeg:quality=17"), 400, 16),
}


@dataclass(frozen=True)
class Split:
    """uint8 [N, 64, 64, C] with the class of each."""

    images: Pixels
    labels: npt.NDArray[np.str_]

    @classmethod
    def of(cls, items: Sequence[Item]) -> Split:
        """Items of one shape, with labels."""
        return cls(np.stack([item.pixels for item in items]), np.array([str(item.label) for item in items]))


@dataclass(frozen=True)
class Trained:
    """One training run; seconds are of processor time, which on one thread is what an idle machine takes.

    Attributes:
        accuracy: on the original test images, from 0 to 1.
        accuracy_decoded: on the test images as they come out of an archive like the one that was trained from.
        first_epoch_s: decoding the archive and training.
        epoch_s: later epochs, in which all images come from the cache: mean.
    """

    set: str
    codec: str
    seed: int
    bytes_per_image: float
    weight_bytes: int
    mean_psnr: float | None
    accuracy: float
    accuracy_decoded: float
    first_epoch_s: float
    epoch_s: float
    epochs: int


class Classifier(nn.Sequential):
    """Three convolutions, and the mean over what is left: the first is coarse, as a core trains it in seconds."""

    def __init__(self, channels: int, n_classes: int) -> None:
        layers: list[nn.Module] = []
        for before, after, side, stride in ((channels, 32, 5, 4), (32, 64, 3, 2), (64, 96, 3, 2)):  # to 16, 8 and 4 pixels
            layers += [nn.Conv2d(before, after, side, stride, side // 2, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, n_classes))


def fashion_items(name: str) -> Split:
    """All images of a file of Fashion-MNIST, at 64x64."""
    path = data_folder(name) / name
    dataset = registry().format_of(path, None, None).read(path)
    return Split.of([FASHION_SIZE(dataset[i]) for i in range(len(dataset))])


def load(name: str, train_per_class: int) -> tuple[Split, Split]:
    """Images to train on and to test with."""
    if name == "fashion":
        train, test = fashion_items(FASHION_TRAIN), fashion_items(FASHION_TEST)
        return _first_of_each(train, train_per_class), test
    from eurosat import PER_CLASS

    source = data_folder("eurosat.tar") / "eurosat.tar"
    dataset = registry().format_of(source, None, None).read(source)
    items = [dataset[i] for i in range(len(dataset))]
    classes: dict[str, list[Item]] = {}
    for item in items:
        classes.setdefault(Path(item.name).parent.name, []).append(item)
    rng = np.random.default_rng(0)  # the same split as `eurosat.split(0)`
    parts: tuple[list[Item], list[Item]] = ([], [])
    for label in sorted(classes):
        order = rng.permutation(len(classes[label]))
        for part, chosen in zip(parts, (order[PER_CLASS:], order[:PER_CLASS]), strict=True):
            part += [Item(item.name, item.pixels, label) for item in (classes[label][i] for i in chosen)]
    train, test = (Split.of(part) for part in parts)
    return _mixed(_first_of_each(train, train_per_class)), _mixed(test)


def _mixed(split: Split) -> Split:
    """In another order."""
    order = np.random.default_rng(1).permutation(len(split.labels))
    return Split(split.images[order], split.labels[order])


def _first_of_each(split: Split, n: int) -> Split:
    """The first n of each class, in their order."""
    kept = np.sort(np.concatenate([np.flatnonzero(split.labels == label)[:n] for label in np.unique(split.labels)]))
    return Split(split.images[kept], split.labels[kept])


def packed(split: Split, target: Path, codec: str, model: Path) -> dict[str, Any]:
    """Pack a split, if that is not done, and say what the archive weighs and how good it is."""
    note = target.with_suffix(".json")
    if not note.exists() or not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        source = target.with_suffix(".npz")
        images = DAMAGES[codec](split.images) if codec in DAMAGES else split.images
        np.savez(source, images=images, labels=split.labels)
        options = PackOptions(
            codec=ORIGINALS if codec in DAMAGES else codec,
            model=model if codec.startswith("hyperprior") else None,
            force=True,
            workers=torch.get_num_threads(),
        )
        report = pack(source, target, options)
        source.unlink()
        found = {
            "bytes_per_image": (report.n_bytes - report.bytes.model) / report.n_items,
            "weight_bytes": report.bytes.model,
            "mean_psnr": mean_psnr(split.images, images) if codec in DAMAGES else None if report.lossless else report.mean_psnr,
        }
        note.write_text(json.dumps(found))
    content: dict[str, Any] = json.loads(note.read_text())
    return content


def noisy(images: Pixels) -> Pixels:
    """With white noise of TARGET_DB: more of it than that, where black and white clip it."""
    noise = np.random.default_rng(2).standard_normal(images.shape, np.float32)
    return _at_target(images, lambda deviation: images + deviation * noise)


def ideal(images: Pixels) -> Pixels:
    """As a codec that is ideal for squared error would leave them at TARGET_DB, were each image Gaussian noise of its spectrum.

    That is reverse water-filling (Cover & Thomas 2006, section 10.3.3): components weaker than the water level D are nothing,
    of others of power P there is the part k = 1 - D / P, and what rounding adds to it, of power k D. The spectrum is the mean
    power in rings of the DCT's frequencies, in orthonormal colours, of each image by itself. That D is the same for all
    images serves the pooled error.
    """
    side, channels = images.shape[1], images.shape[3]
    at, waves = np.arange(side), dct(side).numpy()
    colours = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]], np.float32) if channels == 3 else np.eye(channels, dtype=np.float32)
    colours /= np.linalg.norm(colours, axis=1, keepdims=True)
    parts = np.einsum("uy,vx,kc,nyxc->nuvk", waves, waves, colours, images.astype(np.float32), optimize=True)
    ring = np.digitize(np.hypot(at[:, None], at), RINGS)
    power = np.empty_like(parts)
    for i in np.unique(ring):
        power[:, ring == i] = np.square(parts[:, ring == i]).mean(1, keepdims=True) + 1e-9
    noise = np.random.default_rng(2).standard_normal(parts.shape, np.float32)

    def left(deviation: float) -> npt.NDArray[np.float32]:
        kept = np.maximum(0, 1 - deviation**2 / power)
        coded = kept * parts + np.sqrt(kept) * np.float32(deviation) * noise
        pixels: npt.NDArray[np.float32] = np.einsum("uy,vx,kc,nuvk->nyxc", waves, waves, colours, coded, optimize=True)
        return pixels

    return _at_target(images, left)


DAMAGES: dict[str, Callable[[Pixels], Pixels]] = {NOISE: noisy, IDEAL: ideal}


def _at_target(images: Pixels, damaged: Callable[[float], npt.NDArray[np.float32]]) -> Pixels:
    """Damaged as strongly, in gray levels, as it takes for TARGET_DB."""
    low, high = 0.1, 100.0
    while high / low > 1.001:
        strength = math.sqrt(low * high)
        found = np.clip(np.rint(damaged(strength)), 0, 255).astype(np.uint8)
        low, high = (strength, high) if mean_psnr(images, found) > TARGET_DB else (low, strength)
    return found


def batch_of(images: Tensor) -> Tensor:
    """uint8 [n, C, 64, 64] to about unit variance."""
    return ((images.float() - 110) / 75).contiguous(memory_format=torch.channels_last)


def train(dataset: CpackDataset, epochs: int, seed: int, learning_rate: float = 4e-3) -> tuple[Classifier, list[float]]:
    """A classifier, and the seconds of processor time of each epoch."""
    torch.manual_seed(seed)
    network = Classifier(dataset[0][0].shape[0], len(dataset.classes))
    loader = DataLoader(dataset, batch_size=100, shuffle=True, drop_last=True, generator=torch.Generator().manual_seed(seed))
    optimiser = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, learning_rate, total_steps=epochs * len(loader))
    seconds = []
    for _ in range(epochs):
        started = time.process_time()
        for images, labels in loader:
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(nn.functional.cross_entropy(network(batch_of(images)), labels))
            optimiser.step()
            schedule.step()
        seconds.append(time.process_time() - started)
    return network.eval(), seconds


def accuracy(network: Classifier, dataset: CpackDataset) -> float:
    """The part of the images that is classified as their labels say."""
    right = 0
    with torch.no_grad():
        for start in range(0, len(dataset), EVAL_BATCH):
            part = dataset.__getitems__(range(start, min(len(dataset), start + EVAL_BATCH)))
            found = network(batch_of(torch.stack([image for image, _ in part]))).argmax(1)
            right += int((found == torch.tensor([label for _, label in part])).sum())
    return right / len(dataset)


def summary(rows: Sequence[Trained]) -> list[dict[str, Any]]:
    """One row for each set and codec: means over seeds, the shortest times; originals first, then falling size."""
    grouped: dict[tuple[str, str], list[Trained]] = {}
    for row in rows:
        grouped.setdefault((row.set, row.codec), []).append(row)
    found: list[dict[str, Any]] = []
    for (name, codec), runs in grouped.items():
        values = np.array([(r.accuracy, r.accuracy_decoded, r.first_epoch_s, r.epoch_s) for r in runs])
        found.append(
            {
                "set": name,
                "codec": codec,
                "seeds": len(runs),
                "bytes_per_image": runs[0].bytes_per_image,
                "weight_bytes": runs[0].weight_bytes,
                "mean_psnr": runs[0].mean_psnr,
                "accuracy": float(values[:, 0].mean()),
                "spread": [float(values[:, 0].min()), float(values[:, 0].max())],
                "accuracy_decoded": float(values[:, 1].mean()),
                "spread_decoded": [float(values[:, 1].min()), float(values[:, 1].max())],
                "first_epoch_s": float(values[:, 2].min()),
                "epoch_s": float(values[:, 3].min()),
            }
        )
    return sorted(found, key=lambda r: (r["set"], r["codec"] != ORIGINALS, -r["bytes_per_image"]))


def verdicts(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each set and kind of test images: what TARGET_DB costs, and the largest archive that costs more than a point.

    The accuracy at TARGET_DB is interpolated between the settings of the learned codec beside it. Those with grain are on
    their own.
    """
    found: list[dict[str, Any]] = []
    for name, tests, grain in itertools.product(sorted({row["set"] for row in rows}), TESTS, (False, True)):
        own = [row for row in rows if row["set"] == name]
        base = next((row[tests] for row in own if row["codec"] == ORIGINALS), None)
        coded = [row for row in own if row["mean_psnr"] is not None and row["codec"] not in DAMAGES]
        coded = [row for row in coded if row["codec"].endswith(GRAIN) == grain]
        learned = np.array(sorted((row["mean_psnr"], row[tests]) for row in coded if row["codec"].startswith("hyperprior")))
        if base is None or not coded:
            continue
        fallen = [row["bytes_per_image"] for row in coded if row[tests] < base - 0.01]
        inside = len(learned) and learned[0, 0] <= TARGET_DB <= learned[-1, 0]
        at_target = float(np.interp(TARGET_DB, learned[:, 0], learned[:, 1])) if inside else None
        found.append(
            {
                "set": name,
                "tests": tests,
                "grain": grain,
                "loss_at_target": None if at_target is None else base - at_target,
                "falls_at_bytes": max(fallen, default=None),
            }
        )
    return found


def show(rows: Sequence[dict[str, Any]]) -> None:
    head = f"{'set':<8} {'trained from':<43} {'B/image':>8} {'dB':>6} {'originals':>23} {'decoded':>23}"
    print(f"\n{head} {'epoch 1':>8} {'later':>6}")
    for r in rows:
        psnr = "" if r["mean_psnr"] is None else f"{r['mean_psnr']:.2f}"
        accuracies = [percent(r["accuracy"], r["spread"]), percent(r["accuracy_decoded"], r["spread_decoded"])]
        print(
            f"{r['set']:<8} {r['codec']:<43} {r['bytes_per_image']:8.1f} {psnr:>6} {accuracies[0]:>23} {accuracies[1]:>23} "
            f"{r['first_epoch_s']:8.1f} {r['epoch_s']:6.1f}"
        )
    for verdict in verdicts(rows):
        print(sentence(verdict))


def percent(mean: float, spread: Sequence[float]) -> str:
    """An accuracy with its lowest and highest."""
    return f"{100 * mean:.1f} % ({100 * spread[0]:.1f} to {100 * spread[1]:.1f})"


def sentence(verdict: dict[str, Any]) -> str:
    """A verdict in words."""
    loss, size = verdict["loss_at_target"], verdict["falls_at_bytes"]
    at = f"{TARGET_DB} dB was not measured" if loss is None else f"{TARGET_DB} dB costs {100 * loss:.1f} points"
    falls = "no archive costs more than one" if size is None else f"more than one point goes from {size:.0f} bytes per image on"
    grain = ", with grain" if verdict["grain"] else ""
    return f"{verdict['set']}{grain}, {TESTS[verdict['tests']]}: {at}; {falls}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default=",".join(SETS), help="fashion,eurosat")
    parser.add_argument("--codecs", nargs="*", help="in place of those of each set")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--work", type=Path, default=WORK, help="where archives are kept")
    parser.add_argument("--fresh", action="store_true", help="train again what is in the JSON")
    with_json(parser, "downstream")
    args = parser.parse_args()
    kept = json.loads(args.json.read_text())["runs"] if args.json.exists() and not args.fresh else []
    rows = [Trained(**row) for row in kept]
    for name in args.sets.split(","):
        settings = SETS[name]
        epochs = args.epochs or settings.epochs
        done = {(row.codec, row.seed) for row in rows if (row.set, row.epochs) == (name, epochs)}
        wanted = itertools.product(range(args.seeds), args.codecs or settings.codecs)
        missing = [(seed, codec) for seed, codec in wanted if (codec, seed) not in done]
        if not missing:
            continue
        splits = load(name, settings.train_per_class)
        for seed, codec in missing:
            rows.append(one(name, splits, codec, seed, epochs, args.work / name))
            print(json.dumps(asdict(rows[-1])), flush=True)
            write(args.json, rows)
    show(summary(rows))
    write(args.json, rows)


def one(name: str, splits: tuple[Split, Split], codec: str, seed: int, epochs: int, folder: Path) -> Trained:
    """One training run, and its tests."""
    paths = []
    for part, split, text in (("train", splits[0], codec), ("test", splits[1], codec), ("test", splits[1], ORIGINALS)):
        paths.append(folder / f"{part}-{re.sub('[^a-z0-9]+', '-', text)}.cpack")
        facts = packed(split, paths[-1], text, SETS[name].model)
        if part == "train":
            of_training = facts
    dataset = CpackDataset(paths[0], cache_bytes=CACHE_BYTES)
    network, seconds = train(dataset, epochs, seed)
    decoded, plain = (accuracy(network, CpackDataset(path, classes=dataset.classes)) for path in paths[1:])
    return Trained(
        set=name,
        codec=codec,
        seed=seed,
        **of_training,
        accuracy=plain,
        accuracy_decoded=decoded,
        first_epoch_s=seconds[0],
        epoch_s=float(np.mean(seconds[1:] or seconds)),
        epochs=epochs,
    )


def write(path: Path, rows: Sequence[Trained]) -> None:
    """All that is known so far."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = summary(rows)
    content = {"target_db": TARGET_DB, "summary": table, "verdicts": verdicts(table), "runs": [asdict(row) for row in rows]}
    path.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
