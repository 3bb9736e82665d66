"""What training for MS-SSIM brings: one model trained on twice, for squared error alone and for MS-SSIM in part.

    python benchmarks/similarity.py --steps 600 --share 0.8

Both runs go on from the model of `fashion.py` and see the same batches of the 60,000 training images, with the same
learning rates and as many steps. Both are then measured on test images, with rounded latents, at several qualities. Bits are
those that the entropy model estimates. BD-rates of the second run against the first: on -10 log10(1 - MS-SSIM), and on PSNR.

Needs BATCHCODEC_DATA with `fashion-mnist/` in it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from rates import FASHION_SIZE, FASHION_TEST, FASHION_TRAIN, bd_rate_of, data_folder, numbers, with_json, write_json

from batchcodec.learned.data import load_images
from batchcodec.learned.exact import numerics
from batchcodec.learned.hyperprior.model import LoadedModel
from batchcodec.learned.hyperprior.trainer import Settings, Trainer
from batchcodec.types import Pixels

MODEL = Path(__file__).with_name("models") / "fashion64-hyperprior.safetensors"


def trained(images: list[Pixels], share: float, n_steps: int) -> Trainer:
    settings = Settings(minutes=1000, learning_rate=5e-4, validation=2, ms_ssim=share)
    trainer = Trainer(images, settings, start=LoadedModel(MODEL.read_bytes()))
    with numerics():
        for step in range(n_steps):
            trainer.seconds = 60 * settings.minutes * step / n_steps  # the schedule goes by steps
            loss = trainer.train_step()
            if step % 100 == 99:
                print(f"  share {share}: step {step + 1} of {n_steps}, loss {loss:.3f}", flush=True)
    return trainer


def measured(trainer: Trainer, images: list[Pixels], quality: int) -> dict[str, float]:
    """Means over images: estimated bits per pixel, PSNR, MS-SSIM, and that in dB of the mean."""
    trainer.average.similarity_share = 1.0  # so that it is measured
    costs = [trainer.cost_of(np.stack(images[at : at + 50]), quality) for at in range(0, len(images), 50)]
    bits, error, similarity = (
        torch.cat([getattr(c, n) for c in costs]).double() for n in ("bits_per_pixel", "mse", "similarity")
    )
    return {
        "quality": float(quality),
        "bits_per_pixel": float(bits.mean()),
        "mean_psnr": float((10 * torch.log10(255**2 / error.clamp_min(1e-5))).mean()),
        "ms_ssim": float(similarity.mean()),
        "ms_ssim_db": float(-10 * torch.log10(1 - similarity.mean())),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=600, help="of each run")
    parser.add_argument("--share", type=float, default=0.8, help="of MS-SSIM in the distortion of the second run")
    parser.add_argument("--images", type=int, default=500, help="test images")
    parser.add_argument("--qualities", type=numbers, default=[5, 20, 35, 50, 65, 80, 95])
    with_json(parser, "similarity")
    args = parser.parse_args()
    torch.set_num_threads(1)
    folder = data_folder("fashion-mnist")
    images = load_images(folder / FASHION_TRAIN, FASHION_SIZE)
    test = load_images(folder / FASHION_TEST, FASHION_SIZE)[: args.images]
    points: dict[str, list[dict[str, float]]] = {}
    for share in (0.0, args.share):
        trainer = trained(images, share, args.steps)
        with numerics():
            points[str(share)] = [measured(trainer, test, quality) for quality in args.qualities]
        for row in points[str(share)]:
            quality, bpp, psnr, similarity, _ = row.values()
            print(f"share {share}: quality {quality:.0f}, {bpp:.4f} bpp, {psnr:.2f} dB, MS-SSIM {similarity:.5f}", flush=True)
    anchor, test_rows = points.values()
    found = {
        key: bd_rate_of(*([row[k] for row in rows] for rows in (anchor, test_rows) for k in (key, "bits_per_pixel")))
        for key in ("ms_ssim_db", "mean_psnr")
    }
    for key, rate in found.items():
        print(f"BD-rate of share {args.share} against squared error alone, {key}: {'-' if rate is None else f'{rate:+.2f} %'}")
    write_json(args.json, steps=args.steps, share=args.share, images=len(test), bd_rate=found, points=points)


if __name__ == "__main__":
    main()
