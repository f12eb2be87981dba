from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pixbox.labels import IGNORE, LabelMap
from pixbox.sample import Batch, Boxes, Mask, Sample, Segmentation

LABELS = LabelMap.model_validate({"classes": [{"name": "a", "color": "#ff0000"}, {"name": "b", "color": "#0000ff"}]})


def segmentation(**changes: object) -> Segmentation:
    parts = {
        "name": "x",
        "image": np.full((2, 3, 3), 100, np.uint8),
        "mask": np.array([[0, 1, 1], [0, 0, IGNORE]], np.uint8),
        "labels": LABELS,
        "probabilities": np.full((2, 2, 3), 0.5, np.float32),
        **changes,
    }
    return Segmentation(**parts)  # type: ignore[arg-type]


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


def test_results_refuse_parts_of_different_sizes() -> None:
    with pytest.raises(ValueError, match="uint8"):
        segmentation(mask=np.zeros((2, 3), np.int64))
    with pytest.raises(ValueError, match="the picture is"):
        segmentation(image=np.zeros((3, 2, 3), np.uint8))
    with pytest.raises(ValueError, match="probabilities"):
        segmentation(probabilities=np.zeros((3, 2, 3), np.float32))


def test_result_saves_a_palette_png_of_indices_and_what_is_asked_for_beside_it(tmp_path: Path) -> None:
    result = segmentation()
    paths = result.save(tmp_path / "out", ["overlay", "colors", "probabilities"])
    assert [path.name for path in paths] == ["x.png", "x_overlay.png", "x_colors.png", "x_probabilities.npz"]
    mask = Image.open(paths[0])
    assert mask.mode == "P"
    np.testing.assert_array_equal(np.asarray(mask), result.mask)
    colors = np.array([[[255, 0, 0], [0, 0, 255], [0, 0, 255]], [[255, 0, 0], [255, 0, 0], [0, 0, 0]]])
    np.testing.assert_array_equal(np.asarray(mask.convert("RGB")), colors)
    np.testing.assert_array_equal(np.asarray(Image.open(paths[2])), colors)
    assert Image.open(paths[1]).size == (3, 2)
    np.testing.assert_array_equal(np.load(paths[3])["probabilities"], result.probabilities)


def test_result_saves_under_the_file_name_given(tmp_path: Path) -> None:
    assert segmentation().save(tmp_path / "a" / "b.png", ["colors"]) == [
        tmp_path / "a" / "b.png",
        tmp_path / "a" / "b_colors.png",
    ]
    with pytest.raises(ValueError, match="without probabilities"):
        segmentation(probabilities=None).save(tmp_path, ["probabilities"])


def test_samples_copy_deeply() -> None:
    sample = Sample("x", np.zeros((2, 2, 3), np.uint8), Mask(np.zeros((2, 2), np.uint8)))
    other = copy.deepcopy(sample)
    other.image[:] = 1
    assert sample.image.max() == 0
