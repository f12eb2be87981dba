"""A cleaned copy of what was audited, with a log of every change and a recipe that trains it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from pixbox.auditing.changes import Change, ChangeLog, What
from pixbox.auditing.mend_masks import mend_mask
from pixbox.auditing.mend_objects import mend_boxes, mend_regions
from pixbox.auditing.mend_pictures import MendedPicture, mend_picture
from pixbox.auditing.result import Audit
from pixbox.config import Experiment
from pixbox.conversion import coco, masks
from pixbox.conversion.folder import check_new, new_folder
from pixbox.conversion.imagefolder import ImageFolderWriter
from pixbox.conversion.writing import Job, Labelled, Writer, check_names, in_threads, plan_jobs, write_each
from pixbox.data.annotation import fit_mask, paint, same_proportions, size_text
from pixbox.data.dataset import pixel_reading
from pixbox.data.findings import Finding, Findings
from pixbox.data.formats import find_root
from pixbox.data.images import PixelReading, read_mask
from pixbox.data.splits import Splits, list_splits
from pixbox.errors import DataError, RunError
from pixbox.labels import IGNORE, IGNORED_NAME, LabelClass, LabelMap, RawMask
from pixbox.sample import Record, Shapes

_ORIENTATION = 0x0112
_LINE_CODES = ("duplicate-line", "bad-line", "outside-root")
_REFUSED = {"segmentation": masks, "detection": coco, "classification": coco}
_FORMATS = {"segmentation": "list", "detection": "coco", "classification": "imagefolder"}


@dataclass(frozen=True, slots=True)
class Repair:
    """A cleaned copy.

    Attributes:
        out: its folder.
        log: ``changes.csv`` there: file, change, before, after.
        recipe: ``recipe.yaml`` there: the experiment with the copy as its data.
        kept: pictures in the copy.
        dropped: pictures that are not.
        changes: what was done -> how often.
    """

    out: Path
    log: Path
    recipe: Path
    kept: int
    dropped: int
    changes: Mapping[What, int]


def repair(audit: Audit, out: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> Repair:
    """Write a cleaned copy of all that was audited, whole or not at all; the source is not touched.

    For pixels the copy holds palette PNGs of class indices and lists (``format: list``), for boxes a COCO file for each
    split, for categories a folder for each class. Of a bare folder everything is taken up, also what its recipe would
    exclude. Pictures stay byte for byte unless they are turned, animated, deeper than 8 bits, see-through or CMYK:
    those become 8-bit RGB PNGs. What cannot be read, exact copies within a split, and training pictures that are in
    another split too are dropped. Masks are mended as ``mend_mask`` says, boxes as ``mend_boxes``.

    Args:
        audit: gives experiment and label map.
        out: a new or empty folder, neither in the data root nor around it.
        progress: called with the number of pictures done and of all.

    Raises:
        RunError: ``out`` is not such a folder.
        DataError: there is no label map, the data root is gone, or no training picture is left.
    """
    if audit.labels is None:
        raise DataError("there is no label map to clean the data by", where=audit.source)
    # What a recipe of a bare folder excludes is what is to be mended.
    given = audit.experiment.data
    data = given.model_copy(update={"exclude": []}) if audit.guesses else given
    experiment = audit.experiment.model_copy(update={"data": data})
    root = find_root(data)
    _check_place(out, root)
    splits, findings = list_splits(experiment)
    kept, copies = _without_copies(splits)
    jobs = plan_jobs(kept)
    check = _REFUSED[experiment.task]
    check_names({job.name: job.record.image for job in jobs}, check.REFUSED_NAMES, check.REFUSED_WHY)
    with new_folder(out) as folder, ChangeLog(folder / "changes.csv", root) as log:
        used = {record.id for records in splits.named().values() for record in records}
        log.add(_unused(findings, used))
        log.add(copies)
        entries = _write(jobs, experiment, audit.labels, folder, log, progress)
        if "train" not in entries:
            raise DataError("no training picture is left", where=audit.source, hint="The audit says what is wrong.")
        recipe = _recipe(experiment, audit.labels, list(entries), splits)
        (folder / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
    written = sum(len(split) for split in entries.values())
    everything = sum(len(records) for records in splits.named().values()) + len(findings.faulty_ids() - used)
    return Repair(out, out / "changes.csv", out / "recipe.yaml", written, everything - written, dict(log.counts))


def _check_place(out: Path, root: Path) -> None:
    check_new(out)
    inner, outer = Path(os.path.realpath(out)), Path(os.path.realpath(root))
    if inner == outer or outer in inner.parents or inner in outer.parents:
        raise RunError("the cleaned copy would lie in the folder of the data, or hold it", where=str(out),
                       hint="Name a folder elsewhere.")  # fmt: skip


def _unused(findings: Findings, used: set[str]) -> Iterator[Change]:
    """What the lists and folders name that is no usable picture."""
    told = set()
    for finding in findings:
        if finding.code == "unmatched-mask":
            yield Change(finding.file, "label set aside", finding.message)
        elif finding.severity == "error":
            told.add(finding.id)
            yield Change(finding.file, _fate(finding, used), finding.message)
    # Of each kind a thousand findings are kept.
    for id_ in sorted(findings.faulty_ids() - used - told):
        yield Change(id_, "picture dropped", "cannot be used, like others before")


def _fate(finding: Finding, used: set[str]) -> What:
    if finding.id and finding.id not in used:
        return "picture dropped"
    return "line dropped" if finding.code in _LINE_CODES or not finding.id else "object dropped"


def _without_copies(splits: Splits) -> tuple[dict[str, list[Record]], list[Change]]:
    """The pictures of each split, those that are there once; of one in several splits the training copy goes first."""
    named = splits.named()
    kept: dict[str, list[Record]] = {"train": [], "val": [], "test": []}
    first: dict[bytes, tuple[str, Record]] = {}
    changes: list[Change] = []
    for split in ("test", "val", "train"):
        records = named[split]
        for record, content in zip(records, in_threads(_content, records), strict=True):
            where, same = first.setdefault(content or str(record.image).encode(), (split, record))
            if same is record:
                kept[split].append(record)
                continue
            what: What = "copy dropped" if where == split else "leaked picture dropped"
            changes.append(Change(str(record.image), what, f"the same file as {same.image} in {where}"))
    return kept, changes


def _content(record: Record) -> bytes:
    """16 bytes that differ for files that differ; none if it cannot be read, which is told when it is written."""
    try:
        return blake2b(record.image.read_bytes(), digest_size=16).digest()
    except OSError:
        return b""


def _write(
    jobs: Sequence[Job],
    experiment: Experiment,
    labels: LabelMap,
    folder: Path,
    log: ChangeLog,
    progress: Callable[[int, int], None],
) -> dict[str, list[Any]]:
    writer = _open_writer(experiment, labels, folder)
    reading = pixel_reading(experiment.data)

    def write(job: Job) -> tuple[Any | None, list[Change]]:
        changes: list[Change] = []
        try:
            item = _mended(job, experiment, labels, reading, changes)
        except DataError as error:
            image = str(job.record.image)
            return None, [Change(image, "picture dropped", fault.what) for fault in error.faults]
        return writer.write(item), changes

    entries = write_each(jobs, write, lambda job, changes: log.add(changes), progress)
    writer.finish(entries)
    return entries


def _open_writer(experiment: Experiment, labels: LabelMap, folder: Path) -> Writer[Any, Any]:
    if experiment.task == "segmentation":
        return masks.MaskWriter(folder, labels)
    if experiment.task == "detection":
        return coco.CocoWriter(folder, labels, labels.names)
    return ImageFolderWriter(folder, labels)


def _mended(
    job: Job, experiment: Experiment, labels: LabelMap, reading: PixelReading, changes: list[Change]
) -> Labelled[Any]:
    """Picture and label as the copy has them; what was done is added to ``changes``.

    Raises:
        DataError: they cannot be used.
    """
    record = job.record
    picture = mend_picture(record.image, reading)
    if picture.was:
        job = replace(job, name=f"{job.stem}.png")
        changes.append(Change(str(record.image), "picture saved anew", picture.was, "8-bit RGB PNG"))
    label: Any
    if experiment.task == "segmentation":
        label = _mended_pixels(record, picture, labels, changes)
    elif experiment.task == "detection":
        if not isinstance(record.annotation, Shapes):
            raise DataError("has no boxes")
        label, done = mend_boxes(record.annotation, picture.size_hw, labels)
        changes += done
    else:
        label = _category(record, labels)
    return Labelled(job, picture.content, picture.size_hw, label)


def _category(record: Record, labels: LabelMap) -> str:
    """The name of the picture's class."""
    index = labels.class_of(record.annotation) if isinstance(record.annotation, str) else None
    if index is None or not isinstance(record.annotation, str):
        raise DataError(f'class "{record.annotation}" is not in the label map')
    return record.annotation if index == IGNORED_NAME else labels.names[index]


def _mended_pixels(
    record: Record, picture: MendedPicture, labels: LabelMap, changes: list[Change]
) -> NDArray[np.uint8]:
    """(H, W) class indices of a picture."""
    annotation = record.annotation
    if isinstance(annotation, Shapes):
        shapes, done = mend_regions(annotation, picture.size_hw, labels)
        changes += done
        return paint(replace(annotation, shapes=shapes, size_hw=None), picture.size_hw, labels)
    if not isinstance(annotation, Path):
        raise DataError("has no mask")
    where = str(annotation)
    mended = mend_mask(record, read_mask(annotation), labels)
    if mended.decided or mended.undecided:
        before = f"{mended.decided + mended.undecided:,} pixels of {mended.loose:,} values that are no labels"
        after = f"{mended.decided:,} took a class near by, {mended.undecided:,} did not"
        changes.append(Change(where, "mask values decided", before, after))
    if mended.undecided and (mended.classes == IGNORE).all():
        raise DataError("no pixel of its mask has a class")
    return _fitted(mended.classes, picture, where, changes)


def _fitted(classes: NDArray[np.uint8], picture: MendedPicture, where: str, changes: list[Change]) -> NDArray[np.uint8]:
    """The mask at its picture's size. One that was drawn on a picture before its mark turned it is turned, too."""
    mask_hw = classes.shape[0], classes.shape[1]
    fits, would_fit = (same_proportions(size_hw, picture.size_hw) for size_hw in (mask_hw, mask_hw[::-1]))
    if picture.exif_orientation >= 5 and would_fit and not fits:
        image = Image.fromarray(classes)
        image.getexif()[_ORIENTATION] = picture.exif_orientation
        classes = np.asarray(ImageOps.exif_transpose(image), dtype=np.uint8)
        changes.append(Change(where, "mask turned", "as the picture is stored", "as the picture is shown"))
        mask_hw = mask_hw[::-1]
    if mask_hw != picture.size_hw:
        classes = fit_mask(classes, picture.size_hw, where)
        changes.append(Change(where, "mask resized", size_text(mask_hw), size_text(picture.size_hw)))
    return classes


def _recipe(experiment: Experiment, labels: LabelMap, written: Sequence[str], splits: Splits) -> Experiment:
    """The experiment with the copy, in whose folder the recipe stands, as its data."""
    ending = ".txt" if experiment.task == "segmentation" else ""
    sources = {split: f"{split}{ending}" if split in written else None for split in ("train", "val", "test")}
    changed: dict[str, Any] = {
        "format": _FORMATS[experiment.task], "root": ".", **sources, "val_fraction": 0.0, "labels": "labels.yaml",
        "exclude": [], "bands": None, "value_range": None,
    }  # fmt: skip
    update: dict[str, Any] = {"data": experiment.data.model_copy(update=changed)}
    first = experiment.first_stage
    if first is not None and isinstance(first.labels, LabelMap):
        by_name = any(isinstance(record.annotation, Shapes) for record in splits.train[:1])
        update["first_stage"] = first.model_copy(update={"labels": _coarser(first.labels, labels, by_name=by_name)})
    return experiment.model_copy(update=update)


def _coarser(coarse: LabelMap, labels: LabelMap, *, by_name: bool) -> LabelMap:
    """A coarser label map, which knows the values or names of the source, for masks of the indices of ``labels``."""
    of_class: dict[int, list[int]] = {}
    for index, item in enumerate(labels.classes):
        owner = coarse.class_of(item.name) if by_name else _class_of_source(coarse, item)
        of_class.setdefault(IGNORE if owner in (None, IGNORED_NAME) else owner, []).append(index)
    classes = tuple(
        LabelClass(name=name, values=tuple(of_class[owner]), colors=item.colors)
        for owner, (name, item) in enumerate(zip(coarse.names, coarse.classes, strict=True))
        if owner in of_class
    )
    return LabelMap(classes=classes, ignore=(*of_class.get(IGNORE, ()), IGNORE))


def _class_of_source(labels: LabelMap, item: LabelClass) -> int:
    """The class that a label map gives the pixels of a class of another one."""
    pixels = (
        np.array([item.values[:1]], dtype=np.uint16) if item.values else np.array([item.colors[:1]], dtype=np.uint8)
    )
    return int(labels.encode(RawMask(pixels))[0, 0])
