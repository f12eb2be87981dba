"""The page of a segmentation evaluation, section by section. Everything that a user named is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixbox.config import Experiment
from pixbox.drawing import CORRECT, IGNORED, WRONG, error_map
from pixbox.labels import IGNORE, LabelMap
from pixbox.report.doctor import Advice
from pixbox.report.evidence import History, counted
from pixbox.report.html import (
    class_attribute,
    data_uri,
    in_millions,
    legend,
    percent,
    photo_uri,
    shrunk_size,
    swatch,
    write_page,
)
from pixbox.report.sections import (
    ClassRow,
    Figure,
    boundaries,
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
    # It needs torch, which a page does not.
    from pixbox.metrics import CalibrationBin

# Pictures are shown about 330 px wide on a desk and 170 on a phone; twice that is sharp on dense screens.
_LONGEST_SIDE = 640
_JPEG_QUALITY = 88


@dataclass(frozen=True)
class Example:
    """One picture with its truth and its prediction.

    Attributes:
        id: of its Record.
        image: (H, W, 3) uint8 RGB.
        truth: (H, W) uint8 class indices or ``IGNORE``.
        prediction: likewise.
        miou: of this picture alone; None if no pixel of it is labelled.
    """

    id: str
    image: NDArray[np.uint8]
    truth: NDArray[np.uint8]
    prediction: NDArray[np.uint8]
    miou: float | None


@dataclass(frozen=True)
class SegmentationReport:
    """What the page shows.

    Attributes:
        title: heading, the name of the experiment.
        split: which part of the data was scored.
        experiment: what was trained.
        labels: the classes, in the order of ``confusion``.
        metrics: the content of metrics.json.
        confusion: (N, N) int64 pixels; row: true class, column: predicted class.
        history: the rows of metrics.csv, oldest first; may be empty.
        examples: shown in this order; may be empty.
        facts: what else is known of the model and the run, name -> value.
        intervals: 95 % intervals of figures by their names in metrics.json, by class "class_iou/<name>".
        calibration: right predictions by their confidence; empty if not known.
        boundary: figures of the edges, by class "class_boundary_iou/<name>"; empty if not known.
        advice: what the doctor says.
    """

    title: str
    split: str
    experiment: Experiment
    labels: LabelMap
    metrics: Mapping[str, Any]
    confusion: NDArray[np.int64]
    history: History
    examples: Sequence[Example]
    facts: Mapping[str, str]
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    calibration: Sequence[CalibrationBin] = ()
    boundary: Mapping[str, float | None] = field(default_factory=dict)
    advice: Sequence[Advice] = ()


def write_report(report: SegmentationReport, folder: Path) -> Path:
    """Write ``report.html`` into a folder, whole or not at all, and return its path.

    The page needs no network and no other file.

    Raises:
        OSError: the folder cannot be written.
    """
    matrix = confusion_matrix(report.labels, counted(report.confusion), "pixels")
    sections = [
        _header(report),
        doctor(report.advice),
        side_by_side(_classes(report), matrix),
        side_by_side(calibration(report.calibration, "pixels"), boundaries(report.labels, report.boundary)),
        training_curves(report.experiment, report.history),
        _examples(report),
        settings(report.experiment, report.facts),
    ]
    path = folder / "report.html"
    write_page(path, f"{report.title} · {report.split}", sections)
    return path


def _header(report: SegmentationReport) -> str:
    metrics = report.metrics
    scores = {
        "miou": "mIoU, mean over the classes",
        "pixel_accuracy": "Pixel accuracy",
        "mean_accuracy": "Mean class accuracy",
        "frequency_weighted_iou": "Frequency-weighted IoU",
    }
    tiles = [Figure(name, percent(metrics[key]), report.intervals.get(key)) for key, name in scores.items()]
    tiles += [Figure("Pictures", count(metrics["images"])), Figure(*in_millions("Labelled pixels", metrics["pixels"]))]
    words = in_words(report.experiment, "IoU", metrics["class_iou"])
    return header(report.experiment, report.split, report.title, words, tiles)


def _classes(report: SegmentationReport) -> str:
    metrics, pixels = report.metrics, report.confusion.sum(axis=1)
    total, colors = max(1, int(pixels.sum())), report.labels.colors
    rows = [
        ClassRow(
            swatch(colors[index]),
            name,
            metrics["class_iou"][name],
            (percent(metrics["class_accuracy"][name]), percent(int(pixels[index]) / total)),
            report.intervals.get(f"class_iou/{name}"),
        )
        for index, name in enumerate(report.labels.names)
    ]
    note = (
        "IoU: of all pixels that either truth or prediction gives to a class, the share on which both agree. "
        "Accuracy: the share of its true pixels that were found. Area: its share of the true pixels."
    )
    below = largest_confusions(report.labels, counted(report.confusion))
    return class_table("Classes", note, ("IoU", "Accuracy", "Area"), rows, below=below)


def _examples(report: SegmentationReport) -> str:
    if not report.examples:
        return ""
    shown = np.unique(
        np.concatenate([np.unique(part) for item in report.examples for part in (item.truth, item.prediction)])
    )
    colors, names = report.labels.colors, report.labels.names
    keys = [(colors[i], names[i]) for i in shown if i < len(names)]
    keys += [(CORRECT, "correct"), (WRONG, "wrong")]
    if IGNORE in shown:
        keys.append((IGNORED, "ignored"))
    return (
        '<section class="card"><h2>Pictures</h2><p class="note">The lowest scores first: where there is most to learn.'
        f"</p>{legend(keys)}{''.join(_example(item, report.labels) for item in report.examples)}</section>"
    )


def _example(item: Example, labels: LabelMap) -> str:
    truth, prediction = _shrink(item.truth), _shrink(item.prediction)
    panels = [
        ("Input", photo_uri(item.image, _LONGEST_SIDE, _JPEG_QUALITY), ""),
        ("Truth", _mask_uri(truth, labels), "labels"),
        ("Prediction", _mask_uri(prediction, labels), "labels"),
        ("Errors", data_uri(Image.fromarray(error_map(truth, prediction)), "PNG"), "labels"),
    ]
    figures = "".join(
        f'<figure><img{class_attribute(kind)} src="{uri}" '
        f'alt="{name} of {escape(item.id)}" loading="lazy"><figcaption>{name}</figcaption></figure>'
        for name, uri, kind in panels
    )
    return (
        f'<article class="example"><h3><span>{escape(item.id)}</span>'
        f'<span class="score">mIoU {percent(item.miou)}</span></h3><div class="panels">{figures}</div></article>'
    )


def _shrink(classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    size = shrunk_size(classes, _LONGEST_SIDE)
    if size is None:
        return classes
    smaller: NDArray[np.uint8] = cv2.resize(classes, size, interpolation=cv2.INTER_NEAREST_EXACT)
    return smaller


def _mask_uri(classes: NDArray[np.uint8], labels: LabelMap) -> str:
    picture = Image.fromarray(classes)
    picture.putpalette([*labels.palette[: 3 * IGNORE], *IGNORED])
    return data_uri(picture, "PNG")
