from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixbox.errors import ConfigError
from pixbox.labels import LabelMap
from pixbox.results import Categorization

LABELS = LabelMap.model_validate({"classes": ["cat", "dog", "hen", "owl"]})
IMAGE = np.full((60, 80, 3), 100, np.uint8)


def categorization(*probabilities: float) -> Categorization:
    return Categorization("x", IMAGE, np.array(probabilities, np.float32), LABELS)


def test_probabilities_that_are_none_are_refused() -> None:
    for wrong, words in (((0.5, 0.5), "expected"), ((0.5, 0.6, -0.1, 0), "within 0 and 1"), ((0.1,) * 4, "sum to 1")):
        with pytest.raises(ValueError, match=words):
            categorization(*wrong)
    with pytest.raises(ValueError, match="float32"):
        Categorization("x", IMAGE, np.array([0.25] * 4), LABELS)


def test_words_name_the_likeliest_three() -> None:
    assert repr(categorization(0.1, 0.2, 0.7, 0)) == "Categorization(x, 80 x 60 pixels: hen 0.70, dog 0.20, cat 0.10)"


def test_the_class_and_its_probabilities_are_saved(tmp_path: Path) -> None:
    result = categorization(0.125, 0.25, 0.625, 0)
    paths = result.save(tmp_path / "a.json", ["overlay"])
    assert [path.name for path in paths] == ["a.json", "a_overlay.png"]
    saved = json.loads(paths[0].read_text())
    assert saved["class"] == "hen"
    assert list(saved["probabilities"].items()) == [("hen", 0.625), ("dog", 0.25), ("cat", 0.125), ("owl", 0)]
    np.testing.assert_array_equal(np.asarray(Image.open(paths[1])), result.overlay())
    assert Image.open(io.BytesIO(result._repr_png_())).size == (80, 60)
    assert result.save(tmp_path / "b", ["classes"]) == [tmp_path / "b" / "x.json"]
    with pytest.raises(ConfigError, match="has no `side_by_side`"):
        result.save(tmp_path, ["side_by_side"])
