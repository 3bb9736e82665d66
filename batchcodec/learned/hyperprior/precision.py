"""Quantiser steps of single channels: what `bits` asks for, and reverse water-filling over what was measured.

A model has one step for each latent channel and quality, which training found. Here all steps of a channel are multiplied by
one factor. The steps are the model's, so what comes out is a model like any other: archives and decoders do not change.

Bits are the mean ideal code length of a latent, and are counted on images that the model itself makes up: hyper-latents from
their tables, then latent after latent from the Gaussians that the networks give, as in decoding. On them it is also measured,
through the synthesis, what the quantiser of each channel adds to the error of an image.

`auto:X` is reverse water-filling (Cover & Thomas, section 10.3.3): all channels add the same error, and those that vary less
than that take next to no bits. The error of a channel grows with the square of its step, so factors follow from one
measurement. Training looks for the same optimum, with true rates and images: `benchmarks/bits.py` shows what is left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from batchcodec.entropy import gaussian
from batchcodec.entropy.tables import TOTAL
from batchcodec.errors import OptionError
from batchcodec.learned import model_file, precision
from batchcodec.learned.exact import numerics
from batchcodec.learned.hyperprior import coding, probe
from batchcodec.learned.hyperprior.model import LoadedModel
from batchcodec.learned.hyperprior.network import HYPER_LIMIT, LATENT_LIMIT, MAX_STEP, SCALE_STEPS, log_steps, passes, put

Floats = npt.NDArray[np.float64]

SAMPLES = (8, 8)
"""Images that are made up, and their latent positions each way."""
FACTORS = np.array([2 ** (i / 8) for i in range(24, -17, -1)])
"""Of the steps of a channel, from 8 to 1/4: what a map chooses from, the cheapest first."""
MAX_BITS = 16.0


@dataclass(frozen=True)
class Sample:
    """Images that a model made up.

    Attributes:
        conditions: of their quality.
        y: latents before they are quantised, float32 [N, M, h, w].
        mean: that the networks gave for them, of the same shape.
        scale: the standard deviation of y about it, in eighths of octaves of gray levels, int64 of the same shape.
    """

    conditions: coding.Conditions
    y: Tensor
    mean: Tensor
    scale: Tensor

    def quantised(self, steps: Tensor) -> Tensor:
        """The latents with other steps [M, 1, 1]."""
        return (self.mean + torch.round((self.y - self.mean) / steps) * steps).clamp(-LATENT_LIMIT, LATENT_LIMIT)


def sampled(model: LoadedModel, quality: int) -> Sample:
    """Made up at a quality 1..100; call within `numerics` and without gradients."""
    n, side = SAMPLES
    rng = np.random.default_rng(quality)
    conditions = model.conditions(np.full(n, quality, np.uint8))
    columns = []
    for row in model.bank.rows[: model.arch.hyper]:
        symbols = np.searchsorted(
            np.cumsum(row[:-1]), rng.integers(0, int(row[:-1].sum()), (n, -(-side // 4), -(-side // 4))), "right"
        )
        columns.append(np.where(symbols % 2, (symbols + 1) // 2, -(symbols // 2)))
    z = torch.from_numpy(np.stack(columns, 1).astype(np.float32)).clamp(-HYPER_LIMIT, HYPER_LIMIT)
    collected: list[list[tuple[Tensor, Tensor, Tensor]]] = [[] for _ in model.arch.slices]

    def code(i: int, at: Tensor, mean: Tensor, steps: Tensor, index: Tensor) -> Tensor:
        sigma = torch.exp2(index / SCALE_STEPS + gaussian.FIRST_LOG2)  # in steps
        off = sigma * torch.from_numpy(rng.standard_normal(tuple(index.shape)).astype(np.float32))
        log_step = conditions.log_step[:, model.arch.channels_of(i)]
        collected[i].append((mean + off * steps, mean, (index + SCALE_STEPS * gaussian.FIRST_LOG2 + log_step).float()))
        return torch.round(off)

    coding.walk(model.decoder, z, conditions, side, side, code)
    positions = passes(side, side)
    y, mean, scale = (
        torch.cat([put([part[k] for part in parts], positions[: len(parts)], side, side) for parts in collected], 1)
        for k in range(3)
    )
    return Sample(conditions, y, mean, scale.long())


def steps_of(model: LoadedModel, quality: int, factors: Floats) -> Tensor:
    """Steps [M, 1, 1] of a quality, multiplied by factors (one, or [M]) and rounded."""
    base = model.conditions(np.array([quality], np.uint8)).steps[0]
    return torch.round(base * torch.from_numpy(np.atleast_1d(factors)).float().reshape(-1, 1, 1)).clamp(1, MAX_STEP)


def prices(model: LoadedModel, sample: Sample, steps: Tensor) -> Floats:
    """Mean ideal code length of the latents of each channel with these steps [M, 1, 1], bits: [M]."""
    rows = model.bank.rows[model.arch.hyper :]
    entropies = np.array([-(row / TOTAL * np.log2(row / TOTAL)).sum() for row in rows])
    log_step = torch.from_numpy(log_steps())[steps.long()]
    index = coding.table_index(sample.scale, log_step)
    found: Floats = entropies[index.numpy()].mean((0, 2, 3))
    return found


def noise(model: LoadedModel, sample: Sample, steps: Tensor) -> Floats:
    """What an error of a whole step [M, 1, 1] in each channel adds to the squared error of the images: [M]."""
    plane = sample.conditions.plane.expand(-1, 1, *sample.y.shape[2:])
    latents = sample.quantised(steps)
    exact = torch.round(sample.y).clamp(-LATENT_LIMIT, LATENT_LIMIT)
    whole = model.decoder.synthesis(latents, plane)
    found = np.zeros(latents.shape[1])
    for c in range(len(found)):
        changed = latents.clone()
        changed[:, c] = exact[:, c]
        error = float((latents[:, c] - exact[:, c]).double().square().mean())
        moved = float((model.decoder.synthesis(changed, plane) - whole).double().square().mean())
        # most latents of some channels are nearer to their mean than a step: so it is put in proportion
        found[c] = moved / error * float(steps[c]) ** 2 if error else 0.0
    return found


def quality_of(model: LoadedModel, bits: float) -> int:
    """The highest quality whose latents cost no more than so many bits on average; 1 if none does."""
    low, high = 1, 101
    while high - low > 1:
        middle = (low + high) // 2
        price = prices(model, sampled(model, middle), steps_of(model, middle, np.ones(1))).mean()
        low, high = (middle, high) if price <= bits else (low, middle)
    return low


def levelled(model: LoadedModel, quality: int) -> Floats:
    """Factors of the channels [M], 1 in their geometric mean, with which all add the same error at about this quality."""
    sample = sampled(model, quality)
    found = noise(model, sample, steps_of(model, quality, np.ones(1)))
    found = np.where(found > 0, found, found.max(initial=0) or 1)  # a channel that does nothing is left alone
    factors: Floats = np.exp((np.log(found).mean() - np.log(found)) / 2)
    return factors


def mapped(model: LoadedModel, bits: Floats) -> tuple[int, Floats]:
    """A quality, and the smallest factors of the channels [M] at which each costs no more than its bits [M]."""
    quality = quality_of(model, float(bits.mean()))
    sample = sampled(model, quality)
    price = np.stack([prices(model, sample, steps_of(model, quality, np.array([factor]))) for factor in FACTORS], 1)
    return quality, FACTORS[np.maximum((price <= bits[:, None]).sum(1) - 1, 0)]


def with_factors(blob: bytes, factors: Floats) -> bytes:
    """The model file with all steps multiplied by the factors of their channels [M]."""
    tensors, document = model_file.parse(blob)
    steps = np.clip(np.rint(tensors["steps"] * factors), 1, MAX_STEP)
    tensors = {**tensors, "steps": steps.astype(np.uint16)}
    tensors["probe"] = np.array([probe.run(LoadedModel(model_file.dump(tensors, document)).decoder)], np.uint64)
    return model_file.dump(tensors, document)


def chosen(blob: bytes, bits: float | str | None, bits_map: object) -> tuple[bytes, int]:
    """A model and the quality to use it at, for the options of the codec, of which one is given.

    Raises:
        OptionError: the option has a bad value.
        ModelError: it is not a sound model.
    """
    model = LoadedModel(blob)
    with numerics(), torch.no_grad():
        if bits_map is not None:
            quality, factors = mapped(model, from_map(bits_map, model.arch.latent))
        elif isinstance(bits, str):
            average = float(bits.removeprefix("auto:"))
            blob = with_factors(blob, levelled(model, quality_of(model, average)))
            return blob, quality_of(LoadedModel(blob), average)
        else:
            return blob, quality_of(model, float(bits or 0))
        return with_factors(blob, factors), quality


def check_bits(bits: object) -> None:
    """Raise `OptionError` if it is neither a number above 0 nor "auto:" with one."""
    number: object = bits
    if isinstance(bits, str) and bits.startswith("auto:"):
        try:
            number = float(bits.removeprefix("auto:"))
        except ValueError:
            number = None
    if type(number) not in (int, float) or not 0 < float(number) <= MAX_BITS:  # type: ignore[arg-type]
        allowed = (
            f"bits of a latent on average, above 0 and up to {MAX_BITS:g}, or auto:X with such a number, such as auto:0.25"
        )
        raise OptionError("bits", bits, allowed)


def from_map(given: object, n_channels: int) -> Floats:
    """Bits of each channel, [M], from a list, or from a JSON file with one.

    Raises:
        OptionError: the file cannot be read, or it is not a list of so many numbers from 0 to 16.
    """
    found = precision.listed(given)
    if len(found) != n_channels or not all(type(n) in (int, float) and 0 <= n <= MAX_BITS for n in found):
        raise OptionError(
            "bits-map", str(given)[:100], f"{n_channels} numbers from 0 to {MAX_BITS:g}, one for each latent channel"
        )
    return np.array(found, np.float64)
