"""What one format says is written in another, and read back by that format's own reader."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from auditing import trees
from pixbox.config import DataConfig, Format, Task, read_labels
from pixbox.conversion import convert
from pixbox.data.annotation import paint, read_classes
from pixbox.data.formats import default_labels, list_records
from pixbox.errors import ConfigError, DataError, RunError
from pixbox.labels import IGNORE, IGNORED_NAME, LabelMap
from pixbox.sample import Record, RunLengths, Shape, Shapes

Records = dict[str, list[Record]]
CELLS = LabelMap(classes=["red", "white"], ignore_names=["blur"])  # type: ignore[arg-type]


def read(name: Format, root: Path, *splits: str, task: Task = "detection") -> tuple[Records, LabelMap]:
    """The pictures of each split and the format's label map; nothing may be found wrong with them."""
    data = DataConfig(format=name, root=str(root))
    listings = {split: list_records(data, split) for split in splits}
    assert [list(listing.findings) for listing in listings.values()] == [[]] * len(splits)
    labels = default_labels(data, task, splits) or read_labels(root / "labels.yaml")
    return {split: listing.records for split, listing in listings.items()}, labels


def boxes(records: Records) -> dict[str, list[tuple[str, ...]]]:
    """Picture's stem -> the boxes as (class, x1, y1, x2, y2) with two decimals, sorted."""
    return {
        record.image.stem: sorted(
            (s.label, *(f"{corner:.2f}" for corner in s.box_xyxy)) for s in record.annotation.shapes
        )
        for part in records.values()
        for record in part
    }


def painted(records: Records, labels: LabelMap) -> dict[str, list[list[int]]]:
    return {
        record.image.stem: read_classes(record, labels, trees.SIZE_HW).tolist()
        for part in records.values()
        for record in part
    }


@pytest.fixture
def cells(tmp_path: Path) -> Callable[..., Record]:
    """A picture, 20 wide and 10 high, with these objects."""

    def write(*shapes: Shape, name: str = "a.png", size_hw: tuple[int, int] | None = None) -> Record:
        image = tmp_path / "cells" / name
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((10, 20, 3), 90, dtype=np.uint8)).save(image)
        return Record(f"cells/{name.rpartition('.')[0]}", image, Shapes(shapes, image, size_hw))

    return write


def box(label: str, *corners: float, **more: object) -> Shape:
    return Shape(label, corners, **more)  # type: ignore[arg-type]


def ring(*points: tuple[float, float]) -> np.ndarray:
    return np.array(points, dtype=np.float64)


def test_voc_xml_becomes_a_list_of_boxes_y_first_and_classes_from_1(
    cells: Callable[..., Record], tmp_path: Path
) -> None:
    record = cells(box("white", 3, 1, 12.5, 8), box("red", 0, 0, 20, 10))
    done = convert({"train": [record]}, CELLS, "box-list", tmp_path / "train.txt")
    assert (tmp_path / "train.txt").read_text() == "cells/a.png 1 3 8 12.50 2 0 0 10 20 1\n"
    assert (tmp_path / "classes.txt").read_text() == "red\nwhite\n"
    assert (done.pictures, done.objects, done.skipped) == (1, 2, ())
    assert done.files == (tmp_path / "train.txt", tmp_path / "classes.txt")


def test_boxes_survive_voc_xml_to_list_and_back(tmp_path: Path) -> None:
    records, labels = read("voc-boxes", trees.write_voc_boxes(tmp_path / "voc"), "train", "val")
    for split in records:
        convert({split: records[split]}, labels, "box-list", tmp_path / "voc" / f"{split}_boxes.txt")
    listed, _ = read("box-list", tmp_path / "voc", "train_boxes", "val_boxes")
    assert boxes(listed) == boxes(records)
    convert({"train": listed["train_boxes"], "val": listed["val_boxes"]}, labels, "voc-boxes", tmp_path / "again")
    again, again_labels = read("voc-boxes", tmp_path / "again", "train", "val")
    assert boxes(again) == boxes(records)
    assert set(again_labels.names) == set(labels.names)


@pytest.mark.parametrize("outlines", [True, False])
def test_coco_survives_yolo_and_back_within_rounding(tmp_path: Path, outlines: bool) -> None:
    records, labels = read("coco", trees.write_coco(tmp_path / "coco", outlines=outlines), "train", "val")
    convert(records, labels, "yolo", tmp_path / "yolo")
    in_yolo, yolo_labels = read("yolo", tmp_path / "yolo", "train", "val")
    assert yolo_labels.names == labels.names
    convert(in_yolo, yolo_labels, "coco", tmp_path / "again")
    again, again_labels = read("coco", tmp_path / "again", "train", "val")
    assert again_labels.names == labels.names
    assert boxes(again) == boxes(records)
    if outlines:
        (record, *_), (same, *_) = records["train"], again["train"]
        # COCO has no order of objects: its reader puts large ones first, and a written area counts pixels.
        shapes = [sorted(r.annotation.shapes, key=lambda shape: shape.box_xyxy) for r in (record, same)]
        for before, after in zip(*shapes, strict=True):
            np.testing.assert_allclose(after.region[0], before.region[0], atol=1e-5)


WRITERS = [
    ("coco", trees.write_coco, ("train", "val")), ("yolo", trees.write_yolo_polygons, ("train", "val")),
    ("voc-boxes", trees.write_voc_boxes, ("train", "val")), ("box-list", trees.write_box_list, ("train", "val")),
    ("labelme", trees.write_labelme, (".",)), ("cvat", trees.write_cvat, (".",)),
    ("label-studio", trees.write_label_studio, (".",)), ("objects", trees.write_objects, ("train",)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "write", "splits"), WRITERS)
@pytest.mark.parametrize("target", ["coco", "yolo", "voc-boxes", "masks"])
def test_what_is_written_is_read_back_without_findings(
    name: Format, write: Callable[[Path], Path], splits: tuple[str, ...], target: str, tmp_path: Path
) -> None:
    task: Task = "segmentation" if target == "masks" else "detection"
    records, labels = read(name, write(tmp_path / "source"), *splits, task=task)
    records = {split.strip(".") or "train": part for split, part in records.items()}
    done = convert(records, labels, target, tmp_path / "out")  # type: ignore[arg-type]
    again, _ = read("list" if target == "masks" else target, tmp_path / "out", *records)  # type: ignore[arg-type]
    assert done.skipped == ()
    assert done.pictures == sum(len(part) for part in records.values())
    assert done.objects == sum(len(part) for part in boxes(records).values())
    for split, part in records.items():
        assert [record.image.read_bytes() for record in again[split]] == [record.image.read_bytes() for record in part]
    if target == "masks":
        written = read_labels(tmp_path / "out" / "labels.yaml")
        assert painted(again, written) == painted(records, labels)
    else:
        assert boxes(again) == boxes(records)


def test_index_masks_hold_what_pycocotools_paints(tmp_path: Path) -> None:
    records, labels = read("labelme", trees.write_labelme(tmp_path / "labelme"), ".", task="segmentation")
    convert({"train": records["."]}, labels, "masks", tmp_path / "out")
    for record in records["."]:
        truth = np.zeros(trees.SIZE_HW, dtype=np.uint8)
        for shape in record.annotation.shapes:
            codes = coco_mask.frPyObjects([outline.ravel().tolist() for outline in shape.region], *trees.SIZE_HW)
            truth[coco_mask.decode(coco_mask.merge(codes)) == 1] = labels.names.index(shape.label)
        with Image.open(tmp_path / "out" / "masks" / "train" / f"{record.image.stem}.png") as mask:
            assert mask.mode == "P"
            assert mask.getpalette()[: 3 * len(labels)] == labels.palette[: 3 * len(labels)]
            np.testing.assert_array_equal(np.asarray(mask), truth)
    written = read_labels(tmp_path / "out" / "labels.yaml")
    assert written.names == labels.names
    assert [item.values for item in written.classes] == [(index,) for index in range(len(labels))]
    assert written.ignore == (255,)


def test_masks_become_one_object_for_each_region_of_a_class(tmp_path: Path) -> None:
    labels = LabelMap.model_validate(
        {"classes": [{"name": "ground", "value": 0}, {"name": "tree", "value": 7}, {"name": "car", "value": 9}],
         "ignore": [255]}
    )  # fmt: skip
    mask = np.zeros((12, 15), dtype=np.uint8)
    mask[0:3, 0:2] = 7
    mask[3, 2] = 7  # Touches by a corner: one region.
    mask[8:12, 10:15] = 7
    mask[5:7, 4:9] = 9
    mask[6, 6] = 255
    Image.fromarray(mask).save(tmp_path / "m.png")
    Image.fromarray(np.zeros((12, 15, 3), dtype=np.uint8)).save(tmp_path / "p.png")
    done = convert({"all": [Record("p", tmp_path / "p.png", tmp_path / "m.png")]}, labels, "coco", tmp_path / "out")
    assert done.objects == 4
    coco = COCO(str(tmp_path / "out" / "annotations" / "instances_all.json"))
    names = {key: value["name"] for key, value in coco.cats.items()}
    assert names == {1: "tree", 2: "car", 3: "ignore"}
    found = {(names[a["category_id"]], tuple(a["bbox"]), a["area"], a["iscrowd"]) for a in coco.anns.values()}
    assert found == {
        ("tree", (0, 0, 3, 4), 7, 0), ("tree", (10, 8, 5, 4), 20, 0), ("car", (4, 5, 5, 2), 9, 0),
        ("ignore", (6, 6, 1, 1), 1, 1),
    }  # fmt: skip
    for annotation in coco.anns.values():
        value = {"tree": 7, "car": 9, "ignore": 255}[names[annotation["category_id"]]]
        assert (mask[coco.annToMask(annotation) == 1] == value).all()
    again, _ = read("coco", tmp_path / "out", "all", task="segmentation")
    written = read_labels(tmp_path / "out" / "labels.yaml")
    classes = read_classes(again["all"][0], written, (12, 15))
    np.testing.assert_array_equal(classes, np.select([mask == 7, mask == 9, mask == 255], [1, 2, IGNORE], 0))


def test_boxes_at_another_size_are_brought_to_the_picture(cells: Callable[..., Record], tmp_path: Path) -> None:
    region = RunLengths((20, 40), (0, 20, 780))  # The first column of twice the size.
    record = cells(box("red", 0, 0, 1, 20, region=region), box("red", 8, 4, 20, 16), size_hw=(20, 40))
    convert({"train": [record]}, CELLS, "coco", tmp_path / "out")
    coco = COCO(str(tmp_path / "out" / "annotations" / "instances_train.json"))
    assert [a["bbox"] for a in coco.anns.values()] == [[0, 0, 0.5, 10], [4, 2, 6, 6]]
    assert coco.annToMask(coco.anns[1]).shape == (10, 20)


def test_pictures_of_one_name_in_several_folders_do_not_meet(tmp_path: Path) -> None:
    records = []
    for number, folder in enumerate(("trip/one", "trip/two")):
        image = tmp_path / "photos" / folder / "a.png"
        image.parent.mkdir(parents=True)
        Image.fromarray(np.full((4, 4, 3), number, dtype=np.uint8)).save(image)
        records.append(Record(f"photos/{folder}/a", image, Shapes((box("red", 0, 0, 2, 2 + number),), image)))
    for target in ("coco", "yolo", "voc-boxes", "masks"):
        convert({"train": records}, CELLS, target, tmp_path / target)  # type: ignore[arg-type]
        written = sorted(
            path.relative_to(tmp_path / target).as_posix() for path in (tmp_path / target).rglob("*/a.png")
        )
        assert len([path for path in written if not path.startswith("masks")]) == 2
        assert any("one/a.png" in path for path in written)
        assert not any("photos" in path for path in written)


def test_a_picture_in_two_splits_is_in_both_lists(cells: Callable[..., Record], tmp_path: Path) -> None:
    record = cells(box("red", 1, 1, 5, 5))
    convert({"train": [record], "val": [record]}, CELLS, "voc-boxes", tmp_path / "voc")
    again, _ = read("voc-boxes", tmp_path / "voc", "train", "val")
    assert [len(part) for part in again.values()] == [1, 1]


def test_deep_pictures_are_copied_byte_for_byte(tmp_path: Path) -> None:
    image, mask = tmp_path / "a.tif", tmp_path / "m.png"
    Image.fromarray(np.arange(24, dtype=np.uint16).reshape(4, 6) * 1000).save(image)
    Image.fromarray(np.eye(4, 6, dtype=np.uint8)).save(mask)
    labels = LabelMap(classes=["ground", "line"])  # type: ignore[arg-type]
    convert({"train": [Record("a", image, mask)]}, labels, "masks", tmp_path / "out")
    assert (tmp_path / "out/images/train/a.tif").read_bytes() == image.read_bytes()


def test_names_are_escaped_in_xml(cells: Callable[..., Record], tmp_path: Path) -> None:
    labels = LabelMap(classes=["R&B <x>", 'it\'s "ß"'])  # type: ignore[arg-type]
    record = cells(box("R&B <x>", 1, 2, 3, 4), box('it\'s "ß"', 5, 6, 7, 8), name="a & b.png")
    convert({"train": [record]}, labels, "voc-boxes", tmp_path / "out")
    again, _ = read("voc-boxes", tmp_path / "out", "train")
    assert [shape.label for shape in again["train"][0].annotation.shapes] == list(labels.names)
    assert again["train"][0].image.name == "a & b.png"


def test_marks_are_kept_where_the_format_has_them_and_told_where_not(
    cells: Callable[..., Record], tmp_path: Path
) -> None:
    shapes = (
        box("red", 1, 1, 5, 5), box("red", 2, 2, 6, 6, difficult=True), box("white", 0, 0, 20, 10, crowd=True),
        box("blur", 3, 3, 9, 9),
    )  # fmt: skip
    records = {"train": [cells(*shapes)]}
    convert(records, CELLS, "voc-boxes", tmp_path / "voc")
    again, _ = read("voc-boxes", tmp_path / "voc", "train")
    found = [(shape.label, shape.difficult) for shape in again["train"][0].annotation.shapes]
    assert found == [("red", False), ("red", True), ("white", True), ("blur", False)]
    assert read_labels(tmp_path / "voc" / "labels.yaml").class_of("blur") == IGNORED_NAME
    convert(records, CELLS, "coco", tmp_path / "coco")
    again, _ = read("coco", tmp_path / "coco", "train")
    marks = {(s.box_xyxy, s.label): (s.difficult, s.crowd) for s in again["train"][0].annotation.shapes}
    assert marks == {
        ((1, 1, 5, 5), "red"): (False, False), ((2, 2, 6, 6), "red"): (True, False),
        ((0, 0, 20, 10), "white"): (False, True), ((3, 3, 9, 9), "blur"): (False, False),
    }  # fmt: skip
    for target, out in (("yolo", tmp_path / "yolo"), ("box-list", tmp_path / "list.txt")):
        done = convert(records, CELLS, target, out)  # type: ignore[arg-type]
        assert done.objects == 2
        assert [finding.code for finding in done.skipped] == ["left-out"] * 2
    done = convert(records, CELLS, "yolo", tmp_path / "easy", keep_difficult=False)
    assert done.objects == 1


def test_objects_that_no_format_holds_are_told(cells: Callable[..., Record], tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    records = [
        cells(box("red", 0, 0, 5, 5), box("green", 0, 0, 5, 5), box("red", math.nan, 0, 5, 5), box("red", 5, 0, 2, 5)),
        Record("broken", tmp_path / "broken.png", Shapes((), tmp_path / "broken.png")),
    ]
    done = convert({"train": records}, CELLS, "coco", tmp_path / "out")
    assert (done.pictures, done.objects) == (1, 1)
    assert {finding.code for finding in done.skipped} == {
        "unknown-class", "invalid-box", "inverted-box", "unreadable-file"
    }  # fmt: skip
    assert {finding.split for finding in done.skipped} == {"train"}
    assert not (tmp_path / "out/images/train/broken.png").exists()


def test_faults_that_a_format_can_hold_are_written_as_they_are(cells: Callable[..., Record], tmp_path: Path) -> None:
    records = {"train": [cells(box("red", 4, 4, 4, 4), box("red", -3, 2, 30, 8))]}
    for target in ("coco", "voc-boxes"):
        convert(records, CELLS, target, tmp_path / target)  # type: ignore[arg-type]
        again, _ = read(target, tmp_path / target, "train")  # type: ignore[arg-type]
        assert boxes(again) == boxes(records)


def test_yolo_files_stay_within_their_picture(cells: Callable[..., Record], tmp_path: Path) -> None:
    records = {"train": [cells(box("red", -3, 2, 30, 8), box("white", 25, 2, 30, 8))]}
    done = convert(records, CELLS, "yolo", tmp_path / "out")
    assert (tmp_path / "out/labels/train/a.txt").read_text() == "0 0.5 0.5 1 0.6\n"
    assert [finding.code for finding in done.skipped] == ["left-out"]


@pytest.mark.parametrize(
    "outlines",
    [
        [ring((2, 1), (9, 2), (6, 8)), ring((12, 3), (18, 3), (18, 9), (12, 9))],
        [ring((-6, -4), (10, 3), (-2, 14))],
        [ring((5, -9), (15, -9), (15, 20), (10, 4), (5, 20))],
        [ring((-50, 2), (80, 2), (80, 6), (-50, 6))],
    ],
)
def test_an_outline_in_yolo_holds_the_same_pixels(
    outlines: list[np.ndarray], cells: Callable[..., Record], tmp_path: Path
) -> None:
    corners = np.concatenate(outlines)
    record = cells(box("white", *corners.min(axis=0), *corners.max(axis=0), region=tuple(outlines)))
    convert({"train": [record]}, CELLS, "yolo", tmp_path / "out")
    again, _ = read("yolo", tmp_path / "out", "train")
    (line,) = (tmp_path / "out/labels/train/a.txt").read_text().splitlines()
    fractions = [float(field) for field in line.split()[1:]]
    assert len(fractions) > 4
    assert all(0 <= fraction <= 1 for fraction in fractions)
    truth = paint(record.annotation, (10, 20), CELLS)
    assert truth.any()
    # COCO's rule moves points to fifths of a pixel: where an outline was cut, a pixel may fall to the other side.
    assert (paint(again["train"][0].annotation, (10, 20), CELLS) != truth).sum() <= 1


def test_nothing_is_overwritten_and_nothing_is_left_half_done(cells: Callable[..., Record], tmp_path: Path) -> None:
    records = {"train": [cells(box("red", 1, 1, 5, 5))]}
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("")
    (tmp_path / "empty").mkdir()
    for target in ("coco", "masks"):
        with pytest.raises(RunError, match="full"):
            convert(records, CELLS, target, tmp_path / "full")  # type: ignore[arg-type]
    before = sorted(tmp_path.rglob("*"))

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(records, CELLS, "coco", tmp_path / "empty", interrupt)
    assert sorted(tmp_path.rglob("*")) == before
    convert(records, CELLS, "coco", tmp_path / "empty")
    assert (tmp_path / "empty" / "annotations").is_dir()
    convert(records, CELLS, "box-list", tmp_path / "train.txt")
    with pytest.raises(RunError, match=r"train\.txt"):
        convert(records, CELLS, "box-list", tmp_path / "train.txt")
    with pytest.raises(RunError, match=r"classes\.txt"):
        convert(records, LabelMap(classes=["white", "red"]), "box-list", tmp_path / "val.txt")  # type: ignore[arg-type]
    assert not (tmp_path / "val.txt").exists()


def test_what_a_format_cannot_hold_is_refused_in_words(cells: Callable[..., Record], tmp_path: Path) -> None:
    blank = cells(box("red", 1, 1, 5, 5), name="a b.png")
    with pytest.raises(DataError, match=r"a b\.png.*blanks"):
        convert({"train": [blank]}, CELLS, "box-list", tmp_path / "list.txt")
    with pytest.raises(DataError, match=r"a;b\.png.*semicolon"):
        convert({"train": [cells(name="a;b.png")]}, CELLS, "masks", tmp_path / "out")
    with pytest.raises(ConfigError, match="train, val"):
        convert({"train": [blank], "val": [blank]}, CELLS, "box-list", tmp_path / "list.txt")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with pytest.raises(DataError, match=str(tmp_path / "list.txt")):
        convert({"train": [cells()]}, CELLS, "box-list", elsewhere / "list.txt")
    mask = Record("cells/a", blank.image, tmp_path / "mask.png")
    for target in ("yolo", "voc-boxes", "box-list"):
        with pytest.raises(DataError, match=r"mask\.png.*not single objects"):
            convert({"train": [mask]}, CELLS, target, tmp_path / "out")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="one class each"):
        convert({"train": [Record("cells/a", blank.image, "red")]}, CELLS, "coco", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_conversion_that_would_write_nothing_says_why(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"a\.png: the file is empty"):
        convert({"train": [Record("a", tmp_path / "a.png", tmp_path / "m.png")]}, CELLS, "masks", tmp_path / "out")
    with pytest.raises(DataError, match="no picture"):
        convert({"train": []}, CELLS, "masks", tmp_path / "out")
    assert not (tmp_path / "out").exists()
