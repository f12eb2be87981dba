"""The class of every pixel, as it was predicted."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixbox.drawing import as_png, overlay
from pixbox.files import write_file
from pixbox.labels import LabelMap
from pixbox.results.saving import extra_file


@dataclass(frozen=True, slots=True)
class Segmentation:
    """A predicted mask with what is needed to show and save it.

    Attributes:
        name: file name of the picture without folder and suffix.
        image: (H, W, 3) uint8 RGB, the picture at its original size.
        mask: (H, W) uint8 class indices, likewise.
        labels: what the indices mean.
        probabilities: (N, H, W) float32 that sum to one over N, if they were asked for.
    """

    name: str
    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    labels: LabelMap
    probabilities: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        if self.mask.ndim != 2 or self.mask.dtype != np.uint8:
            raise ValueError(f"a mask is (H, W) uint8, not {self.mask.shape} {self.mask.dtype}")
        if self.image.shape != (*self.mask.shape, 3):
            raise ValueError(f"the picture is {self.image.shape}, the mask {self.mask.shape}")
        expected = (len(self.labels), *self.mask.shape)
        if self.probabilities is not None and self.probabilities.shape != expected:
            raise ValueError(f"probabilities are {self.probabilities.shape}, expected {expected}")

    def overlay(self, opacity: float = 0.5) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB: the picture with the classes' colours laid over it."""
        return overlay(self.image, self.mask, self.labels, opacity)

    def save(self, path: str | Path, extras: Sequence[str] = ()) -> list[Path]:
        """Write the mask as a palette PNG of class indices, and what else is asked for beside it.

        ``path`` is a folder (the mask becomes ``<name>.png``) or a file that ends in ``.png``. ``extras``, of
        ``EXTRAS``, become ``<stem>_overlay.png``, ``<stem>_colors.png`` and ``<stem>_probabilities.npz`` (key
        ``probabilities``, (N, H, W) float16). Returns the paths written.
        """
        path = Path(path)
        if path.suffix.lower() != ".png":
            path = path / f"{self.name}.png"
        mask = Image.fromarray(self.mask)
        mask.putpalette(self.labels.palette)
        files = {path: as_png(mask)}
        if "overlay" in extras:
            files[extra_file(path, "overlay")] = as_png(Image.fromarray(self.overlay()))
        if "colors" in extras:
            files[extra_file(path, "colors")] = as_png(Image.fromarray(self.labels.colorize(self.mask)))
        if "probabilities" in extras:
            if self.probabilities is None:
                raise ValueError("this result was made without probabilities")
            buffer = io.BytesIO()
            np.savez_compressed(buffer, probabilities=self.probabilities.astype(np.float16))
            files[extra_file(path, "probabilities")] = buffer.getvalue()
        for file, content in files.items():
            write_file(file, content)
        return list(files)
