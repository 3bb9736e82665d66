"""`hyperprior-1` as a codec: its contract at every effort, odd and strange images, determinism, what quality and bits mean."""

from __future__ import annotations

import threading
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import picture
from hypothesis import given, settings
from hypothesis import strategies as st

import batchcodec
from batchcodec import PackOptions
from batchcodec.archive import digest
from batchcodec.entropy import leb128
from batchcodec.errors import ModelError, OptionError, PayloadError, UnsupportedImageError
from batchcodec.learned import shipped
from batchcodec.learned.hyperprior import coding, effort, payloads, quantising
from batchcodec.learned.hyperprior.architecture import Architecture
from batchcodec.learned.hyperprior.codec import DEFAULT_QUALITY, HyperpriorCodec, inference
from batchcodec.learned.hyperprior.model import LoadedModel
from batchcodec.learned.hyperprior.trainer import Settings, Trainer
from batchcodec.testing import check_codec
from batchcodec.types import GroupSpec, ImageSpec, Pixels

EFFORTS = (1, 2, 3, 5, 6)
"""One for each thing that efforts add: nothing, quantisation and a guess, a search, descent, annealing."""


@cache
def made(channels: int) -> bytes:
    """A model for images of so many channels with all parts, as it is before training."""
    arch = Architecture(
        channels=channels,
        slices=(3, 9),
        width=6,
        blocks=1,
        fine_width=5,
        fine_blocks=1,
        hyper=3,
        hyper_width=6,
        context_width=6,
        anchors=3,
    )
    images = [picture((24, 24, channels), i) for i in range(8)]
    return Trainer(images, Settings(crop=24), arch=arch, encoder={"width": 8, "blocks": 0, "fine_width": 8}).release()


@pytest.fixture(scope="session")
def blobs(hyperprior_models: Path) -> dict[int, bytes]:
    """Model files by channels."""
    files = {n: (hyperprior_models / f"tiny-{name}.safetensors").read_bytes() for n, name in ((1, "gray"), (3, "rgb"))}
    return files | {n: made(n) for n in (2, 4)}


def waves(n: int, height: int, width: int, channels: int) -> Pixels:
    """Smooth pictures, uint8 [n, height, width, channels]."""
    return np.stack([picture((height, width, channels), i) for i in range(n)])


def psnr(a: Pixels, b: Pixels) -> float:
    return float(10 * np.log10(255**2 / max(0.01, ((a.astype(float) - b) ** 2).mean())))


@pytest.mark.parametrize("tune", ["psnr", "mse"])
@pytest.mark.parametrize("level", EFFORTS)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_the_contract(blobs: dict[int, bytes], channels: int, level: int, tune: str) -> None:
    side = 9 if level >= 5 else 19
    codec = HyperpriorCodec(model=blobs[channels], effort=level, tune=tune, quality=60)
    check_codec(codec, waves(3, side, side + 4, channels), n_damaged=8)


@pytest.mark.parametrize("size", [(1, 1), (1, 8), (8, 1), (7, 9), (8, 8), (33, 31), (64, 5)], ids=str)
def test_sizes(blobs: dict[int, bytes], size: tuple[int, int]) -> None:
    check_codec(HyperpriorCodec(model=blobs[3]), waves(2, *size, 3), n_damaged=4)


@pytest.mark.parametrize("level", [5, 6])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (17, 8)], ids=str)
def test_sizes_at_high_efforts(blobs: dict[int, bytes], size: tuple[int, int], level: int) -> None:
    check_codec(HyperpriorCodec(model=blobs[1], effort=level), waves(2, *size, 1), n_damaged=0)


@pytest.mark.parametrize("level", [1, 3])
@pytest.mark.parametrize("channels", [2, 3, 4])
def test_planes_of_a_gray_model(blobs: dict[int, bytes], channels: int, level: int) -> None:
    images = waves(3, 20, 13, channels)
    codec = HyperpriorCodec(model=blobs[1], effort=level, quality=80, tune="mse")
    check_codec(codec, images, n_damaged=8)
    planes = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).reshape(-1, 20, 13, 1)
    assert codec.encode(planes) == codec.encode(images)
    decoded = codec.decode(codec.encode(images), GroupSpec.of(images))
    assert np.array_equal(decoded[1, :, :, 1:2], codec.decode(codec.encode(planes), GroupSpec.of(planes))[channels + 1])


def test_the_largest_effort(blobs: dict[int, bytes]) -> None:
    assert set(effort.PLANS) == set(range(1, 10))
    images = waves(1, 8, 8, 1)
    codec = HyperpriorCodec(model=blobs[1], effort=9)
    assert codec.decode(codec.encode(images), GroupSpec.of(images)).shape == images.shape


# ---- images that no training saw


def _strange(name: str, channels: int) -> Pixels:
    """uint8 [H, W, channels]."""
    rng = np.random.default_rng(3)
    shape = {"1x1": (1, 1), "3x5000": (3, 5000), "5000x3": (5000, 3), "1x300": (1, 300)}.get(name, (40, 56))
    if name == "noise":
        image = rng.integers(0, 256, (*shape, channels))
    elif name == "text":
        image = np.repeat(255 * (rng.random((10, 14, 1)) < 0.7), 4, 0).repeat(4, 1).repeat(channels, 2)
    elif name in ("0", "255"):
        image = np.full((*shape, channels), int(name))
    else:
        image = picture((*shape, channels), 1)
    return image.astype(np.uint8)


def test_a_model_by_a_path_or_by_text(hyperprior_models: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.stack([picture((16, 16, 1), i) for i in range(3)]))
    path = hyperprior_models / "tiny-gray.safetensors"
    found = []
    for model in (path, str(path)):
        options = PackOptions(codec="hyperprior-1", model=model, force=True)  # type: ignore[arg-type]
        batchcodec.pack(tmp_path / "x.npy", tmp_path / "x.cpack", options)
        found.append((tmp_path / "x.cpack").read_bytes())
    assert found[0] == found[1]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["noise", "text", "0", "255", "1x1", "3x5000", "5000x3", "1x300"])
def test_archives_of_strange_images(hyperprior_models: Path, tmp_path: Path, name: str, channels: int) -> None:
    """What was packed is read: the digest of the pixels holds, and the report has their PSNR."""
    image = _strange(name, channels)
    np.save(tmp_path / "x.npy", np.stack([image, image[::-1]]))
    model = hyperprior_models / f"tiny-{'gray' if channels == 1 else 'rgb'}.safetensors"
    options = PackOptions(codec="hyperprior-1:quality=100", model=model, workers=1)
    report = batchcodec.pack(tmp_path / "x.npy", tmp_path / "x.cpack", options)
    assert report.codecs == {"hyperprior-1:quality=100": 2}
    assert not report.lossless
    with batchcodec.open(tmp_path / "x.cpack") as archive:
        decoded = np.stack([item.pixels for item in archive])
        assert archive.group_head(0).digest == digest.digest(decoded)
        assert np.array_equal(archive[1].pixels, decoded[1])
    assert decoded.shape == (2, *image.shape)
    found = np.mean([psnr(decoded[0], image), psnr(decoded[1], image[::-1])])
    assert report.mean_psnr == pytest.approx(found, abs=0.01)
    assert found > (8 if name in ("noise", "text") else 25)
    target = tmp_path / "out"
    batchcodec.unpack(tmp_path / "x.cpack", target)
    assert sum(path.is_file() for path in target.rglob("*")) == 2


@pytest.mark.parametrize("level", [2, 3, 5])
@pytest.mark.parametrize("name", ["noise", "text", "0", "255"])
def test_strange_images_at_more_effort(blobs: dict[int, bytes], name: str, level: int) -> None:
    images = np.stack([_strange(name, 1)[:16, :24], waves(1, 16, 24, 1)[0]])
    for quality in (1, 100):
        codec = HyperpriorCodec(model=blobs[1], effort=level, quality=quality)
        decoded = codec.decode(codec.encode(images), GroupSpec.of(images))
        assert decoded.shape == images.shape


# ---- groups


@pytest.mark.parametrize("level", [1, 2])
def test_single_items(blobs: dict[int, bytes], level: int) -> None:
    images = np.concatenate([waves(4, 21, 30, 3), np.random.default_rng(0).integers(0, 256, (2, 21, 30, 3), np.uint8)])
    codec, spec = HyperpriorCodec(model=blobs[3], effort=level), GroupSpec.of(images)
    payload = codec.encode(images)
    whole = codec.decode(payload, spec)
    for i in range(len(images)):
        assert np.array_equal(codec.decode(payload, spec, [i])[0], whole[i])
    picks = [5, 0, 0, 3]
    assert np.array_equal(codec.decode(payload, spec, picks), whole[picks])


def integers_of(model: LoadedModel, images: Pixels, qualities: np.ndarray, *, optimised: bool = False) -> quantising.Integers:
    conditions = coding.Conditions.of(model.decoder, qualities)
    y = quantising.analysed(model, images)
    z = quantising.hyper_analysed(model, y, conditions)
    worth = quantising.worth_of(model, qualities) if optimised else None
    return quantising.quantised(model, conditions, y, z, worth)


def test_pixels_do_not_depend_on_the_group(blobs: dict[int, bytes]) -> None:
    """The same integers give the same pixels, alone and among others."""
    images, model = waves(7, 25, 18, 3), LoadedModel(blobs[3])
    codec, spec = HyperpriorCodec(model=blobs[3]), GroupSpec.of(images)
    with inference():
        integers = integers_of(model, images, np.full(7, 70, np.uint8))
        whole = codec.decode(payloads.write(model, np.full(7, 70, np.uint8), integers.z, integers.passes), spec)
        for rows in ([0], [3], [6], [5, 1], [2, 4, 0]):
            passes = [(k[rows], index[rows]) for k, index in integers.passes]
            payload = payloads.write(model, np.full(len(rows), 70, np.uint8), integers.z[rows], passes)
            assert np.array_equal(codec.decode(payload, GroupSpec(len(rows), spec.image)), whole[rows])


def test_what_is_coded_of_an_image_does_not_depend_on_the_group(blobs: dict[int, bytes]) -> None:
    """At effort 1. The encoder works in floating point: where an integer is on the edge, another may come out."""
    images = waves(7, 25, 18, 3)
    codec = HyperpriorCodec(model=blobs[3], effort=1, quality=70)
    whole = codec.decode(codec.encode(images), GroupSpec.of(images))
    for rows in ([0], [3], [5, 1]):
        part = codec.decode(codec.encode(images[rows]), GroupSpec.of(images[rows]))
        assert (part != whole[rows]).mean() < 0.05
        assert np.abs(part.astype(int) - whole[rows]).max() < 30


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "qualities", [[1, 100, 50], [70, 70, 71], [100, 100, 1], [1, 1, 100, 100], [33], list(range(1, 101, 9))], ids=str
)
def test_qualities_that_differ(blobs: dict[int, bytes], qualities: list[int], channels: int) -> None:
    images, model, n = waves(len(qualities), 10, 23, channels), LoadedModel(blobs[channels]), len(qualities)
    codec, spec = HyperpriorCodec(model=blobs[channels]), GroupSpec.of(images)
    chosen = np.array(qualities, np.uint8)
    with inference():
        integers = integers_of(model, images, chosen)
        payload = payloads.write(model, chosen, integers.z, integers.passes)
        found, latents = payloads.read_latents(model, payload, n, 2, 3)
    assert np.array_equal(found.qualities, chosen)
    assert np.array_equal(latents, integers.latents)
    decoded = codec.decode(payload, spec)
    for i, quality in enumerate(qualities):
        alone = HyperpriorCodec(model=blobs[channels], quality=quality, effort=1)
        with inference():
            passes = [(k[[i]], index[[i]]) for k, index in integers.passes]
            single = payloads.write(model, chosen[[i]], integers.z[[i]], passes)
        assert np.array_equal(alone.decode(single, GroupSpec(1, spec.image))[0], decoded[i])
        assert np.array_equal(codec.decode(payload, spec, [i])[0], decoded[i])


# ---- streams


@pytest.mark.parametrize("differ", [False, True])
@given(data=st.data())
@settings(max_examples=30)
def test_streams(data: st.DataObject, differ: bool) -> None:
    """However many images a stream has, all of them and each of them are those of one stream."""
    n = data.draw(st.integers(2, 9))
    images, model = waves(n, 10, 23, 1), LoadedModel(made(1))
    codec, spec = HyperpriorCodec(model=made(1)), GroupSpec.of(images)
    qualities = np.array(data.draw(st.lists(st.integers(1, 100), min_size=n, max_size=n)) if differ else [70] * n, np.uint8)
    with inference():
        integers = integers_of(model, images, qualities)
        plain, streams = (
            payloads.write(model, qualities, integers.z, integers.passes, each)
            for each in (n, data.draw(st.integers(1, n - 1)))
        )
    expected = codec.decode(plain, spec)
    assert np.array_equal(codec.decode(streams, spec), expected)
    rows = data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=5))
    for payload in (plain, streams):
        assert np.array_equal(codec.decode(payload, spec, rows), expected[rows])
    with inference():
        conditions, latents = payloads.read_latents(model, streams, n, 2, 3, rows)
    assert np.array_equal(conditions.qualities, qualities[rows])
    assert np.array_equal(latents, integers.latents[rows])


def streams_of(payload: bytes) -> int:
    """Images of a stream, 0 if there is but one."""
    number, at = leb128.unpack(payload)
    return 0 if payload[at] else number


def test_streams_are_short_and_cost_little(blobs: dict[int, bytes]) -> None:
    model, codec = LoadedModel(blobs[1]), HyperpriorCodec(model=blobs[1], quality=90, effort=1)
    images = np.random.default_rng(0).integers(0, 256, (64, 64, 64, 1), np.uint8)
    payload = codec.encode(images)
    assert streams_of(payload) == payloads.STREAM_POSITIONS // 64
    with inference():
        integers = integers_of(model, images, np.full(64, 90, np.uint8))
        whole = payloads.write(model, np.full(64, 90, np.uint8), integers.z, integers.passes, 64)
    assert len(whole) < len(payload) < 1.005 * len(whole)
    assert streams_of(codec.encode(images[:16])) == 0
    few = HyperpriorCodec(model=blobs[1], quality=1, effort=1).encode(np.full_like(images, 128))
    assert 16 < streams_of(few) < 64, "few bytes in each image: longer streams"
    assert len(few) / 64 * streams_of(few) == pytest.approx(payloads.STREAM_BYTES, rel=0.2)
    assert streams_of(codec.encode(images[:4].reshape(2, 128, 64, 1).repeat(4, 1).repeat(4, 2))) == 1, (
        "large images: each its own"
    )


def test_one_image_reads_its_stream_alone(blobs: dict[int, bytes]) -> None:
    """Damage in another stream is not noticed, as that is not looked at; the group as a whole is refused."""
    images = np.random.default_rng(0).integers(0, 256, (40, 64, 64, 1), np.uint8)
    codec, spec = HyperpriorCodec(model=blobs[1], quality=90, effort=1), GroupSpec.of(images)
    payload = codec.encode(images)
    expected = codec.decode(payload, spec)
    damaged = payload[:-1] + bytes([payload[-1] ^ 255])
    assert np.array_equal(codec.decode(damaged, spec, [0, 31]), expected[[0, 31]])
    for items in ([39], [0, 32], None):
        with pytest.raises(PayloadError):
            codec.decode(damaged, spec, items)


def test_tune_psnr_gives_plain_images_more(blobs: dict[int, bytes]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 1), np.uint8)
    images = np.concatenate([waves(2, 32, 32, 1), noise])
    model = LoadedModel(blobs[1])
    for level, tune in ((2, "psnr"), (3, "psnr"), (2, "mse"), (1, "psnr")):
        payload = HyperpriorCodec(model=blobs[1], effort=level, tune=tune).encode(images)
        with inference():
            qualities = payloads.read_latents(model, payload, 4, 4, 4)[0].qualities
        if tune == "mse" or level == 1:
            assert (qualities == DEFAULT_QUALITY).all()
        else:
            assert qualities[:2].min() >= qualities[2:].max()
            assert qualities.min() < qualities.max()


# ---- determinism


@pytest.mark.parametrize("level", [1, 3, 6])
def test_the_same_bytes_each_time(blobs: dict[int, bytes], level: int) -> None:
    images = waves(3, 12, 17, 3)
    expected = HyperpriorCodec(model=blobs[3], effort=level).encode(images)
    codec, spec = HyperpriorCodec(model=blobs[3], effort=level), GroupSpec.of(images)
    assert codec.encode(images) == expected
    pixels = codec.decode(expected, spec)
    before = torch.get_num_threads()
    try:
        for threads in (2, 1):
            torch.set_num_threads(threads)
            torch.manual_seed(threads)
            assert codec.encode(images) == expected
            assert np.array_equal(codec.decode(expected, spec), pixels)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("level", [2, 6])
def test_two_threads_at_once(blobs: dict[int, bytes], level: int) -> None:
    groups = [waves(3, 12, 17, 3), waves(4, 20, 9, 3)[1:]]
    expected = [HyperpriorCodec(model=blobs[3], effort=level).encode(images) for images in groups]
    shared, found = HyperpriorCodec(model=blobs[3], effort=level), {}  # its model is not loaded yet
    start = threading.Barrier(4)

    def work(i: int) -> None:
        start.wait()
        payload = shared.encode(groups[i % 2])
        found[i] = payload, shared.decode(payload, GroupSpec.of(groups[i % 2]))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    for i, (payload, pixels) in found.items():
        assert payload == expected[i % 2]
        assert np.array_equal(pixels, shared.decode(payload, GroupSpec.of(groups[i % 2])))


# ---- quality and bits


@pytest.mark.parametrize("level", [1, 2])
@pytest.mark.parametrize("name", ["photo-gray", "photo-rgb"])
def test_more_quality_more_bytes(name: str, level: int) -> None:
    """Of models that were trained, as those of the package are."""
    images, blob = waves(6, 48, 48, 1 if name == "photo-gray" else 3), shipped.read(name)
    sizes, psnrs = [], []
    for quality in (1, 25, 50, 75, 100):
        codec = HyperpriorCodec(model=blob, quality=quality, effort=level, tune="mse")
        payload = codec.encode(images)
        sizes.append(len(payload))
        psnrs.append(psnr(codec.decode(payload, GroupSpec.of(images)), images))
    assert all(a < b for a, b in pairwise(sizes)), sizes
    assert all(a < b for a, b in pairwise(psnrs)), psnrs


@pytest.mark.parametrize("optimised", [False, True])
@pytest.mark.parametrize("quality", [1, 60, 100])
@pytest.mark.parametrize("channels", [1, 3])
def test_bits_are_those_of_the_payload(blobs: dict[int, bytes], channels: int, quality: int, optimised: bool) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (3, 48, 40, channels), np.uint8)
    model = LoadedModel(blobs[channels])
    for images in (waves(5, 48, 40, channels), noise, waves(1, 3, 3, channels)):
        qualities = np.full(len(images), quality, np.uint8)
        with inference():
            integers = integers_of(model, images, qualities, optimised=optimised)
            n_bytes = len(payloads.write(model, qualities, integers.z, integers.passes))
        assert integers.bits(model).shape == (len(images),)
        assert abs(integers.bits(model).sum() / 8 - n_bytes) < 0.01 * n_bytes + 16


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    spread=st.sampled_from([0.3, 2.0, 50.0, 2000.0]),
    worth=st.sampled_from([0.0, 1e-4, 0.01, 1.0, 100.0]),
)
def test_optimised_integers_never_cost_more(seed: int, spread: float, worth: float) -> None:
    bits = _bits()
    rng = np.random.default_rng(seed)
    exact = torch.from_numpy(rng.normal(0, spread, (2, 5, 1, 60))).float()
    exact[0, 0, 0, :8] = torch.tensor([0, 0.5, -0.5, 1.5, -1.5, 255.0, 256.0, -256.4])
    index = torch.from_numpy(rng.integers(0, 81, exact.shape)).float()
    worths = torch.full((2, 5, 1, 1), worth)
    k = quantising.optimised(exact, index, bits, worths)
    nearest = torch.round(exact)
    assert ((k == nearest) | (k.abs() == nearest.abs() - 1)).all()
    assert (k * nearest >= 0).all()
    within = nearest.abs() < bits.shape[1]
    rows = index.long()[within]
    costs = [bits[rows, integers[within].abs().long()] for integers in (k, nearest)]
    assert (costs[0] <= costs[1]).all()
    assert torch.equal(k[~within], nearest[~within])
    if worth >= 100:
        assert (k[exact.frac().abs() < 0.2] == nearest[exact.frac().abs() < 0.2]).all()


@cache
def _bits() -> torch.Tensor:
    return torch.from_numpy(quantising.bits_of_magnitudes(LoadedModel(made(2))))


def test_optimised_groups_cost_less(blobs: dict[int, bytes]) -> None:
    images, model = waves(4, 40, 40, 3), LoadedModel(blobs[3])
    qualities = np.full(4, 40, np.uint8)
    with inference():
        plain, optimised = (integers_of(model, images, qualities, optimised=on).bits(model).sum() for on in (False, True))
    assert optimised < plain


# ---- what is refused


@pytest.mark.parametrize(
    ("name", "value"),
    [("quality", value) for value in (0, 101, -1, 1.5, 50.0, "x", "50", None, True)]
    + [("effort", value) for value in (0, 10, -1, 2.0, "2", None, False)]
    + [("tune", value) for value in ("x", "", "PSNR", None, 3, [])]
    + [("model_ref", value) for value in (1, "true", None)],
)
def test_bad_options(blobs: dict[int, bytes], name: str, value: Any) -> None:
    with pytest.raises(OptionError) as caught:
        HyperpriorCodec(model=blobs[1], **{name: value})
    assert caught.value.fields["name"] == name


def test_images_that_it_does_not_take(blobs: dict[int, bytes]) -> None:
    for channels in (1, 3):
        for dtype in ("uint16", "float32"):
            images = np.zeros((2, 8, 8, channels), dtype)
            codec = HyperpriorCodec(model=blobs[channels])
            with pytest.raises(UnsupportedImageError):
                codec.check(ImageSpec.of(images[0]))
            with pytest.raises(UnsupportedImageError):
                codec.encode(images)
            with pytest.raises(UnsupportedImageError):
                codec.decode(b"", GroupSpec.of(images))
    for model, channels in ((3, 1), (3, 2), (3, 4), (2, 1), (2, 3), (4, 3), (1, 5)):
        with pytest.raises(UnsupportedImageError):
            HyperpriorCodec(model=blobs[model]).encode(waves(1, 8, 8, channels))


def test_a_model_from_an_archive_can_only_decode(blobs: dict[int, bytes]) -> None:
    codec, images = HyperpriorCodec(model=blobs[1]), waves(2, 9, 9, 1)
    payload = codec.encode(images)
    reader = HyperpriorCodec.restore(codec.get_config(), codec.get_model())
    assert np.array_equal(reader.decode(payload, GroupSpec.of(images)), codec.decode(payload, GroupSpec.of(images)))
    assert reader.get_model() == codec.get_model()
    with pytest.raises(ModelError, match="no encoder"):
        reader.encode(images)


def test_large_images_are_made_in_strips(hyperprior_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Strips of the synthesis give the very pixels; those of the analysis give the same latents but for the last bits."""
    from batchcodec.learned.hyperprior import codec as module
    from batchcodec.learned.hyperprior import quantising

    codec = HyperpriorCodec(model=(hyperprior_models / "tiny-gray.safetensors").read_bytes(), quality=70, effort=1)
    images = picture((300, 24, 1))[None]
    payload = codec.encode(images)
    whole = codec.decode(payload, GroupSpec.of(images))
    monkeypatch.setattr(module, "STRIP_PIXELS", 1)
    monkeypatch.setattr(quantising, "STRIP_PIXELS", 1)
    assert np.array_equal(codec.decode(payload, GroupSpec.of(images)), whole)
    again = codec.decode(codec.encode(images), GroupSpec.of(images))
    assert (again != whole).mean() < 0.02
