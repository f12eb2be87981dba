"""The regions of a mask and their borders, along the edges of the pixels: nothing is smoothed or left out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixbox.labels import IGNORE

Corners = NDArray[np.int32]
"""(K, 2) x, y: the corners of a closed border in the pixels of the picture, the first not repeated."""

_NONE = -1
_CORNER_XY = np.array([(0, 0), (1, 0), (1, 1), (0, 1)])
"""Where, seen from a pixel, its upper, right, lower and left edge begin."""


@dataclass(frozen=True, slots=True)
class Region:
    """Pixels of one class that hang together by their edges; those that meet at a corner only are two regions.

    Attributes:
        index: of the class.
        pixels: how many.
        outline: the border around it. A single pixel at row 0, column 0 has (0, 0), (1, 0), (1, 1), (0, 1): clockwise
            as one sees it, which is positive area in x and y.
        holes: borders of what it encloses, the other way round. No border touches itself; two of them may meet at a
            corner.
    """

    index: int
    pixels: int
    outline: Corners
    holes: tuple[Corners, ...]


def find_regions(mask: NDArray[np.uint8]) -> list[Region]:
    """The regions of a mask, (H, W) uint8 class indices, by their first pixel, row by row; ``IGNORE`` has none."""
    return _regions(mask, _numbered(mask))


def cut_holes(mask: NDArray[np.uint8], regions: Sequence[Region]) -> list[list[Corners]]:
    """For each of the regions that ``find_regions`` saw in the mask, outlines of parts that have no holes.

    The parts do not overlap and are together the region. It is cut from the upper end of each hole to the left and to
    the right, as far as the next border: whoever walks around a hole then crosses two cuts, so no part goes around it.
    """
    numbers = _numbered(mask)
    owners = [int(numbers[y, x]) for x, y in (region.outline[0] for region in regions)]
    holed = np.zeros(numbers.max(initial=0) + 1, dtype=np.bool_)
    cuts = []
    for owner, region in zip(owners, regions, strict=True):
        for hole in region.holes:
            holed[owner] = True
            last = int(np.lexsort(hole.T)[0])
            # Borders of holes run westwards along their upper end.
            (left, y), right = hole[last], hole[last - 1, 0]
            cuts += [(y, left - 1), (y, right)]
    parts: dict[int, list[Corners]] = {}
    of_holed = np.where(holed[numbers], numbers, _NONE)
    for _, outline in _rings(_connected(of_holed, np.array(cuts, dtype=np.int64).reshape(-1, 2))):
        x, y = outline[0]
        parts.setdefault(int(numbers[y, x]), []).append(outline)
    return [parts[o] if region.holes else [region.outline] for o, region in zip(owners, regions, strict=True)]


def _numbered(mask: NDArray[np.uint8]) -> NDArray[np.int32]:
    """(H, W): from 0, the number of the region of each pixel; ``IGNORE`` has none."""
    return _connected(np.where(mask == IGNORE, _NONE, mask.astype(np.int16)), np.zeros((0, 2), dtype=np.int64))


def _connected(values: NDArray[Any], cuts: NDArray[np.int64]) -> NDArray[np.int32]:
    """(H, W): from 0, which of the connected sets of pixels of one value each belongs to; for -1 it is none.

    ``cuts`` are (K, 2) rows and columns. There, the pixels that lie in one row and belong together are parted from the
    same in the row above; either row keeps its own.
    """
    # It takes as long to import as all the rest of the results, and most need no outlines.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not values.size:
        return np.zeros(values.shape, dtype=np.int32)
    begins = np.ones(values.shape, dtype=np.bool_)
    begins[:, 1:] = values[:, 1:] != values[:, :-1]
    run = (np.cumsum(begins.ravel(), dtype=np.int32) - 1).reshape(values.shape)
    runs = int(run[-1, -1]) + 1
    # Two runs, one below the other, are seen to meet where the later of the two begins.
    meet = (values[1:] == values[:-1]) & (begins[1:] | begins[:-1])
    upper, lower = run[:-1][meet], run[1:][meet]
    rows, columns = cuts.T
    cut = np.isin(
        upper.astype(np.int64) * runs + lower, run[rows - 1, columns].astype(np.int64) * runs + run[rows, columns]
    )
    upper, lower = upper[~cut], lower[~cut]
    links = coo_array((np.ones(len(upper), dtype=np.bool_), (upper, lower)), shape=(runs, runs))
    numbers = connected_components(links, directed=False)[1].astype(np.int32)
    return np.where(values == _NONE, np.int32(_NONE), numbers[run])


def _regions(mask: NDArray[np.uint8], numbers: NDArray[np.int32]) -> list[Region]:
    sizes = np.bincount(numbers.ravel() + 1)
    rings: dict[int, list[Corners]] = {}
    for number, ring in _rings(numbers):
        # The border around a region holds its first pixel, so it comes before those of the holes.
        rings.setdefault(number, []).append(ring)
    return [
        Region(int(mask[outline[0, 1], outline[0, 0]]), int(sizes[number + 1]), outline, tuple(holes))
        for number, (outline, *holes) in rings.items()
    ]


def _rings(numbers: NDArray[np.int32]) -> Iterable[tuple[int, Corners]]:
    """The number of a region and one of its borders, in the order of the borders' first pixels."""
    height, width = numbers.shape
    framed = np.full((height + 2, width + 2), _NONE, dtype=np.int32)
    framed[1:-1, 1:-1] = numbers
    owner = framed.ravel()
    # Each edge of a pixel whose other side is another region is walked once, with the pixel on the right: the upper
    # one eastwards (heading 0), the right one southwards (1), the lower westwards (2), the left northwards (3).
    step = np.array([1, width + 2, -1, -width - 2])
    inside = np.flatnonzero(owner != _NONE)
    edges = [inside[owner[inside] != owner[inside + step[heading - 1]]] for heading in range(4)]
    pixel, heading = np.concatenate(edges), np.repeat(np.arange(4), [len(part) for part in edges])
    ahead = pixel + step[heading]
    ahead_left = ahead + step[heading - 1]
    left, straight = owner[ahead_left] == owner[pixel], owner[ahead] == owner[pixel]
    # Left before right where both are open: so no border touches itself.
    next_pixel = np.where(left, ahead_left, np.where(straight, ahead, pixel))
    next_heading = (heading + np.where(left, 3, np.where(straight, 0, 1))) % 4
    key, next_key = (h * owner.size + p for h, p in ((heading, pixel), (next_heading, next_pixel)))
    following = np.searchsorted(key, next_key)
    order, ends = _walk(following, len(edges[0]))
    turns = np.empty(len(order), dtype=np.bool_)
    turns[following] = heading != next_heading
    corner = order[turns[order]]
    xy = np.stack([pixel[corner] % (width + 2), pixel[corner] // (width + 2)], axis=1) - 1 + _CORNER_XY[heading[corner]]
    corners_before = np.concatenate(([0], np.cumsum(turns[order])[ends - 1])) if len(ends) else np.zeros(1, np.int64)
    firsts = owner[pixel[order[np.concatenate(([0], ends[:-1]))]]] if len(ends) else ()
    places = xy.astype(np.int32)
    for number, start, end in zip(firsts, corners_before[:-1], corners_before[1:], strict=True):
        yield int(number), places[start:end]


def _walk(following: NDArray[np.int64], starts: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All closed walks, one after another, and where in that row each ends; one begins at each of the first ``starts``
    edges that no former walk has passed.
    """
    follow = following.tolist()
    passed = bytearray(len(follow))
    order: list[int] = []
    ends: list[int] = []
    for edge in range(starts):
        if not passed[edge]:
            while not passed[edge]:
                passed[edge] = 1
                order.append(edge)
                edge = follow[edge]
            ends.append(len(order))
    return np.array(order, dtype=np.int64), np.array(ends, dtype=np.int64)
