from __future__ import annotations

import math

import pytest

from pixbox.config import AnnotatedFolder
from pixbox.data.findings import Findings
from pixbox.data.formats import box_list
from pixbox.errors import ConfigError, DataError
from tiny import strictly

read_records = strictly(box_list.read_records)


@pytest.fixture
def find(tmp_path):
    """What is found in a list: code, file, message and id of each finding."""

    def read(source="train"):
        findings = Findings()
        records = box_list.read_records(tmp_path, source, findings)
        return records, [(finding.code, finding.file, finding.message, finding.id) for finding in findings]

    return read


def test_boxes_have_y_first_and_classes_count_from_one(tmp_path, write_pictures, write_text):
    write_pictures("a.jpg", "sub/b.jpg")
    write_text("train.txt", "a.jpg 1 2 4 7 1 0.5 0 nan 1e1 3", "sub/b.jpg")
    first, second = read_records(tmp_path, "train")
    one, three = first.annotation.shapes
    # ymin 1, xmin 2, ymax 4, xmax 7.
    assert (one.label, one.box_xyxy, one.where) == ("1", (2, 1, 7, 4), f"{tmp_path}/train.txt:1")
    assert three.label == "3"
    assert three.box_xyxy[:3] == (0, 0.5, 10)
    assert math.isnan(three.box_xyxy[3])
    assert (first.annotation.file, first.annotation.size_hw) == (tmp_path / "train.txt", None)
    assert (second.id, second.annotation.shapes) == ("sub/b", ())


def test_labels_are_the_lines_of_classes_txt(tmp_path, write_pictures, write_text, find):
    write_pictures("a.jpg", "b.jpg")
    write_text("classes.txt", "red cell", "platelet")
    write_text("train.txt", "a.jpg 1 2 4 7 2", "b.jpg 1 2 4 7 1 1 2 4 7 3")
    (record,), findings = find()
    assert [shape.label for shape in record.annotation.shapes] == ["platelet"]
    assert findings == [
        ("unknown-class", f"{tmp_path}/train.txt:2", "class 3 of box 2 has no name: classes.txt has 2 lines", "b")
    ]
    assert box_list.class_names(tmp_path, ["train"]) == ["red cell", "platelet"]


def test_without_classes_txt_the_numbers_are_names_up_to_the_largest(tmp_path, write_text):
    write_text("train.txt", "a.jpg 1 2 4 7 2", "b.jpg 1 2 4 7", "c.jpg")
    write_text("val.txt", "d.jpg 1 2 4 7 4")
    assert box_list.class_names(tmp_path, ["train"]) == ["1", "2"]
    assert box_list.class_names(tmp_path, ["train", "val.txt"]) == ["1", "2", "3", "4"]
    write_text("val.txt", "d.jpg 1 2 4 7 4000000000")
    assert box_list.class_names(tmp_path, ["train", "val.txt"]) == ["2", "4000000000"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.jpg 1 2 4 7", "4 numbers, which is no multiple of five"),
        ("a.jpg 1 2 4 7 1 9", "6 numbers, which is no multiple of five"),
        ("a.jpg 1 2 4 7 cat", '"cat" is not a number'),
        ("a.jpg 1,2,4,7,1", '"1,2,4,7,1" is not a number'),
        ("a.jpg 1 2 4 7 1 1 2 4 7 0", "the class number of box 2 is 0; it must be 1, 2, 3, ..."),
        ("a.jpg 1 2 4 7 1.5", "the class number of box 1 is 1.5; it must be 1, 2, 3, ..."),
    ],
)
def test_lines_that_cannot_be_read_are_found(tmp_path, write_pictures, write_text, find, line, message):
    write_pictures("a.jpg", "b.jpg")
    write_text("train.txt", "b.jpg 1 2 4 7 1", line)
    (record,), findings = find()
    assert record.id == "b"
    assert findings == [("bad-line", f"{tmp_path}/train.txt:2", message, "a")]


def test_pictures_that_are_not_there_or_listed_twice_are_found(tmp_path, write_pictures, write_text, find):
    write_pictures("a.jpg")
    write_text("train.txt", "../b.jpg 1 2 4 7 1", "/etc/b.jpg", "c.jpg 1 2 4 7 1", "a.jpg", "a.jpg 1 2 4 7 1")
    (record,), findings = find()
    assert record.annotation.shapes == ()
    assert [(code, file, id_) for code, file, _, id_ in findings] == [
        ("outside-root", f"{tmp_path}/train.txt:1", ""),
        ("outside-root", f"{tmp_path}/train.txt:2", ""),
        ("missing-file", f"{tmp_path}/train.txt:3", "c"),
        ("duplicate-line", f"{tmp_path}/train.txt:5", ""),
    ]


@pytest.mark.parametrize("folder", ["JPEGImages", "images"])
def test_pictures_may_lie_in_the_usual_folders(tmp_path, write_pictures, write_text, folder):
    write_pictures(f"{folder}/a.jpg")
    write_text("train.txt", "a.jpg 1 2 4 7 1")
    assert [record.id for record in read_records(tmp_path, "train.txt")] == [f"{folder}/a"]


def test_folder_and_list_can_be_named(tmp_path, write_pictures, write_text):
    write_pictures("p/a.jpg", "a.jpg")
    write_text("lists/all.txt", "a.jpg 1 2 4 7 1")
    source = AnnotatedFolder(images="p", annotations="lists/all.txt")
    assert [record.id for record in read_records(tmp_path, source)] == ["p/a"]
    with pytest.raises(ConfigError, match="`ids` does not go with"):
        read_records(tmp_path, AnnotatedFolder(images="p", annotations="lists/all.txt", ids="x.txt"))
    with pytest.raises(DataError, match="no folder q/"):
        read_records(tmp_path, AnnotatedFolder(images="q", annotations="lists/all.txt"))


def test_a_list_of_windows_is_read_and_others_name_themselves(tmp_path, write_pictures):
    write_pictures("sub/a.jpg")
    (tmp_path / "train.txt").write_bytes(b"\xef\xbb\xbf# boxes\r\n\r\nsub\\a.jpg 1 2 4 7 1\r\n")
    assert [record.id for record in read_records(tmp_path, "train")] == ["sub/a"]
    (tmp_path / "train.txt").write_bytes("straße.jpg 1 2 4 7 1".encode("latin-1"))
    with pytest.raises(DataError, match=r"train\.txt: is not UTF-8 text \(byte 4\)"):
        read_records(tmp_path, "train")
    (tmp_path / "train.txt").write_bytes(b"")
    with pytest.raises(DataError, match=r"train\.txt: the list is empty"):
        read_records(tmp_path, "train")
    with pytest.raises(DataError, match='no list "val" here'):
        read_records(tmp_path, "val")
