"""labelme files, written the way labelme writes them; the pixels are counted by hand."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from math import pi
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pixbox.config import AnnotatedFolder, DataConfig
from pixbox.data.annotation import paint, region_pixels, to_boxes
from pixbox.data.findings import Findings
from pixbox.data.formats import default_labels, labelme
from pixbox.errors import DataError
from pixbox.labels import LabelMap
from pixbox.sample import Record, Shapes
from tiny import strictly

read_strictly = strictly(labelme.read_records)
TRIANGLE = [[1, 1], [5, 1], [1, 5]]
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, *shapes: Any, **more: Any) -> Path:
        """The file of an 8 x 6 picture of the same name."""
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {
            "version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": f"{path.stem}.jpg", "imageData": None,
            "imageHeight": 6, "imageWidth": 8,
        }  # fmt: skip
        path.write_text(json.dumps(content | more))
        return path

    return write


def shape(label: Any = "cat", points: Any = None, kind: Any = "polygon", **more: Any) -> dict[str, Any]:
    points = TRIANGLE if points is None else points
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}, **more}


def mask(pixels: Any, points: Any, label: str = "cat") -> dict[str, Any]:
    file = io.BytesIO()
    Image.fromarray(np.array(pixels, dtype=bool)).save(file, "PNG")
    return shape(label, points, "mask", mask=base64.b64encode(file.getvalue()).decode())


def objects_of(record: Record) -> Shapes:
    assert isinstance(record.annotation, Shapes)
    return record.annotation


def found(root: Path, source: Any = ".") -> tuple[list[Record], list[tuple[str, str, str]]]:
    """The records, and code, place (below the root) and message of each finding."""
    findings = Findings()
    records = labelme.read_records(root, source, findings)
    return records, [(item.code, item.file.removeprefix(f"{root}/"), item.message) for item in findings]


@pytest.mark.parametrize(
    ("source", "pictures", "files"),
    [
        (".", ".", "."),
        ("train", "train", "train"),
        ("val", "validation", "validation"),
        ("train", "train/images", "train/annotations"),
        ("train", "train/images", "train/json"),
        ("train", "images/train", "labels/train"),
        (".", "images", "annotations"),
        (AnnotatedFolder(images="photos", annotations="drawn"), "photos", "drawn"),
    ],
)
def test_a_name_stands_for_every_usual_layout(tmp_path, write, write_pictures, source, pictures, files):
    write_pictures(f"{pictures}/f10.jpg", f"{pictures}/f9.png", f"{pictures}/trip/a.jpg")
    for name in ("f10", "f9", "trip/a"):
        write(f"{files}/{name}.json", shape())
    records = read_strictly(tmp_path, source)
    prefix = "" if pictures == "." else f"{pictures}/"
    assert [record.id for record in records] == [f"{prefix}{name}" for name in ("f9", "f10", "trip/a")]
    assert objects_of(records[0]).file == (tmp_path / files / "f9.json")


def test_only_the_listed_pictures_are_read(tmp_path, write, write_pictures, write_text):
    write_pictures("a.jpg", "b.jpg")
    write("a.json")
    write("b.json")
    write_text("use.txt", "b")
    source = AnnotatedFolder(images=".", annotations=".", ids="use.txt")
    assert [record.id for record in read_strictly(tmp_path, source)] == ["b"]


def test_every_kind_with_an_area_becomes_an_object(tmp_path, write, write_pictures):
    write_pictures("a.jpg")
    turned = [[2, 0], [4, 2], [2, 4], [0, 2]]
    file = write(
        "a.json",
        shape("triangle", TRIANGLE),
        shape("box", [[5, 4], [1, 2]], "rectangle"),
        shape("corners", [[1, 2], [5, 2], [5, 4], [1, 4]], "rectangle"),
        shape("circle", [[4, 3], [4, 1]], "circle"),
        shape("turned", turned, "oriented_rectangle"),
        mask([[0, 1, 1], [0, 0, 1]], [[2, 3], [4, 4]], "mask"),
        {"label": "old", "points": TRIANGLE},
        imageData="not read at all",
    )
    (record,) = read_strictly(tmp_path, ".")
    shapes = objects_of(record)
    assert shapes.size_hw == (6, 8)
    assert [item.where for item in shapes.shapes] == [f"{file}: shape {number}" for number in range(1, 8)]
    by_label = {item.label: item for item in shapes.shapes}
    boxes = {label: item.box_xyxy for label, item in by_label.items()}
    assert boxes.pop("circle") == pytest.approx((2, 1, 6, 5))
    assert boxes == {
        "triangle": (1, 1, 5, 5),
        "box": (1, 2, 5, 4),
        "corners": (1, 2, 5, 4),
        "turned": (0, 0, 4, 4),
        "mask": (3, 3, 5, 5),
        "old": (1, 1, 5, 5),
    }
    for label in ("box", "corners"):
        pixels = region_pixels(by_label[label], (6, 8))
        assert pixels.sum() == 8
        assert pixels[2:4, 1:5].all()
    assert np.argwhere(region_pixels(by_label["mask"], (6, 8))).tolist() == [[3, 3], [3, 4], [4, 4]]


def test_a_circle_has_the_area_of_a_circle(tmp_path, write, write_pictures):
    write_pictures("a.jpg")
    write("a.json", shape("cat", [[50, 60], [80, 100]], "circle"), imageHeight=120, imageWidth=110)
    (circle,) = objects_of(read_strictly(tmp_path, ".")[0]).shapes
    assert circle.box_xyxy == pytest.approx((0, 10, 100, 110))
    assert region_pixels(circle, (120, 110)).sum() == pytest.approx(pi * 50**2, rel=0.01)


def test_later_shapes_lie_over_earlier_ones(tmp_path, write, write_pictures):
    write_pictures("a.jpg")
    write("a.json", shape("cat", [[0, 0], [4, 1]], "rectangle"), shape("dog", [[2, 0], [8, 1]], "rectangle"))
    labels = LabelMap(classes=("background", "cat", "dog"))
    painted = paint(objects_of(read_strictly(tmp_path, ".")[0]), (1, 8), labels)
    assert painted.tolist() == [[1, 1, 2, 2, 2, 2, 2, 2]]


def test_a_mask_that_reaches_out_of_the_picture_is_cut(tmp_path, write, write_pictures):
    write_pictures("a.jpg")
    write("a.json", mask(np.ones((4, 4)), [[-2, -1], [1, 2]]), mask(np.ones((4, 4)), [[6, 4], [9, 7]]))
    first, second = objects_of(read_strictly(tmp_path, ".")[0]).shapes
    assert first.box_xyxy == (0, 0, 2, 3)
    assert second.box_xyxy == (6, 4, 8, 6)


def test_a_mask_without_a_stated_size_takes_the_pictures(tmp_path, write, write_pictures):
    write_pictures("a.jpg")
    write("a.json", mask([[1]], [[7, 5], [7, 5]]), imageHeight=None, imageWidth=None)
    shapes = objects_of(read_strictly(tmp_path, ".")[0])
    assert shapes.size_hw is None
    assert np.argwhere(region_pixels(shapes.shapes[0], (6, 8))).tolist() == [[5, 7]]


def test_coordinates_belong_to_the_size_that_the_file_states(tmp_path, write, write_pictures):
    write_pictures("a.jpg")
    write("a.json", shape("cat", [[2, 4], [12, 8]], "rectangle"), imageHeight=12, imageWidth=16)
    boxes = to_boxes(objects_of(read_strictly(tmp_path, ".")[0]), (6, 8), LabelMap(classes=("cat",)))
    assert boxes.xyxy.tolist() == [[1, 2, 6, 4]]


def test_difficult_is_a_flag(tmp_path, write, write_pictures):
    write_pictures("a.jpg")
    write("a.json", shape(flags={"difficult": True}), shape(flags={"difficult": False}), shape(difficult=True))
    assert [item.difficult for item in objects_of(read_strictly(tmp_path, ".")[0]).shapes] == [True, False, True]


def test_a_picture_without_shapes_has_no_objects(tmp_path, write, write_pictures):
    write_pictures("a.jpg")
    write("a.json")
    assert objects_of(read_strictly(tmp_path, ".")[0]).shapes == ()


def test_shapes_without_an_area_are_left_out_with_a_warning(tmp_path, write, write_pictures):
    write_pictures("a.jpg")
    kinds = ("line", "linestrip", "point", "points")
    write("a.json", *(shape("crack", [[1, 1], [2, 2]], kind) for kind in kinds), shape("cat"))
    records, findings = found(tmp_path)
    assert [item.label for item in objects_of(records[0]).shapes] == ["cat"]
    assert findings == [
        ("empty-box", f"a.json: shape {number}", f'a {kind} of class "crack" has no area')
        for number, kind in enumerate(kinds, start=1)
    ]


NOT_POINTS = "`points` is not a list of [x, y], two numbers each"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("x", "is 'x', not an object with `label` and `points`"),
        (shape(label=None), "`label` is None, not a name"),
        (shape(label=" "), "`label` is ' ', not a name"),
        (shape(kind="poligon"), "`shape_type` is 'poligon'"),
        (shape(kind=["polygon"]), "`shape_type` is ['polygon']"),
        (shape(points="1 2 3"), NOT_POINTS),
        (shape(points=[[1, 1], [2, 2], [3]]), NOT_POINTS),
        (shape(points=[[1, 1], [2, 2], ["3", "4"]]), NOT_POINTS),
        (shape(points=[[1, 1], [2, 2], [3, None]]), NOT_POINTS),
        (shape(points=[[1, 1], [2, 2], [3, float("nan")]]), NOT_POINTS),
        (shape(points=[[1, 1], [2, 2]]), 'a polygon of class "cat" with 2 points; it needs at least 3'),
        (shape(points=[]), 'a polygon of class "cat" with 0 points; it needs at least 3'),
        (shape(points=[[1, 1]], kind="rectangle"), 'a rectangle of class "cat" with 1 points; it needs 2 or 4'),
        (shape(points=[[1, 1]], kind="circle"),
         'a circle of class "cat" with 1 points; it has its centre and one on its rim'),
        (shape(points=[[1, 1], [2, 2]], kind="mask"), 'a mask of class "cat" has no `mask` or not two points'),
        (mask([[1, 1]], [[1, 1], [2, 2]]),
         'a mask of class "cat" has a `mask` of 2 x 1 pixels; its points span 2 x 2'),
    ],
)  # fmt: skip
def test_a_wrong_shape_is_named_and_the_others_are_used(tmp_path, write, write_pictures, wrong, message):
    write_pictures("a.jpg")
    write("a.json", shape(), wrong, shape("dog"))
    records, findings = found(tmp_path)
    assert findings == [("bad-annotation", "a.json: shape 2", message)]
    assert [item.label for item in objects_of(records[0]).shapes] == ["cat", "dog"]


@pytest.mark.parametrize("text", ["not base64!", base64.b64encode(b"not a picture").decode(), ""])
def test_a_mask_that_is_no_png_is_named(tmp_path, write, write_pictures, text):
    write_pictures("a.jpg")
    write("a.json", shape("cat", [[1, 1], [2, 2]], "mask", mask=text))
    _, findings = found(tmp_path)
    assert [finding[:2] for finding in findings] == [("bad-annotation", "a.json: shape 1")]
    assert "that is no PNG in base64" in findings[0][2]


def test_wrong_sizes_are_named_and_zeros_mean_unknown(tmp_path, write, write_pictures):
    write_pictures("a.jpg", "b.jpg")
    write("a.json", shape(), imageHeight="6")
    write("b.json", shape(), imageHeight=0, imageWidth=0)
    records, findings = found(tmp_path)
    assert findings == [("bad-annotation", "a.json", "`imageHeight` and `imageWidth` are '6' and 8")]
    assert [objects_of(record).size_hw for record in records] == [None, None]


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        (b"", "empty-file", "the file is empty"),
        (b'{"shapes": [}', "bad-annotation", "is not JSON: expecting value at line 1, column 13"),
        (b'{"shapes": "\xff"}', "bad-annotation", "is not UTF-8 text (byte 12)"),
        (b'{"frames": [], "meta": {}}', "bad-annotation",
         'holds no list `shapes`: its keys are "frames", "meta"'),
        (b"[]", "bad-annotation", "holds no list `shapes`: it is a list"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_named_with_its_picture(tmp_path, write, write_pictures, content, code, message):
    write_pictures("a.jpg", "b.jpg")
    write("b.json", shape())
    (tmp_path / "a.json").write_bytes(content)
    findings = Findings()
    records = labelme.read_records(tmp_path, ".", findings)
    assert [record.id for record in records] == ["b"]
    (finding,) = findings
    assert (finding.code, finding.file, finding.message, finding.id) == (code, f"{tmp_path}/a.json", message, "a")


def test_a_file_of_windows_is_read(tmp_path, write, write_pictures):
    write_pictures("ä.jpg")
    path = write("ä.json", shape("Straße"))
    content = json.dumps(json.loads(path.read_text()), ensure_ascii=False, indent=2)
    path.write_bytes(content.replace("\n", "\r\n").encode("utf-8-sig"))
    assert objects_of(read_strictly(tmp_path, ".")[0]).shapes[0].label == "Straße"


def test_pictures_without_a_file_and_files_without_a_picture_are_named(tmp_path, write, write_pictures):
    write_pictures("a.jpg", "b.jpg")
    write("b.json", shape())
    write("c.json", shape())
    (tmp_path / "settings.json").write_text("[1, 2")
    _, findings = found(tmp_path)
    assert [finding[:2] for finding in findings] == [
        ("missing-mask", "a.jpg"),
        ("unmatched-mask", "c.json"),
        ("unmatched-mask", "settings.json"),
    ]


@pytest.mark.parametrize("path", ["b.jpg", "../elsewhere/b.jpg", "C:\\Users\\me\\b.jpg", "/home/me/b.jpg", None, 7])
def test_the_name_of_the_file_counts_whatever_the_path_says(tmp_path, write, write_pictures, path):
    write_pictures("a.jpg", "b.jpg")
    write("a.json", shape("cat"), imagePath=path)
    write("b.json", shape("dog"), imagePath="a.jpg")
    records = read_strictly(tmp_path, ".")
    assert [(record.id, objects_of(record).shapes[0].label) for record in records] == [("a", "cat"), ("b", "dog")]


@pytest.mark.parametrize("path", ["IMG_7.jpg", "..\\photos\\IMG_7.jpg", "/home/me/IMG_7.jpg"])
def test_where_no_picture_has_the_name_the_path_tells_it(tmp_path, write, write_pictures, path):
    write_pictures("images/trip/IMG_7.jpg", "IMG_7.jpg")
    write("annotations/trip/seven.json", shape(), imagePath=path)
    (record,) = read_strictly(tmp_path, AnnotatedFolder(images="images", annotations="annotations"))
    assert (record.id, objects_of(record).file.name) == ("images/trip/IMG_7", "seven.json")


def test_a_path_never_leads_out_of_the_folder(tmp_path, write, write_pictures):
    write_pictures("secret.jpg", "data/a.jpg")
    write("data/a.json", shape())
    write("data/b.json", shape(), imagePath="../secret.jpg")
    records, findings = found(tmp_path, "data")
    assert [record.id for record in records] == ["data/a"]
    assert [finding[:2] for finding in findings] == [("unmatched-mask", "data/b.json")]


def test_of_two_pictures_of_one_name_the_path_tells_which(tmp_path, write, write_pictures):
    write_pictures("a.jpg", "a.png", "b.jpg", "b.png")
    write("a.json", shape(), imagePath="a.png")
    write("b.json", shape(), imagePath="c.png")
    records, findings = found(tmp_path)
    assert [record.image.name for record in records] == ["a.png"]
    assert [finding[0] for finding in findings] == ["duplicate-stem"]
    assert "b.jpg and b.png" in findings[0][2]


def test_class_names_come_from_labels_txt_of_the_folder_or_one_above(tmp_path, write, write_pictures, write_text):
    write_pictures("train/a.jpg", "val/a.jpg")
    write("train/a.json", shape("c10"), shape("c9"))
    write("val/a.json", shape("c1"))
    assert labelme.class_names(tmp_path, ["train", "val"]) == ["c1", "c9", "c10"]
    write_text("labels.txt", "__ignore__", "_background_", "c9", "c1", "c10")
    expected = ["__ignore__", "_background_", "c9", "c1", "c10"]
    assert labelme.class_names(tmp_path, ["train", "val"]) == expected
    write_text("val/labels.txt", "c1", "c2")
    assert labelme.class_names(tmp_path, ["train", "val"]) == [*expected, "c2"]


def test_the_label_map_follows_from_the_files(tmp_path, write, write_pictures, write_text):
    write_pictures("a.jpg")
    write("a.json", shape("dog", [[0, 0], [4, 1]], "rectangle"), shape("__ignore__", [[3, 0], [5, 1]], "rectangle"))
    data = DataConfig(format="labelme", root=str(tmp_path), train=".")
    labels = default_labels(data, "segmentation", ["."])
    assert labels is not None
    assert (labels.names, labels.ignore_names) == (("background", "dog"), ("__ignore__",))
    painted = paint(objects_of(read_strictly(tmp_path, ".")[0]), (1, 8), labels)
    assert painted.tolist() == [[1, 1, 1, 255, 255, 0, 0, 0]]
    write_text("labels.txt", "__ignore__", "_background_", "cat", "dog")
    labels = default_labels(data, "segmentation", ["."])
    assert labels is not None
    assert labels.names == ("_background_", "cat", "dog")


def test_missing_folders_are_named(tmp_path, write_pictures):
    write_pictures("photos/a.jpg")
    with pytest.raises(DataError, match=r"no folder train/ of pictures and JSON files.*\n.*It holds photos/"):
        labelme.read_records(tmp_path, "train", Findings())
    with pytest.raises(DataError, match="outside the data root"):
        labelme.read_records(tmp_path, "..", Findings())
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="there are no pictures"):
        labelme.read_records(tmp_path, "empty", Findings())
