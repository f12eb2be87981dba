from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError

from pixbox.config import read_labels
from pixbox.data.images import read_mask
from pixbox.documents import to_yaml
from pixbox.errors import ConfigError, DataError
from pixbox.labels import IGNORE, IGNORED_NAME, LabelMap, RawMask, UnknownLabelError, check_mask_classes

AERIAL = {
    "classes": [
        {"name": "background", "value": 0, "color": "#000000"},
        {"name": "building", "value": 76, "color": [22, 0, 255]},
        {"name": "vegetation", "value": 150, "color": [0, 255, 0]},
        {"name": "road", "value": 255, "color": [255, 255, 255]},
    ]
}


def label_map(*classes: dict[str, Any], **more: Any) -> LabelMap:
    named = [{"name": f"c{i}", **item} for i, item in enumerate(classes)]
    return LabelMap.model_validate({"classes": named, **more})


def grey(*rows: list[int], dtype: type = np.uint8) -> RawMask:
    return RawMask(np.array(rows, dtype=dtype))


def rgb(*rows: list[tuple[int, int, int]]) -> RawMask:
    return RawMask(np.array(rows, dtype=np.uint8))


# The example of a published text: 76 building, 150 vegetation, 255 road, everything else background.


def test_grey_values_become_classes_and_one_hot_rows() -> None:
    labels = LabelMap.model_validate({**AERIAL, "unknown": "background"})
    classes = labels.encode(grey([25, 76], [150, 255]))
    assert classes.dtype == np.uint8
    assert classes.tolist() == [[0, 1], [2, 3]]
    one_hot = labels.one_hot(classes)
    assert one_hot.shape == (2, 2, 4)
    assert one_hot.reshape(-1, 4).tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]


def test_colours_become_the_same_classes() -> None:
    labels = LabelMap.model_validate(AERIAL)
    mask = rgb([(0, 0, 0), (22, 0, 255)], [(0, 255, 0), (255, 255, 255)])
    assert labels.encode(mask).tolist() == [[0, 1], [2, 3]]


def test_channels_are_never_mixed_up() -> None:
    labels = label_map({"color": "#ff0000"}, {"color": "#00ff00"}, {"color": "#0000ff"}, {"color": "#010203"})
    mask = rgb([(255, 0, 0), (0, 255, 0), (0, 0, 255), (1, 2, 3)])
    assert labels.encode(mask).tolist() == [[0, 1, 2, 3]]


def test_colours_of_mixed_width_are_told_apart() -> None:
    labels = label_map({"color": [7, 7, 7]}, {"color": [26, 26, 26]}, {"color": [0, 0, 0]}, {"color": [77, 7, 7]})
    assert labels.encode(rgb([(7, 7, 7), (26, 26, 26), (0, 0, 0), (77, 7, 7)])).tolist() == [[0, 1, 2, 3]]


def test_class_indices_need_only_names() -> None:
    labels = LabelMap.model_validate({"classes": ["sky", "road", {"name": "car"}]})
    assert labels.names == ("sky", "road", "car")
    assert labels.encode(grey([2, 0, 1])).tolist() == [[2, 0, 1]]


def test_several_values_and_colours_merge_into_one_class() -> None:
    labels = label_map({"values": [0, 4, 65535], "colors": ["#000000", "#0000ff"]}, {"value": 1, "color": "#ffffff"})
    assert labels.encode(grey([0, 1, 4])).tolist() == [[0, 1, 0]]
    assert labels.encode(grey([0, 1, 65535], dtype=np.uint16)).tolist() == [[0, 1, 0]]
    assert labels.encode(rgb([(0, 0, 255), (255, 255, 255), (0, 0, 0)])).tolist() == [[0, 1, 0]]


def test_ignored_values_and_colours_become_ignore() -> None:
    labels = label_map({"value": 0, "color": "#000000"}, {"value": 1, "color": "#ff0000"}, ignore=[9, "#e0e0c0"])
    assert labels.encode(grey([0, 9, 1])).tolist() == [[0, IGNORE, 1]]
    assert labels.encode(rgb([(224, 224, 192), (255, 0, 0)])).tolist() == [[IGNORE, 1]]
    assert labels.one_hot(np.array([[IGNORE, 1]], np.uint8)).tolist() == [[[0, 0], [0, 1]]]


def test_sixteen_bit_values_are_not_cut_to_eight() -> None:
    labels = label_map({"value": 1}, {"value": 257}, {"value": 65535})
    assert labels.encode(grey([1, 257, 65535], dtype=np.uint16)).tolist() == [[0, 1, 2]]
    assert labels.encode(grey([1, 1])).tolist() == [[0, 0]]


def test_palette_file_is_read_by_index_where_classes_have_values(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8))
    image.putpalette([9, 9, 9, 10, 10, 10, 11, 11, 11])
    image.save(tmp_path / "p.png")
    by_value = label_map({"value": 2}, {"value": 1}, {"value": 0})
    assert by_value.encode(read_mask(tmp_path / "p.png")).tolist() == [[2, 1, 0]]
    by_color = label_map({"color": [10, 10, 10]}, {"color": [9, 9, 9]}, {"color": [11, 11, 11]})
    assert by_color.encode(read_mask(tmp_path / "p.png")).tolist() == [[1, 0, 2]]


def test_masks_read_from_every_kind_of_file_give_the_same_classes(tmp_path: Path) -> None:
    labels = LabelMap.model_validate(AERIAL)
    truth = np.array([[0, 1, 2], [3, 3, 0]], np.uint8)
    values = np.array([0, 76, 150, 255], np.uint8)[truth]
    colors = np.array([[0, 0, 0], [22, 0, 255], [0, 255, 0], [255, 255, 255]], np.uint8)[truth]
    Image.fromarray(values).save(tmp_path / "grey.png")
    Image.fromarray(values.astype(np.uint16)).save(tmp_path / "grey16.png")
    Image.fromarray(colors).save(tmp_path / "rgb.png")
    alpha = np.full((2, 3, 1), 7, np.uint8)
    Image.fromarray(np.concatenate([colors, alpha], axis=2)).save(tmp_path / "rgba.png")
    Image.fromarray(colors).save(tmp_path / "rgb.tif")
    scipy.io.savemat(tmp_path / "m.mat", {"groundtruth": values})
    for file in sorted(tmp_path.iterdir()):
        np.testing.assert_array_equal(labels.encode(read_mask(file)), truth, err_msg=file.name)


def test_grey_picture_stored_as_colours_is_read_as_grey_where_classes_have_values_only() -> None:
    labels = label_map({"value": 0}, {"value": 76})
    assert labels.encode(rgb([(0, 0, 0), (76, 76, 76)])).tolist() == [[0, 1]]
    with pytest.raises(DataError, match="the mask is a colour picture"):
        labels.encode(rgb([(0, 0, 0), (76, 76, 75)]))


def test_grey_picture_is_read_as_colours_where_classes_have_colours_only() -> None:
    labels = label_map({"color": "#000000"}, {"color": "#4c4c4c"})
    assert labels.encode(grey([0, 76])).tolist() == [[0, 1]]
    with pytest.raises(DataError, match="16-bit"):
        labels.encode(grey([0, 76], dtype=np.uint16))


def test_any_memory_layout_is_encoded_right() -> None:
    labels = label_map({"value": 0, "color": "#000000"}, {"value": 1, "color": "#0000ff"})
    values = np.array([[0, 1, 1], [1, 0, 1]], np.uint8)
    colors = np.array([[0, 0, 0], [0, 0, 255]], np.uint8)[values]
    for turn in (lambda a: a, lambda a: a.swapaxes(0, 1), lambda a: a[:, ::-1], lambda a: a[::-1, ::2]):
        np.testing.assert_array_equal(labels.encode(RawMask(turn(values))), turn(values))
        np.testing.assert_array_equal(labels.encode(RawMask(turn(values.astype(np.uint16)))), turn(values))
        np.testing.assert_array_equal(labels.encode(RawMask(turn(colors))), turn(values))


def test_pictures_longer_than_one_portion_are_encoded_whole() -> None:
    rng = np.random.default_rng(0)
    colors = rng.integers(0, 256, (200, 3), dtype=np.uint8)
    classes = rng.integers(0, 200, (211, 467), dtype=np.uint8)
    labels = label_map(*({"color": color.tolist()} for color in colors))
    np.testing.assert_array_equal(labels.encode(RawMask(colors[classes])), classes)


# Unknown values.


def test_unknown_values_stop_with_value_count_position_and_way_out() -> None:
    labels = label_map({"value": 0}, {"value": 1}, {"value": 2}, {"value": 5}, ignore=[255])
    with pytest.raises(UnknownLabelError) as caught:
        labels.encode(grey([0, 1, 2, 7], [9, 7, 255, 5], [7, 0, 0, 0]))
    (fault,) = caught.value.faults
    assert fault.what == (
        "value 7 at row 0, column 3 (3 pixels); also value 9 (1); the label map has values 0-2, 5, 255"
    )
    assert all(way in fault.hint for way in ("classes", "`ignore`", "`unknown: ignore`"))
    assert [(u.value, u.count, u.row, u.column) for u in caught.value.unknown] == [(7, 3, 0, 3), (9, 1, 1, 0)]


def test_unknown_colours_are_named_in_both_writings() -> None:
    labels = label_map({"color": "#000000"}, {"color": "#ffffff"})
    with pytest.raises(UnknownLabelError) as caught:
        labels.encode(rgb([(0, 0, 0), (1, 2, 3)], [(255, 255, 255), (1, 2, 3)]))
    assert caught.value.faults[0].what == (
        "colour #010203 [1, 2, 3] at row 0, column 1 (2 pixels); the label map has colours #000000, #ffffff"
    )


def test_many_unknown_values_are_counted_not_listed() -> None:
    labels = label_map({"value": 0})
    with pytest.raises(UnknownLabelError, match="and 95 more values"):
        labels.encode(RawMask(np.arange(1, 101, dtype=np.uint8)[None]))


def test_unknown_values_become_ignore_or_a_class_if_the_map_says_so() -> None:
    classes = ({"value": 0, "color": "#000000"}, {"value": 1, "color": "#ffffff"})
    for unknown, expected in (("ignore", IGNORE), ("c1", 1)):
        labels = label_map(*classes, unknown=unknown)
        assert labels.encode(grey([0, 77])).tolist() == [[0, expected]]
        assert labels.encode(grey([0, 777], dtype=np.uint16)).tolist() == [[0, expected]]
        assert labels.encode(rgb([(0, 0, 0), (0, 0, 1)])).tolist() == [[0, expected]]


def test_254_classes_fit_and_the_last_is_no_unknown_value() -> None:
    labels = LabelMap.model_validate({"classes": [f"c{i}" for i in range(254)]})
    values = np.arange(254, dtype=np.uint8)[None]
    np.testing.assert_array_equal(labels.encode(RawMask(values)), values)
    for value in (254, 255):
        with pytest.raises(UnknownLabelError, match=f"value {value}"):
            labels.encode(grey([value]))


def test_a_map_may_have_65535_classes_but_masks_are_refused_more_than_254() -> None:
    many = [f"c{i}" for i in range(65_535)]
    assert len(LabelMap.model_validate({"classes": many})) == 65_535
    with pytest.raises(ValidationError, match="65535"):
        LabelMap.model_validate({"classes": [*many, "more"]})
    check_mask_classes(LabelMap.model_validate({"classes": many[:254]}))
    with pytest.raises(ConfigError, match=r"data.labels.*255 classes; in masks there can be 254"):
        check_mask_classes(LabelMap.model_validate({"classes": many[:255]}))


def test_class_255_is_a_class_and_no_ignored_name() -> None:
    labels = LabelMap.model_validate({"classes": [f"c{i}" for i in range(300)], "ignore_names": ["blur"]})
    assert [labels.class_of(f"c{i}") for i in range(300)] == list(range(300))
    assert labels.class_of("blur") == IGNORED_NAME
    assert IGNORED_NAME not in range(65_535)
    assert labels.class_of("c300") is None


def test_a_name_that_is_not_known_becomes_what_unknown_says() -> None:
    def class_of(unknown: str) -> int | None:
        classes = [{"name": "cat", "aliases": ["kitten"]}, "dog"]
        return LabelMap.model_validate({"classes": classes, "unknown": unknown}).class_of("cow")

    assert [class_of(unknown) for unknown in ("error", "ignore", "cat", "dog")] == [None, IGNORED_NAME, 0, 1]


# Tolerance.


def nearest(pixels: NDArray[np.uint8], sources: list[tuple[int, ...]], tolerance: int) -> NDArray[np.int64]:
    """Index of the nearest source, -1 where none is near enough; of equally near ones the first."""
    distances = ((pixels[..., None, :].astype(int) - np.array(sources)) ** 2).sum(-1)
    return np.where(distances.min(-1) <= tolerance**2, distances.argmin(-1), -1)


def test_grey_tolerance_takes_the_nearest_value_and_the_first_on_a_tie() -> None:
    labels = label_map({"value": 100}, {"value": 110}, ignore=[250], unknown="ignore", tolerance=5)
    values = np.arange(256, dtype=np.uint8)
    expected = nearest(values[:, None], [(100,), (110,), (250,)], 5)
    expected[(expected == -1) | (expected == 2)] = IGNORE
    assert labels.encode(RawMask(values[None]))[0].tolist() == expected.tolist()
    assert labels.encode(grey([105])).tolist() == [[0]]


def test_tolerance_never_turns_a_listed_value_into_another() -> None:
    labels = label_map({"value": 10}, {"value": 11}, {"value": 12}, tolerance=20)
    assert labels.encode(grey([10, 11, 12, 0, 32])).tolist() == [[0, 1, 2, 0, 2]]
    with pytest.raises(UnknownLabelError, match="value 33"):
        labels.encode(grey([33]))


@pytest.mark.parametrize("tolerance", [1, 40, 127])
def test_colour_tolerance_equals_brute_force(tolerance: int) -> None:
    sources = [(255, 10, 20), (10, 0, 128), (0, 0, 0), (40, 0, 128), (250, 250, 0), (10, 30, 128)]
    labels = label_map(*({"color": list(c)} for c in sources[:5]), ignore=[list(sources[5])],
                       unknown="ignore", tolerance=tolerance)  # fmt: skip
    rng = np.random.default_rng(tolerance)
    near = np.array(sources)[rng.integers(0, 6, (40, 50))] + rng.integers(-tolerance, tolerance + 1, (40, 50, 3))
    pixels = np.clip(near, 0, 255).astype(np.uint8)
    expected = nearest(pixels, sources, tolerance)
    expected[(expected == -1) | (expected == 5)] = IGNORE
    assert 0 < (expected == IGNORE).mean() < 1
    np.testing.assert_array_equal(labels.encode(RawMask(pixels)), expected)


def test_colour_halfway_between_two_goes_to_the_first() -> None:
    colors = [{"color": [100, 0, 0]}, {"color": [0, 0, 100]}]
    assert label_map(*colors, tolerance=80).encode(rgb([(50, 0, 50)])).tolist() == [[0]]
    assert label_map(*colors[::-1], tolerance=80).encode(rgb([(50, 0, 50)])).tolist() == [[0]]


def test_jpeg_mask_is_read_as_its_nearest_colours() -> None:
    sources = [(0, 0, 0), (22, 0, 255), (0, 255, 0), (255, 255, 255)]
    rng = np.random.default_rng(3)
    classes = np.kron(rng.integers(0, 4, (6, 8)), np.ones((16, 16), int))
    buffer = io.BytesIO()
    Image.fromarray(np.array(sources, np.uint8)[classes]).save(buffer, "JPEG", quality=90, subsampling=0)
    pixels = np.asarray(Image.open(buffer))
    assert (pixels != np.array(sources, np.uint8)[classes]).any()
    labels = label_map(*({"color": list(c)} for c in sources), tolerance=100)
    encoded = labels.encode(RawMask(pixels))
    np.testing.assert_array_equal(encoded, nearest(pixels, sources, 100))
    np.testing.assert_array_equal(encoded, classes)
    with pytest.raises(UnknownLabelError):
        label_map(*({"color": list(c)} for c in sources)).encode(RawMask(pixels))


# Back to pictures.


def test_classes_to_palette_png_and_back() -> None:
    labels = LabelMap.model_validate({**AERIAL, "ignore": [9]})
    classes = np.array([[0, 1, 2], [3, IGNORE, 0]], np.uint8)
    image = Image.fromarray(classes)
    image.putpalette(labels.palette)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    read = Image.open(buffer)
    assert read.mode == "P"
    np.testing.assert_array_equal(np.asarray(read), classes)
    np.testing.assert_array_equal(np.asarray(read.convert("RGB")), labels.colorize(classes))
    indices = LabelMap.model_validate({"classes": list(labels.names), "ignore": [255]})
    palette = np.array(read.getpalette(), np.uint8).reshape(-1, 3)
    np.testing.assert_array_equal(indices.encode(RawMask(np.asarray(read), palette)), classes)


def test_colorized_masks_show_each_class_in_its_first_colour_and_ignore_in_black() -> None:
    labels = label_map({"colors": ["#102030", "#ffffff"]}, {"color": "#0a0b0c"})
    colored = labels.colorize(np.array([[0, 1], [IGNORE, 0]], np.uint8))
    assert colored.dtype == np.uint8
    assert colored.tolist() == [[[16, 32, 48], [10, 11, 12]], [[0, 0, 0], [16, 32, 48]]]
    assert len(labels.palette) == 768


def test_150_classes_without_colours_get_150_colours_apart_from_each_other_and_from_black() -> None:
    labels = LabelMap.model_validate({"classes": [f"c{i}" for i in range(150)]})
    colors = np.concatenate([labels.colors.astype(int), [[0, 0, 0]]])
    distances = np.sqrt(((colors[:, None] - colors) ** 2).sum(-1))
    assert distances[~np.eye(151, dtype=bool)].min() >= 15


@pytest.mark.parametrize("count", [325, 1000, 65_535])
def test_of_any_number_of_classes_no_two_have_one_colour_or_black(count: int) -> None:
    colors = LabelMap.model_validate({"classes": [f"c{i}" for i in range(count)]}).colors
    assert len(np.unique(np.concatenate([colors, [[0, 0, 0]]]), axis=0)) == count + 1


def test_made_colours_avoid_the_given_ones() -> None:
    made = LabelMap.model_validate({"classes": ["a", "b"]}).colors
    labels = label_map({"value": 0}, {"value": 1, "color": made[0].tolist()})
    assert labels.colors[0].tolist() != made[0].tolist()


# The map itself.


@pytest.mark.parametrize(
    "plain",
    [
        {"classes": [{"name": "a", "value": 0}, {"name": "b", "value": 1}]},
        {"classes": [{"name": "1e3", "values": [1, 2]}, {"name": "no", "value": 0}], "ignore": [9], "unknown": "no"},
        {"classes": [{"name": "ä", "color": "#0a0b0c"}, {"name": "b", "colors": ["#000000", "#ffffff"]}],
         "ignore": ["#010203"], "tolerance": 12},
        {"classes": [{"name": "a", "value": 0, "color": "#00ff00"}, {"name": "b", "value": 7}], "unknown": "ignore"},
    ],
)  # fmt: skip
def test_plain_form_and_file_give_an_equal_map(plain: dict[str, Any], tmp_path: Path) -> None:
    labels = LabelMap.model_validate(plain)
    assert labels.to_plain() == plain
    (tmp_path / "labels.yaml").write_text(to_yaml(plain), encoding="utf-8")
    assert read_labels(tmp_path / "labels.yaml") == labels
    assert LabelMap.model_validate(labels.model_dump(mode="json")) == labels


def test_used_maps_still_compare_pickle_and_copy() -> None:
    first, second = LabelMap.model_validate(AERIAL), LabelMap.model_validate(AERIAL)
    other = LabelMap.model_validate({**AERIAL, "unknown": "road"})
    mask = rgb([(0, 255, 0)])
    for labels in (first, second, other):
        labels.encode(mask)
    assert first == second
    assert hash(first) == hash(second)
    assert first != other
    assert len(pickle.dumps(first)) < 5000  # the tables do not travel
    assert pickle.loads(pickle.dumps(first)) == first
    lenient = first.model_copy(update={"unknown": "road"})
    assert lenient.encode(rgb([(1, 2, 3)])).tolist() == [[3]]


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ({"classes": [{"name": "a", "value": 1}, {"name": "b", "value": 1}]}, '1 belongs to both "a" and "b"'),
        ({"classes": [{"name": "a", "color": "#FFFFFF"}, {"name": "b", "color": [255, 255, 255]}]}, "#ffffff belongs"),
        ({"classes": ["a", "a"]}, 'two classes are called "a"'),
        ({"classes": ["a", "b"], "ignore": [1]}, "1 is under `ignore`"),
        ({"classes": ["a"], "unknown": "b"}, 'unknown: "b"'),
        ({"classes": [{"name": "a", "value": 1}, {"name": "b", "color": "#000000"}]}, 'class "b" has no value'),
        ({"classes": [{"name": "a", "value": 1, "values": [2]}]}, 'write "value" or "values"'),
        ({"classes": [{"name": "a", "value": True}]}, "a mask value is a whole number, not True"),
        ({"classes": [{"name": "a", "value": "1"}]}, "a mask value is a whole number, not '1'"),
        ({"classes": [{"name": "a", "value": 65536}]}, "less than or equal to 65535"),
        ({"classes": [{"name": "a", "color": "#12345"}]}, "a colour is"),
        ({"classes": [{"name": "a", "color": [0, 0, 256]}]}, "a colour is"),
        ({"classes": [{"name": "a", "color": [0, 0, True]}]}, "a colour is"),
        ({"classes": ["a"], "ignore": [-1]}, "within 0-65535"),
        ({"classes": ["a"], "tolerance": True}, "valid integer"),
        ({"classes": []}, "at least 1"),
        ({"classes": [{"name": ""}]}, "at least 1"),
        ({"classes": ["a"], "ignored": [1]}, "unknown setting. Did you mean \"ignore\"?"),
    ],
)  # fmt: skip
def test_faulty_maps_are_refused_in_words(plain: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / "labels.yaml").write_text(to_yaml(plain))
    with pytest.raises(ConfigError) as caught:
        read_labels(tmp_path / "labels.yaml")
    assert message in str(caught.value)
    assert all(fault.where.startswith(str(tmp_path / "labels.yaml:")) for fault in caught.value.faults)
