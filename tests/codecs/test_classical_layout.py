"""The grid of a mosaic and the table of lengths, on any shape."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from batchcodec_plugins.codecs.layout import Grid, MosaicRule, join_pictures, split_pictures
from hypothesis import given
from hypothesis import strategies as st

from batchcodec.errors import PayloadError
from batchcodec.types import GroupSpec, ImageSpec

specs = st.builds(
    lambda n, height, width, channels: GroupSpec(n, ImageSpec(height, width, channels)),
    st.integers(1, 60),
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 4),
)
rules = st.none() | st.builds(MosaicRule, st.integers(40, 400), st.integers(1, 60_000), st.sampled_from([1, 8, 16]))


@given(specs, rules, st.integers(0, 2**32))
def test_every_item_comes_back_from_its_picture(spec, rule, seed):
    images = np.random.default_rng(seed).integers(0, 256, spec.shape, dtype=np.uint8)
    grid = Grid.of(spec, rule)
    pictures = [grid.compose(images, index) for index in range(grid.n_pictures)]
    for index, picture in enumerate(pictures):
        assert picture.shape == (*grid.picture_size(index), spec.image.channels)
        assert picture.flags.c_contiguous
    for item in range(spec.n_items):
        assert np.array_equal(grid.cut(pictures[item // grid.per_picture], item), images[item])


@given(specs, rules)
def test_pictures_keep_to_the_limits(spec, rule):
    grid = Grid.of(spec, rule)
    assert [item for index in range(grid.n_pictures) for item in grid.tiles(index)] == list(range(spec.n_items))
    for index in range(grid.n_pictures):
        height, width = grid.picture_size(index)
        if rule is None:
            assert (height, width) == spec.shape[1:3]
            continue
        assert max(height, width) <= rule.max_side
        tile_area = grid.tile_height * grid.tile_width
        assert len(grid.tiles(index)) * tile_area <= max(rule.max_pixels, tile_area)
        assert height * width - len(grid.tiles(index)) * tile_area < width * grid.tile_height  # less than a row is empty


@given(specs)
def test_a_whole_mosaic_is_nearly_square(spec):
    grid = Grid.of(spec, MosaicRule(10_000))
    height, width = grid.picture_size(0)
    assert grid.n_pictures == 1
    if 1 < grid.columns < spec.n_items:
        assert (grid.columns - 1) ** 2 * grid.tile_width < spec.n_items * grid.tile_height <= grid.columns**2 * grid.tile_width
        assert abs(height - width) <= math.ceil(2 * max(grid.tile_height, grid.tile_width))


def test_the_rule_is_frozen():
    """Grids that existing archives depend on."""

    def of(n, height, width, channels, **rule):
        grid = Grid.of(GroupSpec(n, ImageSpec(height, width, channels)), MosaicRule(**rule))
        return grid.n_pictures, grid.per_picture, grid.columns, grid.picture_size(0), grid.picture_size(grid.n_pictures - 1)

    assert of(1000, 64, 64, 1, max_side=16_383, colour_multiple=8) == (1, 1000, 32, (2048, 2048), (2048, 2048))
    assert of(1000, 28, 28, 3, max_side=16_383, colour_multiple=8) == (1, 1000, 32, (1024, 1024), (1024, 1024))
    assert of(1000, 28, 28, 1, max_side=16_383, colour_multiple=8) == (1, 1000, 32, (896, 896), (896, 896))
    assert of(5, 100, 10, 1, max_side=16_383) == (1, 5, 5, (100, 50), (100, 50))
    assert of(1000, 256, 256, 3, max_side=16_383) == (4, 250, 16, (4096, 4096), (4096, 4096))
    assert of(7, 60, 60, 1, max_side=130) == (2, 4, 2, (120, 120), (120, 120))
    assert of(3, 9000, 9000, 3, max_side=16_383) == (3, 1, 1, (9000, 9000), (9000, 9000))


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=40))
def test_lengths_round_trip(pictures):
    payload = join_pictures(pictures)
    assert [bytes(picture) for picture in split_pictures(payload, len(pictures))] == pictures
    for wrong in (len(pictures) + len(payload), 0):
        with pytest.raises(PayloadError):
            split_pictures(payload, wrong)
    with pytest.raises(PayloadError):
        split_pictures(payload + b"x", len(pictures))


@given(st.binary(max_size=60), st.integers(0, 70))
def test_any_bytes_split_or_are_refused(payload, n_pictures):
    try:
        pictures = split_pictures(payload, n_pictures)
    except PayloadError:
        return
    assert len(pictures) == n_pictures


@given(rules.filter(bool))
def test_rule_survives_json(rule):
    assert MosaicRule.from_config(json.loads(json.dumps(rule.to_config()))) == rule


@pytest.mark.parametrize(
    "config",
    [None, 3, [], {}, {"max_side": 10}, {"max_side": 10, "max_pixels": True, "colour_multiple": 1}]
    + [{"max_side": side, "max_pixels": 100, "colour_multiple": 8} for side in (0, -1, 1 << 40, 1.5, "9", None)],
)
def test_a_bad_rule_is_refused(config):
    with pytest.raises(PayloadError):
        MosaicRule.from_config(config)
