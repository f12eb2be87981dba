from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from PIL import Image
from pycocotools.coco import COCO
from rasterio.features import rasterize

from pixbox.errors import ConfigError
from pixbox.labels import IGNORE, LabelMap
from pixbox.results import Segmentation
from pixbox.sample import Georeference

LABELS = LabelMap.model_validate({"classes": [{"name": "a", "color": "#ff0000"}, {"name": "b", "color": "#0000ff"}]})
BLOTS = (np.indices((40, 60)).sum(axis=0) // 7 % 3 * np.indices((40, 60))[0] // 9 % 2).astype(np.uint8)
BLOTS[5:9, 20:40] = IGNORE
BLOTS[20:30, 20:30] = 1
BLOTS[24:26, 24:26] = 0


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


def blots(**changes: object) -> Segmentation:
    return segmentation(image=np.zeros((40, 60, 3), np.uint8), mask=BLOTS, probabilities=None, **changes)


def certain(*probabilities: float) -> NDArray[np.float32]:
    """Of two classes: (2, 1, K), the first as given."""
    first = np.array(probabilities, np.float32)[None, :]
    return np.stack([first, 1 - first])


def test_results_refuse_parts_of_different_sizes() -> None:
    with pytest.raises(ValueError, match="uint8"):
        segmentation(mask=np.zeros((2, 3), np.int64))
    with pytest.raises(ValueError, match="the picture is"):
        segmentation(image=np.zeros((3, 2, 3), np.uint8))
    with pytest.raises(ValueError, match=r"\(H, W, 3\) uint8"):
        segmentation(image=np.zeros((2, 3, 3)))
    with pytest.raises(ValueError, match="probabilities"):
        segmentation(probabilities=np.zeros((3, 2, 3), np.float32))


def test_results_refuse_values_that_mean_nothing() -> None:
    with pytest.raises(ValueError, match="holds 2; there are 2 classes"):
        segmentation(mask=np.array([[0, 1, 2], [0, 0, 0]], np.uint8))
    with pytest.raises(ValueError, match="float32"):
        segmentation(probabilities=np.full((2, 2, 3), 0.5))
    with pytest.raises(ValueError, match="within 0 and 1"):
        segmentation(probabilities=np.stack([np.full((2, 3), part, np.float32) for part in (-0.5, 1.5)]))
    with pytest.raises(ValueError, match="within 0 and 1"):
        segmentation(probabilities=np.full((2, 2, 3), np.nan, np.float32))
    with pytest.raises(ValueError, match="sum to 1"):
        segmentation(probabilities=np.full((2, 2, 3), 0.25, np.float32))


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
    assert segmentation().save(tmp_path / "a" / "b.png", ["colors", "geojson"]) == [
        tmp_path / "a" / "b.png",
        tmp_path / "a" / "b_colors.png",
        tmp_path / "a" / "b.geojson",
    ]


def test_nothing_is_written_where_an_extra_cannot_be_had(tmp_path: Path) -> None:
    for extra in ("probabilities", "confidence", "entropy"):
        with pytest.raises(ValueError, match="without probabilities"):
            segmentation(probabilities=None).save(tmp_path, [extra])
    with pytest.raises(ConfigError, match='Did you mean "overlay"'):
        segmentation().save(tmp_path, ["overlya"])
    assert not list(tmp_path.iterdir())


def test_one_result_alone_writes_no_table_of_a_run(tmp_path: Path) -> None:
    assert segmentation().save(tmp_path, ["areas"]) == list(tmp_path.iterdir()) == [tmp_path / "x.png"]


def test_areas_count_pixels_and_leave_out_ignored_ones() -> None:
    assert segmentation().areas() == {"a": 3, "b": 2}
    assert segmentation(mask=np.full((2, 3), IGNORE, np.uint8)).areas() == {"a": 0, "b": 0}


def test_areas_of_more_pixels_than_are_counted_at_once() -> None:
    mask = np.zeros((2049, 2049), np.uint8)
    mask[-1] = 1
    result = segmentation(image=np.zeros((2049, 2049, 3), np.uint8), mask=mask, probabilities=None)
    assert result.areas() == {"a": 2048 * 2049, "b": 2049}


def test_confidence_is_the_highest_probability_and_entropy_that_of_information_theory() -> None:
    result = segmentation(
        image=np.zeros((1, 3, 3), np.uint8), mask=np.zeros((1, 3), np.uint8), probabilities=certain(1.0, 0.5, 0.9)
    )
    np.testing.assert_allclose(result.confidence(), [[1, 0.5, 0.9]])
    bits = -(0.9 * math.log2(0.9) + 0.1 * math.log2(0.1))
    np.testing.assert_allclose(result.entropy(), [[0, 1, bits]], atol=1e-6)


def test_entropy_of_a_single_class_is_zero() -> None:
    one = LabelMap.model_validate({"classes": ["only"]})
    sure = segmentation(labels=one, mask=np.zeros((2, 3), np.uint8), probabilities=np.ones((1, 2, 3), np.float32))
    assert not sure.entropy().any()


def test_confidence_and_entropy_are_saved_in_255_steps(tmp_path: Path) -> None:
    result = segmentation(
        image=np.zeros((1, 3, 3), np.uint8), mask=np.zeros((1, 3), np.uint8), probabilities=certain(1.0, 0.5, 0.8)
    )
    _, confidence, entropy = result.save(tmp_path, ["confidence", "entropy"])
    assert Image.open(confidence).mode == "L"
    assert np.asarray(Image.open(confidence)).tolist() == [[255, 128, 204]]
    # The entropy of 0.8 and 0.2 is 0.7219 bits.
    assert np.asarray(Image.open(entropy)).tolist() == [[0, 255, 184]]


def test_polygons_decoded_by_the_coco_tools_give_the_mask(tmp_path: Path) -> None:
    _, file = blots(file_name="x.jpg").save(tmp_path, ["polygons"])
    coco = COCO(file)
    again = np.full(BLOTS.shape, IGNORE, np.uint8)
    for annotation in coco.loadAnns(coco.getAnnIds()):
        pixels = coco.annToMask(annotation).astype(bool)
        name = coco.loadCats([annotation["category_id"]])[0]["name"]
        assert (again[pixels] == IGNORE).all(), "regions overlap"
        again[pixels] = LABELS.names.index(name)
        rows, columns = np.nonzero(pixels)
        x, y = columns.min(), rows.min()
        assert annotation["bbox"] == [x, y, columns.max() + 1 - x, rows.max() + 1 - y]
        assert annotation["area"] == pixels.sum()
    np.testing.assert_array_equal(again, BLOTS)
    assert coco.loadImgs([1]) == [{"id": 1, "file_name": "x.jpg", "height": 40, "width": 60}]


def again_from_geojson(document: dict[str, Any], transform: rasterio.Affine) -> NDArray[np.uint8]:
    shapes = [(one["geometry"], LABELS.names.index(one["properties"]["class"])) for one in document["features"]]
    mask: NDArray[np.uint8] = rasterize(shapes, out_shape=BLOTS.shape, fill=IGNORE, transform=transform, dtype="uint8")
    return mask


def test_geojson_filled_by_rasterio_gives_the_mask(tmp_path: Path) -> None:
    _, file = blots().save(tmp_path, ["geojson"])
    document = json.loads(file.read_text())
    assert "crs" not in document
    np.testing.assert_array_equal(again_from_geojson(document, rasterio.Affine.identity()), BLOTS)
    pixels = {"a": 0, "b": 0}
    for feature in document["features"]:
        pixels[feature["properties"]["class"]] += feature["properties"]["pixels"]
    assert pixels == blots().areas()


@pytest.mark.parametrize(
    ("place", "crs", "metres"),
    [
        (Georeference("EPSG:32633", (0.3, 0, 399960.1, 0, -0.3, 5300040.7), 1.0), "urn:ogc:def:crs:EPSG::32633", 0.09),
        (Georeference("EPSG:2263", (2, 0.5, 9e5, 0.4, -2, 2e5), 0.3048), "urn:ogc:def:crs:EPSG::2263", 4.2 * 0.3048**2),
        (Georeference("EPSG:4326", (1e-6, 0, 11.5, 0, -1e-6, 48.1)), "urn:ogc:def:crs:OGC:1.3:CRS84", None),
        (Georeference('LOCAL_CS["site"]', (1, 0, 0, 0, 1, 0)), 'LOCAL_CS["site"]', None),
    ],
)
def test_geojson_of_a_picture_on_a_map_lies_there(place: Georeference, crs: str, metres: float | None) -> None:
    document = blots(georeference=place).geojson()
    assert document["crs"] == {"type": "name", "properties": {"name": crs}}
    np.testing.assert_array_equal(again_from_geojson(document, rasterio.Affine(*place.transform)), BLOTS)
    for feature in document["features"]:
        x, y = np.array(feature["geometry"]["coordinates"][0]).T
        # Counter-clockwise, as RFC 7946 wants outlines; shifted, for the sake of digits.
        x, y = x - x.mean(), y - y.mean()
        assert (x[:-1] * y[1:] - x[1:] * y[:-1]).sum() > 0
        expected = None if metres is None else pytest.approx(feature["properties"]["pixels"] * metres, abs=1e-4)
        assert feature["properties"].get("square_metres") == expected


def test_regions_may_be_of_some_classes_only() -> None:
    assert {region.index for region in blots().regions(["b"])} == {1}
    assert len(blots().regions()) == len(blots().regions(["a", "b"]))
    assert {one["properties"]["class"] for one in blots().geojson(["b"])["features"]} == {"b"}
    with pytest.raises(ValueError, match='no class "c"'):
        blots().polygons(["c"])


def test_the_picture_and_its_overlay_stand_above_a_legend_of_the_classes_that_occur() -> None:
    result = segmentation(
        image=np.full((90, 200, 3), 7, np.uint8), mask=np.zeros((90, 200), np.uint8), probabilities=None
    )
    shown = result.side_by_side()
    np.testing.assert_array_equal(shown[:90, :200], result.image)
    np.testing.assert_array_equal(shown[:90, 204:404], result.overlay())
    colors = {tuple(color) for color in shown[90:].reshape(-1, 3).tolist()}
    assert (255, 0, 0) in colors
    assert (0, 0, 255) not in colors


def test_a_notebook_shows_pictures_of_bounded_size() -> None:
    large = segmentation(
        image=np.zeros((900, 2000, 3), np.uint8), mask=np.zeros((900, 2000), np.uint8), probabilities=None
    )
    assert Image.open(io.BytesIO(large._repr_png_())).width == 1600


def test_words_say_the_size_and_the_largest_classes() -> None:
    assert repr(segmentation()) == "Segmentation(x, 3 x 2 pixels: a 60.0 %, b 40.0 %)"
    many = LabelMap.model_validate({"classes": list("abcdefgh")})
    mask = np.arange(8, dtype=np.uint8)[None]
    words = repr(segmentation(labels=many, image=np.zeros((1, 8, 3), np.uint8), mask=mask, probabilities=None))
    assert words.endswith("f 12.5 % and 2 more)")
