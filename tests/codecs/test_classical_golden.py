"""Payloads of the first release, decoded for ever. `golden.json` is added to and never rewritten."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from batchcodec_plugins.codecs import register_codecs

from batchcodec.types import GroupSpec, ImageSpec, Pixels

CODECS = {codec.codec_id: codec for codec in register_codecs()}
GOLDEN = json.loads((Path(__file__).parent / "golden.json").read_text())
NEED_IMAGECODECS = ("jxl", "png-16bit-rgb", "jpeg2000-lossless-16bit")
LOSSY_TOLERANCE = 20  # another build of a decoder may differ; a wrong layout differs by far more


def golden_pixels(shape: list[int], dtype: str) -> Pixels:
    """What was encoded: ramps along all four axes, [N, H, W, C]."""
    item, y, x, channel = np.ogrid[tuple(slice(length) for length in shape)]
    ramps = 15 * item + 3 * y + 2 * x + 20 * channel
    return (ramps if dtype == "uint8" else ramps * 387).astype(dtype)


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["name"])
def test_golden_payload(case: dict[str, Any]) -> None:
    if case["name"].startswith(NEED_IMAGECODECS):
        pytest.importorskip("imagecodecs")
    n_items, *image = case["shape"]
    spec = GroupSpec(n_items, ImageSpec(*image, dtype=case["dtype"]))
    codec = CODECS[case["codec"]].restore(case["config"], b"")
    decoded = codec.decode(bytes.fromhex(case["payload"]), spec)
    expected = golden_pixels(case["shape"], case["dtype"])
    assert decoded.dtype == expected.dtype
    tolerance = 0 if codec.lossless else LOSSY_TOLERANCE
    assert np.abs(decoded.astype(int) - expected.astype(int)).max() <= tolerance


def test_every_codec_has_a_golden_payload():
    assert {case["codec"] for case in GOLDEN} == set(CODECS)
