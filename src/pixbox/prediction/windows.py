"""Where windows lie in a picture, and how much each of their pixels counts where they overlap."""

from __future__ import annotations

import math
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


def starts(length: int, window: int, overlap: float) -> list[int]:
    """Where the windows along one side of ``length`` pixels begin: evenly, the first at 0, the last at the end.

    ``window`` is at most ``length``; neighbours share at least ``overlap``, in [0, 1), of a window.
    """
    step = max(1, int(window * (1 - overlap)))
    count = 1 + -(-(length - window) // step)
    if count == 1:
        return [0]
    return [round(index * (length - window) / (count - 1)) for index in range(count)]


def lay_windows(picture_hw: SizeHW, window_hw: SizeHW, overlap: float) -> Iterator[list[Window]]:
    """Windows that together cover a picture, row by row, each row from left to right."""
    lefts = starts(picture_hw[1], window_hw[1], overlap)
    for top in starts(picture_hw[0], window_hw[0], overlap):
        yield [Window(top, left, *window_hw) for left in lefts]


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


def window_count(picture_hw: SizeHW, window_hw: SizeHW, overlap: float) -> int:
    """How many windows cover a picture."""
    return math.prod(len(starts(length, side, overlap)) for length, side in zip(picture_hw, window_hw, strict=True))
