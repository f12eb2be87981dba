from __future__ import annotations

import numpy as np
import pytest
from faster_coco_eval.core import mask as faster_mask
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from rasterio.features import rasterize
from scipy import ndimage

from pixbox.labels import IGNORE
from pixbox.results.outlines import Corners, cut_holes, find_regions

SEEDS = range(60)


def random_mask(seed: int) -> NDArray[np.uint8]:
    """A few classes and ignored pixels, from noise, which has every kind of corner, to blots with holes."""
    rng = np.random.default_rng(seed)
    mask = rng.integers(0, 1 + seed % 4, rng.integers(1, 16, 2)).astype(np.uint8)
    if seed % 2:
        mask = mask.repeat(2, axis=0).repeat(3, axis=1)
    mask[rng.random(mask.shape) < 0.1] = IGNORE
    return mask


def signed_area(ring: Corners) -> float:
    """By the shoelace formula."""
    x, y = ring.astype(float).T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def painted(rings: list[Corners], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The pixels of a polygon with holes, as rasterio fills it."""
    closed = [np.concatenate([ring, ring[:1]]).tolist() for ring in rings]
    return rasterize([({"type": "Polygon", "coordinates": closed}, 1)], out_shape=shape).astype(bool)


def test_a_single_pixel_is_a_unit_square() -> None:
    (region,) = find_regions(np.array([[3]], np.uint8))
    assert (region.index, region.pixels, region.holes) == (3, 1, ())
    assert region.outline.tolist() == [[0, 0], [1, 0], [1, 1], [0, 1]]


def test_straight_borders_have_corners_only() -> None:
    (region,) = find_regions(np.zeros((40, 70), np.uint8))
    assert region.outline.tolist() == [[0, 0], [70, 0], [70, 40], [0, 40]]


def test_pixels_that_meet_at_a_corner_are_two_regions() -> None:
    mask = np.array([[1, IGNORE], [IGNORE, 1]], np.uint8)
    assert [region.outline[0].tolist() for region in find_regions(mask)] == [[0, 0], [1, 1]]


def test_a_ring_has_a_hole_that_runs_the_other_way_round() -> None:
    mask = np.zeros((3, 3), np.uint8)
    mask[1, 1] = IGNORE
    (region,) = find_regions(mask)
    (hole,) = region.holes
    assert signed_area(region.outline) == 9
    assert signed_area(hole) == -1
    assert {tuple(corner) for corner in hole.tolist()} == {(1, 1), (2, 1), (2, 2), (1, 2)}


def test_holes_that_meet_at_a_corner_are_two_and_one_that_meets_the_outside_is_a_hole() -> None:
    mask = np.zeros((4, 4), np.uint8)
    mask[1, 1] = mask[2, 2] = IGNORE
    (region,) = find_regions(mask)
    assert [signed_area(hole) for hole in region.holes] == [-1, -1]
    mask = np.zeros((3, 3), np.uint8)
    mask[0, 0] = mask[1, 1] = IGNORE
    (region,) = find_regions(mask)
    assert signed_area(region.outline) == 8
    assert [signed_area(hole) for hole in region.holes] == [-1]


def test_ignored_pixels_and_empty_masks_have_no_regions() -> None:
    assert find_regions(np.full((3, 3), IGNORE, np.uint8)) == []
    for shape in ((0, 4), (4, 0)):
        assert find_regions(np.zeros(shape, np.uint8)) == []


@pytest.mark.parametrize("seed", SEEDS)
def test_regions_are_the_connected_components_that_scipy_finds(seed: int) -> None:
    mask = random_mask(seed)
    expected = []
    for index in set(np.unique(mask).tolist()) - {IGNORE}:
        numbers, count = ndimage.label(mask == index)
        expected += [(index, int((numbers == number).sum())) for number in range(1, count + 1)]
    assert sorted((region.index, region.pixels) for region in find_regions(mask)) == sorted(expected)


@pytest.mark.parametrize("seed", SEEDS)
def test_outlines_and_holes_filled_by_rasterio_give_the_mask(seed: int) -> None:
    mask = random_mask(seed)
    again = np.full(mask.shape, IGNORE, np.uint8)
    for region in find_regions(mask):
        pixels = painted([region.outline, *region.holes], mask.shape)
        assert (again[pixels] == IGNORE).all(), "regions overlap"
        again[pixels] = region.index
    np.testing.assert_array_equal(again, mask)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_border_touches_itself_and_areas_add_up(seed: int) -> None:
    for region in find_regions(random_mask(seed)):
        for ring in (region.outline, *region.holes):
            assert len(np.unique(ring, axis=0)) == len(ring)
        assert signed_area(region.outline) + sum(map(signed_area, region.holes)) == region.pixels
        assert all(signed_area(hole) < 0 for hole in region.holes)


@pytest.mark.parametrize("seed", SEEDS)
def test_parts_without_holes_decoded_by_the_coco_tools_give_the_region(seed: int) -> None:
    mask = random_mask(seed)
    regions = find_regions(mask)
    for region, parts in zip(regions, cut_holes(mask, regions), strict=True):
        expected = painted([region.outline, *region.holes], mask.shape)
        flat = [part.ravel().astype(float).tolist() for part in parts]
        for tool in (coco_mask, faster_mask):
            decoded = tool.decode(tool.merge(tool.frPyObjects(flat, *mask.shape)))
            np.testing.assert_array_equal(decoded.astype(bool), expected)
        assert sum(map(signed_area, parts)) == region.pixels, "parts overlap"


def test_a_region_with_holes_is_cut_into_few_parts() -> None:
    mask = np.zeros((100, 100), np.uint8)
    mask[10::20, 10::20] = 1
    regions = find_regions(mask)
    ground = cut_holes(mask, regions)[0]
    # Five rows of five holes lie at five heights: each cuts the region once from side to side.
    assert len(regions[0].holes) == 25
    assert len(ground) == 6


def test_holes_are_cut_for_the_regions_that_are_asked_for() -> None:
    mask = np.zeros((7, 7), np.uint8)
    mask[1:6, 1:6] = 1
    mask[3, 3] = 2
    chosen = [region for region in find_regions(mask) if region.index == 1]
    (parts,) = cut_holes(mask, chosen)
    assert len(parts) == 2
    assert sum(map(signed_area, parts)) == 24
