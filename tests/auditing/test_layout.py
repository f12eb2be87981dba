from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from auditing import trees
from pixbox.auditing.layout import Layout, infer_layout
from pixbox.auditing.result import Guess
from pixbox.config import AnnotatedFolder, Experiment, FolderPair
from pixbox.data.splits import list_splits
from pixbox.errors import DataError

# Every layout, from a bare folder to records.

TREES = [
    # writer, format, task, (train, val) pictures that training would list
    (trees.write_rgb_folder, "folders", "segmentation", (6, 2)),
    (trees.write_binary, "folders", "segmentation", (6, 2)),
    (trees.write_jpeg_masks, "folders", "segmentation", (6, 2)),
    (trees.write_mat, "folders", "segmentation", (6, 2)),
    (trees.write_list, "list", "segmentation", (6, 2)),
    (trees.write_voc, "voc", "segmentation", (6, 2)),
    (trees.write_cityscapes, "cityscapes", "segmentation", (6, 2)),
    (trees.write_ade20k, "ade20k", "segmentation", (6, 2)),
    (trees.write_coco_stuff, "coco-stuff", "segmentation", (6, 2)),
    (trees.write_ccp, "ccp", "segmentation", (6, 2)),
    (trees.write_objects, "objects", "segmentation", (6, 2)),
    (trees.write_labelme, "labelme", "segmentation", (6, 2)),
    (trees.write_coco, "coco", "segmentation", (6, 2)),
    (trees.write_coco_export, "coco", "segmentation", (6, 2)),
    (trees.write_cvat, "cvat", "segmentation", (6, 2)),
    (trees.write_label_studio, "label-studio", "segmentation", (6, 2)),
    (trees.write_yolo_polygons, "yolo", "segmentation", (6, 2)),
    (trees.write_yolo_boxes, "yolo", "detection", (6, 2)),
    (trees.write_voc_boxes, "voc-boxes", "detection", (6, 2)),
    (trees.write_box_list, "box-list", "detection", (6, 2)),
    (trees.write_imagefolder, "imagefolder", "classification", (9, 3)),
]


@pytest.mark.parametrize(
    ("write", "format_", "task", "counts"), TREES, ids=[write.__name__.removeprefix("write_") for write, *_ in TREES]
)
def test_each_layout_is_recognised_and_lists_its_pictures(
    tmp_path: Path, write: Callable[[Path], Path], format_: str, task: str, counts: tuple[int, int]
) -> None:
    layout = infer_layout(write(tmp_path / "set"))
    assert (layout.data.format, layout.task) == (format_, task)
    assert layout.data.root == str(tmp_path / "set")
    assert listed(layout) == counts
    assert [guess.about for guess in layout.guesses] == ["layout", "splits", "task"]
    assert about("layout", layout).confidence >= 0.85


def listed(layout: Layout) -> tuple[int, int]:
    """Training and validation pictures that the configuration gives, in which nothing is wrong."""
    splits, findings = list_splits(Experiment(name="a", task=layout.task, data=layout.data))
    assert [f for f in findings.errors() if f.code != "missing-mask"] == []
    return len(splits.train), len(splits.val)


def about(what: str, layout: Layout) -> Guess:
    return next(guess for guess in layout.guesses if guess.about == what)


# Two folders under any names.


@pytest.mark.parametrize(
    ("image_file", "mask_file", "images", "masks", "end"),
    [
        ("images/{}.jpg", "masks/{}.png", "images", "masks", ""),
        ("img/{}.png", "label/{}.png", "img", "label", ""),
        ("photos/{}.jpg", "annotations/pixel-level/{}.png", "photos", "annotations/pixel-level", ""),
        ("x/{}.jpg", "x_mask/{}.png", "x", "x_mask", ""),
        ("imgs/{}.png", "gts/{}.png", "imgs", "gts", ""),
        ("JPEGImages/{}.jpg", "SegmentationClass/{}.png", "JPEGImages", "SegmentationClass", ""),
        ("images/{}.jpg", "labels/{}_labelIds.png", "images", "labels", "_labelIds"),
        ("pictures/{}.png", "truth/{}-mask.png", "pictures", "truth", "-mask"),
        ("pictures/{}.png", "truth/{}mask.png", "pictures", "truth", "mask"),
        ("{}.jpg", "{}_mask.png", ".", ".", "_mask"),
        ("{}.png", "{}_L.png", ".", ".", "_L"),
        ("{}.png", "masks/{}.png", ".", "masks", ""),
        ("one/{}.png", "two/{}.png", "one", "two", ""),
        ("two/{}.png", "one/{}.png", "two", "one", ""),
        ("images/rome/{}.png", "masks/rome/{}.png", "images", "masks", ""),
    ],
)
def test_two_folders_are_paired_by_the_names_of_their_files(
    tmp_path: Path, image_file: str, mask_file: str, images: str, masks: str, end: str
) -> None:
    layout = infer_layout(trees.write_pairs(tmp_path, image_file=image_file, mask_file=mask_file))
    assert layout.data.train == FolderPair(images=images, masks=masks, mask_suffix=end)
    assert layout.data.val_fraction == 0.2
    assert listed(layout) == (6, 2)


@pytest.mark.parametrize(
    ("image_file", "mask_file", "train", "val"),
    [
        ("{split}/images/{name}.png", "{split}/masks/{name}.png", "train/images train/masks", "val/images val/masks"),
        ("images/{split}/{name}.jpg", "masks/{split}/{name}.png", "images/train masks/train", "images/val masks/val"),
        ("{split}/{name}.png", "{split}annot/{name}.png", "train trainannot", "val valannot"),
        ("{split}_images/{name}.png", "{split}_masks/{name}.png", "train_images train_masks", "val_images val_masks"),
        ("X_{split}/{name}.png", "y_{split}/{name}.png", "X_train y_train", "X_val y_val"),
        ("i/{split}2017/{name}.jpg", "m/{split}2017/{name}.png", "i/train2017 m/train2017", "i/val2017 m/val2017"),
        ("img/{split}/ulm/{name}.png", "gt/{split}/ulm/{name}.png", "img/train gt/train", "img/val gt/val"),
        ("{split}/{name}.jpg", "masks/{name}.png", "train masks", "val masks"),
    ],
)
def test_folders_of_the_parts_are_told_apart(
    tmp_path: Path, image_file: str, mask_file: str, train: str, val: str
) -> None:
    layout = infer_layout(trees.write_split_pairs(tmp_path, image_file=image_file, mask_file=mask_file))
    for source, folders in ((layout.data.train, train), (layout.data.val, val)):
        images, masks = folders.split()
        assert source == FolderPair(images=images, masks=masks)
    assert layout.data.val_fraction == 0
    assert about("splits", layout).value == "train and val"


@pytest.mark.parametrize(
    ("train", "val"), [("training", "validation"), ("Train", "Valid"), ("trn", "dev"), ("train", "eval")]
)
def test_parts_may_be_spelled_in_many_ways(tmp_path: Path, train: str, val: str) -> None:
    trees.write_split_pairs(tmp_path, image_file="{split}/im/{name}.png", mask_file="{split}/gt/{name}.png")
    (tmp_path / "train").rename(tmp_path / train)
    (tmp_path / "val").rename(tmp_path / val)
    data = infer_layout(tmp_path).data
    assert data.train == FolderPair(images=f"{train}/im", masks=f"{train}/gt")
    assert data.val == FolderPair(images=f"{val}/im", masks=f"{val}/gt")


def test_a_scene_of_the_same_file_names_in_each_folder_does_not_confuse(tmp_path: Path) -> None:
    for town in ("rome", "oslo", "paris"):
        trees.write_pairs(tmp_path, image_file=f"images/{town}/{{}}.png", mask_file=f"masks/{town}/{{}}.png")
    layout = infer_layout(tmp_path)
    assert layout.data.train == FolderPair(images="images", masks="masks")
    assert sum(listed(layout)) == 24


def test_many_folders_of_pictures_with_masks_beside_are_one_set(tmp_path: Path) -> None:
    for town in ("rome", "oslo"):
        trees.write_pairs(tmp_path, image_file=f"{town}/{{}}.png", mask_file=f"{town}/{{}}_mask.png")
    layout = infer_layout(tmp_path)
    assert layout.data.train == FolderPair(images=".", masks=".", mask_suffix="_mask")
    assert sum(listed(layout)) == 16


# What else lies in the folder.


def test_a_wrapper_is_looked_through(tmp_path: Path) -> None:
    trees.write_rgb_folder(tmp_path / "download" / "data")
    (tmp_path / "__MACOSX" / "download").mkdir(parents=True)
    shutil.copy(tmp_path / "download/data/images/scene_000.jpg", tmp_path / "__MACOSX/download/._scene_000.jpg")
    (tmp_path / ".DS_Store").write_bytes(b"Bud1")
    assert infer_layout(tmp_path).data.root == str(tmp_path / "download" / "data")


def test_readme_thumbnails_and_previews_do_not_matter(tmp_path: Path) -> None:
    trees.write_rgb_folder(tmp_path)
    before = infer_layout(tmp_path)
    (tmp_path / "README.txt").write_text("Two words\nand two more\n")
    (tmp_path / "images" / "Thumbs.db").write_bytes(b"\xd0\xcf")
    for folder in ("previews", "masks_overlay"):
        shutil.copytree(tmp_path / "images", tmp_path / folder)
    assert infer_layout(tmp_path) == before


def test_another_folder_of_pictures_makes_it_less_sure(tmp_path: Path) -> None:
    trees.write_rgb_folder(tmp_path)
    before = infer_layout(tmp_path)
    for scene in trees.draw_scenes(6):
        (tmp_path / "holiday").mkdir(exist_ok=True)
        Image.fromarray(scene.picture).save(tmp_path / "holiday" / f"IMG_{scene.name}.png")
    after = infer_layout(tmp_path)
    assert after.data == before.data
    assert about("layout", after).confidence < about("layout", before).confidence
    assert "14 pictures in all" in about("layout", after).reason


def test_missing_masks_make_it_less_sure_and_are_counted(tmp_path: Path) -> None:
    trees.write_rgb_folder(tmp_path)
    before = infer_layout(tmp_path)
    for number in (1, 4):
        (tmp_path / f"masks/scene_00{number}.png").unlink()
    after = infer_layout(tmp_path)
    assert after.data == before.data
    assert about("layout", after).confidence == pytest.approx(0.75)
    assert about("layout", after).reason.startswith("6 of 8 pictures in images/ have a mask of the same name in masks/")


def test_two_folders_of_photos_are_no_pictures_and_masks(tmp_path: Path) -> None:
    for scene, other in zip(trees.draw_scenes(6), trees.draw_scenes(6, first=50), strict=True):
        for folder, drawn in (("cats", scene), ("dogs", other)):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(drawn.picture).save(tmp_path / folder / f"{scene.name}.jpg")
    layout = infer_layout(tmp_path)
    assert (layout.data.format, layout.data.train) == ("imagefolder", ".")
    assert about("layout", layout).confidence < 0.7


def test_a_copy_of_the_pictures_is_no_folder_of_masks(tmp_path: Path) -> None:
    trees.write_coco(tmp_path)
    shutil.copytree(tmp_path / "train", tmp_path / "images" / "train")
    shutil.copytree(tmp_path / "val", tmp_path / "images" / "val")
    assert infer_layout(tmp_path).data.format == "coco"


def test_masks_are_preferred_to_classes_by_folder(tmp_path: Path) -> None:
    trees.write_pairs(tmp_path, image_file="one/{}.png", mask_file="two/{}.png")
    for scene in trees.draw_scenes(8):
        (tmp_path / "three").mkdir(exist_ok=True)
        Image.fromarray(scene.picture).save(tmp_path / "three" / f"other_{scene.name}.png")
    assert infer_layout(tmp_path).data.train == FolderPair(images="one", masks="two")


def test_masks_are_preferred_to_outlines_of_the_same_pictures_and_both_are_named(tmp_path: Path) -> None:
    trees.write_labelme(tmp_path / "images")
    trees.write_pairs(tmp_path)
    layout = infer_layout(tmp_path)
    assert layout.data.format == "folders"
    assert "labelme" in about("layout", layout).reason


# Lists.


def test_lists_win_over_the_folders_that_they_name(tmp_path: Path) -> None:
    trees.write_split_pairs(tmp_path, image_file="{split}/{name}.png", mask_file="{split}annot/{name}.png")
    for split, scenes in trees.split_scenes(8).items():
        lines = [f"{split}/{scene.name}.png;{split}annot/{scene.name}.png\n" for scene in scenes]
        (tmp_path / f"{split}.txt").write_text("".join(lines))
    layout = infer_layout(tmp_path)
    assert (layout.data.format, layout.data.train, layout.data.val) == ("list", "train.txt", "val.txt")
    assert about("layout", layout).confidence > 0.95


@pytest.mark.parametrize(("separator", "name"), [(",", "{}.csv"), ("\t", "{}.txt"), (" ", "list_{}.txt")])
def test_lists_are_read_with_any_separator_from_a_folder_of_lists(tmp_path: Path, separator: str, name: str) -> None:
    trees.write_list(tmp_path)
    (tmp_path / "lists").mkdir()
    for split in ("train", "val"):
        path = tmp_path / f"{split}.txt"
        (tmp_path / "lists" / name.format(split)).write_text(path.read_text().replace(";", separator))
        path.unlink()
    layout = infer_layout(tmp_path)
    assert layout.data.train == f"lists/{name.format('train')}"
    assert listed(layout) == (6, 2)


def test_lists_may_be_relative_to_the_folder_that_holds_the_set(tmp_path: Path) -> None:
    trees.write_list(tmp_path / "road")
    for path in (tmp_path / "road").glob("*.txt"):
        path.write_text(path.read_text().replace("photos/", "road/photos/").replace("truth/", "road/truth/"))
    layout = infer_layout(tmp_path / "road")
    assert (layout.data.root, layout.data.train) == (str(tmp_path), "road/train.txt")
    assert listed(layout) == (6, 2)


def test_a_list_of_a_few_examples_does_not_stand_for_the_set(tmp_path: Path) -> None:
    trees.write_pairs(tmp_path, 40)
    (tmp_path / "examples.txt").write_text("images/scene_003.jpg masks/scene_003.png\n")
    assert infer_layout(tmp_path).data.format == "folders"


def test_lists_of_another_machine_are_passed_over(tmp_path: Path) -> None:
    trees.write_split_pairs(tmp_path, image_file="{split}/{name}.png", mask_file="{split}annot/{name}.png")
    (tmp_path / "train.txt").write_text("/home/a/train/scene_000.png /home/a/trainannot/scene_000.png\n")
    assert infer_layout(tmp_path).data.format == "folders"


def test_lists_of_names_choose_the_pictures_of_two_folders(tmp_path: Path) -> None:
    trees.write_pairs(tmp_path, 10)
    names = [scene.name for scene in trees.draw_scenes(10)]
    (tmp_path / "train.txt").write_text("\n".join(names[:5]))
    (tmp_path / "val.txt").write_text("\n".join(names[5:8]))
    layout = infer_layout(tmp_path)
    assert layout.data.train == FolderPair(images="images", masks="masks", ids="train.txt")
    assert listed(layout) == (5, 3)


# Pascal VOC.


def test_voc_with_masks_and_boxes_is_for_segmentation_and_says_that_there_are_boxes(tmp_path: Path) -> None:
    trees.write_voc(tmp_path)
    trees.write_voc_boxes(tmp_path)
    layout = infer_layout(tmp_path)
    assert (layout.data.format, layout.task) == ("voc", "segmentation")
    assert "Pascal VOC, boxes" in about("layout", layout).reason


def test_voc_lists_without_masks_are_for_detection(tmp_path: Path) -> None:
    trees.write_voc_boxes(tmp_path)
    (tmp_path / "SegmentationClass").mkdir()
    (tmp_path / "ImageSets" / "Segmentation").mkdir()
    shutil.copy(tmp_path / "ImageSets/Main/train.txt", tmp_path / "ImageSets/Segmentation/train.txt")
    layout = infer_layout(tmp_path)
    assert (layout.data.format, layout.task) == ("voc-boxes", "detection")


def test_voc_folders_with_classes_of_their_own_are_not_taken_for_pascal_voc(tmp_path: Path) -> None:
    trees.write_voc(tmp_path)
    (tmp_path / "labelmap.txt").write_text("# label:color_rgb:parts:actions\nbackground:0,0,0::\ndisk:128,0,0::\n")
    layout = infer_layout(tmp_path)
    assert layout.data.format == "folders"
    assert layout.data.val == FolderPair(
        images="JPEGImages", masks="SegmentationClass", ids="ImageSets/Segmentation/val.txt"
    )


def test_xml_files_need_no_lists(tmp_path: Path) -> None:
    trees.write_voc_boxes(tmp_path)
    shutil.rmtree(tmp_path / "ImageSets")
    layout = infer_layout(tmp_path)
    assert layout.data.train == AnnotatedFolder(images="JPEGImages", annotations="Annotations")
    assert (layout.data.format, listed(layout)) == ("voc-boxes", (6, 2))


# Outlines and boxes.


def test_coco_of_boxes_alone_is_for_detection(tmp_path: Path) -> None:
    layout = infer_layout(trees.write_coco(tmp_path, outlines=False))
    assert (layout.data.format, layout.task) == ("coco", "detection")


def test_what_most_objects_have_decides_the_task(tmp_path: Path) -> None:
    trees.write_coco(tmp_path)
    path = tmp_path / "annotations" / "instances_train.json"
    document = json.loads(path.read_text())
    val = json.loads((tmp_path / "annotations/instances_val.json").read_text())
    total = len(document["annotations"]) + len(val["annotations"])
    without = total // 2 + 1
    for annotation in document["annotations"][:without]:
        del annotation["segmentation"]
    path.write_text(json.dumps(document))
    layout = infer_layout(tmp_path)
    assert layout.task == "detection"
    assert f"{total - without} of {total} objects have an outline" in about("task", layout).reason


def test_coco_file_names_may_have_folders_and_other_coco_files_do_not_matter(tmp_path: Path) -> None:
    trees.write_coco(tmp_path)
    for split in ("train", "val"):
        path = tmp_path / "annotations" / f"instances_{split}.json"
        path.write_text(path.read_text().replace('"file_name": "', f'"file_name": "{split}/'))
        for kind in ("captions", "person_keypoints"):
            shutil.copy(path, path.with_name(f"{kind}_{split}.json"))
    layout = infer_layout(tmp_path)
    assert layout.data.train == AnnotatedFolder(images=".", annotations="annotations/instances_train.json")
    assert listed(layout) == (6, 2)


def test_one_coco_file_for_all_pictures_is_divided(tmp_path: Path) -> None:
    trees.write_pairs(tmp_path)
    shutil.rmtree(tmp_path / "masks")
    (tmp_path / "result.json").write_text(json.dumps(trees.coco_document(trees.draw_scenes(8))))
    layout = infer_layout(tmp_path)
    assert layout.data.train == AnnotatedFolder(images="images", annotations="result.json")
    assert (layout.data.val_fraction, listed(layout)) == (0.2, (6, 2))


def test_yolo_export_with_a_folder_for_each_part(tmp_path: Path) -> None:
    trees.write_yolo_boxes(tmp_path)
    for kind in ("images", "labels"):
        for split, folder in (("train", "train"), ("val", "valid")):
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / kind / split).rename(tmp_path / folder / kind)
    data = infer_layout(tmp_path).data
    assert data.val == AnnotatedFolder(images="valid/images", annotations="valid/labels")


def test_darknet_lists_of_pictures_choose_what_is_used(tmp_path: Path) -> None:
    trees.write_yolo_boxes(tmp_path)
    (tmp_path / "data.yaml").unlink()
    (tmp_path / "obj.names").write_text("disk\nbox\ntent\n")
    (tmp_path / "obj_train_data").mkdir()
    for split in ("train", "val"):
        pictures = sorted((tmp_path / "images" / split).iterdir())
        (tmp_path / f"{split}.txt").write_text("".join(f"data/obj_train_data/{path.name}\n" for path in pictures))
        for path in (*pictures, *(tmp_path / "labels" / split).iterdir()):
            path.rename(tmp_path / "obj_train_data" / path.name)
    layout = infer_layout(tmp_path)
    assert (layout.data.root, layout.data.train) == (str(tmp_path), "train.txt")
    assert listed(layout) == (6, 2)


def test_yolo_root_is_where_the_class_names_lie(tmp_path: Path) -> None:
    trees.write_yolo_boxes(tmp_path / "inner")
    (tmp_path / "inner" / "data.yaml").rename(tmp_path / "data.yaml")
    layout = infer_layout(tmp_path)
    assert layout.data.root == str(tmp_path)
    assert layout.data.train == AnnotatedFolder(images="inner/images/train", annotations="inner/labels/train")


def test_labelme_files_may_lie_in_a_folder_of_their_own(tmp_path: Path) -> None:
    trees.write_labelme(tmp_path)
    for suffix, folder in ((".jpg", "img"), (".json", "ann")):
        (tmp_path / folder).mkdir()
        for path in list(tmp_path.glob(f"*{suffix}")):
            path.rename(tmp_path / folder / path.name)
    data = infer_layout(tmp_path).data
    assert (data.format, data.train) == ("labelme", AnnotatedFolder(images="img", annotations="ann"))


def test_masks_of_objects_may_lie_in_a_folder_with_the_name_of_the_picture(tmp_path: Path) -> None:
    trees.write_objects(tmp_path / "old")
    (tmp_path / "images").mkdir()
    for scene in (tmp_path / "old" / "train").iterdir():
        next((scene / "images").iterdir()).rename(tmp_path / "images" / f"{scene.name}.png")
        shutil.copytree(scene / "masks", tmp_path / "masks" / scene.name)
    shutil.rmtree(tmp_path / "old")
    layout = infer_layout(tmp_path)
    assert layout.data.train == AnnotatedFolder(images="images", annotations="masks")
    assert (layout.data.format, listed(layout)) == ("objects", (6, 2))


def test_class_folders_without_parts_are_for_classification(tmp_path: Path) -> None:
    trees.write_imagefolder(tmp_path)
    for name in trees.NAMES:
        (tmp_path / "train" / name).rename(tmp_path / name)
    shutil.rmtree(tmp_path / "train")
    shutil.rmtree(tmp_path / "val")
    layout = infer_layout(tmp_path)
    assert (layout.task, layout.data.train, layout.data.val_fraction) == ("classification", ".", 0.2)


# Parts.


def test_both_parts_of_five_pictures_hold_some(tmp_path: Path) -> None:
    layout = infer_layout(trees.write_rgb_folder(tmp_path, count=5))
    assert listed(layout) == (4, 1)
    assert "held out" in about("splits", layout).value


def test_one_picture_is_not_divided(tmp_path: Path) -> None:
    layout = infer_layout(trees.write_rgb_folder(tmp_path, count=1))
    assert listed(layout) == (1, 0)
    assert "cannot be divided" in about("splits", layout).value


def test_a_test_part_is_no_validation_part(tmp_path: Path) -> None:
    trees.write_split_pairs(tmp_path, image_file="{split}/images/{name}.png", mask_file="{split}/masks/{name}.png")
    (tmp_path / "val").rename(tmp_path / "test")
    data = infer_layout(tmp_path).data
    assert data.test == FolderPair(images="test/images", masks="test/masks")
    assert (data.val, data.val_fraction) == (None, 0.2)


def test_a_part_without_labels_is_left_aside(tmp_path: Path) -> None:
    trees.write_list(tmp_path)
    (tmp_path / "test.txt").write_text("photos/x.png;truth/x.png\n")
    (tmp_path / "photos" / "x.png").write_bytes(b"")
    layout = infer_layout(tmp_path)
    assert layout.data.test is None


# Nothing recognised.


def message_of(folder: Path) -> str:
    with pytest.raises(DataError) as raised:
        infer_layout(folder)
    return str(raised.value)


def test_a_missing_folder_and_a_file_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    assert "no such folder" in message_of(tmp_path / "b")
    assert "file, not a folder" in message_of(tmp_path / "a.txt")


def test_an_empty_folder_is_said_to_hold_no_pictures(tmp_path: Path) -> None:
    assert "there are no pictures in it" in message_of(tmp_path)


def test_pictures_without_labels_are_said_to_be_that(tmp_path: Path) -> None:
    trees.write_pairs(tmp_path)
    shutil.rmtree(tmp_path / "masks")
    (tmp_path / "README.txt").write_text("Photos of 2019.")
    assert "holds 8 pictures and no labels" in message_of(tmp_path)


def test_what_is_there_and_what_is_known_is_said(tmp_path: Path) -> None:
    trees.write_pairs(tmp_path)
    shutil.rmtree(tmp_path / "masks")
    (tmp_path / "meta").mkdir()
    for number in range(3):
        (tmp_path / "meta" / f"{number}.json").write_text('{"weather": "sunny"}')
    message = message_of(tmp_path)
    assert "images/: 8 .jpg; meta/: 3 .json" in message
    assert "Cityscapes: leftImg8bit/train/" in message
    assert "YOLO: images/train/a.jpg, labels/train/a.txt" in message


@pytest.mark.parametrize(
    ("image_file", "mask_file", "picture", "mask"),
    [
        ("images/img_{}.png", "masks/mask_{}.png", "images/img_scene_*", "masks/mask_scene_*"),
        ("one/img_{}.png", "two/m_{}.png", "one/img_scene_*", "two/m_scene_*"),
        ("{}_sat.jpg", "{}_mask.png", "*_sat", "*_mask"),
        ("all/{}.jpg", "all/{}.png", "all/*.jpg", "all/*.png"),
    ],
)
def test_names_that_cannot_be_matched_are_shown(
    tmp_path: Path, image_file: str, mask_file: str, picture: str, mask: str
) -> None:
    message = message_of(trees.write_pairs(tmp_path, image_file=image_file, mask_file=mask_file))
    assert f"pictures called {picture} and masks called {mask} seem to belong together" in message
    assert "list of `image;label` lines" in message


def test_several_data_sets_in_one_folder_are_refused(tmp_path: Path) -> None:
    trees.write_voc(tmp_path / "cells")
    trees.write_yolo_boxes(tmp_path / "cars")
    message = message_of(tmp_path)
    assert "several data sets" in message
    assert "cells/ (Pascal VOC, masks, 8 pictures)" in message
    assert "cars/ (YOLO, 8 pictures)" in message


def test_a_link_to_a_folder_above_is_not_followed_for_ever(tmp_path: Path) -> None:
    trees.write_rgb_folder(tmp_path)
    os.symlink(tmp_path, tmp_path / "images" / "again")
    assert infer_layout(tmp_path).data.format == "folders"
