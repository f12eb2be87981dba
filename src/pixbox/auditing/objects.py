"""Boxes and outlines: what is wrong with single ones, and whether the anchors reach them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pixbox.auditing.result import AnchorSummary
from pixbox.augment import place_whole
from pixbox.boxes.anchors import octave_anchors
from pixbox.boxes.coverage import anchor_coverage, suggest_anchors
from pixbox.boxes.iou import pairwise_iou
from pixbox.config import DataConfig, DetectionConfig
from pixbox.data.annotation import same_proportions, size_text, to_boxes
from pixbox.data.findings import Finding, Findings
from pixbox.errors import DataError
from pixbox.labels import IGNORED_NAME, LabelMap
from pixbox.sample import Record, Shape, Shapes
from pixbox.tasks.detection import anchors_of

DUPLICATE_IOU = 0.9
"""Two boxes of one class that agree by more are one box that is there twice."""
# A corner one pixel outside is how many tools count the last row and column.
_OUTSIDE_TOLERANCE = 1.0
_TINY_SIDE = 3.0
_FEWEST_REACHED = 0.95
# All pairs of more boxes in one picture would take seconds.
_MOST_COMPARED = 2000


@dataclass(frozen=True, eq=False)
class ObjectCheck:
    """What the objects of one picture hold.

    Attributes:
        counts: (N,) int64 boxes of each class that training would use.
        boxes_xyxy: (K, 4) float32 those boxes, in pixels of the picture.
        findings: what is wrong with single objects.
    """

    counts: NDArray[np.int64]
    boxes_xyxy: NDArray[np.float32]
    findings: tuple[Finding, ...]


def check_objects(record: Record, shapes: Shapes, labels: LabelMap, image_hw: tuple[int, int]) -> ObjectCheck:
    """Check the boxes of a picture of this size, each by itself and against each other."""
    findings = Findings()
    _check_stated_size(record, shapes, image_hw, findings)
    for shape in shapes.shapes:
        _check_box(record, shapes, shape, image_hw, findings)
    if not shapes.shapes:
        findings.add("no-objects", str(shapes.file), f"no object is marked in {record.image}", id=record.id)
    try:
        boxes = to_boxes(shapes, image_hw, labels)
    except DataError as error:
        findings.add_error(error, file=str(shapes.file), id=record.id)
        return ObjectCheck(np.zeros(len(labels), np.int64), np.zeros((0, 4), np.float32), tuple(findings))
    _check_duplicates(record, shapes, labels, findings)
    counted = ~boxes.difficult
    counts = np.bincount(boxes.classes[counted], minlength=len(labels)).astype(np.int64)
    return ObjectCheck(counts, boxes.xyxy[counted], tuple(findings))


def compare_anchors(
    boxes: Sequence[NDArray[np.float32]],
    sizes_hw: Sequence[tuple[int, int]],
    data: DataConfig,
    detection: DetectionConfig,
) -> AnchorSummary | None:
    """How many boxes the configured anchors reach at the size that the network sees, and which would reach more.

    Args:
        boxes: (K, 4) boxes of each picture, in its pixels.
        sizes_hw: of each picture.

    Returns None without boxes.
    """
    scaled, inputs = [], []
    for xyxy, image_hw in zip(boxes, sizes_hw, strict=True):
        _, placement = place_whole(image_hw, data.size, data.fit, data.base_size)
        factor = [placement.content_hw[1] / image_hw[1], placement.content_hw[0] / image_hw[0]] * 2
        offset = [placement.left, placement.top] * 2
        scaled.append(xyxy * factor + offset)
        inputs.append(np.tile(placement.input_hw, (len(xyxy), 1)))
    placed = np.concatenate(scaled) if scaled else np.zeros((0, 4))
    if len(placed) == 0:
        return None
    size_hw = np.concatenate(inputs)
    anchors = anchors_of(detection)
    suggested = suggest_anchors(placed[:, 2:] - placed[:, :2], len(anchors.shapes[0]), detection.levels)
    recalls = [
        anchor_coverage(placed, candidate, size_hw, iou_threshold=detection.positive_iou).recall or 0.0
        for candidate in (anchors, octave_anchors(suggested, detection.levels))
    ]
    return AnchorSummary(len(placed), recalls[0], suggested, recalls[1], detection.levels)


def anchor_finding(anchors: AnchorSummary, detection: DetectionConfig) -> Finding | None:
    """What to say where the configured anchors leave more than a twentieth of the boxes unreached."""
    if anchors.recall >= _FEWEST_REACHED:
        return None
    missed = round(anchors.boxes * (1 - anchors.recall))
    message = (
        f"{missed:,} of {anchors.boxes:,} boxes ({1 - anchors.recall:.1%}) have no anchor of IoU >= "
        f"{detection.positive_iou:g} at the size that the network sees"
    )
    shapes = ", ".join(f"[{width:.1f}, {height:.1f}]" for width, height in anchors.suggested)
    hint = f"These would reach {anchors.suggested_recall:.1%}: --set 'detection.anchors=[{shapes}]'"
    if anchors.suggested_recall <= anchors.recall:
        hint = "A larger `data.size` makes small boxes reachable."
    return Finding("anchor-coverage", "", message, hint, details={"count": missed, "recall": anchors.recall})


def _check_stated_size(record: Record, shapes: Shapes, image_hw: tuple[int, int], findings: Findings) -> None:
    stated = shapes.size_hw
    if stated is None or stated == image_hw:
        return
    message = f"states a picture of {size_text(stated)} pixels, {record.image} is {size_text(image_hw)}"
    if 0 not in stated and same_proportions(stated, image_hw):
        findings.add("annotation-size", str(shapes.file), f"{message}; its coordinates are scaled", id=record.id)
        return
    turned = " (it is turned: was the annotation made before an orientation mark was applied?)"
    message += turned if stated == image_hw[::-1] else ""
    hint = "The objects probably lie elsewhere in this picture: look at its overlay."
    findings.add("annotation-size", str(shapes.file), message, hint, id=record.id)


def _check_box(record: Record, shapes: Shapes, shape: Shape, image_hw: tuple[int, int], findings: Findings) -> None:
    x1, y1, x2, y2 = shape.box_xyxy
    where = shape.where or str(shapes.file)
    height, width = shapes.size_hw if shapes.size_hw and 0 not in shapes.size_hw else image_hw
    text = f'"{shape.label}" ({x1:g}, {y1:g}, {x2:g}, {y2:g})'
    details: dict[str, Any] = {"box": [x1, y1, x2, y2], "class": shape.label}
    if not all(math.isfinite(corner) for corner in shape.box_xyxy):
        details["box"] = [str(corner) for corner in shape.box_xyxy]
        findings.add("invalid-box", where, f"{text}: a corner is no number", "Mend it, or remove the object.",
                     id=record.id, **details)  # fmt: skip
    elif x2 < x1 or y2 < y1:
        findings.add("inverted-box", where, f"{text}: x2 or y2 is less than x1 or y1",
                     "Swap the corners, or remove the object.", id=record.id, **details)  # fmt: skip
    elif x2 == x1 or y2 == y1:
        findings.add("empty-box", where, f"{text}: no area", "Remove it, or draw it anew.", id=record.id, **details)
    elif min(x2, width) <= max(x1, 0) or min(y2, height) <= max(y1, 0):
        findings.add("outside-box", where, f"{text} lies wholly outside its picture ({width} x {height})",
                     "It is dropped in training.", id=record.id, **details)  # fmt: skip
    elif max(-x1, -y1, x2 - width, y2 - height) > _OUTSIDE_TOLERANCE:
        findings.add("outside-box", where, f"{text} reaches outside its picture ({width} x {height})",
                     "It is clipped in training.", id=record.id, **details)  # fmt: skip
    elif min(x2 - x1, y2 - y1) < _TINY_SIDE:
        findings.add("tiny-box", where, f"{text}: {x2 - x1:g} x {y2 - y1:g} pixels", id=record.id, **details)


def _check_duplicates(record: Record, shapes: Shapes, labels: LabelMap, findings: Findings) -> None:
    """Boxes of one class whose IoU is above 0.9; the later one is named."""
    shown = [shape for shape in shapes.shapes if labels.class_of(shape.label) != IGNORED_NAME and not shape.crowd]
    shown = [shape for shape in shown[:_MOST_COMPARED] if all(map(math.isfinite, shape.box_xyxy))]
    if len(shown) < 2:
        return
    boxes = torch.tensor([shape.box_xyxy for shape in shown], dtype=torch.float64)
    classes = torch.tensor([labels.class_of(shape.label) or 0 for shape in shown])
    same = (pairwise_iou(boxes, boxes) > DUPLICATE_IOU) & (classes[:, None] == classes[None])
    for later, earlier in same.tril(-1).nonzero().tolist():
        first, second = shown[earlier], shown[later]
        overlap = float(pairwise_iou(boxes[[earlier]], boxes[[later]]))
        message = f'"{second.label}" {_numbers(second)} lies on {_numbers(first)}, IoU {overlap:.3f}'
        findings.add("duplicate-box", second.where or str(shapes.file), message, "Remove one of them.",
                     id=record.id, iou=overlap, box=list(second.box_xyxy))  # fmt: skip


def _numbers(shape: Shape) -> str:
    return "({:g}, {:g}, {:g}, {:g})".format(*shape.box_xyxy)
