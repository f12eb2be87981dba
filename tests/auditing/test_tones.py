from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from pixbox.auditing import tones
from pixbox.auditing.tones import Tally, as_points, as_source, as_tone, count_tones, mixtures, tones_of
from pixbox.data.mask_facts import mask_facts
from pixbox.labels import RawMask

PALETTE = np.array([(1, 2, 3), (255, 0, 16)], np.uint8)


def test_a_tone_is_a_value_or_red_green_and_blue_in_one_number() -> None:
    assert as_tone((0x12, 0x34, 0x56)) == 0x123456
    assert as_source(0x123456, "colors") == (0x12, 0x34, 0x56)
    assert as_source(4660, "values") == 4660
    assert as_points(np.array([0x123456]), "colors").tolist() == [[0x12, 0x34, 0x56]]


def test_masks_of_every_kind_have_tones_as_label_maps_read_them() -> None:
    grey = RawMask(np.array([[7, 255]], np.uint8))
    assert tones_of(grey, "values").tolist() == [[7, 255]]
    assert tones_of(grey, "colors").tolist() == [[0x070707, 0xFFFFFF]]
    color = RawMask(np.array([[(1, 1, 1), (0xAB, 0xCD, 0xEF)]], np.uint8))
    assert tones_of(color, "colors").tolist() == [[0x010101, 0xABCDEF]]
    indexed = RawMask(np.array([[1, 0, 5]], np.uint8), PALETTE)
    assert tones_of(indexed, "values").tolist() == [[1, 0, 5]]
    # An index beyond the palette is black.
    assert tones_of(indexed, "colors").tolist() == [[0xFF0010, 0x010203, 0]]


def test_indices_of_one_colour_are_one_tone() -> None:
    palette = np.array([(9, 9, 9), (9, 9, 9), (0, 0, 1)], np.uint8)
    facts = mask_facts(RawMask(np.array([[0, 0, 1], [2, 2, 1]], np.uint8), palette))
    found, counts = count_tones(facts, "colors")
    assert dict(zip(found.tolist(), counts.tolist(), strict=True)) == {1: 2, 0x090909: 4}


def test_a_census_adds_up_pixels_and_remembers_where_each_tone_has_its_largest_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tones, "_BUFFERED", 20)  # So that it is merged on the way.
    rng = np.random.default_rng(0)
    masks = [rng.integers(0, 9, (4, 5 + number)) for number in range(30)]
    tally = Tally()
    for number, mask in enumerate(masks):
        tally.add(*np.unique(mask, return_counts=True), number)
    census = tally.census()
    assert census.masks == 30
    for index, tone in enumerate(census.tones.tolist()):
        shares = [float((mask == tone).mean()) for mask in masks]
        assert census.pixels[index] == sum(int((mask == tone).sum()) for mask in masks)
        assert census.peaks[index] == max(shares)
        assert shares[census.peak_files[index]] == max(shares)
        assert census.peak_sizes[index] == len(np.unique(masks[census.peak_files[index]]))


def test_mixtures_lie_on_the_line_between_two_labels() -> None:
    labels = np.array([(0, 0, 0), (200, 0, 0), (0, 100, 0)], dtype=float)
    points = np.array([(50, 0, 0), (0, 25, 0), (100, 50, 0), (0, 0, 30)], dtype=float)
    off, along = mixtures(points, labels)
    assert off.tolist() == pytest.approx([0, 0, 0, 30], abs=1e-9)
    # A quarter from one end or the other; the middle of the long side.
    assert np.minimum(along, 1 - along)[:3].tolist() == pytest.approx([0.25, 0.25, 0.5])


def test_of_grey_values_the_labels_next_to_them_count() -> None:
    off, along = mixtures(np.array([[90.0]]), np.array([[0.0], [80.0], [120.0], [255.0]]))
    assert off[0] == 0
    assert min(along[0], 1 - along[0]) == pytest.approx(0.25)


@pytest.mark.parametrize(("gap", "widest"), [(1, 0), (2, 0), (3, 1), (64, 31), (128, 63), (255, 127), (math.inf, 127)])
def test_balls_of_the_widest_tolerance_do_not_meet(gap: float, widest: int) -> None:
    assert tones.widest_tolerance(gap) == widest


@pytest.mark.parametrize(
    ("loose", "counts", "verdict"),
    [
        (list(range(10, 250, 10)), [5] * 24, "soft"),
        ([1, 2, 3, 252, 253, 254], [60, 30, 9, 9, 30, 60], "lossy"),
        ([77], [5], "labels"),
        ([254], [3], "labels"),
    ],
)
def test_mixtures_from_end_to_end_are_soft_and_what_gathers_about_labels_is_noise(
    loose: list[int], counts: list[int], verdict: str
) -> None:
    def points(values: list[int]) -> NDArray[np.float64]:
        return as_points(np.array(values), "values")

    assert tones.judge(points(loose), np.array(counts), points([0, 255]), 255, is_jpeg=False) == verdict
    # Between class indices there is no room for noise.
    assert tones.judge(points([3, 4, 5]), np.array([1, 1, 1]), points([2, 6]), 1, is_jpeg=False) == "labels"
