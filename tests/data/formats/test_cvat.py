"""Pictures are 8 pixels wide and 6 high."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pixbox.config import AnnotatedFolder
from pixbox.data.annotation import region_pixels
from pixbox.data.findings import Findings
from pixbox.data.formats import cvat
from pixbox.errors import DataError
from tiny import strictly

read_records = strictly(cvat.read_records)


def picture(name, *objects, size='width="8" height="6"'):
    return f'<image id="0" name="{name}" {size}>{"".join(objects)}</image>'


@pytest.fixture
def write_xml(write_text):
    def write(name, *pictures, meta=""):
        write_text(name, '<?xml version="1.0" encoding="utf-8"?>', "<annotations><version>1.1</version>", meta,
                   *pictures, "</annotations>")  # fmt: skip

    return write


@pytest.fixture
def read_one(tmp_path, write_pictures, write_xml):
    """The annotation of one picture with these objects, and the findings as code, message and place within the file."""
    write_pictures("images/a.jpg")

    def read(*objects, **size):
        write_xml("annotations.xml", picture("a.jpg", *objects, **size))
        findings = Findings()
        (record,) = cvat.read_records(tmp_path, ".", findings)
        prefix = f"{tmp_path}/annotations.xml: "
        assert all(finding.id == "images/a" for finding in findings)
        return record.annotation, [(item.code, item.message, item.file.removeprefix(prefix)) for item in findings]

    return read


def test_boxes_and_outlines_are_read_as_written(read_one, tmp_path):
    annotation, findings = read_one(
        '<box label="cat" source="manual" occluded="0" xtl="1.5" ytl="2" xbr="9" ybr="nan" z_order="0"></box>',
        '<polygon label="dog" points="1,2;5.5,2;3,6" z_order="0"><attribute name="a">b</attribute></polygon>',
        '<tag label="night"/>',
    )
    box, polygon = annotation.shapes
    assert (box.label, box.box_xyxy[:3], box.region) == ("cat", (1.5, 2, 9), None)
    assert math.isnan(box.box_xyxy[3])
    assert (polygon.label, polygon.box_xyxy) == ("dog", (1, 2, 5.5, 6))
    assert np.array_equal(polygon.region[0], [[1, 2], [5.5, 2], [3, 6]])
    assert polygon.where == f'{tmp_path}/annotations.xml: image "a.jpg", polygon 2'
    assert (annotation.file, annotation.size_hw) == (tmp_path / "annotations.xml", (6, 8))
    assert findings == []


def test_a_mask_is_run_lengths_by_row_within_its_rectangle(read_one):
    # Two rows of three: 0 0 1 / 1 1 0, from column 2, row 1 on.
    annotation, _ = read_one('<mask label="cat" rle="2, 3, 1" left="2" top="1" width="3" height="2" z_order="0"/>')
    (mask,) = annotation.shapes
    expected = np.zeros((6, 8), dtype=bool)
    expected[1, 4] = expected[2, 2] = expected[2, 3] = True
    assert np.array_equal(region_pixels(mask, (6, 8)), expected)
    assert mask.box_xyxy == (2, 1, 5, 3)


def test_a_mask_may_reach_outside_and_need_not_state_the_size(read_one):
    annotation, _ = read_one('<mask label="cat" rle="0,9" left="6" top="-1" width="3" height="3"/>', size="")
    assert annotation.size_hw is None
    expected = np.zeros((6, 8), dtype=bool)
    expected[0:2, 6:8] = True
    assert np.array_equal(region_pixels(annotation.shapes[0], (6, 8)), expected)


def test_an_ellipse_becomes_an_outline(read_one):
    annotation, _ = read_one(
        '<ellipse label="cell" cx="4" cy="3" rx="3" ry="1"/>',
        '<ellipse label="cell" cx="4" cy="3" rx="3" ry="1" rotation="90"/>',
    )
    lying, standing = annotation.shapes
    assert lying.box_xyxy == pytest.approx((1, 2, 7, 4))
    assert standing.box_xyxy == pytest.approx((3, 0, 5, 6))
    (outline,) = lying.region
    assert ((outline[:, 0] - 4) / 3) ** 2 + (outline[:, 1] - 3) ** 2 == pytest.approx(1)


def test_a_turned_box_is_an_outline_turned_clockwise_about_its_centre(read_one):
    # 4 wide, 2 high about (4, 3). Turned by 90 degrees, its upper left corner (2, 2) goes to the upper right.
    annotation, _ = read_one('<box label="cat" xtl="2" ytl="2" xbr="6" ybr="4" rotation="90"/>')
    (box,) = annotation.shapes
    assert box.region[0] == pytest.approx(np.array([[5, 1], [5, 5], [3, 5], [3, 1]]))
    assert box.box_xyxy == pytest.approx((3, 1, 5, 5))


def test_objects_of_a_larger_z_order_lie_over_others(read_one):
    names = [("first", 0), ("top", 2), ("last", 0), ("under", -1), ("middle", 1)]
    annotation, _ = read_one(
        *(f'<box label="{name}" xtl="1" ytl="1" xbr="2" ybr="2" z_order="{z_order}"/>' for name, z_order in names)
    )
    assert [shape.label for shape in annotation.shapes] == ["under", "first", "last", "middle", "top"]


@pytest.mark.parametrize("tag", ["polyline", "points", "skeleton"])
def test_what_has_no_area_is_left_out_with_a_warning(read_one, tag):
    annotation, findings = read_one(f'<{tag} label="lane" points="1,1;2,2"/>')
    assert annotation.shapes == ()
    assert findings == [("empty-box", f'{tag} of class "lane": it has no area', f'image "a.jpg", {tag} 1')]


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ('<box xtl="1" ytl="1" xbr="2" ybr="2"/>', "has no `label`"),
        ('<box label="cat" xtl="1" ytl="1" xbr="2"/>', "has no `ybr`"),
        ('<box label="cat" xtl="1" ytl="one" xbr="2" ybr="2"/>', '`ytl` is "one", not a number'),
        ('<box label="cat" xtl="1" ytl="1" xbr="2" ybr="2" z_order="up"/>', '`z_order` is "up", not a number'),
        ('<polygon label="cat" points="1,1;2,2"/>', "`points` holds 2 points; an outline needs at least 3"),
        ('<polygon label="cat" points="1,1;2;3,3"/>', '`points` is "1,1;2;3,3", not x,y;x,y;x,y'),
        ('<polygon label="cat"/>', '`points` is "", not x,y;x,y;x,y'),
        ('<cuboid label="cat" xtl1="1"/>', "a cuboid cannot be read"),
        ('<mask label="cat" rle="1,2" left="0" top="0" width="2" height="2"/>',
         "`rle` does not fill the 2 x 2 pixels of the mask"),
        ('<mask label="cat" rle="-1,5" left="0" top="0" width="2" height="2"/>',
         "`rle` does not fill the 2 x 2 pixels of the mask"),
        ('<mask label="cat" rle="4" left="0" top="0" width="-2" height="-2"/>',
         "`rle` does not fill the -2 x -2 pixels of the mask"),
        ('<mask label="cat" rle="a,b" left="0" top="0" width="2" height="2"/>',
         '`rle` is "a,b", not a list of whole numbers'),
        ('<mask label="cat" rle="4" left="0.5" top="0" width="2" height="2"/>',
         "`left` is 0.5, not a whole number"),
        ('<mask label="cat" rle="10000000000" left="0" top="0" width="100000" height="100000"/>',
         "a mask of 100000 x 100000 pixels: too large to be read"),
    ],
)  # fmt: skip
def test_wrong_objects_are_found_and_the_rest_is_used(read_one, item, message):
    annotation, ((code, what, where),) = read_one(item, '<box label="cat" xtl="1" ytl="1" xbr="2" ybr="2"/>')
    assert len(annotation.shapes) == 1
    assert (code, what) == ("bad-annotation", message)
    assert where.startswith('image "a.jpg", ')
    assert where.endswith(" 1")


def test_a_wrong_size_of_the_picture_is_found(read_one):
    annotation, findings = read_one(size='width="wide" height="6"')
    assert annotation.size_hw is None
    assert findings == [("bad-annotation", '`width` is "wide", not a number', 'image "a.jpg"')]


@pytest.mark.parametrize(
    ("source", "xml", "name", "image"),
    [
        ("train", "train.xml", "a.jpg", "images/train/a.jpg"),
        ("train", "annotations/train.xml", "x/a.jpg", "images/x/a.jpg"),
        ("train", "train/annotations.xml", "a.jpg", "train/images/a.jpg"),
        ("train", "train/annotations.xml", "x\\a.jpg", "train/x/a.jpg"),
        ("val", "validation.xml", "a.jpg", "a.jpg"),
        ("sub/task.xml", "sub/task.xml", "a.jpg", "images/task/a.jpg"),
        (".", "annotations.xml", "frame_000000", "images/frame_000000.PNG"),
        (AnnotatedFolder(images="p", annotations="x/all.xml"), "x/all.xml", "a.jpg", "p/a.jpg"),
    ],
)
def test_every_layout_is_read(tmp_path, write_pictures, write_xml, source, xml, name, image):
    write_pictures(image)
    write_xml(xml, picture(name))
    (record,) = read_records(tmp_path, source)
    assert (record.image, record.annotation.file) == (tmp_path / image, tmp_path / xml)
    assert record.annotation.shapes == ()


def test_ids_choose_pictures(tmp_path, write_pictures, write_xml, write_text):
    write_pictures("p/a.jpg", "p/x/b.jpg")
    write_xml("all.xml", picture("a.jpg"), picture("x/b.jpg"))
    write_text("use.txt", "x/b", "c")
    findings = Findings()
    source = AnnotatedFolder(images="p", annotations="all.xml", ids="use.txt")
    assert [record.id for record in cvat.read_records(tmp_path, source, findings)] == ["p/x/b"]
    assert [(finding.code, finding.file) for finding in findings] == [("missing-file", f"{tmp_path}/use.txt:2")]


def test_pictures_that_are_not_there_outside_or_twice_are_found(tmp_path, write_pictures, write_xml):
    write_pictures("images/a.jpg")
    names = ("../../b.jpg", "/etc/b.jpg", "c.jpg", "a.jpg", "a.jpg", "")
    write_xml("annotations.xml", *(picture(name) for name in names))
    findings = Findings()
    assert [record.id for record in cvat.read_records(tmp_path, ".", findings)] == ["images/a"]
    file = f"{tmp_path}/annotations.xml"
    assert [(finding.code, finding.file, finding.id) for finding in findings] == [
        ("outside-root", f'{file}: image "../../b.jpg"', ""),
        ("outside-root", f'{file}: image "/etc/b.jpg"', ""),
        ("missing-file", f'{file}: image "c.jpg"', "images/c"),
        ("duplicate-line", f"{file}: image 5", ""),
        ("bad-annotation", f"{file}: image 6", ""),
    ]


@pytest.mark.parametrize("owner", ["task", "project", "job"])
def test_class_names_are_those_that_the_file_defines(tmp_path, write_xml, owner):
    labels = ["<label><name>dog</name></label>", "<label><name>background</name></label>",
              "<label><name>cat</name></label>", "<label><name>paw</name><parent>cat</parent></label>"]  # fmt: skip
    meta = f"<meta><{owner}><name>x</name><labels>{''.join(labels)}</labels></{owner}></meta>"
    write_xml("annotations.xml", picture("a.jpg"), meta=meta)
    assert cvat.class_names(tmp_path, ["."]) == ["dog", "cat"]


def test_where_no_class_is_defined_the_names_are_those_of_the_objects(tmp_path, write_xml):
    boxes = (f'<box label="{label}" xtl="1" ytl="1" xbr="2" ybr="2"/>' for label in ("c10", "background", "c9"))
    write_xml("annotations.xml", picture("a.jpg", *boxes, '<points label="p" points="1,1"/>'))
    assert cvat.class_names(tmp_path, ["."]) == ["c9", "c10"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"<annotations>", "is not XML"),
        (b'<!DOCTYPE a [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]><annotations>&b;</annotations>', "which is refused"),
        (b"<annotation/>", "<annotations> is missing; the file starts with <annotation>"),
        (b'<annotations><track id="0" label="car"/></annotations>', "is a file of CVAT for video: it holds tracks"),
        (b"<annotations/>", "lists no pictures"),
    ],
)
def test_files_that_cannot_be_used_name_themselves(tmp_path, content, message):
    (tmp_path / "annotations.xml").write_bytes(content)
    with pytest.raises(DataError) as error:
        read_records(tmp_path, ".")
    assert str(error.value).startswith(f"{tmp_path}/annotations.xml: ")
    assert message in str(error.value)


def test_a_missing_file_says_what_was_looked_for(tmp_path, write_xml):
    write_xml("train.xml")
    with pytest.raises(
        DataError, match=r'no annotation file "test" here: looked for test\.xml, .*\n.*holds train\.xml\.'
    ):
        read_records(tmp_path, "test")
    with pytest.raises(DataError, match="outside the data root"):
        read_records(tmp_path, "../x")
