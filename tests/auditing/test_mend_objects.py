"""Objects on a picture 40 pixels wide and 20 high."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from pixbox.auditing.mend_objects import mend_boxes, mend_regions
from pixbox.data.annotation import paint
from pixbox.labels import IGNORE, LabelClass, LabelMap
from pixbox.sample import RunLengths, Shape, Shapes

SIZE_HW = (20, 40)
LABELS = LabelMap(
    classes=(LabelClass(name="ground", values=(0,)), LabelClass(name="cat", values=(1,), aliases=("kitty",)),
             LabelClass(name="dog", values=(2,))),
    ignore_names=("blur",),
)  # fmt: skip
FILE = Path("/data/a.json")


def shapes(*found: tuple[Any, ...], size_hw: tuple[int, int] | None = None, **more: Any) -> Shapes:
    """Objects given as (label, x1, y1, x2, y2)."""
    made = [
        Shape(label, tuple(corners), where=f"{FILE}: object {number}", **more)
        for number, (label, *corners) in enumerate(found)
    ]
    return Shapes(tuple(made), FILE, size_hw)


def test_each_damage_of_a_box_is_mended_and_told() -> None:
    kept, changes = mend_boxes(
        shapes(
            ("cat", 2, 3, 12, 13), ("cat", 12, 13, 2, 3.2), ("dog", -5, 2, 50, 8), ("dog", 5, 5, 5, 9),
            ("dog", math.nan, 1, 2, 3), ("mouse", 1, 1, 5, 5), ("dog", 45, 2, 50, 8), ("kitty", 20, 5, 30, 15),
            ("blur", 20, 5, 30, 15),
        ),
        SIZE_HW, LABELS,
    )  # fmt: skip
    assert [(shape.label, *shape.box_xyxy) for shape in kept] == [
        ("cat", 2, 3, 12, 13), ("dog", 0, 2, 40, 8), ("cat", 20, 5, 30, 15), ("blur", 20, 5, 30, 15)
    ]  # fmt: skip
    assert [(change.file[-1], change.what) for change in changes] == [
        ("1", "corners swapped"), ("2", "box clipped"), ("3", "object dropped"), ("4", "object dropped"),
        ("5", "object dropped"), ("6", "object dropped"), ("1", "copy of a box dropped"),
    ]  # fmt: skip
    clipped = changes[1]
    assert (clipped.before, clipped.after) == ('"dog" (-5, 2, 50, 8)', '"dog" (0, 2, 40, 8)')


def test_the_first_of_boxes_that_lie_on_each_other_stays() -> None:
    # The IoU of the first two is 9.5 / 10.5 = 0.905, like that of the second and third; that of first and third 9 / 11.
    kept, changes = mend_boxes(
        shapes(("cat", 0, 0, 10, 10), ("cat", 0.5, 0, 10.5, 10), ("cat", 1, 0, 11, 10), ("dog", 0, 0, 10, 10)),
        SIZE_HW, LABELS,
    )  # fmt: skip
    assert [shape.box_xyxy[0] for shape in kept] == [0, 1, 0]
    assert Counter(change.what for change in changes) == {"copy of a box dropped": 1}


def test_crowds_and_ignored_objects_are_no_copies() -> None:
    found = shapes(("cat", 0, 0, 10, 10), ("cat", 0, 0, 10, 10), crowd=True)
    kept, changes = mend_boxes(found, SIZE_HW, LABELS)
    assert (len(kept), changes) == (2, [])


def test_boxes_of_a_larger_picture_are_scaled() -> None:
    kept, changes = mend_boxes(shapes(("cat", 4, 4, 20, 20), size_hw=(40, 80)), SIZE_HW, LABELS)
    assert kept[0].box_xyxy == (2, 2, 10, 10)
    assert [(change.what, change.before, change.after) for change in changes] == [
        ("annotation scaled", "80 x 40", "40 x 20")
    ]


def test_a_region_that_cannot_be_read_leaves_its_box() -> None:
    broken = RunLengths(SIZE_HW, (3, 4))
    kept, changes = mend_boxes(shapes(("cat", 2, 2, 9, 9), region=broken), SIZE_HW, LABELS)
    assert (kept[0].region, kept[0].box_xyxy) == (None, (2, 2, 9, 9))
    assert [change.what for change in changes] == ["outline dropped"]
    kept, changes = mend_regions(shapes(("cat", 2, 2, 9, 9), region=broken), SIZE_HW, LABELS)
    painted = paint(Shapes(kept, FILE), SIZE_HW, LABELS)
    assert (painted[2:9, 2:9] == IGNORE).all()
    assert [change.what for change in changes] == ["object ignored"]


def test_pixels_of_an_unknown_class_are_ignored_and_no_background() -> None:
    kept, changes = mend_regions(shapes(("cat", 0, 0, 10, 20), ("mouse", 10, 0, 20, 20)), SIZE_HW, LABELS)
    painted = paint(Shapes(kept, FILE), SIZE_HW, LABELS)
    expected = np.zeros(SIZE_HW, dtype=np.uint8)
    expected[:, :10], expected[:, 10:20] = 1, IGNORE
    np.testing.assert_array_equal(painted, expected)
    assert [change.what for change in changes] == ["object ignored"]
