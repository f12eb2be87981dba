"""Detection scores against hand arithmetic, pycocotools, scikit-learn and VOC's development kit retold."""

import contextlib
import io
import json
import pickle
import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from sklearn.metrics import precision_recall_curve

from pixbox.metrics import DetectionMetrics, DetectionScores
from pixbox.sample import Boxes

NAMES = ("car", "cow", "bus", "cat", "dog")
ABSENT_IN_TRUTH, NEVER_PREDICTED, DIFFICULT_ONLY = 1, 2, 3


@dataclass
class Picture:
    """Detections and truth of one picture."""

    xyxy: NDArray[np.float32]
    classes: NDArray[np.int64]
    scores: NDArray[np.float32]
    truth: Boxes


def picture(found: list[tuple[Any, ...]], true: list[tuple[Any, ...]]) -> Picture:
    """From (x1, y1, x2, y2, class, score) and (x1, y1, x2, y2, class) with "difficult" or "crowd" behind."""
    marks = [set(row[5:]) for row in true]
    truth = Boxes(
        np.array([row[:4] for row in true], dtype=np.float32).reshape(-1, 4),
        np.array([row[4] for row in true], dtype=np.int64),
        np.array([bool(mark) for mark in marks], dtype=np.bool_),
        np.array(["crowd" in mark for mark in marks], dtype=np.bool_),
    )
    return Picture(
        np.array([row[:4] for row in found], dtype=np.float32).reshape(-1, 4),
        np.array([row[4] for row in found], dtype=np.int64),
        np.array([row[5] for row in found], dtype=np.float32),
        truth,
    )


def random_pictures(seed: int, crowds: bool = True, many: int = 12) -> dict[int, Picture]:
    """Pictures with few different scores and places, so that ties are frequent; some are empty.

    With an odd seed the detections lie between the pixels.
    """
    source = np.random.default_rng(seed)
    pictures = {}
    for index in source.permutation(100)[:20].tolist():
        count = int(source.integers(0, 7))
        corner = source.integers(0, 60, (count, 2))
        true = np.concatenate((corner, corner + source.integers(4, 40, (count, 2))), axis=1).astype(np.float32)
        classes = source.choice([c for c in range(len(NAMES)) if c != ABSENT_IN_TRUTH], count)
        marked = source.random(count) < 0.2
        difficult = marked | (classes == DIFFICULT_ONLY)
        # Detections: shifted true boxes, mostly of their class, and boxes anywhere.
        copied = source.integers(0, count, int(source.integers(0, many))) if count else np.zeros(0, dtype=int)
        corner = source.integers(0, 60, (int(source.integers(0, 4)), 2))
        loose = np.concatenate((corner, corner + source.integers(0, 30, corner.shape)), axis=1)
        shifted = true[copied] + source.integers(-4, 5, (len(copied), 4)) + seed % 2 * source.random((len(copied), 4))
        xyxy = np.concatenate((shifted, loose)).astype(np.float32)
        xyxy[:, 2:] = np.maximum(xyxy[:, 2:], xyxy[:, :2])
        guessed = source.choice([c for c in range(len(NAMES)) if c != NEVER_PREDICTED], len(xyxy))
        guessed[: len(copied)] = np.where(source.random(len(copied)) < 0.7, classes[copied], guessed[: len(copied)])
        guessed[guessed == NEVER_PREDICTED] = 0
        scores = source.random(len(xyxy)).round(1).astype(np.float32)
        crowd = marked & crowds & (source.random(count) < 0.5)
        pictures[index] = Picture(xyxy, guessed, scores, Boxes(true, classes, difficult, crowd))
    return pictures


def scored(pictures: dict[int, Picture] | Iterable[tuple[int, Picture]], classes: int = len(NAMES)) -> DetectionScores:
    scores = DetectionScores(classes)
    for index, item in dict(pictures).items():
        arrays = (torch.from_numpy(array) for array in (item.xyxy, item.classes, item.scores))
        scores.update(index, *arrays, item.truth)
    return scores


def metrics_of(found: list[tuple[Any, ...]], true: list[tuple[Any, ...]]) -> DetectionMetrics:
    return scored({0: picture(found, true)}, classes=2).compute(("a", "b"))


class IgnoringCOCOeval(COCOeval):
    """COCO's own evaluation, which honours a box's `ignore` as it does ignored areas. It reads the key and drops it."""

    def _prepare(self) -> None:
        super()._prepare()
        for box in self.cocoGt.anns.values():
            box["ignore"] = box["difficult"] or box["iscrowd"]


def by_pycocotools(pictures: dict[int, Picture]) -> dict[str, Any]:
    """map, map_50, map_75, mar_100, class_ap and class_ap_50 by COCO's own code; -1 is None."""
    true, found = [], []
    for index, item in pictures.items():
        for box, c, difficult, crowd in zip(
            item.truth.xyxy.tolist(), item.truth.classes, item.truth.difficult, item.truth.crowd, strict=True
        ):
            true.append(as_coco(index, box, c) | {"difficult": int(difficult), "iscrowd": int(crowd)})
        for box, c, score in zip(item.xyxy.tolist(), item.classes, item.scores, strict=True):
            found.append(as_coco(index, box, c) | {"score": float(score)})
    sets = []
    with contextlib.redirect_stdout(io.StringIO()):
        for boxes in (true, found):
            coco = COCO()
            coco.dataset = {
                "images": [{"id": index} for index in pictures],
                "categories": [{"id": c} for c in range(len(NAMES))],
                "annotations": [box | {"id": number} for number, box in enumerate(boxes, start=1)],
            }
            coco.createIndex()
            sets.append(coco)
        evaluation = IgnoringCOCOeval(*sets, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    precision = evaluation.eval["precision"][:, :, :, 0, 2]
    whole = dict(zip(("map", "map_50", "map_75", "mar_100"), evaluation.stats[[0, 1, 2, 8]], strict=True))
    return defined(whole) | {
        "class_ap": defined(dict(zip(NAMES, precision.mean(axis=(0, 1)), strict=True))),
        "class_ap_50": defined(dict(zip(NAMES, precision[0].mean(axis=0), strict=True))),
    }


def defined(values: dict[str, Any]) -> dict[str, Any]:
    return {key: None if value == -1 else value for key, value in values.items()}


def as_coco(index: int, xyxy: list[float], c: int) -> dict[str, Any]:
    x1, y1, x2, y2 = xyxy
    return {
        "image_id": index,
        "category_id": int(c),
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": (x2 - x1) * (y2 - y1),
    }


def overlap(a: NDArray[Any], b: NDArray[Any]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    inter = float(width) * float(height)
    return inter / (float(a[2] - a[0]) * float(a[3] - a[1]) + float(b[2] - b[0]) * float(b[3] - b[1]) - inter)


def by_devkit(pictures: dict[int, Picture], c: int, eleven_points: bool) -> float | None:
    """VOC's average precision of a class, step by step as the development kit describes it."""
    detections = [
        (index, place) for index in sorted(pictures) for place in np.flatnonzero(pictures[index].classes == c).tolist()
    ]
    detections.sort(key=lambda d: -float(pictures[d[0]].scores[d[1]]))
    positives = sum(int(((p.truth.classes == c) & ~p.truth.difficult).sum()) for p in pictures.values())
    if not positives:
        return None
    detected: set[tuple[int, int]] = set()
    true_positive, false_positive = [], []
    for index, place in detections:
        truth = pictures[index].truth
        largest, best = -np.inf, -1
        for j in np.flatnonzero(truth.classes == c).tolist():
            value = overlap(pictures[index].xyxy[place], truth.xyxy[j])
            if value > largest:
                largest, best = value, j
        is_hit = largest >= 0.5
        is_difficult = is_hit and truth.difficult[best]
        is_new = is_hit and (index, best) not in detected
        if is_hit and not is_difficult:
            detected.add((index, best))
        true_positive.append(int(is_new and not is_difficult))
        false_positive.append(int(not is_hit or not (is_difficult or is_new)))
    tp, fp = np.cumsum(true_positive), np.cumsum(false_positive)
    recall = tp / positives
    precision = tp / np.maximum(tp + fp, 1)
    if eleven_points:
        heights = [precision[recall >= t - 1e-9].max(initial=0) for t in np.linspace(0, 1, 11)]
        return float(sum(heights) / 11)
    recall = np.concatenate(([0], recall, [1]))
    precision = np.concatenate(([0], precision, [0]))
    for i in range(len(precision) - 2, -1, -1):
        precision[i] = max(precision[i], precision[i + 1])
    steps = np.flatnonzero(recall[1:] != recall[:-1]) + 1
    return float(sum((recall[i] - recall[i - 1]) * precision[i] for i in steps))


# COCO


@pytest.mark.parametrize("seed", range(25))
def test_coco_scores_equal_pycocotools(seed: int) -> None:
    pictures = random_pictures(seed)
    found = scored(pictures).compute(NAMES)
    for key, expected in by_pycocotools(pictures).items():
        assert getattr(found, key) == pytest.approx(expected, abs=1e-6), key
    assert found.class_ap_50[NAMES[ABSENT_IN_TRUTH]] is None
    assert found.class_ap_50[NAMES[DIFFICULT_ONLY]] is None
    assert found.class_ap_50[NAMES[NEVER_PREDICTED]] == 0.0


def test_coco_scores_equal_pycocotools_beyond_a_hundred_detections_of_a_class() -> None:
    pictures = random_pictures(seed=5, many=800)
    assert max(np.bincount(item.classes, minlength=5).max() for item in pictures.values()) > 150
    found = scored(pictures).compute(NAMES)
    for key, expected in by_pycocotools(pictures).items():
        assert getattr(found, key) == pytest.approx(expected, abs=1e-6), key


def test_coco_average_precision_of_one_box_by_hand() -> None:
    # IoU 0.8: right at the thresholds 0.50 to 0.80, which are 7 of 10.
    found = metrics_of([(0, 0, 10, 8, 0, 0.9)], [(0, 0, 10, 10, 0)])
    assert (found.map, found.mar_100) == (pytest.approx(0.7), pytest.approx(0.7))
    assert (found.map_50, found.map_75) == (pytest.approx(1.0), pytest.approx(1.0))
    assert found.class_ap == {"a": pytest.approx(0.7), "b": None}


def test_a_detection_inside_a_crowd_is_ignored_by_coco_and_inside_a_difficult_box_wrong() -> None:
    detections = [(0, 0, 10, 10, 0, 0.9), (60, 60, 70, 70, 0, 0.99)]
    inside = [(0, 0, 10, 10, 0), (50, 50, 90, 90, 0, "crowd")]
    assert metrics_of(detections, inside).map_50 == pytest.approx(1.0)
    inside[1] = (50, 50, 90, 90, 0, "difficult")
    assert metrics_of(detections, inside).map_50 == pytest.approx(0.5)


def test_coco_ignores_one_detection_of_a_difficult_box_and_voc_all() -> None:
    found = metrics_of(
        [(50, 50, 60, 60, 0, 0.9), (50, 50, 60, 60, 0, 0.8), (0, 0, 10, 10, 0, 0.7)],
        [(0, 0, 10, 10, 0), (50, 50, 60, 60, 0, "difficult")],
    )
    assert found.map_50 == pytest.approx(0.5)
    assert found.voc_map_50 == pytest.approx(1.0)
    assert found.boxes == 1
    assert found.class_boxes == {"a": 1, "b": 0}


# VOC


def ranked_right_wrong_right_wrong_right() -> DetectionScores:
    """Four true boxes, of which the 1st, 3rd and 5th detection find one each."""
    true = [(20 * i, 0, 20 * i + 10, 10, 0) for i in range(4)]
    rights = [(*true[i][:5], 0.9 - 0.2 * i) for i in range(3)]
    wrongs = [(100, 100, 120, 120, 0, 0.8), (0, 60, 50, 90, 0, 0.6)]
    return scored({0: picture(rights + wrongs, true)}, classes=1)


def test_voc_average_precision_by_hand() -> None:
    scores = ranked_right_wrong_right_wrong_right()
    # Precision 1, 2/3 and 3/5 where recall rises to 1/4, 2/4 and 3/4.
    found = scores.compute(("a",))
    assert found.voc_map_50 == pytest.approx((1 + 2 / 3 + 3 / 5) / 4)
    # 1 at the recalls 0 to 0.2, 2/3 at 0.3 to 0.5, 3/5 at 0.6 and 0.7, 0 above.
    assert found.voc07_map_50 == pytest.approx((3 * 1 + 3 * 2 / 3 + 2 * 3 / 5) / 11)
    assert found.class_voc_ap_50 == {"a": found.voc_map_50}
    assert found.class_voc07_ap_50 == {"a": found.voc07_map_50}
    plain = found.to_plain()
    assert (plain["voc_map_50"], plain["voc07_map_50"]) == (found.voc_map_50, found.voc07_map_50)


def test_a_curve_that_rises_is_made_monotone() -> None:
    # Wrong, right, right: precision 0, 1/2, 2/3; the best at recall 1/2 or above is 2/3.
    found = metrics_of(
        [(50, 50, 60, 60, 0, 0.9), (0, 0, 10, 10, 0, 0.8), (20, 0, 30, 10, 0, 0.7)],
        [(0, 0, 10, 10, 0), (20, 0, 30, 10, 0)],
    )
    assert found.voc_map_50 == pytest.approx(2 / 3)


def test_three_of_ten_boxes_reach_four_of_the_eleven_points() -> None:
    true = [(20 * i, 0, 20 * i + 10, 10, 0) for i in range(10)]
    found = scored({0: picture([(*box, 0.5) for box in true[:3]], true)}, classes=1).compute(("a",))
    assert found.voc07_map_50 == pytest.approx(4 / 11)
    assert found.voc_map_50 == pytest.approx(3 / 10)


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("eleven_points", [False, True])
def test_voc_scores_equal_the_development_kits_algorithm(seed: int, eleven_points: bool) -> None:
    pictures = random_pictures(seed)
    found = scored(pictures).compute(NAMES)
    expected = {name: by_devkit(pictures, c, eleven_points) for c, name in enumerate(NAMES)}
    assert (found.class_voc07_ap_50 if eleven_points else found.class_voc_ap_50) == pytest.approx(expected, abs=1e-12)
    mean = np.mean([value for value in expected.values() if value is not None])
    assert (found.voc07_map_50 if eleven_points else found.voc_map_50) == pytest.approx(mean, abs=1e-12)


def test_the_box_that_a_detection_overlaps_most_decides_in_voc_and_not_in_coco() -> None:
    # The second detection overlaps the first box, already found, by 2/3 and the other by 7/13.
    found = metrics_of(
        [(0, 0, 10, 10, 0, 0.9), (0, 2, 10, 12, 0, 0.8)],
        [(0, 0, 10, 10, 0), (0, 5, 10, 15, 0)],
    )
    assert found.voc_map_50 == pytest.approx(1 / 2)
    assert found.map_50 == pytest.approx(1.0)


def test_an_iou_of_exactly_a_half_is_a_match() -> None:
    found = metrics_of([(0, 0, 1, 1, 0, 0.9)], [(0, 0, 2, 1, 0)])
    assert (found.voc_map_50, found.map_50) == (1.0, pytest.approx(1.0))


# Sets of pictures


@pytest.mark.parametrize("seed", range(4))
def test_order_of_pictures_and_merging_change_nothing(seed: int) -> None:
    pictures = random_pictures(seed)
    whole = scored(pictures)
    shuffled = list(pictures.items())
    random.Random(seed).shuffle(shuffled)
    parts = [scored(shuffled[rank::3]) for rank in range(3)]
    merged = DetectionScores(len(NAMES))
    for part in parts[::-1]:
        merged.merge(pickle.loads(pickle.dumps(part)))
    assert len(merged) == 20
    assert merged.compute(NAMES) == whole.compute(NAMES)
    assert merged.best_threshold() == whole.best_threshold()
    for name, curve in whole.curves(NAMES).items():
        other = merged.curves(NAMES)[name]
        assert (curve is None) == (other is None)
        if curve is not None and other is not None:
            np.testing.assert_array_equal(curve.precision, other.precision)


def test_a_picture_counts_once() -> None:
    pictures = random_pictures(0)
    scores, index = scored(pictures), min(pictures)
    with pytest.raises(ValueError, match=f"picture {index} is already"):
        scores.merge(scored({index: pictures[index]}))
    with pytest.raises(ValueError, match=f"picture {index} is already"):
        scores.update(index, torch.zeros(0, 4), torch.zeros(0).long(), torch.zeros(0), pictures[index].truth)
    with pytest.raises(ValueError, match="7 classes"):
        scores.merge(DetectionScores(7))
    assert scores.compute(NAMES) == scored(pictures).compute(NAMES)
    scores.reset()
    assert len(scores) == 0


def test_the_names_and_types_of_metrics_json() -> None:
    plain = scored(random_pictures(0)).compute(NAMES).to_plain()
    assert list(plain) == ["map", "map_50", "map_75", "class_ap_50", "mar_100", "voc_map_50", "voc07_map_50",
                           "images", "boxes"]  # fmt: skip
    assert tuple(plain["class_ap_50"]) == NAMES
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert plain["images"] == 20
    assert type(plain["map"]) is float
    assert type(plain["boxes"]) is int


@pytest.mark.parametrize("pictures", [{}, {3: picture([], [])}, {3: picture([(0, 0, 9, 9, 1, 0.5)], [])}])
def test_without_truth_all_is_null(pictures: dict[int, Picture]) -> None:
    scores = scored(pictures)
    found = scores.compute(NAMES).to_plain()
    nothing = dict.fromkeys(NAMES)
    assert found == {
        **dict.fromkeys(("map", "map_50", "map_75", "mar_100", "voc_map_50", "voc07_map_50")),
        "class_ap_50": nothing,
        "images": len(pictures),
        "boxes": 0,
    }
    assert scores.curves(NAMES) == nothing
    assert scores.best_threshold() is None


def test_without_detections_all_that_is_defined_is_zero() -> None:
    scores = scored({3: picture([], [(0, 0, 9, 9, 1), (0, 0, 9, 9, 2, "difficult")]), 4: picture([], [])})
    found = scores.compute(NAMES)
    assert (found.map, found.map_50, found.map_75, found.mar_100, found.voc_map_50, found.voc07_map_50) == (0,) * 6
    assert found.class_ap_50 == {"car": None, "cow": 0.0, "bus": None, "cat": None, "dog": None}
    assert (found.images, found.boxes) == (2, 1)
    curve = scores.curves(NAMES)["cow"]
    assert curve is not None
    assert len(curve.scores) == len(curve.precision) == len(curve.recall) == 0
    assert scores.best_threshold() is None
    assert scores.picture_errors(3, 0.0).missed.tolist() == [0]


def test_half_precision_detections_are_taken() -> None:
    scores = DetectionScores(1)
    box = torch.tensor([[0, 0, 8, 8]])
    truth = picture([], [(0, 0, 8, 8, 0)]).truth
    scores.update(0, box.bfloat16(), torch.zeros(1, dtype=torch.int32), torch.full((1,), 0.5).half(), truth)
    assert scores.compute(("a",)).map == pytest.approx(1.0)


def test_what_happens_to_the_detections_afterwards_changes_nothing() -> None:
    scores = DetectionScores(1)
    box, classes, score = torch.tensor([[0, 0, 8, 8]]).double(), torch.tensor([0]), torch.ones(1).double()
    scores.update(0, box, classes, score, picture([], [(0, 0, 8, 8, 0)]).truth)
    before = scores.compute(("a",))
    for used_again in (box, classes, score):
        used_again.fill_(7)
    assert scores.compute(("a",)) == before


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ((0, 0, 9, 9, 5, 0.5), "predicted class"),
        ((0, 0, 9, 9, -1, 0.5), "predicted class"),
        ((9, 0, 0, 9, 0, 0.5), "inverted"),
        ((0, 0, np.nan, 9, 0, 0.5), "not finite"),
        ((0, 0, 9, 9, 0, np.inf), "not finite"),
    ],
)
def test_impossible_detections_are_refused(found: tuple[float, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scored({0: picture([found], [])})


def test_impossible_truth_and_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="true class"):
        scored({0: picture([], [(0, 0, 9, 9, 5)])})
    with pytest.raises(ValueError, match="do not agree"):
        DetectionScores(1).update(0, torch.zeros(2, 4), torch.zeros(2).long(), torch.zeros(3), picture([], []).truth)


# Curves, the threshold, single pictures


def test_the_curve_of_a_ranking_by_hand() -> None:
    curve = ranked_right_wrong_right_wrong_right().curves(("a",))["a"]
    assert curve is not None
    assert curve.scores == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.5])
    assert curve.precision == pytest.approx([1, 1 / 2, 2 / 3, 2 / 4, 3 / 5])
    assert curve.recall == pytest.approx([1 / 4, 1 / 4, 2 / 4, 2 / 4, 3 / 4])


def test_the_curve_equals_scikit_learns() -> None:
    # All boxes are found at last, so that scikit-learn's recall is the same.
    true = [(20 * i, 0, 20 * i + 10, 10, 0) for i in range(30)]
    places = np.random.default_rng(0).permutation(60)
    found = [(20 * i, 0, 20 * i + 10, 10, 0, 1 - rank / 64) for rank, i in enumerate(places)]
    curve = scored({0: picture(found, true)}, classes=1).curves(("a",))["a"]
    assert curve is not None
    precision, recall, thresholds = precision_recall_curve(places < 30, [row[5] for row in found])
    # It goes from the lowest threshold up, and ends in a point without one.
    np.testing.assert_allclose(curve.scores, thresholds[::-1])
    np.testing.assert_allclose(curve.precision, precision[-2::-1])
    np.testing.assert_allclose(curve.recall, recall[-2::-1])


def test_the_best_threshold_by_hand() -> None:
    # F1 with 1 to 5 detections kept and 4 boxes: 2/5, 2/6, 4/7, 4/8, 6/9.
    best = ranked_right_wrong_right_wrong_right().best_threshold()
    assert best is not None
    assert (best.score_threshold, best.precision, best.recall, best.f1) == pytest.approx((0.5, 3 / 5, 3 / 4, 2 / 3))


@pytest.mark.parametrize("seed", range(8))
def test_no_threshold_has_a_higher_f1_than_the_best(seed: int) -> None:
    pictures = random_pictures(seed)
    scores = scored(pictures)
    best = scores.best_threshold()
    assert best is not None
    tried = {}
    for threshold in sorted({float(s) for item in pictures.values() for s in item.scores}):
        errors = [scores.picture_errors(index, threshold) for index in pictures]
        right = sum(len(e.right) for e in errors)
        wrong = sum(len(e.false) + len(e.confused) for e in errors)
        lost = sum(len(e.missed) + len(e.confused) for e in errors)
        tried[threshold] = 2 * right / (2 * right + wrong + lost)
    assert best.f1 == pytest.approx(max(tried.values()))
    assert best.score_threshold == max(t for t, f1 in tried.items() if f1 == max(tried.values()))
    assert 2 * best.precision * best.recall / (best.precision + best.recall) == pytest.approx(best.f1)


def test_a_picture_with_every_kind_of_error() -> None:
    found = [
        (0, 0, 10, 10, 0, 0.9),  # 0: right
        (1, 0, 11, 10, 0, 0.8),  # 1: the same once more
        (20, 0, 30, 10, 1, 0.7),  # 2: a car taken for a cow
        (80, 80, 90, 90, 0, 0.6),  # 3: nothing there
        (60, 0, 70, 10, 0, 0.5),  # 4: difficult
        (40, 0, 50, 10, 0, 0.1),  # 5: right, but below the threshold
        (20, 1, 30, 11, 1, 0.4),  # 6: the same car taken for a cow once more
    ]
    true = [(0, 0, 10, 10, 0), (20, 0, 30, 10, 0), (40, 0, 50, 10, 0), (60, 0, 70, 10, 0, "difficult")]
    scores = scored({7: picture(found, true)})
    errors = scores.picture_errors(7, 0.3)
    assert errors.right.tolist() == [[0, 0]]
    assert errors.confused.tolist() == [[2, 1]]
    assert errors.false.tolist() == [1, 3, 6]
    assert errors.ignored.tolist() == [4]
    assert errors.missed.tolist() == [2]
    assert errors.count == 5
    assert scores.picture_errors(7, 0.05).right.tolist() == [[0, 0], [5, 2]]
    strict = scores.picture_errors(7, 0.95)
    assert (strict.missed.tolist(), strict.count) == ([0, 1, 2], 3)
    with pytest.raises(KeyError):
        scores.picture_errors(8, 0.5)


@pytest.mark.parametrize("seed", range(8))
def test_every_detection_and_every_box_stands_in_one_place(seed: int) -> None:
    pictures = random_pictures(seed)
    scores = scored(pictures)
    for index, item in pictures.items():
        for threshold in (0.0, 0.35, 0.8):
            errors = scores.picture_errors(index, threshold)
            detections = [*errors.right[:, 0], *errors.confused[:, 0], *errors.false, *errors.ignored]
            assert sorted(detections) == np.flatnonzero(item.scores >= threshold).tolist()
            boxes = [*errors.right[:, 1], *errors.confused[:, 1], *errors.missed]
            assert sorted(boxes) == np.flatnonzero(~item.truth.difficult).tolist()
            for detection, box in errors.confused:
                assert item.classes[detection] != item.truth.classes[box]
                assert overlap(item.xyxy[detection], item.truth.xyxy[box]) >= 0.5
