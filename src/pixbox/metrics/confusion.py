"""Semantic segmentation scored from one confusion matrix of a whole data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixbox.labels import IGNORE

_PIECE = 1 << 24
"""Pixels."""
_ARGMAX_PIECE = 1 << 14
"""Pixels of which the numbers of a few classes stay in the processor's cache."""


@dataclass(frozen=True, slots=True)
class SegmentationMetrics:
    """Scores as fractions; None where undefined. Ignored pixels count nowhere.

    Attributes:
        miou: mean of the defined ``class_iou``.
        pixel_accuracy: share of labelled pixels with the right class.
        mean_accuracy: mean of the defined ``class_accuracy``.
        frequency_weighted_iou: mean of ``class_iou``, each class weighted with its share of the truth.
        class_iou: intersection over union by class name; None where neither truth nor prediction has the class.
        class_accuracy: share of the class's pixels that were found; None where the truth lacks the class.
        images: number of pictures, if the caller gave it.
        pixels: number of labelled pixels.

    Source: Long et al. 2015, Fully convolutional networks for semantic segmentation, section 5.
    """

    miou: float | None
    pixel_accuracy: float | None
    mean_accuracy: float | None
    frequency_weighted_iou: float | None
    class_iou: dict[str, float | None]
    class_accuracy: dict[str, float | None]
    images: int | None
    pixels: int

    def to_plain(self) -> dict[str, Any]:
        """The content of ``metrics.json``: numbers and None, never NaN."""
        return asdict(self)


class ConfusionMatrix:
    """Counts of (truth, prediction) over any number of pictures.

    Attributes:
        matrix: (N, N) int64 on the CPU; row: true class, column: predicted class. Matrices of several processes add up.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.matrix = torch.zeros(num_classes, num_classes, dtype=torch.int64)

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Count pixels. Both have one shape, any, and lie on one device.

        ``prediction`` is uint8 or int64, 0..N-1; ``target`` uint8, 0..N-1 or ``IGNORE``.

        Raises:
            ValueError: the shapes differ, the target is not uint8, or a class index is not below N.
        """
        if prediction.shape != target.shape:
            raise ValueError(f"prediction {tuple(prediction.shape)} and target {tuple(target.shape)} differ in shape")
        if target.dtype != torch.uint8:
            raise ValueError(f"targets are uint8 class indices, not {target.dtype}")
        # In pieces: the numbers on the way take several bytes a pixel.
        predicted, true = prediction.flatten(), target.flatten()
        for start in range(0, len(true), _PIECE):
            self._count(predicted[start : start + _PIECE], true[start : start + _PIECE])

    def _count(self, prediction: Tensor, target: Tensor) -> None:
        count = self.num_classes
        if int(prediction.max()) >= count:
            raise ValueError(f"predicted class {int(prediction.max())}, but there are {count} classes")
        # In uint8, IGNORE + 1 wraps around to 0: the spare row.
        index = (target + 1).int() * count + prediction
        found = torch.bincount(index, minlength=(count + 1) * count)
        if len(found) > (count + 1) * count:
            wrong = int(target[target != IGNORE].max())
            raise ValueError(f"true class {wrong}, but there are {count} classes")
        self.matrix += found[count:].view(count, count).cpu()

    def merge(self, other: ConfusionMatrix) -> None:
        """Add the counts of another matrix of as many classes."""
        self.matrix += other.matrix

    def reset(self) -> None:
        self.matrix.zero_()

    def compute(self, names: Sequence[str], images: int | None = None) -> SegmentationMetrics:
        """Scores by class name (``names`` in the order of the indices); ``images`` is passed on."""
        right = self.matrix.diagonal().tolist()
        true = self.matrix.sum(dim=1).tolist()
        predicted = self.matrix.sum(dim=0).tolist()
        union = [t + p - r for t, p, r in zip(true, predicted, right, strict=True)]
        iou = [_ratio(r, u) for r, u in zip(right, union, strict=True)]
        accuracy = [_ratio(r, t) for r, t in zip(right, true, strict=True)]
        pixels = sum(true)
        weighted = sum(t * value for t, value in zip(true, iou, strict=True) if value is not None)
        return SegmentationMetrics(
            miou=_mean(iou),
            pixel_accuracy=_ratio(sum(right), pixels),
            mean_accuracy=_mean(accuracy),
            frequency_weighted_iou=_ratio(weighted, pixels),
            class_iou=dict(zip(names, iou, strict=True)),
            class_accuracy=dict(zip(names, accuracy, strict=True)),
            images=images,
            pixels=pixels,
        )


def predicted_classes(logits: Tensor) -> Tensor:
    """(B, N, H, W) logits or probabilities -> (B, H, W) uint8: the class with the highest, the first of equals."""
    if logits.device.type != "cpu" or logits.shape[1] > 255:
        # `argmax` gives the same and takes up to 15 times as long where N is not the innermost dimension.
        return logits.max(dim=1).indices.to(torch.uint8)
    batch, _, height, width = logits.shape
    classes = np.empty((batch, height, width), dtype=np.uint8)
    rows = max(1, _ARGMAX_PIECE // max(1, width))
    for picture, found in zip(logits.detach(), classes, strict=True):
        for top in range(0, height, rows):
            _highest(_planes(picture[:, top : top + rows]), found[top : top + rows])
    return torch.from_numpy(classes)


def _planes(values: Tensor) -> NDArray[Any]:
    """(N, H, W) numbers with H and W innermost in memory, of a type that numpy has."""
    if values.dtype in (torch.bfloat16, torch.float16):
        values = values.float()
    if values.stride(0) != 1 or len(values) == 1:
        return values.numpy()
    count, height, width = values.shape
    # Channels last. OpenCV turns the table of pixels and classes around five times as fast as torch.
    table = np.ascontiguousarray(values.permute(1, 2, 0).numpy()).reshape(-1, count)
    turned: NDArray[Any] = cv2.transpose(table)
    return turned.reshape(count, height, width)


def _highest(planes: NDArray[Any], out: NDArray[np.uint8]) -> None:
    """Which of (N, H, W) planes is the highest, the first of equals, into (H, W).

    One plane after the other, whole rows of numbers in one instruction: three to six times as fast on one thread as a
    search along N for each pixel.
    """
    best = planes[0].copy()
    out[:] = 0
    higher = np.empty(best.shape, dtype=np.bool_)
    number = higher.view(np.uint8)
    for index in range(1, len(planes)):
        np.greater(planes[index], best, out=higher)
        np.maximum(best, planes[index], out=best)
        # A later plane that is higher has the higher number.
        np.multiply(number, np.uint8(index), out=number)
        np.maximum(out, number, out=out)


def _ratio(part: float, whole: int) -> float | None:
    return part / whole if whole else None


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None
