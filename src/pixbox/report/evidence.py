"""What a run and an evaluation leave behind, as pages and the doctor read it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

History = Sequence[Mapping[str, float | None]]
"""The rows of metrics.csv, oldest first."""

Confusion = Mapping[tuple[int, int], int]
"""(true class, predicted class) -> how many; pairs that do not occur may be left out."""


SCORE_NAMES: Mapping[str, str] = {
    "miou": "mIoU",
    "pixel_accuracy": "pixel accuracy",
    "mean_accuracy": "mean class accuracy",
    "frequency_weighted_iou": "frequency-weighted IoU",
    "map": "mAP",
    "map_50": "AP50",
    "map_75": "AP75",
    "mar_100": "recall with 100 boxes",
    "voc_map_50": "VOC AP50",
    "voc07_map_50": "VOC AP50 of 11 points",
    "accuracy": "accuracy",
    "top5_accuracy": "top-5 accuracy",
}
"""What the scores of metrics.csv are called in words."""


def counted(confusion: NDArray[np.int64]) -> Confusion:
    """The same of an (N, N) matrix; row: true class, column: predicted class."""
    return {
        (truth, predicted): int(confusion[truth, predicted]) for truth, predicted in np.argwhere(confusion).tolist()
    }


def points(history: History, column: str) -> list[tuple[float, float]]:
    """(epoch, value) of a column, where the run wrote a finite number down."""
    pairs = [(row.get("epoch"), row.get(column)) for row in history]
    return [(x, y) for x, y in pairs if x is not None and y is not None and math.isfinite(y)]
