"""One digest everywhere: the same payloads of `hyperprior-1`, decoded under many configurations, each in a process of its own.

    python benchmarks/determinism.py                  # prints a SHA-256 of the decoded pixels for each configuration
    python benchmarks/determinism.py --write          # and puts the table into docs/determinism.md

Images are encoded once: Fashion-MNIST test images at many qualities, one Kodak image, and a crop of it. The same coded integers
are written as groups of 256, 7 and 1 images. Every configuration must give the same pixels, or the program ends with 1.
As a control, each process also runs the float encoder on one image, outside of what pins torch: where its digests differ,
the configurations do change what torch computes. Needs BATCHCODEC_DATA with `fashion-mnist/` and `kodak/` in it.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from rates import FASHION_MODEL, fashion, kodak, with_json, write_json
from torch import Tensor

import batchcodec
from batchcodec.learned import exact
from batchcodec.learned.hyperprior import codec as codec_module
from batchcodec.learned.hyperprior import coding, payloads
from batchcodec.learned.hyperprior.codec import HyperpriorCodec, inference
from batchcodec.learned.hyperprior.engine import Engine
from batchcodec.learned.hyperprior.layer_engine import LayerEngine
from batchcodec.learned.hyperprior.model import LoadedModel
from batchcodec.learned.hyperprior.network import Decoder
from batchcodec.learned.hyperprior.quantising import analysed, gray_levels, hyper_analysed, quantised
from batchcodec.types import GroupSpec, ImageSpec, Pixels

SHIPPED = Path(batchcodec.__file__).parent / "models" / "photo-rgb.safetensors"
PAGE = Path(__file__).parent.parent / "docs" / "determinism.md"
START, END = "<!-- determinism: start -->", "<!-- determinism: end -->"
GROUPS = (256, 7, 1)
CROP = 128


@dataclass(frozen=True)
class Setting:
    """One configuration.

    Attributes:
        name: in the table.
        env: of the process.
        group: images of a group.
        how: what `child` does before or while it decodes.
        threads: of torch.
        only: the data sets that it is for; empty for all.
        way: what computes: "" is what decoding takes on this machine, "16 bits" the same layout with products of 16 bits,
            "layers" the layers that the networks are defined by.
    """

    name: str
    env: dict[str, str] = field(default_factory=dict)
    group: int = GROUPS[0]
    how: str = ""
    threads: int = 1
    only: tuple[str, ...] = ()
    way: str = ""


SETTINGS = [
    Setting("1 thread, groups of 256"),
    Setting("2 threads", threads=2),
    Setting("groups of 7", group=7, only=("fashion",)),
    Setting("groups of 1", group=1, only=("fashion",)),
    Setting("each item alone, of groups of 7", group=7, how="single", only=("fashion",)),
    *(Setting(f"ONEDNN_MAX_CPU_ISA={isa}", {"ONEDNN_MAX_CPU_ISA": isa}) for isa in ("SSE41", "AVX", "AVX2")),
    *(Setting(f"ATEN_CPU_CAPABILITY={level}", {"ATEN_CPU_CAPABILITY": level}) for level in ("default", "avx2")),
    Setting("oneDNN off", how="onednn off"),
    Setting("oneDNN off, 2 threads", how="onednn off", threads=2),
    *(Setting(f"NUMBA_CPU_NAME={name}", {"NUMBA_CPU_NAME": name}) for name in ("generic", "nehalem", "haswell")),
    Setting("products of 16 bits", way="16 bits"),
    Setting("products of 16 bits, 2 threads", way="16 bits", threads=2),
    Setting("products of 16 bits, groups of 7", group=7, only=("fashion",), way="16 bits"),
    Setting("products of 16 bits, NUMBA_CPU_NAME=generic", {"NUMBA_CPU_NAME": "generic"}, way="16 bits"),
    Setting("products of 16 bits, within bfloat16 autocast", how="autocast", way="16 bits"),
    Setting("layers of torch", way="layers"),
    Setting("layers of torch, 2 threads", way="layers", threads=2),
    Setting("layers of torch, groups of 7", group=7, only=("fashion",), way="layers"),
    Setting("layers of torch, ONEDNN_MAX_CPU_ISA=SSE41", {"ONEDNN_MAX_CPU_ISA": "SSE41"}, way="layers"),
    Setting("layers of torch, oneDNN off", how="onednn off", way="layers"),
    Setting("layers of torch, host switched NNPACK on, oneDNN off", how="nnpack", way="layers"),
    Setting("layers of torch, contiguous input to the synthesis", how="contiguous", way="layers"),
    Setting("layers of torch, host set float32 matmul precision to medium", how="medium", way="layers"),
    Setting("layers of torch, host allowed bfloat16 in convolutions", how="bf16 conv", way="layers"),
    Setting("layers of torch, host allowed bfloat16 in products", how="bf16 matmul", way="layers"),
    Setting("layers of torch, ONEDNN_DEFAULT_FPMATH_MODE=BF16", {"ONEDNN_DEFAULT_FPMATH_MODE": "BF16"}, way="layers"),
    Setting("layers of torch, within bfloat16 autocast", how="autocast", way="layers"),
    Setting("layers of torch, convolutions in float64", how="float64", way="layers"),
    Setting("the numpy reference (int64)", how="reference", only=("fashion", "crop")),
]
CUDA = Setting("CUDA", how="cuda", way="layers")


# ---- one configuration, in a process of its own


def patched(how: str, threads: int, way: str) -> None:
    """Set this process up."""
    torch.set_num_threads(threads)
    if way:
        device = "cuda" if how == "cuda" else "cpu"

        def engine(self: LoadedModel) -> Engine | LayerEngine:
            return LayerEngine(self.decoder, device) if way == "layers" else Engine(self.decoder, as_bytes=False)

        LoadedModel.engine = property(engine)  # type: ignore[assignment]

    @contextlib.contextmanager
    def with_threads() -> Iterator[None]:
        with exact.numerics(threads), torch.no_grad():
            yield

    codec_module.inference = with_threads
    if way == "layers":  # pinned as on a device
        codec_module.HyperpriorCodec._decoding = lambda self: codec_module.inference()  # type: ignore[method-assign]
    if how in ("onednn off", "nnpack"):
        torch.backends.mkldnn.set_flags(False)  # type: ignore[no-untyped-call]
    if how == "nnpack":
        torch.backends.nnpack.set_flags(True)  # type: ignore[no-untyped-call]
    if how == "medium":
        torch.set_float32_matmul_precision("medium")
    if how == "bf16 conv":
        torch.backends.mkldnn.conv.fp32_precision = "bf16"  # type: ignore[attr-defined]
    if how == "bf16 matmul":
        torch.backends.mkldnn.matmul.fp32_precision = "bf16"  # type: ignore[attr-defined]
    if how == "contiguous":
        pixels = Decoder.pixels
        Decoder.pixels = lambda self, y, plane: pixels(self, y.contiguous(), plane)  # type: ignore[method-assign,assignment]
    if how == "float64":

        def forward(self: exact.ExactConv2d, x: Tensor) -> Tensor:
            weight, bias, padding = self.weight, self.bias, self.kernel_size[0] // 2
            if bias is None:
                raise TypeError("exact layers have a bias")
            return F.conv2d(x.double(), weight.double(), bias.double(), padding=padding).float()

        exact.ExactConv2d.forward = forward  # type: ignore[method-assign]


def child(manifest: dict[str, Any], setting: Setting) -> dict[str, str]:
    """Digest of the pixels of each data set, and of the float encoder's latents."""
    patched(setting.how, setting.threads, setting.way)
    digests = {}
    for name, data in manifest.items():
        if setting.only and name not in setting.only:
            continue
        blob, spec = Path(data["model"]).read_bytes(), ImageSpec(**data["spec"])
        stored = LoadedModel(blob).without_encoder()
        codec = HyperpriorCodec.restore({}, stored)
        digest = hashlib.sha256()
        for path, n_items in data["groups"][str(setting.group)]:
            payload, group = Path(path).read_bytes(), GroupSpec(n_items, spec)
            if setting.how == "reference":
                from batchcodec.reference import decode_payload

                parts: list[Pixels] = [decode_payload(payload, stored, group)]
            elif setting.how == "single":
                parts = [codec.decode(payload, group, [i]) for i in range(n_items)]
            else:
                with torch.autocast("cpu", dtype=torch.bfloat16, enabled=setting.how == "autocast"):
                    parts = [codec.decode(payload, group)]
            for pixels in parts:
                digest.update(np.ascontiguousarray(pixels).tobytes())
        digests[name] = digest.hexdigest()
        if name == "crop":  # the control
            model, image = LoadedModel(blob), np.load(data["image"])
            with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=setting.how == "autocast"):
                latents = model.encoder.analysis(gray_levels(model, image))
            digests["float"] = hashlib.sha256(latents.float().contiguous().numpy().tobytes()).hexdigest()
    return digests


# ---- the payloads


def coded(folder: Path, name: str, model_path: Path, images: Pixels, qualities: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Encode images once, write the integers in groups of several sizes, and say where."""
    model = LoadedModel(model_path.read_bytes())
    qualities = qualities.astype(np.uint8)
    np.save(folder / f"{name}.npy", images[:1])
    with inference():
        y = analysed(model, images)
        conditions = coding.Conditions.of(model.decoder, qualities)
        integers = quantised(model, conditions, y, hyper_analysed(model, y, conditions), None)
        groups: dict[int, list[tuple[str, int]]] = {}
        for size in GROUPS:
            for at in range(0, len(images), size):
                rows = slice(at, at + size)
                passes = [(k[rows], index[rows]) for k, index in integers.passes]
                payload = payloads.write(model, qualities[rows], integers.z[rows], passes)
                path = folder / f"{name}-{size}-{at}.bin"
                path.write_bytes(payload)
                groups.setdefault(size, []).append((str(path), len(qualities[rows])))
    spec = ImageSpec.of(images[0])
    shape = {"height": spec.height, "width": spec.width, "channels": spec.channels, "dtype": spec.dtype}
    return {"model": str(model_path.resolve()), "spec": shape, "groups": groups, "image": str(folder / f"{name}.npy")}


def run(manifest: Path, number: int, setting: Setting) -> dict[str, str]:
    """The digests that a process of its own finds, or `error`."""
    command = [sys.executable, __file__, "--child", str(manifest), "--setting", str(number)]
    done = subprocess.run(command, env={**os.environ, **setting.env}, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"error": done.stderr.strip().splitlines()[-1][:200] if done.stderr.strip() else f"status {done.returncode}"}
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


def page(rows: list[tuple[str, dict[str, str]]], what: str, verdict: str) -> str:
    """The part of the documentation between the markers."""
    names = ("fashion", "kodak", "crop")
    lines = ["| configuration | " + " | ".join(names) + " | float encoder (control) |", "|---|" + "---|" * 4]
    for name, found in rows:
        if "error" in found:
            lines.append(f"| {name} | failed | failed | failed | |")
            continue
        cells = [f"`{found[key][:16]}`" if key in found else "" for key in (*names, "float")]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join([what, "", *lines, "", verdict])


def write_page(path: Path, text: str) -> None:
    """Put the text between the markers; a page without them gets them at its end."""
    before = path.read_text() if path.exists() else "# Determinism: one digest everywhere\n"
    if START in before:
        head, _, rest = before.partition(START)
        before, tail = head, rest.partition(END)[2]
    else:
        before, tail = before.rstrip() + "\n\n", "\n"
    path.write_text(f"{before}{START}\n{text}\n{END}{tail}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fashion-model", type=Path, default=FASHION_MODEL)
    parser.add_argument("--model", type=Path, default=SHIPPED, help="for RGB")
    parser.add_argument("--images", type=int, default=300, help="Fashion-MNIST images")
    parser.add_argument("--only", default="", help="the first configuration, and those that have this in their name")
    parser.add_argument("--write", action="store_true", help="put the table into the documentation")
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--setting", type=int, help=argparse.SUPPRESS)
    with_json(parser, "determinism")
    args = parser.parse_args()
    settings = SETTINGS + [CUDA] * torch.cuda.is_available()
    if args.child:
        print(json.dumps(child(json.loads(args.child.read_text()), settings[args.setting])))
        return
    rows: list[tuple[str, dict[str, str]]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        gray = np.stack(fashion(folder, args.images).images)[: args.images]
        photo = kodak(1)[1][0][None]
        top, left = (photo.shape[1] - CROP) // 2, (photo.shape[2] - CROP) // 2
        crop = np.ascontiguousarray(photo[:, top : top + CROP, left : left + CROP])
        manifest = {
            "fashion": coded(folder, "fashion", args.fashion_model, gray, 1 + 37 * np.arange(len(gray)) % 100),
            "kodak": coded(folder, "kodak", args.model, photo, np.array([60])),
            "crop": coded(folder, "crop", args.model, crop, np.array([90])),
        }
        (folder / "manifest.json").write_text(json.dumps(manifest))
        for number, setting in enumerate(settings):
            if number and args.only not in setting.name:
                continue
            found = run(folder / "manifest.json", number, setting)
            rows.append((setting.name, found))
            texts = [f"{key} {value if key == 'error' else value[:16]}" for key, value in found.items()]
            print(f"{setting.name:<46} " + "  ".join(texts), flush=True)
    distinct = {key: len({found[key] for _, found in rows if key in found}) for key in ("fashion", "kodak", "crop", "float")}
    failed = [name for name, found in rows if "error" in found]
    same = not failed and all(distinct[key] == 1 for key in ("fashion", "kodak", "crop"))
    counted = ", ".join(f"{key} {n}" for key, n in distinct.items() if key != "float")
    verdict = f"one digest; the float encoder gave {distinct['float']}" if same else f"NOT one digest: {counted}"
    verdict += f"; failed: {', '.join(failed)}" if failed else ""
    if not torch.cuda.is_available():
        print("no CUDA device: left out")
    what = (
        f"SHA-256 (first 16 digits) of the decoded pixels: {len(gray)} Fashion-MNIST images at 64x64, one Kodak image "
        f"of {photo.shape[2]}x{photo.shape[1]}, a crop of it of {CROP}x{CROP}; torch {torch.__version__}, "
        f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}. "
        "The numpy reference is slow and decodes the crop in place of the whole."
    )
    write_json(args.json, torch=str(torch.__version__), machine=platform.machine(), distinct=distinct, rows=dict(rows))
    if args.write:
        write_page(args.page, page(rows, what, f"Result: {verdict}."))
    print(verdict)
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
