"""Naming whole pictures: network, loss, metric and decoding. Its encoders start the other tasks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pixbox.config import Experiment
from pixbox.drawing import caption
from pixbox.labels import LabelMap
from pixbox.metrics import ClassificationMetrics, ClassificationScores, ConfusionMatrix
from pixbox.networks.build import build_classifier
from pixbox.networks.classifier import ClassificationNetwork
from pixbox.sample import Batch, Category, Placement, Target
from pixbox.tasks.mixing import Mixing
from pixbox.tasks.task import Task

MOST_CURVES = 100
"""Classes that have a curve each in the training log."""

UNMIXED = Mixing()


class ClassificationTask(Task):
    """Whole pictures. An answer is (1, N) float32 logits, a prediction (N,) float32 probabilities."""

    network: ClassificationNetwork

    def __init__(
        self, network: ClassificationNetwork, labels: LabelMap, label_smoothing: float, mixing: Mixing = UNMIXED
    ) -> None:
        super().__init__()
        self.network = network
        self.labels = labels
        self.label_smoothing = label_smoothing
        self.mixing = mixing

    def loss_weights(self, batch: Batch) -> Tensor:
        return torch.tensor([float(len(batch))], device=batch.images.device)

    def loss_sums(self, batch: Batch, seen: ConfusionMatrix | None) -> Tensor:
        targets = batch.targets
        assert isinstance(targets, Tensor)
        images, share = self.mixing(batch.images)
        others = targets.roll(1)
        logits = self.network(images)
        if seen is not None:
            # A mixed picture is one of the class that most of it is of.
            found = logits.detach().argmax(dim=1) == (targets if share >= 0.5 else others)
            seen.matrix[1] += torch.bincount(found.long(), minlength=2).cpu()
        if share == 1:
            return self._sum(logits, targets)
        # The loss is linear in the truth: this is that of the mixed truth, without a row of N shares a picture.
        return share * self._sum(logits, targets) + (1 - share) * self._sum(logits, others)

    def total(self, sums: Tensor, weights: Tensor) -> Tensor:
        return (sums / weights.clamp(min=1)).sum()

    def training_confusion(self) -> ConfusionMatrix:
        """Pictures that were not found (column 0) and found (column 1), in row 1.

        The log wants no more, and counting every pair of a thousand classes would take longer than a small network.
        """
        return ConfusionMatrix(2)

    def training_figures(self, seen: ConfusionMatrix) -> dict[str, float | None]:
        return {"accuracy": seen.compute(("not found", "found")).pixel_accuracy}

    def answers(self, images: Sequence[NDArray[np.uint8]], placements: Sequence[Placement]) -> list[Tensor]:
        logits: Tensor = self.network(self._as_input(images))
        return list(logits.float()[:, None])

    def decode(self, answer: Tensor, placement: Placement) -> Tensor:
        return answer.softmax(dim=1)[0]

    def validation_loss(self, answer: Tensor, placement: Placement, target: Target) -> tuple[Tensor, Tensor]:
        truth = torch.tensor([_truth(target)], device=answer.device)
        return self._sum(answer, truth), torch.ones(1, device=answer.device)

    def picture(self, image: NDArray[np.uint8], labelled: Tensor | Target) -> NDArray[np.uint8]:
        index = int(labelled.argmax()) if isinstance(labelled, Tensor) else _truth(labelled)
        return caption(image, self.labels.names[index])

    def scores(self) -> ClassificationScores:
        return ClassificationScores(len(self.labels))

    def score(self, scores: ClassificationScores, index: int, prediction: Tensor, target: Target) -> None:
        scores.update(prediction[None], torch.tensor([_truth(target)], device=prediction.device))

    def metrics(self, scores: ClassificationScores, images: int) -> ClassificationMetrics:
        return scores.compute(self.labels.names)

    def class_figures(self, metrics: ClassificationMetrics) -> dict[str, float | None]:
        """Of more than ``MOST_CURVES`` classes nothing: nobody looks through so many charts; `evaluate` tells all."""
        if len(metrics.class_accuracy) > MOST_CURVES:
            return {}
        return {f"class_accuracy/{name}": value for name, value in metrics.class_accuracy.items()}

    def _sum(self, logits: Tensor, targets: Tensor) -> Tensor:
        # In float32: half precision loses the small probabilities.
        return functional.cross_entropy(logits.float(), targets, reduction="sum", label_smoothing=self.label_smoothing)[
            None
        ]


def build_classification(experiment: Experiment, labels: LabelMap) -> ClassificationTask:
    """Network and loss as the experiment names them, with fresh weights.

    Raises:
        ModelError: the network cannot be built as asked.
        ConfigError: an option of it is unknown or wrong.
    """
    network = build_classifier(experiment.model, len(labels))
    augment = experiment.data.augment
    return ClassificationTask(network, labels, experiment.loss.label_smoothing, Mixing(augment.mixup, augment.cutmix))


def _truth(target: Target) -> int:
    assert isinstance(target, Category)
    return target.index
