"""Pictures are 8 pixels wide and 6 high."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import pytest

from pixbox.config import AnnotatedFolder
from pixbox.data.findings import Findings
from pixbox.data.formats import voc_boxes
from pixbox.errors import DataError
from tiny import strictly

read_records = strictly(voc_boxes.read_records)

BCCD = Path(__file__).parents[3].parent / "shared" / "data" / "bccd"
SIZE = "<size><width>8</width><height>6</height><depth>3</depth></size>"


def box(name="cat", corners=(1, 2, 5, 6), rest="<difficult>0</difficult>"):
    tags = ("xmin", "ymin", "xmax", "ymax")
    inside = "".join(f"<{tag}>{value}</{tag}>" for tag, value in zip(tags, corners, strict=True))
    return f"<object><name>{name}</name>{rest}<bndbox>{inside}</bndbox></object>"


@pytest.fixture
def write_xml(write_text):
    def write(name, *objects, size=SIZE):
        write_text(name, "<annotation>", "<filename>../../other.png</filename>", size, *objects, "</annotation>")

    return write


@pytest.fixture
def read_one(tmp_path, write_pictures, write_xml):
    """What becomes of one picture ``a.jpg`` whose XML file holds these objects: its annotation, and the findings."""
    write_pictures("a.jpg")

    def read(*objects, size=SIZE):
        write_xml("a.xml", *objects, size=size)
        findings = Findings()
        records = voc_boxes.read_records(tmp_path, ".", findings)
        return [record.annotation for record in records], list(findings)

    return read


def test_boxes_are_read_as_written(read_one, tmp_path):
    (annotation,), findings = read_one(
        box(), box("dog", (0.5, 7, -3, 4e1), "<difficult>1</difficult><truncated>1</truncated>"), box("cat ", rest="")
    )
    cat, dog, other = annotation.shapes
    assert (cat.label, cat.box_xyxy, cat.difficult) == ("cat", (1, 2, 5, 6), False)
    assert (dog.label, dog.box_xyxy, dog.difficult) == ("dog", (0.5, 7, -3, 40), True)
    assert (other.label, other.difficult) == ("cat", False)
    assert dog.where == f"{tmp_path}/a.xml: object 2"
    assert (annotation.file, annotation.size_hw) == (tmp_path / "a.xml", (6, 8))
    assert findings == []


def test_no_numbers_are_left_to_the_audit(read_one):
    (annotation,), _ = read_one(box(corners=("nan", 1, 2, 3)))
    assert math.isnan(annotation.shapes[0].box_xyxy[0])


def test_a_picture_without_objects_is_one(read_one):
    (annotation,), findings = read_one()
    assert annotation.shapes == ()
    assert findings == []


@pytest.mark.parametrize("size", ["", "<size/>", "<size><width>0</width><height>0</height></size>"])
def test_a_size_that_nobody_wrote_is_none(read_one, size):
    assert read_one(size=size)[0][0].size_hw is None


def test_parts_of_an_object_are_not_taken_for_it(read_one):
    part = "<part><name>head</name><bndbox><xmin>7</xmin></bndbox></part>"
    (annotation,), _ = read_one(box("person", rest=part))
    assert [(shape.label, shape.box_xyxy) for shape in annotation.shapes] == [("person", (1, 2, 5, 6))]


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (box(""), "<name> is missing or empty"),
        ("<object><name>cat</name></object>", "<bndbox> is missing"),
        (box(corners=("", 1, 2, 3)), "<xmin> is missing or empty"),
        (box(corners=(1, 1, 2, "3 px")), '<ymax> is "3 px", not a number'),
        (box(rest="<difficult>maybe</difficult>"), '<difficult> is "maybe", not 0 or 1'),
    ],
)
def test_wrong_fields_are_found_with_file_and_object(read_one, tmp_path, item, message):
    (annotation,), (finding,) = read_one(box("first"), item, box("last"))
    assert [shape.label for shape in annotation.shapes] == ["first", "last"]
    assert (finding.code, finding.file, finding.message, finding.id) == (
        "bad-annotation",
        f"{tmp_path}/a.xml: object 2",
        message,
        "a",
    )


def test_every_wrong_object_of_a_file_is_found(read_one):
    assert len(read_one(box(""), box(), box(corners=("", 1, 2, 3)))[1]) == 2


def test_a_wrong_size_is_found(read_one, tmp_path):
    (annotation,), (finding,) = read_one(box(), size="<size><width>wide</width><height>6</height></size>")
    assert (len(annotation.shapes), annotation.size_hw) == (1, None)
    assert (finding.file, finding.message) == (f"{tmp_path}/a.xml: size", '<width> is "wide", not a number')
    _, (finding,) = read_one(size="<size><width>-8</width><height>6</height></size>")
    assert finding.message == "<width> and <height> are -8 and 6, not whole numbers"


BOMB = b'<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><annotation>&b;</annotation>'
OUTSIDE = b'<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/passwd">]><annotation>&a;</annotation>'


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        (BOMB, "bad-annotation", "is XML that defines entities or names other files, which is refused"),
        (OUTSIDE, "bad-annotation", "is XML that defines entities or names other files, which is refused"),
        (b"<annotation><object></annotation>", "bad-annotation", "is not XML (mismatched tag: line 1, column 22)"),
        (b"no XML", "bad-annotation", "is not XML (syntax error: line 1, column 0)"),
        (b"<html/>", "bad-annotation", "<annotation> is missing; the file starts with <html>"),
        (b'<?xml version="1.0" encoding="nonsense"?><annotation/>', "bad-annotation", "is not XML"),
        ("<annotation><folder>Straße</folder></annotation>".encode("latin-1"), "bad-annotation", "is not XML"),
        (b"", "empty-file", "the file is empty"),
    ],
)
def test_files_that_are_no_annotation_are_found_and_never_crash(tmp_path, write_pictures, content, code, message):
    write_pictures("a.jpg", "b.jpg")
    (tmp_path / "a.xml").write_bytes(content)
    (tmp_path / "b.xml").write_bytes(b"\xef\xbb\xbf<annotation>\r\n</annotation>\r\n")
    findings = Findings()
    assert [record.id for record in voc_boxes.read_records(tmp_path, ".", findings)] == ["b"]
    (finding,) = findings
    assert (finding.code, finding.file, finding.id) == (code, f"{tmp_path}/a.xml", "a")
    assert finding.message.startswith(message)
    assert voc_boxes.class_names(tmp_path, ["."]) == []


@pytest.mark.parametrize(
    ("source", "image", "xml"),
    [
        ("train", "JPEGImages/a.jpg", "Annotations/a.xml"),
        ("train.txt", "JPEGImages/a.jpg", "Annotations/a.xml"),
        ("all", "JPEGImages/b.jpg", "Annotations/b.xml"),
        ("all", "images/b.png", "annotations/b.xml"),
        (".", "sub/b.jpg", "sub/b.xml"),
        ("val", "valid/b.jpg", "valid/b.xml"),
        ("test", "test/images/b.jpg", "test/annotations/b.xml"),
        ("test", "images/test/b.jpg", "annotations/test/b.xml"),
        (AnnotatedFolder(images="p", annotations="x"), "p/b.jpg", "x/b.xml"),
        (AnnotatedFolder(images="p", annotations="x", ids="ImageSets/Main/train.txt"), "p/a.jpg", "x/a.xml"),
    ],
)
def test_every_layout_is_read(tmp_path, write_pictures, write_xml, write_text, source, image, xml):
    write_pictures(image)
    write_xml(xml, box())
    write_text("ImageSets/Main/train.txt", "a")
    (record,) = read_records(tmp_path, source)
    assert record.image == tmp_path / image
    assert record.annotation.file == tmp_path / xml


def test_lists_give_the_order_and_their_faults_are_found(tmp_path, write_pictures, write_xml, write_text):
    write_pictures(*(f"JPEGImages/{name}.jpg" for name in ("a", "b", "c", "d 1")))
    for name in ("a", "c", "d 1", "x"):
        write_xml(f"Annotations/{name}.xml", box())
    write_text("ImageSets/Main/train.txt", "c", "a", "b", "x", "a", "d 1", "a  -1")
    findings = Findings()
    records = voc_boxes.read_records(tmp_path, "train", findings)
    assert [record.id for record in records] == ["JPEGImages/c", "JPEGImages/a", "JPEGImages/d 1"]
    where = f"{tmp_path}/ImageSets/Main/train.txt"
    assert [(finding.code, finding.file, finding.id) for finding in findings] == [
        ("bad-line", f"{where}:7", ""),
        ("missing-file", f"{where}:4", "JPEGImages/x"),
        ("missing-mask", f"{tmp_path}/JPEGImages/b.jpg", "JPEGImages/b"),
        ("duplicate-line", f"{where}:5", ""),
    ]
    assert next(iter(findings)).message == 'two entries in "a  -1": this is the list of a class'


def test_pictures_without_xml_and_xml_without_picture_are_found(tmp_path, write_pictures, write_xml):
    write_pictures("train/a.jpg", "train/b.jpg", "train/c.jpg", "train/c.png")
    for name in "acd":
        write_xml(f"train/{name}.xml", box())
    findings = Findings()
    assert [record.id for record in voc_boxes.read_records(tmp_path, "train", findings)] == ["train/a"]
    assert [(finding.code, finding.file, finding.id) for finding in findings] == [
        ("missing-mask", f"{tmp_path}/train/b.jpg", "train/b"),
        ("duplicate-stem", f"{tmp_path}/train", "train/c"),
        ("unmatched-mask", f"{tmp_path}/train/d.xml", ""),
    ]


def test_missing_folders_and_lists_are_named_with_what_is_there(tmp_path, write_pictures, write_text):
    with pytest.raises(DataError, match=r"no folder train/JPEGImages/ or .* or train/\n"):
        read_records(tmp_path, "train")
    write_pictures("JPEGImages/a.jpg")
    write_text("ImageSets/Main/val.txt", "a")
    with pytest.raises(DataError, match=r'no list "train" here: looked for ImageSets/Main/train, .*\n.*val\.txt'):
        read_records(tmp_path, "train")
    with pytest.raises(DataError, match=r"no folder Annotations/\n"):
        read_records(tmp_path, "val")
    with pytest.raises(DataError, match="outside the data root"):
        read_records(tmp_path, "../../../x")


def test_class_names_are_in_natural_order_or_in_that_of_voc(tmp_path, write_pictures, write_xml):
    write_pictures("a/1.jpg", "b/1.jpg")
    write_xml("a/1.xml", box("person"), box("car"), box("aeroplane"))
    write_xml("b/1.xml", box("c10"), box("c9"), box(""))
    assert voc_boxes.class_names(tmp_path, ["a"]) == ["aeroplane", "car", "person"]
    assert voc_boxes.class_names(tmp_path, ["a", "b"]) == ["aeroplane", "c9", "c10", "car", "person"]


@pytest.mark.skipif(not BCCD.is_dir(), reason="the blood cell pictures are not here")
def test_real_blood_cells_have_3943_boxes():
    train, val = read_records(BCCD, "train"), read_records(BCCD, "val")
    assert (len(train), len(val)) == (205, 87)
    counts = Counter(shape.label for record in train + val for shape in record.annotation.shapes)
    assert counts == {"RBC": 3350, "WBC": 301, "Platelets": 292}
    assert {record.annotation.size_hw for record in train + val} == {(480, 640)}
    empty = [(shape.where.rpartition("/")[2], shape.box_xyxy) for record in train + val
             for shape in record.annotation.shapes if shape.box_xyxy[0] == shape.box_xyxy[2]]  # fmt: skip
    assert sorted((where.partition(".")[0], box[:2]) for where, box in empty) == [
        ("BloodImage_00338", (504, 337)),
        ("BloodImage_00343", (181, 329)),
    ]
    assert voc_boxes.class_names(BCCD, ["train", "val"]) == ["Platelets", "RBC", "WBC"]
    assert {record.id for record in read_records(BCCD, "all")} == {record.id for record in train + val}
