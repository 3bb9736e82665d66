"""What integer-exactness costs: the same architecture trained twice from one seed, with exact layers and with float ones.

    python benchmarks/exactness.py --minutes 5
    python benchmarks/exactness.py --minutes 5 --threads 2 --seed 1

Both runs see the same batches of the 60,000 Fashion-MNIST training images and take the same number of steps, with the same
learning rates: as many as the exact one is found to do in `--minutes`. Both are then validated on test images, with rounded
latents, at several qualities. Bits are those that the entropy model estimates, since a float decoder has no bitstream that
other machines could read. The BD-rate of exact against float is what exactness costs: positive is more bits. With `--repeat` a
float network from another seed is set against the first, too: what chance alone does.

Needs BATCHCODEC_DATA with `fashion-mnist/` in it.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from rates import FASHION_SIZE, FASHION_TEST, FASHION_TRAIN, bd_rate_of, data_folder, numbers, with_json, write_json
from train_fashion import ARCHITECTURE, ENCODER

from batchcodec.learned.data import load_images
from batchcodec.learned.exact import numerics
from batchcodec.learned.hyperprior.trainer import Settings, Trainer
from batchcodec.types import Pixels

WARM_STEPS, TIMED_STEPS = 3, 20


def made(images: list[Pixels], settings: Settings, *, exact: bool) -> Trainer:
    return Trainer(images, settings, arch=ARCHITECTURE, encoder=ENCODER, exact=exact)


def steps_in(images: list[Pixels], settings: Settings) -> int:
    """Steps that an exact run does in the minutes of the settings, of a trainer that is then thrown away."""
    trainer = made(images, settings, exact=True)
    with numerics(settings.threads):
        for _ in range(WARM_STEPS):
            trainer.train_step()
        started = time.monotonic()
        for _ in range(TIMED_STEPS):
            trainer.train_step()
    return max(2, int(60 * settings.minutes * TIMED_STEPS / (time.monotonic() - started)))


def trained(images: list[Pixels], settings: Settings, n_steps: int, *, exact: bool) -> tuple[Trainer, float]:
    """A run of so many steps, and its seconds. The schedule goes by steps, so that it does not depend on the machine's load."""
    trainer = made(images, settings, exact=exact)
    started = last = time.monotonic()
    with numerics(settings.threads):
        for step in range(n_steps):
            trainer.seconds = 60 * settings.minutes * step / n_steps
            loss = trainer.train_step()
            if time.monotonic() - last > 30:
                last = time.monotonic()
                print(f"  {'exact' if exact else 'float'}: step {step + 1} of {n_steps}, loss {loss:.3f}", flush=True)
    return trainer, time.monotonic() - started


@torch.no_grad()
def validated(trainer: Trainer, images: list[Pixels], qualities: list[int]) -> list[dict[str, float]]:
    """Estimated bits per pixel, mean PSNR and pooled PSNR at each quality, of the averaged weights."""
    stack = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()
    rows = []
    with numerics(trainer.settings.threads):
        for quality in qualities:
            costs = []
            for at in range(0, len(stack), 50):
                x = stack[at : at + 50].contiguous(memory_format=torch.channels_last)
                costs.append(trainer.average(x, torch.full((len(x),), quality - 1.0), noise=False))
            error = torch.cat([cost.mse for cost in costs]).double()
            rows.append(
                {
                    "quality": float(quality),
                    "bits_per_pixel": float(torch.cat([cost.bits_per_pixel for cost in costs]).mean()),
                    "mean_psnr": float((10 * torch.log10(255**2 / error.clamp_min(1e-5))).mean()),
                    "pooled_psnr": float(10 * torch.log10(255**2 / error.mean())),
                }
            )
    return rows


def compared(anchor: list[dict[str, float]], test: list[dict[str, float]], key: str) -> float | None:
    """BD-rate of `test` in %; the points rise with quality."""
    rate = "bits_per_pixel"
    return bd_rate_of(*([row[k] for row in rows] for rows in (anchor, test) for k in (key, rate)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5, help="of the exact run")
    parser.add_argument("--steps", type=int, help="of each run, in place of --minutes")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeat", action="store_true", help="train the float network from another seed, too")
    parser.add_argument("--images", type=int, default=500, help="test images")
    parser.add_argument("--qualities", type=numbers, default=[5, 20, 35, 50, 65, 80, 95])
    with_json(parser, "exactness")
    args = parser.parse_args()
    folder = data_folder("fashion-mnist")
    images = load_images(folder / FASHION_TRAIN, FASHION_SIZE)
    test = load_images(folder / FASHION_TEST, FASHION_SIZE)[: args.images]

    def settings(seed: int) -> Settings:
        return Settings(
            minutes=args.minutes, threads=args.threads, coarsest=144, finest=20, learning_rate=1.5e-3, seed=seed, validation=2
        )

    n_steps = args.steps or steps_in(images, settings(args.seed))
    runs = [("exact", True, args.seed), ("float", False, args.seed)] + [
        ("float, other seed", False, args.seed + 1)
    ] * args.repeat
    print(f"{n_steps:,} steps each; {len(test)} test images")
    print(f"{'network':<18} {'quality':>7} {'bpp':>8} {'dB':>7} {'pooled':>7}")
    points: dict[str, list[dict[str, float]]] = {}
    seconds: dict[str, float] = {}
    for name, exact, seed in runs:
        trainer, seconds[name] = trained(images, settings(seed), n_steps, exact=exact)
        points[name] = validated(trainer, test, args.qualities)
        for row in points[name]:
            quality, bpp, mean, pooled = row.values()
            print(f"{name:<18} {quality:7.0f} {bpp:8.4f} {mean:7.2f} {pooled:7.2f}")
        print(f"{name:<18} {seconds[name]:.0f} s, {trainer.skipped} steps skipped", flush=True)
    rates: dict[str, dict[str, float | None]] = {}
    for name in points:
        if name != "float":
            rates[name] = {key: compared(points["float"], points[name], key) for key in ("mean_psnr", "pooled_psnr")}
            texts = ["-" if rate is None else f"{rate:+.2f} %" for rate in rates[name].values()]
            print(f"BD-rate of {name} against float: {texts[0]} on mean PSNR, {texts[1]} on pooled PSNR")
    write_json(
        args.json, steps=n_steps, seed=args.seed, images=len(test), seconds=seconds, bd_rate_to_float=rates, points=points
    )


if __name__ == "__main__":
    main()
