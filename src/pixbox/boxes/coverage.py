"""Which boxes the anchors reach, and which anchors would reach more. Runs without a grid, on any number of boxes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pixbox.boxes.anchors import FIRST_STRIDE, Anchors

_SAMPLE = 20_000
_RESTARTS = 8
_LEAST_GAIN = 1e-4
_MEAN_DISTANCE = 0.25
"""Of a point from the nearest centre of a cell, along one side, in strides: it lies anywhere from 0 to a half."""
_FIRST_SIZE = 4 * FIRST_STRIDE * 2 ** (1 / 3)
"""The middle one of the three sizes per level of Lin et al. 2017, in pixels at stride 8."""


@dataclass(frozen=True, slots=True, eq=False)
class Coverage:
    """How well anchors fit boxes before any training.

    Attributes:
        best_ious: (N,) float64 in [0, 1]: of every box, the largest IoU with an anchor.
        iou_threshold: the IoU from which on a box counts as reached.
    """

    best_ious: NDArray[np.float64]
    iou_threshold: float

    @property
    def recall(self) -> float | None:
        """Share of the boxes that an anchor reaches; None without boxes."""
        return float((self.best_ious >= self.iou_threshold).mean()) if self.best_ious.size else None

    @property
    def mean_iou(self) -> float | None:
        """Mean of the boxes' best IoU; None without boxes."""
        return float(self.best_ious.mean()) if self.best_ious.size else None

    @property
    def unreached(self) -> NDArray[np.int64]:
        """Positions of the boxes that no anchor reaches, ascending."""
        return np.flatnonzero(self.best_ious < self.iou_threshold).astype(np.int64)


def anchor_coverage(
    boxes_xyxy: ArrayLike, anchors: Anchors, size_hw: ArrayLike, *, iou_threshold: float = 0.5
) -> Coverage:
    """What the anchors of inputs of ``size_hw`` reach of the boxes in them; arguments as in :func:`best_ious`."""
    return Coverage(best_ious(boxes_xyxy, anchors, size_hw), iou_threshold)


def best_ious(boxes_xyxy: ArrayLike, anchors: Anchors, size_hw: ArrayLike) -> NDArray[np.float64]:
    """Of every box, the largest IoU with any anchor of its input.

    ``boxes_xyxy`` is (N, 4), finite corners (x1, y1, x2, y2) in pixels of the input; they may reach beyond it.
    ``size_hw`` is the size of all inputs in pixels (after padding), or (N, 2) with one for each box. Returns (N,)
    float64 in [0, 1], what ``pairwise_iou`` with ``grid`` would give; 0 for a box without area.

    The overlap of two boxes of fixed sizes is a product of an overlap along x and one along y, and each falls with
    the distance of the centres. So of all anchors of one level and shape the nearest is the best.

    Raises:
        ValueError: the arrays have other shapes, or an input has no pixel.
    """
    boxes = _rows(boxes_xyxy, 4)
    sizes = np.broadcast_to(np.asarray(size_hw, dtype=np.int64), (len(boxes), 2))
    if (sizes < 1).any():
        raise ValueError("an input without pixels has no anchors")
    x1, y1, x2, y2 = boxes.T
    width, height = np.maximum(x2 - x1, 0), np.maximum(y2 - y1, 0)
    best = np.zeros(len(boxes))
    for level, shapes in enumerate(anchors.shapes):
        distance_x = _distance((x1 + x2) / 2, anchors, level, sizes[:, 1])
        distance_y = _distance((y1 + y2) / 2, anchors, level, sizes[:, 0])
        for anchor_width, anchor_height in shapes:
            overlap = _overlap(width, anchor_width, distance_x) * _overlap(height, anchor_height, distance_y)
            union = width * height + anchor_width * anchor_height - overlap
            np.maximum(best, overlap / union, out=best)
    return best


def _rows(values: ArrayLike, columns: int) -> NDArray[np.float64]:
    """The values as (N, columns) float64; anything empty is (0, columns)."""
    array = np.asarray(values, dtype=np.float64)
    if array.size and (array.ndim != 2 or array.shape[1] != columns):
        raise ValueError(f"boxes are (N, {columns}), not {array.shape}")
    return array.reshape(-1, columns)


def _distance(
    centre: NDArray[np.float64], anchors: Anchors, level: int, length: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(N,) pixels from each box centre to the nearest anchor centre, along one side."""
    count, step = anchors.cells(level, length)
    cell = np.clip(np.rint(centre / step - anchors.offset), 0, count - 1)
    return np.abs((cell + anchors.offset) * step - centre)


def _overlap(
    side: NDArray[np.float64], anchor_side: NDArray[np.float64] | float, distance: NDArray[np.float64] | float
) -> NDArray[np.float64]:
    """Pixels that intervals of two lengths share when their centres are ``distance`` apart; arrays are broadcast."""
    return np.clip((side + anchor_side) / 2 - distance, 0, np.minimum(side, anchor_side))


def suggest_anchors(boxes_wh: ArrayLike, count: int, levels: int, *, seed: int = 0) -> tuple[tuple[float, float], ...]:
    """Shapes for :func:`octave_anchors` that fit the boxes: k-means with the distance 1 - IoU.

    ``boxes_wh`` is (N, 2), widths and heights in pixels of the input; those without area or not finite are left out,
    and of more than 20,000 as many are taken, evenly spread over the areas. The order of the boxes does not matter.
    Returns (width, height) in pixels at stride 8 by growing area: ``count`` of them, or fewer where the boxes have
    fewer different shapes. A pure function of its arguments.

    A shape stands for its doubles on all ``levels``, so a box belongs to the shape and level that fit it best when
    centres are shared, and a shape moves to the mean of its boxes, each halved as many times as its level asks for.
    Several runs start from different boxes. They differ little in that IoU but may in the levels they use, and on a
    grid coarse levels meet fewer boxes. So the run is kept whose mean IoU is largest with centres as far apart as
    they are on average on the grid of their level.

    Raises:
        ValueError: the array has another shape.

    Source: Redmon and Farhadi 2017, YOLO9000, section 2 (Dimension Clusters).
    """
    boxes = _spread_sample(_rows(boxes_wh, 2))
    if not len(boxes):
        return ()
    bits = np.random.PCG64(seed)
    runs = [_cluster(boxes, _first_shapes(boxes, count, levels, bits), levels) for _ in range(_RESTARTS)]
    shapes = max(runs, key=lambda run: _fit(boxes, run, levels, apart=_MEAN_DISTANCE)[0].mean())
    return tuple(sorted(((float(w), float(h)) for w, h in shapes), key=lambda shape: (shape[0] * shape[1], shape)))


def _spread_sample(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    boxes = boxes[(np.isfinite(boxes) & (boxes > 0)).all(axis=1)]
    boxes = boxes[np.lexsort((boxes[:, 0], boxes.prod(axis=1)))]
    return boxes[np.linspace(0, len(boxes) - 1, min(len(boxes), _SAMPLE)).round().astype(np.int64)]


def _first_shapes(boxes: NDArray[np.float64], count: int, levels: int, bits: np.random.PCG64) -> NDArray[np.float64]:
    """At most ``count`` of the boxes, unlike each other, folded to the level that has their size in Lin et al. 2017.

    Source: Arthur and Vassilvitskii 2007, k-means++.
    """
    level = np.log2(np.sqrt(boxes.prod(axis=1)) / _FIRST_SIZE).round().clip(0, levels - 1)
    folded = boxes / 2 ** level[:, None]
    shapes: NDArray[np.float64] = folded[:0]
    squared_distance = np.ones(len(boxes))
    while len(shapes) < count and squared_distance.any():
        # Raw bits: numpy may change the streams of its generators, not those of its bit sources.
        reached = np.cumsum(squared_distance)
        drawn = np.searchsorted(reached, (bits.random_raw() >> 11) * 2.0**-53 * reached[-1], side="right")
        shapes = np.vstack((shapes, folded[drawn]))
        squared_distance = (1 - _fit(boxes, shapes, levels, apart=0.0)[0]) ** 2
    return shapes


def _cluster(boxes: NDArray[np.float64], shapes: NDArray[np.float64], levels: int) -> NDArray[np.float64]:
    """The shapes, moved until the mean IoU of the boxes grows no more."""
    best, best_mean = shapes, 0.0
    while True:
        iou, nearest, level = _fit(boxes, shapes, levels, apart=0.0)
        mean = float(iou.mean())
        if mean < best_mean + _LEAST_GAIN:
            return best if mean < best_mean else shapes
        best, best_mean = shapes, mean
        folded = boxes / 2.0 ** level[:, None]
        members = [folded[nearest == k] for k in range(len(shapes))]
        shapes = np.array([own.mean(axis=0) if len(own) else shapes[k] for k, own in enumerate(members)])


def _fit(
    boxes: NDArray[np.float64], shapes: NDArray[np.float64], levels: int, *, apart: float
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Of every box, its IoU with the shape that fits best, which shape, and at which level.

    ``apart`` is the distance of their centres along x and along y, in strides of the level.
    """
    widths, heights = boxes[:, :1], boxes[:, 1:]
    best = np.zeros((len(boxes), len(shapes)))
    level = np.zeros(best.shape, dtype=np.int64)
    for candidate in range(levels):
        shape_widths, shape_heights = shapes.T * 2**candidate
        distance = apart * FIRST_STRIDE * 2**candidate
        overlap = _overlap(widths, shape_widths, distance) * _overlap(heights, shape_heights, distance)
        iou = overlap / (widths * heights + shape_widths * shape_heights - overlap)
        level[iou > best] = candidate
        np.maximum(best, iou, out=best)
    nearest = best.argmax(axis=1)
    rows = np.arange(len(boxes))
    return best[rows, nearest], nearest, level[rows, nearest]
