"""Runs a trained task on whole pictures; `evaluate` and `predict` share this path and its precision."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pixbox.checkpoint import LoadedRun
from pixbox.data.dataset import fit_whole, pixel_reading
from pixbox.data.images import read_image
from pixbox.sample import Categorization, Detections, Placement, Prediction, Segmentation
from pixbox.tasks.detection import DetectionTask
from pixbox.tasks.segmentation import SegmentationTask

_AUTOCAST = {"bf16": torch.bfloat16, "16": torch.float16}


class Predictor:
    """A trained task with everything around it."""

    def __init__(self, run: LoadedRun, device: str = "auto") -> None:
        self.run = run
        self.labels = run.task.labels
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device)
        self.task = run.task.to(self.device).to(memory_format=torch.channels_last).eval()

    def predict(self, picture: str | Path | NDArray[np.uint8], *, probabilities: bool = False) -> Prediction:
        """What the task says of a picture, at its original size.

        ``picture`` is a file, or (H, W, 3) uint8 RGB. ``probabilities`` keeps those of every pixel, for segmentation.

        Raises:
            DataError: the file cannot be read as a picture.
            ValueError: the array has another shape or type.
        """
        name, image = ("picture", picture) if isinstance(picture, np.ndarray) else self._read(Path(picture))
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise ValueError(f"a picture is (H, W, 3) uint8 RGB, not {image.shape} {image.dtype}")
        fitted, placement = fit_whole(image, self.run.experiment.data)
        answer = self.answer(fitted, placement)
        found = self.task.decode(answer, placement)
        if isinstance(self.task, SegmentationTask):
            kept = self.task.probabilities(answer, placement).cpu().numpy() if probabilities else None
            return Segmentation(name, image, found.cpu().numpy(), self.labels, kept)
        if isinstance(self.task, DetectionTask):
            boxes, classes, scores = (part.cpu().numpy() for part in (found.boxes_xyxy, found.classes, found.scores))
            return Detections(name, image, boxes, classes, scores, self.labels, self.task.settings.shown_score)
        return Categorization(name, image, found.cpu().numpy(), self.labels)

    def answer(self, fitted: NDArray[np.uint8], placement: Placement) -> Any:
        """The task's answer to a picture that ``fit_whole`` has brought to the network's form."""
        with torch.inference_mode(), self._precision():
            return self.task.answer(fitted, placement)

    def _precision(self) -> AbstractContextManager[object]:
        kind = _AUTOCAST.get(self.run.experiment.training.precision)
        if kind is None or (kind is torch.float16 and self.device.type == "cpu"):
            return nullcontext()
        return torch.autocast(self.device.type, dtype=kind)

    def _read(self, path: Path) -> tuple[str, NDArray[np.uint8]]:
        return path.stem, read_image(path, pixel_reading(self.run.experiment.data))
