"""Pictures are 8 pixels wide and 6 high."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest

from pixbox.config import AnnotatedFolder
from pixbox.data.annotation import region_pixels
from pixbox.data.findings import Findings
from pixbox.data.formats import label_studio
from pixbox.errors import DataError
from tiny import strictly

read_records = strictly(label_studio.read_records)
NUMBERS = itertools.count()
SIZE = {"original_width": 8, "original_height": 6, "image_rotation": 0}


def result(kind, labels=("cat",), size=SIZE, **value):
    return {"id": str(next(NUMBERS)), "type": kind, **size, "value": {**value, kind: list(labels)}}


def rectangle(label="cat", x=25, y=50, width=50, height=50, **more):
    return result("rectanglelabels", [label], x=x, y=y, width=width, height=height, **more)


def task(image, *results, **more):
    annotation = {"id": 1, "was_cancelled": False, "result": list(results)}
    return {"id": 7, "data": {"image": image}, "annotations": [annotation]} | more


def pack(numbers, literal_up_to=2, widths=(3, 4, 8, 16)):
    """Run-length packing as thi.ng/umbrella describes it, written for this test: bits as text, block by block."""
    text = f"{len(numbers):032b}{8 - 1:05b}" + "".join(f"{width - 1:04b}" for width in widths)

    def head(flag, length):
        field = next(place for place, width in enumerate(widths) if length - 1 < 1 << width)
        return f"{flag}{field:02b}{length - 1:0{widths[field]}b}"

    waiting = []
    for value, run in itertools.groupby(numbers):
        length = len(list(run))
        if length <= literal_up_to:
            waiting += [value] * length
            continue
        if waiting:
            text += head(0, len(waiting)) + "".join(f"{item:08b}" for item in waiting)
            waiting = []
        for start in range(0, length, 1 << widths[-1]):
            text += head(1, min(length - start, 1 << widths[-1])) + f"{value:08b}"
    if waiting:
        text += head(0, len(waiting)) + "".join(f"{item:08b}" for item in waiting)
    text += "0" * (-len(text) % 8)
    return [int(text[start : start + 8], 2) for start in range(0, len(text), 8)]


@pytest.fixture
def write_export(tmp_path):
    def write(name, *tasks):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(list(tasks)), encoding="utf-8")

    return write


@pytest.fixture
def read_one(tmp_path, write_pictures, write_export):
    """The annotation of one picture with these results, and the findings as code, message and place within the file."""
    write_pictures("images/a.jpg")

    def read(*results):
        write_export("export.json", task("/data/upload/1/0a1b2c3d-a.jpg", *results))
        findings = Findings()
        (record,) = label_studio.read_records(tmp_path, ".", findings)
        prefix = f"{tmp_path}/export.json: task 7"
        assert all(finding.id == "images/a" for finding in findings)
        return record.annotation, [(item.code, item.message, item.file.removeprefix(prefix)) for item in findings]

    return read


def test_a_rectangle_is_percents_of_width_and_height(read_one, tmp_path):
    annotation, findings = read_one(rectangle(), rectangle("dog", x=-12.5, width=math.nan))
    cat, dog = annotation.shapes
    assert (cat.label, cat.box_xyxy, cat.region) == ("cat", (2, 3, 6, 6), None)
    assert cat.where == f"{tmp_path}/export.json: task 7, result 1"
    assert dog.box_xyxy[:2] == (-1, 3)
    assert math.isnan(dog.box_xyxy[2])
    assert (annotation.file, annotation.size_hw) == (tmp_path / "export.json", (6, 8))
    assert findings == []


def test_a_turned_rectangle_turns_clockwise_about_its_upper_left_corner(read_one):
    # (4, 1), 2 wide and 1 high; turned by 90 degrees it reaches 1 to the left and 2 down.
    annotation, _ = read_one(rectangle(x=50, y=100 / 6, width=25, height=100 / 6, rotation=90))
    (shape,) = annotation.shapes
    assert shape.region[0] == pytest.approx(np.array([[4, 1], [4, 3], [3, 3], [3, 1]]))
    assert shape.box_xyxy == pytest.approx((3, 1, 4, 3))


def test_a_polygon_is_percents_of_width_and_height(read_one):
    annotation, _ = read_one(result("polygonlabels", points=[[0, 0], [50, 0], [25, 100]]))
    (shape,) = annotation.shapes
    assert np.array_equal(shape.region[0], [[0, 0], [4, 0], [2, 6]])
    assert shape.box_xyxy == (0, 0, 4, 6)


def test_an_ellipse_turns_about_its_centre(read_one):
    values = {"x": 50, "y": 50, "radiusX": 37.5, "radiusY": 100 / 6}
    annotation, _ = read_one(result("ellipselabels", **values), result("ellipselabels", **values, rotation=90))
    lying, standing = annotation.shapes
    assert lying.box_xyxy == pytest.approx((1, 2, 7, 4))
    assert standing.box_xyxy == pytest.approx((3, 0, 5, 6))


def test_a_packed_stream_is_read_as_by_hand():
    # Four words of 8 bits, length fields of 3, 4, 8 and 16 bits; three times 0; one literal 255.
    text = f"{4:032b}" + "00111" + "0010" + "0011" + "0111" + "1111" + "1" + "00" + "010" + "00000000"
    text += "0" + "00" + "000" + "11111111"
    data = int(text + "0" * (-len(text) % 8), 2).to_bytes((len(text) + 7) // 8, "big")
    assert label_studio.unpack(data, 4).tolist() == [0, 0, 0, 255]


@pytest.mark.parametrize(("literal_up_to", "widths"), [(0, (3, 4, 8, 16)), (2, (3, 4, 8, 16)), (7, (1, 5, 9, 13))])
def test_what_another_packer_packs_is_unpacked(literal_up_to, widths):
    rng = np.random.default_rng(0)
    numbers = np.repeat(rng.integers(0, 256, 500), rng.integers(1, 40, 500))
    numbers = np.concatenate([numbers, np.full(70_000, 9)]).tolist()
    packed = bytes(pack(numbers, literal_up_to, widths))
    assert label_studio.unpack(packed, len(numbers)).tolist() == numbers


def test_a_brush_stroke_is_where_alpha_is_not_zero(read_one):
    painted = np.zeros((6, 8), dtype=bool)
    painted[1:3, 2:5] = painted[4, 7] = True
    channels = np.zeros((6, 8, 4), dtype=np.uint8)
    channels[:, :, 0] = 200
    channels[painted, 3] = 128
    stroke = result("brushlabels", format="rle", rle=pack(channels.ravel().tolist()))
    annotation, findings = read_one(stroke)
    (shape,) = annotation.shapes
    assert np.array_equal(region_pixels(shape, (6, 8)), painted)
    assert shape.box_xyxy == (2, 1, 8, 5)
    assert findings == []


def test_labels_may_be_given_apart_from_the_shape(read_one):
    value = {"x": 25, "y": 50, "width": 50, "height": 50}
    shape = {"id": "r1", "type": "rectangle", **SIZE, "value": value}
    label = {"id": "r1", "type": "labels", **SIZE, "value": {**value, "labels": ["cat"]}}
    annotation, findings = read_one(shape, label)
    assert [(shape.label, shape.box_xyxy) for shape in annotation.shapes] == [("cat", (2, 3, 6, 6))]
    assert findings == []


def test_what_concerns_the_whole_picture_is_no_object(read_one):
    annotation, findings = read_one({"id": "c", "type": "choices", "value": {"choices": ["night"]}})
    assert annotation.shapes == ()
    assert findings == []


def test_the_size_is_that_of_the_picture_where_none_is_stated(read_one):
    annotation, _ = read_one(rectangle(size={}))
    assert annotation.size_hw is None
    assert annotation.shapes[0].box_xyxy == (2, 3, 6, 6)


@pytest.mark.parametrize(
    ("item", "code", "message"),
    [
        (result("keypointlabels", x=1, y=1, width=1), "empty-box", 'a keypoint of class "cat" has no area'),
        (result("bitmasklabels"), "bad-annotation", "a bitmask cannot be read"),
        (rectangle(width="wide"), "bad-annotation", "`width` is 'wide', not a number"),
        (rectangle(width=10**400), "bad-annotation", "`width` has too many digits"),
        (result("rectanglelabels", x=1, y=1, width=1), "bad-annotation", "has no `height`"),
        (result("rectanglelabels", [], x=1), "bad-annotation", "a rectangle has no label; it needs one"),
        (result("rectanglelabels", ["a", "b"], x=1), "bad-annotation", "a rectangle has 2 labels; it needs one"),
        (result("polygonlabels", points=[[0, 0], [1, 1]]), "bad-annotation",
         "`points` is not a list of three and more [x, y], two numbers each"),
        (result("polygonlabels", points="0,0"), "bad-annotation",
         "`points` is not a list of three and more [x, y], two numbers each"),
        (result("brushlabels", rle="0,1"), "bad-annotation", "`rle` is not a list of numbers 0-255"),
        (result("brushlabels", rle=[0, 0, 0, 4]), "bad-annotation", "`rle` ends too early; the picture is 8 x 6"),
        (result("brushlabels", rle=pack([0] * 100)), "bad-annotation",
         "`rle` holds 100 numbers, not 192; the picture is 8 x 6"),
        (result("brushlabels", rle=pack([0] * 192)[:-1]), "bad-annotation",
         "`rle` ends too early; the picture is 8 x 6"),
        (result("brushlabels", rle=[*pack([0] * 192)[:3], 192, *pack([0] * 200)[4:]]), "bad-annotation",
         "`rle` holds more than 192 numbers; the picture is 8 x 6"),
        (rectangle(size={**SIZE, "image_rotation": 90}), "bad-annotation",
         "the picture was turned by 90 degrees while it was annotated"),
        (rectangle(size={"original_width": 16, "original_height": 6}), "bad-annotation",
         "`original_width` and `original_height` are 16 x 6, in a result before 8 x 6"),
    ],
)  # fmt: skip
def test_wrong_results_are_found_and_the_rest_is_used(read_one, item, code, message):
    annotation, findings = read_one(rectangle(), item)
    assert len(annotation.shapes) == 1
    assert findings == [(code, message, ", result 2")]


@pytest.mark.parametrize(
    ("address", "image"),
    [
        ("/data/upload/3/0a1b2c3d-photo_1.jpg", "photo 1.jpg"),
        ("/data/upload/3/0a1b2c3d-a.jpg", "0a1b2c3d-a.jpg"),
        ("/data/upload/3/0a1b2c3d-caf%C3%A9.jpg", "café.jpg"),
        ("/data/local-files/?d=photos/b/a.jpg", "b/a.jpg"),
        ("s3://bucket/x/a.jpg", "a.jpg"),
        ("https://host/x/a.jpg?token=1", "a.jpg"),
        ("C:\\photos\\a.jpg", "a.jpg"),
    ],
)
def test_pictures_are_found_by_the_name_in_their_address(tmp_path, write_pictures, write_export, address, image):
    write_pictures(f"images/{image}", "images/c/other.jpg")
    write_export("export.json", task(address, rectangle()))
    (record,) = read_records(tmp_path, ".")
    assert record.image == tmp_path / "images" / image


def test_of_two_pictures_of_one_name_the_folder_decides(tmp_path, write_pictures, write_export):
    write_pictures("images/b/a.jpg", "images/c/a.jpg")
    write_export("export.json", task("s3://bucket/c/a.jpg"), task("s3://bucket/a.jpg"))
    findings = Findings()
    assert [record.id for record in label_studio.read_records(tmp_path, ".", findings)] == ["images/c/a"]
    ((code, message),) = [(finding.code, finding.message) for finding in findings]
    assert (code, message) == ("duplicate-stem", '"a.jpg" may be b/a.jpg or c/a.jpg')


def test_the_first_annotation_that_was_not_skipped_counts(tmp_path, write_pictures, write_export):
    write_pictures("a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg")
    skipped = {"was_cancelled": True, "result": [rectangle("skipped")]}
    kept = {"result": [rectangle("kept")]}
    write_export("export.json",
                 {"id": 1, "data": {"image": "a.jpg"}, "annotations": [skipped, kept, {"result": []}]},
                 {"id": 2, "data": {"photo": "b.jpg", "note": "x"}, "completions": [kept]},
                 {"id": 3, "data": {"image": "c.jpg"}, "annotations": [skipped]},
                 {"id": 4, "data": {"image": "d.jpg"}, "annotations": []},
                 {"id": 5, "data": {"image": "e.jpg"}, "annotations": [{"results": []}]})  # fmt: skip
    findings = Findings()
    first, second = label_studio.read_records(tmp_path, ".", findings)
    assert [shape.label for shape in first.annotation.shapes] == ["kept"]
    assert (second.id, len(second.annotation.shapes)) == ("b", 1)
    assert [(finding.code, finding.file, finding.id) for finding in findings] == [
        ("missing-mask", f"{tmp_path}/export.json: task 3", "c"),
        ("missing-mask", f"{tmp_path}/export.json: task 4", "d"),
        ("bad-annotation", f"{tmp_path}/export.json: task 5", "e"),
    ]
    assert label_studio.class_names(tmp_path, ["."]) == ["kept"]


def test_pictures_that_are_not_there_twice_or_not_named_are_found(tmp_path, write_pictures, write_export):
    write_pictures("images/a.jpg")
    tasks = [task("a.jpg"), task("../../b.jpg", id=8), task("x/0a1b2c3d-a.jpg", id=9), {"data": {}, "annotations": []}]
    write_export("export.json", *tasks)
    findings = Findings()
    assert [record.id for record in label_studio.read_records(tmp_path, ".", findings)] == ["images/a"]
    file = f"{tmp_path}/export.json"
    assert sorted((finding.code, finding.file) for finding in findings) == [
        ("bad-annotation", f"{file}: task [4]"),
        ("duplicate-line", f"{file}: task 9"),
        ("missing-file", f"{file}: task 8"),
    ]


@pytest.mark.parametrize(
    ("source", "export", "image"),
    [
        ("train", "train.json", "images/train/a.jpg"),
        ("train", "annotations/train.json", "train/images/a.jpg"),
        ("train", "train/annotations.json", "train/a.jpg"),
        ("val", "valid.json", "images/a.jpg"),
        ("project-1.json", "project-1.json", "a.jpg"),
        (AnnotatedFolder(images="p", annotations="x/all.json"), "x/all.json", "p/a.jpg"),
        (AnnotatedFolder(images="p", annotations="x/all.json", ids="use.txt"), "x/all.json", "p/a.jpg"),
    ],
)
def test_every_layout_is_read(tmp_path, write_pictures, write_export, write_text, source, export, image):
    write_pictures(image, "p/b.jpg")
    tasks = [task("a.jpg"), task("b.jpg")] if isinstance(source, AnnotatedFolder) and source.ids else [task("a.jpg")]
    write_export(export, *tasks)
    write_text("use.txt", "a")
    (record,) = read_records(tmp_path, source)
    assert (record.image, record.annotation.file) == (tmp_path / image, tmp_path / export)


def test_class_names_are_in_natural_order(tmp_path, write_export):
    points = result("keypointlabels", ["point"], x=1, y=1)
    write_export("train.json", task("a.jpg", rectangle("c10"), rectangle("c9"), points))
    write_export("val.json", task("b.jpg", rectangle("c11")))
    assert label_studio.class_names(tmp_path, ["train", "val"]) == ["c9", "c10", "c11"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"[{", "is not JSON"),
        (b'{"images": []}', 'is no list of tasks: its keys are "images"'),
        (b"[]", "is no list of tasks: it is a list"),
        (
            b'[{"image": "a.jpg", "label": []}]',
            'no task has `annotations`; of the first, its keys are "image", "label"',
        ),
        ('[{"note": "Straße"}]'.encode("latin-1"), "is not UTF-8 text"),
    ],
)
def test_files_that_cannot_be_used_name_themselves(tmp_path, content, message):
    (tmp_path / "export.json").write_bytes(content)
    with pytest.raises(DataError) as error:
        read_records(tmp_path, ".")
    assert str(error.value).startswith(f"{tmp_path}/export.json: ")
    assert message in str(error.value)


def test_a_missing_export_says_what_was_looked_for(tmp_path, write_export):
    write_export("a.json", task("a.jpg"))
    write_export("b.json", task("a.jpg"))
    with pytest.raises(DataError, match=r'no annotation file "test" here: looked for test\.json, .*\n.*holds a\.json'):
        read_records(tmp_path, "test")
    with pytest.raises(DataError, match=r"2 JSON files here; `\.` stands for the only one"):
        read_records(tmp_path, ".")
