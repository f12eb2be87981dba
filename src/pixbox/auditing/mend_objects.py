"""Boxes and outlines without what training cannot use: clipped, without empty, doubled and unknown ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from pixbox.auditing.changes import Change
from pixbox.auditing.objects import DUPLICATE_IOU
from pixbox.boxes.iou import pairwise_iou
from pixbox.conversion.objects import to_picture
from pixbox.data.annotation import annotation_scale, region_pixels, size_text
from pixbox.errors import DataError
from pixbox.labels import IGNORED_NAME, LabelMap
from pixbox.sample import Shape, Shapes

Box = tuple[float, float, float, float]


def mend_boxes(shapes: Shapes, size_hw: tuple[int, int], labels: LabelMap) -> tuple[tuple[Shape, ...], list[Change]]:
    """The objects of a picture as a detector can use them, in pixels of the picture, and what was changed.

    Objects of unknown class, with corners that are no numbers, without area, outside the picture, and the later of
    two of one class whose IoU is above 0.9 are dropped; inverted corners are swapped, boxes clipped.
    """
    kept: list[Shape] = []
    changes = _scaling(shapes, size_hw)
    for shape in to_picture(shapes, size_hw):
        where, text = shape.where or str(shapes.file), _text(shape)
        index = labels.class_of(shape.label)
        if index is None:
            changes.append(Change(where, "object dropped", f"{text}: unknown class"))
            continue
        if not all(map(math.isfinite, shape.box_xyxy)):
            changes.append(Change(where, "object dropped", f"{text}: a corner is no number"))
            continue
        mended = replace(shape, box_xyxy=_clipped(_upright(shape.box_xyxy), size_hw))
        x1, y1, x2, y2 = mended.box_xyxy
        if x2 <= x1 or y2 <= y1:
            changes.append(Change(where, "object dropped", f"{text}: no area in the picture"))
            continue
        changes += _moves(where, shape, mended)
        if not _is_readable(mended, size_hw):
            changes.append(Change(where, "outline dropped", f"{text}: its pixels cannot be read", "its box"))
            mended = replace(mended, region=None)
        kept.append(mended if index == IGNORED_NAME else replace(mended, label=labels.names[index]))
    unique, copies = _without_copies(kept, labels)
    changes += [Change(copy.where or str(shapes.file), "copy of a box dropped", _text(copy)) for copy in copies]
    return unique, changes


def mend_regions(shapes: Shapes, size_hw: tuple[int, int], labels: LabelMap) -> tuple[tuple[Shape, ...], list[Change]]:
    """The objects of a picture as they can be painted, in its pixels, and what was changed.

    Objects of unknown class are ignored: their pixels are no background. Where an object's pixels cannot be read,
    its box is ignored.
    """
    kept: list[Shape] = []
    changes = _scaling(shapes, size_hw)
    for shape in to_picture(shapes, size_hw):
        where, text = shape.where or str(shapes.file), _text(shape)
        if not _is_readable(shape, size_hw):
            changes.append(Change(where, "object ignored", f"{text}: its pixels cannot be read", "ignored box"))
            shape = replace(shape, region=None, crowd=True)
        if labels.class_of(shape.label) is None:
            changes.append(Change(where, "object ignored", f"{text}: unknown class", "ignored pixels"))
            shape = replace(shape, label=labels.names[0], crowd=True)
        kept.append(shape)
    return tuple(kept), changes


def _scaling(shapes: Shapes, size_hw: tuple[int, int]) -> list[Change]:
    if annotation_scale(shapes, size_hw) == (1.0, 1.0) or shapes.size_hw is None:
        return []
    return [Change(str(shapes.file), "annotation scaled", size_text(shapes.size_hw), size_text(size_hw))]


def _moves(where: str, shape: Shape, mended: Shape) -> list[Change]:
    upright = _upright(shape.box_xyxy)
    changes = []
    if upright != shape.box_xyxy:
        changes.append(Change(where, "corners swapped", _text(shape), _text(replace(shape, box_xyxy=upright))))
    if mended.box_xyxy != upright:
        changes.append(Change(where, "box clipped", _text(replace(shape, box_xyxy=upright)), _text(mended)))
    return changes


def _is_readable(shape: Shape, size_hw: tuple[int, int]) -> bool:
    """Whether the pixels of an object can be had; outlines always can, unless they are endless."""
    if shape.region is None:
        return True
    try:
        region_pixels(shape, size_hw)
    except DataError:
        return False
    return True


def _upright(box: Box) -> Box:
    x1, y1, x2, y2 = box
    return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)


def _clipped(box: Box, size_hw: tuple[int, int]) -> Box:
    height, width = size_hw
    x1, y1, x2, y2 = box
    return max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))


def _without_copies(shapes: Sequence[Shape], labels: LabelMap) -> tuple[tuple[Shape, ...], list[Shape]]:
    """The objects without the later of two of one class that lie on each other, and those that were left out.

    Crowds and ignored objects stay: they may hold others.
    """
    boxes = torch.tensor([shape.box_xyxy for shape in shapes], dtype=torch.float64).reshape(-1, 4)
    of_class: dict[int, list[int]] = {}
    kept: list[Shape] = []
    copies: list[Shape] = []
    for number, shape in enumerate(shapes):
        index = labels.class_of(shape.label)
        if index is None or index == IGNORED_NAME or shape.crowd:
            kept.append(shape)
            continue
        others = of_class.setdefault(index, [])
        # One box at a time: all pairs of ten thousand would not fit into memory.
        if bool((pairwise_iou(boxes[[number]], boxes[others]) > DUPLICATE_IOU).any()):
            copies.append(shape)
        else:
            others.append(number)
            kept.append(shape)
    return tuple(kept), copies


def _text(shape: Shape) -> str:
    return '"{}" ({:g}, {:g}, {:g}, {:g})'.format(shape.label, *shape.box_xyxy)
