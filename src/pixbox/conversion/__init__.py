"""From any format that can be read to one that others read: index masks, COCO, YOLO, VOC XML, lists of boxes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from pixbox.conversion import box_list, coco, masks, voc_boxes, yolo
from pixbox.conversion.folder import new_folder
from pixbox.conversion.objects import IGNORED, class_regions, known_objects
from pixbox.conversion.writing import Job, Labelled, Writer, check_names, plan_jobs, write_each
from pixbox.data.annotation import read_classes
from pixbox.data.findings import Finding, Findings
from pixbox.data.images import image_size_hw
from pixbox.errors import ConfigError, DataError
from pixbox.labels import IGNORED_NAME, LabelMap
from pixbox.sample import Record, Shape, Shapes

Target = Literal["masks", "box-list", "coco", "yolo", "voc-boxes"]
TARGETS: tuple[Target, ...] = get_args(Target)
"""What can be written."""

_MODULES = {"masks": masks, "box-list": box_list, "coco": coco, "yolo": yolo, "voc-boxes": voc_boxes}


@dataclass(frozen=True, slots=True)
class Converted:
    """What a conversion wrote.

    Attributes:
        files: lists, documents and the label map; not the single pictures, masks and label files.
        pictures: how many were written.
        objects: how many objects they have; 0 where masks became masks.
        skipped: pictures and objects that were left out, and why; of each kind the first thousand.
    """

    files: tuple[Path, ...]
    pictures: int
    objects: int
    skipped: tuple[Finding, ...]


def convert(
    records_by_split: Mapping[str, Sequence[Record]],
    labels: LabelMap,
    target: Target,
    out: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    keep_difficult: bool = True,
) -> Converted:
    """Write labelled pictures in another format, whole or not at all; the pictures are copied byte for byte.

    What the source says is written as it is, faults too, as far as the format can hold them: mending is the task of
    the audit's cleaned copy. What it cannot hold is left out and told: pictures without a label or of which the label
    cannot be read; objects of unknown class or with a box of no numbers or inverted corners; in YOLO files and lists
    of boxes also crowds and ignored objects, and in YOLO files what lies wholly outside its picture.

    Args:
        records_by_split: name of the split, a plain file name, -> its pictures.
        labels: what their labels mean; the classes are numbered in its order.
        target: ``masks``: index PNGs, lists and ``labels.yaml``, for ``format: list``. ``coco``: outlines, run lengths
            or boxes; of a mask, one object for each connected region of a class. ``yolo``: outlines if every object
            has them, else boxes. ``voc-boxes``: boxes. ``box-list``: boxes of one split; ``out`` is the file, and
            the pictures stay where they are, below its folder.
        out: a new or empty folder, or a new file.
        progress: called with the number of pictures done and of all.
        keep_difficult: whether YOLO files and lists of boxes, which have no mark for it, have difficult objects.

    Raises:
        RunError: ``out`` is there already.
        DataError: the labels cannot be written so (boxes of a mask, any of a category), names of pictures that the
            format cannot hold, or no picture can be written.
        ConfigError: several splits for one list of boxes.
    """
    splits = {split: records for split, records in records_by_split.items() if records}
    records = [record for part in splits.values() for record in part]
    _check_labels(records, target)
    jobs = plan_jobs(splits, one_folder=target == "voc-boxes")
    if target != "box-list":
        _check_names(jobs, target, {job.name: job.record.image for job in jobs})
        with new_folder(out) as folder:
            return _write(jobs, labels, target, folder, out, keep_difficult, progress)
    if len(splits) > 1:
        raise ConfigError(f"a list of boxes holds one split, not {len(splits)}: {', '.join(splits)}", where="--split")
    box_list.check_place(out, labels, records)
    _check_names(jobs, target, {box_list.listed_name(record, out): record.image for record in records})
    return _write(jobs, labels, target, out, out.parent, keep_difficult, progress)


def _write(
    jobs: Sequence[Job],
    labels: LabelMap,
    target: Target,
    place: Path,
    out: Path,
    keep_difficult: bool,
    progress: Callable[[int, int], None],
) -> Converted:
    """Write into ``place``, which becomes the folder ``out``."""
    records = [job.record for job in jobs]
    writer = _open_writer(target, place, labels, records)
    skipped = Findings()
    objects = 0

    def write(job: Job) -> tuple[Any | None, tuple[Findings, int]]:
        found = Findings()
        try:
            item = _read(job, labels, target, keep_difficult, found)
            entry = writer.write(item)
        except DataError as error:
            found.add_error(error, file=str(job.record.image), id=job.record.id)
            return None, (found, 0)
        counted = item.label if isinstance(item.label, tuple) else getattr(job.record.annotation, "shapes", ())
        return entry, (found, len(counted))

    def note(job: Job, notes: tuple[Findings, int]) -> None:
        nonlocal objects
        skipped.extend(notes[0], split=job.split)
        objects += notes[1]

    entries = write_each(jobs, write, note, progress)
    if not entries:
        skipped.raise_errors()
        raise DataError("there is no picture to write", where=str(out))
    files = writer.finish(entries)
    pictures = sum(len(split) for split in entries.values())
    return Converted(tuple(out / file for file in files), pictures, objects, tuple(skipped))


def _open_writer(target: Target, place: Path, labels: LabelMap, records: Sequence[Record]) -> Writer[Any, Any]:
    if target == "masks":
        return masks.MaskWriter(place, labels)
    if target == "box-list":
        return box_list.BoxListWriter(place, labels)
    if target == "voc-boxes":
        return voc_boxes.VocBoxesWriter(place, labels)
    if target == "yolo":
        shapes = (s for r in records if isinstance(r.annotation, Shapes) for s in r.annotation.shapes)
        return yolo.YoloWriter(place, labels, outlines=all(isinstance(shape.region, tuple) for shape in shapes))
    if not any(isinstance(record.annotation, Path) for record in records):
        return coco.CocoWriter(place, labels, labels.names)
    # What no object covers needs no category; what is ignored needs a name.
    names = [name for index, name in enumerate(labels.names) if index != labels.outside]
    if labels.class_of(IGNORED) is None:
        labels = labels.model_copy(update={"ignore_names": (*labels.ignore_names, IGNORED)})
    return coco.CocoWriter(place, labels, names)


def _read(job: Job, labels: LabelMap, target: Target, keep_difficult: bool, left_out: Findings) -> Labelled[Any]:
    """Read the label of a picture as the writer of ``target`` takes it.

    Raises:
        DataError: the picture or its label cannot be read, or it has none.
    """
    record, annotation = job.record, job.record.annotation
    size_hw = image_size_hw(record.image)
    if target == "masks" or not isinstance(annotation, Shapes):
        classes = read_classes(record, labels, size_hw)
        label = classes if target == "masks" else class_regions(classes, labels)
        return Labelled(job, record.image, size_hw, label)
    kept = []
    for shape in known_objects(record, annotation, size_hw, labels, left_out):
        why = _unfit(shape, size_hw, labels, keep_difficult, target)
        if why:
            message = f'"{shape.label}" {why}; it is left out'
            left_out.add("left-out", shape.where or str(annotation.file), message, id=record.id)
        else:
            kept.append(shape)
    return Labelled(job, record.image, size_hw, tuple(kept))


def _unfit(shape: Shape, size_hw: tuple[int, int], labels: LabelMap, keep_difficult: bool, target: Target) -> str:
    """Why a format cannot hold an object; empty if it can."""
    if target not in ("yolo", "box-list"):
        return ""
    if shape.crowd:
        return "is a crowd, for which the format has no mark"
    if labels.class_of(shape.label) == IGNORED_NAME:
        return "is ignored, for which the format has no mark"
    if shape.difficult and not keep_difficult:
        return "is difficult"
    x1, y1, x2, y2 = shape.box_xyxy
    if target == "yolo" and (x2 < 0 or y2 < 0 or x1 > size_hw[1] or y1 > size_hw[0]):
        return "lies outside its picture"
    return ""


def _check_labels(records: Sequence[Record], target: Target) -> None:
    """Refuse labels of which the format holds nothing.

    Raises:
        DataError: categories; or masks, where boxes or outlines are wanted.
    """
    if any(isinstance(record.annotation, str) for record in records):
        raise DataError("pictures with one class each cannot be written as masks or boxes",
                        hint="`format: imagefolder` is read by every tool for classification.")  # fmt: skip
    mask = next((record.annotation for record in records if isinstance(record.annotation, Path)), None)
    if mask is not None and target not in ("masks", "coco"):
        what = f"a mask holds classes, not single objects, so it cannot be written as {target}"
        hint = "Write `masks`, or `coco` with an object for each connected region."
        raise DataError(what, where=str(mask), hint=hint)


def _check_names(jobs: Sequence[Job], target: Target, names: Mapping[str, Path]) -> None:
    check_names(names, _MODULES[target].REFUSED_NAMES, _MODULES[target].REFUSED_WHY)
