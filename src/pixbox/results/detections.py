"""Boxes, as they were found."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixbox.drawing import as_png, draw_boxes, legend, side_by_side
from pixbox.errors import did_you_mean
from pixbox.labels import LabelMap
from pixbox.results.checks import check_picture
from pixbox.results.saving import save_files
from pixbox.results.showing import notebook_png, size_text
from pixbox.results.vectors import feature_collection, polygon_feature
from pixbox.sample import Georeference


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Detections:
    """The boxes found in a picture, by falling score, with what is needed to show and save them.

    Attributes:
        name: file name of the picture without folder and suffix.
        image: (H, W, 3) uint8 RGB, the picture at its original size.
        boxes_xyxy: (N, 4) float32, pixels of the picture and within it, x2 >= x1 and y2 >= y1.
        classes: (N,) int64 class indices.
        scores: (N,) float32, 0 to 1.
        labels: what the indices mean.
        shown_score: boxes of a lower score are not drawn.
        georeference: where the pixels lie on the earth, if the picture says so.

    Raises:
        ValueError: the parts have other shapes, types or values, or do not fit one another.
    """

    name: str
    image: NDArray[np.uint8]
    boxes_xyxy: NDArray[np.float32]
    classes: NDArray[np.int64]
    scores: NDArray[np.float32]
    labels: LabelMap
    shown_score: float = 0.5
    georeference: Georeference | None = None

    def __post_init__(self) -> None:
        check_picture(self.image)
        count = len(self.scores)
        shapes = self.boxes_xyxy.shape, self.classes.shape, self.scores.shape
        if shapes != ((count, 4), (count,), (count,)):
            raise ValueError(f"{shapes[0]} boxes, {shapes[1]} classes and {shapes[2]} scores disagree")
        types = [str(part.dtype) for part in (self.boxes_xyxy, self.classes, self.scores)]
        if types != ["float32", "int64", "float32"]:
            raise ValueError(f"boxes, classes and scores are float32, int64 and float32, not {', '.join(types)}")
        height, width = self.image.shape[:2]
        x1, y1, x2, y2 = self.boxes_xyxy.T
        # Each comparison is false where a number is NaN.
        wrong = ~((x1 >= 0) & (x1 <= x2) & (x2 <= width) & (y1 >= 0) & (y1 <= y2) & (y2 <= height))
        if wrong.any():
            first = self.boxes_xyxy[wrong][0].tolist()
            raise ValueError(f"{first} is no box (x1, y1, x2, y2) in a picture of {size_text(self.image)} pixels")
        if not ((self.scores >= 0) & (self.scores <= 1)).all():
            raise ValueError("scores lie within 0 and 1")
        if not ((self.classes >= 0) & (self.classes < len(self.labels))).all():
            raise ValueError(f"classes are indices of {len(self.labels)} names, 0 to {len(self.labels) - 1}")

    def __len__(self) -> int:
        return len(self.scores)

    def __repr__(self) -> str:
        shown = self._shown()
        named = ", ".join(f"{name} {count}" for name, count in shown.counts().items())
        words = f"{len(shown)} boxes of score {self.shown_score:g} or more{f' ({named})' if named else ''}"
        rest = f", {len(self) - len(shown)} of less" if len(shown) < len(self) else ""
        return f"Detections({self.name}, {size_text(self.image)} pixels: {words}{rest})"

    def _repr_png_(self) -> bytes:
        return notebook_png(self.side_by_side())

    def filter(self, score: float = 0.0, classes: Collection[str] | None = None) -> Detections:
        """Those of this score or more and, if classes are named, of these.

        Raises:
            ValueError: there is no such class.
        """
        for name in classes or ():
            if name not in self.labels.names:
                raise ValueError(f'there is no class "{name}". {did_you_mean(name, self.labels.names)}')
        kept = self.scores >= score
        if classes is not None:
            kept &= np.isin(self.classes, [self.labels.names.index(name) for name in classes])
        return replace(self, boxes_xyxy=self.boxes_xyxy[kept], classes=self.classes[kept], scores=self.scores[kept])

    def counts(self) -> dict[str, int]:
        """How many boxes of each class there are, of whatever score; classes that occur, in the label map's order."""
        indices, counts = np.unique(self.classes, return_counts=True)
        return {self.labels.names[index]: int(count) for index, count in zip(indices, counts, strict=True)}

    def overlay(self) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB: the picture with the boxes of ``shown_score`` or more, their names and scores."""
        shown = self._shown()
        return draw_boxes(self.image, shown.boxes_xyxy, shown.classes, self.labels, shown.scores)

    def side_by_side(self) -> NDArray[np.uint8]:
        """uint8 RGB: the picture, the overlay beside it, and below them how many boxes of each class are drawn."""
        colors = dict(zip(self.labels.names, self.labels.colors, strict=True))
        entries = [(f"{name} {count}", colors[name]) for name, count in self._shown().counts().items()]
        return legend(side_by_side([self.image, self.overlay()]), entries)

    def geojson(self) -> dict[str, Any]:
        """A GeoJSON feature for each box, as a polygon, of whatever score: ``class``, ``score``."""
        x1, y1, x2, y2 = self.boxes_xyxy.astype(np.float64).round(2).T
        corners = np.stack([x1, y1, x2, y1, x2, y2, x1, y2], axis=1).reshape(-1, 4, 2)
        features = [
            polygon_feature([box], {"class": self.labels.names[index], "score": round(score, 5)}, self.georeference)
            for box, index, score in zip(corners, self.classes.tolist(), self.scores.tolist(), strict=True)
        ]
        return feature_collection(features, self.georeference)

    def to_plain(self) -> dict[str, Any]:
        """What is saved: ``size`` as [height, width], ``boxes`` with ``box`` (x1, y1, x2, y2), ``class``, ``score``."""
        found = zip(self.boxes_xyxy.tolist(), self.classes.tolist(), self.scores.tolist(), strict=True)
        return {
            "size": list(self.image.shape[:2]),
            "boxes": [
                {"box": [round(c, 2) for c in box], "class": self.labels.names[index], "score": round(score, 5)}
                for box, index, score in found
            ],
        }

    def save(self, path: str | Path, extras: Sequence[str] = ()) -> list[Path]:
        """Write the boxes as JSON, and what else is asked for beside it.

        ``path`` is a folder (the boxes become ``<name>.json``) or a file that ends in ``.json``. ``extras`` are of
        ``EXTRAS``. Returns the paths written.

        Raises:
            ConfigError: detections have no such extra.
        """
        return save_files(path, self.name, ".json", extras, "detection", self._content)

    def _content(self, extra: str) -> bytes | str:
        match extra:
            case "overlay":
                return as_png(Image.fromarray(self.overlay()))
            case "side_by_side":
                return as_png(Image.fromarray(self.side_by_side()))
            case "geojson":
                return json.dumps(self.geojson(), ensure_ascii=False)
        return json.dumps(self.to_plain(), indent=1, ensure_ascii=False) + "\n"

    def _shown(self) -> Detections:
        return self.filter(self.shown_score)
