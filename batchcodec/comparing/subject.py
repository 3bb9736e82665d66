"""What is compared on: a random sample of a dataset, read once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from batchcodec.comparing.measuring import Subject
from batchcodec.dataset import FormatOptions
from batchcodec.errors import EmptyDatasetError, ItemError
from batchcodec.names import check_name
from batchcodec.preprocess import Preprocess
from batchcodec.registry import Registry
from batchcodec.sampling import SamplingRegistry, at_random
from batchcodec.types import ImageSpec, Pixels

MAX_BYTES = 1 << 30
"""Pixels of a sample that are held."""


@dataclass(frozen=True)
class Drawn:
    """A sample.

    Attributes:
        subject: its images, and how `pack` reads just them.
        n_dataset: items of the whole dataset.
        shapes: image spec to number of images.
        unreadable: items that were drawn and cannot be read, and why.
        n_left_out: images that were drawn and are not in the sample because it is as large as it may be.
        fingerprint: SHA-256 of the images, their names, and how they are packed.
    """

    subject: Subject
    n_dataset: int
    shapes: dict[str, int]
    unreadable: list[str]
    n_left_out: int
    fingerprint: str


@dataclass(frozen=True)
class SampleOptions:
    """How a sample is drawn and read.

    Attributes:
        images: of the sample, at most.
        seed: of the draw.
        group_items, preprocess, format, format_options: as of `PackOptions`.
    """

    images: int = 200
    seed: int = 0
    group_items: int | None = None
    preprocess: Preprocess = field(default_factory=Preprocess)
    format: str | None = None
    format_options: FormatOptions = field(default_factory=FormatOptions)


def draw(
    source: Path,
    options: SampleOptions,
    plugins: Registry,
    *,
    max_bytes: int = MAX_BYTES,
    progress: Callable[[int, int], None] | None = None,
) -> Drawn:
    """Draw a sample of a dataset and read it, in the dataset's order.

    Raises:
        InputError: the dataset cannot be read, or no image of the sample can.
    """
    dataset = plugins.format_of(source, options.format_options, options.format).read(source)
    if not len(dataset):
        raise EmptyDatasetError(source, "there is no image in it")
    picks = at_random(len(dataset), options.images, options.seed)
    images: list[Pixels] = []
    kept: list[int] = []
    shapes: dict[str, int] = {}
    unreadable: list[str] = []
    state = hashlib.sha256()
    n_bytes = n_left_out = 0
    for done, place in enumerate(picks):
        try:
            item = options.preprocess(dataset[place])
            check_name(source, item.name)
        except ItemError as exc:
            unreadable.append(str(exc))
            continue
        if images and n_bytes + item.pixels.nbytes > max_bytes:
            n_left_out = len(picks) - done
            break
        image = np.array(item.pixels)  # a copy: it may be a view of a larger array
        kept.append(place)
        images.append(image)
        n_bytes += image.nbytes
        spec = str(ImageSpec.of(image))
        shapes[spec] = shapes.get(spec, 0) + 1
        state.update(repr((item.name, item.label, image.shape, str(image.dtype))).encode() + image.tobytes())
        if progress:
            progress(done + 1, len(picks))
    if not images:
        raise EmptyDatasetError(
            source, f"none of the {len(picks)} images of the sample can be read; the first: {unreadable[0]}"
        )
    state.update(repr((len(dataset), options.group_items, asdict(options.format_options))).encode())
    subject = Subject(
        source,
        images,
        options.preprocess,
        options.group_items,
        options.format,
        options.format_options,
        SamplingRegistry(plugins, lambda n_items: [place for place in kept if place < n_items]),
    )
    return Drawn(subject, len(dataset), shapes, unreadable, n_left_out, state.hexdigest())
