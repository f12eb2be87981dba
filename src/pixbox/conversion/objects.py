"""Objects as writers take them: under the label map's names, in pixels of their picture."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from faster_coco_eval.core import mask as coco_mask
from numpy.typing import NDArray

from pixbox.data.annotation import annotation_scale, region_pixels, run_lengths
from pixbox.data.findings import Findings
from pixbox.errors import did_you_mean
from pixbox.labels import IGNORE, IGNORED_NAME, LabelMap
from pixbox.sample import Record, RunLengths, Shape, Shapes

IGNORED = "ignore"
"""Name of the one object that holds the ignored pixels of a mask."""


def to_picture(shapes: Shapes, size_hw: tuple[int, int]) -> tuple[Shape, ...]:
    """The objects with boxes and outlines in pixels of a picture of this size; other regions stay as they are."""
    x, y = annotation_scale(shapes, size_hw)
    if (x, y) == (1.0, 1.0):
        return shapes.shapes
    return tuple(_scaled(shape, x, y) for shape in shapes.shapes)


def _scaled(shape: Shape, x: float, y: float) -> Shape:
    x1, y1, x2, y2 = shape.box_xyxy
    region = shape.region
    if isinstance(region, tuple):
        region = tuple(ring * (x, y) for ring in region)
    return replace(shape, box_xyxy=(x1 * x, y1 * y, x2 * x, y2 * y), region=region)


def known_objects(
    record: Record, shapes: Shapes, size_hw: tuple[int, int], labels: LabelMap, left_out: Findings
) -> tuple[Shape, ...]:
    """The objects under their class's name; ignored ones keep the name that is written.

    Objects whose class the label map lacks, and those whose box has corners that are no numbers or in the wrong
    order, are findings.
    """
    kept = []
    for shape in to_picture(shapes, size_hw):
        index = labels.class_of(shape.label)
        x1, y1, x2, y2 = shape.box_xyxy
        fault = ""
        if index is None:
            code, fault = "unknown-class", f'class "{shape.label}" is not in the label map'
        elif not all(map(math.isfinite, shape.box_xyxy)):
            code, fault = "invalid-box", f'"{shape.label}" ({x1:g}, {y1:g}, {x2:g}, {y2:g}): a corner is no number'
        elif x2 < x1 or y2 < y1:
            code, fault = (
                "inverted-box",
                f'"{shape.label}" ({x1:g}, {y1:g}, {x2:g}, {y2:g}): corners in the wrong order',
            )
        if fault:
            hint = did_you_mean(shape.label, labels.names) if index is None else ""
            left_out.add(code, shape.where or str(shapes.file), f"{fault}; the object is left out", hint, id=record.id)
        else:
            kept.append(shape if index == IGNORED_NAME else replace(shape, label=labels.names[index or 0]))
    return tuple(kept)


def class_regions(classes: NDArray[np.uint8], labels: LabelMap) -> tuple[Shape, ...]:
    """The connected regions (8 neighbours) of each class of a mask, (H, W) class indices, as objects.

    What no object would cover, the class of value 0, is left out. All ignored pixels are one crowd, ``IGNORED``.
    Painted again, the objects give the mask.
    """
    shapes: list[Shape] = []
    for index in np.unique(classes):
        if index == labels.outside:
            continue
        ones = (classes == index).astype(np.uint8)
        if index == IGNORE:
            shapes.append(_as_shape(IGNORED, ones, (0, 0), classes.shape, crowd=True))
            continue
        count, numbers, stats, _ = cv2.connectedComponentsWithStats(ones, connectivity=8)
        for number in range(1, count):
            x, y, width, height = (int(part) for part in stats[number, :4])
            window = numbers[y : y + height, x : x + width] == number
            shapes.append(_as_shape(labels.names[index], window, (x, y), classes.shape))
    return tuple(shapes)


def _as_shape(
    label: str, window: NDArray[np.uint8 | np.bool_], corner_xy: tuple[int, int], size_hw: tuple[int, ...],
    *, crowd: bool = False,
) -> Shape:  # fmt: skip
    """The pixels of a window, whose upper left corner is given, as an object."""
    x, y = corner_xy
    columns, rows = np.nonzero(window.T)
    places = (columns + x) * size_hw[0] + rows + y
    box = x + columns[0], y + rows.min(), x + columns[-1] + 1, y + rows.max() + 1
    x1, y1, x2, y2 = (float(corner) for corner in box)
    return Shape(label, (x1, y1, x2, y2), RunLengths((size_hw[0], size_hw[1]), _runs(places, size_hw)), crowd=crowd)


def _runs(places: NDArray[np.int64], size_hw: tuple[int, ...]) -> tuple[int, ...]:
    """Run lengths of 0 and 1 in turn; ``places`` are those of the ones, column by column, ascending."""
    breaks = np.flatnonzero(np.diff(places) != 1)
    starts = places[np.concatenate(([0], breaks + 1))]
    ends = places[np.concatenate((breaks, [len(places) - 1]))] + 1
    borders = np.concatenate(([0], np.stack([starts, ends], axis=1).ravel(), [size_hw[0] * size_hw[1]]))
    lengths = np.diff(borders)
    return tuple(int(length) for length in (lengths if lengths[-1] else lengths[:-1]))


def encoded_region(shape: Shape, size_hw: tuple[int, int]) -> dict[str, Any]:
    """COCO's run-length code of an object's pixels: ``size`` and ``counts``; of all of its box if only that is known.

    Raises:
        DataError: its region cannot be read or does not fit the picture.
    """
    height, width = size_hw
    region = shape.region
    if isinstance(region, RunLengths) and region.size_hw == size_hw:
        lengths = run_lengths(region, shape.where).tolist()
        return dict(coco_mask.frPyObjects({"size": [height, width], "counts": lengths}, height, width))
    return dict(coco_mask.encode(np.asfortranarray(region_pixels(shape, size_hw), dtype=np.uint8)))


def usable_outlines(shape: Shape) -> tuple[NDArray[np.float64], ...]:
    """The outlines of an object that hold pixels: of three points and more, all of them numbers."""
    outlines = shape.region if isinstance(shape.region, tuple) else ()
    return tuple(ring for ring in outlines if len(ring) >= 3 and np.isfinite(ring).all())
