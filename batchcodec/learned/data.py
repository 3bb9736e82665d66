"""Training images in memory: preprocessed, of one kind, and no more of them than fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from batchcodec.dataset import FormatOptions
from batchcodec.errors import EmptyDatasetError, ItemError
from batchcodec.preprocess import Preprocess, to_channels
from batchcodec.registry import Registry, registry
from batchcodec.types import Pixels

MAX_BYTES = 2 << 30
"""Pixels that are kept at most; of larger datasets a random sample is taken."""


def load_images(
    source: Path,
    preprocess: Preprocess,
    *,
    format_id: str | None = None,
    format_options: FormatOptions | None = None,
    max_bytes: int = MAX_BYTES,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    on_unreadable: Callable[[ItemError], None] | None = None,
    plugins: Registry | None = None,
) -> list[Pixels]:
    """Images [H, W, C] of a dataset in random order, all gray or all RGB; `on_unreadable` is told of those left out.

    With `preprocess.mode` "keep", a dataset that has any colour becomes RGB, and one without becomes gray.

    Raises:
        EmptyDatasetError: there is no image that can be read.
    """
    dataset = (plugins or registry()).format_of(source, format_options, format_id).read(source)
    order = np.random.default_rng(seed).permutation(len(dataset))
    # Channels are made equal at the end; until then an image is kept as it is.
    images: list[Pixels] = []
    n_bytes = 0
    for done, index in enumerate(order.tolist()):
        try:
            image = preprocess(dataset[index]).pixels
        except ItemError as exc:
            if on_unreadable:
                on_unreadable(exc)
            continue
        n_bytes += image.nbytes
        if n_bytes > max_bytes:
            break
        images.append(np.array(image))  # a copy: the item may be a view of a larger array
        if progress:
            progress(done + 1, len(order))
    if not images:
        raise EmptyDatasetError(source, "there is no image in it that can be read")
    target = 3 if any(image.shape[2] >= 3 for image in images) else 1
    return [image if image.shape[2] == target else to_channels(image, target) for image in images]
