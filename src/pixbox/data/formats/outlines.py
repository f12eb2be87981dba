"""Outlines of what annotation tools draw: turned rectangles and ellipses, (K, 2) float64 x, y in pixels.

What is not finite stays so; the audit says where.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ELLIPSE_POINTS = 64


def rectangle(left: float, top: float, width: float, height: float) -> NDArray[np.float64]:
    """Its four corners, the upper left one first, clockwise as seen."""
    right, bottom = left + width, top + height
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], dtype=np.float64)


def ellipse(x: float, y: float, radius_x: float, radius_y: float) -> NDArray[np.float64]:
    """64 points on an ellipse about (x, y)."""
    angles = np.linspace(0, 2 * np.pi, _ELLIPSE_POINTS, endpoint=False)
    with np.errstate(invalid="ignore"):
        return np.stack([x + radius_x * np.cos(angles), y + radius_y * np.sin(angles)], axis=1)


def turned(outline: NDArray[np.float64], degrees: float, about_xy: tuple[float, float]) -> NDArray[np.float64]:
    """The outline turned clockwise, as seen with y downwards."""
    with np.errstate(invalid="ignore"):
        sine, cosine = np.sin(np.radians(degrees)), np.cos(np.radians(degrees))
        x, y = (outline - about_xy).T
        return np.stack([x * cosine - y * sine, x * sine + y * cosine], axis=1) + about_xy


def box_around(outline: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """(x1, y1, x2, y2); NaN where a point is."""
    (x1, y1), (x2, y2) = outline.min(axis=0).tolist(), outline.max(axis=0).tolist()
    return x1, y1, x2, y2


def placed(part: NDArray[np.bool_], left: int, top: int, size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """A picture of this size that holds the part from there on; what reaches outside is left out."""
    pixels = np.zeros(size_hw, dtype=np.bool_)
    height, width = size_hw
    inside = part[max(-top, 0) : max(height - top, 0), max(-left, 0) : max(width - left, 0)]
    rows, columns = inside.shape
    pixels[max(top, 0) : max(top, 0) + rows, max(left, 0) : max(left, 0) + columns] = inside
    return pixels
