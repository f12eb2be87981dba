"""Finding objects: network, anchors, loss, metric and decoding of a one-stage detector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixbox.boxes import (
    Anchors,
    Selection,
    compact_anchors,
    grid,
    match_anchors,
    octave_anchors,
    paper_anchors,
    select_detections,
    torchvision_anchors,
)
from pixbox.config import DetectionConfig, Experiment
from pixbox.drawing import draw_boxes
from pixbox.labels import LabelMap
from pixbox.losses import Assignment, DetectionLoss, detection_total
from pixbox.metrics import ConfusionMatrix, DetectionMetrics, DetectionScores
from pixbox.networks.build import build_detector
from pixbox.networks.retinanet import DetectionNetwork
from pixbox.sample import Batch, Boxes, BoxTargets, Placement, Target, stack_boxes
from pixbox.tasks.task import Task


@dataclass(frozen=True, slots=True)
class AnchorAnswer:
    """What the network says of every anchor of one picture.

    Attributes:
        logits: (1, K, C), of the network's float type.
        offsets: (1, K, 4), likewise.
        input_hw: of the network's input, pixels.
    """

    logits: Tensor
    offsets: Tensor
    input_hw: tuple[int, int]


class DetectionTask(Task):
    """Boxes. An answer is an ``AnchorAnswer``, a prediction a ``Selection`` in the original picture's pixels."""

    network: DetectionNetwork

    def __init__(
        self,
        network: DetectionNetwork,
        anchors: Anchors,
        loss: DetectionLoss,
        labels: LabelMap,
        settings: DetectionConfig,
    ) -> None:
        super().__init__()
        self.network = network
        self.anchors = anchors
        self.loss = loss
        self.labels = labels
        self.settings = settings
        # A step asks for the weights of all its batches before the first forward pass.
        self._assignments: dict[int, Assignment] = {}

    def loss_weights(self, batch: Batch) -> Tensor:
        assignment = self._assign(_boxes(batch), (batch.images.shape[-2], batch.images.shape[-1]))
        self._assignments[id(batch)] = assignment
        return self.loss.weights(assignment.matches)

    def loss_sums(self, batch: Batch, seen: ConfusionMatrix | None) -> Tensor:
        assignment = self._assignments.pop(id(batch), None)
        if assignment is None:
            assignment = self._assign(_boxes(batch), (batch.images.shape[-2], batch.images.shape[-1]))
        logits, offsets = self.network(batch.images)
        return self.loss.sums(logits, offsets, assignment)

    def total(self, sums: Tensor, weights: Tensor) -> Tensor:
        return detection_total(sums, weights)

    def training_confusion(self) -> None:
        return None

    def training_figures(self, seen: ConfusionMatrix) -> dict[str, float | None]:
        return {}

    def answers(self, images: Sequence[NDArray[np.uint8]], placements: Sequence[Placement]) -> list[AnchorAnswer]:
        logits, offsets = self.network(self._as_input(images))
        input_hw = (images[0].shape[0], images[0].shape[1])
        each = zip(logits[:, None], offsets[:, None], strict=True)
        return [AnchorAnswer(said, moved, input_hw) for said, moved in each]

    def decode(self, answer: AnchorAnswer, placement: Placement) -> Selection:
        return self.decode_together([answer], [placement])[0]

    def decode_together(self, answers: Sequence[AnchorAnswer], placements: Sequence[Placement]) -> list[Selection]:
        input_hw, device = answers[0].input_hw, answers[0].logits.device
        contents = torch.tensor([_content_xyxy(placement) for placement in placements], device=device)
        found = select_detections(
            torch.cat([answer.logits for answer in answers]),
            torch.cat([answer.offsets for answer in answers]),
            grid(self.anchors, input_hw, device),
            pictures_xyxy=contents,
            level_lengths=self.anchors.level_lengths(input_hw),
            score_threshold=self.settings.score_threshold,
            topk=self.settings.candidates,
            overlap=self.settings.overlap,
            overlap_threshold=self.settings.overlap_threshold,
            max_detections=self.settings.max_detections,
        )
        return [
            self.in_original(Selection(one.boxes_xyxy - content[:2].repeat(2), one.classes, one.scores), placement)
            for one, content, placement in zip(found, contents, placements, strict=True)
        ]

    def in_original(self, found: Selection, placement: Placement) -> Selection:
        """Boxes in the pixels of the picture as it lies in the network's input, carried to the original's."""
        boxes = found.boxes_xyxy / found.boxes_xyxy.new_tensor(_scale(placement))
        height, width = placement.original_hw
        # Rounding must not carry a corner out of the picture.
        boxes = torch.minimum(boxes.clamp(min=0), boxes.new_tensor([width, height, width, height]))
        return Selection(boxes, found.classes, found.scores)

    def validation_loss(self, answer: AnchorAnswer, placement: Placement, target: Target) -> tuple[Tensor, Tensor]:
        truth = _truth(target)
        placed = truth.xyxy * np.array(_scale(placement)) + np.array([placement.left, placement.top] * 2)
        moved = replace(truth, xyxy=placed.astype(np.float32))
        assignment = self._assign(stack_boxes([moved]).to(answer.logits.device), answer.input_hw)
        return (
            self.loss.sums(answer.logits.float(), answer.offsets.float(), assignment),
            self.loss.weights(assignment.matches),
        )

    def picture(self, image: NDArray[np.uint8], labelled: Selection | Target) -> NDArray[np.uint8]:
        if not isinstance(labelled, Selection):
            truth = _truth(labelled)
            return draw_boxes(image, truth.xyxy, truth.classes, self.labels)
        shown = labelled.scores >= self.settings.shown_score
        boxes, classes = labelled.boxes_xyxy[shown].cpu().numpy(), labelled.classes[shown].cpu().numpy()
        return draw_boxes(image, boxes, classes, self.labels, labelled.scores[shown].cpu().numpy())

    def scores(self) -> DetectionScores:
        return DetectionScores(len(self.labels))

    def score(self, scores: DetectionScores, index: int, prediction: Selection, target: Target) -> None:
        scores.update(index, prediction.boxes_xyxy, prediction.classes, prediction.scores, _truth(target))

    def metrics(self, scores: DetectionScores, images: int) -> DetectionMetrics:
        return scores.compute(self.labels.names)

    def class_figures(self, metrics: DetectionMetrics) -> dict[str, float | None]:
        return {f"class_ap_50/{name}": value for name, value in metrics.class_ap_50.items()}

    def _assign(self, targets: BoxTargets, size_hw: tuple[int, int]) -> Assignment:
        anchors = grid(self.anchors, size_hw, targets.boxes_xyxy.device)
        matches = match_anchors(
            targets.boxes_xyxy,
            targets.valid,
            anchors,
            positive_iou=self.settings.positive_iou,
            negative_iou=self.settings.negative_iou,
            ignored=targets.difficult,
        )
        return Assignment(matches, targets.boxes_xyxy, targets.classes, anchors)


def build_detection(experiment: Experiment, labels: LabelMap) -> DetectionTask:
    """Network, anchors and loss as the experiment names them, with fresh weights.

    Raises:
        ModelError: the network cannot be built as asked.
        ConfigError: an option of it is unknown or wrong.
    """
    settings = experiment.detection
    anchors = anchors_of(settings)
    loss = DetectionLoss(
        alpha=settings.focal_alpha,
        gamma=experiment.loss.gamma,
        box_loss=settings.box_loss,
        beta=settings.smooth_l1_beta,
        box_weight=settings.box_weight,
    )
    network = build_detector(experiment.model, len(labels), len(anchors.shapes[0]), settings.levels)
    return DetectionTask(network, anchors, loss, labels, settings)


def anchors_of(settings: DetectionConfig) -> Anchors:
    """The anchors that a configuration names."""
    if settings.anchors == "torchvision":
        return torchvision_anchors()
    if settings.anchors == "paper":
        shapes = paper_anchors().shapes[0]
    elif settings.anchors == "compact":
        shapes = compact_anchors().shapes[0]
    else:
        shapes = tuple(settings.anchors)
    return octave_anchors(shapes, settings.levels)


def _scale(placement: Placement) -> list[float]:
    """Input pixels per original pixel, (x, y, x, y)."""
    (height, width), (original_height, original_width) = placement.content_hw, placement.original_hw
    return [width / original_width, height / original_height] * 2


def _content_xyxy(placement: Placement) -> list[float]:
    """Where the picture lies in the network's input."""
    height, width = placement.content_hw
    return [float(side) for side in (placement.left, placement.top, placement.left + width, placement.top + height)]


def _boxes(batch: Batch) -> BoxTargets:
    assert isinstance(batch.targets, BoxTargets)
    return batch.targets


def _truth(target: Target) -> Boxes:
    assert isinstance(target, Boxes)
    return target
