"""The audit: every picture and every label of an experiment or of a bare folder."""

from __future__ import annotations

import glob
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pixbox.auditing.class_tables import find_class_table
from pixbox.auditing.depth import infer_reading
from pixbox.auditing.duplicates import PictureKey, find_duplicates, find_shared_sequences
from pixbox.auditing.encoding import Encoding, infer_encoding
from pixbox.auditing.layout import Layout, infer_layout
from pixbox.auditing.masks import check_mark
from pixbox.auditing.objects import anchor_finding, compare_anchors
from pixbox.auditing.pictures import PictureFacts, inspect_pictures
from pixbox.auditing.recipe import suit
from pixbox.auditing.result import Audit, Preview, SplitSummary
from pixbox.auditing.scan import LabelScan, ObjectScan, scan_categories, scan_labels, scan_objects
from pixbox.config import Experiment
from pixbox.data.annotation import read_classes, to_boxes
from pixbox.data.dataset import pixel_reading
from pixbox.data.findings import Finding, Findings
from pixbox.data.formats import default_labels
from pixbox.data.images import read_image
from pixbox.data.mask_facts import MaskFacts, MaskFactStore
from pixbox.data.splits import SplitName, Splits, labels_of, list_splits
from pixbox.drawing import draw_boxes, overlay
from pixbox.errors import DataError
from pixbox.labels import LabelMap, check_mask_classes
from pixbox.losses import class_weights_from_counts
from pixbox.sample import Record, Shapes

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many files are done and how many there are."""

_WEIGHTINGS: tuple[Literal["median_frequency", "enet", "inverse"], ...] = ("median_frequency", "enet", "inverse")
_PREVIEW_SIDE = 320
_PREVIEWS = {"train": 24, "val": 12, "test": 12}
# A class in fewer pictures than this, and in less than a twentieth of all, hardly occurs.
_FEW_IMAGES = 5
_SMALL_SHARE = 0.05
_LEAST_HELD_OUT = 0.2
# Of a bare folder, the label map that was worked out ignores these values: the pictures can be used.
_IGNORED_BY_LABELS = ("rare-value", "soft-edges")


def audit_experiment(experiment: Experiment, source: str, progress: Progress) -> Audit:
    """Audit the pictures and labels of an experiment.

    Raises:
        ConfigError: there is no label map.
        DataError: the data root is missing; ``data.exclude`` names nothing.
    """
    started = time.perf_counter()
    draft = _Draft(source)
    labels = None
    try:
        labels = labels_of(experiment)
    except DataError as error:
        # The classes stand in a damaged file of the data.
        draft.unread = error
    return _audit(experiment, labels, draft, started, progress)


def audit_folder(folder: Path, progress: Progress) -> Audit:
    """Work out what a bare folder holds, and audit it.

    The experiment of the result is one that can be trained: values that are strays are ignored, and files that
    cannot be used are excluded; ``decisions`` says which.

    Raises:
        DataError: nothing in the folder is recognised.
    """
    started = time.perf_counter()
    layout = infer_layout(folder)
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", folder.resolve().name).strip("_.") or "dataset"
    experiment = Experiment(name=name, task=layout.task, data=layout.data)
    draft = _Draft(str(folder), layout=layout)
    reading, draft.decisions = infer_reading(list_splits(experiment)[0].train)
    experiment = _with_data(experiment, bands=reading.bands, value_range=reading.value_range)
    labels = _infer_labels(experiment, draft, progress)
    experiment = _with_data(experiment, labels=labels)
    audit = _audit(experiment, labels, draft, started, progress)
    return _excluding_faulty(audit)


@dataclass
class _Draft:
    """What is known of the source before its files are looked at; ``unread`` says why there is no label map."""

    source: str
    unread: DataError | None = None
    layout: Layout | None = None
    encoding: Encoding | None = None
    decisions: list[str] = field(default_factory=list)


def _with_data(experiment: Experiment, **changes: object) -> Experiment:
    return experiment.model_copy(update={"data": experiment.data.model_copy(update=changes)})


def _infer_labels(experiment: Experiment, draft: _Draft, progress: Progress) -> LabelMap:
    """The label map of the format or of the names in the annotations; else what the masks themselves say."""
    data = experiment.data
    sources = [source for source in (data.train, data.val, data.test) if source is not None]
    known = default_labels(data, experiment.task, sources)
    if known is not None:
        if experiment.task == "segmentation":
            check_mask_classes(known)
        return known
    splits, _ = list_splits(experiment)
    records = [record for part in splits.named().values() for record in part]

    def masks() -> Iterator[tuple[Record, MaskFacts]]:
        facts = MaskFactStore().read([record.annotation for record in records if isinstance(record.annotation, Path)])
        for done, (record, found) in enumerate(zip(records, facts, strict=True), start=1):
            progress("reading masks", done, len(records))
            if isinstance(found, MaskFacts):
                yield record, found

    # The file may lie beside the folder that holds pictures and masks, in the one that was named.
    table = find_class_table(Path(data.root)) or find_class_table(Path(draft.source))
    draft.encoding = infer_encoding(masks, table)
    return draft.encoding.labels


def _audit(experiment: Experiment, labels: LabelMap | None, draft: _Draft, started: float, progress: Progress) -> Audit:
    splits, findings = list_splits(experiment)
    if draft.unread is not None:
        told = {(finding.file, finding.message) for finding in findings}
        untold = [fault for fault in draft.unread.faults if (fault.where, fault.what) not in told]
        findings.add_error(DataError(untold))
    if draft.encoding is not None:
        findings.extend(draft.encoding.findings)
    pictures = _inspect(splits, experiment, findings, progress)
    if draft.layout is not None:
        trained = sum(record.id in pictures.sizes for record in splits.train)
        experiment = suit(experiment, Counter(pictures.sizes.values()), trained)
    summaries: list[SplitSummary] = []
    anchors = None
    weights: dict[str, tuple[float, ...]] = {}
    for name, records in splits.named().items():
        if not records or labels is None:
            continue
        seen = _look_at_labels(name, records, labels, experiment, pictures, findings, progress)
        summaries.append(seen.summary)
        if name == "train":
            weights = _class_weights(seen.pixels) if seen.pixels is not None else {}
            if experiment.task == "detection" and seen.objects is not None:
                anchors = compare_anchors(seen.objects.boxes, seen.objects.sizes, experiment.data, experiment.detection)
    if anchors is not None and (finding := anchor_finding(anchors, experiment.detection)):
        findings.append(finding)
    if labels is not None:
        _check_classes(summaries, labels, experiment, findings)
    findings.extend(find_duplicates(pictures.keys, lambda file: read_image(file, pixel_reading(experiment.data))))
    ids: dict[SplitName, list[str]] = {name: [r.id for r in records] for name, records in splits.named().items()}
    # A part that is held out by chance shares its sequences with the rest; that is worth the same words.
    findings.extend(find_shared_sequences(ids))
    return Audit(
        source=draft.source,
        experiment=experiment,
        labels=labels,
        guesses=(*(draft.layout.guesses if draft.layout else ()), *(draft.encoding.guesses if draft.encoding else ())),
        decisions=(*draft.decisions, *(draft.encoding.decisions if draft.encoding else ())),
        findings=findings,
        splits=tuple(summaries),
        mean=pictures.mean,
        std=pictures.std,
        class_weights=weights,
        anchors=anchors,
        previews=_previews(splits, labels, experiment, findings) if labels is not None else (),
        seconds=time.perf_counter() - started,
    )


def _excluding_faulty(audit: Audit) -> Audit:
    """The same with everything that cannot be used under ``data.exclude``."""
    exclude, decisions = list(audit.experiment.data.exclude), list(audit.decisions)
    for one, many, unusable in (
        ("picture", "pictures", sorted(audit.findings.faulty_ids(but=_IGNORED_BY_LABELS))),
        ("line or object", "lines or objects", sorted(audit.findings.faulty_places)),
    ):
        if unusable:
            shown = ", ".join(unusable[:5]) + (f" and {len(unusable) - 5} more" if len(unusable) > 5 else "")
            number = f"{len(unusable):,} {one if len(unusable) == 1 else many}"
            decisions.append(f"What cannot be used is excluded, {number}: {shown}.")
            exclude += [glob.escape(name) for name in unusable]
    return replace(audit, experiment=_with_data(audit.experiment, exclude=exclude), decisions=tuple(decisions))


@dataclass
class _Pictures:
    """What was seen of all pictures; ``marks`` are the orientation marks (2-8) of those that have one, by id."""

    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    marks: dict[str, int] = field(default_factory=dict)
    keys: list[PictureKey] = field(default_factory=list)
    pixels: int = 0
    sums: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    squares: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))

    def add(self, facts: PictureFacts, split: SplitName) -> None:
        if facts.size_hw is None or facts.look is None:
            return
        self.sizes[facts.id] = facts.size_hw
        if facts.exif_orientation != 1:
            self.marks[facts.id] = facts.exif_orientation
        self.keys.append(PictureKey(facts.id, facts.file, split, facts.content, facts.look, facts.is_flat))
        if split == "train":
            self.pixels += facts.pixels
            self.sums += facts.channel_sums
            self.squares += facts.channel_squares

    @property
    def mean(self) -> tuple[float, float, float] | None:
        return _triple(self.sums / self.pixels) if self.pixels else None

    @property
    def std(self) -> tuple[float, float, float] | None:
        if not self.pixels:
            return None
        variance = self.squares / self.pixels - (self.sums / self.pixels) ** 2
        return _triple(np.sqrt(np.maximum(variance, 0)))


def _triple(values: NDArray[np.float64]) -> tuple[float, float, float]:
    red, green, blue = (round(float(value), 4) for value in values)
    return red, green, blue


def _inspect(splits: Splits, experiment: Experiment, findings: Findings, progress: Progress) -> _Pictures:
    seen = _Pictures()
    total = sum(len(records) for records in splits.named().values())
    done = 0
    for name, records in splits.named().items():
        for facts in inspect_pictures(records, pixel_reading(experiment.data)):
            findings.extend(facts.findings, split=name)
            seen.add(facts, name)
            done += 1
            progress("looking at pictures", done, total)
    return seen


@dataclass
class _Seen:
    """What was seen of the labels of one split; the scans that its kind of label has."""

    summary: SplitSummary
    pixels: LabelScan | None = None
    objects: ObjectScan | None = None


def _look_at_labels(
    name: SplitName,
    records: Sequence[Record],
    labels: LabelMap,
    experiment: Experiment,
    pictures: _Pictures,
    findings: Findings,
    progress: Progress,
) -> _Seen:
    sizes = pictures.sizes
    zeros = np.zeros(len(labels), dtype=np.int64)
    readable = [record for record in records if record.id in sizes]
    seen = _Seen(
        SplitSummary(name, len(readable), Counter(sizes[record.id] for record in readable), zeros, 0, zeros, zeros)
    )
    if any(isinstance(record.annotation, Shapes) for record in readable):
        described = [record for record in readable if isinstance(record.annotation, Shapes)]
        seen.objects = scan_objects(described, labels, sizes=sizes)
        findings.extend(_for_task(seen.objects.findings, experiment), split=name)
        seen.summary = replace(
            seen.summary, objects=seen.objects.objects, images_with_class=seen.objects.images_with_class
        )
    if experiment.task == "segmentation":
        seen.pixels = scan_labels(
            readable,
            labels,
            sizes=sizes,
            progress=lambda done: progress(f"looking at {name} labels", done, len(readable)),
        )
        findings.extend(seen.pixels.findings, split=name)
        marked = [record for record in readable if record.id in pictures.marks]
        unmarked = (check_mark(record, pictures.marks[record.id], sizes[record.id]) for record in marked)
        findings.extend((finding for finding in unmarked if finding is not None), split=name)
        seen.summary = replace(
            seen.summary,
            pixels=seen.pixels.pixels,
            ignored_pixels=seen.pixels.ignored_pixels,
            images_with_class=seen.pixels.images_with_class,
        )
    if experiment.task == "classification":
        images, found = scan_categories(readable, labels)
        findings.extend(found, split=name)
        seen.summary = replace(seen.summary, images_with_class=images)
    return seen


def _for_task(findings: Findings, experiment: Experiment) -> Findings:
    """For pixels, names are checked where objects are painted; what only matters to a detector is left out."""
    if experiment.task != "segmentation":
        return findings
    return findings.without("unknown-class", "tiny-box", "duplicate-box")


def _class_weights(scan: LabelScan) -> dict[str, tuple[float, ...]]:
    if scan.pixels.sum() == 0:
        return {}
    pixels, around = torch.from_numpy(scan.pixels), torch.from_numpy(scan.pixels_of_images_with_class)
    found: dict[str, tuple[float, ...]] = {}
    for name in _WEIGHTINGS:
        weights = class_weights_from_counts(name, pixels, around).tolist()
        found[name] = tuple(
            weight if count else float("nan") for weight, count in zip(weights, scan.pixels.tolist(), strict=True)
        )
    return found


def _check_classes(
    summaries: Sequence[SplitSummary], labels: LabelMap, experiment: Experiment, findings: Findings
) -> None:
    """Classes that never or hardly occur, or only where they are not learned; parts of the data that are not there."""
    by_name = {summary.name: summary for summary in summaries}
    train, val = by_name.get("train"), by_name.get("val")
    if train is None and findings.count("error"):
        return  # They say why no training picture is left.
    if train is None or not (train.images_with_class.any() or train.objects.any()):
        findings.append(Finding("nothing-to-learn", "", "no training picture has a usable label", split="train"))
        return
    images = sum(summary.images for summary in summaries)
    for index, name in enumerate(labels.names):
        held = {s.name: int(s.images_with_class[index]) for s in summaries}
        total = sum(held.values())
        details = {"class": name, "images": total}
        if total == 0:
            findings.append(Finding("class-missing", "", f'class "{name}" is in no picture', details=details))
            continue
        if held["train"] == 0:
            where = " and ".join(part for part, count in held.items() if count)
            others = sum(summary.images for summary in summaries if held[summary.name])
            message = f'class "{name}" is in {total} of {others} pictures of {where}, and in none of train'
            findings.append(Finding("class-only-in-val", "", message, "It cannot be learned.", details=details))
        if total < _FEW_IMAGES and total < _SMALL_SHARE * images:
            message = f'class "{name}" is in {total} of {images} pictures'
            findings.append(Finding("class-rare", "", message, details=details))
    if val is None and (experiment.data.val is None or not findings.count("error")):
        hint = f"Set `data.val`, or `data.val_fraction: {_LEAST_HELD_OUT}`."
        findings.append(Finding("no-validation", "", "no picture is held out to score the training", hint))


def _previews(splits: Splits, labels: LabelMap, experiment: Experiment, findings: Findings) -> tuple[Preview, ...]:
    """Small overlays of pictures evenly spread over each split."""
    previews = []
    faulty = findings.faulty_ids()
    for name, records in splits.named().items():
        usable = [record for record in records if record.id not in faulty]
        count = min(_PREVIEWS[name], len(usable))
        for index in np.linspace(0, len(usable) - 1, count).round().astype(int) if count else ():
            try:
                image = _draw(usable[index], labels, experiment)
            except DataError:
                continue  # Found by the checks before; a picture without its overlay would say less than none.
            previews.append(Preview(usable[index].id, name, image))
    return tuple(previews)


def _draw(record: Record, labels: LabelMap, experiment: Experiment) -> NDArray[np.uint8]:
    image = read_image(record.image, pixel_reading(experiment.data))
    factor = min(1.0, _PREVIEW_SIDE / max(image.shape[:2]))
    size = max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor))
    small: NDArray[np.uint8] = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    if experiment.task == "segmentation":
        classes = read_classes(record, labels, image.shape[:2])
        return overlay(small, cv2.resize(classes, size, interpolation=cv2.INTER_NEAREST_EXACT), labels)
    if isinstance(record.annotation, Shapes):
        boxes = to_boxes(record.annotation, image.shape[:2], labels)
        return draw_boxes(small, boxes.xyxy * np.float32(factor), boxes.classes, labels)
    return small
