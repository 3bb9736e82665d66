"""The codec `autoencoder-1`: one set of pixels whatever the entropy coder, the sizes and the items that are asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import picture
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchcodec.entropy.codes import ENTROPY_CODERS
from batchcodec.errors import ModelError, OptionError, PayloadError, UnsupportedImageError
from batchcodec.learned import model_file
from batchcodec.learned.autoencoder import AutoencoderCodec
from batchcodec.learned.data import load_images
from batchcodec.preprocess import Preprocess
from batchcodec.testing import check_codec
from batchcodec.types import GroupSpec, ImageSpec, Pixels

BENCHMARK_MODELS = Path(__file__).parents[2] / "benchmarks" / "models"
SIZES = [(1, 1), (28, 28), (65, 33), (8, 8), (7, 200)]


@pytest.fixture(scope="module")
def gray_model(tiny_model: Path) -> bytes:
    return tiny_model.read_bytes()


@pytest.fixture(scope="module")
def rgb_model(tiny_rgb_model: Path) -> bytes:
    return tiny_rgb_model.read_bytes()


def _images(height: int, width: int, channels: int = 1, n: int = 3) -> Pixels:
    return np.stack([picture((height, width, channels), i) for i in range(n)])


def _decoded(codec: AutoencoderCodec, images: Pixels) -> Pixels:
    return codec.decode(codec.encode(images), GroupSpec.of(images))


@pytest.mark.parametrize("size", SIZES)
def test_all_entropy_coders_give_the_same_pixels(size: tuple[int, int], gray_model: bytes) -> None:
    images = _images(*size)
    decoded = [_decoded(AutoencoderCodec(model=gray_model, entropy=kind), images) for kind in ENTROPY_CODERS]
    assert decoded[0].shape == images.shape
    assert all(np.array_equal(decoded[0], other) for other in decoded[1:])


@pytest.mark.parametrize("entropy", ENTROPY_CODERS)
@pytest.mark.parametrize("size", SIZES)
def test_gray_conforms(size: tuple[int, int], entropy: str, gray_model: bytes) -> None:
    check_codec(AutoencoderCodec(model=gray_model, entropy=entropy), _images(*size), n_damaged=4)


@pytest.mark.parametrize("size", SIZES)
def test_rgb_conforms(size: tuple[int, int], rgb_model: bytes) -> None:
    check_codec(AutoencoderCodec(model=rgb_model), _images(*size, channels=3), n_damaged=4)


def test_payload_sizes(gray_model: bytes, gray_32: list[Pixels]) -> None:
    images = np.stack(gray_32)
    sizes = {kind: len(AutoencoderCodec(model=gray_model, entropy=kind).encode(images)) for kind in ENTROPY_CODERS}
    n_symbols = 64 * 4 * 4 * 4  # items, latent channels, 32 / 8 each way
    assert sizes["none"] == n_symbols
    assert sizes["zstd"] < n_symbols
    assert sizes["rans"] <= sizes["huffman"] * 1.05 < n_symbols


def test_the_items_of_the_tests_can_be_told_apart(gray_model: bytes, rgb_model: bytes) -> None:
    """Else the tests of order and of subsets would show nothing."""
    for model, channels in ((gray_model, 1), (rgb_model, 3)):
        decoded = _decoded(AutoencoderCodec(model=model), _images(28, 28, channels)).astype(int)
        assert np.abs(decoded[0] - decoded[1]).mean() > 10
        assert np.abs(decoded - _images(28, 28, channels)).mean() < 25


@pytest.mark.parametrize(("height", "width"), [(28, 28), (65, 33), (1, 1)])
def test_images_are_continued_at_their_edges(height: int, width: int, gray_model: bytes) -> None:
    images, codec = _images(height, width), AutoencoderCodec(model=gray_model)
    padded = np.pad(images, ((0, 0), (0, -height % 8), (0, -width % 8), (0, 0)), mode="edge")
    assert codec.encode(images) == codec.encode(padded)
    assert np.array_equal(_decoded(codec, images), _decoded(codec, padded)[:, :height, :width])


def test_decode_of_some_items(gray_model: bytes) -> None:
    images, codec = _images(28, 28, n=9), AutoencoderCodec(model=gray_model)
    payload, spec = codec.encode(images), GroupSpec.of(images)
    whole = codec.decode(payload, spec).astype(int)
    for items in ([], [8], [3, 1, 1]):
        assert np.abs(codec.decode(payload, spec, items).astype(int) - whole[items]).max(initial=0) <= 1


def test_restore_decodes_and_cannot_encode(gray_model: bytes) -> None:
    images, codec = _images(28, 28), AutoencoderCodec(model=gray_model, entropy="huffman")
    stored = codec.get_model()
    restored = AutoencoderCodec.restore(codec.get_config(), stored)
    assert np.array_equal(restored.decode(codec.encode(images), GroupSpec.of(images)), _decoded(codec, images))
    assert restored.get_model() == stored
    assert len(stored) < len(gray_model)
    assert not any(name.startswith("encoder.") for name in model_file.parse(stored)[0])
    with pytest.raises(ModelError, match="no encoder and can only decode"):
        restored.encode(images)


def test_the_model_of_an_archive_is_refused_for_packing(gray_model: bytes, tmp_path: Path) -> None:
    import batchcodec

    decoder_only = tmp_path / "decoder"
    decoder_only.write_bytes(AutoencoderCodec(model=gray_model).get_model())
    np.save(tmp_path / "x.npy", _images(16, 16)[..., 0])
    with pytest.raises(ModelError, match="can only decode"):
        batchcodec.pack(
            tmp_path / "x.npy", tmp_path / "a.cpack", batchcodec.PackOptions(codec="autoencoder-1", model=decoder_only)
        )
    assert not (tmp_path / "a.cpack").exists()


def test_other_images_are_refused(gray_model: bytes) -> None:
    codec = AutoencoderCodec(model=gray_model)
    for spec in (ImageSpec(8, 8, 3), ImageSpec(8, 8, 1, "uint16"), ImageSpec(8, 8, 2)):
        with pytest.raises(UnsupportedImageError):
            codec.check(spec)
    with pytest.raises(UnsupportedImageError):
        codec.encode(_images(8, 8, 3))


def test_bad_options(gray_model: bytes) -> None:
    with pytest.raises(OptionError):
        AutoencoderCodec(model=gray_model, entropy="lzma")
    with pytest.raises(ModelError):
        AutoencoderCodec.restore({"entropy": "lzma"}, gray_model)
    with pytest.raises(ModelError):
        AutoencoderCodec.restore({}, gray_model)


# ---- bits of channels


@given(bits=st.lists(st.integers(0, 8), min_size=4, max_size=4), entropy=st.sampled_from(ENTROPY_CODERS))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bits_round_trip(bits: list[int], entropy: str, gray_model: bytes) -> None:
    """What comes back is what the decoder makes of the nearest that the cells have, whatever coder it went through."""
    images = _images(17, 24)
    codec = AutoencoderCodec(model=gray_model, entropy=entropy, bits_map=bits)
    payload = codec.encode(images)
    restored = AutoencoderCodec.restore(codec.get_config(), codec.get_model())
    decoded = restored.decode(payload, GroupSpec.of(images))
    cells, quantiser = codec._cells, codec._quantiser
    latents = cells.values_of(cells.numbers_of(quantiser.quantise(codec._analysed(images))))
    np.testing.assert_array_equal(decoded, codec._synthesised(latents)[:, :17, :24])
    if entropy == "none":
        assert len(payload) == -(-sum(bits) * 3 * 3 * 3 // 8)
    if not any(bits):
        assert payload == b""


@pytest.mark.parametrize("entropy", ENTROPY_CODERS)
@pytest.mark.parametrize("options", [{"bits": 3}, {"bits": "auto:2.5"}, {"bits_map": [0, 5, 8, 1]}], ids=str)
def test_bits_conform(options: dict[str, Any], entropy: str, gray_model: bytes) -> None:
    check_codec(AutoencoderCodec(model=gray_model, entropy=entropy, **options), _images(28, 28), n_damaged=6)


@pytest.mark.parametrize("entropy", ENTROPY_CODERS)
def test_no_bits_at_all(entropy: str, gray_model: bytes) -> None:
    """All images are one, and a payload has no bytes."""
    images = _images(28, 28)
    codec = AutoencoderCodec(model=gray_model, entropy=entropy, bits_map=[0] * 4)
    check_codec(codec, images, n_damaged=0)
    decoded = _decoded(codec, images)
    assert codec.encode(images) == b""
    assert (decoded == decoded[:1]).all()
    with pytest.raises(PayloadError, match="got 1 bytes"):
        codec.decode(b"\0", GroupSpec.of(images))


@pytest.mark.parametrize("entropy", ENTROPY_CODERS)
def test_eight_bits_are_what_there_always_was(entropy: str, gray_model: bytes) -> None:
    images = _images(28, 28)
    codec = AutoencoderCodec(model=gray_model, entropy=entropy)
    for options in ({"bits": 8}, {"bits_map": [8] * 4}):
        other = AutoencoderCodec(model=gray_model, entropy=entropy, **options)
        assert other.get_config() == codec.get_config() == {"entropy": entropy}
        assert other.encode(images) == codec.encode(images)


def test_fewer_bits_are_smaller_and_further_off(gray_model: bytes, gray_32: list[Pixels]) -> None:
    images = np.stack(gray_32)
    for entropy in ENTROPY_CODERS:
        sizes, errors = [], []
        for bits in (1, 2, 4, 6, 8):
            codec = AutoencoderCodec(model=gray_model, entropy=entropy, bits=bits)
            sizes.append(len(codec.encode(images)))
            errors.append(float(np.square(_decoded(codec, images) - images.astype(float)).mean()))
        assert sizes == sorted(sizes)
        assert errors[0] > errors[1] > 1.05 * errors[4]


def test_automatic_bits_keep_to_their_average(gray_model: bytes) -> None:
    for average in (0, 0.5, 2, 2.75):
        assert AutoencoderCodec(model=gray_model, entropy="none", bits=f"auto:{average}")._cells.bits.mean() == average
    for average in (4.5, 8):  # levels that this model never uses need no bits
        assert 3 <= AutoencoderCodec(model=gray_model, entropy="none", bits=f"auto:{average}")._cells.bits.mean() <= average
    assert not AutoencoderCodec(model=gray_model, bits="auto:0")._cells.bits.any()


def test_automatic_bits_do_not_go_where_they_do_not_serve(gray_model: bytes) -> None:
    """A channel that the decoder does not look at gets none."""
    tensors, document = model_file.parse(gray_model)
    tensors["decoder.0.0.weight"] = tensors["decoder.0.0.weight"].copy()
    tensors["decoder.0.0.weight"][:, 2] = 0
    deaf = AutoencoderCodec(model=model_file.dump(tensors, document), entropy="none", bits="auto:2")._cells.bits
    assert deaf[2] == 0
    assert deaf.sum() == 8


@pytest.mark.parametrize("entropy", ["none", "rans"])
@pytest.mark.parametrize("loss", ["mse", "rate2.5"])
def test_automatic_bits_on_real_images(loss: str, entropy: str, data: Path) -> None:
    """As many bits in all channels take as many bytes and are far worse; `benchmarks/bits.py` has all of it."""
    items = load_images(data / "fashion-mnist" / "t10k-images-idx3-ubyte.gz", Preprocess(size=(64, 64)))
    images = np.stack([items[i] for i in range(0, 10_000, 100)])
    model = (BENCHMARK_MODELS / f"fashion64-latent12-{loss}.safetensors").read_bytes()
    alike, auto = (AutoencoderCodec(model=model, entropy=entropy, bits=bits) for bits in (3, "auto:3"))
    assert len(auto.encode(images)) <= 1.03 * len(alike.encode(images))
    errors = [float(np.square(_decoded(codec, images) - images.astype(float)).mean()) for codec in (auto, alike)]
    assert errors[0] < 0.85 * errors[1]


def test_automatic_bits_are_the_same_again(gray_model: bytes) -> None:
    """Also for the model that an archive holds."""
    first, again = (AutoencoderCodec(model=gray_model, bits="auto:4.5") for _ in range(2))
    stored = AutoencoderCodec(model=first.get_model(), bits="auto:4.5")
    assert first.get_config() == again.get_config() == stored.get_config()


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"bits": 0}, "bits"),
        ({"bits": "auto:9"}, "bits"),
        ({"bits_map": [8, 8, 8]}, "bits-map"),
        ({"bits_map": [8, 8, 8, 9]}, "bits-map"),
        ({"bits_map": "no such file"}, "bits-map"),
        ({"bits_map": [8] * 4, "bits": 4}, "bits-map"),
    ],
    ids=str,
)
def test_bad_bits(options: dict[str, Any], name: str, gray_model: bytes) -> None:
    with pytest.raises(OptionError, match=f"option {name}: got"):
        AutoencoderCodec(model=gray_model, **options)


@pytest.mark.parametrize(
    "config",
    [
        {"precision": {"entropy": "none", "bits": [8, 8, 8]}},
        {"precision": {"entropy": "none", "bits": [8, 8, 8, 9]}},
        {"precision": {"entropy": "none", "bits": [8, 8, 8, -1]}},
        {"precision": {"entropy": "none", "bits": [8, 8, 8, True]}},
        {"precision": {"entropy": "none", "bits": [8, 8, 8, 4.0]}},
        {"precision": {"entropy": "none", "bits": "bits.json"}},
        {"precision": {"entropy": "none", "bits": 4}},
        {"precision": {"entropy": "none"}},
        {"precision": {"entropy": "lzma", "bits": [4] * 4}},
        {"precision": {"bits": [4] * 4}},
        {"precision": {"entropy": "none", "bits": [4] * 4, "more": 1}},
        {"precision": []},
        {"entropy": "none", "precision": {"entropy": "none", "bits": [4] * 4}},
        {"entropy": "none", "more": 1},
    ],
    ids=str,
)
def test_configs_that_are_none(config: dict[str, Any], gray_model: bytes) -> None:
    with pytest.raises(ModelError):
        AutoencoderCodec.restore(config, gray_model)


def test_versions_that_know_no_precision_refuse_it(gray_model: bytes) -> None:
    """They look at the entropy coder alone."""
    assert "entropy" not in AutoencoderCodec(model=gray_model, bits=4).get_config()


def test_fields_of_another_length_are_refused(gray_model: bytes) -> None:
    codec, images = AutoencoderCodec(model=gray_model, entropy="none", bits=3), _images(16, 16)
    payload = codec.encode(images)
    for bad in (payload[:-1], payload + b"\0", b"", payload * 2):
        with pytest.raises(PayloadError, match="fields of 4 rows"):
            codec.decode(bad, GroupSpec.of(images))


@pytest.mark.parametrize("entropy", ENTROPY_CODERS)
def test_a_payload_of_other_images_is_refused(entropy: str, gray_model: bytes) -> None:
    codec = AutoencoderCodec(model=gray_model, entropy=entropy)
    payload = codec.encode(_images(16, 16))
    with pytest.raises(PayloadError):
        codec.decode(payload, GroupSpec(300, ImageSpec(64, 64, 1)))


def test_an_archive_of_mixed_sizes(gray_model: bytes, tmp_path: Path) -> None:
    from PIL import Image

    import batchcodec

    (tmp_path / "m").write_bytes(gray_model)
    (tmp_path / "source").mkdir()
    for i, (height, width) in enumerate(SIZES):
        Image.fromarray(picture((height, width), i)).save(tmp_path / "source" / f"{i}.png")
    options = batchcodec.PackOptions(codec="autoencoder-1", model=tmp_path / "m")
    report = batchcodec.pack(tmp_path / "source", tmp_path / "a.cpack", options)
    assert report.n_items == len(SIZES)
    assert not report.lossless
    with batchcodec.open(tmp_path / "a.cpack") as archive:
        assert [item.pixels.shape[:2] for item in archive] == SIZES
