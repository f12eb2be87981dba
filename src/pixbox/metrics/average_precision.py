"""Detection scored over a whole data set: COCO's and VOC's average precision, and what went wrong in one picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from faster_coco_eval import COCO, COCOeval_faster
from numpy.typing import NDArray
from torch import Tensor

from pixbox.boxes.iou import pairwise_iou
from pixbox.sample import Boxes

MATCH_IOU = 0.5
"""Least IoU with its truth of a right detection, in everything but COCO's scores."""
_MOST_DETECTIONS = 100
"""Of one class in one picture, those with the highest scores, that COCO counts."""
_ALL_AREAS = (0.0, 1e10)
"""Square pixels, COCO's range "all"."""


@dataclass(frozen=True, slots=True)
class DetectionMetrics:
    """Scores as fractions; None where undefined. A class without truth is undefined and in no mean.

    Attributes:
        map: COCO's average precision, mean over the classes and the IoU thresholds 0.50, 0.55, ..., 0.95.
        map_50, map_75: the same at one threshold.
        class_ap: by class name, mean over the thresholds; not in ``to_plain``.
        class_ap_50: by class name, at 0.5.
        mar_100: COCO's recall with the 100 best detections of each class in each picture; mean as ``map``.
        voc_map_50: VOC's average precision at 0.5 as of 2010, the area under the curve; mean over the classes.
        voc07_map_50: the same as of 2007, the mean of the curve's heights at eleven recalls.
        class_voc_ap_50, class_voc07_ap_50: both by class name; not in ``to_plain``.
        images: number of pictures.
        boxes: number of true boxes without the difficult ones.
        class_boxes: by class name; not in ``to_plain``.

    Source: Lin et al. 2014, Microsoft COCO, and its evaluation code; Everingham et al. 2010, The Pascal Visual
    Object Classes Challenge, section 4.2, and its development kit.
    """

    map: float | None
    map_50: float | None
    map_75: float | None
    class_ap: dict[str, float | None]
    class_ap_50: dict[str, float | None]
    mar_100: float | None
    voc_map_50: float | None
    class_voc_ap_50: dict[str, float | None]
    voc07_map_50: float | None
    class_voc07_ap_50: dict[str, float | None]
    images: int
    boxes: int
    class_boxes: dict[str, int]

    def to_plain(self) -> dict[str, Any]:
        """The content of ``metrics.json``: numbers and None, never NaN."""
        return {
            "map": self.map,
            "map_50": self.map_50,
            "map_75": self.map_75,
            "class_ap_50": dict(self.class_ap_50),
            "mar_100": self.mar_100,
            "voc_map_50": self.voc_map_50,
            "voc07_map_50": self.voc07_map_50,
            "images": self.images,
            "boxes": self.boxes,
        }


@dataclass(frozen=True, slots=True)
class PrecisionRecall:
    """What a class's detections reach at IoU 0.5 when all down to a score are kept, from the highest score on.

    Attributes:
        scores: (K,) float64, descending: of each detection that is right or wrong.
        precision: (K,) float64, share of the right ones among those up to here.
        recall: (K,) float64, share of the class's true boxes that these find; never falls.
    """

    scores: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """What all detections with a score of at least ``score_threshold`` reach together, all classes counted alike.

    Attributes:
        f1: harmonic mean of ``precision`` and ``recall``.
    """

    score_threshold: float
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class PictureErrors:
    """The detections and true boxes of one picture, by index; each stands in one field alone.

    True boxes that are difficult stand in none.

    Attributes:
        right: (K, 2) int64, detection and the true box that it found.
        confused: (K, 2) int64, detection and a box of another class with IoU >= 0.5 that was not found otherwise.
        false: (K,) int64, other detections where nothing, or something already found, is.
        ignored: (K,) int64, detections of difficult boxes.
        missed: (K,) int64, true boxes neither found nor confused.
    """

    right: NDArray[np.int64]
    confused: NDArray[np.int64]
    false: NDArray[np.int64]
    ignored: NDArray[np.int64]
    missed: NDArray[np.int64]

    @property
    def count(self) -> int:
        """How many things are wrong with the picture."""
        return len(self.confused) + len(self.false) + len(self.missed)


@dataclass(frozen=True, slots=True)
class _Picture:
    """Detections and truth of one picture, and how they match at IoU 0.5.

    Attributes:
        xyxy: (D, 4) float64; ``classes``: (D,) int64; ``scores``: (D,) float64.
        truth: what is there.
        best: (D,) int64, the true box of the detection's class that it overlaps most.
        right: (D,) bool, found ``best``; ``ignored``: (D,) bool, lies on a difficult one.
    """

    xyxy: NDArray[np.float64]
    classes: NDArray[np.int64]
    scores: NDArray[np.float64]
    truth: Boxes
    best: NDArray[np.int64]
    right: NDArray[np.bool_]
    ignored: NDArray[np.bool_]


class DetectionScores:
    """Detections and truth of any number of pictures.

    What is computed from it does not depend on the order in which pictures were added or parts merged: equal scores
    are ranked by the index of their picture, and within it as the detector gave them. It can be pickled, so that
    processes can send theirs to each other and merge them.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self._pictures: dict[int, _Picture] = {}

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self._pictures)

    def update(self, index: int, boxes_xyxy: Tensor, classes: Tensor, scores: Tensor, truth: Boxes) -> None:
        """Add one picture.

        ``index`` is its place in the data set. ``boxes_xyxy`` is (D, 4) of any float type, x2 >= x1 and y2 >= y1, in
        the pixels of ``truth``; ``classes`` (D,) integers 0..N-1; ``scores`` (D,) of any float type; any device.
        COCO ignores all detections that lie in a crowd by at least the IoU threshold of their own area. Other
        difficult boxes are matched by IoU; COCO ignores one detection of each, VOC, which has no crowds, all.

        Raises:
            ValueError: the picture was added before, shapes differ, a class is not below N, boxes are inverted, or
                numbers are not finite.
        """
        if index in self._pictures:
            raise ValueError(f"picture {index} is already counted")
        # Copies: a view would keep, and follow, the detector's own memory.
        found = (
            boxes_xyxy.detach().cpu().double().numpy().copy(),
            classes.detach().cpu().long().numpy().copy(),
            scores.detach().cpu().double().numpy().copy(),
        )
        self._check(*found, truth)
        self._pictures[index] = _Picture(*found, truth, *_match(*found, truth))

    def merge(self, other: DetectionScores) -> None:
        """Add the pictures of another part of the data set, of as many classes.

        Raises:
            ValueError: a picture is in both, or the numbers of classes differ.
        """
        if other.num_classes != self.num_classes:
            raise ValueError(f"{other.num_classes} classes cannot be merged with {self.num_classes}")
        if both := self._pictures.keys() & other._pictures.keys():
            raise ValueError(f"picture {min(both)} is already counted")
        self._pictures |= other._pictures

    def reset(self) -> None:
        self._pictures.clear()

    def compute(self, names: Sequence[str]) -> DetectionMetrics:
        """Scores by class name (``names`` in the order of the indices)."""
        precision, recall = self._coco()
        true = self._true_boxes()
        voc, voc07 = self._voc(names, _voc_area), self._voc(names, _voc_eleven_points)
        return DetectionMetrics(
            map=_defined_mean(precision),
            map_50=_defined_mean(precision[0]),
            map_75=_defined_mean(precision[5]),
            class_ap={name: _defined_mean(precision[:, :, c]) for c, name in enumerate(names)},
            class_ap_50={name: _defined_mean(precision[0, :, c]) for c, name in enumerate(names)},
            mar_100=_defined_mean(recall),
            voc_map_50=_mean(voc),
            class_voc_ap_50=voc,
            voc07_map_50=_mean(voc07),
            class_voc07_ap_50=voc07,
            images=len(self),
            boxes=int(true.sum()),
            class_boxes=dict(zip(names, true.tolist(), strict=True)),
        )

    def curves(self, names: Sequence[str]) -> dict[str, PrecisionRecall | None]:
        """The curve of each class under VOC's rule of matching, by name; None for a class without truth."""
        curves: dict[str, PrecisionRecall | None] = {}
        for name, (scores, right), true in zip(names, self._ranked(), self._true_boxes().tolist(), strict=True):
            found = np.cumsum(right)
            kept = np.arange(1, len(right) + 1)
            curves[name] = PrecisionRecall(scores, found / kept, found / true) if true else None
        return curves

    def detections(self) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """(D,) scores of all detections that are not ignored, and which of them are right, that is, at IoU 0.5."""
        ranked = list(self._ranked())
        return np.concatenate([scores for scores, _ in ranked]), np.concatenate([right for _, right in ranked])

    def best_threshold(self) -> OperatingPoint | None:
        """The score threshold with the highest F1 over all pictures, the higher of equals; None if nothing is found."""
        scores, right = self.detections()
        true = int(self._true_boxes().sum())
        if not right.any():
            return None
        order = np.argsort(-scores)
        scores, found = scores[order], np.cumsum(right[order])
        kept = np.arange(1, len(scores) + 1)
        # A threshold keeps all detections of one score or none.
        last = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))
        f1 = 2 * found[last] / (kept[last] + true)
        best = last[f1.argmax()]
        return OperatingPoint(
            float(scores[best]), float(found[best] / kept[best]), float(found[best] / true), float(f1.max())
        )

    def truth(self, index: int) -> Boxes:
        """What is in the picture added under ``index``.

        Raises:
            KeyError: there is no such picture.
        """
        return self._pictures[index].truth

    def picture_errors(self, index: int, score_threshold: float) -> PictureErrors:
        """What the detections of at least this score have right and wrong in the picture added under ``index``.

        Raises:
            KeyError: there is no such picture.
        """
        picture = self._pictures[index]
        kept = picture.scores >= score_threshold
        right = np.flatnonzero(picture.right & kept)
        pairs = np.column_stack((right, picture.best[right]))
        wrong = np.flatnonzero(kept & ~picture.right & ~picture.ignored)
        unfound = ~picture.truth.difficult
        unfound[pairs[:, 1]] = False
        confused = _confused(picture, wrong, np.flatnonzero(unfound))
        unfound[confused[:, 1]] = False
        return PictureErrors(
            right=pairs,
            confused=confused,
            false=np.setdiff1d(wrong, confused[:, 0]),
            ignored=np.flatnonzero(picture.ignored & kept),
            missed=np.flatnonzero(unfound),
        )

    def _check(
        self,
        xyxy: NDArray[np.float64],
        classes: NDArray[np.int64],
        scores: NDArray[np.float64],
        truth: Boxes,
    ) -> None:
        if xyxy.shape != (len(classes), 4) or classes.ndim != 1 or scores.shape != classes.shape:
            raise ValueError(f"{xyxy.shape} boxes, {classes.shape} classes and {scores.shape} scores do not agree")
        if not (np.isfinite(xyxy).all() and np.isfinite(scores).all()):
            raise ValueError("boxes or scores are not finite")
        if (xyxy[:, 2:] < xyxy[:, :2]).any():
            raise ValueError("boxes are inverted: x2 < x1 or y2 < y1")
        for what, indices in (("predicted", classes), ("true", truth.classes)):
            if ((indices < 0) | (indices >= self.num_classes)).any():
                raise ValueError(f"a {what} class is not in 0..{self.num_classes - 1}: {sorted(set(indices.tolist()))}")

    def _in_order(self) -> Iterator[tuple[int, _Picture]]:
        return ((index, self._pictures[index]) for index in sorted(self._pictures))

    def _true_boxes(self) -> NDArray[np.int64]:
        """(N,) number of true boxes of each class that are not difficult."""
        counts = np.zeros(self.num_classes, dtype=np.int64)
        for picture in self._pictures.values():
            counts += np.bincount(picture.truth.classes[~picture.truth.difficult], minlength=self.num_classes)
        return counts

    def _ranked(self) -> Iterator[tuple[NDArray[np.float64], NDArray[np.bool_]]]:
        """For each class the scores of its detections, highest first, and which are right; ignored ones left out."""
        pictures = [picture for _, picture in self._in_order()]
        counted = [~picture.ignored for picture in pictures]
        scores = np.concatenate([np.empty(0)] + [p.scores[c] for p, c in zip(pictures, counted, strict=True)])
        right = np.concatenate([np.empty(0, bool)] + [p.right[c] for p, c in zip(pictures, counted, strict=True)])
        classes = np.concatenate([np.empty(0, int)] + [p.classes[c] for p, c in zip(pictures, counted, strict=True)])
        # Both sorts are stable, which makes the order one of classes, scores, pictures and places in them.
        order = np.argsort(-scores, kind="stable")
        order = order[np.argsort(classes[order], kind="stable")]
        ends = np.cumsum(np.bincount(classes, minlength=self.num_classes))[:-1]
        yield from zip(np.split(scores[order], ends), np.split(right[order], ends), strict=True)

    def _voc(self, names: Sequence[str], average: Callable[[NDArray[np.bool_], int], float]) -> dict[str, float | None]:
        """VOC's average precision of each class by name; None for a class without truth."""
        return {
            name: average(right, true) if true else None
            for name, (_, right), true in zip(names, self._ranked(), self._true_boxes().tolist(), strict=True)
        }

    def _coco(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """COCO's precision (10 IoU thresholds, 101 recalls, N classes) and recall (10, N); -1 where undefined."""
        precision, recall = np.full((10, 101, self.num_classes), -1.0), np.full((10, self.num_classes), -1.0)
        classes = np.flatnonzero(self._true_boxes())
        if len(classes):
            evaluation = COCOeval_faster(*self._coco_data(), iouType="bbox")
            evaluation.params.catIds = classes.tolist()
            evaluation.params.areaRng, evaluation.params.areaRngLbl = [list(_ALL_AREAS)], ["all"]
            evaluation.params.maxDets = [_MOST_DETECTIONS]
            evaluation.evaluate()
            evaluation.accumulate()
            precision[:, :, classes] = evaluation.eval["precision"][:, :, :, 0, 0]
            recall[:, classes] = evaluation.eval["recall"][:, :, 0, 0]
        return precision, recall

    def _coco_data(self) -> tuple[Any, Any]:
        """Truth and detections as COCO's objects; class indices are the category numbers."""
        true: list[dict[str, Any]] = []
        found: list[dict[str, Any]] = []
        for index, picture in self._in_order():
            truth = picture.truth
            xywh, area = _xywh_and_area(truth.xyxy.astype(np.float64))
            # The library overwrites an annotation's own `ignore`. An area out of range is ignored as well.
            area[truth.difficult & ~truth.crowd] = 2 * _ALL_AREAS[1]
            # Numbers start at 1: 0 is "no match" in the library.
            true += [
                {"id": number, "image_id": index, "category_id": c, "bbox": box, "area": a, "iscrowd": crowd}
                for number, (c, box, a, crowd) in enumerate(
                    _rows(truth.classes, xywh, area, truth.crowd.astype(int)), start=len(true) + 1
                )
            ]
            found += [
                {"id": number, "image_id": index, "category_id": c, "bbox": box, "area": a, "score": score}
                for number, (c, box, a, score) in enumerate(
                    _rows(picture.classes, *_xywh_and_area(picture.xyxy), picture.scores), start=len(found) + 1
                )
            ]
        images = [{"id": index} for index in sorted(self._pictures)]
        categories = [{"id": c, "name": str(c)} for c in range(self.num_classes)]
        return tuple(COCO({"images": images, "categories": categories, "annotations": a}) for a in (true, found))


def _match(
    xyxy: NDArray[np.float64], classes: NDArray[np.int64], scores: NDArray[np.float64], truth: Boxes
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
    """For each detection of a picture: the true box of its class that it overlaps most, is it right, is it ignored.

    VOC's rule: that box alone decides. The detection with the highest score of those that reach it finds it, the
    others are wrong; where it is difficult, all are ignored.
    """
    best, right, ignored = np.zeros(len(classes), np.int64), np.zeros(len(classes), bool), np.zeros(len(classes), bool)
    if len(classes) and len(truth.classes):
        iou = _iou(xyxy, truth.xyxy)
        iou[classes[:, None] != truth.classes] = 0
        best = iou.argmax(axis=1)
        reaches = iou.max(axis=1) >= MATCH_IOU
        ignored = reaches & truth.difficult[best]
        ranked = np.argsort(-scores, kind="stable")
        ranked = ranked[(reaches & ~ignored)[ranked]]
        _, first = np.unique(best[ranked], return_index=True)
        right[ranked[first]] = True
    return best, right, ignored


def _iou(found_xyxy: NDArray[np.float64], true_xyxy: NDArray[np.float32]) -> NDArray[np.float64]:
    return pairwise_iou(torch.from_numpy(found_xyxy), torch.from_numpy(true_xyxy)).numpy()


def _confused(picture: _Picture, wrong: NDArray[np.int64], unfound: NDArray[np.int64]) -> NDArray[np.int64]:
    """(K, 2) pairs of a wrong detection, by falling score, and the unfound box of another class that it overlaps most.

    Only pairs with IoU >= 0.5; each detection and each box is in one at most.
    """
    wrong = wrong[np.argsort(-picture.scores[wrong], kind="stable")]
    iou = _iou(picture.xyxy[wrong], picture.truth.xyxy[unfound])
    iou[picture.classes[wrong][:, None] == picture.truth.classes[unfound]] = 0
    pairs = []
    for detection, overlaps in zip(wrong, iou, strict=True):
        if overlaps.max(initial=0) >= MATCH_IOU:
            box = overlaps.argmax()
            pairs.append((detection, unfound[box]))
            iou[:, box] = 0
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def _voc_area(right: NDArray[np.bool_], true: int) -> float:
    """Area under the curve of precision over recall, made monotone; ``right`` by falling score."""
    precision = np.cumsum(right) / np.arange(1, len(right) + 1)
    # Recall rises by 1 / true at each right detection.
    return float(np.maximum.accumulate(precision[::-1])[::-1][right].sum() / true)


def _voc_eleven_points(right: NDArray[np.bool_], true: int) -> float:
    """Mean over the recalls 0, 0.1, ..., 1 of the highest precision at this recall or above."""
    found = np.cumsum(right)
    precision = found / np.arange(1, len(right) + 1)
    # In whole numbers: 3 of 10 are less than 3 * 0.1 in floating point.
    return float(np.mean([precision[10 * found >= tenth * true].max(initial=0) for tenth in range(11)]))


def _xywh_and_area(xyxy: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(N, 4) and (N,): corner and size, area."""
    size = xyxy[:, 2:] - xyxy[:, :2]
    return np.concatenate((xyxy[:, :2], size), axis=1), size.prod(axis=1)


def _rows(*columns: NDArray[Any]) -> Iterator[tuple[Any, ...]]:
    """The columns as rows of plain numbers (lists, where a column has more than one dimension)."""
    return zip(*(column.tolist() for column in columns), strict=True)


def _defined_mean(values: NDArray[np.float64]) -> float | None:
    """Mean of the values that are not COCO's -1; None if there are none."""
    defined = values[values > -1]
    return float(defined.mean()) if len(defined) else None


def _mean(values: Mapping[str, float | None]) -> float | None:
    """Mean of the values that are defined; None if there are none."""
    return _defined_mean(np.array([value for value in values.values() if value is not None]))
