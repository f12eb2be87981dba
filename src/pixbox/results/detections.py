"""Boxes, as they were found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixbox.drawing import draw_boxes
from pixbox.labels import LabelMap
from pixbox.results.saving import save_json


@dataclass(frozen=True, slots=True)
class Detections:
    """The boxes found in a picture, by falling score, with what is needed to show and save them.

    Attributes:
        name: file name of the picture without folder and suffix.
        image: (H, W, 3) uint8 RGB, the picture at its original size.
        boxes_xyxy: (N, 4) float32, pixels of the picture.
        classes: (N,) int64 class indices.
        scores: (N,) float32, 0 to 1.
        labels: what the indices mean.
        shown_score: boxes of a lower score are not drawn.
    """

    name: str
    image: NDArray[np.uint8]
    boxes_xyxy: NDArray[np.float32]
    classes: NDArray[np.int64]
    scores: NDArray[np.float32]
    labels: LabelMap
    shown_score: float = 0.5

    def __post_init__(self) -> None:
        count = len(self.scores)
        if self.boxes_xyxy.shape != (count, 4) or self.classes.shape != (count,):
            raise ValueError(f"{self.boxes_xyxy.shape} boxes, {self.classes.shape} classes and {count} scores disagree")
        if self.image.ndim != 3 or self.image.shape[2] != 3:
            raise ValueError(f"a picture is (H, W, 3), not {self.image.shape}")

    def overlay(self) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB: the picture with the boxes, their names and scores."""
        shown = self.scores >= self.shown_score
        return draw_boxes(self.image, self.boxes_xyxy[shown], self.classes[shown], self.labels, self.scores[shown])

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
        """Write the boxes as JSON: a folder (``<name>.json``) or a file; ``overlay`` beside it. Returns the paths."""
        return save_json(self, path, extras)
