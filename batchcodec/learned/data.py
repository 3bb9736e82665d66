"""Training images in memory: preprocessed, of one kind, and no more of them than fit."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from batchcodec.dataset import FormatOptions
from batchcodec.errors import EmptyDatasetError, ItemError
from batchcodec.preprocess import Preprocess, to_channels
from batchcodec.registry import Registry, registry
from batchcodec.types import Item, Pixels

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
    """Images [H, W, C] of a dataset, or a random sample of them, all gray or all RGB.

    Images that cannot be read are left out, and `on_unreadable` is told. With `preprocess.mode` "keep", a dataset that has any
    colour becomes RGB, and one without becomes gray.

    Raises:
        EmptyDatasetError: there is no image that can be read.
    """
    dataset = (plugins or registry()).format_of(source, format_options, format_id).read(source)
    rng = np.random.default_rng(seed)
    images: list[Pixels] = []  # channels are made equal at the end; until then an image is kept as it is
    n_bytes = 0
    # A sample is drawn first and then read in the dataset's order: compressed files can only be read forwards.
    picks = np.sort(rng.permutation(len(dataset))[: _how_many_fit(dataset, preprocess, max_bytes)])
    for done, index in enumerate(picks.tolist()):
        try:
            image = preprocess(dataset[index]).pixels
        except ItemError as exc:
            if on_unreadable:
                on_unreadable(exc)
            continue
        images.append(np.array(image))  # a copy: the item may be a view of a larger array
        n_bytes += image.nbytes
        while n_bytes > max_bytes and len(images) > 1:  # images are of many sizes, and the guess was too high
            n_bytes -= images.pop(int(rng.integers(len(images)))).nbytes
        if progress:
            progress(done + 1, len(picks))
    if not images:
        raise EmptyDatasetError(source, "there is no image in it that can be read")
    target = 3 if any(image.shape[2] >= 3 for image in images) else 1
    return [image if image.shape[2] == target else to_channels(image, target) for image in images]


def _how_many_fit(dataset: Sequence[Item], preprocess: Preprocess, max_bytes: int) -> int:
    """About how many images fit, going by the first ones that can be read."""
    sizes = []
    for index in range(min(16, len(dataset))):
        with contextlib.suppress(ItemError):
            sizes.append(preprocess(dataset[index]).pixels.nbytes)
    return len(dataset) if not sizes else max(2, int(max_bytes / np.mean(sizes)))


def random_crop(image: Pixels, side: int, rng: np.random.Generator) -> Pixels:
    """A random square [side, side, C] of [H, W, C]; smaller images are continued at their edges."""
    height, width = image.shape[:2]
    if height < side or width < side:
        image = np.pad(image, ((0, max(0, side - height)), (0, max(0, side - width)), (0, 0)), mode="edge")
        height, width = image.shape[:2]
    top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
    return image[top : top + side, left : left + side]
