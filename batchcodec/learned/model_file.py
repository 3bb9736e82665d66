"""Model files: safetensors with one JSON document in the metadata, under the key `batchcodec`.

The document has `codec` (the codec id), `config` (what `Codec.restore` needs) and, in files that `train` writes, `training`
(settings and figures). What archives store has its int8 weights packed, see `packed_weights`. Nothing in it is code, and
nothing is trusted: the header is capped by safetensors, and the codec checks every shape before it builds a network.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from batchcodec.errors import ModelError
from batchcodec.learned import packed_weights
from batchcodec.learned.packed_weights import Unpacker

Tensors = dict[str, npt.NDArray[Any]]

MAX_MODEL_BYTES = 1 << 30
_KEY = "batchcodec"


def dump(tensors: Tensors, document: dict[str, Any]) -> bytes:
    """Tensors and document as safetensors bytes; equal input gives equal bytes."""
    from safetensors.numpy import save

    contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    blob: bytes = save(contiguous, metadata={_KEY: json.dumps(document, sort_keys=True)})
    return blob


def parse(blob: bytes, unpacker: Unpacker | None = None) -> tuple[Tensors, dict[str, Any]]:
    """The tensors and the document of safetensors bytes; packed weights are unpacked, by `unpacker` if it is given.

    Raises:
        ModelError: not safetensors, or without the document.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        tensors: Tensors = load(blob)
        header = json.loads(blob[8 : 8 + int.from_bytes(blob[:8], "little")])
        document = json.loads(header["__metadata__"][_KEY])
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as exc:
        raise ModelError(f"not a batchcodec model (safetensors with a `{_KEY}` document): {exc}") from exc
    if not isinstance(document, dict):
        raise ModelError(f"the model's `{_KEY}` document is not an object")
    if "packed" in document:
        tensors = packed_weights.unpack(tensors, document.pop("packed"), unpacker)
    return tensors, document


def read(path: Path) -> bytes:
    """The bytes of a model file.

    Raises:
        ModelError: missing, unreadable or larger than 1 GiB.
    """
    try:
        if not path.is_file() and path.exists():  # a pipe or a device may never end
            raise ModelError(f"model {path}: not a file", path=path)
        if path.stat().st_size > MAX_MODEL_BYTES:
            raise ModelError(f"model {path}: larger than {MAX_MODEL_BYTES} bytes", path=path)
        return path.read_bytes()
    except OSError as exc:
        raise ModelError(f"model {path}: {exc.strerror}", path=path) from exc


def without_encoder(tensors: Tensors, document: dict[str, Any]) -> bytes:
    """What an archive stores of a parsed model: all that decoding needs, and nothing that training left behind.

    What comes out gives itself again.

    Raises:
        ModelError: the document does not say what the model is.
    """
    if not isinstance(document.get("codec"), str) or not isinstance(document.get("config"), dict):
        raise ModelError("a model without codec and config")
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith("encoder.")}
    packed, listed = packed_weights.pack(kept)
    more = {"packed": listed} if listed else {}
    return dump(packed, {"codec": document["codec"], "config": document["config"], **more})


def checkpoint_path(model: Path) -> Path:
    """Where the training of this model file keeps its state."""
    return model.with_name(model.name + ".checkpoint")
