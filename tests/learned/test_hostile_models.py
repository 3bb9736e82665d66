"""A model file from a stranger: every lie in it is a `ModelError`, soon and without much memory."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import picture
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchcodec.errors import BatchcodecError, ModelError
from batchcodec.learned import model_file
from batchcodec.learned.autoencoder import AutoencoderCodec
from batchcodec.types import GroupSpec

Change = Callable[[dict[str, Any], dict[str, Any]], None]


def _use(model: bytes) -> None:
    """Encode and decode, which builds the network, images of as many channels as the model says."""
    codec = AutoencoderCodec(model=model)
    images = picture((16, 16, model_file.parse(model)[1]["config"]["channels"]))[None]
    codec.decode(codec.encode(images), GroupSpec.of(images))


def _set(name: str, value: object) -> Change:
    return lambda tensors, document: document["config"].update({name: value})


def _tensor(name: str, change: Callable[[Any], Any]) -> Change:
    return lambda tensors, document: tensors.update({name: change(tensors[name])})


def _without(name: str) -> Change:
    def remove(tensors: dict[str, Any], document: dict[str, Any]) -> None:
        del tensors[name]

    return remove


CHANGES: dict[str, Change] = {
    "absurd widths": _set("widths", [4096, 4096, 4096]),
    "widths beyond the limit": _set("widths", [10**9] * 3),
    "widths of zero": _set("widths", [0, 8, 8]),
    "negative widths": _set("widths", [-8, 8, 8]),
    "two widths": _set("widths", [8, 8]),
    "widths that are text": _set("widths", "888"),
    "boolean width": _set("widths", [True, 8, 8]),
    "latent too large": _set("latent", 10**12),
    "another latent": _set("latent", 5),
    "fraction of a latent": _set("latent", 4.0),
    "no latent": _set("latent", None),
    "channels": _set("channels", 2),
    "RGB in place of gray": _set("channels", 3),
    "no config": lambda tensors, document: document.pop("config"),
    "config that is a list": lambda tensors, document: document.update(config=[]),
    "no codec": lambda tensors, document: document.pop("codec"),
    "NaN in the ranges": _tensor("quantiser.low", lambda x: x * np.nan),
    "infinite range": _tensor("quantiser.low", lambda x: x + np.inf),
    "NaN step": _tensor("quantiser.step", lambda x: x * np.nan),
    "infinite step": _tensor("quantiser.step", lambda x: x + np.inf),
    "range beyond all use": _tensor("quantiser.low", lambda x: x - np.float32(2**33)),
    "step whose sum is not finite": _tensor("quantiser.step", lambda x: x * 0 + np.float32(3e38)),
    "step of zero": _tensor("quantiser.step", lambda x: x * 0),
    "negative step": _tensor("quantiser.step", lambda x: -x),
    "ranges of float64": _tensor("quantiser.low", lambda x: x.astype(np.float64)),
    "ranges of another length": _tensor("quantiser.low", lambda x: x[:-1]),
    "no ranges": _without("quantiser.step"),
    "no tables": _without("tables"),
    "tables of zeros": _tensor("tables", np.zeros_like),
    "tables of ones": _tensor("tables", np.ones_like),
    "tables that sum to too much": _tensor("tables", lambda x: x + np.uint16(1)),
    "tables of int32": _tensor("tables", lambda x: x.astype(np.int32)),
    "one table": _tensor("tables", lambda x: x[:1]),
    "no decoder weight": _without("decoder.0.0.weight"),
    "no decoder bias": _without("decoder.3.bias"),
    "no encoder weight": _without("encoder.0.0.weight"),
    "weights of float32": _tensor("decoder.1.0.weight", lambda x: x.astype(np.float32)),
    "weights of another shape": _tensor("decoder.1.0.weight", lambda x: x[:, :, :3]),
    "NaN in the decoder": _tensor("decoder.1.0.weight", lambda x: x * np.float16(np.nan)),
    "NaN in the encoder": _tensor("encoder.1.0.weight", lambda x: x * np.float16(np.nan)),
    "weights that are scalars": _tensor("decoder.1.0.weight", lambda x: np.float16(0).reshape(())),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_lies_are_refused(change: Change, tiny_model: Path) -> None:
    tensors, document = model_file.parse(tiny_model.read_bytes())
    tensors = dict(tensors)
    change(tensors, document)
    with pytest.raises(ModelError):
        _use(model_file.dump(tensors, document))


def test_the_model_itself_is_taken(tiny_model: Path) -> None:
    _use(tiny_model.read_bytes())


@pytest.mark.parametrize("part", [0, 0.001, 0.1, 0.5, 0.9, 0.999])
def test_truncated(part: float, tiny_model: Path) -> None:
    blob = tiny_model.read_bytes()
    with pytest.raises(ModelError):
        AutoencoderCodec(model=blob[: int(part * len(blob))])


@pytest.mark.parametrize(
    "document", ["null", "[]", "3", '"text"', "{", "[" * 100_000, '{"codec": "autoencoder-1"}'], ids=lambda d: d[:16]
)
def test_documents_that_are_none(document: str) -> None:
    from safetensors.numpy import save

    with pytest.raises(ModelError):
        AutoencoderCodec(model=save({"x": np.zeros(1, np.float32)}, metadata={"batchcodec": document}))


def test_no_document() -> None:
    from safetensors.numpy import save

    with pytest.raises(ModelError):
        AutoencoderCodec(model=save({"x": np.zeros(1, np.float32)}))


@pytest.mark.parametrize("n", [2**62, 2**31, 10])
def test_a_header_that_claims_too_much(n: int) -> None:
    header = json.dumps({"x": {"dtype": "F32", "shape": [n], "data_offsets": [0, 4 * n]}, "__metadata__": {"batchcodec": "{}"}})
    with pytest.raises(ModelError):
        AutoencoderCodec(model=len(header).to_bytes(8, "little") + header.encode() + bytes(4))


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_flipped_bytes_of_the_header_never_crash(data: st.DataObject, tiny_model: Path) -> None:
    blob = bytearray(tiny_model.read_bytes())
    n_header = 8 + int.from_bytes(blob[:8], "little")
    for _ in range(data.draw(st.integers(1, 3))):
        blob[data.draw(st.integers(0, n_header - 1))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(BatchcodecError):
        AutoencoderCodec(model=bytes(blob)).get_model()
