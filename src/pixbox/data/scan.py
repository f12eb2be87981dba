"""Every mask is read once before the first training step: its values checked, its classes counted."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixbox.data.images import image_size_hw, read_mask
from pixbox.errors import DataError, Fault
from pixbox.labels import IGNORE, LabelMap
from pixbox.sample import Record

SHOWN_FAULTS = 20
_PORTION = 256


@dataclass(frozen=True, eq=False)
class MaskScan:
    """What the masks of a data set hold.

    Attributes:
        pixels: (N,) int64, pixels of each class.
        pixels_of_images_with_class: (N,) int64, all pixels (ignored ones, too) of the masks that hold the class.
        images_with_class: (N,) int64, masks that hold the class.
        ignored_pixels: pixels that count in neither loss nor metric.
        images: masks read.
        resized: masks of the same proportions as their picture but another size, ``file: size, size``;
            the data set resizes them.
    """

    pixels: NDArray[np.int64]
    pixels_of_images_with_class: NDArray[np.int64]
    images_with_class: NDArray[np.int64]
    ignored_pixels: int
    images: int
    resized: tuple[str, ...]


def scan_masks(
    records: Sequence[Record],
    labels: LabelMap,
    *,
    progress: Callable[[int], None] | None = None,
    workers: int | None = None,
) -> MaskScan:
    """Read every mask once, in threads; memory does not grow with their number.

    Args:
        progress: called with the number of masks read so far.
        workers: threads; None for one a core, at most 16.

    Raises:
        DataError: masks are missing, unreadable, of other proportions than their picture or hold values that
            the label map does not know. One fault a file, the first 20 of them and the number of the rest.
    """
    pixels = np.zeros(len(labels), dtype=np.int64)
    of_images = np.zeros_like(pixels)
    images = np.zeros_like(pixels)
    ignored = 0
    resized: list[str] = []
    faults: list[Fault] = []
    faulty_files = 0
    with ThreadPoolExecutor(workers or min(16, os.cpu_count() or 1)) as pool:
        # In portions, so that neither results nor an interruption wait for a long queue.
        for start in range(0, len(records), _PORTION):
            portion = records[start : start + _PORTION]
            for done, found in enumerate(pool.map(lambda record: _scan(record, labels), portion), start + 1):
                if isinstance(found, _Counts):
                    counts = found.pixels[: len(labels)]
                    present = counts > 0
                    pixels += counts
                    of_images[present] += found.pixels.sum()
                    images += present
                    ignored += int(found.pixels[IGNORE])
                    resized += [found.resized] if found.resized else []
                else:
                    faulty_files += 1
                    faults += found if faulty_files <= SHOWN_FAULTS else ()
                if progress is not None:
                    progress(done)
    if faults:
        raise DataError(_summarize(faults, faulty_files))
    return MaskScan(pixels, of_images, images, ignored, len(records), tuple(resized))


@dataclass(frozen=True, slots=True)
class _Counts:
    """(256,) int64 pixels of each class index of one mask; and what to say if it will be resized."""

    pixels: NDArray[np.int64]
    resized: str


def _scan(record: Record, labels: LabelMap) -> _Counts | tuple[Fault, ...]:
    file = record.annotation
    if not isinstance(file, Path):
        return (Fault(str(record.image), "has no mask", "Leave it out (`data.exclude`), or label it."),)
    try:
        image_hw = image_size_hw(record.image)
        classes = labels.encode(read_mask(file))
    except DataError as error:
        return tuple(replace(fault, where=fault.where or str(file)) for fault in error.faults)
    mask_hw = classes.shape[0], classes.shape[1]
    if not _same_proportions(mask_hw, image_hw):
        what = f"the mask is {_size(mask_hw)} pixels, its picture {record.image} is {_size(image_hw)}"
        return (
            Fault(str(file), what, "A mask must cover its picture; leave both out (`data.exclude`), or mend them."),
        )
    resized = "" if mask_hw == image_hw else f"{file}: {_size(mask_hw)}, its picture {_size(image_hw)}"
    return _Counts(np.bincount(classes.ravel(), minlength=256), resized)


def _same_proportions(mask_hw: tuple[int, int], image_hw: tuple[int, int]) -> bool:
    """Whether one is the other times a factor, but for rounding to whole pixels."""
    (height, width), (image_height, image_width) = sorted((mask_hw, image_hw))
    return (
        abs(height - image_height * width / image_width) <= 1 and abs(width - image_width * height / image_height) <= 1
    )


def _size(size_hw: tuple[int, int]) -> str:
    return f"{size_hw[1]} x {size_hw[0]}"


def _summarize(faults: Sequence[Fault], files: int) -> list[Fault]:
    """The faults, a hint that several share in a row only once, and how many files are not shown."""
    following = [fault.hint for fault in faults[1:]] + [""]
    shown = [
        replace(fault, hint="" if fault.hint == next_hint else fault.hint)
        for fault, next_hint in zip(faults, following, strict=True)
    ]
    if files > SHOWN_FAULTS:
        shown.append(Fault("", f"and {files - SHOWN_FAULTS:,} more files"))
    return shown
