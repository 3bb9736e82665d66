"""The encoder in bytes: nearly the latents of the network in float32, whatever its sizes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from batchcodec.errors import BatchcodecError
from batchcodec.learned.hyperprior import kernels, quantising
from batchcodec.learned.hyperprior.architecture import Architecture
from batchcodec.learned.hyperprior.byte_encoder import ByteEncoder, pictures
from batchcodec.learned.hyperprior.codec import HyperpriorCodec, inference
from batchcodec.learned.hyperprior.model import LoadedModel
from batchcodec.learned.hyperprior.network import Encoder
from batchcodec.learned.shipped import read
from batchcodec.types import GroupSpec, ImageSpec, Pixels


@settings(max_examples=30)
@given(st.integers(1, 3), st.sampled_from([4, 8, 16]), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))
def test_blocks(n: int, side: int, channels: int, rows: int, columns: int) -> None:
    x = np.random.default_rng(0).integers(0, 256, (n, rows * side, columns * side, channels), np.uint8)
    out = np.empty(x.size, np.uint8)
    kernels.blocks(x.reshape(-1), columns * side * channels, side * channels, side, out)
    expected = x.reshape(n, rows, side, columns, side, channels).transpose(0, 1, 3, 2, 4, 5)
    assert np.array_equal(out.reshape(expected.shape), expected)


def test_centred_gray_levels_stay_in_a_byte() -> None:
    gray = np.arange(256, dtype=np.uint8)
    out = np.empty(256, np.int8)
    for offset in (0.0, 72.9, 127.5, 255.0):
        scale = 127 / max(offset, 255 - offset)
        kernels.centred(gray, offset, scale, out)
        assert np.abs(out / scale - (gray - offset)).max() <= 0.5 / scale + 1e-4


@pytest.mark.parametrize(("stride", "channels"), [(8, 1), (8, 3), (16, 2), (16, 4)])
@pytest.mark.parametrize(("width", "blocks", "fine_width"), [(24, 2, 16), (7, 0, 5), (9, 1, 0)])
def test_nearly_the_same_latents(stride: int, channels: int, width: int, blocks: int, fine_width: int) -> None:
    torch.manual_seed(0)
    arch = Architecture(channels=channels, stride=stride, slices=(6, 10), width=24, fine_width=8, hyper=6)
    encoder = Encoder(arch, width, blocks, fine_width).eval()
    offset = 100.0
    images = np.ascontiguousarray(pictures(channels)[:, :32, ::-1])
    with inference():
        x = torch.from_numpy(images).permute(0, 3, 1, 2).float() - offset
        expected = encoder.analysis(x)
        linear = encoder.linear(x).permute(0, 2, 3, 1)
        planes = torch.tensor([-1.0, 0.5, 2.0])[:, None, None, None]
        coder = ByteEncoder(encoder, offset, planes)
        found = coder.analysis(images)
        words = ByteEncoder(encoder, offset, planes, as_bytes=False)  # machines may differ in this, its bytes may not
        assert np.array_equal(words.analysis(images), found)
        for plane in planes:
            some = plane[None].expand(len(images), 1, 1, 1)
            z = encoder.hyper_analysis(expected, some.expand(-1, 1, *expected.shape[2:]))
            nearly = coder.hyper_analysis(expected, some)
            assert torch.equal(words.hyper_analysis(expected, some), nearly)
            assert nearly.shape == z.shape
            assert (nearly - z).abs().mean() < 0.01  # it is rounded to integers
    expected = expected.permute(0, 2, 3, 1)
    assert found.shape == expected.shape
    nonlinear = (expected - linear).abs().mean()
    assert nonlinear > 1  # gray levels: there is something to approximate
    assert np.abs(found - expected.numpy()).mean() < 0.06 * nonlinear


def plain_pictures(channels: int) -> Pixels:
    """Smooth and of little contrast, as most of a photograph is: uint8 [4, 256, 256, C]."""
    whole = [Image.fromarray(image.squeeze()) for image in np.tile(pictures(channels)[::2], (1, 2, 2, 1))]
    large = np.stack([np.asarray(image.resize((256, 256), Image.Resampling.BICUBIC)) for image in whole])
    return (90 + large.reshape(*large.shape[:3], channels) * 0.3).astype(np.uint8)


@pytest.mark.parametrize("quality", [1, 40, 95, 100])
@pytest.mark.parametrize("name", ["photo-gray", "photo-rgb"])
@pytest.mark.parametrize(("made", "bytes_apart", "db_apart"), [(pictures, 0.003, 0.02), (plain_pictures, 0.012, 0.08)])
def test_bytes_and_errors_are_those_of_float32(
    made: Callable[[int], Pixels],
    bytes_apart: float,
    db_apart: float,
    name: str,
    quality: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    blob = read(name)
    images = made(1 if "gray" in name else 3)
    spec = GroupSpec(len(images), ImageSpec.of(images[0]))

    def packed() -> tuple[int, float]:
        coder = HyperpriorCodec(model=blob, quality=quality, effort=1)
        payload = coder.encode(images)
        error = coder.decode(payload, spec).astype(np.float64) - images
        return len(payload), float(10 * np.log10(255**2 / np.square(error).mean()))

    class Plain:
        def __init__(self, model: LoadedModel) -> None:
            self.encoder, self.offset = model.encoder, float(model.decoder.offset)

        def analysis(self, images: Pixels) -> np.ndarray:
            y = self.encoder.analysis(torch.from_numpy(images).permute(0, 3, 1, 2).float() - self.offset)
            return y.permute(0, 2, 3, 1).numpy()

        def hyper_analysis(self, y: torch.Tensor, planes: torch.Tensor) -> torch.Tensor:
            return self.encoder.hyper_analysis(y, planes.expand(-1, 1, *y.shape[2:]))

    n_bytes, psnr = packed()
    monkeypatch.setattr(LoadedModel, "byte_encoder", property(Plain))
    plain_bytes, plain_psnr = packed()
    assert abs(n_bytes / plain_bytes - 1) < bytes_apart
    assert abs(psnr - plain_psnr) < db_apart


def test_large_images_by_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    model = LoadedModel(read("photo-rgb"))
    image: Pixels = np.tile(pictures(3)[:1], (1, 12, 1, 1))[:, :700, :50]
    with inference():
        whole = quantising.analysed(model, image)
        monkeypatch.setattr(quantising, "STRIP_PIXELS", 1)
        assert torch.allclose(quantising.analysed(model, image), whole, atol=1e-3)


def test_a_model_without_an_encoder_still_says_so() -> None:
    stored = HyperpriorCodec(model=read("photo-gray")).get_model()
    with pytest.raises(BatchcodecError, match="decode"):
        HyperpriorCodec(model=stored).encode(pictures(1))
