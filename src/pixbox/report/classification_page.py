"""The page of a classification evaluation, section by section. Everything that a user named is escaped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pixbox.config import Experiment
from pixbox.labels import LabelMap
from pixbox.report.doctor import Advice
from pixbox.report.evidence import Confusion, History
from pixbox.report.html import percent, photo_uri, swatch, write_page
from pixbox.report.sections import (
    ClassRow,
    Figure,
    calibration,
    class_table,
    confusion_matrix,
    count,
    doctor,
    header,
    in_words,
    largest_confusions,
    settings,
    side_by_side,
    training_curves,
)

if TYPE_CHECKING:
    # They need torch, which a page does not.
    from pixbox.metrics import CalibrationBin, ClassificationMetrics

# Pictures are shown about 250 px wide; twice that is sharp on dense screens.
_LONGEST_SIDE = 480
_JPEG_QUALITY = 85
# In a longer table nobody looks for a name: it begins with what is to be looked at.
_LOOKED_THROUGH = 100
_MOST_ROWS = 2000


@dataclass(frozen=True)
class ClassificationExample:
    """One picture that was called a wrong class.

    Attributes:
        id: of its Record.
        image: (H, W, 3) uint8 RGB.
        truth: class index.
        predicted: likewise.
        probability: 0 to 1, of the predicted class.
        truth_probability: 0 to 1, of the true class.
    """

    id: str
    image: NDArray[np.uint8]
    truth: int
    predicted: int
    probability: float
    truth_probability: float


@dataclass(frozen=True)
class ClassificationReport:
    """What the page shows.

    Attributes:
        title: heading, the name of the experiment.
        split: which part of the data was scored.
        experiment: what was trained.
        labels: the classes, in the order of their indices.
        metrics: of the whole split.
        confusion: (true class, predicted class) -> pictures.
        history: the rows of metrics.csv, oldest first; may be empty.
        examples: shown in this order; may be empty.
        facts: what else is known of the model and the run, name -> value.
        intervals: 95 % intervals of figures by their names in metrics.json, by class "class_accuracy/<name>".
        calibration: right predictions by their confidence; empty if not known.
        advice: what the doctor says.
    """

    title: str
    split: str
    experiment: Experiment
    labels: LabelMap
    metrics: ClassificationMetrics
    confusion: Confusion
    history: History
    examples: Sequence[ClassificationExample]
    facts: Mapping[str, str]
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    calibration: Sequence[CalibrationBin] = ()
    advice: Sequence[Advice] = ()


def write_classification_report(report: ClassificationReport, folder: Path) -> Path:
    """Write ``report.html`` into a folder, whole or not at all, and return its path.

    The page needs no network and no other file.

    Raises:
        OSError: the folder cannot be written.
    """
    sections = [
        _header(report),
        doctor(report.advice),
        side_by_side(_classes(report), confusion_matrix(report.labels, report.confusion, "pictures")),
        calibration(report.calibration, "pictures"),
        training_curves(report.experiment, report.history),
        _examples(report),
        settings(report.experiment, report.facts),
    ]
    path = folder / "report.html"
    write_page(path, f"{report.title} · {report.split}", sections)
    return path


def _header(report: ClassificationReport) -> str:
    metrics = report.metrics
    tiles = [
        Figure("Accuracy", percent(metrics.accuracy), report.intervals.get("accuracy")),
        Figure("Top-5 accuracy", percent(metrics.top5_accuracy), report.intervals.get("top5_accuracy")),
        Figure("Pictures", count(metrics.images)),
    ]
    words = in_words(report.experiment, "accuracy", metrics.class_accuracy)
    return header(report.experiment, report.split, report.title, words, tiles)


def _classes(report: ClassificationReport) -> str:
    names, colors = report.labels.names, report.labels.colors
    true, called = Counter[int](), Counter[int]()
    for (truth, predicted), number in report.confusion.items():
        true[truth] += number
        called[predicted] += number
    accuracy = [report.metrics.class_accuracy[name] for name in names]
    order = list(range(len(names)))
    note = (
        "Accuracy: the share of the class's pictures that were called so. Pictures: how many are of the class. "
        "Called so: how many were, rightly or wrongly."
    )
    if len(names) > _LOOKED_THROUGH:
        order = sorted(order, key=lambda index: (accuracy[index] is None, accuracy[index] or 0.0))[:_MOST_ROWS]
        note += " The weakest classes come first."
        if len(names) > _MOST_ROWS:
            note += f" Of {len(names):,} classes, {_MOST_ROWS:,} are shown; metrics.json has all."
    rows = [
        ClassRow(
            swatch(colors[index]),
            names[index],
            accuracy[index],
            (count(true[index]), count(called[index])),
            report.intervals.get(f"class_accuracy/{names[index]}"),
        )
        for index in order
    ]
    below = largest_confusions(report.labels, report.confusion)
    return class_table("Classes", note, ("Accuracy", "Pictures", "Called so"), rows, below=below)


def _examples(report: ClassificationReport) -> str:
    if not report.examples:
        return ""
    shown = "".join(_example(item, report.labels) for item in report.examples)
    ratio = float(np.median([item.image.shape[1] / item.image.shape[0] for item in report.examples]))
    return (
        '<section class="card"><h2>Pictures</h2><p class="note">Wrong with the most confidence first: hard pictures, '
        f'or wrong labels.</p><div class="sheet large" style="--ratio:{min(max(ratio, 0.5), 2):.3f}">{shown}</div>'
        "</section>"
    )


def _example(item: ClassificationExample, labels: LabelMap) -> str:
    truth, predicted = (escape(labels.names[index]) for index in (item.truth, item.predicted))
    return (
        f'<figure><img src="{photo_uri(item.image, _LONGEST_SIDE, _JPEG_QUALITY)}" alt="{escape(item.id)}" '
        f'loading="lazy"><figcaption><span class="said">is <b>{truth}</b>, called <b>{predicted}</b> '
        f"({item.probability:.0%})</span><span>{truth} was given {item.truth_probability:.0%}</span>"
        f"<span>{escape(item.id)}</span></figcaption></figure>"
    )
