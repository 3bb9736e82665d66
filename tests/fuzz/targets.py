"""All targets by name."""

from __future__ import annotations

from . import coders, containers, datasets, models, rescue, terminal
from .oracle import Target

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        containers.ARCHIVE,
        containers.FRAMING,
        containers.BLOCK,
        containers.TABLE,
        rescue.RESCUE,
        coders.RANS,
        coders.HUFFMAN,
        coders.VALUES,
        coders.SYMBOLS,
        coders.PICTURES,
        coders.PAYLOAD,
        models.MODEL_FILE,
        models.AUTOENCODER,
        models.AUTOENCODER_PAYLOAD,
        models.BALLE,
        models.BALLE_PAYLOAD,
        models.COMCNN,
        models.HYPERPRIOR_MODEL,
        models.HYPERPRIOR,
        datasets.PICTURE,
        datasets.FOLDER,
        datasets.WRITTEN,
        datasets.NPY,
        datasets.NPZ,
        datasets.IDX,
        datasets.TAR,
        terminal.NAMES,
    )
}
