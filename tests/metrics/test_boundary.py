"""Boundary IoU and F-score by hand, and against the definitions in SciPy's distance transforms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from pixbox.labels import IGNORE
from pixbox.metrics import BoundaryMetrics, BoundaryScores, boundary

NAMES = ["left", "right", "third"]


def scored(prediction: np.ndarray, target: np.ndarray, classes: int = 2) -> BoundaryMetrics:
    scores = BoundaryScores(classes)
    scores.update(torch.from_numpy(prediction), torch.from_numpy(target))
    return scores.compute(NAMES[:classes])


def halves(edge: int, size_hw: tuple[int, int] = (30, 40)) -> np.ndarray:
    """Class 0 in the columns below ``edge``, class 1 in the others."""
    classes = np.zeros(size_hw, dtype=np.uint8)
    classes[:, edge:] = 1
    return classes


def random_masks(seed: int, size_hw: tuple[int, int] = (70, 90)) -> tuple[np.ndarray, np.ndarray]:
    """A prediction and a truth of three classes that look alike, with void in the truth."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=(3, *size_hw)), (0, 6, 6))
    other = smooth + 0.3 * ndimage.gaussian_filter(rng.normal(size=(3, *size_hw)), (0, 5, 5))
    truth = smooth.argmax(axis=0).astype(np.uint8)
    truth[ndimage.gaussian_filter(rng.normal(size=size_hw), 3) > 0.15] = IGNORE
    return other.argmax(axis=0).astype(np.uint8), truth


def scipy_band(classes: np.ndarray, void: np.ndarray, index: int, width: int) -> np.ndarray:
    """The pixels of a class from which a pixel of another class, or the outside, is at most ``width`` moves of a
    chess king away."""
    others = np.pad((classes != index) & ~void, 1, constant_values=True)
    distance = ndimage.distance_transform_cdt(~others, metric="chessboard")[1:-1, 1:-1]
    return (classes == index) & ~void & (distance <= width)


def scipy_contour(classes: np.ndarray, void: np.ndarray, index: int) -> np.ndarray:
    others = (classes != index) & ~void
    return (classes == index) & ~void & ndimage.binary_dilation(others)


def near(what: np.ndarray, reach: float) -> np.ndarray:
    return ndimage.distance_transform_edt(~what) <= reach if what.any() else np.zeros(what.shape, dtype=bool)


@pytest.mark.parametrize("size_hw", [(70, 90), (300, 400), (5, 7)])
def test_both_scores_equal_their_definitions_in_scipy(size_hw: tuple[int, int]) -> None:
    scores = BoundaryScores(3)
    intersection, union, met, contours = np.zeros(3), np.zeros(3), np.zeros((2, 3)), np.zeros((2, 3))
    for seed in range(4):
        found, truth = random_masks(seed, size_hw)
        scores.update(torch.from_numpy(found), torch.from_numpy(truth))
        void, nothing, diagonal = truth == IGNORE, np.zeros(size_hw, dtype=bool), math.hypot(*size_hw)
        for index in range(3):
            bands = [scipy_band(mask, void, index, max(1, round(0.02 * diagonal))) for mask in (found, truth)]
            intersection[index] += (bands[0] & bands[1]).sum()
            union[index] += (bands[0] | bands[1]).sum()
            found_contour, true_contour = scipy_contour(found, nothing, index), scipy_contour(truth, void, index)
            judged = found_contour & ~near(void, 0.0075 * diagonal)
            contours[:, index] += judged.sum(), true_contour.sum()
            met[0, index] += (judged & near(true_contour, 0.0075 * diagonal)).sum()
            met[1, index] += (true_contour & near(found_contour, 0.0075 * diagonal)).sum()
    metrics = scores.compute(NAMES)
    assert list(metrics.class_boundary_iou.values()) == pytest.approx(intersection / union)
    assert metrics.boundary_iou == pytest.approx((intersection / union).mean())
    if size_hw != (5, 7):
        precision, recall = met / contours
        assert 0.05 < metrics.boundary_f1 < 0.99  # type: ignore[operator]
        f1 = 2 * precision * recall / (precision + recall)
        assert list(metrics.class_boundary_f1.values()) == pytest.approx(f1)


@pytest.mark.parametrize("size_hw", [(300, 120), (90, 33), (40, 200), (9, 2)])
def test_a_picture_in_strips_scores_as_in_one(monkeypatch: pytest.MonkeyPatch, size_hw: tuple[int, int]) -> None:
    for seed in range(3):
        found, truth = random_masks(seed, size_hw)
        monkeypatch.setattr(boundary, "_AT_ONCE", 1 << 24)
        whole = scored(found, truth, 3)
        monkeypatch.setattr(boundary, "_AT_ONCE", 1)
        assert scored(found, truth, 3) == whole


def test_equal_masks_score_one() -> None:
    metrics = scored(halves(17), halves(17))
    assert (metrics.boundary_iou, metrics.boundary_f1) == (1.0, 1.0)


def test_an_edge_one_column_off_by_hand() -> None:
    # The diagonal of 30 x 40 is 50: bands are 1 pixel wide, contours may be 0.375 pixels apart, that is, none.
    metrics = scored(halves(20), halves(21))
    # Left truth: columns 0 and 20 and both ends of the 19 others, prediction: likewise to column 19. They share
    # column 0 and both ends of columns 1 to 18; each has a column of 30, and at 19 two pixels are the other's, too.
    shared = 30 + 2 * 18 + 2
    assert metrics.class_boundary_iou["left"] == pytest.approx(
        shared / ((30 + 30 + 2 * 19) + (30 + 30 + 2 * 18) - shared)
    )
    assert metrics.class_boundary_f1 == {"left": 0.0, "right": 0.0}


def test_contours_within_the_tolerance_meet() -> None:
    # The diagonal of 300 x 400 is 500: the tolerance is 3.75 pixels.
    assert scored(halves(200, (300, 400)), halves(203, (300, 400))).boundary_f1 == 1.0
    assert scored(halves(200, (300, 400)), halves(204, (300, 400))).boundary_f1 == 0.0


def test_a_distance_of_just_the_tolerance_is_within() -> None:
    # 240 x 320 has the diagonal 400 and the tolerance 3.
    assert scored(halves(100, (240, 320)), halves(103, (240, 320))).boundary_f1 == 1.0
    assert scored(halves(100, (240, 320)), halves(104, (240, 320))).boundary_f1 == 0.0


def test_what_is_predicted_in_void_changes_nothing_far_from_it() -> None:
    truth = halves(20)
    truth[:, 30:] = IGNORE
    wrong = halves(20)
    wrong[5:9, 34:38] = 0
    assert scored(wrong, truth) == scored(halves(20), truth)
    assert scored(wrong, truth).boundary_f1 == 1.0


def test_void_along_an_edge_makes_no_boundary_and_hides_none() -> None:
    # 300 x 400: bands are 10 pixels wide, the strip of void 4.
    truth = halves(200, (300, 400))
    truth[:, 198:202] = IGNORE
    metrics = scored(halves(201, (300, 400)), truth)
    # The edge lies in the void: where, nobody knows. Bands see across it.
    assert metrics.boundary_iou == 1.0
    assert metrics.boundary_f1 is None
    assert scored(halves(190, (300, 400)), truth).boundary_iou < 1.0  # type: ignore[operator]


def test_a_class_that_is_only_in_one_of_both_scores_zero_and_an_absent_one_nothing() -> None:
    metrics = scored(np.zeros((30, 40), dtype=np.uint8), halves(20), classes=3)
    assert metrics.class_boundary_iou["right"] == 0.0
    assert metrics.class_boundary_f1["right"] == 0.0
    assert metrics.class_boundary_iou["third"] is None
    assert metrics.class_boundary_f1["third"] is None


def test_a_picture_of_one_class_has_a_border_but_no_contour() -> None:
    whole = np.zeros((30, 40), dtype=np.uint8)
    metrics = scored(whole, whole)
    assert metrics.class_boundary_iou == {"left": 1.0, "right": None}
    assert metrics.boundary_f1 is None


def test_a_picture_that_is_all_void_counts_nothing() -> None:
    metrics = scored(halves(20), np.full((30, 40), IGNORE, dtype=np.uint8))
    assert (metrics.boundary_iou, metrics.boundary_f1) == (None, None)


def test_merged_parts_equal_the_whole() -> None:
    whole, parts = BoundaryScores(3), [BoundaryScores(3) for _ in range(2)]
    for seed in range(5):
        found, truth = (torch.from_numpy(mask) for mask in random_masks(seed))
        whole.update(found, truth)
        parts[seed % 2].update(found, truth)
    parts[1].merge(parts[0])
    assert parts[1].compute(NAMES) == whole.compute(NAMES)


def test_shapes_and_classes_that_do_not_fit_are_refused() -> None:
    scores = BoundaryScores(2)
    with pytest.raises(ValueError, match="class 2"):
        scores.update(torch.full((4, 4), 2, dtype=torch.uint8), torch.zeros(4, 4, dtype=torch.uint8))
    with pytest.raises(ValueError, match="no two"):
        scores.update(torch.zeros(4, 4, dtype=torch.uint8), torch.zeros(4, 5, dtype=torch.uint8))
