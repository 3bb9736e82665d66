"""The loops of `similarity`, compiled: one pass over an image plane for SSIM at several scales."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import types

from batchcodec.entropy._jit import jit

Floats = npt.NDArray[np.float64]

_plane = types.Array(types.float64, 2, "C")
_planes = types.Array(types.float64, 3, "C")
_line = types.Array(types.float64, 1, "C")
_window = types.Array(types.float64, 1, "C", readonly=True)
_images = [types.Array(kind, 4, "C", readonly=True) for kind in (types.uint8, types.uint16)]


@jit(types.void(_plane, types.int64, types.int64, _window, _line, _line))
def filtered_line(plane: Floats, top: int, width: int, window: Floats, sums: Floats, out: Floats) -> None:
    """Weighted means over the windows whose upper edge is at `top`: `width - k + 1` numbers into `out`.

    One array is read and one written in each loop: with more of them the compiler cannot tell that they do not overlap, and
    makes no vector instructions.
    """
    k, middle = len(window), len(window) // 2
    weight, line = window[middle], plane[top + middle]
    for j in range(width):
        sums[j] = weight * line[j]
    for i in range(middle):  # the window is symmetric: two lines have one weight
        weight, line, other = window[i], plane[top + i], plane[top + k - 1 - i]
        for j in range(width):
            sums[j] += weight * (line[j] + other[j])
    n = width - k + 1
    weight, line = window[middle], sums[middle:]
    for j in range(n):
        out[j] = weight * line[j]
    for i in range(middle):
        weight, line, other = window[i], sums[i:], sums[k - 1 - i :]
        for j in range(n):
            out[j] += weight * (line[j] + other[j])


_two = types.Tuple((types.float64, types.float64))  # type: ignore[no-untyped-call]


@jit(_two(_planes, types.int64, types.int64, _window, types.float64, types.float64, _plane))
def plane_similarity(
    planes: Floats, height: int, width: int, window: Floats, c1: float, c2: float, room: Floats
) -> tuple[float, float]:
    """Mean SSIM and mean contrast-structure term of a plane, over the positions where the window fits.

    Of the moments only x, y, x^2 + y^2 and xy are filtered: SSIM has both variances as their sum alone.

    Args:
        planes: samples of x and of y, of which the first `height` by `width` count, and room for two more: [4, H, W].
        height: at least the window's length.
        width: the same.
        window: weights of one direction, symmetric, of sum 1 and odd length: [k].
        c1: stabilises the luminance term.
        c2: stabilises the contrast-structure term.
        room: for [8, width] numbers.
    """
    x, y, squares, product = planes[0], planes[1], planes[2], planes[3]
    for i in range(height):
        for j in range(width):
            squares[i, j] = x[i, j] * x[i, j] + y[i, j] * y[i, j]
        for j in range(width):
            product[i, j] = x[i, j] * y[i, j]
    out_height, out_width = height - len(window) + 1, width - len(window) + 1
    mean_x, mean_y, mean_squares, mean_product = room[0], room[1], room[2], room[3]
    structure, structures, similarities = (
        room[4],
        room[5],
        room[6],
    )  # sums over lines: lanes of a vector do not depend on others
    structures[:] = 0
    similarities[:] = 0
    for top in range(out_height):
        for plane in range(4):
            filtered_line(planes[plane], top, width, window, room[7], room[plane])
        for j in range(out_width):
            of_means, of_both = mean_x[j] * mean_x[j] + mean_y[j] * mean_y[j], mean_x[j] * mean_y[j]
            structure[j] = (2 * (mean_product[j] - of_both) + c2) / (mean_squares[j] - of_means + c2)
        for j in range(out_width):
            structures[j] += structure[j]
        for j in range(out_width):
            luminance = (2 * mean_x[j] * mean_y[j] + c1) / (mean_x[j] * mean_x[j] + mean_y[j] * mean_y[j] + c1)
            similarities[j] += structure[j] * luminance
    n = out_height * out_width
    return similarities[:out_width].sum() / n, structures[:out_width].sum() / n


@jit(types.void(_plane, types.int64, types.int64))
def halve(x: Floats, height: int, width: int) -> None:
    """Means of 2 by 2 samples, in place: [ceil(height / 2), ceil(width / 2)]; beyond an odd edge its samples are repeated."""
    for i in range((height + 1) // 2):
        below = min(2 * i + 1, height - 1)
        for j in range((width + 1) // 2):
            beside = min(2 * j + 1, width - 1)
            x[i, j] = 0.25 * (x[2 * i, 2 * j] + x[2 * i, beside] + x[below, 2 * j] + x[below, beside])


@jit(
    [
        types.void(kind, kind, _window, types.float64, types.float64, types.int64, types.Array(types.float64, 4, "C"))
        for kind in _images
    ]
)
def similarity(
    original: npt.NDArray[np.uint8 | np.uint16],
    decoded: npt.NDArray[np.uint8 | np.uint16],
    window: Floats,
    c1: float,
    c2: float,
    n_scales: int,
    out: Floats,
) -> None:
    """Mean SSIM and contrast-structure term of each image, channel and scale.

    Args:
        original: [N, H, W, C].
        decoded: the same.
        window: see `plane_similarity`.
        c1: see there.
        c2: see there.
        n_scales: at the last of which the window fits still.
        out: to be filled: [N, C, n_scales, 2].
    """
    n, height, width, channels = original.shape
    planes, room = np.empty((4, height, width)), np.empty((8, width))
    x, y = planes[0], planes[1]
    for item in range(n):
        for channel in range(channels):
            for i in range(height):
                for j in range(width):
                    x[i, j] = original[item, i, j, channel]
                    y[i, j] = decoded[item, i, j, channel]
            h, w = height, width
            for scale in range(n_scales):
                if scale:
                    halve(x, h, w)
                    halve(y, h, w)
                    h, w = (h + 1) // 2, (w + 1) // 2
                ssim, structure = plane_similarity(planes, h, w, window, c1, c2, room)
                out[item, channel, scale, 0] = ssim
                out[item, channel, scale, 1] = structure


@jit([types.void(kind, kind, types.Array(types.int64, 1, "C"), types.Array(types.int64, 1, "C")) for kind in _images])
def errors(
    original: npt.NDArray[np.uint8 | np.uint16],
    decoded: npt.NDArray[np.uint8 | np.uint16],
    squares: npt.NDArray[np.int64],
    largest: npt.NDArray[np.int64],
) -> None:
    """Sum of squared errors and largest absolute error of each image [N, H, W, C], as integers: [N] both."""
    n, height, width, channels = original.shape
    for item in range(n):
        total, most = np.int64(0), np.int64(0)
        for i in range(height):
            for j in range(width):
                for channel in range(channels):
                    error = np.int64(original[item, i, j, channel]) - np.int64(decoded[item, i, j, channel])
                    total += error * error
                    most = max(most, np.abs(error))
        squares[item] = total
        largest[item] = most
