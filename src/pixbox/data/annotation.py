"""From an annotation to what a task learns: class indices of pixels, or boxes with class indices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from math import isfinite
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from faster_coco_eval.core import mask as coco_mask
from numpy.typing import NDArray

from pixbox.data.images import read_mask
from pixbox.errors import DataError, Fault, did_you_mean
from pixbox.labels import IGNORE, IGNORED_NAME, LabelMap
from pixbox.sample import Boxes, Category, MapSegment, Record, RunLengths, Shape, Shapes

_LONGEST_OUTLINE = 1 << 22
"""Pixels. The time and memory that filling takes grow with the length of the outline."""
MOST_PIXELS = 1 << 30
"""Of a picture whose regions are given by pixels: their memory stays bounded, whatever a file says."""
_FINE = 5
"""COCO's rule walks along an outline in fifths of a pixel."""
_KEPT_MAPS = 16

Window = tuple[slice, slice]
"""Rows and columns of a picture."""


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


def read_boxes(record: Record, labels: LabelMap, size_hw: tuple[int, int]) -> Boxes:
    """The boxes of a picture of this size (see ``to_boxes``).

    Raises:
        DataError: class names that the label map does not have; or the record has no annotation of objects.
    """
    if isinstance(record.annotation, Shapes):
        return to_boxes(record.annotation, size_hw, labels)
    raise DataError("has no boxes: its label is not one of objects", where=str(record.image), code="missing-mask",
                    hint="Set `data.format` to one that describes objects (coco, voc-boxes, yolo, ...).")  # fmt: skip


def read_category(record: Record, labels: LabelMap) -> Category:
    """The class of a whole picture.

    Raises:
        DataError: a class name that the label map does not have; or the record names no class.
    """
    if not isinstance(record.annotation, str):
        raise DataError("has no class: its label is not the name of one", where=str(record.image), code="missing-mask",
                        hint="Set `data.format` to `imagefolder` or `list`.")  # fmt: skip
    index = labels.class_of(record.annotation)
    if index == IGNORED_NAME:
        raise DataError(f'its class "{record.annotation}" is ignored', where=str(record.image),
                        hint="Leave the picture out (`data.exclude`).", code="unknown-class")  # fmt: skip
    if index is None:
        raise DataError(f'class "{record.annotation}" is not in the label map', where=str(record.image),
                        hint=did_you_mean(record.annotation, labels.names), code="unknown-class")  # fmt: skip
    return Category(index)


def fit_mask(mask: NDArray[np.uint8], size_hw: tuple[int, int], where: str, picture: str = "") -> NDArray[np.uint8]:
    """A mask brought to its picture's size by nearest neighbour.

    Raises:
        DataError: the proportions differ by more than rounding.
    """
    mask_hw = (mask.shape[0], mask.shape[1])
    if mask_hw == size_hw:
        return mask
    if not same_proportions(mask_hw, size_hw):
        what = f"the mask is {size_text(mask_hw)} pixels, {f'its picture {picture}'.strip()} is {size_text(size_hw)}"
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
    scale = annotation_scale(shapes, size_hw)
    for shape, index in zip(shapes.shapes, class_indices(shapes, labels), strict=True):
        window, pixels = _region(shape, size_hw, scale)
        painted[window][pixels] = IGNORE if shape.crowd or index == IGNORED_NAME else index
    return painted


def to_boxes(shapes: Shapes, size_hw: tuple[int, int], labels: LabelMap) -> Boxes:
    """The boxes of a picture, clipped to it. Boxes without area, NaN and inverted ones are left out.

    Crowds are `difficult` as well: they count neither as found nor as missed. An object of an ignored name becomes
    one difficult box of every class, because whatever is found there must not count as wrong.

    Raises:
        DataError: class names that the label map does not have.
    """
    scale_x, scale_y = annotation_scale(shapes, size_hw)
    height, width = size_hw
    kept: list[tuple[float, ...]] = []
    classes: list[int] = []
    difficult: list[bool] = []
    crowd: list[bool] = []
    for shape, index in zip(shapes.shapes, class_indices(shapes, labels), strict=True):
        x1, y1, x2, y2 = shape.box_xyxy
        box = (max(0.0, x1 * scale_x), max(0.0, y1 * scale_y),
               min(float(width), x2 * scale_x), min(float(height), y2 * scale_y))  # fmt: skip
        if all(map(isfinite, shape.box_xyxy)) and box[2] > box[0] and box[3] > box[1]:
            of_classes = range(len(labels)) if index == IGNORED_NAME else (index,)
            kept += [box] * len(of_classes)
            classes += of_classes
            difficult += [shape.difficult or shape.crowd or index == IGNORED_NAME] * len(of_classes)
            crowd += [shape.crowd] * len(of_classes)
    return Boxes(
        np.array(kept, dtype=np.float32).reshape(-1, 4),
        np.array(classes, dtype=np.int64),
        np.array(difficult, dtype=np.bool_),
        np.array(crowd, dtype=np.bool_),
    )


def class_indices(shapes: Shapes, labels: LabelMap) -> list[int]:
    """Class index, or ``IGNORED_NAME``, of each object.

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
    pixels = np.zeros(size_hw, dtype=np.bool_)
    window, inside = _region(shape, size_hw, scale_xy)
    pixels[window] = inside
    return pixels


def region_files(shapes: Shapes) -> list[Path]:
    """The mask files and maps, each once, that the regions of the objects lie in."""
    regions = (shape.region for shape in shapes.shapes)
    files = (region.file if isinstance(region, MapSegment) else region for region in regions)
    return list(dict.fromkeys(file for file in files if isinstance(file, Path)))


def pixel_bounds(pixels: NDArray[Any]) -> tuple[float, float, float, float] | None:
    """The smallest box (x1, y1, x2, y2) around all (H, W) pixels that are not zero; None where there is none."""
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    if not len(rows):
        return None
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def to_run_lengths(pixels: NDArray[Any]) -> RunLengths:
    """The (H, W) pixels that are not zero, in COCO's compressed text."""
    code = coco_mask.encode(np.asfortranarray(pixels != 0, dtype=np.uint8))
    return RunLengths((pixels.shape[0], pixels.shape[1]), code["counts"])


def run_lengths(region: RunLengths, where: str = "") -> NDArray[np.int64]:
    """The lengths of the runs of 0 and 1 in turn, uncompressed; together they cover the picture.

    Raises:
        DataError: they do not, or the compressed text is damaged.
    """
    height, width = region.size_hw
    lengths = (
        _uncompressed(region.counts) if isinstance(region.counts, bytes) else np.array(region.counts, dtype=np.int64)
    )
    if height * width > MOST_PIXELS:
        raise DataError(f"run lengths of a picture of {size_text(region.size_hw)} pixels: too large to be read",
                        where=where, code="bad-annotation")  # fmt: skip
    if ((lengths < 0) | (lengths > height * width)).any() or lengths.sum() != height * width:
        raise DataError(f"run lengths of {lengths.sum():,} pixels for a picture of {size_text(region.size_hw)}"
                        if len(lengths) else "run lengths that cannot be read", where=where,
                        hint="Export it again.", code="bad-annotation")  # fmt: skip
    return lengths


def _uncompressed(counts: bytes) -> NDArray[np.int64]:
    """The lengths in COCO's compressed text; none where it is damaged.

    Each character holds 5 bits of a number, lowest first, and whether more follow; a number is in two's
    complement. From the fourth on it is a difference to the number two before.
    """
    codes = np.frombuffer(counts, dtype=np.uint8).astype(np.int64) - ord("0")
    ends = np.flatnonzero(codes & 32 == 0)
    if not len(codes) or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        return np.zeros(0, dtype=np.int64)
    starts = np.concatenate(([0], ends[:-1] + 1))
    digits = ends - starts + 1
    if digits.max() > 8:
        return np.zeros(0, dtype=np.int64)
    places = np.arange(len(codes)) - np.repeat(starts, digits)
    numbers: NDArray[np.int64] = np.add.reduceat((codes & 31) << 5 * places, starts)
    numbers -= np.where(codes[ends] & 16, 1 << 5 * digits, 0)
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers


def _region(shape: Shape, size_hw: tuple[int, int], scale_xy: tuple[float, float]) -> tuple[Window, NDArray[np.bool_]]:
    """A part of the picture that holds all pixels of an object, and which pixels in it are the object's.

    Raises:
        DataError: as ``region_pixels``.
    """
    region = shape.region
    if region is None:
        height, width = size_hw
        x1, y1, x2, y2 = np.clip(np.array(shape.box_xyxy) * (*scale_xy, *scale_xy), 0, (width, height, width, height))
        return _fill([np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)])], size_hw, shape.where)
    if isinstance(region, tuple):
        return _fill([ring * scale_xy for ring in region], size_hw, shape.where)
    if isinstance(region, RunLengths):
        window, mask = _decode(region, shape.where)
        if region.size_hw == size_hw:
            return window, mask.astype(np.bool_)
        whole = np.zeros(region.size_hw, dtype=np.uint8)
        whole[window] = mask
        fitted = fit_mask(whole, size_hw, shape.where)
    elif isinstance(region, MapSegment):
        mask = (_read_map(region.file) == region.number).astype(np.uint8)
        fitted = fit_mask(mask, size_hw, str(region.file))
    else:
        pixels = read_mask(region).pixels
        mask = np.asarray(pixels.any(axis=2) if pixels.ndim == 3 else pixels != 0, dtype=np.uint8)
        fitted = fit_mask(mask, size_hw, str(region))
    return (slice(None), slice(None)), fitted.astype(np.bool_)


def _fill(
    outlines: Sequence[NDArray[np.float64]], size_hw: tuple[int, int], where: str
) -> tuple[Window, NDArray[np.bool_]]:
    """A part of the picture around the outlines, (K, 2) x, y in pixels, and which pixels in it one of them holds.

    Outlines of fewer than three points or with a NaN hold nothing.

    Raises:
        DataError: an outline is too long to be followed.
    """
    rings = [ring for ring in outlines if len(ring) >= 3 and np.isfinite(ring).all()]
    if not rings:
        return (slice(0, 0), slice(0, 0)), np.zeros((0, 0), dtype=np.bool_)
    with np.errstate(over="ignore"):
        longest = max(np.abs(np.diff(ring, axis=0, append=ring[:1])).max(axis=1).sum() for ring in rings)
    if longest > _LONGEST_OUTLINE:
        raise DataError(f"an outline {longest:,.0f} pixels long in a picture of {size_text(size_hw)}", where=where,
                        hint="Its points lie far outside the picture.", code="bad-annotation")  # fmt: skip
    # Only the part around the object is filled. It is cut out in whole steps of the rule, so that the
    # pixels are the same as if the picture were filled as a whole.
    steps = [np.trunc(ring * _FINE + 0.5) for ring in rings]
    points = np.concatenate(steps) / _FINE
    size_wh = np.array((size_hw[1], size_hw[0]))
    first = np.clip(np.floor(points.min(axis=0)) - 1, 0, size_wh).astype(int)
    last = np.clip(np.ceil(points.max(axis=0)) + 2, first, size_wh).astype(int)
    window = (slice(first[1], last[1]), slice(first[0], last[0]))
    width, height = last - first
    if not width or not height:
        return window, np.zeros((height, width), dtype=np.bool_)
    moved = [step - first * _FINE for step in steps]
    # The rule cuts fractions off towards zero: this gives each step back on either side of it.
    flat = [((step - np.where(step < 0, 0.75, 0)) / _FINE).ravel().tolist() for step in moved]
    code = coco_mask.merge(coco_mask.frPyObjects(flat, int(height), int(width)))
    return window, np.asarray(coco_mask.decode(code), dtype=np.bool_)


def _decode(region: RunLengths, where: str) -> tuple[Window, NDArray[np.uint8]]:
    """The columns that hold ones, and their pixels."""
    height = region.size_hw[0]
    lengths = run_lengths(region, where)
    if lengths[1::2].sum() == 0:
        return (slice(0, 0), slice(0, 0)), np.zeros((0, 0), dtype=np.uint8)
    ends = np.cumsum(lengths)
    ones = np.flatnonzero(lengths[1::2]) * 2 + 1
    first = int(ends[ones[0]] - lengths[ones[0]]) // height
    last = int(ends[ones[-1]] - 1) // height + 1
    starts = np.clip(ends - lengths, first * height, last * height)
    within = np.clip(ends, first * height, last * height) - starts
    pixels = np.repeat((np.arange(len(lengths)) % 2).astype(np.uint8), within)
    return (slice(0, height), slice(first, last)), pixels.reshape(last - first, height).T


@lru_cache(maxsize=_KEPT_MAPS)
def _read_map(path: Path) -> NDArray[np.uint32]:
    """(H, W) numbers of the segments of a panoptic map; kept, because every segment of a picture asks for it.

    Raises:
        DataError: it cannot be read, or is not RGB.
    """
    pixels = read_mask(path).pixels
    if pixels.ndim != 3:
        raise DataError("is not RGB: a panoptic map numbers its segments by colours", where=str(path),
                        hint="Grey masks of class numbers are read by `format: folders`.",
                        code="not-labels")  # fmt: skip
    parts = pixels.astype(np.uint32)
    return np.asarray(parts[:, :, 0] | parts[:, :, 1] << 8 | parts[:, :, 2] << 16)


def annotation_scale(shapes: Shapes, size_hw: tuple[int, int]) -> tuple[float, float]:
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
