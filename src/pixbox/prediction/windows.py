"""Where windows lie in a picture, and how much each of their pixels counts where they overlap."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Blend = Literal["gaussian", "flat"]
SizeHW = tuple[int, int]

_SIGMA = 1 / 8
"""Of the Gaussian, as a share of the window's side (Isensee et al. 2021, nnU-Net)."""
_LEAST = 1e-3
"""Weight along a side, as a share of the largest: a pixel that one window alone sees must count."""


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a picture, in pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def rows(self) -> slice:
        return slice(self.top, self.top + self.height)

    @property
    def columns(self) -> slice:
        return slice(self.left, self.left + self.width)


def window_size(asked: SizeHW, stride: int, picture_hw: SizeHW) -> SizeHW:
    """Height and width of every window: what was asked, up to a multiple of the network's stride, but no more
    than the picture has."""
    height, width = (min(-(-side // stride) * stride, whole) for side, whole in zip(asked, picture_hw, strict=True))
    return height, width


def starts(length: int, window: int, overlap: float, stride: int) -> list[int]:
    """Where the windows along one side of ``length`` pixels begin: the first at 0, all at multiples of ``stride``.

    ``window`` is a multiple of the stride, or all of the length. Neighbours share at least ``overlap``, in [0, 1), of a
    window. The last one ends at the side's end or, where the side is no multiple of the stride, less than one stride
    behind it. A network pads what it sees of a picture to the same place, so that in every window its grid lies as
    in the whole, and away from borders it says the same. An overlap that asks for steps shorter than the stride gets
    them, off the grid.
    """
    if window >= length:
        return [0]
    step = max(1, int(window * (1 - overlap)))
    grid = stride if step >= stride else 1
    most = -(-length // grid) - window // grid
    steps = -(-most // (step // grid))
    return [round(index * most / steps) * grid for index in range(steps + 1)]


def lay_windows(picture_hw: SizeHW, window_hw: SizeHW, overlap: float, stride: int) -> Iterator[list[Window]]:
    """Windows that together cover a picture, row by row, each row from left to right.

    Those that would reach past the picture's end are cut off there.
    """
    (high, wide), (height, width) = window_hw, picture_hw
    lefts = starts(width, wide, overlap, stride)
    for top in starts(height, high, overlap, stride):
        yield [Window(top, left, min(high, height - top), min(wide, width - left)) for left in lefts]


@lru_cache(maxsize=8)
def blend_weights(window_hw: SizeHW, blend: Blend) -> NDArray[np.float32]:
    """(h, w) float32, in (0, 1]: how much a window's pixels count. Read only.

    ``gaussian``: most in the middle, where the network sees a pixel's surroundings; ``flat``: all alike.
    """
    if blend == "flat":
        weights = np.ones(window_hw, dtype=np.float32)
    else:
        rows, columns = (_bell(side) for side in window_hw)
        weights = np.outer(rows, columns).astype(np.float32)
    weights.flags.writeable = False
    return weights


def _bell(side: int) -> NDArray[np.float64]:
    away = np.arange(side) + 0.5 - side / 2
    bell = np.exp(-0.5 * (away / (_SIGMA * side)) ** 2)
    # Along each side on its own: at the picture's border too, windows must pass into each other smoothly.
    return np.asarray(np.maximum(bell / bell.max(), _LEAST))
