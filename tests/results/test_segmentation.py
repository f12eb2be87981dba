from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixbox.labels import IGNORE, LabelMap
from pixbox.results import Segmentation

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
