"""One mask file an object, as in the Data Science Bowl of 2018; boxes are read off by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pixbox.config import AnnotatedFolder, DataConfig
from pixbox.data.annotation import paint, to_boxes
from pixbox.data.findings import Findings
from pixbox.data.formats import default_labels, objects
from pixbox.errors import DataError
from pixbox.labels import LabelMap
from pixbox.sample import Record, Shapes
from tiny import strictly

read_strictly = strictly(objects.read_records)
Draw = Callable[..., Path]


@pytest.fixture
def draw(tmp_path: Path) -> Draw:
    def draw(name: str, rows: slice, columns: slice, size_hw: tuple[int, int] = (6, 8), mode: str = "L") -> Path:
        """A mask of 255 within these rows and columns."""
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.zeros(size_hw, dtype=np.uint8)
        pixels[rows, columns] = 255
        Image.fromarray(pixels).convert(mode).save(path)
        return path

    return draw


def objects_of(record: Record) -> Shapes:
    assert isinstance(record.annotation, Shapes)
    return record.annotation


def found(root: Path, source: Any = "train") -> tuple[list[Record], list[tuple[str, str, str]]]:
    """The records, and code, place (below the root) and message of each finding."""
    findings = Findings()
    records = objects.read_records(root, source, findings)
    return records, [(item.code, item.file.removeprefix(f"{root}/"), item.message) for item in findings]


@pytest.mark.parametrize(("source", "top"), [("stage1_train", "stage1_train/"), (".", ""), ("val", "valid/")])
def test_every_mask_file_is_an_object_with_its_box(tmp_path, write_pictures, draw, source, top):
    write_pictures(f"{top}n10/images/n10.png", f"{top}n9/images/n9.png")
    files = [
        draw(f"{top}n9/masks/m2.png", slice(1, 3), slice(2, 7)),
        draw(f"{top}n9/masks/m10.png", slice(5, 6), slice(7, 8), mode="RGBA"),
    ]
    draw(f"{top}n10/masks/whole.png", slice(None), slice(None), mode="1")
    nine, ten = read_strictly(tmp_path, source)
    assert (nine.id, ten.id) == (f"{top}n9/images/n9", f"{top}n10/images/n10")
    assert nine.image == tmp_path / top / "n9" / "images" / "n9.png"
    shapes = objects_of(nine)
    assert (shapes.file, shapes.size_hw) == (tmp_path / top / "n9" / "masks", (6, 8))
    assert [item.region for item in shapes.shapes] == files
    assert [item.where for item in shapes.shapes] == [str(file) for file in files]
    assert [item.box_xyxy for item in shapes.shapes] == [(2, 1, 7, 3), (7, 5, 8, 6)]
    assert [item.label for item in shapes.shapes] == ["object", "object"]
    assert [item.box_xyxy for item in objects_of(ten).shapes] == [(0, 0, 8, 6)]


def test_objects_become_pixels_and_boxes(tmp_path, write_pictures, draw):
    write_pictures("train/a/images/a.png")
    draw("train/a/masks/1.png", slice(0, 1), slice(0, 4))
    draw("train/a/masks/2.png", slice(0, 1), slice(3, 6))
    data = DataConfig(format="objects", root=str(tmp_path), train="train")
    labels = default_labels(data, "segmentation", ["train"])
    assert labels is not None
    assert labels.names == ("background", "object")
    (record,) = read_strictly(tmp_path, "train")
    assert paint(objects_of(record), (6, 8), labels)[0].tolist() == [1, 1, 1, 1, 1, 1, 0, 0]
    boxes = to_boxes(objects_of(record), (6, 8), LabelMap(classes=("object",)))
    assert boxes.xyxy.tolist() == [[0, 0, 4, 1], [3, 0, 6, 1]]


def test_a_folder_of_masks_is_a_class(tmp_path, write_pictures, draw):
    write_pictures("train/a/images/a.png")
    draw("train/a/masks/nucleus/1.png", slice(0, 2), slice(0, 2))
    draw("train/a/masks/c10/deep/1.png", slice(0, 2), slice(0, 2))
    draw("train/a/masks/c9/1.tif", slice(0, 2), slice(0, 2))
    (record,) = read_strictly(tmp_path, "train")
    assert {item.label for item in objects_of(record).shapes} == {"nucleus", "c9", "c10"}
    assert objects.class_names(tmp_path, ["train"]) == ["c9", "c10", "nucleus"]
    draw("val/b/masks/1.png", slice(0, 2), slice(0, 2))
    write_pictures("val/b/images/b.png")
    assert objects.class_names(tmp_path, ["train", "val"]) == ["c9", "c10", "nucleus", "object"]


def test_pictures_and_folders_of_masks_may_lie_in_two_folders(tmp_path, write_pictures, write_text, draw):
    write_pictures("photos/a.jpg", "photos/trip/b.jpg", "photos/c.jpg", "photos/d.jpg", "photos/d.png")
    draw("masks/a/1.png", slice(0, 1), slice(0, 1))
    draw("masks/trip/b/cell/1.png", slice(1, 2), slice(0, 1))
    source = AnnotatedFolder(images="photos", annotations="masks")
    records, findings = found(tmp_path, source)
    assert [record.id for record in records] == ["photos/a", "photos/trip/b"]
    assert objects_of(records[1]).shapes[0].label == "cell"
    assert [finding[:2] for finding in findings] == [("missing-mask", "photos/c.jpg"), ("duplicate-stem", "photos")]
    write_text("use.txt", "trip/b")
    records, findings = found(tmp_path, source.model_copy(update={"ids": "use.txt"}))
    assert ([record.id for record in records], findings) == (["photos/trip/b"], [])


def test_boxes_of_smaller_masks_belong_to_their_size(tmp_path, write_pictures, draw):
    write_pictures("train/a/images/a.png")
    draw("train/a/masks/1.png", slice(1, 2), slice(1, 3), size_hw=(3, 4))
    shapes = objects_of(read_strictly(tmp_path, "train")[0])
    assert shapes.size_hw == (3, 4)
    assert to_boxes(shapes, (6, 8), LabelMap(classes=("object",))).xyxy.tolist() == [[2, 2, 6, 4]]
    draw("train/a/masks/2.png", slice(1, 2), slice(1, 3))
    assert objects_of(read_strictly(tmp_path, "train")[0]).size_hw is None


def test_an_empty_folder_of_masks_is_a_picture_without_objects(tmp_path, write_pictures):
    write_pictures("train/a/images/a.png")
    (tmp_path / "train" / "a" / "masks").mkdir()
    assert objects_of(read_strictly(tmp_path, "train")[0]).shapes == ()


def test_masks_that_cannot_be_used_are_named_and_the_others_are_used(tmp_path, write_pictures, write_text, draw):
    write_pictures("train/a/images/a.png")
    draw("train/a/masks/1.png", slice(0, 0), slice(0, 0))
    write_text("train/a/masks/2.png", "no picture")
    (tmp_path / "train/a/masks/3.png").touch()
    whole = draw("train/a/masks/4.png", slice(0, 3), slice(0, 3))
    (tmp_path / "train/a/masks/5.png").write_bytes(whole.read_bytes()[:-20])
    write_text("train/a/masks/notes.txt", "no mask")
    records, findings = found(tmp_path)
    assert [item.region for item in objects_of(records[0]).shapes] == [whole]
    assert sorted(finding[:2] for finding in findings) == [
        ("empty-box", "train/a/masks/1.png"),
        ("empty-file", "train/a/masks/3.png"),
        ("truncated-file", "train/a/masks/5.png"),
        ("unreadable-file", "train/a/masks/2.png"),
    ]


def test_folders_that_hold_no_pair_are_named(tmp_path, write_pictures, draw):
    write_pictures("train/a/images/a.png", "train/b/images/b.png", "train/d/images/1.png", "train/d/images/2.png")
    draw("train/a/masks/1.png", slice(0, 1), slice(0, 1))
    draw("train/c/masks/1.png", slice(0, 1), slice(0, 1))
    draw("train/d/masks/1.png", slice(0, 1), slice(0, 1))
    (tmp_path / "train" / "notes").mkdir()
    (tmp_path / "train" / "__MACOSX" / "images").mkdir(parents=True)
    records, findings = found(tmp_path)
    assert [record.id for record in records] == ["train/a/images/a"]
    assert findings == [
        ("missing-mask", "train/b/images/b.png", f"no folder of masks for this picture: {tmp_path}/train/b/masks"),
        ("duplicate-stem", "train/d", "2 pictures in images/: 1.png, 2.png"),
        ("unmatched-mask", "train/c", "no picture in images/"),
    ]


def test_many_pictures_each_get_their_own_masks(tmp_path, write_pictures, draw):
    # More than one portion of the reader, with 0 to 3 masks a picture.
    for number in range(70):
        write_pictures(f"train/p{number}/images/p.png")
        (tmp_path / f"train/p{number}/masks").mkdir()
        for index in range(number % 4):
            draw(f"train/p{number}/masks/{index}.png", slice(0, number % 5 + 1), slice(index, index + 1))
    for number, record in enumerate(read_strictly(tmp_path, "train")):
        boxes = [item.box_xyxy for item in objects_of(record).shapes]
        assert boxes == [(index, 0, index + 1, number % 5 + 1) for index in range(number % 4)]


def test_missing_folders_are_named(tmp_path, write_pictures):
    write_pictures("train/a.png")
    with pytest.raises(DataError, match="no folder val/"):
        objects.read_records(tmp_path, "val", Findings())
    with pytest.raises(DataError, match=r"no folder in it holds images/ and masks/\n.*a\.png"):
        objects.read_records(tmp_path, "train", Findings())
    with pytest.raises(DataError, match="outside the data root"):
        objects.read_records(tmp_path, "..", Findings())
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="there are no pictures"):
        objects.read_records(tmp_path, AnnotatedFolder(images="empty", annotations="train"), Findings())
