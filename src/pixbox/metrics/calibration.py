"""Whether a model is right as often as it is confident."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

BINS = 15
"""As many as Guo et al. use."""

_UNITS = 1 << 24
"""Confidences are summed as whole numbers of this fraction: such sums depend on no order, so not on processes."""

_AT_ONCE = 1 << 22
"""Predictions: what is computed of each takes 40 bytes, and pictures may have 400 million pixels."""


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """Predictions with a confidence in (low, high].

    Attributes:
        count: how many.
        confidence: their mean confidence; None if there are none.
        accuracy: share of them that is right; None if there are none.
    """

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


class CalibrationScores:
    """Predictions counted by confidence in 15 bins of equal width; those of several processes add up.

    Source: Guo et al. 2017, On calibration of modern neural networks, section 2.
    """

    def __init__(self) -> None:
        self._count = [0] * BINS
        self._right = [0] * BINS
        self._confidence = [0] * BINS

    def update(self, confidence: Tensor, right: Tensor) -> None:
        """Count predictions: ``confidence`` float in 0..1 and ``right`` bool, of one shape, on one device.

        Raises:
            ValueError: the shapes differ.
        """
        if confidence.shape != right.shape:
            raise ValueError(f"confidence {tuple(confidence.shape)} and right {tuple(right.shape)} differ in shape")
        for some in zip(*(torch.split(part.flatten(), _AT_ONCE) for part in (confidence, right)), strict=True):
            self._count_some(*some)

    def _count_some(self, confidence: Tensor, right: Tensor) -> None:
        confidence = confidence.float().clamp(0, 1)
        place = (confidence * BINS).ceil_().sub_(1).clamp_(min=0).to(torch.int64)
        # Whole numbers below 2^53 are exact in float64, so these sums are.
        units = (confidence.double() * _UNITS).round_()
        for own, found in (
            (self._count, torch.bincount(place, minlength=BINS)),
            (self._right, torch.bincount(place[right], minlength=BINS)),
            (self._confidence, torch.bincount(place, weights=units, minlength=BINS)),
        ):
            own[:] = [a + int(b) for a, b in zip(own, found.tolist(), strict=True)]

    def merge(self, other: CalibrationScores) -> None:
        """Add the counts of another part of the data set."""
        for own, others in (
            (self._count, other._count),
            (self._right, other._right),
            (self._confidence, other._confidence),
        ):
            own[:] = [a + b for a, b in zip(own, others, strict=True)]

    def ece(self) -> float | None:
        """Expected calibration error: mean distance of confidence and accuracy over the predictions, bin by bin.

        None if nothing was counted.
        """
        total = sum(self._count)
        distance = sum(abs(c / _UNITS - r) for c, r in zip(self._confidence, self._right, strict=True))
        return distance / total if total else None

    def bins(self) -> tuple[CalibrationBin, ...]:
        """All 15 bins, the least confident first."""
        edges = [index / BINS for index in range(BINS + 1)]
        return tuple(
            CalibrationBin(low, high, n, c / _UNITS / n if n else None, r / n if n else None)
            for (low, high), n, c, r in zip(
                itertools.pairwise(edges), self._count, self._confidence, self._right, strict=True
            )
        )
