"""How networks run outside of training: in parts that fit the caches, on one thread, without gradients."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

BATCH_PIXELS = 1 << 17
"""Pixels that go through a network at once: bounds memory, and keeps activations in the caches."""


def batches(n_items: int, n_pixels: int, limit: int = BATCH_PIXELS) -> list[slice]:
    """Parts of a group that go through a network together; they depend on the group alone."""
    step = max(1, limit // n_pixels)
    return [slice(start, min(n_items, start + step)) for start in range(0, n_items, step)]


@contextlib.contextmanager
def inference() -> Iterator[None]:
    """No gradients, and one thread for each call: groups run side by side, which scales better and never waits for a core.

    The number of threads is a setting of the calling thread, and is put back.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(before)
