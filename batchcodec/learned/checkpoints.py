"""Checkpoints of training: all state of a run in one safetensors file, whole or absent.

Tensors: `model.*`, `average.*`, `best.*` (the best average so far, where it is kept), and `adam.KIND.NAME` of each parameter.
The document has the rest: what the run is, how far it is, its log, and the state of its random numbers.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from batchcodec.atomic import write_atomically
from batchcodec.errors import ModelError
from batchcodec.learned import model_file

if TYPE_CHECKING:
    from batchcodec.learned.loop import Trainer


def save(trainer: Trainer[Any], path: Path) -> None:
    """Write a checkpoint, or leave the old one."""
    tensors: dict[str, Tensor] = {f"model.{k}": v for k, v in trainer.model.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in trainer.average.state_dict().items()}
    tensors |= {f"best.{k}": v for k, v in trainer.best.items()}
    for name, parameter in trainer.model.named_parameters():
        state = trainer.optimiser.state.get(parameter, {})
        tensors |= {f"adam.{kind}.{name}": value for kind, value in state.items()}
    document = {
        "checkpoint": trainer.codec_id,
        "settings": asdict(trainer.settings),
        "identity": trainer.identity(),
        "step": trainer.step,
        "seconds": trainer.seconds,
        "loss": None if math.isnan(trainer.recent_loss) else trainer.recent_loss,
        "caution": trainer.caution,
        "best_cost": None if math.isinf(trainer.best_cost) else trainer.best_cost,
        "since_best": trainer.since_best,
        "log": trainer.log,
        "random": trainer.data.random.bit_generator.state,
    }
    arrays = {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
    write_atomically(path, model_file.dump(arrays, document))


def load(trainer: Trainer[Any], path: Path) -> None:
    """Put the state of a checkpoint into a run of the same kind.

    Raises:
        ModelError: it cannot be read, or is of another run.
    """
    tensors, document = model_file.parse(model_file.read(path))
    _check(document, trainer.codec_id, trainer.identity(), path)

    def part(prefix: str) -> dict[str, Tensor]:
        return {k[len(prefix) :]: torch.from_numpy(v.copy()) for k, v in tensors.items() if k.startswith(prefix)}

    try:
        trainer.model.load_state_dict(part("model."))
        trainer.average.load_state_dict(part("average."))
        parameters = dict(trainer.model.named_parameters())
        for key, tensor in part("adam.").items():
            kind, name = key.split(".", 1)
            trainer.optimiser.state[parameters[name]][kind] = tensor if kind == "step" else tensor.to(trainer.device)
        trainer.best = {name: tensor.to(trainer.device) for name, tensor in part("best.").items()}
        trainer.data.random.bit_generator.state = document["random"]
        trainer.step, trainer.seconds = int(document["step"]), float(document["seconds"])
        trainer.log = list(document["log"])
        loss, best_cost = document.get("loss"), document.get("best_cost")
        trainer.recent_loss = math.nan if loss is None else float(loss)
        trainer.best_cost = math.inf if best_cost is None else float(best_cost)
        trainer.since_best = int(document.get("since_best", 0))
        trainer.caution = float(document.get("caution", 1.0))
    except (KeyError, ValueError, TypeError, RuntimeError) as exc:
        raise ModelError(f"checkpoint {path}: {exc}", path=path) from exc


def _check(document: dict[str, Any], codec_id: str, identity: dict[str, Any], path: Path) -> None:
    """Raise `ModelError` for a checkpoint of another codec, or that differs in what the run is."""
    if document.get("checkpoint") != codec_id:
        raise ModelError(f"checkpoint {path}: of {document.get('checkpoint')!r}, expected {codec_id}", path=path)
    theirs = document.get("identity", document)  # older checkpoints have it beside the rest
    theirs = theirs if isinstance(theirs, dict) else {}
    if other := sorted(key for key in identity if theirs.get(key) != identity[key]):
        raise ModelError(f"checkpoint {path}: made with other settings ({', '.join(other)})", path=path)
