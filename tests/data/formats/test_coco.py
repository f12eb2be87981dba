"""COCO files, made here. What is drawn is compared with pycocotools' own loader; the rest is worked out by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as reference
from pycocotools.coco import COCO

from pixbox.config import AnnotatedFolder, DataConfig
from pixbox.data.annotation import paint, region_pixels, to_boxes
from pixbox.data.findings import Findings
from pixbox.data.formats import coco, default_labels
from pixbox.data.formats import read_records as read_any
from pixbox.errors import DataError
from pixbox.labels import LabelMap
from pixbox.sample import MapSegment, Record, RunLengths, Shapes
from tiny import strictly

read_strictly = strictly(coco.read_records)
LABELS = LabelMap(classes=("background", "cat", "dog"))
CATEGORIES = [{"id": 1, "name": "cat"}, {"id": 7, "name": "dog"}]
SQUARE = [1, 1, 4, 1, 4, 4, 1, 4]
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, annotations: list[Any], images: list[Any] | None = None, **more: Any) -> Path:
        """A COCO file of pictures 1 (a.jpg), 2 (b.jpg), ... of 8 x 6 pixels."""
        named = [picture(number, name) for number, name in enumerate(("a.jpg", "b.jpg"), start=1)]
        content = {"images": named if images is None else images, "annotations": annotations, "categories": CATEGORIES}
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content | more))
        return path

    return write


def picture(number: int, name: str, **more: Any) -> dict[str, Any]:
    return {"id": number, "file_name": name, "height": 6, "width": 8, **more}


def an_object(number: int, **fields: Any) -> dict[str, Any]:
    return {"id": number, "image_id": 1, "category_id": 1, "bbox": [1, 1, 3, 3], "area": 9, "iscrowd": 0, **fields}


def objects_of(record: Record) -> Shapes:
    assert isinstance(record.annotation, Shapes)
    return record.annotation


def found(root: Path, source: Any = "train") -> tuple[list[Record], list[tuple[str, str, str]]]:
    """The records, and code, place (below the root) and message of each finding."""
    findings = Findings()
    records = coco.read_records(root, source, findings)
    return records, [(item.code, item.file.removeprefix(f"{root}/"), item.message) for item in findings]


def test_boxes_classes_and_flags_are_read(tmp_path, write, write_pictures):
    write_pictures("images/a.jpg", "images/b.jpg")
    file = write(
        "annotations/instances_train.json",
        [
            an_object(17, bbox=[1.5, 2, 3, 0.5], category_id=7),
            an_object(18, iscrowd=1, area=5),
            an_object(19, ignore=1, area=4, segmentation=[]),
            an_object(20, area=3, segmentation=[[]], bbox=[-1, 0, -2, 3]),
        ],
    )
    first, second = read_strictly(tmp_path, "train")
    assert (first.id, first.image) == ("images/a", tmp_path / "images" / "a.jpg")
    shapes = objects_of(first)
    assert (shapes.file, shapes.size_hw) == (file, (6, 8))
    assert [shape.where for shape in shapes.shapes] == [f"{file}: annotation {number}" for number in (17, 18, 19, 20)]
    assert [shape.label for shape in shapes.shapes] == ["dog", "cat", "cat", "cat"]
    assert [shape.box_xyxy for shape in shapes.shapes] == [
        (1.5, 2, 4.5, 2.5),
        (1, 1, 4, 4),
        (1, 1, 4, 4),
        (-1, 0, -3, 3),
    ]
    assert [shape.crowd for shape in shapes.shapes] == [False, True, False, False]
    assert [shape.difficult for shape in shapes.shapes] == [False, False, True, False]
    assert [shape.region for shape in shapes.shapes] == [None] * 4
    assert objects_of(second).shapes == ()


def test_regions_are_those_of_pycocotools(tmp_path, write, write_pictures):
    write_pictures("images/a.jpg", "images/b.jpg")
    pixels = np.zeros((6, 8), dtype=np.uint8, order="F")
    pixels[1:3, 2:7] = pixels[4, 0] = 1
    packed = reference.encode(pixels)
    counts = np.diff(np.flatnonzero(np.diff(pixels.T.ravel(), prepend=2, append=2))).tolist()
    path = write(
        "annotations/instances_train.json",
        [
            an_object(1, segmentation=[SQUARE, [5.2, 0.3, 7.9, 0.1, 6, 5.5]]),
            an_object(2, segmentation={"size": [6, 8], "counts": packed["counts"].decode()}, area=8),
            an_object(3, segmentation={"size": [6, 8], "counts": counts}, area=7, iscrowd=1),
            an_object(4, segmentation=[SQUARE], area=6, image_id=2, category_id=7),
        ],
    )
    loader = COCO(str(path))
    for record, image_id in zip(read_strictly(tmp_path, "train"), (1, 2), strict=True):
        expected = [loader.annToMask(entry) for entry in loader.imgToAnns[image_id]]
        for shape, mask in zip(objects_of(record).shapes, expected, strict=True):
            np.testing.assert_array_equal(region_pixels(shape, (6, 8)), mask.astype(bool))
    assert pixels.sum() == 11


def test_a_box_that_is_not_written_is_the_one_around_the_region(tmp_path, write, write_pictures):
    write_pictures("images/a.jpg", "images/b.jpg")
    bare = {"image_id": 1, "category_id": 1}
    pixels = np.zeros((6, 8), dtype=np.uint8, order="F")
    pixels[2:4, 5] = 1
    code = {"size": [6, 8], "counts": reference.encode(pixels)["counts"].decode()}
    write(
        "train.json",
        [
            {"id": 1, **bare, "segmentation": [SQUARE, [5, 0, 7, 0, 6, 5]]},
            {"id": 2, **bare, "segmentation": code, "bbox": []},
            {"id": 3, **bare, "segmentation": {"size": [6, 8], "counts": [48]}, "bbox": None},
        ],
    )
    shapes = objects_of(read_strictly(tmp_path, "train")[0]).shapes
    # The areas are 30, 2 and 0: larger first.
    assert [shape.box_xyxy for shape in shapes] == [(1, 0, 7, 5), (5, 2, 6, 4), (0, 0, 0, 0)]


def test_small_objects_are_painted_over_large_ones(tmp_path, write, write_pictures):
    write_pictures("images/a.jpg", "images/b.jpg")
    write(
        "train.json",
        [
            an_object(1, bbox=[2, 0, 1, 1], area=1, category_id=7),
            an_object(2, bbox=[0, 0, 8, 1], area=8),
            an_object(3, bbox=[3, 0, 2, 1], area=None, category_id=7),
            an_object(4, bbox=[4, 0, 2, 1], area=2),
        ],
    )
    painted = paint(objects_of(read_strictly(tmp_path, "train")[0]), (1, 8), LABELS)
    assert painted.tolist() == [[1, 1, 2, 2, 1, 1, 1, 1]]


@pytest.mark.parametrize(
    ("file", "pictures", "source"),
    [
        ("annotations/instances_train.json", "images/train", "train"),
        ("annotations/train.json", "train", "train"),
        ("train.json", "images", "train"),
        ("train.json", ".", "train"),
        ("train/_annotations.coco.json", "train", "train"),
        ("valid/_annotations.coco.json", "valid", "val"),
        ("train/annotations.json", "train/images", "train"),
        ("annotations/instances_train2017.json", "images/train2017", "train"),
        ("annotations/instances_train2017.json", "train2017", "train2017"),
        ("annotations/instances_default.json", "images", "default"),
        ("_annotations.coco.json", ".", "."),
        ("result.json", "images", "."),
        ("annotations/instances_default.json", "images", "."),
        ("_annotations.coco.json", ".", "_annotations.coco.json"),
        ("annotations/instances_val2017.json", "val2017", "annotations/instances_val2017.json"),
        ("deep/objects.json", "deep", "deep/objects.json"),
    ],
)
def test_a_name_stands_for_every_usual_layout(tmp_path, write, write_pictures, file, pictures, source):
    write_pictures(f"{pictures}/a.jpg", f"{pictures}/b.jpg")
    # Of another split, with the same names of files.
    write_pictures("other/a.jpg", "other/b.jpg")
    write(file, [an_object(1)])
    prefix = "" if pictures == "." else f"{pictures}/"
    assert [record.id for record in read_strictly(tmp_path, source)] == [f"{prefix}a", f"{prefix}b"]


def test_folders_may_be_named_and_pictures_chosen(tmp_path, write, write_pictures, write_text):
    write_pictures("photos/x/a.jpg", "photos/b.jpg")
    write("coco/all.json", [an_object(1)], [picture(1, "x/a.jpg"), picture(2, "b.jpg")])
    source = AnnotatedFolder(images="photos", annotations="coco/all.json")
    assert [record.id for record in read_strictly(tmp_path, source)] == ["photos/x/a", "photos/b"]
    write_text("use.txt", "x/a", "c")
    records, findings = found(tmp_path, source.model_copy(update={"ids": "use.txt"}))
    assert [record.id for record in records] == ["photos/x/a"]
    assert findings == [("missing-file", "use.txt:2", 'no picture is called "c"')]


def test_names_hold_folders_and_backslashes(tmp_path, write, write_pictures):
    write_pictures("images/north/a.jpg")
    write("train.json", [], [picture(1, "north\\a.jpg")])
    assert [record.id for record in read_strictly(tmp_path, "train")] == ["images/north/a"]


def test_pictures_that_cannot_be_used_are_named_one_by_one(tmp_path, write, write_pictures):
    write_pictures("images/a.jpg", "images/b.jpg", "images/c.jpg", "images/c.png")
    write(
        "train.json",
        [an_object(1), an_object(2, image_id=3), an_object(3, image_id=99), an_object(4, image_id=5)],
        [
            picture(1, "a.jpg"),
            picture(1, "b.jpg"),
            picture(3, "gone.jpg"),
            picture(4, "a.jpg"),
            picture(5, "../../secret.jpg"),
            picture(6, "/etc/hostname.jpg"),
            {"id": 7},
            "x",
            picture(9, "c.jpg"),
            picture(10, "c.png"),
            picture(11, "b.jpg", height="6"),
        ],
    )
    records, findings = found(tmp_path)
    assert [record.id for record in records] == ["images/a", "images/c", "images/b"]
    assert objects_of(records[2]).size_hw is None
    assert sorted(findings) == [
        ("bad-annotation", "train.json: annotation 3", '`image_id` "99" is not the id of a picture in the file'),
        ("bad-annotation", "train.json: image 11", "`height` and `width` are '6' and 8"),
        ("bad-annotation", "train.json: image 7", "has no `id` or no `file_name`"),
        ("bad-annotation", "train.json: image [7]", "has no `id` or no `file_name`"),
        ("duplicate-line", "train.json: image 1", '"b.jpg" has the id of "a.jpg"'),
        ("duplicate-line", "train.json: image 4", '"a.jpg" is listed twice'),
        ("duplicate-stem", "train.json: image 10", "c.jpg and c.png have one name and cannot be told apart"),
        ("missing-file", "train.json: image 3", f"no such file: {tmp_path}/images/gone.jpg"),
        ("outside-root", "train.json: image 5", f'"images/../../secret.jpg" lies outside the data root {tmp_path}'),
        ("outside-root", "train.json: image 6", f'"/etc/hostname.jpg" lies outside the data root {tmp_path}'),
    ]


def test_what_stops_training_is_not_said_to_be_left_out(tmp_path, write, write_pictures):
    write_pictures("images/a.jpg")
    write("train.json", [an_object(1, category_id=99)], [picture(1, "a.jpg"), {"id": 7}])
    findings = Findings()
    coco.read_records(tmp_path, "train", findings)
    assert [item.hint for item in findings] == ["Mend it, or remove it."] * 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"category_id": 2}, "`category_id` 2 is not the id of a category in the file"),
        ({"category_id": [1]}, "`category_id` [1] is not the id of a category in the file"),
        ({"bbox": "1 1 3 3"}, "`bbox` is '1 1 3 3', not [x, y, width, height]"),
        ({"bbox": [1, 1, 3]}, "`bbox` is [1, 1, 3], not [x, y, width, height]"),
        ({"bbox": [1, 1, 3, float("nan")]}, "`bbox` is [1, 1, 3, nan], not [x, y, width, height]"),
        ({"bbox": [1, 1, 3, "3"]}, "`bbox` is [1, 1, 3, '3'], not [x, y, width, height]"),
        ({"bbox": None}, "has neither `bbox` nor `segmentation`"),
        ({"bbox": None, "segmentation": [[1, 1, 2, 2]]},
         "outline [0] of `segmentation` has 2 points; it needs at least 3"),
        ({"bbox": None, "segmentation": [SQUARE[:-1]]},
         "outline [0] of `segmentation` is not a list of numbers x, y, x, y, ..."),
        ({"bbox": None, "segmentation": [[*SQUARE, float("inf"), 1]]},
         "outline [0] of `segmentation` is not a list of numbers x, y, x, y, ..."),
        ({"bbox": None, "segmentation": SQUARE},
         "`segmentation` is not a list of outlines, each a list of its own: [[x, y, x, y, ...]]"),
        ({"bbox": None, "segmentation": "x"}, "`segmentation` is 'x', neither a list of outlines nor run lengths"),
        ({"bbox": None, "segmentation": {"size": [6], "counts": [48]}},
         "`segmentation` has no `size` [height, width], or its `counts` are neither numbers nor text"),
        ({"bbox": None, "segmentation": {"size": [6, 8], "counts": [47]}},
         "`segmentation` holds run lengths of 47 pixels for a picture of 8 x 6"),
        ({"bbox": None, "segmentation": {"size": [6, 8], "counts": "é"}},
         "`segmentation` holds run lengths that cannot be read"),
        ({"bbox": None, "segmentation": {"size": [6, 8], "counts": [10**30]}},
         "`segmentation` has no `size` [height, width], or its `counts` are neither numbers nor text"),
    ],
)  # fmt: skip
def test_an_object_with_wrong_fields_is_named_and_the_others_are_used(tmp_path, write, write_pictures, fields, message):
    write_pictures("images/a.jpg", "images/b.jpg")
    write("train.json", [an_object(17, **fields), an_object(18)])
    records, findings = found(tmp_path)
    assert findings == [("bad-annotation", "train.json: annotation 17", message)]
    assert [shape.where for shape in objects_of(records[0]).shapes] == [f"{tmp_path}/train.json: annotation 18"]


def test_of_a_half_wrong_object_the_right_half_is_used(tmp_path, write, write_pictures):
    write_pictures("images/a.jpg", "images/b.jpg")
    write(
        "train.json",
        [
            an_object(1, segmentation=[[1, 1, 2, 2], SQUARE]),
            an_object(2, bbox=[0, 0, float("nan"), 1], segmentation=[SQUARE], area=8),
            an_object(3, segmentation="x", area=7),
            "x",
        ],
    )
    records, findings = found(tmp_path)
    shapes = objects_of(records[0]).shapes
    assert [shape.box_xyxy for shape in shapes] == [(1, 1, 4, 4)] * 3
    assert [None if shape.region is None else len(shape.region) for shape in shapes] == [1, 1, None]
    assert [where for _, where, _ in findings] == [
        "train.json: annotation 1", "train.json: annotation 2", "train.json: annotation 3",
        "train.json: annotation [3]",
    ]  # fmt: skip


def test_findings_name_the_picture(tmp_path, write, write_pictures):
    write_pictures("images/a.jpg", "images/b.jpg")
    write("train.json", [an_object(1, bbox=1)])
    findings = Findings()
    coco.read_records(tmp_path, "train", findings)
    assert findings.faulty_ids() == {"images/a"}


def test_wrong_categories_are_named(tmp_path, write, write_pictures):
    write_pictures("images/a.jpg", "images/b.jpg")
    wrong = [*CATEGORIES, {"id": 7, "name": "bird"}, {"id": 8}, "x", {"id": 9, "name": "cat"}]
    write("train.json", [an_object(1, category_id=9), an_object(2, category_id=7)], categories=wrong)
    records, findings = found(tmp_path)
    assert findings == [
        ("bad-annotation", "train.json: category 7", '"bird" has the id of "dog"'),
        ("bad-annotation", "train.json: category 8", "has no `id` or no `name`"),
        ("bad-annotation", "train.json: category [4]", "has no `id` or no `name`"),
    ]
    assert [shape.label for shape in objects_of(records[0]).shapes] == ["cat", "dog"]
    assert coco.class_names(tmp_path, ["train"]) == ["cat", "dog"]


def test_class_names_come_in_the_order_of_ids_from_all_splits(tmp_path, write):
    many = [{"id": number, "name": f"c{number}"} for number in (10, 9, 2)]
    write("train.json", [], categories=many)
    write("val.json", [], categories=[{"id": 1, "name": "first"}, *many])
    assert coco.class_names(tmp_path, ["train", "val"]) == ["c2", "c9", "c10", "first"]


def test_a_category_that_only_stands_above_others_is_no_class(tmp_path, write):
    categories = [
        {"id": 0, "name": "cells", "supercategory": "none"},
        {"id": 1, "name": "red", "supercategory": "cells"},
        {"id": 2, "name": "person", "supercategory": "person"},
        {"id": 3, "name": "fruit", "supercategory": ""},
        {"id": 4, "name": "apple", "supercategory": "fruit"},
    ]
    write("train.json", [], categories=categories)
    write("val.json", [an_object(1, category_id=3)], categories=categories)
    assert coco.class_names(tmp_path, ["train", "val"]) == ["red", "person", "fruit", "apple"]


def test_the_label_map_follows_from_the_categories(tmp_path, write, write_pictures):
    write_pictures("images/a.jpg", "images/b.jpg")
    write("train.json", [an_object(1, category_id=7, bbox=[0, 0, 8, 6])])
    data = DataConfig(format="coco", root=str(tmp_path), train="train")
    labels = default_labels(data, "segmentation", ["train"])
    assert labels is not None
    assert labels.names == ("background", "cat", "dog")
    (record, _) = read_any(data, "train")
    assert (paint(objects_of(record), (6, 8), labels) == 2).all()
    assert to_boxes(objects_of(record), (6, 8), labels).xyxy.tolist() == [[0, 0, 8, 6]]


@pytest.fixture
def panoptic(tmp_path, write, write_pictures) -> dict[str, Any]:
    """A map of three segments over a.jpg; the last column belongs to none."""
    write_pictures("val2017/a.jpg")
    numbers = np.zeros((6, 8), dtype=np.int64)
    numbers[:, :3], numbers[:, 3:5], numbers[:, 5:7] = 5, 70000, 256
    folder = tmp_path / "annotations" / "panoptic_val2017"
    folder.mkdir(parents=True)
    colors = np.stack([numbers % 256, numbers // 256 % 256, numbers // 65536], axis=2)
    Image.fromarray(colors.astype(np.uint8)).save(folder / "a.png")
    segments = [
        {"id": 5, "category_id": 1, "bbox": [0, 0, 3, 6], "area": 18, "iscrowd": 0},
        {"id": 70000, "category_id": 7, "bbox": [3, 0, 2, 6], "area": 12, "iscrowd": 0},
        {"id": 256, "category_id": 1, "bbox": [5, 0, 2, 6], "area": 12, "iscrowd": 1},
    ]
    return {"image_id": 1, "file_name": "a.png", "segments_info": segments}


def test_panoptic_maps_are_read(tmp_path, write, panoptic):
    file = write("annotations/panoptic_val2017.json", [panoptic], [picture(1, "a.jpg")])
    (record,) = read_strictly(tmp_path, "val")
    shapes = objects_of(record)
    assert shapes.shapes[1].region == MapSegment(tmp_path / "annotations" / "panoptic_val2017" / "a.png", 70000)
    assert shapes.shapes[1].where == f"{file}: annotation of image 1, segment 70000"
    assert paint(shapes, (6, 8), LABELS)[0].tolist() == [1, 1, 1, 2, 2, 255, 255, 0]
    boxes = to_boxes(shapes, (6, 8), LABELS)
    assert boxes.xyxy.tolist() == [[0, 0, 3, 6], [3, 0, 5, 6], [5, 0, 7, 6]]
    assert boxes.difficult.tolist() == [False, False, True]
    assert coco.class_names(tmp_path, ["val"]) == ["cat", "dog"]


@pytest.mark.parametrize(
    ("change", "code", "place"),
    [
        ({"file_name": "b.png"}, "missing-file", ""),
        ({"file_name": "../../../b.png"}, "outside-root", ""),
        ({"file_name": None}, "bad-annotation", ""),
        ({"segments_info": {}}, "bad-annotation", ""),
        ({"segments_info": [{"id": "5"}]}, "bad-annotation", ", segment [0]"),
        ({"segments_info": [{"id": 5, "category_id": 3}]}, "bad-annotation", ", segment 5"),
        ({"segments_info": [{"id": 5, "category_id": 1}]}, "bad-annotation", ", segment 5"),
    ],
)
def test_wrong_segments_are_named(tmp_path, write, panoptic, change, code, place):
    write("annotations/panoptic_val2017.json", [panoptic | change], [picture(1, "a.jpg")])
    records, findings = found(tmp_path, "val")
    assert [finding[:2] for finding in findings] == [
        (code, f"annotations/panoptic_val2017.json: annotation of image 1{place}")
    ]
    assert objects_of(records[0]).shapes == ()


def message(root: Path, source: Any = "train") -> str:
    with pytest.raises(DataError) as error:
        coco.read_records(root, source, Findings())
    return str(error.value)


def test_a_file_that_is_no_coco_file_says_what_it_holds(tmp_path, write, write_text):
    write_text("train.json", '{"version": "5.0", "shapes": [], "images": {}}')
    assert message(tmp_path).splitlines()[0] == (
        f'{tmp_path}/train.json: is not a COCO file: it has no list "images", "annotations", "categories"; '
        'its keys are "version", "shapes", "images"'
    )
    write_text("train.json", '[{"image_id": 1, "score": 0.5}]')
    assert "; it is a list" in message(tmp_path)
    write("train.json", [], [])
    assert "lists no pictures" in message(tmp_path)


def test_a_damaged_file_says_where(tmp_path):
    (tmp_path / "train.json").write_bytes(b'{"images": [],\n "annotations": [,]}')
    assert "train.json: is not JSON: expecting value at line 2, column 18" in message(tmp_path)
    (tmp_path / "train.json").write_bytes(b'{"images": "\xe9"}')
    assert "train.json: is not UTF-8 text (byte 12)" in message(tmp_path)
    (tmp_path / "train.json").write_bytes(b"")
    assert "train.json: the file is empty" in message(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_does_no_harm(tmp_path, write, write_pictures, encoding):
    write_pictures("images/ä.jpg")
    path = write("train.json", [], [picture(1, "ä.jpg")])
    path.write_bytes(path.read_text().encode(encoding))
    assert [record.id for record in read_strictly(tmp_path, "train")] == ["images/ä"]


def test_missing_files_and_folders_are_named_with_what_is_there(tmp_path, write, write_pictures):
    write("annotations/instances_training.json", [])
    text = message(tmp_path)
    assert "looked for annotations/instances_train.json, annotations/train.json, train.json" in text
    assert f"{tmp_path}/annotations holds instances_training.json." in text
    text = message(tmp_path, "annotations/instances_training.json")
    assert 'none of the pictures it lists is there: looked for "a.jpg" in images/training/, training/' in text
    assert "`{images: FOLDER, annotations: FILE}`" in text
    write_pictures("photos/x.jpg")
    records, findings = found(
        tmp_path, AnnotatedFolder(images="photos", annotations="annotations/instances_training.json")
    )
    assert records == []
    assert [code for code, *_ in findings] == ["missing-file", "missing-file"]
    assert "looked for _annotations.coco.json, annotations.json, result.json, " in message(tmp_path, ".")
    assert "outside the data root" in message(tmp_path, "../train.json")
    assert "outside the data root" in message(tmp_path, AnnotatedFolder(images="photos", annotations="../x.json"))


def test_run_lengths_are_kept_packed(tmp_path, write, write_pictures):
    write_pictures("images/a.jpg", "images/b.jpg")
    code = reference.encode(np.asfortranarray(np.eye(6, 8, dtype=np.uint8)))
    write("train.json", [an_object(1, segmentation={"size": [6, 8], "counts": code["counts"].decode()})])
    (shape,) = objects_of(read_strictly(tmp_path, "train")[0]).shapes
    assert shape.region == RunLengths((6, 8), code["counts"])
