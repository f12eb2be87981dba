"""Labelling pixels: network, loss, metric and decoding of semantic segmentation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from pixbox.config import Experiment
from pixbox.labels import LabelMap
from pixbox.losses import SegmentationLoss, build_loss, weighted_total
from pixbox.metrics import ConfusionMatrix, SegmentationMetrics, predicted_classes
from pixbox.networks.build import build_network
from pixbox.networks.network import SegmentationNetwork
from pixbox.sample import Batch, Mask, Placement, Target
from pixbox.tasks.task import Task


class SegmentationTask(Task):
    """Pixels. An answer is (1, N, h, w) logits, of the network's float type, at the size at which the picture lies in
    the network's input, a prediction (H0, W0) uint8 class indices."""

    network: SegmentationNetwork

    def __init__(
        self, network: SegmentationNetwork, loss: SegmentationLoss, labels: LabelMap, auxiliary_weight: float
    ) -> None:
        super().__init__()
        self.network = network
        self.loss = loss
        self.labels = labels
        self.auxiliary_weight = auxiliary_weight

    def loss_weights(self, batch: Batch) -> Tensor:
        return self.loss.weights(_pixels(batch))

    def loss_sums(self, batch: Batch, seen: ConfusionMatrix | None) -> Tensor:
        targets = _pixels(batch)
        logits, auxiliary = self.network.forward_training(batch.images)
        sums = self.loss.sums(logits, targets)
        if auxiliary is not None:
            sums = sums + self.auxiliary_weight * self.loss.sums(auxiliary, targets)
        if seen is not None:
            seen.update(predicted_classes(logits.detach()), targets)
        return sums

    def total(self, sums: Tensor, weights: Tensor) -> Tensor:
        return weighted_total(sums, weights)

    def training_figures(self, seen: ConfusionMatrix) -> dict[str, float | None]:
        metrics = seen.compute(self.labels.names)
        return {"pixel_accuracy": metrics.pixel_accuracy, "miou": metrics.miou}

    def answers(self, images: Sequence[NDArray[np.uint8]], placements: Sequence[Placement]) -> list[Tensor]:
        logits: Tensor = self.network(self._as_input(images))
        return [_content(said, placement) for said, placement in zip(logits[:, None], placements, strict=True)]

    def probabilities(self, answer: Tensor, placement: Placement) -> Tensor:
        """Softmax at the original size: (N, H0, W0) float32 that sum to one over N.

        Probabilities are resized, not logits: a mean of probabilities is a probability.
        """
        return self.resized(class_probabilities(answer), placement)[0]

    def resized(self, probabilities: Tensor, placement: Placement) -> Tensor:
        """(1, N, h, w) of the picture as it lies in the network's input -> (1, N, H0, W0)."""
        if placement.content_hw == placement.original_hw:
            return probabilities
        return _resize(probabilities, placement.original_hw)

    def decode(self, answer: Tensor, placement: Placement) -> Tensor:
        if placement.content_hw == placement.original_hw:
            return self.classes(answer)
        return self.classes(self.probabilities(answer, placement)[None])

    def classes(self, answer: Tensor) -> Tensor:
        """(H, W) uint8: the class of each pixel, from (1, N, H, W) logits or probabilities."""
        return predicted_classes(answer)[0]

    def validation_loss(self, answer: Tensor, placement: Placement, target: Target) -> tuple[Tensor, Tensor]:
        answer = answer.float()
        if placement.content_hw != placement.original_hw:
            answer = _resize(answer, placement.original_hw)
        truth = _truth(target).to(answer.device)[None]
        return self.loss.sums(answer, truth), self.loss.weights(truth)

    def picture(self, image: NDArray[np.uint8], labelled: Tensor | Target) -> NDArray[np.uint8]:
        classes = labelled.cpu() if isinstance(labelled, Tensor) else _truth(labelled)
        return self.labels.colorize(classes.numpy())

    def scores(self) -> ConfusionMatrix:
        return ConfusionMatrix(len(self.labels))

    def score(self, scores: ConfusionMatrix, index: int, prediction: Tensor, target: Target) -> None:
        scores.update(prediction, _truth(target).to(prediction.device))

    def metrics(self, scores: ConfusionMatrix, images: int) -> SegmentationMetrics:
        return scores.compute(self.labels.names, images)

    def class_figures(self, metrics: SegmentationMetrics) -> dict[str, float | None]:
        return {f"class_iou/{name}": iou for name, iou in metrics.class_iou.items()}


def class_probabilities(logits: Tensor) -> Tensor:
    """Softmax over the classes, (B, N, H, W) of any float type -> float32 in the same layout."""
    # Torch's own copies what lies channels last, and takes twice as long.
    shifted = logits.float() - logits.amax(dim=1, keepdim=True)
    exponentials = shifted.exp_()
    return exponentials.div_(exponentials.sum(dim=1, keepdim=True))


def build_segmentation(
    experiment: Experiment, labels: LabelMap, class_weights: Tensor | None = None
) -> SegmentationTask:
    """Network and loss as the experiment names them, with fresh weights.

    ``class_weights`` is (N,) float, or None where all classes weigh the same.

    Raises:
        ModelError: the network cannot be built as asked.
        ConfigError: the loss has no use for one of its settings.
    """
    loss = build_loss(
        experiment.loss.name,
        class_weights=class_weights,
        label_smoothing=experiment.loss.label_smoothing,
        gamma=experiment.loss.gamma,
        dice_weight=experiment.loss.dice_weight,
        ohem_threshold=experiment.loss.ohem_threshold,
        ohem_min_kept=experiment.loss.ohem_min_kept,
    )
    network = build_network(experiment.model, len(labels))
    return SegmentationTask(network, loss, labels, experiment.loss.auxiliary_weight)


def _pixels(batch: Batch) -> Tensor:
    assert isinstance(batch.targets, Tensor)
    return batch.targets


def _truth(target: Target) -> Tensor:
    assert isinstance(target, Mask)
    return torch.from_numpy(target.classes.copy())


def _content(logits: Tensor, placement: Placement) -> Tensor:
    """(1, N, h, w) where the picture lies in the network's input."""
    height, width = placement.content_hw
    return logits[:, :, placement.top : placement.top + height, placement.left : placement.left + width]


def _resize(values: Tensor, size_hw: tuple[int, int]) -> Tensor:
    shrinks = values.shape[-2] > size_hw[0] or values.shape[-1] > size_hw[1]
    resized: Tensor = F.interpolate(values, size_hw, mode="bilinear", align_corners=False, antialias=shrinks)
    return resized
