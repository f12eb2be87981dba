from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pixbox.auditing.objects import anchor_finding, check_objects, compare_anchors
from pixbox.config import DataConfig, DetectionConfig
from pixbox.labels import LabelMap
from pixbox.sample import Record, Shape, Shapes

LABELS = LabelMap.model_validate({"classes": ["cell", "dish"], "ignore_names": ["dust"]})
HW = (100, 200)


def check(*shapes: Shape, size_hw: tuple[int, int] | None = None):
    annotation = Shapes(shapes, Path("a.xml"), size_hw)
    return check_objects(Record("a", Path("a.jpg"), annotation), annotation, LABELS, HW)


def box(x1: float, y1: float, x2: float, y2: float, label: str = "cell", **more: bool) -> Shape:
    return Shape(label, (x1, y1, x2, y2), where=f"a.xml: {label}", **more)


def codes(*shapes: Shape) -> list[str]:
    return [finding.code for finding in check(*shapes).findings]


def test_good_boxes_are_counted_by_class_and_say_nothing() -> None:
    found = check(box(0, 0, 50, 50), box(100, 0, 200, 100), box(10, 60, 40, 90, "dish"))
    assert found.findings == ()
    assert found.counts.tolist() == [2, 1]
    assert found.boxes_xyxy.tolist() == [[0, 0, 50, 50], [100, 0, 200, 100], [10, 60, 40, 90]]


@pytest.mark.parametrize(
    ("corners", "code"),
    [
        ((30, 30, 30, 30), "empty-box"), ((30, 30, 30, 60), "empty-box"), ((60, 30, 30, 60), "inverted-box"),
        ((10, 90, 40, 20), "inverted-box"), ((float("nan"), 0, 9, 9), "invalid-box"),
        ((0, 0, float("inf"), 9), "invalid-box"), ((150, 50, 230, 90), "outside-box"),
        ((-5, 0, 20, 20), "outside-box"), ((300, 10, 350, 40), "outside-box"), ((10, 10, 12, 40), "tiny-box"),
    ],
)  # fmt: skip
def test_each_damage_of_a_box_is_named(corners: tuple[float, float, float, float], code: str) -> None:
    (finding,) = check(box(*corners), box(10, 10, 60, 60)).findings
    assert finding.code == code
    assert finding.file == "a.xml: cell"
    assert finding.id == "a"


def test_a_corner_one_pixel_outside_is_how_some_tools_count_and_says_nothing() -> None:
    assert codes(box(-1, 0, 201, 101)) == []


def test_boxes_that_cannot_be_used_are_not_counted() -> None:
    found = check(box(30, 30, 30, 30), box(60, 30, 30, 60), box(float("nan"), 0, 9, 9), box(0, 0, 20, 20))
    assert found.counts.tolist() == [1, 0]


def test_boxes_of_one_class_on_each_other_are_duplicates_and_of_two_classes_are_not() -> None:
    # 100 x 100 and 100 x 95 share 9,500 of 10,000 pixels: IoU 0.95. With 100 x 89 it is 0.89.
    (finding,) = check(box(0, 0, 100, 100), box(0, 0, 100, 95)).findings
    assert finding.code == "duplicate-box"
    assert finding.details["iou"] == pytest.approx(0.95)
    assert codes(box(0, 0, 100, 100), box(0, 0, 100, 89)) == []
    assert codes(box(0, 0, 100, 100), box(0, 0, 100, 95, "dish")) == []


def test_unknown_names_are_errors_and_ignored_names_are_not() -> None:
    (finding,) = check(box(0, 0, 9, 9, "sell"), box(20, 20, 40, 40)).findings
    assert finding.code == "unknown-class"
    assert 'Did you mean "cell"?' in finding.hint
    found = check(box(0, 0, 9, 9, "dust"), box(20, 20, 40, 40))
    assert found.findings == ()
    assert found.counts.tolist() == [1, 0]


def test_a_picture_without_objects_is_a_note() -> None:
    (finding,) = check().findings
    assert (finding.code, finding.severity) == ("no-objects", "note")


@pytest.mark.parametrize(
    ("stated", "words"), [((50, 100), "scaled"), ((200, 100), "turned"), ((100, 300), "300 x 100")]
)
def test_another_stated_size_is_a_warning_with_what_follows_from_it(stated: tuple[int, int], words: str) -> None:
    found = check(box(10, 10, 40, 40), size_hw=stated)
    (finding,) = found.findings
    assert finding.code == "annotation-size"
    assert words in finding.message
    assert found.boxes_xyxy.tolist() == [[20, 20, 80, 80] if stated == (50, 100) else [10, 10, 40, 40]]


def test_anchors_are_compared_at_the_size_that_the_network_sees() -> None:
    boxes = [np.array([[100, 100, 124, 124]] * 10, np.float32)]
    small = DetectionConfig(anchors=[(24.0, 24.0)], levels=1)
    # At full size the anchor fits the box but for its place (at most half a stride off in x and y).
    whole = compare_anchors(boxes, [(512, 512)], DataConfig(root=".", size=(512, 512), fit="crop"), small)
    assert whole is not None
    assert (whole.boxes, whole.recall) == (10, 1.0)
    # A quarter of the size leaves boxes of 6 pixels, which no anchor of 24 reaches: 36 / 576.
    shrunk = compare_anchors(boxes, [(512, 512)], DataConfig(root=".", size=(128, 128), fit="pad"), small)
    assert shrunk is not None
    assert shrunk.recall == 0.0
    finding = anchor_finding(shrunk, small)
    assert finding is not None
    assert "10 of 10 boxes" in finding.message
    assert anchor_finding(whole, small) is None


def test_without_boxes_there_is_nothing_to_compare() -> None:
    empty = [np.zeros((0, 4), np.float32)]
    assert compare_anchors(empty, [(9, 9)], DataConfig(root="."), DetectionConfig()) is None
