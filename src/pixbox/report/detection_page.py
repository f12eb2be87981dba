"""The page of a detection evaluation, section by section. Everything that a user named is escaped."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pixbox.config import Experiment
from pixbox.labels import LabelMap
from pixbox.report.charts import MOST_TRACES, Spot, Trace, curve_key, unit_chart
from pixbox.report.doctor import Advice
from pixbox.report.evidence import History
from pixbox.report.html import percent, photo_uri, write_page
from pixbox.report.sections import (
    ClassRow,
    Figure,
    calibration,
    class_table,
    count,
    doctor,
    header,
    in_words,
    settings,
    side_by_side,
    training_curves,
)
from pixbox.sample import Boxes

if TYPE_CHECKING:
    # They need torch, which a page does not.
    from pixbox.metrics import CalibrationBin, DetectionMetrics, OperatingPoint, PictureErrors, PrecisionRecall

# Pictures are shown up to 640 px wide; half as much again is sharp enough under their boxes.
_LONGEST_SIDE = 960
_JPEG_QUALITY = 85
# Longer lists of what is wrong with a picture start closed.
_SHOWN_ERRORS = 12
# The letter of a box stands inside where it has less room above it, share of the picture's height.
_ROOM_FOR_LETTER = 0.06
_KEYS = {
    "right": ("", "right: class and place agree"),
    "missed": ("M", "missed: a true box that nothing found"),
    "false": ("F", "false: nothing is there, or it is already found"),
    "confused": ("C", "confused: found, but called another class"),
    "difficult": ("", "difficult: counts neither as found nor as missed"),
}


@dataclass(frozen=True)
class DetectionExample:
    """One picture with its true boxes and what was found.

    Attributes:
        id: of its Record.
        image: (H, W, 3) uint8 RGB.
        truth: in the pixels of ``image``.
        boxes_xyxy: (N, 4) float, likewise.
        classes: (N,) int class indices.
        scores: (N,) float in 0..1.
        errors: at the score threshold that is to be shown; detections that it does not name are not drawn.
    """

    id: str
    image: NDArray[np.uint8]
    truth: Boxes
    boxes_xyxy: NDArray[np.float32]
    classes: NDArray[np.int64]
    scores: NDArray[np.float32]
    errors: PictureErrors


@dataclass(frozen=True)
class DetectionReport:
    """What the page shows.

    Attributes:
        title: heading, the name of the experiment.
        split: which part of the data was scored.
        experiment: what was trained.
        labels: the classes.
        metrics: of the whole split.
        curves: by class name; None for a class without truth.
        operating_point: the score threshold with the highest F1; None if nothing right was found.
        history: the rows of metrics.csv, oldest first; may be empty.
        examples: shown in this order; may be empty.
        facts: what else is known of the model and the run, name -> value.
        intervals: 95 % intervals of figures by their names in metrics.json, by class "class_ap_50/<name>".
        calibration: right predictions by their confidence; empty if not known.
        advice: what the doctor says.
    """

    title: str
    split: str
    experiment: Experiment
    labels: LabelMap
    metrics: DetectionMetrics
    curves: Mapping[str, PrecisionRecall | None]
    operating_point: OperatingPoint | None
    history: History
    examples: Sequence[DetectionExample]
    facts: Mapping[str, str]
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    calibration: Sequence[CalibrationBin] = ()
    advice: Sequence[Advice] = ()


def write_detection_report(report: DetectionReport, folder: Path) -> Path:
    """Write ``report.html`` into a folder, whole or not at all, and return its path.

    The page needs no network and no other file.

    Raises:
        OSError: the folder cannot be written.
    """
    drawn = _drawn_classes(report)
    sections = [
        _header(report),
        doctor(report.advice),
        side_by_side(_classes(report, drawn), _precision_recall(report, drawn)),
        calibration(report.calibration, "detections"),
        training_curves(report.experiment, report.history),
        _examples(report),
        settings(report.experiment, report.facts),
    ]
    path = folder / "report.html"
    write_page(path, f"{report.title} · {report.split}", sections)
    return path


def _header(report: DetectionReport) -> str:
    metrics, point = report.metrics, report.operating_point
    scores = {
        "map": ("mAP, mean over IoU 0.50 to 0.95", metrics.map),
        "map_50": ("AP50, at IoU 0.50", metrics.map_50),
        "map_75": ("AP75, at IoU 0.75", metrics.map_75),
        "mar_100": ("Recall with 100 boxes", metrics.mar_100),
        "voc_map_50": ("VOC AP50, area", metrics.voc_map_50),
        "voc07_map_50": ("VOC AP50, 11 points", metrics.voc07_map_50),
    }
    tiles = [Figure(name, percent(value), report.intervals.get(key)) for key, (name, value) in scores.items()]
    tiles += [Figure("Pictures", count(metrics.images)), Figure("True boxes", count(metrics.boxes))]
    words = in_words(report.experiment, "AP", metrics.class_ap)
    if point:
        words += (
            f" Boxes with a score of {_threshold(point)} or more find {percent(point.recall)} of the objects, and "
            f"{percent(point.precision)} of these boxes are right."
        )
    elif metrics.boxes:
        words += " It finds none of the objects, at whatever score."
    return header(report.experiment, report.split, report.title, words, tiles)


def _threshold(point: OperatingPoint) -> str:
    """Rounded down: boxes with just this score are to be kept."""
    return f"{math.floor(1000 * point.score_threshold + 1e-9) / 1000:g}"


def _with_curve(report: DetectionReport) -> list[str]:
    """The classes that occur and that something was taken for."""
    return [name for name in report.labels.names if (curve := report.curves[name]) and len(curve.scores)]


def _drawn_classes(report: DetectionReport) -> list[str]:
    """The classes whose curves are drawn, in the order of the label map: if there are too many, the frequent ones."""
    frequent = sorted(_with_curve(report), key=lambda name: -report.metrics.class_boxes[name])[:MOST_TRACES]
    return [name for name in report.labels.names if name in frequent]


def _classes(report: DetectionReport, drawn: Sequence[str]) -> str:
    metrics = report.metrics
    keys = {name: curve_key(number) for number, name in enumerate(drawn)}
    rows = [
        ClassRow(
            keys.get(name, '<span class="dash none"></span>'),
            name,
            metrics.class_ap_50[name],
            (
                percent(metrics.class_ap[name]),
                percent(metrics.class_voc_ap_50[name]),
                percent(metrics.class_voc07_ap_50[name]),
                count(metrics.class_boxes[name]),
            ),
            report.intervals.get(f"class_ap_50/{name}"),
        )
        for name in report.labels.names
    ]
    note = (
        "AP50: average precision at IoU 0.50; AP: its mean over the IoU thresholds 0.50, 0.55, ..., 0.95. "
        "VOC AP: at 0.50 by the rule of the Pascal VOC challenge, the area under the curve; VOC 07: the mean of its "
        "heights at eleven recalls, as until 2009. Boxes: true ones, without the difficult."
    )
    return class_table("Classes", note, ("AP50", "AP", "VOC AP", "VOC 07", "Boxes"), rows, below=_advice(report))


def _advice(report: DetectionReport) -> str:
    """Which score threshold to set, and what it brings."""
    point = report.operating_point
    if point is None:
        return ""
    return (
        f'<div class="advice"><p class="words">Set score threshold {_threshold(point)}: {_figures(point)}, '
        f'F1 {percent(point.f1)}</p><p class="note">The best balance, that is the highest F1, of all classes together '
        "at IoU 0.50. A lower threshold finds more, a higher one is wrong less often.</p></div>"
    )


def _figures(point: OperatingPoint) -> str:
    return f"precision {percent(point.precision)}, recall {percent(point.recall)}"


def _precision_recall(report: DetectionReport, drawn: Sequence[str]) -> str:
    if not drawn:
        return ""
    point = report.operating_point
    traces = [_trace(name, curve, point) for name in drawn if (curve := report.curves[name])]
    note = (
        "What the boxes of each class reach at IoU 0.50, from the highest score down. Precision: the share of them "
        "that is right. Recall: the share of the true boxes that they find."
    )
    mark = None
    if point:
        text = f"all classes at score {_threshold(point)}: {_figures(point)}"
        mark = Spot(point.recall, point.precision, text), f"all classes, score {_threshold(point)}"
        note += " Dots: each class at the score threshold."
    if len(drawn) < len(_with_curve(report)):
        note += f" Drawn are the {MOST_TRACES} classes with the most boxes; the others are in the table."
    return (
        f'<section class="card"><h2>Precision and recall</h2><p class="note">{note}</p>'
        f"{unit_chart('Precision over recall, IoU 0.50', 'recall', 'precision', traces, mark)}</section>"
    )


def _trace(name: str, curve: PrecisionRecall, point: OperatingPoint | None) -> Trace:
    # From recall 0 on: the first detection alone may find a large share of few boxes.
    xy = np.stack((np.append(0, curve.recall), np.append(curve.precision[0], curve.precision)), axis=1)
    tenths = np.searchsorted(curve.recall, np.arange(1, 11) / 10)
    last = len(curve.scores) - 1
    spots = [_spot(name, curve, index) for index in np.unique(tenths.clip(max=last)).tolist()]
    kept = int(np.count_nonzero(curve.scores >= point.score_threshold)) if point else 0
    return Trace(name, xy, spots, _spot(name, curve, kept - 1) if kept else None)


def _spot(name: str, curve: PrecisionRecall, index: int) -> Spot:
    precision, recall = float(curve.precision[index]), float(curve.recall[index])
    text = f"{name} at score {curve.scores[index]:.2g}: precision {percent(precision)}, recall {percent(recall)}"
    return Spot(recall, precision, text)


def _examples(report: DetectionReport) -> str:
    if not report.examples:
        return ""
    marks = [list(_marks(item, report.labels)) for item in report.examples]
    kinds = {mark.kind for item in marks for mark in item}
    keys = "".join(_key(kind, *_KEYS[kind]) for kind in _KEYS if kind in kinds or kind != "difficult")
    shown = "".join(_example(item, drawn) for item, drawn in zip(report.examples, marks, strict=True))
    at = f", at score {_threshold(report.operating_point)} or more" if report.operating_point else ""
    return (
        f'<section class="card marked"><h2>Pictures</h2><p class="note">The pictures with the most errors first{at}: '
        "where there is most to learn. What is ticked is shown.</p>"
        f'<ul class="legend keys">{keys}</ul><div class="spread">{shown}</div></section>'
    )


def _key(kind: str, letter: str, meaning: str) -> str:
    return (
        f'<li><label><input type="checkbox" class="show-{kind}" checked />'
        f'<span class="sample"><span class="box {kind}">{_plate(letter)}</span></span>{meaning}</label></li>'
    )


@dataclass(frozen=True)
class _Mark:
    """A box on a picture: of which kind, with which letter and number, (4,) x1 y1 x2 y2, and what it says."""

    kind: str
    sign: str
    xyxy: NDArray[np.float32]
    text: str


def _marks(item: DetectionExample, labels: LabelMap) -> Iterator[_Mark]:
    """What to draw: errors are numbered from the highest score down."""
    errors, truth, names = item.errors, item.truth, labels.names

    def found(index: int) -> str:
        return f"{names[item.classes[index]]} {item.scores[index]:.2f}"

    for index in np.flatnonzero(truth.difficult).tolist():
        yield _Mark("difficult", "", truth.xyxy[index], names[truth.classes[index]])
    for index, _ in errors.right.tolist():
        yield _Mark("right", "", item.boxes_xyxy[index], found(index))
    confused = sorted(errors.confused.tolist(), key=lambda pair: -item.scores[pair[0]])
    for number, (index, true) in enumerate(confused, start=1):
        text = f"{found(index)}, is {names[truth.classes[true]]}"
        yield _Mark("confused", f"C{number}", item.boxes_xyxy[index], text)
    false = sorted(errors.false.tolist(), key=lambda index: -item.scores[index])
    for number, index in enumerate(false, start=1):
        yield _Mark("false", f"F{number}", item.boxes_xyxy[index], found(index))
    for number, index in enumerate(errors.missed.tolist(), start=1):
        yield _Mark("missed", f"M{number}", truth.xyxy[index], names[truth.classes[index]])


def _example(item: DetectionExample, marks: Sequence[_Mark]) -> str:
    height, width = item.image.shape[:2]
    # Small boxes above large ones, so that the pointer reaches them.
    by_area = sorted(marks, key=lambda mark: -float((mark.xyxy[2:] - mark.xyxy[:2]).prod()))
    boxes = "".join(_box(mark, height, width) for mark in by_area)
    errors = item.errors
    kinds = {"right": errors.right, "missed": errors.missed, "false": errors.false, "confused": errors.confused}
    counts = " · ".join(f"{len(indices):,} {kind}" for kind, indices in kinds.items())
    listed = [mark for mark in marks if mark.sign]
    return (
        f'<article><h3>{escape(item.id)}</h3><figure><div class="photo" style="--ratio:{width / height:.3f}">'
        f'<img src="{photo_uri(item.image, _LONGEST_SIDE, _JPEG_QUALITY)}" alt="{escape(item.id)} with its boxes" '
        f'loading="lazy">{boxes}</div><figcaption>{counts}</figcaption></figure>{_errors(listed)}</article>'
    )


def _box(mark: _Mark, height: int, width: int) -> str:
    x1, y1, x2, y2 = (float(part) for part in mark.xyxy / np.array([width, height, width, height]))
    place = f"left:{x1:.2%};top:{y1:.2%};width:{x2 - x1:.2%};height:{y2 - y1:.2%}"
    inside = " inside" if y1 < _ROOM_FOR_LETTER else ""
    title = f"{mark.kind} {mark.sign}: {mark.text}" if mark.sign else f"{mark.kind}: {mark.text}"
    return f'<span class="box {mark.kind}{inside}" style="{place}" title="{escape(title)}">{_plate(mark.sign)}</span>'


def _plate(sign: str) -> str:
    return f"<b>{sign}</b>" if sign else ""


def _errors(marks: Sequence[_Mark]) -> str:
    """What is wrong with a picture, one by one, by the signs that stand at the boxes."""
    if not marks:
        return ""
    items = "".join(
        f'<li class="{mark.kind}"><span class="sign">{mark.sign}</span>{escape(mark.text)}</li>' for mark in marks
    )
    opened = " open" if len(marks) <= _SHOWN_ERRORS else ""
    return f'<details{opened}><summary>Errors one by one</summary><ul class="errors">{items}</ul></details>'
