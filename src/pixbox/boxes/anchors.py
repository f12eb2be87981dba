"""Anchors: the boxes a detector starts from, the same shapes at every cell of every level of a feature pyramid."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Extent = TypeVar("Extent", int, NDArray[np.int64])

FIRST_STRIDE = 8
"""Pixels between the cells of P3, the finest level of Lin et al. 2017."""


@dataclass(frozen=True, slots=True)
class Anchors:
    """The anchors of a detector, before the size of its input is known.

    Attributes:
        strides: of each level, the pixels of the input between two cells; growing.
        shapes: of each level, the (width, height) in input pixels of the anchors at every cell. All levels have
            equally many, because one head serves all of them.
        offset: where in its cell, as a fraction of the step between cells, an anchor's centre is. In the middle
            (0.5) the grid leaves the same room at both ends of the picture, and a mirrored picture has mirrored
            anchors. Torchvision puts it at the top left corner (0.0).
        even_steps: the step is the input's size divided by the number of cells, rounded down, as in torchvision,
            instead of the stride. The two agree where the stride divides the size.

    Raises:
        ValueError: the levels do not agree, or a number is not positive.
    """

    strides: tuple[int, ...]
    shapes: tuple[tuple[tuple[float, float], ...], ...]
    offset: float = 0.5
    even_steps: bool = False

    def __post_init__(self) -> None:
        if not self.strides or len(self.strides) != len(self.shapes):
            raise ValueError(f"{len(self.strides)} strides for {len(self.shapes)} levels of anchor shapes")
        counts = [len(level) for level in self.shapes]
        if min(counts) < 1 or len(set(counts)) > 1:
            raise ValueError(f"every level needs equally many anchor shapes, at least one, not {counts}")
        if self.strides[0] < 1 or any(a >= b for a, b in itertools.pairwise(self.strides)):
            raise ValueError(f"strides are whole pixels and grow from level to level, not {self.strides}")
        for shape in itertools.chain.from_iterable(self.shapes):
            if len(shape) != 2 or not all(0 < side < math.inf for side in shape):
                raise ValueError(f"an anchor shape is a positive width and height in pixels, not {shape}")
        if not 0 <= self.offset <= 1:
            raise ValueError(f"the offset is a fraction of a step from 0 to 1, not {self.offset}")

    def cells(self, level: int, length: Extent) -> tuple[Extent, Extent]:
        """Along a side of ``length`` > 0 pixels: the number of cells at ``level`` and the pixels between them.

        The number is that of a network whose every halving rounds up, as padded convolutions of stride 2 do.
        """
        count = -(-length // self.strides[level])
        return count, length // count if self.even_steps else count * 0 + self.strides[level]

    def level_lengths(self, size_hw: tuple[int, int]) -> list[int]:
        """How many anchors each level has in an input of ``size_hw`` pixels, each side at least 1."""
        return [
            self.cells(level, size_hw[0])[0] * self.cells(level, size_hw[1])[0] * len(shapes)
            for level, shapes in enumerate(self.shapes)
        ]


def octave_anchors(shapes_wh: Iterable[tuple[float, float]], levels: int) -> Anchors:
    """``levels`` levels of strides 8, 16, 32, ...; the (width, height) in pixels are those at stride 8 and double."""
    base = [(float(width), float(height)) for width, height in shapes_wh]
    scales = [2**level for level in range(levels)]
    return Anchors(
        strides=tuple(FIRST_STRIDE * scale for scale in scales),
        shapes=tuple(tuple((width * scale, height * scale) for width, height in base) for scale in scales),
    )


def paper_anchors() -> Anchors:
    """Nine shapes on P3 to P7: areas of 4 strides squared times 1, 2^(2/3), 2^(4/3), each as 2:1, 1:1 and 1:2.

    Source: Lin et al. 2017, Focal Loss for Dense Object Detection, section 4.
    """
    sizes = [4 * FIRST_STRIDE * 2 ** (third / 3) for third in range(3)]
    return octave_anchors([(size / math.sqrt(r), size * math.sqrt(r)) for r in (0.5, 1, 2) for size in sizes], levels=5)


def compact_anchors() -> Anchors:
    """Three shapes of one area on P3 to P6, a square and two of 1:2: a third of the work of the paper's nine."""
    return octave_anchors([(28, 28), (19.8, 39.6), (39.6, 19.8)], levels=4)


def torchvision_anchors() -> Anchors:
    """The anchors of torchvision's RetinaNet, to the pixel, which its trained weights ask for.

    They are the paper's but for sizes rounded down, half sides rounded, and centres at the corners of cells.
    """
    levels = []
    for size in (32, 64, 128, 256, 512):
        sizes = [int(size * 2 ** (third / 3)) for third in range(3)]
        sides = [(s / math.sqrt(ratio), s * math.sqrt(ratio)) for ratio in (0.5, 1, 2) for s in sizes]
        levels.append(tuple((2.0 * round(width / 2), 2.0 * round(height / 2)) for width, height in sides))
    return Anchors(strides=(8, 16, 32, 64, 128), shapes=tuple(levels), offset=0.0, even_steps=True)


def grid(anchors: Anchors, size_hw: tuple[int, int], device: torch.device | str = "cpu") -> Tensor:
    """All anchors of an input of ``size_hw`` pixels (after padding), at ``device``.

    Returns (K, 4) float32 corners (x1, y1, x2, y2) in pixels of the input, ordered by level, row, column and shape.
    Those at the border reach beyond it. The tensor is shared between calls: do not write to it.

    Raises:
        ValueError: the input has no pixel.
    """
    # A tensor made while torch traces or exports is a stand-in, which must not be kept for later calls.
    if torch.compiler.is_compiling():
        return _lay_out(anchors, size_hw, torch.device(device))
    return _kept_grid(anchors, (size_hw[0], size_hw[1]), torch.device(device))


@functools.lru_cache(maxsize=16)
def _kept_grid(anchors: Anchors, size_hw: tuple[int, int], device: torch.device) -> Tensor:
    # A tensor made in inference mode could not take part in training afterwards.
    with torch.inference_mode(False):
        return _lay_out(anchors, size_hw, device)


def _lay_out(anchors: Anchors, size_hw: tuple[int, int], device: torch.device) -> Tensor:
    height, width = size_hw
    if height < 1 or width < 1:
        raise ValueError(f"an input of {height}x{width} pixels has no anchors")
    levels = []
    for level, shapes in enumerate(anchors.shapes):
        y, x = (_centres(anchors, level, length, device) for length in (height, width))
        centres = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)[:, :, None]
        half = torch.tensor(shapes, dtype=torch.float32, device=device) / 2
        levels.append(torch.cat((centres - half, centres + half), dim=-1).flatten(0, 2))
    return torch.cat(levels)


def _centres(anchors: Anchors, level: int, length: int, device: torch.device) -> Tensor:
    count, step = anchors.cells(level, length)
    return (torch.arange(count, dtype=torch.float32, device=device) + anchors.offset) * step
