"""Runs a trained task on whole pictures; `evaluate` and `predict` share this path and its precision."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixbox.checkpoint import LoadedRun
from pixbox.data.dataset import fit_whole, pixel_reading
from pixbox.data.images import read_image
from pixbox.sample import Placement, Segmentation

_AUTOCAST = {"bf16": torch.bfloat16, "16": torch.float16}


class Predictor:
    """A trained segmentation network with everything around it."""

    def __init__(self, run: LoadedRun, device: str = "auto") -> None:
        self.run = run
        self.labels = run.task.labels
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device)
        self.task = run.task.to(self.device).to(memory_format=torch.channels_last).eval()

    def predict(self, picture: str | Path | NDArray[np.uint8], *, probabilities: bool = False) -> Segmentation:
        """Label every pixel of a picture, at its original size.

        ``picture`` is a file, or (H, W, 3) uint8 RGB.

        Raises:
            DataError: the file cannot be read as a picture.
            ValueError: the array has another shape or type.
        """
        name, image = ("picture", picture) if isinstance(picture, np.ndarray) else self._read(Path(picture))
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise ValueError(f"a picture is (H, W, 3) uint8 RGB, not {image.shape} {image.dtype}")
        fitted, placement = fit_whole(image, self.run.experiment.data)
        logits = self.logits(fitted, placement)
        mask = self.task.classes(logits, placement)[0].cpu().numpy()
        kept = None
        if probabilities:
            kept = self.task.probabilities(logits, placement)[0].cpu().numpy()
        return Segmentation(name, image, mask, self.labels, kept)

    def logits(self, fitted: NDArray[np.uint8], placement: Placement) -> Tensor:
        """(1, N, h, w) float32 logits of a picture that ``fit_whole`` has brought to the network's form."""
        with torch.inference_mode(), self._precision():
            return self.task.logits(fitted, placement)

    def _precision(self) -> AbstractContextManager[object]:
        kind = _AUTOCAST.get(self.run.experiment.training.precision)
        if kind is None or (kind is torch.float16 and self.device.type == "cpu"):
            return nullcontext()
        return torch.autocast(self.device.type, dtype=kind)

    def _read(self, path: Path) -> tuple[str, NDArray[np.uint8]]:
        return path.stem, read_image(path, pixel_reading(self.run.experiment.data))
