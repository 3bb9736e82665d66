"""How near the networks of `hyperprior-1` run to what the processor can do, layer by layer, on one core.

    python benchmarks/roofline.py                 # profiles fast, balanced and small, gray 64x64 and Kodak
    python benchmarks/roofline.py --subject kodak-balanced

First the peaks, in the same process: float32 products of 1024x1024 matrices, and torch's products of bytes; and some layers
computed in several ways.
Then a group is decoded many times, with a clock around each layer: it is one loop with all that it does. The layers of a pass
of the entropy model are one loop together, and so are the last layers with the pixels: they count as one layer. For each layer:
multiplications per pixel that were carried out, the bytes that it reads and writes for each of them, its speed beside both
peaks, and its share of the whole.

The plain layers (`torch.nn.functional.conv2d` in float32, channels last), which compute the same numbers, stand beside.

Needs models in runs/speed (`throughput.py` makes them) and BATCHCODEC_DATA.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from unittest import mock

import numpy as np
import torch
from rates import kodak, with_json, write_json
from speed_sets import codec_of, images_of
from torch.nn.functional import conv2d

from batchcodec import machine
from batchcodec.entropy import values
from batchcodec.learned import layers
from batchcodec.learned.convolution import Convolution
from batchcodec.learned.exact import ExactConv2d, numerics
from batchcodec.learned.hyperprior import coding, context_kernel, engine, kernels, payloads, pixel_kernel
from batchcodec.learned.hyperprior.codec import HyperpriorCodec, synthesised
from batchcodec.learned.hyperprior.model import LoadedModel
from batchcodec.learned.inference import batches
from batchcodec.learned.products import BYTES
from batchcodec.types import GroupSpec, Pixels

QUALITIES = {"fashion-fast": 40, "fashion-balanced": 40, "fashion-small": 40, "kodak-fast": 55, "kodak-balanced": 55}
QUALITIES["kodak-small"] = 55
REPEATS = 12


class Clock:
    """Seconds of one thread by name, and what was done in them."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.work: dict[str, int] = defaultdict(int)
        self.moved: dict[str, int] = defaultdict(int)

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function with its seconds counted."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            started = time.thread_time()
            result = function(*args, **kwargs)
            self.seconds[name] += time.thread_time() - started
            return result

        return timed


def layer_names(found: object) -> dict[int, str]:
    """Names of an engine's layers by identity."""
    names: dict[int, str] = {}

    def visit(prefix: str, thing: object) -> None:
        if isinstance(thing, Convolution):
            names[id(thing.layer)] = prefix
        elif isinstance(thing, list | tuple):
            for i, part in enumerate(thing):
                visit(f"{prefix}.{i}", part)
        elif isinstance(thing, engine.Engine | engine._SliceLayers):
            for key, part in vars(thing).items():
                visit(f"{prefix}.{key.strip('_')}".lstrip("."), part)

    visit("", found)
    return names


@contextlib.contextmanager
def clocked(clock: Clock, names: dict[int, str]) -> Iterator[None]:
    """With clocks around layers and what is between them.

    Args:
        clock: that counts.
        names: of layers, by the identity of `Convolution.layer`.
    """

    def named(layer: Any) -> str:
        return names[id(layer)]

    with contextlib.ExitStack() as stack:
        for place, kind, name in (
            (kernels, "latents", "place"),
            (kernels, "latents", "featured"),
            (values.Decoder, "entropy decoding", "take"),
        ):
            stack.enter_context(mock.patch.object(place, name, clock.around(kind, getattr(place, name))))
        stack.enter_context(mock.patch.object(context_kernel, "predict", passes(clock, context_kernel.predict)))
        for name in ("activated", "added"):
            stack.enter_context(mock.patch.object(layers, name, whole(clock, getattr(layers, name), named)))
        stack.enter_context(mock.patch.object(pixel_kernel, "painted", painting(clock, pixel_kernel.painted)))
        yield


def passes(clock: Clock, predict: Callable[..., None]) -> Callable[..., None]:
    """`context_kernel.predict` with a clock: the layers of a pass of the entropy model as one, with their loops."""

    def run(known: Any, features: Any, column: int, at: Any, layers: Any, log_step: Any, n_hyper: int, *out: Any) -> None:
        own, mix, *rest = layers
        second = mix[4] > known.shape[2]
        name = f"{out[0].shape[2]} channels, pass {1 + second}"
        started = time.thread_time()
        predict(known, features, column, at, layers, log_step, n_hyper, *out)
        clock.seconds[name] += time.thread_time() - started
        n_positions = len(known) * len(at)
        used = [own, mix, *rest] if second else [mix, *rest]
        clock.work[name] += n_positions * sum(n_in * n_out for *_, n_in, n_out in used)
        seen = 2 * own[4] if second else 0
        clock.moved[name] += n_positions * (known.shape[2] + seen) + sum(array.nbytes for array in out)

    return run


def whole(clock: Clock, loop: Callable[..., None], named: Callable[[Any], str]) -> Callable[..., None]:
    """A loop of `layers` with a clock: a layer with all that it does."""
    n_touched = 2 if loop is layers.added else 1

    def run(x: Any, height: int, width: int, kernel: int, layer: Any, tile_bytes: int, out: Any) -> None:
        started = time.thread_time()
        loop(x, height, width, kernel, layer, tile_bytes, out)
        name = named(layer)
        clock.seconds[name] += time.thread_time() - started
        clock.work[name] += len(out) * layer[4] * kernel**2
        clock.moved[name] += x.nbytes + n_touched * out.nbytes

    return run


def painting(clock: Clock, painted: Callable[..., None]) -> Callable[..., None]:
    """`pixel_kernel.painted` with a clock: the last layers as one, with their loops."""

    def run(latents: Any, detail: Any, *sizes: Any) -> None:
        (n, _, width, side, _, _, n_lines, last, linear, _, _, out) = sizes
        started = time.thread_time()
        painted(latents, detail, *sizes)
        name = "last layers, pixels"
        clock.seconds[name] += time.thread_time() - started
        of_position = linear[4] * linear[5] + (side**2 * 9 * last[4] * last[5] if len(detail) else 0)
        clock.work[name] += n * n_lines * width * of_position
        clock.moved[name] += latents.nbytes + detail.nbytes + out.nbytes

    return run


def best(run: Callable[[], Any], repeats: int = REPEATS) -> float:
    """CPU seconds of the fastest run."""
    run()
    found = []
    for _ in range(repeats):
        started = time.thread_time()
        run()
        found.append(time.thread_time() - started)
    return min(found)


def peaks() -> dict[str, float]:
    """Multiplications per second of one core, in 10^9."""
    side = 1024
    floats = [torch.randn(side, side) for _ in range(2)]
    bytes_ = [torch.randint(-127, 128, (side, side), dtype=torch.int8) for _ in range(2)]
    with numerics():
        return {
            "float32": side**3 / best(lambda: floats[0] @ floats[1]) / 1e9,
            "bytes": side**3 / best(lambda: torch._int_mm(*bytes_)) / 1e9,
        }


SHAPES = ((64, 64, 3, (32, 8, 8)), (24, 24, 3, (32, 16, 16)), (32, 32, 1, (64, 8, 8)))
"""Input and output channels, side of the kernel, and (N, H, W) of layers that the ways to compute are compared on."""


def candidates() -> list[dict[str, Any]]:
    """10^9 multiplications per second of the ways to compute a layer, gathering counted."""
    rows = []
    for n_in, n_out, kernel, shape in SHAPES:
        layer = ExactConv2d(n_in, n_out, kernel)
        shift = layer.shifts()
        with torch.no_grad():
            layer.weight.copy_(layer.quantised()[0])
        layer.freeze(shift)
        words, fast = (Convolution.of(layer, as_bytes=as_bytes) for as_bytes in (False, True))
        x = np.random.default_rng(0).integers(-127, 128, (*shape, n_in)).astype(np.int8)
        floats = torch.from_numpy(x).float().permute(0, 3, 1, 2)
        weight, bias, padding = layer.weight.detach(), torch.zeros(n_out), kernel // 2
        last, one, pad = floats.contiguous(memory_format=torch.channels_last), [1, 1], [padding, padding]
        quantised = torch.ops.onednn.qconv_prepack(
            torch.round(weight * torch.exp2(shift)[:, None, None, None]).to(torch.int8),
            torch.ones(n_out), 1.0, 128, one, pad, one, 1, None,
        )  # fmt: skip
        shifted, zeros = (last + 128).to(torch.uint8), torch.zeros(n_out, dtype=torch.int64)

        tail: tuple[Any, ...] = (bias, one, pad, one, 1, 1.0, 0, torch.float32, "none", [], "")
        internal = torch.ops.onednn.qconv2d_pointwise.default
        ways: dict[str, Callable[[], Any]] = {
            "float32, contiguous": partial(conv2d, floats.contiguous(), weight, bias, padding=padding),
            "float32, channels last": partial(conv2d, last, weight, bias, padding=padding),
            "oneDNN's convolution of bytes": partial(internal, shifted, 1.0, 128, quantised, torch.ones(n_out), zeros, *tail),
            "ours, 16 bits": partial(words.activations, x),
        }
        if BYTES:
            ways["ours, bytes"] = partial(fast.activations, x)
        work = n_in * n_out * kernel**2 * shape[0] * shape[1] * shape[2]
        with numerics(), torch.no_grad():
            speeds = {name: work / best(way, 30) / 1e9 for name, way in ways.items()}
        rows.append({"layer": f"{n_in} to {n_out}, {kernel}x{kernel}, {shape[0]} of {shape[1]}x{shape[2]}", **speeds})
    return rows


def plain_seconds(model: LoadedModel, conditions: coding.Conditions, latents: Any) -> float:
    """CPU seconds of the synthesis with the layers that the networks are defined by."""
    y = torch.from_numpy(latents.astype(np.float32)).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    parts = batches(len(y), y.shape[2] * y.shape[3] * model.arch.stride**2)

    def run() -> None:
        for part in parts:
            model.decoder.pixels(y[part], conditions.plane[part].expand(-1, 1, *y.shape[2:]))

    return best(run, 3)


def measure(subject: str, images: Pixels, ceiling: dict[str, float]) -> dict[str, Any]:
    name, profile = subject.split("-")
    coder = codec_of(profile, QUALITIES[subject], images.shape[3])
    payload, spec = coder.encode(images), GroupSpec.of(images)
    decoder = HyperpriorCodec.restore(coder.get_config(), coder.get_model())
    n_pixels = images.shape[0] * images.shape[1] * images.shape[2]
    whole = best(lambda: decoder.decode(payload, spec))
    clock = Clock()
    with clocked(clock, layer_names(decoder._model.engine)):
        for _ in range(REPEATS):
            decoder.decode(payload, spec)
    with numerics(), torch.no_grad():
        stride = decoder._model.arch.stride
        size = len(images), -(-images.shape[1] // stride), -(-images.shape[2] // stride)
        conditions, latents = payloads.read_latents(decoder._model, payload, *size)
        ours = best(lambda: codec_pixels(decoder, latents, conditions), 3)
        plain = plain_seconds(decoder._model, conditions, latents)
    rows = []
    total = sum(clock.seconds[layer] for layer in clock.work)
    for layer, work in sorted(clock.work.items(), key=lambda row: -row[1]):
        seconds = clock.seconds[layer]
        rows.append(
            {
                "layer": layer,
                "mac_per_pixel": work / REPEATS / n_pixels,
                "mac_per_byte": work / clock.moved[layer],
                "gmac_per_s": work / seconds / 1e9,
                "of_float32_peak": work / seconds / 1e9 / ceiling["float32"],
                "of_bytes_peak": work / seconds / 1e9 / ceiling["bytes"],
                "share": seconds / REPEATS / whole,
            }
        )
    macs = sum(clock.work.values())
    stages = {"layers": total, **{k: clock.seconds[k] for k in STAGES}}
    shares = {stage: seconds / REPEATS / whole for stage, seconds in stages.items()}
    return {
        "subject": subject,
        "images": name,
        "us_per_image": whole / len(images) * 1e6,
        "ns_per_pixel": whole / n_pixels * 1e9,
        "mac_per_pixel": macs / REPEATS / n_pixels,
        "of_float32_peak": macs / total / 1e9 / ceiling["float32"],
        "main_layers": main_layers(clock, ceiling["float32"]),
        "synthesis_times_faster_than_plain": plain / ours,
        "layers": rows,
        "shares": {**shares, "the rest": max(0.0, 1 - sum(shares.values()))},
    }


STAGES = ("latents", "entropy decoding")


def main_layers(clock: Clock, peak: float) -> float:
    """Part of the float32 peak that the layers with most of the work get."""
    ranked = sorted(clock.work, key=lambda layer: -clock.work[layer])
    total, work, seconds = sum(clock.work.values()), 0, 0.0
    for layer in ranked:
        work += clock.work[layer]
        seconds += clock.seconds[layer]
        if work > 0.8 * total:
            break
    return work / seconds / 1e9 / peak


def codec_pixels(decoder: HyperpriorCodec, latents: Any, conditions: coding.Conditions) -> None:
    synthesised(decoder._model, latents, conditions)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subject", choices=sorted(QUALITIES), action="append")
    with_json(parser, "roofline")
    args = parser.parse_args()
    torch.set_num_threads(1)
    machine.reuse_freed_memory()  # as an archive does
    if hasattr(os, "sched_setaffinity"):  # idle cores would help, unseen by the clocks
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    ceiling = peaks()
    print(f"peaks of one core: float32 {ceiling['float32']:.0f}, bytes {ceiling['bytes']:.0f} x 10^9 multiplications/s")
    compared = candidates()
    for row in compared:
        print("  " + ", ".join(f"{name} {value:.0f}" if isinstance(value, float) else value for name, value in row.items()))
    runs = []
    for subject in args.subject or QUALITIES:
        images = np.array(images_of("fashion")[:256]) if subject.startswith("fashion") else np.stack(kodak()[1][:1])
        run = measure(subject, images, ceiling)
        runs.append(run)
        print(
            f"\n{subject}: {run['us_per_image']:,.0f} us per image, {run['ns_per_pixel']:.1f} ns per pixel, "
            f"{run['mac_per_pixel']:,.0f} multiplications per pixel at {run['of_float32_peak']:.0%} of the float32 peak "
            f"(main layers {run['main_layers']:.0%}); "
            f"synthesis {run['synthesis_times_faster_than_plain']:.1f} times as fast as the plain layers"
        )
        print("  " + ", ".join(f"{stage} {share:.0%}" for stage, share in run["shares"].items()))
        print(f"  {'layer':<22} {'MAC/px':>8} {'MAC/byte':>8} {'10^9/s':>7} {'float32':>8} {'bytes':>6} {'time':>6}")
        for row in run["layers"]:
            print(
                f"  {row['layer']:<22} {row['mac_per_pixel']:8.1f} {row['mac_per_byte']:8.1f} {row['gmac_per_s']:7.0f} "
                f"{row['of_float32_peak']:8.0%} {row['of_bytes_peak']:6.0%} "
                f"{row['share']:6.1%}"
            )
    write_json(args.json, peaks=ceiling, candidates=compared, runs=runs)


if __name__ == "__main__":
    main()
