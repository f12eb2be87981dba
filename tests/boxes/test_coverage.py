"""Anchor coverage against hand arithmetic and the whole grid; suggested anchors against shapes that are known."""

import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pixbox.boxes import (
    Anchors,
    anchor_coverage,
    best_ious,
    compact_anchors,
    grid,
    octave_anchors,
    pairwise_iou,
    paper_anchors,
    suggest_anchors,
    torchvision_anchors,
)

BCCD = Path(__file__).parents[2].parent / "shared" / "data" / "bccd"
ONE_SHAPE = Anchors(strides=(8,), shapes=(((8, 8),),))


def random_boxes(count: int, size_hw: tuple[int, int], seed: int) -> NDArray[np.float64]:
    """Of all sizes from a pixel to twice the picture, anywhere from before it to behind it; some without area."""
    rng = np.random.default_rng(seed)
    extent = np.array(size_hw[::-1])
    centre = rng.uniform(-0.3, 1.3, (count, 2)) * extent
    # Centres halfway between two cells, at cells and on the border: where the nearest cell is in doubt.
    centre[::3] = centre[::3].round(-1) // 4 * 4
    sides = np.exp(rng.uniform(0, np.log(2 * extent), (count, 2)))
    sides[::17, 0] = 0
    return np.hstack((centre - sides / 2, centre + sides / 2))


@pytest.mark.parametrize("anchors", [compact_anchors(), paper_anchors(), torchvision_anchors()])
@pytest.mark.parametrize("size_hw", [(96, 160), (97, 61), (200, 333), (5, 7)])
def test_the_best_iou_equals_that_of_the_whole_grid(anchors: Anchors, size_hw: tuple[int, int]) -> None:
    boxes = random_boxes(300, size_hw, seed=sum(size_hw))
    every = pairwise_iou(torch.from_numpy(boxes), grid(anchors, size_hw))
    np.testing.assert_allclose(best_ious(boxes, anchors, size_hw), every.amax(dim=1), atol=1e-5)


def test_boxes_of_pictures_of_different_sizes_meet_their_own_grids() -> None:
    sizes = [(40, 64), (128, 72), (33, 90)]
    boxes = [random_boxes(50, size, seed=k) for k, size in enumerate(sizes)]
    together = best_ious(np.vstack(boxes), paper_anchors(), np.repeat(sizes, 50, axis=0))
    alone = [best_ious(own, paper_anchors(), size) for own, size in zip(boxes, sizes, strict=True)]
    np.testing.assert_array_equal(together, np.concatenate(alone))


def test_a_box_at_exactly_the_threshold_is_reached() -> None:
    # The anchor at the first cell is (0, 0, 8, 8); half of it, a quarter of it, all of it.
    boxes = [[0, 0, 8, 4], [2, 2, 6, 6], [0, 0, 8, 8]]
    coverage = anchor_coverage(boxes, ONE_SHAPE, (16, 16), iou_threshold=0.5)
    assert coverage.best_ious.tolist() == [0.5, 0.25, 1.0]
    assert coverage.recall == pytest.approx(2 / 3)
    assert coverage.mean_iou == pytest.approx(1.75 / 3)
    assert coverage.unreached.tolist() == [1]


def test_a_box_behind_the_last_cell_meets_the_last_cell() -> None:
    # One cell, anchor (0, 0, 8, 8); the box shares its right half.
    assert best_ious([[4, 0, 12, 8]], ONE_SHAPE, (8, 8)).tolist() == [pytest.approx(4 / 12)]


def test_without_boxes_there_is_no_recall() -> None:
    coverage = anchor_coverage(np.empty((0, 4)), compact_anchors(), np.empty((0, 2), dtype=np.int64))
    assert coverage.recall is None
    assert coverage.mean_iou is None
    assert coverage.unreached.tolist() == []
    assert best_ious([], compact_anchors(), (64, 64)).shape == (0,)


def test_a_box_without_area_is_reached_by_none() -> None:
    assert best_ious([[4, 4, 4, 4], [6, 2, 2, 6]], ONE_SHAPE, (16, 16)).tolist() == [0, 0]


def test_arrays_of_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(N, 4\), not \(2, 2\)"):
        best_ious([[1, 2], [3, 4]], ONE_SHAPE, (16, 16))
    with pytest.raises(ValueError, match="without pixels"):
        best_ious([[0, 0, 4, 4]], ONE_SHAPE, (0, 16))


def drawn_from(
    shapes: list[tuple[float, float]], count: int, levels: int, spread: float, seed: int = 0
) -> NDArray[np.float64]:
    """(count, 2) widths and heights: a random shape, doubled for a random level, each side off by a random factor."""
    rng = np.random.default_rng(seed)
    sides = np.array(shapes)[rng.integers(len(shapes), size=count)]
    return sides * 2.0 ** rng.integers(levels, size=(count, 1)) * np.exp(rng.normal(0, spread, (count, 2)))


@pytest.mark.parametrize("levels", [1, 4])
def test_the_three_shapes_that_boxes_were_drawn_from_are_found(levels: int) -> None:
    shapes = [(24.0, 40.0), (36.0, 36.0), (60.0, 30.0)]
    found = suggest_anchors(drawn_from(shapes, 2000, levels, spread=0.05), 3, levels)
    np.testing.assert_allclose(found, shapes, rtol=0.03)


def test_suggested_shapes_grow_in_area_and_do_not_depend_on_the_order_of_boxes() -> None:
    boxes = drawn_from([(20, 30), (50, 25)], 500, 4, spread=0.3)
    found = suggest_anchors(boxes, 5, 4)
    areas = [width * height for width, height in found]
    assert areas == sorted(areas)
    assert suggest_anchors(boxes[::-1], 5, 4) == found
    assert suggest_anchors(boxes, 5, 4, seed=0) == found


def test_boxes_larger_than_any_level_keep_their_size_on_the_last() -> None:
    # Level 1 doubles, so 2000 x 1000 needs 1000 x 500 at stride 8.
    [shape] = suggest_anchors([(2000, 1000)] * 5, 1, 2)
    assert shape == (1000, 500)


def test_fewer_different_boxes_give_fewer_shapes() -> None:
    assert suggest_anchors([(40, 40)] * 9 + [(80, 80)], 3, 4) == ((40, 40),)
    assert len(suggest_anchors([(40, 40), (20, 60)], 3, 4)) == 2


def test_boxes_without_area_are_left_out() -> None:
    odd = [(0, 0), (0, 30), (-5, 30), (math.nan, 30), (math.inf, 30)]
    assert suggest_anchors([(40, 40), *odd], 1, 4) == ((40, 40),)
    assert suggest_anchors(odd, 3, 4) == ()
    assert suggest_anchors([], 3, 4) == ()


def test_more_boxes_than_are_looked_at_give_nearly_the_same_shapes() -> None:
    boxes = drawn_from([(30, 36), (52, 28)], 60_000, 4, spread=0.1)
    np.testing.assert_allclose(suggest_anchors(boxes, 2, 4), suggest_anchors(boxes[:6000], 2, 4), rtol=0.03)


def test_suggested_anchors_reach_more_of_wide_boxes_than_fixed_ones() -> None:
    rng = np.random.default_rng(0)
    sides = drawn_from([(64, 13)], 400, 3, spread=0.1)
    corner = rng.uniform(0, 1, (400, 2)) * ((640, 480) - sides)
    boxes = np.hstack((corner, corner + sides))
    before = anchor_coverage(boxes, compact_anchors(), (480, 640))
    after = anchor_coverage(boxes, octave_anchors(suggest_anchors(sides, 3, 4), 4), (480, 640))
    assert before.recall is not None
    assert after.recall is not None
    # At best a 39.6 x 19.8 anchor shares 39.6 x 13 of 64 x 13 or its double: an IoU below a half.
    assert before.recall < 0.5
    assert after.recall > 0.9


@pytest.mark.skipif(not BCCD.exists(), reason="needs the blood cell pictures")
@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_suggested_anchors_reach_more_of_the_blood_cells_than_fixed_ones(scale: float) -> None:
    corners = [
        [float(box.findtext(name, "")) for name in ("xmin", "ymin", "xmax", "ymax")]
        for file in sorted((BCCD / "Annotations").glob("*.xml"))
        for box in ElementTree.parse(file).iter("bndbox")
    ]
    boxes = np.array(corners) * scale
    assert len(boxes) == 3943
    size_hw = (int(480 * scale), int(640 * scale))
    before = anchor_coverage(boxes, compact_anchors(), size_hw)
    after = anchor_coverage(boxes, octave_anchors(suggest_anchors(boxes[:, 2:] - boxes[:, :2], 3, 4), 4), size_hw)
    assert before.recall is not None
    assert after.recall is not None
    assert before.mean_iou is not None
    assert after.mean_iou is not None
    assert after.recall > before.recall
    assert after.mean_iou > before.mean_iou + 0.1
