"""Pictures are 8 pixels wide and 6 high."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pixbox.config import AnnotatedFolder
from pixbox.data.findings import Findings
from pixbox.data.formats import yolo
from pixbox.errors import DataError
from tiny import strictly

read_records = strictly(yolo.read_records)


@pytest.fixture
def read_line(tmp_path, write_pictures, write_text):
    """The objects of one picture ``images/train/a.jpg`` with this label file, and the findings."""
    write_pictures("images/train/a.jpg")

    def read(*lines: str):
        write_text("labels/train/a.txt", *lines)
        findings = Findings()
        records = yolo.read_records(tmp_path, "train", findings)
        return [shape for record in records for shape in record.annotation.shapes], list(findings)

    return read


def test_a_box_is_centre_and_size_in_fractions(read_line, tmp_path):
    # Centre (4, 3), 4 wide, 3 high.
    (shape,), findings = read_line("0 0.5 0.5 0.5 0.5")
    assert shape.box_xyxy == (2, 1.5, 6, 4.5)
    assert shape.region is None
    assert shape.where == f"{tmp_path}/labels/train/a.txt:1"
    assert findings == []


def test_an_outline_is_its_points_in_fractions(read_line):
    (triangle, box, turned), _ = read_line(
        "2 0.25 0 1 0.5 0.25 1", "0 0.5 0.5 1 1", "1.0 0.5 0 1 0.5 0.5 1.0 0 0.5"
    )  # fmt: skip
    assert triangle.label == "2"
    assert np.array_equal(triangle.region[0], [[2, 0], [8, 3], [2, 6]])
    assert triangle.box_xyxy == (2, 0, 8, 6)
    assert box.box_xyxy == (0, 0, 8, 6)
    assert turned.label == "1"
    assert turned.box_xyxy == (0, 0, 8, 6)


def test_boxes_are_kept_as_written_for_the_audit(read_line):
    (outside, inverted, nan, infinite, outline), findings = read_line(
        "0 1 0.5 0.5 1", "0 0.5 0.5 -0.5 0.5", "0 nan 0.5 0.5 0.5", "0 inf 0.5 0.5 0.5", "0 nan 0 1 1 0 1"
    )
    assert outside.box_xyxy == (6, 0, 10, 6)
    assert inverted.box_xyxy == (6, 1.5, 2, 4.5)
    assert math.isnan(nan.box_xyxy[0])
    assert nan.box_xyxy[1::2] == (1.5, 4.5)
    assert infinite.box_xyxy[0] == math.inf
    assert math.isnan(outline.box_xyxy[0])
    assert findings == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.5", "4 numbers: a box has 5, an outline 7, 9, 11, ..."),
        ("0 0.5 0.5 0.5 0.5 0.9", "6 numbers: a box has 5; predictions have a sixth, the confidence, labels do not"),
        ("0 0 0 1 0 1 1 0.9", "8 numbers: a box has 5, an outline 7, 9, 11, ..."),
        ("0 0.5 0,5 0.5 0.5", '"0,5" is not a number'),
        ("car 0.5 0.5 0.5 0.5", '"car" is not a number'),
        ("-1 0.5 0.5 0.5 0.5", "the class number is -1; it must be 0, 1, 2, ..."),
        ("0.5 0.5 0.5 0.5 0.5", "the class number is 0.5; it must be 0, 1, 2, ..."),
        ("nan 0.5 0.5 0.5 0.5", "the class number is nan; it must be 0, 1, 2, ..."),
        ("3 0.5 0.5 320 240",
         "320 looks like pixels: coordinates are fractions of the picture's width and height"),
    ],
)  # fmt: skip
def test_lines_that_cannot_be_read_are_found_with_file_and_line(read_line, tmp_path, line, message):
    shapes, (finding,) = read_line("0 0.5 0.5 0.5 0.5", line, "4 0.5 0.5 0.5 0.5")
    assert [shape.label for shape in shapes] == ["0", "4"]
    assert (finding.code, finding.file, finding.message, finding.id) == (
        "bad-annotation",
        f"{tmp_path}/labels/train/a.txt:2",
        message,
        "images/train/a",
    )


def test_a_class_beyond_the_names_is_found(read_line, tmp_path, write_text):
    write_text("data.yaml", "nc: 2", "names: [cat, dog]")
    (shape,), (finding,) = read_line("1 0.5 0.5 0.5 0.5", "2 0.5 0.5 0.5 0.5")
    assert shape.label == "dog"
    assert finding.code == "unknown-class"
    assert finding.file == f"{tmp_path}/labels/train/a.txt:2"
    assert finding.message == "class 2 has no name: there are names for 0 to 1"


def test_a_file_of_windows_is_read_and_one_of_another_encoding_named(tmp_path, write_pictures):
    write_pictures("a.jpg", "b.jpg", "c.jpg")
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf0 0.5 0.5 1 1\r\n\r\n1 0.5 0.5 1 1\r\n")
    (tmp_path / "b.txt").write_bytes("0 0.5 0.5 1 1 # Straße".encode("latin-1"))
    (tmp_path / "c.txt").write_bytes(b"")
    findings = Findings()
    first, last = yolo.read_records(tmp_path, ".", findings)
    assert [shape.label for shape in first.annotation.shapes] == ["0", "1"]
    assert (last.id, last.annotation.shapes) == ("c", ())
    (finding,) = findings
    assert (finding.code, finding.file, finding.id) == ("bad-annotation", f"{tmp_path}/b.txt", "b")
    assert finding.message == "is not UTF-8 text (byte 20)"


@pytest.mark.parametrize(
    ("source", "image", "label"),
    [
        ("train", "images/train/x/a.jpg", "labels/train/x/a.txt"),
        ("train", "train/images/a.jpg", "train/labels/a.txt"),
        ("train", "train/a.jpg", "train/a.txt"),
        ("val", "valid/images/a.jpg", "valid/labels/a.txt"),
        (".", "images/train/a.jpg", "labels/train/a.txt"),
        (".", "sub/a.jpg", "sub/a.txt"),
        ("list.txt", "images/train/a.jpg", "labels/train/a.txt"),
        ("list.txt", "sub/a.jpg", "sub/a.txt"),
        (AnnotatedFolder(images="photos", annotations="boxes"), "photos/a.jpg", "boxes/a.txt"),
        (AnnotatedFolder(images="both", annotations="both"), "both/a.jpg", "both/a.txt"),
    ],
)
def test_every_layout_is_read(tmp_path, write_pictures, write_text, source, image, label):
    write_pictures(image)
    write_text(label, "0 0.5 0.5 1 1")
    if source == "list.txt":
        write_text("list.txt", f"./{image}")
    (record,) = read_records(tmp_path, source)
    assert record.image == tmp_path / image
    assert record.annotation.file == tmp_path / label
    assert record.annotation.size_hw is None
    assert len(record.annotation.shapes) == 1


def test_ids_choose_pictures(tmp_path, write_pictures, write_text):
    write_pictures("p/a.jpg", "p/b.jpg")
    write_text("t/a.txt", "0 0.5 0.5 1 1")
    write_text("t/b.txt", "0 0.5 0.5 1 1")
    write_text("use.txt", "b")
    source = AnnotatedFolder(images="p", annotations="t", ids="use.txt")
    assert [record.id for record in read_records(tmp_path, source)] == ["p/b"]


def test_the_paths_of_data_yaml_are_used_below_the_root(tmp_path, write_pictures, write_text):
    write_pictures("images/t2017/a.jpg", "v/images/b.jpg", "more/images/c.jpg")
    for label in ("labels/t2017/a.txt", "v/labels/b.txt", "more/labels/c.txt"):
        write_text(label, "0 0.5 0.5 1 1")
    lines = ["path: ../datasets/x", "train: images/t2017", "val: [../v/images, more/images]", "test: /etc"]
    write_text("data.yaml", *lines, "names: {0: cat}")
    assert [record.id for record in read_records(tmp_path, "train")] == ["images/t2017/a"]
    assert [record.id for record in read_records(tmp_path, "val")] == ["v/images/b", "more/images/c"]
    with pytest.raises(DataError, match=r'data\.yaml:4: "test: /etc" leads to nothing below the data root'):
        read_records(tmp_path, "test")


def test_a_list_of_cvat_is_read_and_wrong_lines_are_found(tmp_path, write_pictures, write_text):
    write_pictures("obj_train_data/a.png", "b.png")
    write_text("obj_train_data/a.txt", "1 0.5 0.5 1 1")
    write_text("obj.names", "cat", "dog")
    write_text("train.txt", "data/obj_train_data/a.png", "../b.png", "c.png", "obj_train_data/a.png")
    findings = Findings()
    (record,) = yolo.read_records(tmp_path, "train.txt", findings)
    assert record.annotation.shapes[0].label == "dog"
    assert [(finding.code, finding.file) for finding in findings] == [
        ("outside-root", f"{tmp_path}/train.txt:2"),
        ("missing-file", f"{tmp_path}/train.txt:3"),
        ("duplicate-line", f"{tmp_path}/train.txt:4"),
    ]


def test_a_picture_without_a_label_file_or_with_an_empty_one_has_no_objects(tmp_path, write_pictures, write_text):
    write_pictures("images/a.jpg", "images/b.jpg", "images/c.jpg")
    write_text("labels/b.txt")
    write_text("labels/c.txt", "0 0.5 0.5 1 1")
    records = read_records(tmp_path, ".")
    assert [len(record.annotation.shapes) for record in records] == [0, 0, 1]
    assert records[0].annotation.file == tmp_path / "images/a.jpg"
    assert records[1].annotation.file == tmp_path / "labels/b.txt"


def test_a_folder_without_any_label_file_is_not_taken_for_pictures_without_objects(tmp_path, write_pictures):
    write_pictures("images/train/a.jpg")
    (tmp_path / "labels" / "train").mkdir(parents=True)
    with pytest.raises(DataError, match=r"labels/train: no picture has a label file"):
        read_records(tmp_path, "train")


def test_labels_without_a_picture_are_found_but_not_lists_of_names(tmp_path, write_pictures, write_text):
    write_pictures("train/a.jpg")
    for name in ("a", "b", "classes", "README.roboflow"):
        write_text(f"train/{name}.txt", *(["cat"] if name == "classes" else []))
    findings = Findings()
    assert len(yolo.read_records(tmp_path, "train", findings)) == 1
    assert [(finding.code, finding.file) for finding in findings] == [("unmatched-mask", f"{tmp_path}/train/b.txt")]


def test_pictures_that_cannot_be_read_and_of_one_name_are_found(tmp_path, write_pictures, write_text):
    write_pictures("train/a.jpg", "train/a.png", "train/c.jpg")
    write_text("train/b.jpg", "no picture")
    for name in "abc":
        write_text(f"train/{name}.txt", "0 0.5 0.5 1 1")
    findings = Findings()
    assert [record.id for record in yolo.read_records(tmp_path, "train", findings)] == ["train/c"]
    assert [(finding.code, finding.file, finding.id) for finding in findings] == [
        ("duplicate-stem", f"{tmp_path}/train", "train/a"),
        ("unreadable-file", f"{tmp_path}/train/b.jpg", "train/b"),
    ]


def test_missing_folders_are_named_with_what_is_there(tmp_path, write_pictures):
    write_pictures("images/train/a.jpg")
    with pytest.raises(DataError, match=r"no folder labels/train/ or train/labels/"):
        read_records(tmp_path, "train")
    with pytest.raises(
        DataError, match=r"no folder val/ or valid/ or validation/ or images/val/ .*\n.*holds images/\."
    ):
        read_records(tmp_path, "val")
    with pytest.raises(DataError, match="outside the data root"):
        read_records(tmp_path, "../x")


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("data.yaml", ["names: [cat, dog]"]),
        ("coco.yml", ["nc: 2", "names:", "  0: cat", "  1: dog"]),
        ("classes.txt", ["cat", "dog"]),
        ("obj.names", ["cat", "dog", ""]),
        ("train/names.txt", ["cat", "dog"]),
        ("train/_darknet.labels", ["cat", "dog"]),
    ],
)
def test_names_come_from_every_usual_file(tmp_path, write_pictures, write_text, name, lines):
    write_pictures("train/a.jpg")
    write_text("train/a.txt", "1 0.5 0.5 1 1")
    write_text(name, *lines)
    (record,) = read_records(tmp_path, "train")
    assert record.annotation.shapes[0].label == "dog"
    assert yolo.class_names(tmp_path, ["train"]) == ["cat", "dog"]


def test_without_names_the_numbers_are_names_up_to_the_largest(tmp_path, write_pictures, write_text):
    write_pictures("train/a.jpg", "val/b.jpg")
    write_text("train/a.txt", "1 0.5 0.5 1 1")
    write_text("val/b.txt", "3 0.5 0.5 1 1")
    assert yolo.class_names(tmp_path, ["train", "val"]) == ["0", "1", "2", "3"]
    write_text("val/b.txt", "1000000000000 0.5 0.5 1 1")
    assert yolo.class_names(tmp_path, ["train", "val"]) == ["1", "1000000000000"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"data.yaml": ["names: [cat"]}, r"data\.yaml:2: not valid YAML"),
        ({"data.yaml": ["names:1 2: 3"]}, r"data\.yaml:1: `names` holds no class names"),
        ({"data.yaml": ["names: 3"]}, r"data\.yaml:1: `names` holds no class names"),
        ({"data.yaml": ["names:", "  0: cat", "  first: dog"]}, r"data\.yaml:3: .* found first: dog"),
        ({"data.yaml": ["names: [cat]", "kpt_shape: [17, 3]"]}, r"data\.yaml:2: these labels have key points"),
        ({"a.yaml": ["names: [a]"], "b.yaml": ["names: [b]"]}, r"several files name the classes: a\.yaml, b\.yaml"),
        ({"classes.txt": ["cat", "", "dog"]}, r"classes\.txt:2: no class name in this line"),
    ],
)
def test_names_that_cannot_be_read_are_an_error(tmp_path, write_pictures, write_text, files, message):
    write_pictures("train/a.jpg")
    write_text("train/a.txt", "0 0.5 0.5 1 1")
    for name, lines in files.items():
        write_text(name, *lines)
    with pytest.raises(DataError, match=message):
        read_records(tmp_path, "train")
