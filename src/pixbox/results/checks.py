"""What every result must hold to be one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_ROUNDING = 1e-3
"""How far the probabilities of a pixel may be from one together: averages of many looks, in half precision."""


def check_picture(image: NDArray[Any]) -> None:
    """Raises ValueError if it is not (H, W, 3) uint8."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(f"a picture is (H, W, 3) uint8, not {image.shape} {image.dtype}")


def check_probabilities(values: NDArray[Any], shape: tuple[int, ...]) -> None:
    """Raises ValueError if they are not float32 of this shape, from 0 to 1, that sum to one over the first axis."""
    if values.shape != shape or values.dtype != np.float32:
        raise ValueError(f"probabilities are {values.shape} {values.dtype}, expected {shape} float32")
    # Also true where one is NaN.
    if not (values.min() >= 0 and values.max() <= 1 + _ROUNDING):
        raise ValueError(f"probabilities lie within 0 and 1, not within {values.min():g} and {values.max():g}")
    sums = values.sum(axis=0)
    if not np.abs(sums - 1).max() <= _ROUNDING:
        raise ValueError(f"probabilities of all classes sum to 1, not to between {sums.min():g} and {sums.max():g}")
