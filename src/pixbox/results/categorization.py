"""The class of a whole picture, as it was predicted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixbox.drawing import as_png, caption
from pixbox.labels import LabelMap
from pixbox.results.checks import check_picture, check_probabilities
from pixbox.results.rows import Row
from pixbox.results.saving import save_files
from pixbox.results.showing import notebook_png, size_text


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Categorization:
    """The class of a whole picture.

    Attributes:
        name, image, labels: as in ``Segmentation``.
        probabilities: (N,) float32, 0 to 1, that sum to one.

    Raises:
        ValueError: the parts have other shapes, types or values, or do not fit one another.
    """

    name: str
    image: NDArray[np.uint8]
    probabilities: NDArray[np.float32]
    labels: LabelMap

    def __post_init__(self) -> None:
        check_picture(self.image)
        check_probabilities(self.probabilities, (len(self.labels),))

    def __repr__(self) -> str:
        named = ", ".join(f"{name} {value:.2f}" for name, value in list(self._ranked().items())[:3])
        return f"Categorization({self.name}, {size_text(self.image)} pixels: {named})"

    def _repr_png_(self) -> bytes:
        return notebook_png(self.overlay())

    @property
    def category(self) -> str:
        """The most probable class."""
        return self.labels.names[int(self.probabilities.argmax())]

    def overlay(self) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB: the picture with the name of its class and the probability."""
        return caption(self.image, f"{self.category} {self.probabilities.max():.2f}")

    def to_plain(self) -> dict[str, Any]:
        """What is saved: ``size``, ``class``, and ``probabilities`` by name, highest first."""
        return {"size": list(self.image.shape[:2]), "class": self.category, "probabilities": self._ranked()}

    def table_rows(self) -> list[Row]:
        """The rows of the picture in ``classes.csv``, highest probability first."""
        return [{"class": name, "probability": value} for name, value in self._ranked().items()]

    def save(self, path: str | Path, extras: Sequence[str] = ()) -> list[Path]:
        """Write the classes as JSON, and what else is asked for beside it.

        ``path`` is a folder (the classes become ``<name>.json``) or a file that ends in ``.json``. ``extras`` are of
        ``EXTRAS``; the table ``classes`` is of a whole run and not written here. Returns the paths written.

        Raises:
            ConfigError: a categorization has no such extra.
        """
        return save_files(path, self.name, ".json", extras, "classification", self._content)

    def _content(self, extra: str) -> bytes | str:
        if extra == "overlay":
            return as_png(Image.fromarray(self.overlay()))
        return json.dumps(self.to_plain(), indent=1, ensure_ascii=False) + "\n"

    def _ranked(self) -> dict[str, float]:
        """Probability of each class, highest first."""
        order = np.argsort(-self.probabilities, kind="stable")
        return {self.labels.names[index]: round(float(self.probabilities[index]), 6) for index in order}
