"""What the pages of an evaluation share, whatever the task. Everything that a user named is escaped."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from pixbox.config import AugmentConfig, Experiment
from pixbox.labels import LabelMap
from pixbox.report.charts import Series, line_chart, reliability_chart
from pixbox.report.doctor import Advice
from pixbox.report.evidence import SCORE_NAMES, Confusion, History, points
from pixbox.report.html import Range, class_attribute, definitions, measure, percent, prose, swatch, tile

if TYPE_CHECKING:
    # It needs torch, which a page does not.
    from pixbox.metrics import CalibrationBin

# More classes than this: the cells of the confusion matrix are too small for numbers.
_READABLE_CLASSES = 12
# More than this: the matrix is wider than half of a wide page.
_NARROW_CLASSES = 24
# More than this: the matrix is not looked through any more, and 254 classes would be 60,000 cells.
_MOST_CLASSES = 100
_MOST_CONFUSIONS = 5
_SHOWN_SCORES = {
    "segmentation": ("miou", "pixel_accuracy"),
    "detection": ("map", "map_50", "map_75"),
    "classification": ("accuracy", "top5_accuracy"),
}


@dataclass(frozen=True)
class Figure:
    """A headline figure: its name, its value in words, and its 95 % interval, if that is known."""

    name: str
    value: str
    interval: Range | None = None


def header(experiment: Experiment, split: str, title: str, words: str, tiles: Sequence[Figure]) -> str:
    """What was scored on what, one or two sentences, and the figures, the chief one first."""
    shown = "".join(
        tile(item.name, item.value, "main" if number == 0 else "", item.interval) for number, item in enumerate(tiles)
    )
    task = f"{experiment.task.capitalize()}, scored on {split}"
    return (
        f'<header><p class="eyebrow">{escape(task)}</p><h1>{escape(title)}</h1><p class="lead">{escape(words)}</p>'
        f'<dl class="tiles" style="--others:{len(tiles) - 1}">{shown}</dl></header>'
    )


def doctor(advice: Sequence[Advice]) -> str:
    """What is wrong, or could be better, each with what to try; nothing where there is no advice."""
    if not advice:
        return ""
    items = "".join(
        f'<li class="is-{item.severity}"><h3><span class="badge is-{item.severity}">{item.severity.capitalize()}</span>'
        f"<span>{prose(item.title)}</span></h3><p>{prose(item.words)}</p>"
        f'<p class="remedy">{prose(item.remedy)}</p></li>'
        for item in advice
    )
    return (
        '<section class="card doctor"><h2>What the figures say</h2><p class="note">And what to try. Settings are '
        f"those of the configuration.</p><ul>{items}</ul></section>"
    )


def side_by_side(*cards: str) -> str:
    """Cards beside each other where the window is wide; empty ones are left out."""
    content = "".join(cards)
    return f'<div class="pair">{content}</div>' if content else ""


def count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def in_words(experiment: Experiment, measure: str, scores: Mapping[str, float | None]) -> str:
    """Which network, and which classes it does best and worst by a measure: class name -> score, None if undefined."""
    defined = [(score, name) for name, score in scores.items() if score is not None]
    text = f"{_network(experiment)}, {len(scores)} class{'' if len(scores) == 1 else 'es'}."
    best = max(defined, key=lambda item: item[0], default=(0, ""))
    worst = min(defined, key=lambda item: item[0], default=(0, ""))
    if best[0] > worst[0]:
        text += f" Best class: {best[1]} ({measure} {percent(best[0])}); weakest: {worst[1]} ({percent(worst[0])})."
    return text


def _network(experiment: Experiment) -> str:
    model = experiment.model
    return model.architecture + (f" with encoder {model.encoder}" if model.encoder else "")


@dataclass(frozen=True)
class ClassRow:
    """One class of a table.

    Attributes:
        mark: what stands before the name, HTML.
        name: of the class.
        score: 0 to 1, shown as a bar; None if the class does not occur.
        others: what stands in the other columns.
        interval: 95 % interval of the score, if it is known.
    """

    mark: str
    name: str
    score: float | None
    others: Sequence[str]
    interval: Range | None = None


def class_table(
    title: str, note: str, columns: Sequence[str], rows: Sequence[ClassRow], above: str = "", below: str = ""
) -> str:
    """All classes with their scores; ``columns`` name the score and the others.

    ``above`` and ``below`` are HTML before and after the table.
    """
    if any(row.interval for row in rows):
        note += (
            " Small numbers and thin lines are 95% intervals: how far a figure may be off because these pictures were "
            "scored and not others."
        )
    head = "".join(
        f'<th scope="col"{class_attribute("number" if number else "")}>{escape(name)}</th>'
        for number, name in enumerate(columns)
    )
    return (
        f'<section class="card"><h2>{title}</h2><p class="note">{escape(note)}</p>{above}<div class="scroll tall">'
        f'<table class="classes"><thead><tr><th scope="col">Class</th>{head}</tr></thead>'
        f"<tbody>{''.join(map(_class_row, rows))}</tbody></table></div>{below}</section>"
    )


def _class_row(row: ClassRow) -> str:
    name = f'<th scope="row"><span class="name">{row.mark}<span>{escape(row.name)}</span></span></th>'
    if row.score is None:
        return f'<tr class="absent">{name}<td colspan="{1 + len(row.others)}">not present</td></tr>'
    others = "".join(f'<td class="number">{escape(text)}</td>' for text in row.others)
    return f'<tr>{name}<td class="score">{measure(row.score, percent(row.score), row.interval)}</td>{others}</tr>'


def confusion_matrix(labels: LabelMap, confusion: Confusion, unit: str) -> str:
    """Counts of a unit ("pixels") as a table of shares; of many classes, those that are confused most."""
    shown = _most_confused(len(labels), confusion)
    is_part = len(shown) < len(labels)
    columns = [escape(labels.names[index]) for index in shown] + ["all other classes"] * is_part
    place = {index: number for number, index in enumerate(shown)}
    table = np.zeros((len(shown), len(columns)), dtype=np.int64)
    for (truth, predicted), amount in confusion.items():
        if truth in place:
            table[place[truth], place.get(predicted, -1)] += amount
    large = len(shown) <= _READABLE_CLASSES
    kind = f"{'large' if large else 'small'}{' vast' if len(shown) > _NARROW_CLASSES else ''}"
    head = "".join(f'<th scope="col" title="{name}"><span>{name}</span></th>' for name in columns)
    rows = []
    for truth, counts in enumerate(table):
        total = int(counts.sum())
        cells = "".join(
            _cell(columns[truth], columns[predicted], int(cell), total, unit, hit=truth == predicted, numbered=large)
            for predicted, cell in enumerate(counts)
        )
        rows.append(f'<tr><th scope="row" title="{columns[truth]}">{columns[truth]}</th>{cells}</tr>')
    part = f" Of {len(labels):,} classes, the {len(shown)} that are confused most are shown." if is_part else ""
    return (
        '<section class="card"><h2>Confusions</h2><p class="note">Each row is a true class, each column what was '
        f"predicted; a row adds up to 100%. Green is right, red is wrong, hatched has no true {unit.removesuffix('s')}."
        f'{part}</p><div class="scroll taller"><table class="matrix {kind}"><thead><tr>'
        f"<th>true \\ predicted</th>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _most_confused(num_classes: int, confusion: Confusion) -> list[int]:
    """The classes to show, in their order: all, or those that are in the most wrong predictions, as truth or answer."""
    if num_classes <= _MOST_CLASSES:
        return list(range(num_classes))
    wrong = [0] * num_classes
    for (truth, predicted), amount in confusion.items():
        if truth != predicted:
            wrong[truth] += amount
            wrong[predicted] += amount
    return sorted(sorted(range(num_classes), key=lambda index: -wrong[index])[:_MOST_CLASSES])


def _cell(truth: str, predicted: str, amount: int, total: int, unit: str, *, hit: bool, numbered: bool) -> str:
    if total == 0:
        return '<td class="none"></td>'
    if amount == 0:
        return "<td>0</td>" if numbered else "<td></td>"
    share = amount / total
    # The root lifts small errors above the page's own shade.
    shade = share if hit else math.sqrt(share)
    kind = " ".join(name for name, holds in (("hit", hit), ("strong", shade > 0.6)) if holds)
    title = f"{truth} predicted as {predicted}: {amount:,} of {total:,} {unit} ({share:.2%})"
    text = _short(share) if numbered else ""
    return f'<td{class_attribute(kind)} style="--v:{100 * shade:.0f}" title="{title}">{text}</td>'


def _short(share: float) -> str:
    """Percent in at most four signs: 83, 9.4, &lt;0.1."""
    if share < 0.0005:
        return "&lt;0.1"
    return f"{100 * share:.1f}" if share < 0.0995 else f"{100 * share:.0f}"


def largest_confusions(labels: LabelMap, confusion: Confusion) -> str:
    """The largest wrong cells of a confusion matrix, by the share of the true class that they take."""
    totals = Counter[int]()
    for (truth, _), amount in confusion.items():
        totals[truth] += amount
    wrong = [(amount / totals[pair[0]], pair) for pair, amount in confusion.items() if pair[0] != pair[1] and amount]
    items = []
    for share, (truth, predicted) in sorted(wrong, key=lambda item: (-item[0], item[1]))[:_MOST_CONFUSIONS]:
        names = escape(labels.names[truth]), escape(labels.names[predicted])
        items.append(
            f"<li><span><b>{names[0]}</b> taken for <b>{names[1]}</b></span><span>{share:.1%} of it</span></li>"
        )
    return f'<h3>Largest confusions</h3><ol class="confusions">{"".join(items)}</ol>' if items else ""


def calibration(bins: Sequence[CalibrationBin], unit: str) -> str:
    """Whether confidence can be trusted: accuracy over confidence of a unit ("pixels"), and the mean difference."""
    total = sum(item.count for item in bins)
    if not total:
        return ""
    error = sum(
        item.count * abs(item.accuracy - item.confidence)
        for item in bins
        if item.accuracy is not None and item.confidence is not None
    )
    note = (
        f"All {unit} by the confidence of their prediction: the higher a bar, the more of them are right; the darker, "
        "the more there are. On the line, confidence is the chance to be right. Below it the model is too sure of "
        "itself, above it too careful."
    )
    return (
        f'<section class="card calibration"><div><h2>Calibration</h2><p class="note">{note}</p>'
        f'<p class="figure">Expected calibration error: <b>{percent(error / total)}</b>, the mean distance of the bars '
        f"from the line.</p></div>{reliability_chart('Share that is right over confidence', unit, bins)}</section>"
    )


def boundaries(labels: LabelMap, boundary: Mapping[str, float | None]) -> str:
    """How well edges are drawn: ``boundary_iou`` and ``boundary_f1``, and by class ``class_boundary_iou/<name>``..."""
    if not boundary:
        return ""
    means = (("Boundary IoU", "boundary_iou"), ("Boundary F-score", "boundary_f1"))
    tiles = "".join(tile(f"{name}, mean over the classes", percent(boundary.get(key))) for name, key in means)
    note = (
        "Boundary IoU: IoU of the pixels near the edges alone. Boundary F-score: how much of the edges lies where the "
        "other's lie, of the true and the predicted. Both fall faster than IoU where large areas hide ragged edges."
    )
    rows = [
        ClassRow(
            swatch(color),
            name,
            boundary[f"class_boundary_iou/{name}"],
            (percent(boundary.get(f"class_boundary_f1/{name}")),),
        )
        for name, color in zip(labels.names, labels.colors, strict=True)
        if f"class_boundary_iou/{name}" in boundary
    ]
    return class_table(
        "Boundaries", note, ("Boundary IoU", "F-score"), rows, above=f'<dl class="tiles few">{tiles}</dl>'
    )


def training_curves(experiment: Experiment, history: History) -> str:
    """Loss, scores and learning rates over the epochs, as far as the run wrote them down: the rows of metrics.csv."""
    # Weights that do not decay learn at the same rate as those beside them.
    rates = list(dict.fromkeys(name for row in history for name in row
                               if name.startswith("lr") and not name.endswith("_no_decay")))  # fmt: skip
    plans: list[tuple[str, Mapping[str, str], Callable[[float], str]]] = [
        ("Loss", {"train_loss": "training", "val_loss": "validation"}, lambda value: f"{value:.3g}"),
        (
            "Scores in validation",
            {name: SCORE_NAMES[name] for name in _SHOWN_SCORES[experiment.task]},
            lambda value: f"{100 * value:.3g}%",
        ),
        ("Learning rate", {name: name.removeprefix("lr_") for name in rates}, lambda value: f"{value:.2g}"),
    ]
    charts = []
    for title, columns, format_y in plans:
        ceiling = 1.0 if columns.keys() <= SCORE_NAMES.keys() else math.inf
        # What runs alike is one line.
        alike: dict[tuple[tuple[float, float], ...], list[str]] = {}
        for column, name in columns.items():
            if course := points(history, column):
                alike.setdefault(tuple(course), []).append(name)
        series = [Series(" and ".join(names), list(course)) for course, names in alike.items()]
        if series:
            charts.append(line_chart(title, "epoch", series, format_y, ceiling))
    if not charts:
        return ""
    return f'<section class="card"><h2>Training</h2><div class="charts">{"".join(charts)}</div></section>'


def settings(experiment: Experiment, facts: Mapping[str, str]) -> str:
    """What was trained on what: the chief settings, what else is known (name -> value), the whole configuration."""
    return (
        '<section class="card"><h2>What was trained on what</h2>'
        f'<div class="pair"><div>{definitions(_key_settings(experiment))}</div>'
        f"<div>{definitions(facts)}</div></div>"
        "<details><summary>The whole configuration</summary>"
        f"<pre>{escape(experiment.to_yaml())}</pre></details></section>"
    )


def _key_settings(experiment: Experiment) -> dict[str, str]:
    data, model, training = experiment.data, experiment.model, experiment.training
    optimizer, schedule = experiment.optimizer, experiment.schedule
    changed = {
        name: value for name, value in data.augment.model_dump().items() if value != getattr(AugmentConfig(), name)
    }
    rows = {
        "Data": f"{data.root} ({data.format})",
        "Network": f"{_network(experiment)}, weights {model.weights}",
        "Training size": _training_size(experiment),
        "Augmentation": ", ".join(f"{name} {_plain(value)}" for name, value in changed.items()) or "none",
        "Batch": f"{data.batch_size}{f' × {training.accumulate} accumulated' if training.accumulate > 1 else ''}",
        "Loss": _loss(experiment),
        "Optimizer": f"{optimizer.name}, learning rate {optimizer.lr:g}, weight decay {optimizer.weight_decay:g}",
        "Schedule": schedule.name,
        "Length": f"{training.max_steps} steps" if training.max_steps else f"{training.epochs} epochs",
        "Best by": training.monitor,
        "Seed": str(training.seed),
    }
    return rows | (_box_settings(experiment) if experiment.task == "detection" else {})


def _training_size(experiment: Experiment) -> str:
    data = experiment.data
    if data.fit == "short_side":
        return f"shorter side {min(data.size)} pixels, longer side at most {max(data.size)}"
    return f"{data.size[0]} × {data.size[1]} pixels (height × width), {data.fit}"


def _loss(experiment: Experiment) -> str:
    loss, detection = experiment.loss, experiment.detection
    if experiment.task == "detection":
        factor = f" × {detection.box_weight:g}" if detection.box_weight != 1 else ""
        return f"{loss.name} (α {detection.focal_alpha:g}, γ {loss.gamma:g}) + {detection.box_loss}{factor}"
    weighting = loss.class_weights if isinstance(loss.class_weights, str) else "given"
    weights = f", class weights {weighting}" if weighting != "none" else ""
    return f"{loss.name}{weights}{f', label smoothing {loss.label_smoothing:g}' if loss.label_smoothing else ''}"


def _box_settings(experiment: Experiment) -> dict[str, str]:
    detection = experiment.detection
    anchors = detection.anchors if isinstance(detection.anchors, str) else f"{len(detection.anchors)} given shapes"
    overlap = {"union": "IoU", "min": "share of the smaller box"}[detection.overlap]
    return {
        "Anchors": f"{anchors}, {detection.levels} levels; a box from IoU {detection.positive_iou:g}, "
        f"background below {detection.negative_iou:g}",
        "Kept boxes": f"score above {detection.score_threshold:g}, {overlap} at most {detection.overlap_threshold:g}, "
        f"{detection.max_detections:,} in a picture",
    }


def _plain(value: object) -> str:
    return "–".join(f"{part:g}" for part in value) if isinstance(value, tuple) else f"{value:g}"
