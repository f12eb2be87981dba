"""Labelling pixels: network, loss, metric and decoding of semantic segmentation."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from pixbox.config import Experiment
from pixbox.labels import LabelMap
from pixbox.losses import SegmentationLoss, build_loss
from pixbox.metrics import ConfusionMatrix, predicted_classes
from pixbox.networks.build import build_network
from pixbox.networks.network import SegmentationNetwork
from pixbox.sample import Batch, Placement


class SegmentationTask(nn.Module):
    """Plain PyTorch: no trainer, no files. Its ``state_dict`` is what a checkpoint holds."""

    def __init__(
        self, network: SegmentationNetwork, loss: SegmentationLoss, labels: LabelMap, auxiliary_weight: float
    ) -> None:
        super().__init__()
        self.network = network
        self.loss = loss
        self.labels = labels
        self.auxiliary_weight = auxiliary_weight

    def loss_weights(self, batch: Batch) -> Tensor:
        """(T,) float: what each term of the loss is divided by, summed over this batch. Needs only the targets."""
        return self.loss.weights(batch.targets)

    def loss_sums(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """One training forward pass.

        Returns (T,) float loss sums with gradient, the auxiliary head's included, and the
        (B, H, W) uint8 classes that the network predicted on its way.
        """
        logits, auxiliary = self.network.forward_training(batch.images)
        sums = self.loss.sums(logits, batch.targets)
        if auxiliary is not None:
            sums = sums + self.auxiliary_weight * self.loss.sums(auxiliary, batch.targets)
        return sums, predicted_classes(logits.detach())

    def confusion(self) -> ConfusionMatrix:
        return ConfusionMatrix(len(self.labels))

    def logits(self, image: NDArray[np.uint8], placement: Placement) -> Tensor:
        """Logits of a picture's own pixels, at the size at which it lies in the network's input.

        ``image`` is (H, W, 3) uint8 RGB, the network's input. Returns (1, N, h, w) float32 on the task's device.
        """
        device = next(self.parameters()).device
        # A copy: cached pictures are read-only, and torch warns of sharing them.
        images = torch.from_numpy(image.copy()).to(device).permute(2, 0, 1)[None]
        logits: Tensor = self.network(images).float()
        height, width = placement.content_hw
        return logits[:, :, placement.top : placement.top + height, placement.left : placement.left + width]

    def probabilities(self, logits: Tensor, placement: Placement) -> Tensor:
        """Softmax at the original size: (B, N, h, w) logits -> (B, N, H0, W0) float32 that sum to one over N.

        Probabilities are resized, not logits: a mean of probabilities is a probability.
        """
        probabilities = logits.softmax(dim=1)
        if placement.content_hw == placement.original_hw:
            return probabilities
        return _resize(probabilities, placement.original_hw)

    def classes(self, logits: Tensor, placement: Placement) -> Tensor:
        """(B, H0, W0) uint8: the most probable class of every original pixel."""
        if placement.content_hw == placement.original_hw:
            return predicted_classes(logits)
        return predicted_classes(self.probabilities(logits, placement))

    def validation_loss(self, logits: Tensor, placement: Placement, target: Tensor) -> tuple[Tensor, Tensor]:
        """Sums and weights (T,) of the loss against (B, H0, W0) uint8 truth at the original size."""
        if placement.content_hw != placement.original_hw:
            logits = _resize(logits, placement.original_hw)
        return self.loss.sums(logits, target), self.loss.weights(target)


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


def _resize(values: Tensor, size_hw: tuple[int, int]) -> Tensor:
    shrinks = values.shape[-2] > size_hw[0] or values.shape[-1] > size_hw[1]
    resized: Tensor = F.interpolate(values, size_hw, mode="bilinear", align_corners=False, antialias=shrinks)
    return resized
