"""Train the model of satellite tiles with grain that `downstream.py` measures, on the 4,000 training tiles of EuroSAT.

    python benchmarks/train_textures.py --minutes 40     # into benchmarks/models/eurosat64-textures.safetensors

It goes on from the shipped model `photo-rgb`, with textures beside the squared error, at the qualities 1 to 60 alone. No test
tile is read, and no label.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from downstream import SHIPPED, TEXTURES, load

from batchcodec.learned.hyperprior.model import LoadedModel
from batchcodec.learned.hyperprior.trainer import Settings, Trainer
from batchcodec.learned.settings import TrainStatus

HERE = Path(__file__).parent
TRAIN_PER_CLASS = 400
QUALITIES = (1, 60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, required=True, help="of training, earlier sessions included")
    parser.add_argument("--texture", type=float, default=0.7, help="part of the distortion that is that of textures")
    parser.add_argument("--start", type=Path, default=SHIPPED, help="the model to go on from")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--checkpoint", type=Path, default=Path("runs/textures.checkpoint"))
    parser.add_argument("--out", type=Path, default=TEXTURES)
    args = parser.parse_args()
    images = list(load("eurosat", TRAIN_PER_CLASS)[0].images)
    settings = Settings(
        minutes=args.minutes, threads=args.threads, learning_rate=1e-3, qualities=QUALITIES, texture=args.texture
    )
    trainer = Trainer(images, settings, start=LoadedModel(args.start.read_bytes()))
    args.checkpoint.parent.mkdir(exist_ok=True)
    if args.resume:
        trainer.load(args.checkpoint)
    shown = len(trainer.log)

    def show(status: TrainStatus) -> None:
        nonlocal shown
        for row in status.log[shown:]:
            print(json.dumps(row), flush=True)
        shown = len(status.log)

    trainer.run(args.checkpoint, show)
    blob = trainer.release(name="eurosat64-textures")
    args.out.write_bytes(blob)
    log = {"minutes": args.minutes, "texture": args.texture, "steps": trainer.step, "log": trainer.log}
    (HERE / "results" / "train-textures.json").write_text(json.dumps(log, indent=1) + "\n")
    print(f"{args.out}: {len(blob):,} bytes after {trainer.step:,} steps; {trainer.log[-1]}")


if __name__ == "__main__":
    main()
