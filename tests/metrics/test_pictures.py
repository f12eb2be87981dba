"""Figures of weighted pictures against the metrics of the whole split, pycocotools and hand arithmetic."""

from __future__ import annotations

import contextlib
import io
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from sklearn.metrics import confusion_matrix

from pixbox.boxes import Selection
from pixbox.errors import RunError
from pixbox.labels import IGNORE, LabelMap
from pixbox.metrics import ClassificationScores, ConfusionMatrix, DetectionScores, collector_for
from pixbox.metrics.pictures import Collector, PictureStatistics, read_pictures, write_pictures
from pixbox.sample import Boxes, Category, Mask, Target

NAMES = ("car", "cow", "bus", "cat", "dog")
LABELS = LabelMap.model_validate({"classes": [{"name": name, "value": n} for n, name in enumerate(NAMES)]})
NEVER, DIFFICULT_ONLY = 1, 3
TASKS = ("segmentation", "detection", "classification")

Labelled = list[tuple[Any, Target]]
"""What was predicted for each picture, and its truth."""


def random_masks(seed: int, count: int = 12) -> Labelled:
    """Pictures of different sizes; the class NEVER is in neither truth nor prediction; one picture is all ignored."""
    source = np.random.default_rng(seed)
    pairs: Labelled = []
    for number in range(count):
        size = tuple(source.integers(3, 12, 2))
        true = source.choice([0, 2, 3, 4, IGNORE], size).astype(np.uint8)
        guessed = np.where((source.random(size) < 0.6) & (true != IGNORE), true, source.choice([0, 2, 3, 4], size))
        if number == 5:
            true[:] = IGNORE
        pairs.append((torch.from_numpy(guessed.astype(np.uint8)), Mask(true)))
    return pairs


def random_boxes(seed: int, count: int = 12, many: int = 12) -> Labelled:
    """Detections with different scores, mostly near true boxes; some of these are difficult, or crowds."""
    source = np.random.default_rng(seed)
    pairs: Labelled = []
    rank = iter(source.permutation(100_000))
    for _ in range(count):
        objects = int(source.integers(0, 7))
        corner = source.integers(0, 60, (objects, 2))
        true = np.concatenate((corner, corner + source.integers(4, 40, (objects, 2))), axis=1).astype(np.float32)
        classes = source.choice([0, 2, 3, 4], objects)
        difficult = (source.random(objects) < 0.2) | (classes == DIFFICULT_ONLY)
        crowd = difficult & (source.random(objects) < 0.4)
        copied = source.integers(0, objects, int(source.integers(0, many))) if objects else np.zeros(0, dtype=int)
        corner = source.integers(0, 60, (int(source.integers(0, 4)), 2))
        loose = np.concatenate((corner, corner + source.integers(1, 30, corner.shape)), axis=1)
        found = np.concatenate((true[copied] + source.integers(-4, 5, (len(copied), 4)), loose)).astype(np.float32)
        found[:, 2:] = np.maximum(found[:, 2:], found[:, :2])
        guessed = source.choice(len(NAMES), len(found))
        guessed[: len(copied)] = np.where(source.random(len(copied)) < 0.7, classes[copied], guessed[: len(copied)])
        scores = np.array([next(rank) / 100_000 for _ in found], dtype=np.float32)
        selection = Selection(torch.from_numpy(found), torch.from_numpy(guessed), torch.from_numpy(scores))
        pairs.append((selection, Boxes(true, classes, difficult, crowd)))
    return pairs


def random_categories(seed: int, count: int = 40) -> Labelled:
    source = np.random.default_rng(seed)
    truth = source.choice([0, 2, 3, 4], count)
    logits = source.normal(0, 1, (count, len(NAMES)))
    logits[np.arange(count), truth] += 1
    shares = torch.from_numpy(logits).softmax(dim=1)
    return [(row, Category(int(index))) for row, index in zip(shares, truth, strict=True)]


def random_pictures(task: str, seed: int = 0) -> Labelled:
    return {"segmentation": random_masks, "detection": random_boxes, "classification": random_categories}[task](seed)


def collected(task: str, pairs: Labelled, indices: Sequence[int] | None = None) -> Collector:
    collector = collector_for(task, LABELS)
    for index in range(len(pairs)) if indices is None else indices:
        collector.add(index, f"street/{index}", *pairs[index])
    return collector


def statistics(task: str, pairs: Labelled) -> PictureStatistics:
    return collected(task, pairs).finish()


def boxes(found: list[tuple[float, ...]], true: list[tuple[Any, ...]]) -> tuple[Selection, Boxes]:
    """From (x1, y1, x2, y2, class, score) and (x1, y1, x2, y2, class) with "difficult" or "crowd" behind."""
    detections = torch.tensor(found, dtype=torch.float64).reshape(-1, 6)
    marks = [set(row[5:]) for row in true]
    truth = Boxes(
        np.array([row[:4] for row in true], dtype=np.float32).reshape(-1, 4),
        np.array([row[4] for row in true], dtype=np.int64),
        np.array([bool(mark) for mark in marks], dtype=np.bool_),
        np.array(["crowd" in mark for mark in marks], dtype=np.bool_),
    )
    return Selection(detections[:, :4], detections[:, 4].long(), detections[:, 5]), truth


def ones(found: PictureStatistics) -> NDArray[np.float64]:
    return np.ones(len(found.ids))


# The whole split


@pytest.mark.parametrize("seed", range(5))
def test_with_weight_one_segmentation_figures_are_those_of_the_confusion_matrix(seed: int) -> None:
    pairs = random_masks(seed)
    whole = ConfusionMatrix(len(NAMES))
    for prediction, target in pairs:
        assert isinstance(target, Mask)
        whole.update(prediction, torch.from_numpy(target.classes))
    expected = whole.compute(NAMES)
    found = statistics("segmentation", pairs)
    figures = found.figures(ones(found))
    for name in found.scalars:
        assert figures[name] == pytest.approx(getattr(expected, name), abs=1e-12), name
    assert {name: figures[f"class_iou/{name}"] for name in NAMES} == pytest.approx(expected.class_iou, abs=1e-12)
    assert figures[f"class_iou/{NAMES[NEVER]}"] is None


@pytest.mark.parametrize("seed", range(20))
def test_with_weight_one_detection_figures_are_those_of_the_metric(seed: int) -> None:
    pairs = random_boxes(seed, count=20)
    whole = DetectionScores(len(NAMES))
    for index, (selection, target) in enumerate(pairs):
        assert isinstance(target, Boxes)
        whole.update(index, selection.boxes_xyxy, selection.classes, selection.scores, target)
    expected = whole.compute(NAMES)
    found = statistics("detection", pairs)
    figures = found.figures(ones(found))
    for name in found.scalars:
        assert figures[name] == pytest.approx(getattr(expected, name), abs=1e-9), name
    assert {name: figures[f"class_ap_50/{name}"] for name in NAMES} == pytest.approx(expected.class_ap_50, abs=1e-9)
    assert figures[f"class_ap_50/{NAMES[NEVER]}"] is None
    assert figures[f"class_ap_50/{NAMES[DIFFICULT_ONLY]}"] is None


def test_equal_scores_are_ranked_as_the_metric_ranks_them() -> None:
    pairs = random_boxes(3, count=20)
    tied: Labelled = [
        (Selection(found.boxes_xyxy, found.classes, found.scores.mul(4).round() / 4), truth) for found, truth in pairs
    ]
    whole = DetectionScores(len(NAMES))
    for index, (selection, target) in enumerate(tied):
        assert isinstance(target, Boxes)
        whole.update(index, selection.boxes_xyxy, selection.classes, selection.scores, target)
    found = statistics("detection", tied)
    assert found.figures(ones(found))["map"] == pytest.approx(whole.compute(NAMES).map, abs=1e-9)


def test_only_the_hundred_best_detections_of_a_class_in_a_picture_count() -> None:
    pairs = random_boxes(5, many=900)
    assert max(int(found.classes.bincount().max()) for found, _ in pairs) > 150
    whole = DetectionScores(len(NAMES))
    for index, (selection, target) in enumerate(pairs):
        assert isinstance(target, Boxes)
        whole.update(index, selection.boxes_xyxy, selection.classes, selection.scores, target)
    found = statistics("detection", pairs)
    expected = whole.compute(NAMES)
    figures = found.figures(ones(found))
    assert [figures[name] for name in found.scalars] == pytest.approx(
        [getattr(expected, name) for name in found.scalars], abs=1e-9
    )


@pytest.mark.parametrize("seed", range(3))
def test_with_weight_one_classification_figures_are_those_of_the_metric(seed: int) -> None:
    pairs = random_categories(seed)
    whole = ClassificationScores(len(NAMES))
    whole.update(torch.stack([row for row, _ in pairs]), torch.tensor([truth.index for _, truth in pairs]))  # type: ignore[union-attr]
    expected = whole.compute(NAMES)
    found = statistics("classification", pairs)
    assert found.figures(ones(found)) == {
        "accuracy": expected.accuracy,
        "top5_accuracy": expected.top5_accuracy,
        **{f"class_accuracy/{name}": value for name, value in expected.class_accuracy.items()},
    }


# Weights


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("seed", range(3))
def test_a_weight_counts_a_picture_as_often(task: str, seed: int) -> None:
    pairs = random_pictures(task, seed)
    weights = np.random.default_rng(seed).integers(0, 4, len(pairs))
    repeated = statistics(task, [pair for pair, often in zip(pairs, weights, strict=True) for _ in range(often)])
    once = statistics(task, pairs)
    assert once.figures(weights.astype(float)) == pytest.approx(repeated.figures(ones(repeated)), abs=1e-12)


class IgnoringCOCOeval(COCOeval):
    """COCO's own evaluation, which honours a box's `ignore` as it does ignored areas. It reads the key and drops it."""

    def _prepare(self) -> None:
        super()._prepare()
        for box in self.cocoGt.anns.values():
            box["ignore"] = box["difficult"] or box["iscrowd"]


def as_coco(picture: int, xyxy: list[float], c: int) -> dict[str, Any]:
    x1, y1, x2, y2 = xyxy
    size = x2 - x1, y2 - y1
    return {"image_id": picture, "category_id": int(c), "bbox": [x1, y1, *size], "area": size[0] * size[1]}


def by_pycocotools(pairs: Labelled) -> dict[str, float | None]:
    true, found = [], []
    for number, (selection, truth) in enumerate(pairs):
        assert isinstance(truth, Boxes)
        for box, c, difficult, crowd in zip(
            truth.xyxy.tolist(), truth.classes, truth.difficult, truth.crowd, strict=True
        ):
            true.append(as_coco(number, box, c) | {"difficult": int(difficult), "iscrowd": int(crowd)})
        for box, c, score in zip(selection.boxes_xyxy.tolist(), selection.classes, selection.scores, strict=True):
            found.append(as_coco(number, box, c) | {"score": float(score)})
    sets = []
    with contextlib.redirect_stdout(io.StringIO()):
        for rows in (true, found):
            coco = COCO()
            coco.dataset = {
                "images": [{"id": number} for number in range(len(pairs))],
                "categories": [{"id": c} for c in range(len(NAMES))],
                "annotations": [row | {"id": number} for number, row in enumerate(rows, start=1)],
            }
            coco.createIndex()
            sets.append(coco)
        evaluation = IgnoringCOCOeval(*sets, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    figures = dict(zip(("map", "map_50", "map_75", "mar_100"), evaluation.stats[[0, 1, 2, 8]].tolist(), strict=True))
    per_class = evaluation.eval["precision"][0, :, :, 0, 2].mean(axis=0).tolist()
    figures |= {f"class_ap_50/{name}": value for name, value in zip(NAMES, per_class, strict=True)}
    return {name: None if value == -1 else value for name, value in figures.items()}


@pytest.mark.parametrize("seed", range(12))
def test_weighted_detections_score_as_pycocotools_scores_duplicated_pictures(seed: int) -> None:
    pairs = random_boxes(seed)
    weights = np.random.default_rng(seed).multinomial(len(pairs), [1 / len(pairs)] * len(pairs))
    duplicated = [pair for pair, often in zip(pairs, weights, strict=True) for _ in range(often)]
    found = statistics("detection", pairs).figures(weights.astype(float))
    assert found == pytest.approx(by_pycocotools(duplicated), abs=1e-9)


def test_weighted_pixels_score_as_scikit_learn_counts_duplicated_pictures() -> None:
    pairs = random_masks(7)
    weights = np.random.default_rng(7).integers(0, 3, len(pairs))
    true = [target.classes.ravel() for (_, target), w in zip(pairs, weights, strict=True) for _ in range(w)]  # type: ignore[union-attr]
    guessed = [prediction.numpy().ravel() for (prediction, _), w in zip(pairs, weights, strict=True) for _ in range(w)]
    labelled = np.concatenate(true) != IGNORE
    matrix = confusion_matrix(np.concatenate(true)[labelled], np.concatenate(guessed)[labelled], labels=range(5))
    iou = matrix.diagonal() / np.maximum(matrix.sum(0) + matrix.sum(1) - matrix.diagonal(), 1)
    found = statistics("segmentation", pairs).figures(weights.astype(float))
    assert found["miou"] == pytest.approx(iou[[0, 2, 3, 4]].mean())
    assert found["pixel_accuracy"] == pytest.approx(matrix.trace() / matrix.sum())


def test_hand_checked_weights() -> None:
    # Picture 0: 3 of 4 pixels of class 0 right, one taken for class 1. Picture 1: both pixels of class 1 right.
    pairs: Labelled = [
        (torch.tensor([[0, 0, 0, 1]], dtype=torch.uint8), Mask(np.array([[0, 0, 0, 0]], dtype=np.uint8))),
        (torch.tensor([[1, 1]], dtype=torch.uint8), Mask(np.array([[1, 1]], dtype=np.uint8))),
    ]
    found = statistics("segmentation", pairs)
    figures = found.figures(np.array([1.0, 2.0]))
    assert figures["pixel_accuracy"] == pytest.approx(7 / 8)
    assert (figures["class_iou/car"], figures["class_iou/cow"]) == (pytest.approx(3 / 4), pytest.approx(4 / 5))
    assert figures["miou"] == pytest.approx((3 / 4 + 4 / 5) / 2)
    assert figures["frequency_weighted_iou"] == pytest.approx((3 / 4 + 4 / 5) / 2)
    assert figures["mean_accuracy"] == pytest.approx((3 / 4 + 1) / 2)
    assert figures["class_iou/bus"] is None


def test_a_class_whose_pictures_have_no_weight_is_undefined_and_in_no_mean() -> None:
    pairs: Labelled = [boxes([(0, 0, 9, 9, 0, 0.9)], [(0, 0, 9, 9, 0)]), boxes([], [(0, 0, 9, 9, 1)])]
    found = statistics("detection", pairs)
    assert found.figures(np.array([1.0, 1.0]))["map_50"] == pytest.approx(1 / 2)
    figures = found.figures(np.array([1.0, 0.0]))
    assert (figures["map_50"], figures["class_ap_50/cow"]) == (pytest.approx(1.0), None)
    assert set(found.figures(np.zeros(2)).values()) == {None}


def test_a_detection_in_a_crowd_is_ignored_and_only_one_in_another_difficult_box() -> None:
    inside: list[tuple[float, ...]] = [(50, 50, 90, 90, 0, 0.9), (50, 50, 90, 90, 0, 0.8), (0, 0, 10, 10, 0, 0.7)]
    for mark, expected in (("crowd", 1.0), ("difficult", 0.5)):
        found = statistics("detection", [boxes(inside, [(0, 0, 10, 10, 0), (50, 50, 90, 90, 0, mark)])])
        assert found.figures(ones(found))["map_50"] == pytest.approx(expected)


# Collecting


@pytest.mark.parametrize("task", TASKS)
def test_order_and_the_number_of_processes_change_nothing(task: str, tmp_path: Path) -> None:
    pairs = random_pictures(task)
    indices = list(range(len(pairs)))
    merged = collector_for(task, LABELS)
    for rank in (2, 0, 1):
        merged.merge(pickle.loads(pickle.dumps(collected(task, pairs, indices[rank::3][::-1]))))
    assert len(merged) == len(pairs)
    for name, found in (("whole", statistics(task, pairs)), ("merged", merged.finish())):
        write_pictures(tmp_path / f"{name}.npz", found)
    whole, other = (np.load(tmp_path / f"{name}.npz") for name in ("whole", "merged"))
    for array in whole.files:
        np.testing.assert_array_equal(other[array], whole[array], err_msg=array)


def test_a_picture_counts_once() -> None:
    pairs = random_masks(0)
    collector = collected("segmentation", pairs)
    with pytest.raises(ValueError, match="picture 3 is already"):
        collector.add(3, "street/3", *pairs[3])
    with pytest.raises(ValueError, match="picture 0 is already"):
        collector.merge(collected("segmentation", pairs, [0]))
    other = LabelMap.model_validate({"classes": [{"name": "tree", "value": 0}]})
    with pytest.raises(ValueError, match="cannot be merged"):
        collector.merge(collector_for("segmentation", other))


@pytest.mark.parametrize("task", TASKS)
def test_pictures_that_are_taken_are_as_if_collected_alone(task: str) -> None:
    pairs = random_pictures(task)
    places = np.array([7, 2, 4])
    taken = statistics(task, pairs).take(places)
    alone = statistics(task, [pairs[place] for place in places])
    assert taken.ids == ("street/7", "street/2", "street/4")
    np.testing.assert_array_equal(taken.truth().toarray(), alone.truth().toarray())
    weights = np.array([1.0, 3.0, 2.0])
    assert taken.figures(weights) == pytest.approx(alone.figures(weights), abs=1e-12)


@pytest.mark.parametrize("task", TASKS)
def test_no_pictures_have_no_figures(task: str) -> None:
    assert set(statistics(task, []).figures(np.zeros(0)).values()) == {None}


# Files


@pytest.mark.parametrize("task", TASKS)
def test_what_is_written_is_read_back(task: str, tmp_path: Path) -> None:
    found = statistics(task, random_pictures(task))
    write_pictures(tmp_path / "val/pictures.npz", found)
    again = read_pictures(tmp_path / "val/pictures.npz")
    assert (type(again), again.ids, again.names) == (type(found), found.ids, found.names)
    weights = np.random.default_rng(0).integers(0, 3, len(found.ids)).astype(float)
    assert again.figures(weights) == found.figures(weights)


def test_ids_of_any_kind_survive(tmp_path: Path) -> None:
    collector = collector_for("classification", LABELS)
    ids = ["straße/雨", "a b", "\udcff"]
    for index, id in enumerate(ids):
        collector.add(index, id, torch.eye(5)[index], Category(0))
    write_pictures(tmp_path / "pictures.npz", collector.finish())
    assert read_pictures(tmp_path / "pictures.npz").ids == tuple(ids)


def test_a_file_that_is_missing_damaged_or_newer_is_named(tmp_path: Path) -> None:
    path = tmp_path / "pictures.npz"
    with pytest.raises(RunError, match=r"pictures\.npz: no such file"):
        read_pictures(path)
    write_pictures(path, statistics("detection", random_boxes(0)))
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", whole[:400] + b"\0" * 80 + whole[480:]):
        path.write_bytes(damaged)
        with pytest.raises(RunError, match="cannot be read as the pictures"):
            read_pictures(path)
    np.savez(path, format=np.array(99))
    with pytest.raises(RunError, match="newer pixbox"):
        read_pictures(path)
