"""Checkpoints of training: safetensors with one JSON document, whole or absent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from batchcodec.atomic import write_atomically
from batchcodec.errors import ModelError
from batchcodec.learned import model_file


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds."""

    tensors: model_file.Tensors
    document: dict[str, Any]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names begin so, by the rest of their names; copies."""
        return {k[len(prefix) :]: torch.from_numpy(v.copy()) for k, v in self.tensors.items() if k.startswith(prefix)}


def write(path: Path, tensors: Mapping[str, Tensor], document: dict[str, Any]) -> None:
    """Write a checkpoint, or leave the old one."""
    arrays = {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
    write_atomically(path, model_file.dump(arrays, document))


def read(path: Path, codec_id: str, identity: Mapping[str, Any]) -> Checkpoint:
    """Read a checkpoint of a run for this codec that agrees on `identity`.

    Raises:
        ModelError: it cannot be read, or is of another run.
    """
    tensors, document = model_file.parse(model_file.read(path))
    if document.get("checkpoint") != codec_id:
        raise ModelError(f"checkpoint {path}: of {document.get('checkpoint')!r}, expected {codec_id}", path=path)
    theirs = document.get("identity", document)  # older checkpoints have it beside the rest
    theirs = theirs if isinstance(theirs, dict) else {}
    if other := sorted(key for key in identity if theirs.get(key) != identity[key]):
        raise ModelError(f"checkpoint {path}: made with other settings ({', '.join(other)})", path=path)
    return Checkpoint(tensors, document)
