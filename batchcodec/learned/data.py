"""Training images in memory: preprocessed, of one kind, and no more of them than fit."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from batchcodec.dataset import FormatOptions
from batchcodec.errors import EmptyDatasetError, InputError, ItemError, OptionError
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


class Crops:
    """Training images, held-out images, and random squares of both.

    Args:
        images: uint8 [H, W, C] each, all of one number of channels.
        n_validation: how many are held out, at most.
        crop: side of the squares, in pixels; less where all images are smaller.
        stride: of the network: the side is a multiple of it.
        seed: of split and crops.
        flip: mirror half of the batches.

    Raises:
        InputError: images that nothing can be trained on.
    """

    def __init__(
        self, images: Sequence[Pixels], n_validation: int, crop: int, stride: int, *, seed: int, flip: bool = False
    ) -> None:
        channels = {image.shape[2] for image in images}
        if len(channels) != 1 or any(image.dtype != np.uint8 for image in images):
            raise InputError("training images", "they must all be 8-bit and of one number of channels; use --mode gray or rgb")
        if len(images) < 2:
            raise InputError("training images", "at least 2 are needed, one to train on and one to validate with")
        if crop % stride:
            raise OptionError("crop", crop, f"a multiple of {stride}")
        self.channels = channels.pop()
        order = np.random.default_rng(seed).permutation(len(images))
        self.validation = [images[i] for i in order[:n_validation]]
        self.train = [images[i] for i in order[n_validation:]]
        # Images all smaller than the crop are not filled up further than the network's stride asks for.
        largest = max(max(image.shape[:2]) for image in images)
        self.side = min(crop, -(-largest // stride) * stride)
        self.flip = flip
        self.random = np.random.default_rng(seed + 1)

    def batch(self, n: int) -> Pixels:
        """Random squares of random images, uint8 [n, side, side, C]."""
        picks = self.random.integers(len(self.train), size=n)
        stack = np.stack([random_crop(self.train[i], self.side, self.random) for i in picks])
        return stack[:, :, ::-1].copy() if self.flip and self.random.integers(2) else stack

    def held_out(self, side: int | None = None) -> Pixels:
        """A square of each held-out image, always the same ones: uint8 [N, side, side, C]."""
        return self.squares(self.validation, side or self.side, np.random.default_rng(0))

    def sample(self, n: int, *, seed: int, side: int | None = None) -> Pixels:
        """Squares of at most `n` training images, uint8 [n, side, side, C], for what is counted on them."""
        rng = np.random.default_rng(seed)
        picks = rng.permutation(len(self.train))[:n]
        return self.squares([self.train[i] for i in picks], side or self.side, rng)

    @staticmethod
    def squares(images: Sequence[Pixels], side: int, rng: np.random.Generator) -> Pixels:
        """A random square of each image, uint8 [N, side, side, C]."""
        return np.stack([random_crop(image, side, rng) for image in images])
