"""Train the `balle2017-1` models that `benchmarks/balle.py` measures.

    python benchmarks/train_balle.py photo --minutes 60             # into runs/balle/photo.safetensors
    python benchmarks/train_balle.py photo --minutes 120 --resume   # go on, on another day or another machine
    python benchmarks/train_balle.py fashion --minutes 5

`photo` is trained on `photos-train.tar`, `fashion` on the 60,000 training images of Fashion-MNIST at 64x64, and on nothing
else. The checkpoint beside the output has all state; the figures on the way go to the model's `.log.json`.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path

import torch

from batchcodec.learned.balle.architecture import Architecture
from batchcodec.learned.balle.training import BalleSettings, BalleTrainer
from batchcodec.learned.data import load_images
from batchcodec.learned.settings import TrainStatus
from batchcodec.preprocess import Preprocess

RECIPES = {
    "photo": (
        "photos-train.tar",
        Preprocess(mode="rgb"),
        Architecture(channels=3, latent=160, width=96),
        BalleSettings(crop=128, batch=4, flip=True),
    ),
    "fashion": (
        "fashion-mnist/train-images-idx3-ubyte.gz",
        Preprocess(size=(64, 64)),
        Architecture(channels=1, latent=48, width=48),
        BalleSettings(crop=64, batch=16, learning_rate=1e-3, lambdas=(0.001, 0.02), validation=256),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(RECIPES))
    parser.add_argument("--minutes", type=float, required=True, help="of training, earlier parts included")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/balle"))
    args = parser.parse_args()
    data = os.environ.get("BATCHCODEC_DATA")
    if not data:
        parser.error("set BATCHCODEC_DATA to the folder that has the training images; see docs/data.md")
    source, preprocess, arch, settings = RECIPES[args.name]
    torch.set_num_threads(args.threads)
    images = load_images(Path(data, source), preprocess)
    trainer = BalleTrainer(images, replace(settings, minutes=args.minutes, threads=args.threads), arch)
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
    blob = trainer.release(name=f"balle-{args.name}")
    target.write_bytes(blob)
    log = json.dumps({"name": args.name, "minutes": args.minutes, "steps": trainer.step, "log": trainer.log}, indent=1)
    target.with_suffix(".log.json").write_text(log + "\n")
    print(f"{target}: {len(blob):,} bytes after {trainer.step:,} steps; {trainer.log[-1]}")


if __name__ == "__main__":
    main()
