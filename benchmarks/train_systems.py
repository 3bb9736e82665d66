"""Train the models of other systems that `benchmarks/systems.py` and `benchmarks/balle.py` measure.

    python benchmarks/train_systems.py balle-photo --minutes 60             # into runs/systems/balle-photo.safetensors
    python benchmarks/train_systems.py balle-photo --minutes 120 --resume   # go on, on another day
    python benchmarks/train_systems.py comcnn-fashion --minutes 10
    python benchmarks/train_systems.py comcnn-filter --from benchmarks/models/photo-comcnn-filter.safetensors --minutes 60

What is called `photo` or `filter` is trained on `photos-train.tar`, `fashion` on the 60,000 training images of Fashion-MNIST at
64x64, and on nothing else. `comcnn-photo` halves the size of what is coded, `comcnn-filter` leaves it as it is. The checkpoint
beside the output has all state; the figures on the way go to the model's `.log.json`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rates import FASHION_SIZE, FASHION_TRAIN, data_folder

from batchcodec.learned.balle.architecture import Architecture as BalleShape
from batchcodec.learned.balle.training import BalleSettings, BalleTrainer
from batchcodec.learned.comcnn.architecture import Architecture as ComcnnShape
from batchcodec.learned.comcnn.model import LoadedModel
from batchcodec.learned.comcnn.training import ComcnnSettings, ComcnnTrainer
from batchcodec.learned.data import load_images
from batchcodec.learned.loop import Trainer
from batchcodec.learned.settings import TrainStatus
from batchcodec.learned.train import AutoencoderTrainer, TrainOptions
from batchcodec.preprocess import Preprocess
from batchcodec.types import Pixels


@dataclass(frozen=True)
class Recipe:
    """What is trained on, and how: from images and what the run is told (minutes, threads) to a trainer."""

    source: str
    preprocess: Preprocess
    begin: Callable[..., Trainer[Any]]


def photo(begin: Callable[..., Trainer[Any]]) -> Recipe:
    return Recipe("photos-train.tar", Preprocess(mode="rgb"), begin)


def fashion(begin: Callable[..., Trainer[Any]]) -> Recipe:
    return Recipe(FASHION_TRAIN, FASHION_SIZE, begin)


def autoencoder(images: list[Pixels], **run: Any) -> Trainer[Any]:
    return AutoencoderTrainer(images, TrainOptions(latent=32, crop=128, batch=8, flip=True, **run))


def balle_photo(images: list[Pixels], **run: Any) -> Trainer[Any]:
    return BalleTrainer(images, BalleSettings(crop=128, batch=4, flip=True, **run), BalleShape(3, latent=160, width=96))


def balle_fashion(images: list[Pixels], **run: Any) -> Trainer[Any]:
    settings = BalleSettings(crop=64, batch=16, learning_rate=1e-3, lambdas=(0.001, 0.02), validation=256, **run)
    return BalleTrainer(images, settings, BalleShape(1, latent=48, width=48))


def comcnn_photo(images: list[Pixels], *, compact: bool = True, start: LoadedModel | None = None, **run: Any) -> Trainer[Any]:
    bases, qualities = ("jpeg,webp,avif", (10, 90)) if compact else ("jpeg,webp,avif,jxl", (5, 80))
    settings = ComcnnSettings(crop=96, batch=4, flip=True, base=bases, qualities=qualities, **run)
    return ComcnnTrainer(images, settings, ComcnnShape(3, width=32, depth=10, compact=compact), start)


def comcnn_filter(images: list[Pixels], **run: Any) -> Trainer[Any]:
    return comcnn_photo(images, compact=False, **run)


def comcnn_fashion(images: list[Pixels], *, start: LoadedModel | None = None, **run: Any) -> Trainer[Any]:
    settings = ComcnnSettings(crop=64, batch=32, base="jpeg,webp", qualities=(10, 95), validation=256, **run)
    return ComcnnTrainer(images, settings, ComcnnShape(1, width=32, depth=8), start)


RECIPES = {
    "autoencoder-photo": photo(autoencoder),
    "balle-photo": photo(balle_photo),
    "balle-fashion": fashion(balle_fashion),
    "comcnn-photo": photo(comcnn_photo),
    "comcnn-filter": photo(comcnn_filter),
    "comcnn-fashion": fashion(comcnn_fashion),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(RECIPES))
    parser.add_argument("--minutes", type=float, required=True, help="of training, earlier parts included")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--from", dest="start", type=Path, help="a model file of comcnn-1 to begin with")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/systems"))
    args = parser.parse_args()
    recipe = RECIPES[args.name]
    torch.set_num_threads(args.threads)
    images = load_images(data_folder(recipe.source) / recipe.source, recipe.preprocess)
    start = {"start": LoadedModel(args.start.read_bytes())} if args.start else {}
    trainer = recipe.begin(images, minutes=args.minutes, threads=args.threads, **start)
    args.out.mkdir(parents=True, exist_ok=True)
    target = args.out / f"{args.name}.safetensors"
    checkpoint = target.with_suffix(".checkpoint")
    if args.resume:
        trainer.load(checkpoint)
    else:
        print(json.dumps(trainer.validate()), flush=True)
    shown = len(trainer.log)

    def show(status: TrainStatus) -> None:
        nonlocal shown
        for row in status.log[shown:]:
            print(json.dumps(row), flush=True)
        shown = len(status.log)

    trainer.run(checkpoint, show)
    blob = trainer.release(name=args.name)
    target.write_bytes(blob)
    log = json.dumps({"name": args.name, "minutes": args.minutes, "steps": trainer.step, "log": trainer.log}, indent=1)
    target.with_suffix(".log.json").write_text(log + "\n")
    print(f"{target}: {len(blob):,} bytes after {trainer.step:,} steps; {trainer.log[-1]}")


if __name__ == "__main__":
    main()
