from __future__ import annotations

import copy

import numpy as np
import pytest
import rasterio
import torch

from pixbox.sample import Batch, Boxes, Georeference, Mask, Sample


def test_a_mask_is_two_dimensional_bytes() -> None:
    for wrong in (np.zeros((2, 2), np.int64), np.zeros((2, 2, 1), np.uint8)):
        with pytest.raises(ValueError, match="uint8"):
            Mask(wrong)
    assert Mask(np.zeros((2, 3), np.uint8)).classes.shape == (2, 3)


def test_boxes_classes_and_flags_must_agree_in_number() -> None:
    boxes = np.zeros((2, 4), np.float32)
    no = np.zeros(2, bool)
    Boxes(boxes, np.zeros(2, np.int64), no, no)
    with pytest.raises(ValueError, match="do not agree"):
        Boxes(boxes, np.zeros(3, np.int64), np.zeros(3, bool), np.zeros(3, bool))
    for wrong in ((no[:1], no), (no, no[:1])):
        with pytest.raises(ValueError, match="do not agree"):
            Boxes(boxes, np.zeros(2, np.int64), *wrong)


def test_a_crowd_is_difficult() -> None:
    boxes, one = np.zeros((2, 4), np.float32), np.array([True, False])
    Boxes(boxes, np.zeros(2, np.int64), np.ones(2, bool), one)
    with pytest.raises(ValueError, match="crowds are some of the difficult"):
        Boxes(boxes, np.zeros(2, np.int64), ~one, one)


def test_size_is_rows_then_columns() -> None:
    assert Sample("x", np.zeros((2, 5, 3), np.uint8), None).size_hw == (2, 5)


def test_batch_moves_whole_and_counts_pictures() -> None:
    batch = Batch(torch.zeros(2, 3, 4, 5, dtype=torch.uint8), torch.zeros(2, 4, 5, dtype=torch.uint8), ("a", "b"))
    moved = batch.to("meta")
    assert (moved.images.device.type, moved.targets.device.type) == ("meta", "meta")
    assert (len(moved), moved.ids) == (2, ("a", "b"))
    assert batch.images.device.type == "cpu"


def test_samples_copy_deeply() -> None:
    sample = Sample("x", np.zeros((2, 2, 3), np.uint8), Mask(np.zeros((2, 2), np.uint8)))
    other = copy.deepcopy(sample)
    other.image[:] = 1
    assert sample.image.max() == 0


def test_a_georeference_carries_pixels_to_the_map_as_rasterio_does() -> None:
    place = Georeference("EPSG:32633", (0.3, 0.1, 4000.0, 0.2, -0.5, 900.0), metres_per_unit=0.3048)
    affine = rasterio.Affine(*place.transform)
    places = np.array([(0, 0), (7, 0), (3, 5)], np.float64)
    np.testing.assert_allclose(place.to_map(places), [affine @ tuple(xy) for xy in places])
    assert place.determinant == pytest.approx(affine.determinant)
    assert place.square_metres == pytest.approx(abs(affine.determinant) * 0.3048**2)
    assert Georeference("EPSG:4326", (1e-5, 0, 11, 0, -1e-5, 48)).square_metres is None


def test_a_georeference_that_flattens_the_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="no picture"):
        Georeference("EPSG:32633", (1.0, 2.0, 0.0, 2.0, 4.0, 0.0))
    with pytest.raises(ValueError, match="no picture"):
        Georeference("EPSG:32633", (1.0, 0.0, float("nan"), 0.0, 1.0, 0.0))
    with pytest.raises(ValueError, match="metres"):
        Georeference("EPSG:32633", (1.0, 0.0, 0.0, 0.0, -1.0, 0.0), metres_per_unit=0.0)
