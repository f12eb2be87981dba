"""Pictures with known content, and draws with known values."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray


class GivenDraws(np.random.Generator):
    """A generator whose uniform draws are given instead of random."""

    def __init__(self, values: list[float]) -> None:
        super().__init__(np.random.Philox(0))
        self._values = values

    def random(self, size: int) -> NDArray[np.float64]:  # type: ignore[override]
        assert size == len(self._values)
        return np.array(self._values)


@pytest.fixture
def given_draws() -> type[GivenDraws]:
    """Makes a generator that answers with the seven draws: zoom, angle, shear, two mirrors, top, left."""
    return GivenDraws


@pytest.fixture
def photo() -> NDArray[np.uint8]:
    """(180, 240, 3) uint8: smooth shading, hard edges and fine texture, as photographs have."""
    rng = np.random.default_rng(7)
    picture = cv2.GaussianBlur(rng.normal(128, 400, (180, 240, 3)), (0, 0), 12)
    for _ in range(40):
        x, y, w, h = rng.integers((0, 0, 3, 3), (240, 180, 60, 60))
        picture[y : y + h, x : x + w] = rng.integers(0, 255, 3)
    picture += cv2.GaussianBlur(rng.normal(0, 25, picture.shape), (0, 0), 0.7)
    return np.clip(picture, 0, 255).astype(np.uint8)


@pytest.fixture
def rotation() -> Callable[[float, float, tuple[int, int], tuple[int, int]], NDArray[np.float64]]:
    """(scale, degrees counter-clockwise, from_hw, to_hw) -> (2, 3) matrix about both centres."""

    def make(scale: float, degrees: float, from_hw: tuple[int, int], to_hw: tuple[int, int]) -> NDArray[np.float64]:
        cos, sin = scale * np.cos(np.deg2rad(degrees)), scale * np.sin(np.deg2rad(degrees))
        linear = np.array([[cos, sin], [-sin, cos]])
        center = np.array(to_hw[::-1]) / 2 - linear @ np.array(from_hw[::-1]) / 2
        return np.column_stack([linear, center])

    return make
