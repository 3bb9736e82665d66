"""Fixtures for all tests: real data where BATCHCODEC_DATA names it, generated pictures, the command line, models, a browser."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from browser.pages import browser, open_page  # noqa: F401  (fixtures: one browser for each process, so defined here alone)
from helpers import CONSOLE_SCRIPT, Finished, RunCli, picture
from hypothesis import HealthCheck, settings
from PIL import Image
from typer.testing import CliRunner

from batchcodec.types import Pixels

# An example may take any time: machines are shared, and the first one compiles kernels.
settings.register_profile("untimed", settings(deadline=None, suppress_health_check=[HealthCheck.too_slow]))
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real images, which are never copied."""
    folder = os.environ.get("BATCHCODEC_DATA")
    if not folder:
        pytest.skip("BATCHCODEC_DATA is not set: no real images")
    return Path(folder)


@pytest.fixture(scope="session")
def run_cli() -> RunCli:
    """Run the installed console script in a process of its own: `run_cli("info", path, "--json")`."""
    if not CONSOLE_SCRIPT.exists():
        pytest.skip("batchcodec is not installed beside this Python: there is no console script")

    def run(*arguments: object, env: dict[str, str] | None = None, cwd: Path | None = None) -> Finished:
        command = [str(CONSOLE_SCRIPT), *map(str, arguments)]
        done = subprocess.run(
            command,
            env=os.environ | (env or {}),
            cwd=cwd,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=120,
            check=False,
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def invoke() -> RunCli:
    """Run the command line in this process, which is faster: `invoke("info", path, "--json")`."""
    from batchcodec import cli

    def run(*arguments: object) -> Finished:
        result = CliRunner().invoke(cli.app, [str(a) for a in arguments], catch_exceptions=False)
        return Finished(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of 11 pictures of mixed kinds, in two classes, with a text file beside them."""
    root = tmp_path / "pictures"
    for label in ("cat", "dog"):
        (root / label).mkdir(parents=True)
        for i in range(3):
            Image.fromarray(picture((24, 32, 3), i + len(label))).save(root / label / f"{i}.png")
    Image.fromarray(picture((24, 32, 3), 9)).save(root / "cat" / "photo.jpg", quality=90)
    Image.fromarray(picture((17, 13), 1)).save(root / "dog" / "gray.png")
    Image.fromarray(picture((8, 9, 2), 2)).save(root / "dog" / "la.png")
    Image.fromarray(picture((8, 9, 4), 3)).save(root / "dog" / "rgba.png")
    Image.fromarray(picture((10, 12), 4, "uint16")).save(root / "dog" / "sixteen.png")
    (root / "notes.txt").write_text("no image")
    return root


@pytest.fixture(scope="session")
def rgb_archive(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder of six RGB pictures of one size in two classes, and the archive of it: JPEG quality 80, groups of two."""
    import batchcodec

    folder = tmp_path_factory.mktemp("rgb")
    source, archive = folder / "source", folder / "rgb.cpack"
    for label in ("cat", "dog"):
        (source / label).mkdir(parents=True)
        for i in range(3):
            Image.fromarray(picture((24, 32, 3), i + 10 * len(label) + ord(label[0]))).save(source / label / f"{i}.png")
    batchcodec.pack(source, archive, batchcodec.PackOptions(codec="jpeg:quality=80", group_items=2, workers=1))
    return source, archive


@pytest.fixture(scope="session")
def gray_32() -> list[Pixels]:
    """64 gray images of 32x32: uint8 [32, 32, 1] each."""
    return [picture((32, 32), i)[:, :, None] for i in range(64)]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory, gray_32: list[Pixels]) -> Path:
    """A model file of `autoencoder-1` for gray images, trained until its pictures can be told apart."""
    return _trained(tmp_path_factory.mktemp("model") / "gray.safetensors", gray_32)


@pytest.fixture(scope="session")
def tiny_rgb_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for RGB images."""
    images = [picture((32, 32, 3), i) for i in range(32)]
    return _trained(tmp_path_factory.mktemp("model") / "rgb.safetensors", images)


@pytest.fixture(scope="session")
def hyperprior_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the models `tiny-gray` and `tiny-rgb` of `hyperprior-1`: the linear start of the smallest networks."""
    from batchcodec.learned.hyperprior.architecture import Architecture
    from batchcodec.learned.hyperprior.trainer import Settings, Trainer

    folder = tmp_path_factory.mktemp("models")
    small = {"slices": (4, 12), "width": 0, "blocks": 0, "fine_width": 4, "fine_blocks": 0, "hyper": 4, "anchors": 3}
    for name, channels in (("tiny-gray", 1), ("tiny-rgb", 3)):
        images = [picture((32, 32, channels), i) for i in range(24)]
        arch = Architecture(channels=channels, hyper_width=8, context_width=8, **small)
        encoder = {"width": 8, "blocks": 0, "fine_width": 8}
        trainer = Trainer(images, Settings(crop=32, batch=4), arch=arch, encoder=encoder)
        (folder / f"{name}.safetensors").write_bytes(trainer.release(name=name))
    return folder


@pytest.fixture
def tiny_shipped(hyperprior_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that stands for the package's models in this process: `photo-gray` and `photo-rgb`, tiny ones."""
    from batchcodec.learned import shipped

    folder = tmp_path / "shipped"
    folder.mkdir()
    for kind in ("gray", "rgb"):
        (folder / f"photo-{kind}.safetensors").write_bytes((hyperprior_models / f"tiny-{kind}.safetensors").read_bytes())
    monkeypatch.setattr(shipped, "PACKAGE_FOLDER", folder)
    monkeypatch.delenv(shipped.VARIABLE, raising=False)
    return folder


def _trained(path: Path, images: list[Pixels]) -> Path:
    from batchcodec.learned.train import TrainOptions, train

    train(images, path, TrainOptions(latent=4, widths=(8, 8, 8), epochs=50, batch=8, crop=32, threads=1))
    return path


@pytest.fixture(scope="session")
def balle_models(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Model files of `balle2017-1` by the number of channels: tiny networks after some steps."""
    from batchcodec.learned.balle.architecture import Architecture
    from batchcodec.learned.balle.training import BalleSettings, BalleTrainer

    folder = tmp_path_factory.mktemp("balle")
    found = {}
    for channels in (1, 2, 3, 4):
        images = [picture((32, 32, channels), i) for i in range(24)]
        arch = Architecture(channels=channels, latent=24, width=8, depth=2, anchors=3)
        trainer = BalleTrainer(images, BalleSettings(crop=32, batch=4, epochs=2), arch)
        trainer.run()
        found[channels] = folder / f"balle{channels}.safetensors"
        found[channels].write_bytes(trainer.release(name=f"balle{channels}"))
    return found


@pytest.fixture(scope="session")
def comcnn_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Model files of `comcnn-1`: tiny networks after some steps, for several kinds of images; some without a compact image."""
    from batchcodec.learned.comcnn.architecture import Architecture
    from batchcodec.learned.comcnn.training import ComcnnSettings, ComcnnTrainer

    kinds = {
        "gray": Architecture(1, 8, 4),
        "rgb": Architecture(3, 8, 3, "leaky-relu", "transpose"),
        "rgba": Architecture(4, 6, 2, "gelu", "resize"),
        "gray-filter": Architecture(1, 8, 3, compact=False),
        "rgb-filter": Architecture(3, 8, 4, "relu", "resize", compact=False),
    }
    folder, found = tmp_path_factory.mktemp("comcnn"), {}
    for name, arch in kinds.items():
        base = "webp" if arch.channels == 4 else "jpeg"
        images = [picture((48, 32, arch.channels), i) for i in range(24)]
        trainer = ComcnnTrainer(images, ComcnnSettings(crop=32, batch=4, epochs=4, base=base), arch)
        trainer.run()
        found[name] = folder / f"comcnn-{name}.safetensors"
        found[name].write_bytes(trainer.release(name=f"comcnn-{name}"))
    return found
