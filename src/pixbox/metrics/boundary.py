"""How well predicted boundaries lie where the true ones are, summed over a whole data set."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pixbox.labels import IGNORE

BAND = 0.02
"""Width of the band of boundary IoU, share of the picture's diagonal."""
TOLERANCE = 0.0075
"""How far apart contours of the boundary F-score may be, share of the picture's diagonal."""

_NEIGHBOURS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], dtype=np.uint8)
_AT_ONCE = 1 << 24
"""Pixels; what is computed of each takes 16 bytes. Most pictures are one strip."""
# Distances are float32; those that can occur lie further apart.
_ROUNDING = 1e-4


@dataclass(frozen=True, slots=True)
class BoundaryMetrics:
    """Scores as fractions; None where undefined.

    Attributes:
        boundary_iou: mean of the defined ``class_boundary_iou``.
        boundary_f1: mean of the defined ``class_boundary_f1``.
        class_boundary_iou: by class name; None for a class in neither truth nor prediction.
        class_boundary_f1: by class name; None for a class without a contour that could be judged.
    """

    boundary_iou: float | None
    boundary_f1: float | None
    class_boundary_iou: dict[str, float | None]
    class_boundary_f1: dict[str, float | None]


class BoundaryScores:
    """Counts of pixels at boundaries over any number of pictures; those of several processes add up.

    Boundary IoU compares bands: the pixels of a class that are nearer than 2 % of the diagonal to a pixel that is not
    of it, or to the picture's edge, in the square sense (at least one pixel). Ignored pixels are in no band and no
    neighbour: what lies there is unknown, in the prediction as in the truth.

    The boundary F-score compares contours: the pixels of a class with one of the four neighbours in another class; the
    picture's edge is none. Recall is the share of the true contour that has predicted contour of its class within
    0.75 % of the diagonal, precision the reverse. Predicted contour within that distance of an ignored pixel is not
    judged, since the true one may be hidden there.

    Counts are summed over the data set before they are divided, as those of IoU are; the papers average pictures.

    Source: Cheng et al. 2021, Boundary IoU, section 5 and its published code; Csurka et al. 2013, What is a good
    evaluation measure for semantic segmentation?, section 3.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.intersection = np.zeros(num_classes, dtype=np.int64)
        self.union = np.zeros(num_classes, dtype=np.int64)
        # Contour pixels: (2, N), row 0 those that found a partner, row 1 all.
        self.predicted = np.zeros((2, num_classes), dtype=np.int64)
        self.true = np.zeros((2, num_classes), dtype=np.int64)

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Count a picture: both (H, W) uint8 on any device, 0..N-1, the target also ``IGNORE``.

        Raises:
            ValueError: the shapes differ, or a class is not below N.
        """
        if prediction.shape != target.shape or prediction.ndim != 2:
            raise ValueError(f"prediction {tuple(prediction.shape)} and target {tuple(target.shape)} are no two (H, W)")
        found, true = (part.cpu().numpy().astype(np.uint8, copy=False) for part in (prediction, target))
        void = true == IGNORE
        highest = max(int(found.max(initial=0)), int(true[~void].max(initial=0)))
        if highest >= self.num_classes:
            raise ValueError(f"class {highest}, but there are {self.num_classes} classes")
        diagonal = math.hypot(*true.shape)
        width, reach = max(1, round(BAND * diagonal)), TOLERANCE * diagonal
        for strip in _strips(true.shape, max(width, math.ceil(reach) + 1)):
            part = found[strip.seen], true[strip.seen], void[strip.seen]
            self._compare_bands(*part, strip, width)
            self._compare_contours(*part, strip, reach)

    def merge(self, other: BoundaryScores) -> None:
        """Add the counts of another part of the data set, of as many classes."""
        for own, others in (
            (self.intersection, other.intersection),
            (self.union, other.union),
            (self.predicted, other.predicted),
            (self.true, other.true),
        ):
            own += others

    def compute(self, names: Sequence[str]) -> BoundaryMetrics:
        """Scores by class name (``names`` in the order of the indices)."""
        iou = [i / u if u else None for i, u in zip(self.intersection.tolist(), self.union.tolist(), strict=True)]
        f1 = [_f1(*counts) for counts in np.concatenate((self.predicted, self.true)).T.tolist()]
        return BoundaryMetrics(
            boundary_iou=_mean(iou),
            boundary_f1=_mean(f1),
            class_boundary_iou=dict(zip(names, iou, strict=True)),
            class_boundary_f1=dict(zip(names, f1, strict=True)),
        )

    def _compare_bands(
        self, found: NDArray[np.uint8], true: NDArray[np.uint8], void: NDArray[np.bool_], strip: _Strip, width: int
    ) -> None:
        square = np.ones((2 * width + 1, 2 * width + 1), dtype=np.uint8)
        edge = np.ones(true.shape, dtype=np.bool_)
        inner = slice(max(0, width - strip.seen.start), max(0, strip.height - width - strip.seen.start))
        edge[inner, width:-width] = False
        rows = strip.counted
        found_band, true_band = (((_meets_others(part, void, square) | edge) & ~void)[rows] for part in (found, true))
        found, true = found[rows], true[rows]
        shared = self._count(true[found_band & true_band & (found == true)])
        self.intersection += shared
        self.union += self._count(found[found_band]) + self._count(true[true_band]) - shared

    def _compare_contours(
        self, found: NDArray[np.uint8], true: NDArray[np.uint8], void: NDArray[np.bool_], strip: _Strip, reach: float
    ) -> None:
        found_contour = np.where(_meets_others(found, None, _NEIGHBOURS), found, IGNORE)
        true_contour = np.where(_meets_others(true, void, _NEIGHBOURS), true, IGNORE)
        judged = np.where(_near(void, reach), IGNORE, found_contour) if void.any() else found_contour
        for counts, contour, others in (
            (self.predicted, judged, true_contour),
            (self.true, true_contour, found_contour),
        ):
            own = np.full_like(contour, IGNORE)
            own[strip.counted] = contour[strip.counted]
            counts += self._count(_with_partner(own, others, reach)), self._count(own[own != IGNORE])

    def _count(self, classes: NDArray[np.uint8]) -> NDArray[np.int64]:
        return np.bincount(classes, minlength=self.num_classes)


@dataclass(frozen=True, slots=True)
class _Strip:
    """Rows of a picture that are worked on at once: which are ``seen``, and which of these are ``counted``."""

    seen: slice
    counted: slice
    height: int


def _strips(size_hw: tuple[int, ...], around: int) -> Iterator[_Strip]:
    """Parts of a picture that count every row once and see ``around`` more rows on both sides."""
    height, width = size_hw
    step = max(4 * around, _AT_ONCE // width)
    for first in range(0, height, step):
        last = min(first + step, height)
        top = max(0, first - around)
        yield _Strip(slice(top, min(height, last + around)), slice(first - top, last - top), height)


def _meets_others(
    classes: NDArray[np.uint8], void: NDArray[np.bool_] | None, around: NDArray[np.uint8]
) -> NDArray[np.bool_]:
    """Where a pixel has one of another class around it; ``void`` ones are of no class. For all classes at once."""
    low, high = (classes, classes) if void is None else (np.where(void, np.uint8(fill), classes) for fill in (255, 0))
    # Beyond the picture's edge OpenCV's erosion and dilation find nothing.
    differs: NDArray[np.bool_] = (cv2.erode(low, around) != classes) | (cv2.dilate(high, around) != classes)
    return differs


def _near(what: NDArray[np.bool_], reach: float) -> NDArray[np.bool_]:
    """The pixels that are not further than ``reach`` from one of ``what``, of which there is one at least."""
    distance = cv2.distanceTransform((~what).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    near: NDArray[np.bool_] = distance <= reach + _ROUNDING
    return near


def _with_partner(contour: NDArray[np.uint8], others: NDArray[np.uint8], reach: float) -> NDArray[np.uint8]:
    """The classes of those pixels of a contour that have one of their class in the other within reach.

    Both are (H, W) class indices, ``IGNORE`` where there is no contour. Only the pixels of the contour are looked at,
    of all classes together, and no more once they have met: a map of distances for each class takes ten times as long.
    """
    margin = math.floor(reach + _ROUNDING)
    field = np.pad(others, margin, constant_values=IGNORE)
    places = np.flatnonzero(np.pad(contour != IGNORE, margin))
    classes = contour[contour != IGNORE]
    met = []
    for step in _steps_within(reach, field.shape[1]):
        meets = field.take(places + step) == classes
        met.append(classes[meets])
        places, classes = places[~meets], classes[~meets]
    return np.concatenate(met)


def _steps_within(reach: float, row: int) -> list[int]:
    """Steps to all pixels within reach, the nearest first, in a flat array with rows of this length."""
    margin = math.floor(reach + _ROUNDING)
    down, right = np.mgrid[-margin : margin + 1, -margin : margin + 1].reshape(2, -1)
    distance = np.hypot(down, right)
    order = np.argsort(distance, kind="stable")
    steps: list[int] = (down * row + right)[order[distance[order] <= reach + _ROUNDING]].tolist()
    return steps


def _f1(predicted_met: int, predicted: int, true_met: int, true: int) -> float | None:
    """From contour pixels with a partner, and all, of both; None where there is nothing to compare."""
    if predicted == 0 and true == 0:
        return None
    if predicted_met == 0 and true_met == 0:
        return 0.0
    if predicted == 0 or true == 0:
        # All that met the other contour lies where nothing is judged.
        return None
    precision, recall = predicted_met / predicted, true_met / true
    return 2 * precision * recall / (precision + recall)


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None
