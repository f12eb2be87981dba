"""The world of the sample scenes, built as the world is: ground, roads, buildings, trees, one sun, then a camera.

Colours are shared between the classes on purpose (grey roofs and asphalt, brown roofs and soil, dry grass and
crowns, shadows over everything), so that shape and surroundings must be learned, not colours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

BACKGROUND, BUILDING, VEGETATION, ROAD = 0, 76, 150, 255
"""Grey values in the masks."""

MARGIN = 32
"""The world is this many pixels larger than the picture on every side: shadows and crowns reach in from outside."""

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]
Color = tuple[float, float, float]

_GROUNDS: tuple[Color, ...] = (
    (0.50, 0.41, 0.31),  # soil
    (0.38, 0.31, 0.24),  # damp soil
    (0.58, 0.56, 0.52),  # gravel
    (0.59, 0.54, 0.38),  # straw
    (0.50, 0.49, 0.32),  # dry grass
    (0.46, 0.46, 0.28),  # grass
)
_SURFACES: tuple[Color, ...] = (
    (0.30, 0.30, 0.31),  # fresh asphalt
    (0.44, 0.43, 0.43),  # worn asphalt
    (0.60, 0.58, 0.55),  # concrete
    (0.54, 0.46, 0.36),  # dirt
)
_DIRT = 3
_CARS: tuple[Color, ...] = ((0.75, 0.75, 0.76), (0.15, 0.15, 0.17), (0.50, 0.16, 0.15), (0.25, 0.30, 0.42))
_ROOFS: tuple[Color, ...] = (
    (0.45, 0.45, 0.46),  # grey sheet
    (0.28, 0.28, 0.30),  # slate
    (0.52, 0.31, 0.24),  # red tile
    (0.45, 0.35, 0.27),  # brown tile
    (0.80, 0.79, 0.76),  # white
    (0.60, 0.55, 0.46),  # sand
)
_CROWNS: tuple[Color, ...] = (
    (0.24, 0.33, 0.16),
    (0.30, 0.37, 0.18),
    (0.20, 0.29, 0.17),
    (0.31, 0.37, 0.18),
    (0.36, 0.36, 0.18),  # autumn
)
_VERGE = np.array([0.52, 0.49, 0.43], dtype=np.float32)
_PAINT = np.array([0.86, 0.85, 0.80], dtype=np.float32)
_HAZE = np.array([0.66, 0.70, 0.76], dtype=np.float32)


@dataclass(frozen=True)
class Sun:
    """Where the light comes from.

    Attributes:
        away: unit vector (x, y) on the ground along which shadows fall.
        stretch: length of a shadow per height of what casts it.
    """

    away: Floats
    stretch: float


@dataclass
class World:
    """A scene in the making; every array is (H, W) with the margin included.

    ``roofs`` holds the number of the building that stands at a pixel, also below a crown; 0 where none does.
    """

    rng: np.random.Generator
    sun: Sun
    albedo: Floats
    mask: NDArray[np.uint8]
    shadow: NDArray[np.uint8]
    roofs: NDArray[np.int32]

    @property
    def size_hw(self) -> tuple[int, int]:
        return self.mask.shape[0], self.mask.shape[1]


@dataclass(frozen=True)
class _Road:
    """A centre line, (P, 2) float32 x and y one pixel apart, and what runs along it."""

    line: Floats
    width: float
    surface: int


@dataclass(frozen=True)
class _Wing:
    """One rectangle of a building: centre (x, y), length along ``angle`` (radians) and breadth across it, pixels."""

    x: float
    y: float
    length: float
    breadth: float
    angle: float

    def corners(self) -> Floats:
        along = np.array([np.cos(self.angle), np.sin(self.angle)]) * self.length / 2
        across = np.array([-np.sin(self.angle), np.cos(self.angle)]) * self.breadth / 2
        signs = ((1, 1), (1, -1), (-1, -1), (-1, 1))
        return np.array([(self.x, self.y) + a * along + b * across for a, b in signs], dtype=np.float32)


def _noise(rng: np.random.Generator, size_hw: tuple[int, int], period: float, octaves: int = 4) -> Floats:
    """Value noise of zero mean and unit deviation; ``period`` is the coarsest detail in pixels."""
    height, width = size_hw
    total = np.zeros(size_hw, dtype=np.float32)
    for octave in range(octaves):
        cell = max(1.0, period / 2**octave)
        grid = rng.standard_normal((int(height / cell) + 2, int(width / cell) + 2), dtype=np.float32)
        total += 0.6**octave * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    scaled: Floats = (total - total.mean()) / (total.std() + 1e-6)
    return scaled


def _vary(rng: np.random.Generator, color: Color, spread: float = 0.05) -> Floats:
    """A colour near the given one: brighter or darker, and a little off its hue."""
    return np.asarray(color, dtype=np.float32) * np.float32(rng.normal(1, 2 * spread)) + rng.normal(
        0, spread / 5, 3
    ).astype(np.float32)


def lay_ground(rng: np.random.Generator, size_hw: tuple[int, int]) -> Floats:
    """(H, W, 3) albedo of bare ground: three kinds that pass into each other, grain, and sometimes a ploughed field."""
    kinds = rng.choice(len(_GROUNDS), size=3, replace=False)
    share = np.stack([np.exp(2.5 * _noise(rng, size_hw, 96)) for _ in kinds])
    share /= share.sum(axis=0)
    colors = np.stack([_vary(rng, _GROUNDS[kind]) for kind in kinds])
    albedo: Floats = np.einsum("khw,kc->hwc", share, colors, optimize=True)
    grain = 1 + 0.05 * _noise(rng, size_hw, 24) + 0.07 * _noise(rng, size_hw, 4, octaves=2)
    if rng.random() < 0.4:
        grain *= _furrows(rng, size_hw)
    return albedo * grain[:, :, None]


def _furrows(rng: np.random.Generator, size_hw: tuple[int, int]) -> Floats:
    rows, columns = np.indices(size_hw, dtype=np.float32)
    angle = rng.uniform(0, np.pi)
    across = columns * np.cos(angle) + rows * np.sin(angle)
    waves = np.sin(across * 2 * np.pi / rng.uniform(4, 8) + 0.6 * _noise(rng, size_hw, 64))
    middle = size_hw[1] / 2 * np.cos(angle) + size_hw[0] / 2 * np.sin(angle)
    field = across > middle + rng.uniform(-40, 60)
    furrowed: Floats = np.where(field, 0.95 + 0.06 * waves, 1).astype(np.float32)
    return furrowed


def lay_roads(rng: np.random.Generator, size_hw: tuple[int, int]) -> list[_Road]:
    """A main road, one or two that branch off or cross it, and sometimes a third."""
    height, width = size_hw
    reach = int(np.hypot(height, width))
    middle = np.array([width, height]) * rng.uniform(0.35, 0.65, 2)
    heading = rng.uniform(0, 2 * np.pi)
    main = _curve(rng, middle, heading, -reach, reach)
    surface = int(rng.choice(_DIRT))
    roads = [_Road(main, rng.uniform(17, 26), surface)]
    for _ in range(int(rng.integers(1, 4))):
        parent = roads[int(rng.integers(len(roads)))]
        inside = np.flatnonzero(
            ((parent.line > MARGIN) & (parent.line < (width - MARGIN, height - MARGIN))).all(axis=1)
        )
        if len(inside) < 20:
            continue
        place = int(inside[int(len(inside) * rng.uniform(0.1, 0.9))])
        if any(np.hypot(*(road.line[::8] - parent.line[place]).T).min() < 60 for road in roads if road is not parent):
            continue
        ahead = parent.line[min(place + 3, len(parent.line) - 1)] - parent.line[max(place - 3, 0)]
        turn = np.arctan2(ahead[1], ahead[0]) + rng.choice((-1, 1)) * (np.pi / 2 + rng.normal(0, 0.15))
        crossing = rng.random() < 0.35
        line = _curve(rng, parent.line[place], turn, -reach if crossing else 0, reach)
        kind = surface if rng.random() < 0.7 else int(rng.choice(len(_SURFACES)))
        roads.append(_Road(line, max(12.0, parent.width * rng.uniform(0.65, 0.9)), kind))
    return roads


def _curve(rng: np.random.Generator, start: NDArray[np.floating], heading: float, first: int, last: int) -> Floats:
    """A line through ``start`` with one point a pixel, from ``first`` to ``last`` pixels along it, gently bent."""
    bend = rng.normal(0, 0.0012)
    sway, wavelength = rng.uniform(0, 0.22), rng.uniform(60, 140)
    along = np.arange(first, last + 1)
    angle = heading + bend * along + sway * np.sin(along / wavelength)
    steps = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    line = np.cumsum(steps, axis=0)
    placed: Floats = (line - line[-first] + start).astype(np.float32)
    return placed


def pave(world: World, roads: Sequence[_Road]) -> None:
    """Surfaces first, the smaller roads under the larger, then lane marks where no other road joins, then cars."""
    rng, size_hw = world.rng, world.size_hw
    away = [_distance(road.line, size_hw) for road in roads]
    wear = 1 + 0.05 * _noise(rng, size_hw, 32) + 0.04 * _noise(rng, size_hw, 3, octaves=2)
    for road, distance in reversed(list(zip(roads, away, strict=True))):
        # The verge beside a road is trodden and stays background.
        reach = rng.uniform(3, 8)
        beside = distance < road.width / 2 + reach
        trodden = rng.uniform(0.05, 0.25) * np.minimum(1, 1 - (distance[beside] - road.width / 2) / reach)[:, None]
        world.albedo[beside] += trodden * (_VERGE - world.albedo[beside])
        on = distance < road.width / 2
        # Tyres darken (or on dirt, pack and brighten) the middle of each lane.
        tracks = np.exp(-(((distance[on] - road.width / 4) / (road.width / 10)) ** 2))
        brightness = wear[on] + tracks * (0.08 if road.surface == _DIRT else -0.08)
        world.albedo[on] = _vary(rng, _SURFACES[road.surface]) * brightness[:, None]
        world.mask[on] = ROAD
    for number, (road, distance) in enumerate(zip(roads, away, strict=True)):
        if road.surface != _DIRT and rng.random() < 0.95:
            clear = np.full(size_hw, True)
            for other, gap in enumerate(away):
                if other != number:
                    clear &= gap > roads[other].width / 2 + 3
            paint = _lane_marks(rng, road, distance) * clear
            world.albedo += paint[:, :, None] * (_PAINT - world.albedo)
        _park_cars(world, road)


def _distance(line: Floats, size_hw: tuple[int, int]) -> Floats:
    """(H, W) pixels from a line; it must run on past the margin to end beyond the picture."""
    bare = np.full(size_hw, 255, dtype=np.uint8)
    cv2.polylines(bare, [np.round(line).astype(np.int32)], isClosed=False, color=0)
    distance: Floats = cv2.distanceTransform(bare, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return distance


def _lane_marks(rng: np.random.Generator, road: _Road, distance: Floats) -> Floats:
    """(H, W) share of paint: a dashed or full centre line, and edge lines on wide roads."""
    paint = np.zeros(distance.shape, dtype=np.uint8)
    unbroken = (len(road.line), 1)
    dash, gap = unbroken if rng.random() < 0.25 else (int(rng.integers(7, 13)), int(rng.integers(6, 12)))
    pieces = [road.line[start : start + dash] for start in range(0, len(road.line), dash + gap)]
    fixed_point = [np.round(piece * 16).astype(np.int32) for piece in pieces if len(piece) > 1]
    cv2.polylines(paint, fixed_point, isClosed=False, color=255, thickness=1, lineType=cv2.LINE_AA, shift=4)
    marks: Floats = paint.astype(np.float32) / np.float32(255)
    if road.width > 16:
        np.maximum(marks, np.clip(1 - np.abs(distance - road.width / 2 + 2.5), 0, 1), out=marks)
    worn: Floats = np.float32(rng.uniform(0.5, 0.95)) * marks
    return worn


def _park_cars(world: World, road: _Road) -> None:
    """Cars are part of the road; they keep to their lanes."""
    rng = world.rng
    for place in (np.flatnonzero(rng.random(len(road.line) // 12) < 0.08) * 12).tolist():
        ahead = road.line[min(place + 4, len(road.line) - 1)] - road.line[max(place - 4, 0)]
        ahead /= max(1e-6, float(np.hypot(*ahead)))
        side = np.array([-ahead[1], ahead[0]]) * road.width / 4 * rng.choice((-1, 1))
        x, y = road.line[place] + side
        car = _Wing(x, y, rng.uniform(9, 12), 5, float(np.arctan2(ahead[1], ahead[0])))
        where, along, across = _local(car, world.size_hw, reach=8)
        on = (np.abs(along) <= car.length / 2) & (np.abs(across) <= car.breadth / 2) & (world.mask[where] == ROAD)
        if not on.any():
            continue
        color = _vary(rng, _CARS[int(rng.choice(len(_CARS)))])
        glass = np.abs(along - 1.2) < 1
        world.albedo[where][on] = color
        world.albedo[where][on & glass] = 0.12
        _cast(world, car.corners(), height=3)
        world.shadow[where][on] = 0


def _local(wing: _Wing, size_hw: tuple[int, int], reach: float) -> tuple[tuple[slice, slice], Floats, Floats]:
    """A window of the world around a rectangle, and each of its pixels' place along and across the rectangle."""
    top, bottom = (min(max(int(wing.y + side * reach), 0), size_hw[0]) for side in (-1, 1))
    left, right = (min(max(int(wing.x + side * reach), 0), size_hw[1]) for side in (-1, 1))
    rows = np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(wing.y)
    columns = np.arange(left, right, dtype=np.float32)[None, :] - np.float32(wing.x)
    cos, sin = np.float32(np.cos(wing.angle)), np.float32(np.sin(wing.angle))
    return (slice(top, bottom), slice(left, right)), columns * cos + rows * sin, rows * cos - columns * sin


def _cast(world: World, outline: Floats, height: float) -> None:
    """Darken what lies behind a convex outline: the outline moved along the light covers a convex area too."""
    moved = outline + world.sun.away * np.float32(height * world.sun.stretch)
    hull = cv2.convexHull(np.concatenate([outline, moved]))
    cv2.fillConvexPoly(world.shadow, np.round(hull * 16).astype(np.int32), 255, lineType=cv2.LINE_AA, shift=4)


def build(world: World, roads: Sequence[_Road]) -> None:
    """Buildings along both sides of the roads, then a few that stand alone."""
    rng = world.rng
    taken = _grown(world.mask == ROAD, 5)
    density = rng.uniform(0.6, 1.0)
    style = rng.choice(len(_ROOFS), size=3, replace=False)
    for road in roads:
        for side in (-1, 1):
            place = int(rng.integers(10, 30))
            while place < len(road.line) - 4:
                length, breadth = _footprint(rng)
                if rng.random() < density:
                    ahead = road.line[place + 3] - road.line[place - 3]
                    angle = float(np.arctan2(ahead[1], ahead[0])) + rng.normal(0, 0.04)
                    setback = road.width / 2 + breadth / 2 + rng.uniform(6, 16)
                    x, y = road.line[place] + side * setback * np.array([-np.sin(angle), np.cos(angle)])
                    _erect(world, taken, _wings(rng, _Wing(x, y, length, breadth, angle)), style)
                place += int(length + rng.uniform(8, 20))
    for _ in range(int(12 * density)):
        x, y = rng.uniform((0, 0), world.size_hw[::-1])
        length, breadth = _footprint(rng)
        _erect(world, taken, _wings(rng, _Wing(x, y, length, breadth, rng.uniform(0, np.pi))), style)


def _footprint(rng: np.random.Generator) -> tuple[float, float]:
    if rng.random() < 0.2:
        return rng.uniform(55, 90), rng.uniform(36, 54)
    length = rng.uniform(32, 52)
    return length, length * rng.uniform(0.6, 0.85)


def _wings(rng: np.random.Generator, main: _Wing) -> list[_Wing]:
    """The main wing, and for an L a second one that stands out from one of its ends."""
    if rng.random() > 0.35:
        return [main]
    length, breadth = main.breadth * rng.uniform(1.3, 1.7), min(main.breadth, main.length * 0.45)
    end, side = rng.choice((-1, 1), size=2)
    along = end * (main.length - breadth) / 2
    across = side * (length - main.breadth) / 2
    cos, sin = np.cos(main.angle), np.sin(main.angle)
    x, y = main.x + along * cos - across * sin, main.y + along * sin + across * cos
    return [_Wing(x, y, length, breadth, main.angle + np.pi / 2), main]


def _erect(world: World, taken: Flags, wings: Sequence[_Wing], style: NDArray[np.int64]) -> None:
    """Draw a building where nothing stands yet, and mark its place as taken."""
    rng, size_hw = world.rng, world.size_hw
    placed = []
    for wing in wings:
        where, along, across = _local(wing, size_hw, reach=np.hypot(wing.length, wing.breadth) / 2 + 2)
        inside = (np.abs(along) <= wing.length / 2) & (np.abs(across) <= wing.breadth / 2)
        if not inside.any() or bool((taken[where] & inside).any()):
            return
        placed.append((wing, where, along, across, inside))
    color = _vary(rng, _ROOFS[style[rng.choice(3)] if rng.random() < 0.75 else rng.choice(len(_ROOFS))])
    height = rng.uniform(10, 18)
    flat = rng.random() < (0.75 if wings[-1].breadth > 34 else 0.3)
    slope = 0.0 if flat else np.radians(rng.uniform(20, 35))
    hipped = not flat and rng.random() < 0.4
    number = int(world.roofs.max()) + 1
    for wing, *_ in placed:
        _cast(world, wing.corners(), height)
    for wing, where, along, across, inside in placed:
        roof = _roof(world, wing, along, across, slope, hipped)
        world.albedo[where][inside] = (color * roof[:, :, None])[inside]
        world.mask[where][inside] = BUILDING
        world.roofs[where][inside] = number
        if flat:
            _roof_units(world, wing, color)
    for _, where, _, _, inside in placed:
        taken[where] |= _grown(inside, 7)


def _roof(world: World, wing: _Wing, along: Floats, across: Floats, slope: float, hipped: bool) -> Floats:
    """(h, w) brightness: of a flat roof with its parapet, or of slopes that face the sun or turn from it."""
    rng = world.rng
    texture = 1 + 0.04 * _noise(rng, along.shape, 12, octaves=3)
    to_side, to_end = wing.breadth / 2 - np.abs(across), wing.length / 2 - np.abs(along)
    edge = np.minimum(to_side, to_end)
    if slope == 0:
        parapet: Floats = (texture + 0.22 * (edge < 2)).astype(np.float32)
        return parapet
    axis = np.array([np.cos(wing.angle), np.sin(wing.angle)])
    normal = np.array([-axis[1], axis[0]])
    # Lambert: a slope that leans by `a` towards a sun of elevation e is lit by cos a + sin a * cot e.
    lean = np.sin(slope) * world.sun.stretch
    toward_side = -float(normal @ world.sun.away) * lean * np.sign(across)
    lit: NDArray[np.floating] = np.cos(slope) + toward_side
    if hipped:
        toward_end = -float(axis @ world.sun.away) * lean * np.sign(along)
        lit = np.where(to_end < to_side, np.cos(slope) + toward_end, lit)
    tiles = 1 + 0.05 * np.sin(across * 2 * np.pi / 3.2)
    ridge = 0.15 * (np.abs(across) < 0.8) * (1 if not hipped else to_end > to_side)
    # The gutter is dark, and parts the roof from ground of its colour.
    sloped: Floats = (texture * tiles * np.clip(lit, 0.35, 1.4) + ridge - 0.25 * (edge < 1.2)).astype(np.float32)
    return sloped


def _roof_units(world: World, wing: _Wing, color: Floats) -> None:
    """Skylights and machines, each with a shadow drawn into the roof."""
    rng = world.rng
    for _ in range(int(wing.length * wing.breadth / 700)):
        along, across = rng.uniform(-0.36, 0.36, 2) * (wing.length, wing.breadth)
        cos, sin = np.cos(wing.angle), np.sin(wing.angle)
        x, y = wing.x + along * cos - across * sin, wing.y + along * sin + across * cos
        unit = _Wing(x, y, rng.uniform(4, 7), rng.uniform(3, 5), wing.angle)
        for shift, brightness in ((2 * world.sun.stretch, 0.5), (0.0, rng.uniform(0.9, 1.5))):
            moved = replace(unit, x=x + world.sun.away[0] * shift, y=y + world.sun.away[1] * shift)
            where, u, v = _local(moved, world.size_hw, reach=7)
            on = (np.abs(u) <= unit.length / 2) & (np.abs(v) <= unit.breadth / 2) & (world.mask[where] == BUILDING)
            world.albedo[where][on] = color * np.float32(brightness)


def _grown(area: Flags, radius: int) -> Flags:
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    return np.asarray(cv2.dilate(area.astype(np.uint8), kernel), dtype=np.bool_)


def plant(world: World, roads: Sequence[_Road]) -> Floats:
    """Woods, trees along the roads and bushes. Returns the height of the crowns, (H, W) pixels, 0 where none is."""
    rng, size_hw = world.rng, world.size_hw
    relief = np.zeros(size_hw, dtype=np.float32)
    ragged = _noise(rng, size_hw, 8, octaves=3)
    blocked = world.mask != BACKGROUND
    leaves = rng.choice(len(_CROWNS), size=2, replace=False)
    crowns: list[tuple[float, float, float]] = []
    for _ in range(round(size_hw[0] * size_hw[1] / 7500 * rng.uniform(0.5, 1.2))):
        middle = rng.uniform((0, 0), size_hw[::-1])
        spread = rng.uniform(8, 30)
        count = int(rng.integers(2, 4) + spread / 3)
        crowns += [(*(middle + rng.normal(0, spread, 2)), rng.uniform(9, 16)) for _ in range(count)]
    for road in roads:
        if rng.random() < 0.5:
            side, spacing = rng.choice((-1, 1)) * (road.width / 2 + 9), int(rng.integers(20, 34))
            for place in range(3, len(road.line) - 3, spacing):
                ahead = road.line[place + 3] - road.line[place - 3]
                normal = np.array([-ahead[1], ahead[0]]) / np.hypot(*ahead)
                crowns.append((*(road.line[place] + side * normal + rng.normal(0, 1, 2)), rng.uniform(7, 10)))
    crowns += [(*rng.uniform((0, 0), size_hw[::-1]), rng.uniform(6, 8)) for _ in range(int(rng.integers(4, 14)))]
    for x, y, radius in crowns:
        _grow(world, relief, ragged, blocked, (x, y, radius), _CROWNS[leaves[rng.choice(2)]])
    return relief


def _grow(
    world: World, relief: Floats, ragged: Floats, blocked: Flags, crown: tuple[float, float, float], color: Color
) -> None:
    """One crown: a ragged dome. It may hang a little over a road or a roof, but not stand on one."""
    x, y, radius = crown
    where, along, across = _local(_Wing(x, y, 1, 1, 0.0), world.size_hw, reach=radius * 1.5)
    apart = np.hypot(along, across) / radius
    if apart.size == 0 or bool((blocked[where] & (apart < 0.7)).any()):
        return
    dome = 1 - (apart + 0.08 * ragged[where]) ** 2
    height = radius * (0.6 + np.sqrt(np.clip(dome, 0, None)))
    on = (dome > 0) & (height > relief[where])
    relief[where][on] = height[on]
    world.albedo[where][on] = _vary(world.rng, color)
    world.mask[where][on] = VEGETATION
    start = np.array([x, y])
    end = start + world.sun.away * np.float32(radius * 1.1 * world.sun.stretch)
    first, last = np.round(np.stack([start, end]) * 16).astype(int).tolist()
    cv2.line(world.shadow, first, last, 255, int(1.8 * radius), cv2.LINE_AA, shift=4)


def photograph(world: World, relief: Floats) -> NDArray[np.uint8]:
    """Light, air, lens and sensor: (H, W, 3) uint8."""
    rng, size_hw = world.rng, world.size_hw
    shaded = cv2.GaussianBlur(world.shadow, (0, 0), 0.9).astype(np.float32) / 255
    # Roofs and crowns stand above the shadows on the ground.
    shaded[world.mask == BUILDING] = 0
    sunlight = 1 - shaded
    green = world.mask == VEGETATION
    leaves = cv2.GaussianBlur(relief, (0, 0), 0.8) + 0.7 * _noise(rng, size_hw, 5, octaves=2)
    slope = cv2.Sobel(leaves, cv2.CV_32F, 1, 0, scale=1 / 8), cv2.Sobel(leaves, cv2.CV_32F, 0, 1, scale=1 / 8)
    facing = 0.8 + 0.45 * (slope[0] * world.sun.away[0] + slope[1] * world.sun.away[1])
    sunlight[green] = np.clip(facing, 0.3, 1.5)[green]
    direct = rng.normal((0.84, 0.80, 0.74), 0.03).astype(np.float32)
    sky = rng.normal((0.24, 0.27, 0.32), 0.015).astype(np.float32)
    light = world.albedo * (direct * sunlight[:, :, None] + sky)
    haze = rng.uniform(0, 0.12)
    light = light * (1 - haze) + haze * _HAZE
    light *= (rng.uniform(0.87, 1.15) * rng.normal(1, 0.025, 3)).astype(np.float32)
    light = cv2.GaussianBlur(np.clip(light, 0.0, 1.2), (0, 0), rng.uniform(0.4, 0.65)) ** np.float32(
        rng.uniform(0.8, 1.1)
    )
    light += np.float32(rng.uniform(0.006, 0.016)) * rng.standard_normal(light.shape, dtype=np.float32)
    picture: NDArray[np.uint8] = np.round(np.clip(light, 0, 1) * 255).astype(np.uint8)
    return picture
