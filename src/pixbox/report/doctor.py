"""What the figures of a run say about its training, in words, and what to try.

Each rule looks at one thing and keeps silent where the evidence is thin: an advice that is wrong costs a training.
docs/doctor.md lists them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pixbox.config import MONITORED, AugmentConfig, Experiment, Task
from pixbox.report.evidence import SCORE_NAMES, Confusion, History, counted, points
from pixbox.sample import Boxes

if TYPE_CHECKING:
    # It needs torch, which the doctor does not.
    from pixbox.metrics import PictureErrors

Severity = Literal["error", "warning", "note"]

# Fewer validations than this are no course, fewer pictures no sample.
_FEW_VALIDATIONS = 5
_FEW_PICTURES = 5
# A class with less of it in the truth is not judged; of the smaller and the larger boxes there must be as many.
_ENOUGH: Mapping[Task, int] = {"segmentation": 1000, "detection": 10, "classification": 10}
_UNITS: Mapping[Task, str] = {"segmentation": "pixels", "detection": "boxes", "classification": "pictures"}
_CLASS_SCORES: Mapping[Task, str] = {
    "segmentation": "class_iou",
    "detection": "class_ap_50",
    "classification": "class_accuracy",
}
# The mean of so many rows stands for the end of a course: single ones are noisy.
_LAST_ROWS = 3
# What the best of a noisy course and the mean of its end differ by is chance up to so many standard deviations.
_CHANCE = 4.0
# A loss is larger than its least so far by this factor, once or twice; and by more than this share of the first.
_JUMP, _TWO_JUMPS, _JUMP_OF_FIRST = 2.0, 1.5, 0.1
# A loss that falls by less, as a share, hardly moves; likewise a score, in fractions.
_HARDLY_LOSS, _HARDLY_SCORE = 0.05, 0.02
# A score below this is poor: nobody is content with it.
_POOR = 0.5
# The validation loss ends above its least by this factor while the training loss falls below its own by that.
_RISES, _FALLS = 1.1, 0.95
# The best score lies in the first part of the training, and the end is worse by this many points.
_LONG_BEFORE, _WORSE = 0.6, 0.02
# Over the last quarter of the training the score gains this many points.
_STILL_GAINS = 0.01
# The validation loss ends no more than this factor above the training loss: what is missing was not learned at all.
_NO_GAP = 1.2
# A training is at its end from this share of its epochs on.
_DONE = 0.95
# Of all predictions one class takes this share, and so much more than its own.
_COLLAPSED, _COLLAPSED_ABOVE_TRUTH = 0.95, 0.15
# Both of two classes lose this share of themselves to the other.
_CONFUSED = 0.15
# A class with less than this part of an equal share is rare; it suffers below this part of the others' mean score.
_RARE, _SUFFERS = 0.25, 0.6
# So many classes that the first five are not nearly all of them; the truth is among these, but seldom the first.
_MANY_CLASSES, _TOP5_HIGH, _TOP1_LOW = 10, 0.85, 0.6
# Shares of the true boxes that are missed and of the found that are false; one outweighs the other by the factor.
_MANY_WRONG, _OUTWEIGHS = 0.4, 1.5
# Of the smallest third so many are missed, and so many more than of the others.
_SMALL_MISSED, _SMALL_ABOVE_OTHERS = 0.5, 0.25
# Confidence and share of the right ones differ by so much on average.
_BADLY_CALIBRATED = 0.1
# Fewer pictures, each with one confidence, differ from any confidence by chance.
_FEW_CONFIDENCES = 100
_MOST_NAMED = 4


@dataclass(frozen=True)
class Advice:
    """One thing that is wrong, or could be better.

    Attributes:
        title: the same for every run, a key of the table in docs/doctor.md.
        words: what was seen, with its numbers; one or two sentences.
        remedy: what to try; settings stand in backticks as one writes them.
        severity: "error": the model is of no use; "warning": it could be clearly better; "note": worth knowing.
    """

    title: str
    words: str
    remedy: str
    severity: Severity


@dataclass(frozen=True)
class BoxErrors:
    """How the boxes of a split were found, at one score threshold. T true boxes that are not difficult.

    Attributes:
        classes: (T,) int64 class indices.
        sides: (T,) float64, root of the area, pixels of the picture.
        missed: (T,) bool, neither found nor taken for another class.
        found: (true class, predicted class) -> boxes that were found.
        false: detections where nothing is.
    """

    classes: NDArray[np.int64]
    sides: NDArray[np.float64]
    missed: NDArray[np.bool_]
    found: Confusion
    false: int


def count_box_errors(pictures: Iterable[tuple[Boxes, NDArray[np.int64], PictureErrors]]) -> BoxErrors:
    """Add up over the pictures of a split: the truth, the classes of all detections, and what is wrong with them."""
    classes, sides, missed = [np.empty(0, np.int64)], [np.empty(0)], [np.empty(0, np.bool_)]
    found, false = Counter[tuple[int, int]](), 0
    for truth, predicted, errors in pictures:
        counts = ~truth.difficult
        size = truth.xyxy[:, 2:].astype(np.float64) - truth.xyxy[:, :2]
        is_missed = np.isin(np.arange(len(truth.classes)), errors.missed)
        classes.append(truth.classes[counts])
        sides.append(np.sqrt(size.prod(axis=1))[counts])
        missed.append(is_missed[counts])
        for detection, box in [*errors.right.tolist(), *errors.confused.tolist()]:
            found[int(truth.classes[box]), int(predicted[detection])] += 1
        false += len(errors.false)
    return BoxErrors(np.concatenate(classes), np.concatenate(sides), np.concatenate(missed), found, false)


def diagnose(
    task: Task,
    history: History,
    metrics: Mapping[str, Any],
    confusion: NDArray[np.int64] | Confusion | None = None,
    experiment: Experiment | None = None,
    boxes: BoxErrors | None = None,
) -> list[Advice]:
    """What is to be said about a run, the gravest first; nothing where all is well or too little is known.

    Args:
        task: what was trained.
        history: the rows of metrics.csv, oldest first; may be empty.
        metrics: the content of metrics.json.
        confusion: of the classes in ``metrics``, counts as an (N, N) matrix or by (true class, predicted class).
        experiment: what was trained; with it remedies are settings of it.
        boxes: for detection, in place of ``confusion``.
    """
    pairs = counted(confusion) if isinstance(confusion, np.ndarray) else confusion or {}
    case = _Case(task, history, metrics, boxes.found if boxes else pairs, experiment, boxes)
    advice = [Advice(rule.title, *found, rule.severity) for rule in RULES if (found := rule.look(case)) is not None]
    return sorted(advice, key=lambda item: ("error", "warning", "note").index(item.severity))


_Found = tuple[str, str] | None
"""The words and the remedy, if a rule applies."""


@dataclass(frozen=True)
class _Case:
    """All that is known, and what several rules make of it."""

    task: Task
    history: History
    metrics: Mapping[str, Any]
    confusion: Confusion
    experiment: Experiment | None
    boxes: BoxErrors | None

    @property
    def unit(self) -> str:
        return _UNITS[self.task]

    @cached_property
    def class_scores(self) -> dict[str, float | None]:
        return dict(self.metrics.get(_CLASS_SCORES[self.task], {}))

    @cached_property
    def names(self) -> list[str]:
        return list(self.class_scores)

    @cached_property
    def true(self) -> Counter[int]:
        """How much of each class is in the truth."""
        if self.boxes:
            return Counter(self.boxes.classes.tolist())
        return _totals((truth, amount) for (truth, _), amount in self.confusion.items())

    @cached_property
    def predicted(self) -> Counter[int]:
        """How much was called each class."""
        return _totals((predicted, amount) for (_, predicted), amount in self.confusion.items())

    @property
    def few_pictures(self) -> bool:
        return (self.metrics.get("images") or 0) < _FEW_PICTURES

    def is_judged(self, index: int) -> bool:
        return self.true[index] >= _ENOUGH[self.task]

    @cached_property
    def score_column(self) -> str:
        """The score by which a checkpoint is the best, or the task's own."""
        direction, _, name = (self.experiment.training.monitor if self.experiment else "off").partition(" ")
        return name if direction == "max" else MONITORED[self.task][0]

    @property
    def score_name(self) -> str:
        return SCORE_NAMES[self.score_column]

    @cached_property
    def train_loss(self) -> list[tuple[float, float]]:
        return points(self.history, "train_loss")

    @cached_property
    def val_loss(self) -> list[tuple[float, float]]:
        return points(self.history, "val_loss")

    @cached_property
    def scores(self) -> list[tuple[float, float]]:
        return points(self.history, self.score_column)

    def learning_rate(self, factor: float) -> str:
        """The setting for a learning rate so many times the present one."""
        if self.experiment is None:
            return "a higher `optimizer.lr`" if factor > 1 else "a lower `optimizer.lr`"
        rate = self.experiment.optimizer.lr
        return f"`optimizer.lr: {rate * factor:.2g}` (now {rate:g})"

    def longer(self, factor: float) -> str:
        if self.experiment is None:
            return "more `training.epochs`"
        epochs, steps = self.experiment.training.epochs, self.experiment.training.max_steps
        if steps:
            return f"`training.max_steps: {round(steps * factor)}` (now {steps})"
        return f"`training.epochs: {round(epochs * factor)}` (now {epochs})"


def _totals(pairs: Iterable[tuple[int, int]]) -> Counter[int]:
    totals = Counter[int]()
    for index, amount in pairs:
        totals[index] += amount
    return totals


def _listed(items: Sequence[str]) -> str:
    more = len(items) - _MOST_NAMED
    return "; ".join(items[:_MOST_NAMED]) + (f"; and {more} more" if more > 0 else "")


def _smoothed(course: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Each point with the mean of itself and its neighbours; the least of single ones is least by chance."""
    return [
        (middle[0], (before[1] + middle[1] + after[1]) / 3)
        for before, middle, after in zip(course, course[1:], course[2:], strict=False)
    ]


def _noise(course: Sequence[tuple[float, float]]) -> float:
    """Standard deviation of single values about a smooth course, from their second differences."""
    values = np.array([value for _, value in course])
    # Of independent noise the second difference has six times the variance; its median size is 0.6745 deviations.
    return float(np.median(np.abs(np.diff(values, 2)))) / (0.6745 * math.sqrt(6))


def _end(course: Sequence[tuple[float, float]]) -> float:
    last = [value for _, value in course[-_LAST_ROWS:]]
    return sum(last) / len(last)


def _calmer(case: _Case, factor: float) -> str:
    """Settings that keep a training from running away, without those that are set already."""
    tries = [case.learning_rate(factor)]
    if case.experiment is None or not (case.experiment.training.clip_norm or case.experiment.training.clip_value):
        tries.append("`training.clip_norm: 1`")
    if case.experiment is None or not case.experiment.schedule.warmup_steps:
        tries.append("`schedule.warmup_steps: 500`")
    return ", ".join(tries)


def _no_number(case: _Case) -> _Found:
    def is_lost(row: Mapping[str, float | None]) -> bool:
        train, val = row.get("train_loss"), row.get("val_loss")
        validated = bool(case.val_loss) and row.get(case.score_column) is not None
        return (train is not None and not math.isfinite(train)) or (
            validated and (val is None or not math.isfinite(val))
        )

    lost = [row for row in case.history if is_lost(row)]
    if not lost:
        return None
    words = f"In {len(lost)} of {len(case.history)} rows of metrics.csv, first at epoch {lost[0].get('epoch') or 0:g}, "
    return words + "a loss is not a finite number.", f"Try {_calmer(case, 0.1)}, and `training.precision: 32`."


def _jumps(case: _Case) -> _Found:
    losses = case.train_loss
    if len(losses) < _FEW_VALIDATIONS:
        return None
    least = accumulate((loss for _, loss in losses), min)
    jumps = [
        (loss / low, epoch, low, loss)
        for low, (epoch, loss) in zip(least, losses[1:], strict=False)
        if low > 0 and loss > _TWO_JUMPS * low and loss - low > _JUMP_OF_FIRST * losses[0][1]
    ]
    if not jumps or (len(jumps) == 1 and jumps[0][0] < _JUMP):
        return None
    _, epoch, low, loss = max(jumps)
    times = "once" if len(jumps) == 1 else f"{len(jumps)} times"
    words = f"The training loss jumped up {times}, at epoch {epoch:g} from {low:.3g} to {loss:.3g}."
    return words, f"Try {_calmer(case, 1 / 3)}."


def _hardly_moves(case: _Case) -> _Found:
    losses, scores = case.train_loss, case.scores
    if len(losses) < _FEW_VALIDATIONS or len(scores) < _FEW_VALIDATIONS or _jumps(case):
        return None
    first, last, best = losses[0][1], _end(losses), max(score for _, score in scores)
    if last < (1 - _HARDLY_LOSS) * first or best >= _POOR or best - scores[0][1] >= _HARDLY_SCORE:
        return None
    words = (
        f"In {losses[-1][0]:g} epochs the training loss went from {first:.3g} to {last:.3g}, and "
        f"{case.score_name} never passed {best:.1%}."
    )
    return words, f"Try {case.learning_rate(10)}. Should that be worse, it was too high: {case.learning_rate(0.1)}."


def _over_fitting(case: _Case) -> _Found:
    losses, scores = case.val_loss, case.scores
    if min(len(losses), len(scores), len(case.train_loss)) < _FEW_VALIDATIONS:
        return None
    epochs = case.history[-1].get("epoch") or 0.0
    best_epoch, best = max(scores, key=lambda point: point[1])
    least_epoch, least = min(_smoothed(losses), key=lambda point: point[1])
    then = min((loss for epoch, loss in _smoothed(case.train_loss) if epoch <= least_epoch), default=math.inf)
    after = sum(epoch > least_epoch for epoch, _ in losses)
    falls = _end(case.train_loss) < _FALLS * then
    rises = falls and after >= _LAST_ROWS and _end(losses) > max(_RISES * least, least + _CHANCE * _noise(losses))
    worse = (
        falls and best_epoch <= _LONG_BEFORE * epochs and best - _end(scores) > max(_WORSE, _CHANCE * _noise(scores))
    )
    # The loss alone may rise by more confidence in the same errors, while the score still improves.
    if not worse and not (rises and best_epoch < epochs):
        return None
    said = []
    if rises:
        said.append(
            f"Since epoch {least_epoch:g} the validation loss rises ({least:.3g} to {_end(losses):.3g}) while the "
            f"training loss falls ({then:.3g} to {_end(case.train_loss):.3g})."
        )
    if best_epoch < epochs:
        said.append(f"The best {case.score_name}, {best:.1%}, was at epoch {best_epoch:g} of {epochs:g}.")
    return " ".join(said), f"Try {', '.join(_against_over_fitting(case))}."


def _against_over_fitting(case: _Case) -> list[str]:
    tries = ["more pictures"]
    if case.experiment is None or case.experiment.data.augment == AugmentConfig():
        tries.append("`data.augment: {flip: 0.5, scale: [0.7, 1.4], brightness: 0.2, contrast: 0.2}`")
    else:
        tries.append("stronger `data.augment`")
    if case.experiment is None or case.experiment.model.weights == "none":
        tries.append("`model.weights: imagenet`")
    if case.experiment is None or case.experiment.training.patience == 0:
        tries.append("`training.patience: 10`, which ends the training where nothing gets better")
    return tries


def _still_improving(case: _Case) -> _Found:
    scores = case.scores
    if len(scores) <= _FEW_VALIDATIONS or _ended_early(case):
        return None
    epochs = scores[-1][0]
    before = [score for epoch, score in scores if epoch <= 0.75 * epochs]
    if not before or max(scores, key=lambda point: point[1])[0] < epochs:
        return None
    gain = scores[-1][1] - max(before)
    if gain < _STILL_GAINS:
        return None
    words = f"Over the last quarter of {epochs:g} epochs {case.score_name} rose by {100 * gain:.1f} points, to "
    return words + f"{scores[-1][1]:.1%}, its best.", f"Train longer: {case.longer(2)}."


def _ended_early(case: _Case) -> _Found:
    experiment = case.experiment
    if experiment is None or not case.history or experiment.training.max_steps or experiment.training.patience:
        return None
    done, planned = case.history[-1].get("epoch") or 0.0, experiment.training.epochs
    if done >= _DONE * planned:
        return None
    words = f"{done:g} of {planned} epochs are done; the learning rate has not come to its end."
    remedy = (
        "Go on with `pixbox train RUN --resume`. If the loss was no number any more (see train.log), "
        f"start again with {_calmer(case, 0.1)}."
    )
    return words, remedy


def _under_fitting(case: _Case) -> _Found:
    train, val, scores = case.train_loss, case.val_loss, case.scores
    # With few rows a quarter of them is one.
    if min(len(train), len(val), len(scores)) < 2 * _FEW_VALIDATIONS:
        return None
    before = train[-1 - len(train) // 4][1]
    first, last, best = train[0][1], _end(train), max(score for _, score in scores)
    moved, flat = last < (1 - _HARDLY_LOSS) * first, last > (1 - _HARDLY_LOSS) * before
    if not (moved and flat) or best >= _POOR or _end(val) > _NO_GAP * last:
        return None
    words = (
        f"The training loss stands at {last:.3g} since the last quarter, that of validation is no worse "
        f"({_end(val):.3g}), and the best {case.score_name} is {best:.1%}."
    )
    tries = ["a larger `model.encoder`"]
    if case.experiment is None or case.experiment.model.weights == "none":
        tries.append("`model.weights: imagenet`")
    tries += ["a larger `data.size`", "weaker `data.augment`"]
    return words, f"Try {', '.join(tries)}. If labels contradict each other, `pixbox audit` may find where."


def _one_class(case: _Case) -> _Found:
    total = case.predicted.total()
    if case.few_pictures or case.boxes or not total or len(case.names) < 2:
        return None
    index, amount = case.predicted.most_common(1)[0]
    share, own = amount / total, case.true[index] / total
    if share < _COLLAPSED or share - own < _COLLAPSED_ABOVE_TRUTH:
        return None
    words = f"{share:.1%} of the {case.unit} are called {case.names[index]}, which is {own:.1%} of the truth."
    tries = [case.learning_rate(0.1)]
    if case.task == "segmentation":
        tries.append("`loss.class_weights: median_frequency`")
    return words, f"Try {', '.join(tries)}; look with `pixbox audit` whether the labels are read as they are meant."


def _dead_classes(case: _Case) -> _Found:
    if case.few_pictures or case.boxes or not case.predicted or _one_class(case):
        return None
    dead = [index for index in range(len(case.names)) if case.is_judged(index) and not case.predicted[index]]
    if not dead:
        return None
    total = case.true.total()
    dead.sort(key=lambda index: -case.true[index])
    named = [f"{case.names[i]} ({case.true[i]:,} {case.unit}, {case.true[i] / total:.2%})" for i in dead]
    return f"In the truth, but never predicted: {_listed(named)}.", f"{_for_rare_classes(case)}"


def _for_rare_classes(case: _Case) -> str:
    if case.task == "classification":
        return "Add pictures of them, or train longer; classes that nobody tells apart can be one (`data.labels`)."
    experiment = case.experiment
    if experiment is None or experiment.loss.class_weights == "none":
        tries = "`loss.class_weights: median_frequency`, or `loss.name: cross_entropy_dice`"
    else:
        tries = "`loss.name: lovasz`, or more pictures with them"
    return f"Try {tries}."


def _rare_classes(case: _Case) -> _Found:
    total, number = case.true.total(), len(case.names)
    if case.few_pictures or case.boxes or not total:
        return None
    shares = {index: case.true[index] / total for index in range(number) if case.is_judged(index)}
    scores = {index: score for index in shares if (score := case.class_scores[case.names[index]]) is not None}
    frequent = [score for index, score in scores.items() if shares[index] * number >= _RARE]
    if not frequent:
        return None
    mean = sum(frequent) / len(frequent)
    suffering = sorted(
        (index for index, score in scores.items() if shares[index] * number < _RARE and score < _SUFFERS * mean),
        key=lambda index: scores[index],
    )
    # What is never predicted is said elsewhere.
    named = [
        f"{case.names[i]} ({scores[i]:.1%}, {shares[i]:.2%} of the {case.unit})" for i in suffering if case.predicted[i]
    ]
    if not named:
        return None
    measure = {"segmentation": "IoU", "classification": "accuracy"}[case.task]
    words = f"{_listed(named)}; the mean {measure} of the frequent classes is {mean:.1%}."
    return words, _for_rare_classes(case)


def _confused_pairs(case: _Case) -> _Found:
    if case.few_pictures or _one_class(case):
        return None

    def share(truth: int, predicted: int) -> float:
        return case.confusion.get((truth, predicted), 0) / case.true[truth]

    pairs = [
        (min(share(a, b), share(b, a)), a, b)
        for a, b in case.confusion
        if a < b and case.is_judged(a) and case.is_judged(b)
    ]
    shown = sorted((pair for pair in pairs if pair[0] >= _CONFUSED), reverse=True)
    if not shown:
        return None
    named = []
    for _, a, b in shown:
        first, second = case.names[a], case.names[b]
        named.append(
            f"{first} is called {second} in {share(a, b):.0%} ({case.confusion[a, b]:,} {case.unit}), "
            f"{second} {first} in {share(b, a):.0%} ({case.confusion[b, a]:,})"
        )
    remedy = (
        "Look at the pictures below whether the truth tells them apart. If it does not, correct it or make them one "
        "class (`data.labels`); if it does, try a larger `data.size`, and pictures in which both are seen."
    )
    return f"{_listed(named)}.", remedy


def _truth_among_five(case: _Case) -> _Found:
    first, five = case.metrics.get("accuracy"), case.metrics.get("top5_accuracy")
    if case.few_pictures or len(case.names) < _MANY_CLASSES or first is None or five is None:
        return None
    if five < _TOP5_HIGH or first > _TOP1_LOW:
        return None
    words = f"The true class is among the first five in {five:.1%}, but is the first in {first:.1%}."
    return words, f"The classes are hard to tell apart: try a larger `data.size`, {case.longer(2)}, a larger encoder."


def _nothing_found(case: _Case) -> _Found:
    best = [score for score in case.class_scores.values() if score is not None]
    if case.task != "detection" or case.few_pictures or not best or max(best) > 0:
        return None
    words = f"None of the {case.metrics.get('boxes') or 0:,} true boxes is found at IoU 0.50, at whatever score."
    remedy = (
        "See with `pixbox audit` whether anchors reach the boxes (`detection.anchors`, `data.size`); train longer, or "
        f"with {case.learning_rate(0.3)}."
    )
    return words, remedy


def _class_not_found(case: _Case) -> _Found:
    if case.task != "detection" or case.few_pictures or _nothing_found(case):
        return None
    judged = (name for index, name in enumerate(case.names) if case.boxes is None or case.is_judged(index))
    lost = [name for name in judged if case.class_scores[name] == 0]
    if not lost:
        return None
    remedy = (
        "See with `pixbox audit` how many training boxes they have and whether anchors reach them "
        "(`detection.anchors`); add pictures with them, or train longer."
    )
    return f"Their true boxes are never found: {_listed(lost)}.", remedy


def _wrong_boxes(case: _Case) -> tuple[float, float] | None:
    """Shares of the true boxes that are missed and of the detections that are false."""
    boxes = case.boxes
    if boxes is None or case.few_pictures or _nothing_found(case) or len(boxes.classes) < 2 * _ENOUGH["detection"]:
        return None
    kept = sum(boxes.found.values()) + boxes.false
    return float(boxes.missed.mean()), boxes.false / kept if kept else 0.0


def _many_missed(case: _Case) -> _Found:
    shares = _wrong_boxes(case)
    if case.boxes is None or shares is None or shares[0] < _MANY_WRONG or shares[0] < _OUTWEIGHS * shares[1]:
        return None
    words = (
        f"Of {len(case.boxes.classes):,} true boxes {shares[0]:.0%} are missed, though at a score threshold where only "
        f"{shares[1]:.0%} of the detections are false."
    )
    remedy = (
        "Try the anchors that `pixbox audit` suggests (`detection.anchors`), a larger `data.size`, "
        f"{case.longer(2)}; for crowded pictures a higher `detection.overlap_threshold`."
    )
    return words, remedy


def _many_false(case: _Case) -> _Found:
    shares = _wrong_boxes(case)
    if case.boxes is None or shares is None or shares[1] < _MANY_WRONG or shares[1] < _OUTWEIGHS * shares[0]:
        return None
    words = (
        f"{case.boxes.false:,} detections, {shares[1]:.0%}, are of nothing, while {shares[0]:.0%} of the true boxes "
        "are missed."
    )
    remedy = (
        "Look at the pictures below: objects that nobody labelled are to be labelled, or marked as difficult. If they "
        "are truly false, add pictures without objects; if they are doubles, lower `detection.overlap_threshold`."
    )
    return words, remedy


def _small_missed(case: _Case) -> _Found:
    if case.boxes is None or _wrong_boxes(case) is None:
        return None
    sides, missed = case.boxes.sides, case.boxes.missed
    limit = float(np.quantile(sides, 1 / 3, method="lower"))
    small = sides <= limit
    if min(int(small.sum()), int((~small).sum())) < _ENOUGH["detection"]:
        return None
    share, others = float(missed[small].mean()), float(missed[~small].mean())
    if share < max(_SMALL_MISSED, others + _SMALL_ABOVE_OTHERS):
        return None
    words = (
        f"Of the smallest third of the objects, up to {limit:.0f} pixels, {share:.0%} are missed; of the others "
        f"{others:.0%}."
    )
    tries = ["a larger `data.size`"]
    if case.experiment is not None:
        height, width = case.experiment.data.size
        tries = [f"`data.size: [{2 * height}, {2 * width}]` (now [{height}, {width}])"]
    tries.append("the anchors that `pixbox audit` suggests (`detection.anchors`)")
    tries.append("for large pictures `evaluation.mode: sliding`")
    return words, f"Try {', '.join(tries)}."


def _wrong_confidence(case: _Case) -> _Found:
    error, pictures = case.metrics.get("ece"), case.metrics.get("images") or 0
    enough = pictures >= (_FEW_PICTURES if case.task == "segmentation" else _FEW_CONFIDENCES)
    if error is None or error < _BADLY_CALIBRATED or not enough:
        return None
    words = f"The confidence of a prediction and its chance to be right differ by {100 * error:.1f} points on average."
    remedy = "Where the bars of Calibration end below the line, the model is too sure of itself: try fewer epochs"
    if case.experiment is None or not case.experiment.loss.label_smoothing:
        remedy += ", `loss.label_smoothing: 0.1`"
    return words, f"{remedy}. Where they end above it, it is too careful, which harms only who reads chances from it."


@dataclass(frozen=True)
class Rule:
    """One thing to look for; ``look`` says what was seen and what to try, or None."""

    title: str
    severity: Severity
    look: Callable[[_Case], _Found]


RULES: tuple[Rule, ...] = (
    Rule("The loss is no number", "error", _no_number),
    Rule("One class is predicted almost everywhere", "error", _one_class),
    Rule("Nothing is found", "error", _nothing_found),
    Rule("The learning rate is too high", "warning", _jumps),
    Rule("The learning rate is too low", "warning", _hardly_moves),
    Rule("Over-fitting", "warning", _over_fitting),
    Rule("Under-fitting", "warning", _under_fitting),
    Rule("Classes that are never predicted", "warning", _dead_classes),
    Rule("Classes that are never found", "warning", _class_not_found),
    Rule("Rare classes do badly", "warning", _rare_classes),
    Rule("Classes are confused with each other", "warning", _confused_pairs),
    Rule("The true class is among the first five, but not the first", "warning", _truth_among_five),
    Rule("Small objects are missed", "warning", _small_missed),
    Rule("Many objects are missed", "warning", _many_missed),
    Rule("Many detections are false", "warning", _many_false),
    Rule("The training ended early", "note", _ended_early),
    Rule("The score still improves at the end", "note", _still_improving),
    Rule("Confidence is not to be trusted", "note", _wrong_confidence),
)
"""All rules, in the order in which they are said, within a severity."""
