"""YOLO: one text file a picture, a line an object: class number, and box or outline in fractions of the picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixbox.conversion.objects import usable_outlines
from pixbox.conversion.writing import Labelled, put_labels, put_picture, put_text
from pixbox.documents import to_yaml
from pixbox.labels import LabelMap
from pixbox.sample import Shape

REFUSED_NAMES = r"[\\\x00-\x1f\x7f]|(^|/)\."
REFUSED_WHY = "it may hold no backslash or line break, nor start with a dot"


class YoloWriter:
    """Writes ``images/<split>/``, ``labels/<split>/``, ``data.yaml`` with the class names, and ``labels.yaml``.

    Boxes and outlines are cut off at the border of their picture: trainers refuse fractions below 0 and above 1.
    """

    def __init__(self, folder: Path, labels: LabelMap, *, outlines: bool) -> None:
        self._folder = folder
        self._labels = labels
        self._outlines = outlines
        self._numbers = {name: number for number, name in enumerate(labels.names)}

    def write(self, item: Labelled[tuple[Shape, ...]]) -> str:
        lines = []
        for shape in item.label:
            fractions = _outline(shape, item.size_hw) if self._outlines else _box(shape, item.size_hw)
            lines.append(" ".join([str(self._numbers[shape.label]), *map(_number, fractions)]) + "\n")
        put_picture(item.picture, self._folder / "images" / item.job.split / item.job.name)
        put_text("".join(lines), self._folder / "labels" / item.job.split / f"{item.job.stem}.txt")
        return item.job.name

    def finish(self, entries: Mapping[str, Sequence[str]]) -> list[str]:
        names = {str(number): name for name, number in self._numbers.items()}
        plain = {split: f"images/{split}" for split in entries} | {"names": names}
        put_text(to_yaml(plain), self._folder / "data.yaml")
        return ["data.yaml", put_labels(self._labels, self._folder)]


def _box(shape: Shape, size_hw: tuple[int, int]) -> NDArray[np.float64]:
    """Centre x and y, width and height."""
    height, width = size_hw
    x1, y1, x2, y2 = np.clip(np.array(shape.box_xyxy) / (width, height, width, height), 0, 1)
    return np.array([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1])


def _outline(shape: Shape, size_hw: tuple[int, int]) -> NDArray[np.float64]:
    """x and y of one outline in turn. Several parts are joined by lines there and back, which hold no pixel."""
    height, width = size_hw
    rings = [ring for ring in (_cut(outline, size_hw) for outline in usable_outlines(shape)) if len(ring) >= 3]
    if not rings:
        x1, y1, x2, y2 = np.clip(shape.box_xyxy, 0, (width, height, width, height))
        rings = [np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)])]
    start = rings[0][:1]
    parts = [rings[0], *(part for ring in rings[1:] for part in (start, ring, ring[:1]))]
    return (np.concatenate(parts) / (width, height)).ravel()


def _cut(ring: NDArray[np.float64], size_hw: tuple[int, int]) -> NDArray[np.float64]:
    """The part of an outline, (K, 2) x, y, within its picture; may have no point.

    Source: Sutherland and Hodgman 1974, Reentrant Polygon Clipping.
    """
    for axis, limit in ((0, size_hw[1]), (1, size_hw[0])):
        ring = _cut_half(ring, axis, 0.0, 1.0)
        ring = _cut_half(ring, axis, float(limit), -1.0)
    return ring


def _cut_half(ring: NDArray[np.float64], axis: int, limit: float, side: float) -> NDArray[np.float64]:
    """What lies where ``side`` times (coordinate - limit) is not negative."""
    return np.array(list(_kept_points(ring, axis, limit, side))).reshape(-1, 2)


def _kept_points(ring: NDArray[np.float64], axis: int, limit: float, side: float) -> Iterator[NDArray[np.float64]]:
    for start, end in zip(np.roll(ring, 1, axis=0), ring, strict=True):
        from_border, to_border = side * (start[axis] - limit), side * (end[axis] - limit)
        if (from_border < 0) != (to_border < 0):
            crossing = start + (end - start) * (from_border / (from_border - to_border))
            crossing[axis] = limit
            yield crossing
        if to_border >= 0:
            yield end


def _number(fraction: float) -> str:
    return f"{fraction:.8f}".rstrip("0").rstrip(".")
