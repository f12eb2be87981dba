"""Every label is looked at once, before the first training step and in an audit: checked and its classes counted."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixbox.auditing.masks import MaskCheck, check_mask
from pixbox.auditing.objects import check_objects
from pixbox.data.annotation import paint, read_category
from pixbox.data.findings import Finding, Findings
from pixbox.data.images import AS_IT_IS, PixelReading, image_size_hw
from pixbox.data.mask_facts import MaskFacts, MaskFactStore
from pixbox.errors import DataError
from pixbox.labels import IGNORE, LabelMap
from pixbox.sample import Record, Shapes

_PORTION = 256


@dataclass(eq=False)
class LabelScan:
    """What the labels of pixels of a data set hold.

    Attributes:
        pixels: (N,) int64, pixels of each class.
        pixels_of_images_with_class: (N,) int64, all pixels (ignored ones, too) of the masks that hold the class.
        images_with_class: (N,) int64, masks that hold the class.
        ignored_pixels: pixels that count in neither loss nor metric.
        images: pictures whose labels could be used.
        findings: what is wrong with single files.
    """

    pixels: NDArray[np.int64]
    pixels_of_images_with_class: NDArray[np.int64]
    images_with_class: NDArray[np.int64]
    ignored_pixels: int = 0
    images: int = 0
    findings: Findings = field(default_factory=Findings)

    def add(self, check: MaskCheck) -> None:
        self.findings.extend(check.findings)
        if any(finding.severity == "error" for finding in check.findings):
            return
        present = check.counts > 0
        self.pixels += check.counts
        self.pixels_of_images_with_class[present] += check.counts.sum() + check.ignored
        self.images_with_class += present
        self.ignored_pixels += check.ignored
        self.images += 1


def scan_labels(
    records: Sequence[Record],
    labels: LabelMap,
    *,
    sizes: Mapping[str, tuple[int, int]] | None = None,
    reading: PixelReading = AS_IT_IS,
    progress: Callable[[int], None] = lambda done: None,
    workers: int | None = None,
) -> LabelScan:
    """Look at the mask or the painted objects of every record, in threads; memory does not grow with their number.

    Masks that were read before and have not changed are not decoded again.

    Args:
        sizes: (height, width) of the pictures that can be read, by ``Record.id``; None: they are looked up.
        reading: how pictures are read; one that cannot be read so, going by its header, is a finding where sizes are
            looked up.
        progress: called with the number of labels seen so far.
        workers: threads; None for one a core, at most 16.
    """
    zeros = np.zeros(len(labels), dtype=np.int64)
    scan = LabelScan(zeros, zeros.copy(), zeros.copy())
    workers = workers or min(16, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(records), _PORTION):
            portion = records[start : start + _PORTION]
            found = pool.map(
                lambda pair: _check(pair[0], pair[1], labels, sizes, reading), _with_facts(portion, workers)
            )
            for done, (record, check) in enumerate(zip(portion, found, strict=True), start + 1):
                # The label of a picture that cannot be read is looked at as well, but will not be trained on.
                if sizes is None or record.id in sizes:
                    scan.add(check)
                else:
                    scan.findings.extend(check.findings)
                progress(done)
    return scan


@dataclass(eq=False)
class ObjectScan:
    """What the boxes of a data set hold.

    Attributes:
        objects: (N,) int64, boxes of each class that can be used.
        images_with_class: (N,) int64, pictures that hold the class.
        boxes: (K, 4) float32 of each picture, in its pixels.
        sizes: (height, width) of the same pictures.
        findings: what is wrong with single files and objects.
    """

    objects: NDArray[np.int64]
    images_with_class: NDArray[np.int64]
    boxes: list[NDArray[np.float32]] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    findings: Findings = field(default_factory=Findings)


def scan_objects(
    records: Sequence[Record],
    labels: LabelMap,
    *,
    sizes: Mapping[str, tuple[int, int]] | None = None,
    reading: PixelReading = AS_IT_IS,
) -> ObjectScan:
    """Look at the boxes of every record; ``sizes`` and ``reading`` as in ``scan_labels``."""
    zeros = np.zeros(len(labels), dtype=np.int64)
    scan = ObjectScan(zeros, zeros.copy())
    for record in records:
        if not isinstance(record.annotation, Shapes):
            scan.findings.add("missing-mask", str(record.image), "has no boxes: its label is not one of objects",
                              "Set `data.format` to one that describes objects.", id=record.id)  # fmt: skip
            continue
        try:
            image_hw = image_size_hw(record.image, reading) if sizes is None else sizes[record.id]
        except DataError as error:
            scan.findings.add_error(error, file=str(record.image), id=record.id)
            continue
        check = check_objects(record, record.annotation, labels, image_hw)
        scan.findings.extend(check.findings)
        scan.objects += check.counts
        scan.images_with_class += check.counts > 0
        scan.boxes.append(check.boxes_xyxy)
        scan.sizes.append(image_hw)
    return scan


def scan_categories(records: Sequence[Record], labels: LabelMap) -> tuple[NDArray[np.int64], Findings]:
    """Count the pictures of each class, (N,) int64; names that the label map does not have are findings."""
    images = np.zeros(len(labels), dtype=np.int64)
    findings = Findings()
    for record in records:
        try:
            images[read_category(record, labels).index] += 1
        except DataError as error:
            findings.add_error(error, id=record.id)
    return images, findings


def _with_facts(records: Sequence[Record], workers: int) -> Iterator[tuple[Record, MaskFacts | DataError | None]]:
    """Each record with the facts of its mask file, if it has one."""
    facts = MaskFactStore(workers=workers).read([r.annotation for r in records if isinstance(r.annotation, Path)])
    for record in records:
        yield record, next(facts) if isinstance(record.annotation, Path) else None


def _check(
    record: Record,
    facts: MaskFacts | DataError | None,
    labels: LabelMap,
    sizes: Mapping[str, tuple[int, int]] | None,
    reading: PixelReading,
) -> MaskCheck:
    failed = Findings()
    image_hw = None
    try:
        image_hw = image_size_hw(record.image, reading) if sizes is None else sizes.get(record.id)
    except DataError as error:
        failed.add_error(error, file=str(record.image), id=record.id)
    if isinstance(facts, DataError):
        failed.add_error(facts, file=str(record.annotation), id=record.id)
    elif isinstance(facts, MaskFacts):
        check = check_mask(record, facts, labels, image_hw)
        return MaskCheck(check.counts, check.ignored, (*failed, *check.findings))
    elif isinstance(record.annotation, Shapes):
        if image_hw is not None:
            try:
                return _check_painted(record, record.annotation, labels, image_hw)
            except DataError as error:
                failed.add_error(error, file=str(record.annotation.file), id=record.id)
    else:
        hint = "Leave it out (`data.exclude`), or label it."
        failed.add("missing-mask", str(record.image), "has no mask", hint, id=record.id)
    return MaskCheck(np.zeros(len(labels), dtype=np.int64), 0, tuple(failed))


def _check_painted(record: Record, shapes: Shapes, labels: LabelMap, image_hw: tuple[int, int]) -> MaskCheck:
    counts = np.bincount(paint(shapes, image_hw, labels).ravel(), minlength=256)
    findings = []
    if counts[IGNORE] == counts.sum():
        findings.append(Finding("ignored-mask", str(shapes.file), "every pixel is ignored", id=record.id))
    return MaskCheck(counts[: len(labels)].astype(np.int64), int(counts[IGNORE]), tuple(findings))
