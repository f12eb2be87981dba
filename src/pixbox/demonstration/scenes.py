"""Aerial scenes drawn by rule: roads, buildings with cast shadows, vegetation, bare ground; exact masks and boxes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixbox.demonstration.world import (
    BACKGROUND,
    BUILDING,
    MARGIN,
    Sun,
    World,
    build,
    lay_ground,
    lay_roads,
    pave,
    photograph,
    plant,
)

_SLIVER = 10
"""Pixels; of a building with less than this inside the picture, high or wide, nobody could tell what it is."""


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture with its truth for every task.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        mask: (H, W) uint8 with ``BACKGROUND``, ``BUILDING``, ``VEGETATION`` and ``ROAD``: the grey value of what is
            drawn topmost at each pixel.
        buildings_xyxy: (N, 4) int64, the smallest box around the roof of each building, in pixels from the upper left
            corner of the picture, which cuts it. A crown that hangs over a roof hides pixels of it but does not make
            its box smaller or two of it.
        slivers: (N,) bool; buildings of which the picture's border leaves too little to be told.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    buildings_xyxy: NDArray[np.int64]
    slivers: NDArray[np.bool_]


def draw_scene(seed: int, index: int, size_hw: tuple[int, int] = (256, 256)) -> Scene:
    """One scene; a pure function of its arguments."""
    rng = np.random.default_rng([seed, index])
    high, wide = size_hw[0] + 2 * MARGIN, size_hw[1] + 2 * MARGIN
    azimuth = rng.uniform(0, 2 * np.pi)
    sun = Sun(np.array([np.cos(azimuth), np.sin(azimuth)], dtype=np.float32), rng.uniform(0.7, 1.2))
    world = World(
        rng,
        sun,
        albedo=lay_ground(rng, (high, wide)),
        mask=np.full((high, wide), BACKGROUND, dtype=np.uint8),
        shadow=np.zeros((high, wide), dtype=np.uint8),
        roofs=np.zeros((high, wide), dtype=np.int32),
    )
    roads = lay_roads(rng, world.size_hw)
    pave(world, roads)
    build(world, roads)
    relief = plant(world, roads)
    picture = photograph(world, relief)
    inside = slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN)
    return Scene(
        np.ascontiguousarray(picture[inside]),
        np.ascontiguousarray(world.mask[inside]),
        *_buildings(world.roofs[inside], world.mask[inside]),
    )


def _buildings(roofs: NDArray[np.int32], mask: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The box of each building and whether it is a sliver. One that crowns hide altogether has no box."""
    boxes, slivers = [], []
    for number in np.unique(roofs[mask == BUILDING]).tolist():
        rows, columns = np.nonzero(roofs == number)
        top, bottom, left, right = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
        boxes.append((left, top, right, bottom))
        slivers.append(min(bottom - top, right - left) < _SLIVER)
    return np.array(boxes, dtype=np.int64).reshape(-1, 4), np.array(slivers, dtype=np.bool_)
