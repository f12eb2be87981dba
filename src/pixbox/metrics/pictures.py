"""What each picture of a split contributes to its figures, so that they can be had for any weighting of pictures.

An evaluation fills a collector picture by picture; what comes out is saved beside ``metrics.json``. Intervals and
comparisons of runs are computed from it without looking at a picture again.
"""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array

from pixbox.boxes.nms import Selection
from pixbox.errors import RunError
from pixbox.files import open_file, write_file
from pixbox.labels import LabelMap
from pixbox.metrics.accuracy import ClassificationScores
from pixbox.metrics.confusion import ConfusionMatrix
from pixbox.sample import Boxes, Category, Mask, Target

FORMAT = 1
"""Raised when a file can no longer be read by older versions."""

_IOUS = np.linspace(0.5, 0.95, 10)
_RECALLS = np.linspace(0, 1, 101)
_MOST_DETECTIONS = 100
"""Of one class in one picture, those with the highest scores, that COCO counts."""

Floats = NDArray[np.float64]
Places = NDArray[np.int64]


class PictureStatistics(ABC):
    """What n pictures contribute to the figures of a task.

    Attributes:
        task: "segmentation", "detection" or "classification".
        scalars: the figures of a whole split, the chief one first, as ``metrics.json`` calls them.
        per_class: the figure of a single class, likewise.
        ids: (n) of the pictures.
        names: of the classes.
    """

    task: ClassVar[str]
    scalars: ClassVar[tuple[str, ...]]
    per_class: ClassVar[str]

    def __init__(self, ids: Sequence[str], names: Sequence[str]) -> None:
        self.ids, self.names = tuple(ids), tuple(names)

    @property
    def figure_names(self) -> tuple[str, ...]:
        """The scalars, then ``class_iou/<name>`` (or ``class_ap_50``, ``class_accuracy``) of every class."""
        return (*self.scalars, *(f"{self.per_class}/{name}" for name in self.names))

    def figures(self, weights: Floats) -> dict[str, float | None]:
        """All figures by name, as if each picture were there as often as its weight; None where undefined.

        ``weights`` is (n,), 0 or more. With 1 everywhere these are the figures of the whole split.
        """
        row = self.values(weights[None])[0]
        return {
            name: None if np.isnan(value) else value
            for name, value in zip(self.figure_names, row.tolist(), strict=True)
        }

    @abstractmethod
    def values(self, weights: Floats) -> Floats:
        """The figures of several weightings at once: (R, n) -> (R, F) as ``figure_names``, NaN where undefined."""

    @abstractmethod
    def take(self, places: Places) -> Self:
        """The pictures at these places, in this order."""

    @abstractmethod
    def truth(self) -> Any:
        """(n, N) sparse: how much of each class the truth of each picture has, in pixels, boxes or pictures."""

    @abstractmethod
    def save_arrays(self) -> dict[str, NDArray[Any]]:
        """All but ids and names, as :meth:`from_arrays` takes them."""

    @classmethod
    @abstractmethod
    def from_arrays(cls, ids: Sequence[str], names: Sequence[str], arrays: Mapping[str, NDArray[Any]]) -> Self:
        """What :meth:`save_arrays` gave.

        Raises:
            KeyError, ValueError: an array is missing, or names a picture or class that is not there.
        """


class SegmentationPictures(PictureStatistics):
    """Confusions of each picture.

    Row k of the four (K,) int64 arrays says that in the picture at place ``picture[k]`` ``count[k]`` pixels of the
    class ``true[k]`` were taken for ``predicted[k]``; ``picture`` never falls.
    """

    task = "segmentation"
    scalars = ("miou", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou")
    per_class = "class_iou"

    def __init__(
        self, ids: Sequence[str], names: Sequence[str], picture: Places, true: Places, predicted: Places, count: Places
    ) -> None:
        super().__init__(ids, names)
        self.picture, self.true, self.predicted, self.count = picture, true, predicted, count
        right = true == predicted
        self._right = self._table(picture[right], true[right], count[right])
        self._true = self._table(picture, true, count)
        self._predicted = self._table(picture, predicted, count)

    def values(self, weights: Floats) -> Floats:
        right, true, predicted = weights @ self._right, weights @ self._true, weights @ self._predicted
        iou, accuracy = _ratio(right, true + predicted - right), _ratio(right, true)
        pixels = true.sum(axis=1)
        weighted = (true * np.nan_to_num(iou)).sum(axis=1)
        scalars = (_mean(iou), _ratio(right.sum(axis=1), pixels), _mean(accuracy), _ratio(weighted, pixels))
        return np.column_stack((*scalars, iou))

    def take(self, places: Places) -> Self:
        rows, picture = _rows_of(self.picture, places)
        ids = [self.ids[place] for place in places]
        return type(self)(ids, self.names, picture, self.true[rows], self.predicted[rows], self.count[rows])

    def truth(self) -> Any:
        return self._true

    def save_arrays(self) -> dict[str, NDArray[Any]]:
        return {"picture": self.picture, "true": self.true, "predicted": self.predicted, "count": self.count}

    @classmethod
    def from_arrays(cls, ids: Sequence[str], names: Sequence[str], arrays: Mapping[str, NDArray[Any]]) -> Self:
        return cls(ids, names, *(arrays[name] for name in ("picture", "true", "predicted", "count")))

    def _table(self, picture: Places, classes: Places, count: Places) -> Any:
        return _table(picture, classes, count, (len(self.ids), len(self.names)))


class ClassificationPictures(PictureStatistics):
    """Class of each picture: (n,) int64 ``true`` and ``predicted``, (n,) bool ``in_top5``."""

    task = "classification"
    scalars = ("accuracy", "top5_accuracy")
    per_class = "class_accuracy"

    def __init__(
        self, ids: Sequence[str], names: Sequence[str], true: Places, predicted: Places, in_top5: NDArray[np.bool_]
    ) -> None:
        super().__init__(ids, names)
        self.true, self.predicted, self.in_top5 = true, predicted, in_top5
        shape = len(self.ids), len(self.names)
        self._true = _table(np.arange(len(ids)), true, np.ones(len(ids)), shape)
        self._right = _table(np.arange(len(ids)), true, (true == predicted).astype(float), shape)

    def values(self, weights: Floats) -> Floats:
        right, true = weights @ self._right, weights @ self._true
        images = true.sum(axis=1)
        accuracy, top5 = _ratio(right.sum(axis=1), images), _ratio(weights @ self.in_top5.astype(float), images)
        return np.column_stack((accuracy, top5, _ratio(right, true)))

    def take(self, places: Places) -> Self:
        ids = [self.ids[place] for place in places]
        return type(self)(ids, self.names, self.true[places], self.predicted[places], self.in_top5[places])

    def truth(self) -> Any:
        return self._true

    def save_arrays(self) -> dict[str, NDArray[Any]]:
        return {"true": self.true, "predicted": self.predicted, "in_top5": self.in_top5}

    @classmethod
    def from_arrays(cls, ids: Sequence[str], names: Sequence[str], arrays: Mapping[str, NDArray[Any]]) -> Self:
        return cls(ids, names, arrays["true"], arrays["predicted"], arrays["in_top5"])


@dataclass(frozen=True, slots=True)
class Matches:
    """Detections and how they match the truth at COCO's ten IoU thresholds.

    Those of one picture stand together, and in it those of one class by falling score.

    Attributes:
        picture: (D,) int64 place of the picture; never falls.
        classes: (D,) int64; ``scores``: (D,) float64.
        right: (D, 10) bool, found a true box; ``ignored``: (D, 10) bool, counts neither as right nor as wrong.
    """

    picture: Places
    classes: Places
    scores: Floats
    right: NDArray[np.bool_]
    ignored: NDArray[np.bool_]

    def take(self, rows: Places, picture: Places) -> Matches:
        return Matches(picture, self.classes[rows], self.scores[rows], self.right[rows], self.ignored[rows])


class DetectionPictures(PictureStatistics):
    """Matches of each picture, and the true boxes that are not difficult.

    Row k of the three (K,) int64 arrays ``true_picture``, ``true_classes`` and ``true_count`` says how many boxes of
    a class a picture has; ``true_picture`` never falls.

    Where two detections of one class in one picture have the same score, a picture of weight 2 need not score as
    the picture twice would: which of equal scores goes first is not defined by the measure.
    """

    task = "detection"
    scalars = ("map", "map_50", "map_75", "mar_100")
    per_class = "class_ap_50"

    def __init__(
        self,
        ids: Sequence[str],
        names: Sequence[str],
        matches: Matches,
        true_picture: Places,
        true_classes: Places,
        true_count: Places,
    ) -> None:
        super().__init__(ids, names)
        self.matches = matches
        self.true_picture, self.true_classes, self.true_count = true_picture, true_classes, true_count
        self._true = _table(true_picture, true_classes, true_count, (len(self.ids), len(self.names)))

    def values(self, weights: Floats) -> Floats:
        true = weights @ self._true
        precision = np.full((*true.shape, len(_IOUS)), np.nan)
        recall = np.full_like(precision, np.nan)
        for index, ranked in self._ranked.items():
            precision[:, index], recall[:, index] = _average(ranked, weights, true[:, index])
        # A class without truth in this weighting is in no mean.
        precision[true == 0], recall[true == 0] = np.nan, np.nan
        means = (_mean(precision.mean(axis=2)), _mean(precision[:, :, 0]), _mean(precision[:, :, 5]))
        return np.column_stack((*means, _mean(recall.mean(axis=2)), precision[:, :, 0]))

    def take(self, places: Places) -> Self:
        rows, picture = _rows_of(self.matches.picture, places)
        true_rows, true_picture = _rows_of(self.true_picture, places)
        return type(self)(
            [self.ids[place] for place in places],
            self.names,
            self.matches.take(rows, picture),
            true_picture,
            self.true_classes[true_rows],
            self.true_count[true_rows],
        )

    def truth(self) -> Any:
        return self._true

    def save_arrays(self) -> dict[str, NDArray[Any]]:
        matches = self.matches
        return {
            "picture": matches.picture,
            "classes": matches.classes,
            "scores": matches.scores,
            "right": matches.right,
            "ignored": matches.ignored,
            "true_picture": self.true_picture,
            "true_classes": self.true_classes,
            "true_count": self.true_count,
        }

    @classmethod
    def from_arrays(cls, ids: Sequence[str], names: Sequence[str], arrays: Mapping[str, NDArray[Any]]) -> Self:
        matches = Matches(*(arrays[name] for name in ("picture", "classes", "scores", "right", "ignored")))
        return cls(ids, names, matches, *(arrays[name] for name in ("true_picture", "true_classes", "true_count")))

    @cached_property
    def _ranked(self) -> dict[int, Matches]:
        """The detections of each class that has truth, the highest score first, equal ones as they stand."""
        matches = self.matches
        order = np.argsort(-matches.scores, kind="stable")
        order = order[np.argsort(matches.classes[order], kind="stable")]
        found = {}
        for index in np.unique(self.true_classes).tolist():
            first, last = np.searchsorted(matches.classes[order], [index, index + 1])
            rows = order[first:last]
            found[index] = matches.take(rows, matches.picture[rows])
        return found


def _average(ranked: Matches, weights: Floats, true: Floats) -> tuple[Floats, Floats]:
    """COCO's average precision and recall of one class: (R, 10) each, for ``weights`` (R, n) and ``true`` (R,) boxes.

    The mean over 101 recalls of the highest precision at this recall or above.
    """
    # Draws side by side in memory: columns are then summed several at a time.
    weight = np.ascontiguousarray(weights.T)[ranked.picture]
    kept = weight.cumsum(axis=0)
    precisions, recalls = np.zeros((len(weights), len(_IOUS))), np.zeros((len(weights), len(_IOUS)))
    for number in range(len(_IOUS)):
        ignored, right = ranked.ignored[:, number], np.flatnonzero(ranked.right[:, number])
        if not len(right):
            continue
        counted = (weight * ~ignored[:, None]).cumsum(axis=0) if ignored.any() else kept
        found = weight[right].cumsum(axis=0)
        # The highest precision and each new recall are reached at right detections.
        height = _ratio(found, counted[right], undefined=0.0)
        height = np.maximum.accumulate(height[::-1], axis=0)[::-1]
        recall = _ratio(found, true, undefined=0.0)
        reached = np.searchsorted(_RECALLS, recall, side="right")
        precisions[:, number] = (height * np.diff(reached, axis=0, prepend=0)).sum(axis=0) / len(_RECALLS)
        recalls[:, number] = recall[-1]
    return precisions, recalls


class Collector(ABC):
    """Takes what single pictures contribute, in any order. It can be pickled: processes merge theirs."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._pictures: dict[int, tuple[str, Any]] = {}

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self._pictures)

    def add(self, index: int, id: str, prediction: Any, target: Target) -> None:
        """Add one picture: its place in the split, its id, what ``Predictor.label`` gave, the truth.

        Raises:
            ValueError: the picture was added before, or prediction and truth do not agree in shape.
        """
        if index in self._pictures:
            raise ValueError(f"picture {index} is already counted")
        self._pictures[index] = id, self._contribution(prediction, target)

    def merge(self, other: Collector) -> None:
        """Add the pictures of another part of the split.

        Raises:
            ValueError: a picture is in both, or the classes differ.
        """
        if other.names != self.names:
            raise ValueError(f"classes {other.names} cannot be merged with {self.names}")
        if both := self._pictures.keys() & other._pictures.keys():
            raise ValueError(f"picture {min(both)} is already counted")
        self._pictures |= other._pictures

    def finish(self) -> PictureStatistics:
        """All pictures, by their place in the split."""
        ordered = [self._pictures[index] for index in sorted(self._pictures)]
        return self._statistics([id for id, _ in ordered], [part for _, part in ordered])

    @abstractmethod
    def _contribution(self, prediction: Any, target: Target) -> Any: ...

    @abstractmethod
    def _statistics(self, ids: Sequence[str], parts: Sequence[Any]) -> PictureStatistics: ...


class _SegmentationCollector(Collector):
    def _contribution(self, prediction: torch.Tensor, target: Target) -> NDArray[np.int64]:
        """(3, K): true class, predicted class, pixels."""
        assert isinstance(target, Mask)
        counts = ConfusionMatrix(len(self.names))
        counts.update(prediction, torch.from_numpy(target.classes.copy()).to(prediction.device))
        matrix = counts.matrix.numpy()
        true, predicted = np.nonzero(matrix)
        return np.stack((true, predicted, matrix[true, predicted]))

    def _statistics(self, ids: Sequence[str], parts: Sequence[NDArray[np.int64]]) -> PictureStatistics:
        rows = np.concatenate([np.zeros((3, 0), np.int64), *parts], axis=1)
        return SegmentationPictures(ids, self.names, _places([part.shape[1] for part in parts]), *rows)


class _ClassificationCollector(Collector):
    def _contribution(self, prediction: torch.Tensor, target: Target) -> tuple[int, int, int]:
        """True class, predicted class, is the true one among the five highest."""
        assert isinstance(target, Category)
        scores = ClassificationScores(len(self.names))
        scores.update(prediction[None], torch.tensor([target.index], device=prediction.device))
        ((true, predicted),) = scores.pictures
        return true, predicted, scores.in_top5

    def _statistics(self, ids: Sequence[str], parts: Sequence[tuple[int, int, int]]) -> PictureStatistics:
        true, predicted, in_top5 = np.array(parts, dtype=np.int64).reshape(-1, 3).T
        return ClassificationPictures(ids, self.names, true, predicted, in_top5.astype(bool))


class _DetectionCollector(Collector):
    def _contribution(self, prediction: Selection, target: Target) -> tuple[Matches, Places]:
        """The matches, and (N,) the number of true boxes that are not difficult."""
        assert isinstance(target, Boxes)
        found = (
            prediction.boxes_xyxy.detach().cpu().double().numpy(),
            prediction.classes.detach().cpu().long().numpy(),
            prediction.scores.detach().cpu().double().numpy(),
        )
        return match(*found, target), np.bincount(target.classes[~target.difficult], minlength=len(self.names))

    def _statistics(self, ids: Sequence[str], parts: Sequence[tuple[Matches, Places]]) -> PictureStatistics:
        found = [matches for matches, _ in parts]
        matches = Matches(
            _places([len(part.classes) for part in found]),
            np.concatenate([np.zeros(0, np.int64), *(part.classes for part in found)]),
            np.concatenate([np.zeros(0), *(part.scores for part in found)]),
            np.concatenate([np.zeros((0, len(_IOUS)), np.bool_), *(part.right for part in found)]),
            np.concatenate([np.zeros((0, len(_IOUS)), np.bool_), *(part.ignored for part in found)]),
        )
        counts = np.array([count for _, count in parts], dtype=np.int64).reshape(-1, len(self.names))
        true_picture, true_classes = np.nonzero(counts)
        return DetectionPictures(
            ids, self.names, matches, true_picture, true_classes, counts[true_picture, true_classes]
        )


_COLLECTORS: dict[str, type[Collector]] = {
    "segmentation": _SegmentationCollector,
    "detection": _DetectionCollector,
    "classification": _ClassificationCollector,
}
_KINDS: dict[str, type[PictureStatistics]] = {
    kind.task: kind for kind in (SegmentationPictures, DetectionPictures, ClassificationPictures)
}


def collector_for(task_name: str, labels: LabelMap) -> Collector:
    """An empty collector for "segmentation", "detection" or "classification"."""
    return _COLLECTORS[task_name](labels.names)


def match(boxes_xyxy: Floats, classes: Places, scores: Floats, truth: Boxes) -> Matches:
    """Match the detections of one picture with its truth as COCO does; ``picture`` is 0.

    ``boxes_xyxy`` is (D, 4), ``classes`` and ``scores`` are (D,). Of each class the 100 detections with the highest
    scores are kept. From the highest score down, each takes the free box of its class that it overlaps most, at
    least by the threshold; if there is none, a difficult one, which makes it ignored. A crowd is never used up, and
    with it counts which share of the detection lies inside.

    Source: Lin et al. 2014, Microsoft COCO, and its evaluation code.
    """
    ranked = np.argsort(-scores, kind="stable")
    parts = []
    for index in np.unique(classes).tolist():
        rows = ranked[classes[ranked] == index][:_MOST_DETECTIONS]
        own = truth.classes == index
        parts.append((rows, *_match_class(boxes_xyxy[rows], truth.xyxy[own], truth.difficult[own], truth.crowd[own])))
    rows = np.concatenate([np.zeros(0, np.int64), *(rows for rows, _, _ in parts)])
    right = np.concatenate([np.zeros((0, len(_IOUS)), np.bool_), *(right for _, right, _ in parts)])
    ignored = np.concatenate([np.zeros((0, len(_IOUS)), np.bool_), *(ignored for _, _, ignored in parts)])
    return Matches(np.zeros(len(rows), np.int64), classes[rows], scores[rows], right, ignored)


def _match_class(
    found_xyxy: Floats, true_xyxy: NDArray[np.float32], difficult: NDArray[np.bool_], crowd: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Right and ignored, (D, 10) each, of the detections of one class by falling score."""
    right, ignored = np.zeros((2, len(found_xyxy), len(_IOUS)), dtype=np.bool_)
    if not len(true_xyxy):
        return right, ignored
    free = np.ones((len(_IOUS), len(true_xyxy)), dtype=np.bool_)
    every = np.arange(len(_IOUS))
    for detection, iou in enumerate(_coco_iou(found_xyxy, true_xyxy.astype(np.float64), crowd)):
        reached = free & (iou >= _IOUS[:, None])
        regular = (reached & ~difficult).any(axis=1)
        eligible = reached & (difficult != regular[:, None])
        # Of equal overlaps COCO takes the last.
        best = eligible.shape[1] - 1 - np.where(eligible, iou, -1.0)[:, ::-1].argmax(axis=1)
        matched = eligible.any(axis=1)
        right[detection], ignored[detection] = matched & regular, matched & ~regular
        free[every, best] &= ~matched | crowd[best]
    return right, ignored


def _coco_iou(found_xyxy: Floats, true_xyxy: Floats, crowd: NDArray[np.bool_]) -> Floats:
    """(D, T) IoU; with a crowd the share of the detection that lies inside."""
    found, true = found_xyxy[:, None], true_xyxy[None]
    size = (np.minimum(found[..., 2:], true[..., 2:]) - np.maximum(found[..., :2], true[..., :2])).clip(min=0)
    inside = size.prod(axis=2)
    areas = (found[..., 2:] - found[..., :2]).prod(axis=2), (true[..., 2:] - true[..., :2]).prod(axis=2)
    return _ratio(inside, np.where(crowd, areas[0], areas[0] + areas[1] - inside), undefined=0.0)


def write_pictures(path: Path, statistics: PictureStatistics) -> None:
    """Write one ``.npz``, whole or not at all.

    Raises:
        OSError: the folder cannot be written.
    """
    arrays: dict[str, Any] = {
        "format": np.array(FORMAT),
        "task": np.array(statistics.task),
        "ids": np.array(statistics.ids, dtype=np.str_),
        "names": np.array(statistics.names, dtype=np.str_),
    }
    arrays |= {f"data_{name}": array for name, array in statistics.save_arrays().items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_file(path, buffer.getvalue())


def read_pictures(path: Path) -> PictureStatistics:
    """What :func:`write_pictures` wrote.

    Raises:
        RunError: there is no such file, it is damaged, or of a newer version.
    """
    try:
        with open_file(path) as file, np.load(file, allow_pickle=False) as saved:
            arrays = {name: saved[name] for name in saved.files}
        if arrays["format"] > FORMAT:
            raise RunError("was written by a newer pixbox", where=str(path), hint="Upgrade: pip install -U pixbox")
        data = {name.removeprefix("data_"): array for name, array in arrays.items() if name.startswith("data_")}
        kind = _KINDS[str(arrays["task"])]
        return kind.from_arrays(arrays["ids"].tolist(), arrays["names"].tolist(), data)
    except FileNotFoundError:
        raise RunError("no such file", where=str(path)) from None
    except RunError:
        raise
    except Exception as error:  # zip, zlib and numpy raise half a dozen kinds, depending on where the file is damaged
        raise RunError(
            f"cannot be read as the pictures of an evaluation ({type(error).__name__})",
            where=str(path),
            hint="Evaluate the run again; the file is written anew.",
        ) from None


def _places(lengths: Sequence[int]) -> Places:
    """The place of a picture, as often as it has rows."""
    return np.repeat(np.arange(len(lengths)), np.array(lengths, dtype=np.int64))


def _rows_of(picture: Places, places: Places) -> tuple[Places, Places]:
    """The rows of the pictures at these places, where ``picture`` never falls, and the new place of each row."""
    first, last = np.searchsorted(picture, places), np.searchsorted(picture, places, side="right")
    rows = [np.arange(start, stop) for start, stop in zip(first, last, strict=True)]
    return np.concatenate([np.zeros(0, np.int64), *rows]), np.repeat(np.arange(len(places)), last - first)


def _table(picture: Places, classes: Places, count: NDArray[Any], shape: tuple[int, int]) -> Any:
    """(n, N) sparse float64, in which sums of whole numbers are exact."""
    return csr_array((count.astype(np.float64), (picture, classes)), shape=shape)


def _ratio(part: Floats, whole: Floats, undefined: float = np.nan) -> Floats:
    filled: Floats = np.full(np.broadcast_shapes(part.shape, whole.shape), undefined)
    np.divide(part, whole, out=filled, where=whole > 0)
    return filled


def _mean(values: Floats) -> Floats:
    """(R, N) -> (R,) of the values that are defined; NaN where there are none."""
    defined = ~np.isnan(values)
    return _ratio(np.where(defined, values, 0).sum(axis=1), defined.sum(axis=1).astype(np.float64))
