"""The class of a whole picture, as it was predicted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixbox.drawing import caption
from pixbox.labels import LabelMap
from pixbox.results.saving import save_json


@dataclass(frozen=True, slots=True)
class Categorization:
    """The class of a whole picture.

    Attributes:
        name, image, labels: as in ``Segmentation``.
        probabilities: (N,) float32 that sum to one.
    """

    name: str
    image: NDArray[np.uint8]
    probabilities: NDArray[np.float32]
    labels: LabelMap

    def __post_init__(self) -> None:
        if self.probabilities.shape != (len(self.labels),):
            raise ValueError(f"{self.probabilities.shape} probabilities for {len(self.labels)} classes")

    @property
    def category(self) -> str:
        """The most probable class."""
        return self.labels.names[int(self.probabilities.argmax())]

    def overlay(self) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB: the picture with the name of its class and the probability."""
        return caption(self.image, f"{self.category} {self.probabilities.max():.2f}")

    def to_plain(self) -> dict[str, Any]:
        """What is saved: ``size``, ``class``, and ``probabilities`` by name, highest first."""
        order = np.argsort(-self.probabilities, kind="stable")
        names = self.labels.names
        named = {names[index]: round(float(self.probabilities[index]), 6) for index in order}
        return {"size": list(self.image.shape[:2]), "class": self.category, "probabilities": named}

    def save(self, path: str | Path, extras: Sequence[str] = ()) -> list[Path]:
        """Write the classes as JSON: a folder (``<name>.json``) or a file; ``overlay`` beside it. Returns the paths."""
        return save_json(self, path, extras)
