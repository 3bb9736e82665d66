"""Models by name: those that the package brings, and those in the folders that BATCHCODEC_MODELS lists.

A model NAME is the file `NAME.safetensors`. The package's folder is searched first, so a name that the package brings means the
same everywhere. An archive that was packed with `--model-ref` names its model by the SHA-256 of what another archive would
store of it (`model_file.without_encoder`), so a full model file and one that was taken from an archive both serve.

Nothing here needs torch.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from batchcodec.errors import ModelError
from batchcodec.learned import model_file

VARIABLE = "BATCHCODEC_MODELS"
SUFFIX = ".safetensors"
PACKAGE_FOLDER = Path(__file__).parent.parent / "models"


def folders() -> list[Path]:
    """Where models are looked for, in this order."""
    return [PACKAGE_FOLDER, *(Path(part) for part in os.environ.get(VARIABLE, "").split(os.pathsep) if part)]


def names() -> list[str]:
    """The names of all models that are found, sorted."""
    return sorted({path.name.removesuffix(SUFFIX) for path in _files()})


def path_of(name: str) -> Path | None:
    """The file of a model name, or None."""
    if not _is_name(name):
        return None
    return next((path for folder in folders() if (path := folder / f"{name}{SUFFIX}").is_file()), None)


def read(name: str | Path) -> bytes:
    """The bytes of a model: of the file of this path, or else of the model of this name.

    Raises:
        ModelError: there is neither, or it cannot be read.
    """
    path = Path(name)
    if path.exists() or not _is_name(str(name)):
        return model_file.read(path)
    found = path_of(str(name))
    if found is None:
        raise ModelError(
            f"model {name}: no such file, and no model of this name; known: {', '.join(names()) or 'none'} "
            f"({VARIABLE} lists more folders to search)",
            path=path,
            known=names(),
        )
    return _contents(found)


def find_stored(sha256: str, name: str) -> bytes:
    """What an archive would store of the model with this hash.

    Args:
        sha256: of what is returned, in hex.
        name: what the model was called when it was used: such files are tried first, and the error says it.

    Raises:
        ModelError: no file in the folders has it.
    """
    files = sorted(_files(), key=lambda path: path.name != f"{name}{SUFFIX}")  # stable: folders keep their order
    for path in files:
        stored = _stored(path)
        if stored is not None and stored[1] == sha256:
            return stored[0]
    raise ModelError(
        f"the archive does not hold its model {name!r} but names it by its SHA-256 {sha256}, which is none of the "
        f"{len(files)} models in {', '.join(map(str, folders()))}; "
        f"set {VARIABLE} to the folder that has the model file (several: separated by {os.pathsep!r})",
        model=name,
        sha256=sha256,
    )


def find_training(sha256: str) -> tuple[str, dict[str, Any]] | None:
    """File name and record of the training of the model with this hash, if one of the folders has its file.

    An archive holds what decoding needs, and nothing of how it was trained.
    """
    for path in _files():
        try:
            tensors, document = model_file.parse(model_file.read(path))
            stored = model_file.without_encoder(tensors, document)
        except ModelError:
            continue
        training = document.get("training")
        if hashlib.sha256(stored).hexdigest() == sha256 and isinstance(training, dict):
            return path.name, training
    return None


def _is_name(text: str) -> bool:
    """Whether it names a file in a folder and cannot lead out of it: names also come from archives of strangers."""
    return text == Path(text).name and text not in ("", "..") and text.isprintable()


def _files() -> Iterator[Path]:
    for folder in folders():
        try:
            found = sorted(path for path in folder.iterdir() if path.name.endswith(SUFFIX) and path.is_file())
        except OSError:  # a folder that is not there has no models
            continue
        yield from found


def _contents(path: Path) -> bytes:
    """The bytes of a file; each image that is packed asks for them, so they are kept until the file changes."""
    try:
        stat = path.stat()
    except OSError as exc:
        raise ModelError(f"model {path}: {exc.strerror}", path=path) from exc
    return _kept(path, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=4)
def _kept(path: Path, mtime_ns: int, n_bytes: int) -> bytes:
    return model_file.read(path)


def _stored(path: Path) -> tuple[bytes, str] | None:
    """What an archive stores of a model file, and its SHA-256; None for a file that is no such model."""
    try:
        stored = model_file.without_encoder(*model_file.parse(model_file.read(path)))
    except ModelError:
        return None
    return stored, hashlib.sha256(stored).hexdigest()
