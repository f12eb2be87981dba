"""From an annotation to what a task learns: class indices of pixels, or boxes with class indices."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from faster_coco_eval.core import mask as coco_mask
from numpy.typing import NDArray

from pixbox.data.images import read_mask
from pixbox.errors import DataError, Fault, did_you_mean
from pixbox.labels import IGNORE, LabelMap
from pixbox.sample import Boxes, Record, RunLengths, Shape, Shapes


def read_classes(record: Record, labels: LabelMap, size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """The class of every pixel of a picture of this size: (H, W) uint8, 0..N-1 or ``IGNORE``.

    A mask of another size but the picture's proportions is resized (nearest neighbour).

    Raises:
        DataError: naming the file: it cannot be read, does not cover the picture, or holds values or names that
            the label map does not have; or the record has no annotation of pixels.
    """
    annotation = record.annotation
    if isinstance(annotation, Shapes):
        return paint(annotation, size_hw, labels)
    if not isinstance(annotation, Path):
        raise DataError("has no mask", where=str(record.image), code="missing-mask",
                        hint="Leave it out (`data.exclude`), or label it.")  # fmt: skip
    try:
        classes = labels.encode(read_mask(annotation))
    except DataError as error:
        raise type(error)([replace(f, where=f.where or str(annotation)) for f in error.faults]) from None
    return fit_mask(classes, size_hw, f"{annotation}", f"{record.image}")


def fit_mask(mask: NDArray[np.uint8], size_hw: tuple[int, int], where: str, picture: str) -> NDArray[np.uint8]:
    """A mask brought to its picture's size by nearest neighbour.

    Raises:
        DataError: the proportions differ by more than rounding.
    """
    mask_hw = (mask.shape[0], mask.shape[1])
    if mask_hw == size_hw:
        return mask
    if not same_proportions(mask_hw, size_hw):
        what = f"the mask is {size_text(mask_hw)} pixels, its picture {picture} is {size_text(size_hw)}"
        hint = "A mask must cover its picture; leave both out (`data.exclude`), or mend them."
        raise DataError(what, where=where, hint=hint, code="mask-size")
    resized = cv2.resize(mask, (size_hw[1], size_hw[0]), interpolation=cv2.INTER_NEAREST_EXACT)
    return np.asarray(resized, dtype=np.uint8)


def paint(shapes: Shapes, size_hw: tuple[int, int], labels: LabelMap) -> NDArray[np.uint8]:
    """The class of every pixel: objects painted one over another, (H, W) uint8, 0..N-1 or ``IGNORE``.

    Outlines are filled by COCO's rule (a pixel counts by its centre). An object of which only the box is known
    fills its box. Crowds are ignored. Pixels that no object covers have the class of value 0.

    Raises:
        DataError: class names that the label map does not have; regions that do not fit the picture.
    """
    painted = np.full(size_hw, labels.outside, dtype=np.uint8)
    scale = _scale(shapes, size_hw)
    for shape, index in zip(shapes.shapes, class_indices(shapes, labels), strict=True):
        painted[region_pixels(shape, size_hw, scale)] = IGNORE if shape.crowd else index
    return painted


def to_boxes(shapes: Shapes, size_hw: tuple[int, int], labels: LabelMap) -> Boxes:
    """The boxes of a picture, clipped to it. Boxes without area, NaN and inverted ones are left out.

    Ignored names and crowds become `difficult`: they count neither as found nor as missed.

    Raises:
        DataError: class names that the label map does not have.
    """
    scale_x, scale_y = _scale(shapes, size_hw)
    height, width = size_hw
    kept: list[tuple[float, ...]] = []
    classes: list[int] = []
    difficult: list[bool] = []
    for shape, index in zip(shapes.shapes, class_indices(shapes, labels), strict=True):
        x1, y1, x2, y2 = shape.box_xyxy
        box = (max(0.0, x1 * scale_x), max(0.0, y1 * scale_y),
               min(float(width), x2 * scale_x), min(float(height), y2 * scale_y))  # fmt: skip
        # Written so that a NaN is left out, too.
        if box[2] > box[0] and box[3] > box[1]:
            kept.append(box)
            classes.append(0 if index == IGNORE else index)
            difficult.append(shape.difficult or shape.crowd or index == IGNORE)
    xyxy = np.array(kept, dtype=np.float32).reshape(-1, 4)
    return Boxes(xyxy, np.array(classes, dtype=np.int64), np.array(difficult, dtype=np.bool_))


def class_indices(shapes: Shapes, labels: LabelMap) -> list[int]:
    """Class index, or ``IGNORE``, of each object.

    Raises:
        DataError: names that the label map does not have, each once.
    """
    known = {name: labels.class_of(name) for name in {shape.label for shape in shapes.shapes}}
    faults = []
    for name in sorted(name for name, index in known.items() if index is None):
        marked = [shape for shape in shapes.shapes if shape.label == name]
        what = f'class "{name}" ({len(marked)} objects) is not in the label map'
        hint = f"{did_you_mean(name, labels.names)} Add it, list it under `aliases` or `ignore_names`."
        faults.append(Fault(marked[0].where or str(shapes.file), what, hint, "unknown-class"))
    if faults:
        raise DataError(faults)
    return [known[shape.label] or 0 for shape in shapes.shapes]


def region_pixels(
    shape: Shape, size_hw: tuple[int, int], scale_xy: tuple[float, float] = (1.0, 1.0)
) -> NDArray[np.bool_]:
    """(H, W) bool: the pixels of an object in a picture of this size.

    ``scale_xy`` carries the coordinates of the annotation to the picture's pixels.

    Raises:
        DataError: a region whose own size does not fit the picture, or that cannot be read.
    """
    height, width = size_hw
    region = shape.region
    if region is None:
        x1, y1, x2, y2 = np.nan_to_num(np.array(shape.box_xyxy) * (*scale_xy, *scale_xy), posinf=0, neginf=0)
        region = (np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)]),)
        scale_xy = (1.0, 1.0)
    if isinstance(region, tuple):
        outlines = [(ring * scale_xy).ravel().tolist() for ring in region if len(ring) >= 3 and np.isfinite(ring).all()]
        if not outlines:
            return np.zeros(size_hw, dtype=np.bool_)
        code = coco_mask.merge(coco_mask.frPyObjects(outlines, height, width))
        return np.asarray(coco_mask.decode(code), dtype=np.bool_)
    if isinstance(region, RunLengths):
        mask = _decode(region, shape.where)
    else:
        pixels = read_mask(region).pixels
        mask = np.asarray(pixels.any(axis=2) if pixels.ndim == 3 else pixels != 0, dtype=np.uint8)
    return fit_mask(mask, size_hw, str(region) if isinstance(region, Path) else shape.where, "").astype(np.bool_)


def _decode(region: RunLengths, where: str) -> NDArray[np.uint8]:
    height, width = region.size_hw
    if isinstance(region.counts, bytes):
        return np.asarray(coco_mask.decode({"size": [height, width], "counts": region.counts}), dtype=np.uint8)
    lengths = np.array(region.counts, dtype=np.int64)
    if lengths.sum() != height * width or (lengths < 0).any():
        raise DataError(f"run lengths of {lengths.sum():,} pixels for a picture of {size_text(region.size_hw)}",
                        where=where, code="bad-annotation")  # fmt: skip
    ones = np.arange(len(lengths)) % 2
    return np.repeat(ones, lengths).astype(np.uint8).reshape(width, height).T


def _scale(shapes: Shapes, size_hw: tuple[int, int]) -> tuple[float, float]:
    """Factors (x, y) from the size that the annotation states to the picture's; 1 where it states none like it."""
    if shapes.size_hw is None or 0 in shapes.size_hw or not same_proportions(shapes.size_hw, size_hw):
        return 1.0, 1.0
    return size_hw[1] / shapes.size_hw[1], size_hw[0] / shapes.size_hw[0]


def same_proportions(one_hw: tuple[int, int], other_hw: tuple[int, int]) -> bool:
    """Whether one size is the other times a factor, but for rounding to whole pixels."""
    (height, width), (other_height, other_width) = sorted((one_hw, other_hw))
    return (
        abs(height - other_height * width / other_width) <= 1 and abs(width - other_width * height / other_height) <= 1
    )


def size_text(size_hw: tuple[int, int]) -> str:
    """``480 x 360``: width first, as people say it."""
    return f"{size_hw[1]} x {size_hw[0]}"
