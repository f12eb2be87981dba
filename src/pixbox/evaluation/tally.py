"""What is counted of each picture of a split, by one process or by several that add theirs up."""

from __future__ import annotations

import heapq
import zlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pixbox.boxes import Selection
from pixbox.labels import IGNORE
from pixbox.metrics import DetectionScores
from pixbox.metrics.boundary import BoundaryScores
from pixbox.metrics.calibration import CalibrationScores
from pixbox.metrics.pictures import collector_for
from pixbox.report import BoxErrors, count_box_errors
from pixbox.sample import Category, Mask, WholeImage
from pixbox.tasks.task import Task

WORST = 24
"""Pictures that the report shows."""


class Tally:
    """Counts of a part of a split. It can be pickled; merged parts equal the whole, whoever counted what.

    Pictures are told apart by their place in the split. Of labelled pixels no more is kept than counts and the masks
    of the worst pictures, compressed; of boxes all, because their ranks over the whole split make the figures.

    Attributes:
        scores: of the task.
        pictures: what each picture contributes, for intervals and comparisons.
        boundary: of pixels; empty for other tasks.
        modes: how pictures were looked at, of "whole" and "sliding".
    """

    def __init__(self, task: Task, task_name: str) -> None:
        self.scores: Any = task.scores()
        self.pictures = collector_for(task_name, task.labels)
        self.boundary = BoundaryScores(len(task.labels))
        self.modes: set[str] = set()
        self._calibration = CalibrationScores()
        # Badness and place of the worst, the least bad first; predictions by place.
        self._worst: list[tuple[float, int]] = []
        self._kept: dict[int, Any] = {}

    def add(
        self, task: Task, index: int, item: WholeImage, prediction: Any, confidence: Tensor | None, mode: str
    ) -> None:
        """Count a picture: its place in the split, and what ``Predictor.label_with_confidence`` and ``mode`` said."""
        assert item.target is not None
        single = task.scores()
        task.score(single, index, prediction, item.target)
        self.scores.merge(single)
        self.pictures.add(index, item.id, prediction, item.target)
        self.modes.add(mode)
        if isinstance(item.target, Mask):
            assert confidence is not None
            target = torch.from_numpy(item.target.classes.copy())
            self.boundary.update(prediction, target)
            target, prediction = target.to(confidence.device), prediction.to(confidence.device)
            labelled = target != IGNORE
            self._calibration.update(confidence[labelled], (prediction == target)[labelled])
            miou = single.compute(task.labels.names).miou
            if miou is not None:
                self._keep(index, -miou, _PackedMask(prediction))
        elif isinstance(item.target, Category):
            highest, predicted = prediction.max(dim=0)
            right = predicted == item.target.index
            self._calibration.update(highest[None], right[None])
            if not right:
                self._keep(index, float(highest), prediction.cpu())
        else:
            self._kept[index] = Selection(
                prediction.boxes_xyxy.cpu(), prediction.classes.cpu(), prediction.scores.cpu()
            )

    def merge(self, other: Tally) -> None:
        """Add the counts of another part of the split."""
        self.scores.merge(other.scores)
        self.pictures.merge(other.pictures)
        self.boundary.merge(other.boundary)
        self._calibration.merge(other._calibration)
        self.modes |= other.modes
        if isinstance(self.scores, DetectionScores):
            self._kept |= other._kept
        for badness, place in other._worst:
            self._keep(-place, badness, other._kept[-place])

    def calibration(self) -> CalibrationScores:
        """Of pixels and of whole pictures by the probability of their class, of boxes by their score."""
        if not isinstance(self.scores, DetectionScores):
            return self._calibration
        calibration = CalibrationScores()
        scores, right = self.scores.detections()
        calibration.update(torch.from_numpy(scores), torch.from_numpy(right))
        return calibration

    def worst(self) -> list[tuple[int, Any]]:
        """Places and predictions of the pictures with most to learn from, the worst first, at most ``WORST``.

        Pixels: the lowest mIoU; classes: wrong with the highest probability; boxes: the most errors.
        """
        if isinstance(self.scores, DetectionScores):
            threshold = self.score_threshold
            errors = {index: self.scores.picture_errors(index, threshold).count for index in self._kept}
            ranked = sorted(errors, key=lambda index: (-errors[index], index))[:WORST]
        else:
            ranked = [-place for _, place in sorted(self._worst, reverse=True)]
        kept = ((index, self._kept[index]) for index in ranked)
        return [(index, found.unpack() if isinstance(found, _PackedMask) else found) for index, found in kept]

    def box_errors(self) -> BoxErrors:
        """How the boxes of the split were found, at ``score_threshold``."""
        threshold = self.score_threshold
        return count_box_errors(
            (self.scores.truth(index), found.classes.numpy(), self.scores.picture_errors(index, threshold))
            for index, found in sorted(self._kept.items())
        )

    @property
    def score_threshold(self) -> float:
        """From which score on a box counts, where errors are counted and drawn: that of the best F1."""
        best = self.scores.best_threshold()
        return 0.5 if best is None else float(best.score_threshold)

    def _keep(self, index: int, badness: float, prediction: Any) -> None:
        # Of equally bad ones the first of the split: what is kept must not depend on who counted what.
        heapq.heappush(self._worst, (badness, -index))
        self._kept[index] = prediction
        if len(self._worst) > WORST:
            del self._kept[-heapq.heappop(self._worst)[1]]


class _PackedMask:
    """Class indices, at a fraction of their size."""

    def __init__(self, classes: Tensor) -> None:
        self.shape = tuple(classes.shape)
        self.data = zlib.compress(classes.cpu().numpy().tobytes(), level=1)

    def unpack(self) -> Tensor:
        return torch.from_numpy(np.frombuffer(zlib.decompress(self.data), dtype=np.uint8).reshape(self.shape).copy())
