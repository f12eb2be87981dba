"""Classification of whole pictures scored over a whole data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

_TOP = 5


@dataclass(frozen=True, slots=True)
class ClassificationMetrics:
    """Scores as fractions; None where undefined.

    Attributes:
        accuracy: share of the pictures whose class has the highest logit.
        top5_accuracy: share of the pictures whose class is among the five highest; of all, where there are no more.
        class_accuracy: share of the class's pictures that were found, by name; None where the truth lacks the class.
        images: number of pictures.
    """

    accuracy: float | None
    top5_accuracy: float | None
    class_accuracy: dict[str, float | None]
    images: int

    def to_plain(self) -> dict[str, Any]:
        """The content of ``metrics.json``: numbers and None, never NaN."""
        return asdict(self)


class ClassificationScores:
    """Counts over any number of pictures; those of several processes add up.

    Attributes:
        num_classes: N.
        pictures: (true class, predicted class) -> how many; a matrix of tens of thousands of classes fits nowhere.
        in_top5: pictures whose class is among the five highest.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.pictures: Counter[tuple[int, int]] = Counter()
        self.in_top5 = 0

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Count pictures. Both lie on one device.

        ``logits`` is (B, N) of any float type (or probabilities), ``targets`` (B,) integers 0..N-1. Of equal logits
        the first ranks highest; NaN ranks as infinity.

        Raises:
            ValueError: the shapes do not agree, or a class is not in 0..N-1.
        """
        count = self.num_classes
        if logits.shape != (len(targets), count) or targets.ndim != 1:
            raise ValueError(f"logits {tuple(logits.shape)} and targets {tuple(targets.shape)} for {count} classes")
        outside = targets[(targets < 0) | (targets >= count)]
        if len(outside):
            raise ValueError(f"true class {int(outside[0])}, but there are {count} classes")
        targets = targets.long()
        logits = logits.nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=-torch.inf)
        own = logits.gather(1, targets[:, None])
        goes_first = torch.arange(count, device=logits.device) < targets[:, None]
        # By comparison: `topk` breaks ties in no stated order.
        rank = ((logits > own) | ((logits == own) & goes_first)).sum(dim=1)
        self.in_top5 += int((rank < _TOP).sum())
        self.pictures.update(zip(targets.tolist(), logits.max(dim=1).indices.tolist(), strict=True))

    def merge(self, other: ClassificationScores) -> None:
        """Add the counts of another part of the data set, of as many classes."""
        self.pictures += other.pictures
        self.in_top5 += other.in_top5

    def reset(self) -> None:
        self.pictures.clear()
        self.in_top5 = 0

    def compute(self, names: Sequence[str]) -> ClassificationMetrics:
        """Scores by class name (``names`` in the order of the indices)."""
        true, found = [0] * self.num_classes, [0] * self.num_classes
        for (truth, predicted), number in self.pictures.items():
            true[truth] += number
            found[truth] += number if truth == predicted else 0
        images = sum(true)
        return ClassificationMetrics(
            accuracy=_share(sum(found), images),
            top5_accuracy=_share(self.in_top5, images),
            class_accuracy={name: _share(*counts) for name, *counts in zip(names, found, true, strict=True)},
            images=images,
        )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
