"""Train the model that `benchmarks/fashion.py` measures, on the 60,000 training images of Fashion-MNIST at 64x64.

    python benchmarks/train_fashion.py --minutes 65              # into benchmarks/models/fashion64-hyperprior.safetensors
    python benchmarks/train_fashion.py --minutes 130 --resume    # go on

The test images are not read.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from batchcodec.learned.data import load_images
from batchcodec.learned.hyperprior.architecture import Architecture
from batchcodec.learned.hyperprior.trainer import Settings, Trainer
from batchcodec.learned.settings import TrainStatus
from batchcodec.preprocess import Preprocess

HERE = Path(__file__).parent
ARCHITECTURE = Architecture(
    channels=1, slices=(6, 26), width=80, blocks=2, fine_width=32, hyper=8, hyper_width=48, context_width=56, anchors=5
)
ENCODER = {"width": 96, "blocks": 2, "fine_width": 48}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, required=True, help="of training, earlier sessions included")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--checkpoint", type=Path, default=Path("runs/fashion.checkpoint"))
    parser.add_argument("--out", type=Path, default=HERE / "models" / "fashion64-hyperprior.safetensors")
    args = parser.parse_args()
    data = os.environ.get("BATCHCODEC_DATA")
    if not data:
        parser.error("set BATCHCODEC_DATA to the folder that has fashion-mnist; see docs/data.md")
    source = Path(data) / "fashion-mnist" / "train-images-idx3-ubyte.gz"
    images = load_images(source, Preprocess(size=(64, 64)))
    settings = Settings(minutes=args.minutes, threads=args.threads, coarsest=144, finest=20, learning_rate=1.5e-3)
    trainer = Trainer(images, settings, arch=ARCHITECTURE, encoder=ENCODER)
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
    blob = trainer.release(name="fashion64-hyperprior")
    args.out.write_bytes(blob)
    log = {"minutes": args.minutes, "steps": trainer.step, "log": trainer.log}
    (HERE / "results" / "train-fashion.json").write_text(json.dumps(log, indent=1) + "\n")
    print(f"{args.out}: {len(blob):,} bytes after {trainer.step:,} steps; {trainer.log[-1]}")


if __name__ == "__main__":
    main()
