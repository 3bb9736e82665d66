"""What the benchmarks make of what they measured: ratios and what they are held to, and where accuracy falls."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from batchcodec.types import Pixels

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a file of benchmarks/ as a module: `module("rates")["bd_rate"]`."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    before = set(sys.modules)
    yield lambda name: runpy.run_path(str(BENCHMARKS / f"{name}.py"), run_name=name)
    for name in set(sys.modules) - before:
        if (BENCHMARKS / f"{name}.py").exists():
            del sys.modules[name]


def test_ratios_are_quotients_with_bounds(module: Any) -> None:
    report = module("speed_report")
    measured = {
        "codec fashion fast 2": {"decode_per_s": 900.0, "encode_per_s": 500.0},
        "jpeg_loop fashion pillow 2": {
            "decode_threads_per_s": 1000.0,
            "decode_processes_per_s": 2000.0,
            "encode_per_s": 1000.0,
        },
        "in turn kodak 1": {"fast_ms": 30.0, "pillow-avif_ms": 10.0},
        "groups fashion-60k fast 256": {
            "read_per_s": 900.0,
            "sequential_per_s": 1000.0,
            "epoch_per_s": 800.0,
            "batch_per_s": 50.0,
            "single_ms": 6.0,
            "single_p95_ms": 9.0,
            "bytes_per_image": 70.0,
        },
    }
    content = {"machine": {"cores": 2, "processor": "x"}, "measured": measured}
    found = {ratio.what: ratio for ratio in report["ratios"](content)}
    threads = found["fashion, `fast`: decoding groups / Pillow's JPEG on threads"]
    assert (threads.value, threads.met, threads.detail) == (0.9, True, "900 to 1,000")
    assert found["fashion, `fast`: decoding groups / Pillow's JPEG in processes"].met is False
    assert found["fashion, `balanced`: decoding groups / Pillow's JPEG on threads"].met is None
    slow = found["Kodak, 1 core: time to decode, `fast` / AVIF with Pillow"]
    assert (slow.value, slow.met, slow.detail) == (3.0, False, "30.0 to 10.0")
    shuffled = found["60,000 images, `fast`: batches of 256, shuffled by groups / in order"]
    assert (shuffled.value, shuffled.met) == (0.8, True)
    assert found["one image at random, `fast`, groups of 256"].met is False
    text = report["ratio_table"](content)
    assert "| 0.90 | at least 0.5 | yes | 900 to 1,000 |" in text
    assert "| 6.00 ms | at most 5 ms | no | 95th percentile 9.0 ms; 70.0 B/image |" in text


def test_tables_say_what_is_missing(module: Any) -> None:
    report = module("speed_report")
    rows = {"bytes_per_image": 9.0, "mean_psnr": 100.0, "read_per_s": 1234.5, "write_per_s": 10.0}
    measured = {
        "archive fashion zstd 2": rows,
        "archive fashion zstd 1": {**rows, "read_per_s": 700.0},
        "peer fashion mds 2": {"missing": "No module named 'streaming'"},
        "peer fashion webdataset 2": {"error": "failed"},
    }
    text = report["formats"]({"machine": {"cores": 2}, "measured": measured}, "fashion")
    assert "| batchcodec, `zstd` | 9.0 | exact | 10 / 10 | 1,234 / 700 |" in text
    assert "| MosaicML Streaming, JPEG | not installed |" in text
    assert "| WebDataset, JPEG | failed |" in text
    assert "| .npz, deflate | not measured |" in text
    assert "| FFCV | does not install |" in text


def test_where_accuracy_falls(module: Any) -> None:
    downstream = module("downstream")

    def row(codec: str, size: float, psnr: float | None, accuracy: float) -> dict[str, Any]:
        values = {"accuracy": 0.9, "accuracy_decoded": accuracy}
        return {"set": "x", "codec": codec, "bytes_per_image": size, "mean_psnr": psnr, **values}

    learned = "hyperprior-1:quality=1"
    rows = [
        row("zstd", 1000, None, 0.9),
        row(learned, 100, 34.75, 0.9),
        row(learned, 60, 28.75, 0.88),
        row("avif", 50, 25, 0.8),
    ]
    originals, decoded = downstream["verdicts"](rows)
    expected = {"set": "x", "tests": "accuracy", "grain": False, "loss_at_target": pytest.approx(0), "falls_at_bytes": None}
    assert originals == expected
    assert decoded["falls_at_bytes"] == 60
    assert decoded["loss_at_target"] == pytest.approx(0.02 * 4 / 6)
    said = downstream["sentence"](decoded)
    assert said == "x, tested on decoded images: 30.75 dB costs 1.3 points; more than one point goes from 60 bytes per image on"
    outside = downstream["verdicts"](rows[:2])[1]
    assert (outside["loss_at_target"], outside["falls_at_bytes"]) == (None, None)
    assert "was not measured; no archive costs more" in downstream["sentence"](outside)
    assert downstream["verdicts"](rows[1:]) == []
    rough = [row(f"{learned},grain=100", 80, 32.75, 0.9), row(f"{learned},grain=100", 70, 28.75, 0.85)]
    *others, last = downstream["verdicts"](rows + rough)
    assert [verdict for verdict in others if not verdict["grain"]] == [originals, decoded]
    assert (last["loss_at_target"], last["falls_at_bytes"]) == (pytest.approx(0.05 / 2), 70)
    assert downstream["sentence"](last).startswith("x, with grain, tested on decoded images: 30.75 dB costs 2.5 points")


@pytest.mark.parametrize("channels", [1, 3])
def test_damage_of_so_many_decibels(module: Any, channels: int) -> None:
    """Noise leaves a weak texture where it is; an ideal codec spends nothing on it, and its error is that of what is strong."""
    downstream = module("downstream")
    rng = np.random.default_rng(0)
    fields = np.kron(rng.normal(120, 30, (8, 8, 8, channels)), np.ones((1, 8, 8, 1)))
    images = np.clip(np.rint(fields + rng.normal(0, 3, fields.shape)), 0, 255).astype(np.uint8)

    def finest(pixels: Pixels) -> npt.NDArray[np.float64]:
        """Differences of neighbours in a field."""
        return np.diff(pixels.astype(np.float64).reshape(8, 8, 8, 64, channels), axis=2)

    kept = {}
    for name in ("noise", "ideal"):
        found = downstream["DAMAGES"][name](images)
        assert (found.shape, found.dtype) == (images.shape, np.uint8)
        assert downstream["mean_psnr"](images, found) == pytest.approx(downstream["TARGET_DB"], abs=0.1)
        kept[name] = float((finest(found) * finest(images)).sum() / (finest(images) ** 2).sum())
    assert kept["noise"] == pytest.approx(1, abs=0.1)
    assert kept["ideal"] < 0.3  # the edges of the fields are strong, and as fine
