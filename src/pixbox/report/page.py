"""The page of a segmentation evaluation, section by section. Everything that a user named is escaped."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixbox.config import AugmentConfig, Experiment
from pixbox.drawing import CORRECT, IGNORED, WRONG, error_map
from pixbox.labels import IGNORE, LabelMap
from pixbox.report.charts import Series, line_chart
from pixbox.report.html import (
    class_attribute,
    data_uri,
    definitions,
    legend,
    measure,
    percent,
    photo_uri,
    shrunk_size,
    swatch,
    tile,
    write_page,
)

# Pictures are shown about 330 px wide on a desk and 170 on a phone; twice that is sharp on dense screens.
_LONGEST_SIDE = 640
_JPEG_QUALITY = 88
# More classes than this: the cells of the confusion matrix are too small for numbers.
_READABLE_CLASSES = 12
_MOST_CONFUSIONS = 5


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
    """

    title: str
    split: str
    experiment: Experiment
    labels: LabelMap
    metrics: Mapping[str, Any]
    confusion: NDArray[np.int64]
    history: Sequence[Mapping[str, float | None]]
    examples: Sequence[Example]
    facts: Mapping[str, str]


def write_report(report: SegmentationReport, folder: Path) -> Path:
    """Write ``report.html`` into a folder, whole or not at all, and return its path.

    The page needs no network and no other file.

    Raises:
        OSError: the folder cannot be written.
    """
    sections = [
        _header(report),
        f'<div class="pair">{_classes(report)}{_confusion(report)}</div>',
        _curves(report.history),
        _examples(report),
        _settings(report),
    ]
    path = folder / "report.html"
    write_page(path, f"{report.title} · {report.split}", sections)
    return path


def _count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def _header(report: SegmentationReport) -> str:
    metrics = report.metrics
    tiles = [
        ("mIoU, mean over the classes", percent(metrics["miou"])),
        ("Pixel accuracy", percent(metrics["pixel_accuracy"])),
        ("Mean class accuracy", percent(metrics["mean_accuracy"])),
        ("Frequency-weighted IoU", percent(metrics["frequency_weighted_iou"])),
        ("Pictures", _count(metrics["images"])),
        ("Labelled pixels", _count(metrics["pixels"])),
    ]
    shown = "".join(tile(name, value, "main" if number == 0 else "") for number, (name, value) in enumerate(tiles))
    return (
        f'<header><p class="eyebrow">Segmentation, scored on {escape(report.split)}</p><h1>{escape(report.title)}</h1>'
        f'<p class="lead">{escape(_in_words(report))}</p><dl class="tiles">{shown}</dl></header>'
    )


def _in_words(report: SegmentationReport) -> str:
    """One or two sentences: which network, which classes it does best and worst."""
    scores = [(iou, name) for name, iou in report.metrics["class_iou"].items() if iou is not None]
    text = f"{_network(report.experiment)}, {len(report.labels)} classes."
    if len(scores) > 1:
        best, worst = max(scores, key=lambda item: item[0]), min(scores, key=lambda item: item[0])
        text += f" Best class: {best[1]} (IoU {percent(best[0])}); weakest: {worst[1]} ({percent(worst[0])})."
    return text


def _network(experiment: Experiment) -> str:
    model = experiment.model
    return model.architecture + (f" with encoder {model.encoder}" if model.encoder else "")


def _classes(report: SegmentationReport) -> str:
    metrics, pixels = report.metrics, report.confusion.sum(axis=1)
    total, colors = max(1, int(pixels.sum())), report.labels.colors
    rows = []
    for index, name in enumerate(report.labels.names):
        iou, accuracy = metrics["class_iou"][name], metrics["class_accuracy"][name]
        head = f'<th scope="row"><span class="name">{swatch(colors[index])}{escape(name)}</span></th>'
        if iou is None:
            rows.append(f'<tr class="absent">{head}<td colspan="3">not present</td></tr>')
            continue
        rows.append(
            f'<tr>{head}<td class="iou">{measure(iou, percent(iou))}</td>'
            f'<td class="number">{percent(accuracy)}</td>'
            f'<td class="number">{percent(int(pixels[index]) / total)}</td></tr>'
        )
    return (
        '<section class="card"><h2>Classes</h2><p class="note">IoU: of all pixels that either truth or prediction '
        "gives to a class, the share on which both agree. Accuracy: the share of its true pixels that were found. "
        'Area: its share of the true pixels.</p><div class="scroll tall"><table class="classes"><thead><tr>'
        '<th scope="col">Class</th><th scope="col">IoU</th><th scope="col" class="number">Accuracy</th>'
        '<th scope="col" class="number">Area</th></tr>'
        f"</thead><tbody>{''.join(rows)}</tbody></table></div>{_worst_confusions(report)}</section>"
    )


def _confusion(report: SegmentationReport) -> str:
    names = [escape(name) for name in report.labels.names]
    large = len(names) <= _READABLE_CLASSES
    head = "".join(f'<th scope="col" title="{name}"><span>{name}</span></th>' for name in names)
    rows = []
    for truth, counts in enumerate(report.confusion):
        total = int(counts.sum())
        cells = "".join(
            _cell(names[truth], names[predicted], int(count), total, hit=truth == predicted, numbered=large)
            for predicted, count in enumerate(counts)
        )
        rows.append(f'<tr><th scope="row" title="{names[truth]}">{names[truth]}</th>{cells}</tr>')
    return (
        '<section class="card"><h2>Confusions</h2><p class="note">Each row is a true class, each column what was '
        "predicted; a row adds up to 100%. Green is right, red is wrong, hatched has no true pixel.</p>"
        f'<div class="scroll taller"><table class="matrix {"large" if large else "small"}"><thead><tr>'
        f"<th>true \\ predicted</th>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _cell(truth: str, predicted: str, count: int, total: int, *, hit: bool, numbered: bool) -> str:
    if total == 0:
        return '<td class="none"></td>'
    if count == 0:
        return "<td>0</td>" if numbered else "<td></td>"
    share = count / total
    # The root lifts small errors above the page's own shade.
    shade = share if hit else math.sqrt(share)
    kind = " ".join(name for name, holds in (("hit", hit), ("strong", shade > 0.6)) if holds)
    title = f"{truth} predicted as {predicted}: {count:,} of {total:,} pixels ({share:.2%})"
    text = _short(share) if numbered else ""
    return f'<td{class_attribute(kind)} style="--v:{100 * shade:.0f}" title="{title}">{text}</td>'


def _short(share: float) -> str:
    """Percent in at most four signs: 83, 9.4, &lt;0.1."""
    if share < 0.0005:
        return "&lt;0.1"
    return f"{100 * share:.1f}" if share < 0.0995 else f"{100 * share:.0f}"


def _worst_confusions(report: SegmentationReport) -> str:
    """The largest wrong cells, by the share of the true class that they take."""
    totals = report.confusion.sum(axis=1, keepdims=True)
    shares = report.confusion / np.maximum(totals, 1)
    np.fill_diagonal(shares, 0)
    items = []
    for flat in np.argsort(-shares, axis=None, kind="stable")[:_MOST_CONFUSIONS]:
        truth, predicted = divmod(int(flat), len(report.labels))
        if shares[truth, predicted] > 0:
            names = escape(report.labels.names[truth]), escape(report.labels.names[predicted])
            items.append(
                f"<li><span><b>{names[0]}</b> taken for <b>{names[1]}</b></span>"
                f"<span>{shares[truth, predicted]:.1%} of it</span></li>"
            )
    return f'<h3>Largest confusions</h3><ol class="confusions">{"".join(items)}</ol>' if items else ""


def _curves(history: Sequence[Mapping[str, float | None]]) -> str:
    """Loss, scores and learning rates over the epochs, as far as the run wrote them down."""
    rates = list(dict.fromkeys(name for row in history for name in row if name == "lr" or name.startswith("lr_")))
    plans = [
        ("Loss", {"train_loss": "training", "val_loss": "validation"}, lambda value: f"{value:.3g}"),
        (
            "Scores in validation",
            {"miou": "mIoU", "pixel_accuracy": "pixel accuracy"},
            lambda value: f"{100 * value:.3g}%",
        ),
        ("Learning rate", {name: name.removeprefix("lr_") for name in rates}, lambda value: f"{value:.2g}"),
    ]
    charts = []
    for title, columns, format_y in plans:
        series = [Series(name, points) for column, name in columns.items() if (points := _points(history, column))]
        if series:
            charts.append(line_chart(title, "epoch", series, format_y))
    if not charts:
        return ""
    return f'<section class="card"><h2>Training</h2><div class="charts">{"".join(charts)}</div></section>'


def _points(history: Sequence[Mapping[str, float | None]], column: str) -> list[tuple[float, float]]:
    pairs = [(row.get("epoch"), row.get(column)) for row in history]
    return [(x, y) for x, y in pairs if x is not None and y is not None and math.isfinite(y)]


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


def _settings(report: SegmentationReport) -> str:
    return (
        '<section class="card"><h2>What was trained on what</h2>'
        f'<div class="pair"><div>{definitions(_key_settings(report.experiment))}</div>'
        f"<div>{definitions(report.facts)}</div></div>"
        "<details><summary>The whole configuration</summary>"
        f"<pre>{escape(report.experiment.to_yaml())}</pre></details></section>"
    )


def _key_settings(experiment: Experiment) -> dict[str, str]:
    data, model, loss, training = experiment.data, experiment.model, experiment.loss, experiment.training
    optimizer, schedule = experiment.optimizer, experiment.schedule
    changed = {
        name: value for name, value in data.augment.model_dump().items() if value != getattr(AugmentConfig(), name)
    }
    weighting = loss.class_weights if isinstance(loss.class_weights, str) else "given"
    return {
        "Data": f"{data.root} ({data.format})",
        "Network": f"{_network(experiment)}, weights {model.weights}",
        "Training size": f"{data.size[0]} × {data.size[1]} pixels (height × width), {data.fit}",
        "Augmentation": ", ".join(f"{name} {_plain(value)}" for name, value in changed.items()) or "none",
        "Batch": f"{data.batch_size}{f' × {training.accumulate} accumulated' if training.accumulate > 1 else ''}",
        "Loss": f"{loss.name}{f', class weights {weighting}' if weighting != 'none' else ''}",
        "Optimizer": f"{optimizer.name}, learning rate {optimizer.lr:g}, weight decay {optimizer.weight_decay:g}",
        "Schedule": schedule.name,
        "Length": f"{training.epochs} epochs{f', at most {training.max_steps} steps' if training.max_steps else ''}",
        "Best by": training.monitor,
        "Seed": str(training.seed),
    }


def _plain(value: object) -> str:
    return "–".join(f"{part:g}" for part in value) if isinstance(value, tuple) else f"{value:g}"
