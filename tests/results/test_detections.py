from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixbox.errors import ConfigError
from pixbox.labels import LabelMap
from pixbox.results import Detections
from pixbox.sample import Georeference

LABELS = LabelMap.model_validate(
    {"classes": [{"name": "cell", "color": "#ff0000"}, {"name": "dust", "color": "#0000ff"}]}
)


def detections(**changes: object) -> Detections:
    parts = {
        "name": "x",
        "image": np.full((90, 120, 3), 100, np.uint8),
        "boxes_xyxy": np.array([(10, 20, 30, 40), (0, 0, 120, 90), (5.125, 6, 5.125, 8)], np.float32),
        "classes": np.array([1, 0, 1]),
        "scores": np.array([0.9, 0.5, 0.25], np.float32),
        "labels": LABELS,
        **changes,
    }
    return Detections(**parts)  # type: ignore[arg-type]


@pytest.mark.parametrize("box", [(-1, 0, 2, 2), (0, 0, 121, 2), (0, 0, 2, 91), (4, 0, 2, 2), (0, float("nan"), 2, 2)])
def test_boxes_outside_of_the_picture_or_turned_over_are_refused(box: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"no box .* 120 x 90 pixels"):
        detections(boxes_xyxy=np.array([(0, 0, 1, 1), box, (0, 0, 1, 1)], np.float32))


def test_parts_that_disagree_or_mean_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="disagree"):
        detections(scores=np.zeros(2, np.float32))
    with pytest.raises(ValueError, match="float32, int64 and float32, not float32, int64, float64"):
        detections(scores=np.zeros(3))
    with pytest.raises(ValueError, match="scores"):
        detections(scores=np.array([1.5, 0, 0], np.float32))
    with pytest.raises(ValueError, match="scores"):
        detections(scores=np.array([np.nan, 0, 0], np.float32))
    for wrong in (2, -1):
        with pytest.raises(ValueError, match="indices of 2 names"):
            detections(classes=np.array([0, 1, wrong]))
    with pytest.raises(ValueError, match=r"\(H, W, 3\) uint8"):
        detections(image=np.zeros((90, 120), np.uint8))


def test_boxes_are_filtered_by_score_and_class() -> None:
    assert detections().filter(0.5).scores.tolist() == pytest.approx([0.9, 0.5])
    assert detections().filter(classes=["dust"]).scores.tolist() == pytest.approx([0.9, 0.25])
    assert len(detections().filter(0.95)) == 0
    with pytest.raises(ValueError, match='Did you mean "dust"'):
        detections().filter(classes=["dusty"])


def test_counts_are_of_all_boxes_and_in_the_order_of_the_classes() -> None:
    assert list(detections().counts().items()) == [("cell", 1), ("dust", 2)]
    assert detections().filter(0.8).counts() == {"dust": 1}


def test_words_count_what_is_drawn_and_what_is_not() -> None:
    assert (
        repr(detections()) == "Detections(x, 120 x 90 pixels: 2 boxes of score 0.5 or more (cell 1, dust 1), 1 of less)"
    )
    assert (
        repr(detections(shown_score=0.95).filter(0.95))
        == "Detections(x, 120 x 90 pixels: 0 boxes of score 0.95 or more)"
    )


def test_the_legend_names_the_classes_that_are_drawn() -> None:
    shown = detections().filter(0.8).side_by_side()
    np.testing.assert_array_equal(shown[:90, :120], detections().image)
    colors = {tuple(color) for color in shown[90:].reshape(-1, 3).tolist()}
    assert (0, 0, 255) in colors
    assert (255, 0, 0) not in colors
    assert detections().filter(1.0).side_by_side().shape == (90, 244, 3)


def test_boxes_become_polygons_in_pixels_or_on_the_map() -> None:
    first = detections().geojson()["features"][0]
    assert first["properties"] == {"class": "dust", "score": 0.9}
    assert first["geometry"]["coordinates"] == [[[10, 20], [30, 20], [30, 40], [10, 40], [10, 20]]]
    place = Georeference("EPSG:32633", (0.5, 0, 1000, 0, -0.5, 2000), 1.0)
    document = detections(georeference=place).geojson()
    assert document["crs"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::32633"
    (ring,) = document["features"][0]["geometry"]["coordinates"]
    assert ring == [[1005, 1990], [1005, 1980], [1015, 1980], [1015, 1990], [1005, 1990]]


def test_boxes_are_saved_as_json_and_what_is_asked_for_beside_it(tmp_path: Path) -> None:
    paths = detections().save(tmp_path, ["overlay", "side_by_side", "geojson"])
    assert [path.name for path in paths] == ["x.json", "x_overlay.png", "x_side_by_side.png", "x.geojson"]
    saved = json.loads(paths[0].read_text())
    assert saved["size"] == [90, 120]
    assert saved["boxes"][0] == {"box": [10, 20, 30, 40], "class": "dust", "score": 0.9}
    np.testing.assert_array_equal(np.asarray(Image.open(paths[1])), detections().overlay())
    assert len(json.loads(paths[3].read_text())["features"]) == 3
    with pytest.raises(ConfigError, match="a result of detection has no `colors`"):
        detections().save(tmp_path, ["colors"])


def test_a_picture_without_boxes_is_a_result_too(tmp_path: Path) -> None:
    none = detections(
        boxes_xyxy=np.zeros((0, 4), np.float32), classes=np.zeros(0, np.int64), scores=np.zeros(0, np.float32)
    )
    assert none.counts() == {}
    assert none.geojson() == {"type": "FeatureCollection", "features": []}
    none.save(tmp_path, ["side_by_side"])
