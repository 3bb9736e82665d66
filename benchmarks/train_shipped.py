"""Train the models that the package ships, from the photographs of `photos-train.tar` alone.

    python benchmarks/train_shipped.py photo-rgb --minutes 90             # into runs/photo-rgb.safetensors
    python benchmarks/train_shipped.py photo-rgb --minutes 180 --resume   # go on, on another day or another machine
    python benchmarks/train_shipped.py photo-rgb --minutes 90 --from-shipped   # the same without a checkpoint

The checkpoint beside the output has all state: `--resume` with more minutes goes on with it, and the learning rate follows the
new length. The recipe of each model is in `RECIPES`; the figures on the way go to the model's `.log.json`. `--ship` copies the
result into the package.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path

from batchcodec.learned.data import load_images
from batchcodec.learned.hyperprior.architecture import profile
from batchcodec.learned.hyperprior.model import LoadedModel
from batchcodec.learned.hyperprior.trainer import Settings, Trainer
from batchcodec.learned.settings import TrainStatus
from batchcodec.preprocess import Preprocess

RECIPES = {
    "photo-rgb": ("rgb", *profile("small", 3), Settings(learning_rate=1.5e-3, coarsest=120, finest=8, flip=True)),
    "photo-gray": ("gray", *profile("small", 1), Settings(learning_rate=1.5e-3, coarsest=120, finest=8, flip=True)),
}
SHIPPED = Path(__file__).parent.parent / "batchcodec" / "models"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(RECIPES))
    parser.add_argument("--minutes", type=float, required=True, help="of training, earlier sessions included")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument(
        "--from-shipped", action="store_true", help="start from the shipped weights, where no checkpoint is left"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--crop", type=int, help="another side of the crops, such as 128 for the last part")
    parser.add_argument("--batch", type=int, help="another number of crops")
    parser.add_argument("--learning-rate", type=float, help="another highest rate; a trained model wants a third")
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--ship", action="store_true", help="put the result into the package")
    args = parser.parse_args()
    data = os.environ.get("BATCHCODEC_DATA")
    if not data:
        parser.error("set BATCHCODEC_DATA to the folder that has photos-train.tar; see docs/data.md")
    mode, arch, encoder, settings = RECIPES[args.name]
    more = {key: value for key in ("crop", "batch", "learning_rate") if (value := getattr(args, key)) is not None}
    settings = replace(settings, minutes=args.minutes, threads=args.threads, **more)
    images = load_images(Path(data) / "photos-train.tar", Preprocess(mode=mode))  # type: ignore[arg-type]
    start = LoadedModel((SHIPPED / f"{args.name}.safetensors").read_bytes()) if args.from_shipped else None
    trainer = Trainer(images, settings, arch=arch, encoder=encoder, start=start)
    args.out.mkdir(exist_ok=True)
    target = args.out / f"{args.name}.safetensors"
    checkpoint = target.with_suffix(".checkpoint")
    if args.resume:
        trainer.load(checkpoint)
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
    if args.ship:
        SHIPPED.mkdir(exist_ok=True)
        (SHIPPED / target.name).write_bytes(blob)
        (Path(__file__).parent / "results" / f"train-{args.name}.json").write_text(log + "\n")


if __name__ == "__main__":
    main()
