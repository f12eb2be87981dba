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


def counted(confusion: NDArray[np.int64]) -> Confusion:
    """The same of an (N, N) matrix; row: true class, column: predicted class."""
    return {
        (truth, predicted): int(confusion[truth, predicted]) for truth, predicted in np.argwhere(confusion).tolist()
    }


def points(history: History, column: str) -> list[tuple[float, float]]:
    """(epoch, value) of a column, where the run wrote a finite number down."""
    pairs = [(row.get("epoch"), row.get(column)) for row in history]
    return [(x, y) for x, y in pairs if x is not None and y is not None and math.isfinite(y)]
