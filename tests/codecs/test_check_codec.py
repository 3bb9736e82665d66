"""The conformance kit finds the codec that breaks a law, one broken codec per law."""

from __future__ import annotations

import numpy as np
import pytest
from batchcodec_plugins.codecs.raw import StoreCodec

from batchcodec.codec import Codec
from batchcodec.testing import check_codec


class BadId(StoreCodec):
    codec_id = "My Codec"


class Undeclared(StoreCodec):
    channels = (1, 3)

    def check(self, spec):
        pass


class ConfigWithTuple(StoreCodec):
    def get_config(self):
        return {"size": (1, 2)}


class Random(StoreCodec):
    count = 0

    def encode(self, images):
        type(self).count += 1
        return super().encode(images) + bytes([type(self).count])


class ChangesInput(StoreCodec):
    def encode(self, images):
        payload = super().encode(images)
        images += 1
        return payload


class MemoryOrder(StoreCodec):
    def encode(self, images):
        return super().encode(images if images.flags.c_contiguous else images[::-1])


class WrongShape(StoreCodec):
    def decode(self, payload, spec, items=None):
        return super().decode(payload, spec, items)[..., 0]


class SortsItems(StoreCodec):
    def decode(self, payload, spec, items=None):
        return super().decode(payload, spec, None if items is None else sorted(items))


class NotLossless(StoreCodec):
    def decode(self, payload, spec, items=None):
        return super().decode(payload, spec, items) | 1


class RawExceptions(StoreCodec):
    def decode(self, payload, spec, items=None):
        images = np.frombuffer(payload, spec.image.dtype).reshape(spec.shape)
        return images if items is None else images[list(items)] if len(items) else images[:0]


@pytest.mark.parametrize(
    ("codec", "message"),
    [
        (BadId, "does not match"),
        (Undeclared, r"check\(\) lets"),
        (ConfigWithTuple, "does not survive JSON"),
        (Random, "not deterministic"),
        (ChangesInput, "modifies its argument"),
        (MemoryOrder, "non-contiguous"),
        (WrongShape, "gives shape"),
        (SortsItems, "are not the same rows"),
        (NotLossless, "says lossless"),
        (RawExceptions, "raises ValueError .* expected PayloadError"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_a_broken_law_is_named(codec: type[Codec], message: str) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3), dtype=np.uint8)
    with pytest.raises(AssertionError, match=message):
        check_codec(codec(), images)
