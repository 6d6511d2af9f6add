"""Resizing one image, in integers: the same pixels on every machine, with torch or without.

Training, evaluation and prediction resize here, so that a deployed student sees what it was tested on.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Integers = NDArray[np.int64]


def resize(pixels: Pixels, size: tuple[int, int], how: str = "squash") -> Pixels:
    """(H, W, C) -> (height, width, C) = ``size``: means over areas along a side that shrinks, bilinear otherwise.

    how: "squash" shows all of the image, whatever becomes of its proportions; "crop" the central square of its shorter
    side; "pad" all of it in its proportions, as large as fits, with black beside or above and below it.

    An area is of all pixels that an output pixel touches; a bilinear value lies between pixel centres. Both are
    rounded to the nearest integer, halves to even. Halving the size is the mean of 2x2 pixels.
    """
    if pixels.shape[:2] == size:
        return pixels
    if how == "pad":
        return _padded(pixels, size)
    if how == "crop":
        pixels = _central_square(pixels)
    rows, weights = _sums(pixels, size[0])
    sums, weights_across = _sums(rows.swapaxes(0, 1), size[1])
    # Sums and weights are integers below 2^53: the quotient is rounded once, so that a half is seen as a half.
    means = sums.swapaxes(0, 1) / (weights[:, None, None] * weights_across[:, None])
    return np.rint(means).astype(np.uint8)


def _central_square(pixels: Pixels) -> Pixels:
    side = min(pixels.shape[:2])
    top, left = (pixels.shape[0] - side) // 2, (pixels.shape[1] - side) // 2
    return pixels[top : top + side, left : left + side]


def _padded(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    (height, width), (high, wide) = pixels.shape[:2], size
    if height * wide > width * high:
        inner = high, max(1, round(width * high / height))
    else:
        inner = max(1, round(height * wide / width)), wide
    top, left = round((high - inner[0]) / 2), round((wide - inner[1]) / 2)  # where Pillow's ImageOps.pad has it
    padded = np.zeros((*size, pixels.shape[2]), dtype=np.uint8)
    padded[top : top + inner[0], left : left + inner[1]] = resize(pixels, inner)
    return padded


def _sums(values: NDArray[Any], size: int) -> tuple[Integers, Integers]:
    return _area_sums(values, size) if size <= len(values) else _bilinear_sums(values, size)


def _area_sums(values: NDArray[Any], size: int) -> tuple[Integers, Integers]:
    """Sums over the parts of the first axis, (length, ...) -> (size, ...), and how many values each has (size,)."""
    place = np.arange(size, dtype=np.int64)
    first, end = place * len(values) // size, -(-(place + 1) * len(values) // size)
    sums = np.zeros((size, *values.shape[1:]), dtype=np.int64)
    for offset in range(int((end - first).max())):
        inside = first + offset < end
        sums[inside] += values[first[inside] + offset]
    return sums, end - first


def _bilinear_sums(values: NDArray[Any], size: int) -> tuple[Integers, Integers]:
    """Weighted sums of neighbours along the first axis, (length, ...) -> (size, ...), and their weights' sums (size,).

    Output i lies at (i + 1/2) * length / size - 1/2, at 0 or more: in units of 1 / (2 * size) that is an integer.
    """
    unit = 2 * size
    at = np.maximum((2 * np.arange(size, dtype=np.int64) + 1) * len(values) - size, 0)
    lower, share = np.divmod(at, unit)
    upper = np.minimum(lower + 1, len(values) - 1)
    share = share.reshape(-1, *[1] * (values.ndim - 1))
    return values[lower] * (unit - share) + values[upper] * share, np.full(size, unit, dtype=np.int64)
