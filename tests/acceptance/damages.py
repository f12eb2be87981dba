"""Clean data sets, and every kind of damage to them.

Each damage is a function that breaks something below the folder of a clean set; the decorator says what an audit must
find: the file (with line or object), the position and the count, and nothing else.
"""

from __future__ import annotations

import io
import json
import shutil
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import yaml
from numpy.typing import NDArray
from PIL import Image

from auditing import trees
from pixbox.data.findings import CODES
from tiny import CLASSES, SIZE_HW, draw_scene, experiment, write_scenes

Make = Callable[[Path], None]
Found = tuple[str, str]
"""Code and file of a finding, the file below the data root."""
XML = "Annotations/scene_000.xml"
TXT = "labels/train/scene_000.txt"
COCO = "annotations/instances_train.json"
LABELME = "scene_003.json"


# Clean sets


@dataclass(frozen=True)
class CleanSet:
    """How to write a data set in which nothing is wrong, and the configuration that trains it."""

    write: Callable[[Path], object]
    settings: Mapping[str, Any]


BACKGROUND = {"labels": {"classes": ["background", *trees.NAMES]}}
OBJECTS = {"labels": {"classes": list(trees.NAMES)}}
# Enlarged four times, the boxes have the size of the default anchors.
BOXES = {"task": "detection", "data": {"size": [192, 256], "fit": "pad"}}


def write_folders(data: Path) -> None:
    """Pictures as JPEG and masks of class indices, each split in a folder."""
    trees.write_split_pairs(
        data, 16, image_file="{split}/images/{name}.jpg", mask_file="{split}/masks/{name}.png"
    )  # fmt: skip


def write_classes(data: Path) -> None:
    trees.write_imagefolder(data, 18)
    shutil.rmtree(data / "val")  # Its pictures are those of train again.


def data_of(format: str, **settings: Any) -> dict[str, Any]:
    return {"format": format, "train": "train", "val": "val", "size": [48, 64], **settings}


CLEAN: dict[str, CleanSet] = {
    "scenes": CleanSet(lambda data: write_scenes(data, 18, 5), {}),
    "folders": CleanSet(write_folders, {"data": data_of("folders", **BACKGROUND)}),
    "voc": CleanSet(
        lambda data: trees.write_voc(data, 12),
        {"data": data_of("voc", labels={**BACKGROUND["labels"], "ignore": [255]})},
    ),
    "colors": CleanSet(
        lambda data: trees.write_rgb_folder(data, 12),
        {
            "data": data_of(
                "folders",
                train={"images": "images", "masks": "masks"},
                val=None,
                val_fraction=0.25,
                labels={
                    "classes": [
                        {"name": name, "color": [int(part) for part in color]}
                        for name, color in zip(("background", *trees.NAMES), trees.COLORS, strict=True)
                    ]
                },
            )
        },
    ),
    "outlines": CleanSet(lambda data: trees.write_coco(data, 12), {"data": data_of("coco", **BACKGROUND)}),
    "labelme": CleanSet(
        lambda data: trees.write_labelme(data, 10),
        {"data": data_of("labelme", train=".", val=None, val_fraction=0.2, **BACKGROUND)},
    ),
    "cvat": CleanSet(
        lambda data: trees.write_cvat(data, 10),
        {"data": data_of("cvat", train=".", val=None, val_fraction=0.2, **BACKGROUND)},
    ),
    "label-studio": CleanSet(
        lambda data: trees.write_label_studio(data, 10),
        {"data": data_of("label-studio", train=".", val=None, val_fraction=0.2, **BACKGROUND)},
    ),
    "objects": CleanSet(
        lambda data: trees.write_objects(data, 10),
        {"data": data_of("objects", val=None, val_fraction=0.2)},
    ),
    "voc-boxes": CleanSet(
        lambda data: trees.write_voc_boxes(data, 12), {**BOXES, "data": data_of("voc-boxes") | BOXES["data"]}
    ),
    "yolo": CleanSet(lambda data: trees.write_yolo_boxes(data, 12), {**BOXES, "data": data_of("yolo") | BOXES["data"]}),
    "box-list": CleanSet(
        lambda data: trees.write_box_list(data, 12), {**BOXES, "data": data_of("box-list") | BOXES["data"]}
    ),
    "boxes": CleanSet(
        lambda data: trees.write_coco(data, 12, outlines=False),
        {**BOXES, "data": data_of("coco", **OBJECTS) | BOXES["data"]},
    ),
    "classes": CleanSet(
        write_classes,
        {"task": "classification", "data": data_of("imagefolder", val=None, val_fraction=0.2, **OBJECTS)},
    ),
}


def write_configuration(data: Path, on: str, changes: Mapping[str, Any]) -> Path:
    """The configuration of a clean set beside its folder; ``changes`` are dotted keys with ``__`` for the dot."""
    settings = experiment(data)
    if on != "scenes":
        settings |= {"data": {}, **CLEAN[on].settings}
    if "task" in settings:
        del settings["model"]
    settings["data"] = {**settings["data"], "root": str(data), "batch_size": 2, "workers": 0}
    for key, value in {"training__epochs": 1, **changes}.items():
        section, last = key.split("__")
        settings[section] = {**settings.get(section, {}), last: value}
    config = data.with_name("experiment.yaml")
    config.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return config


# Damages


@dataclass(frozen=True)
class Damage:
    """One damage.

    Attributes:
        make: breaks something below the folder of the clean set.
        on: name of the clean set.
        expected: what must be found, one entry a finding: its code, its file below the data root (with line or
            object; empty where it concerns the whole set), and entries of its JSON.
        words: what the message of the first must say.
        settings: changes of the configuration.
        train: what `pixbox train` does: "refuses" to start, "stops" when it comes to the picture, or "runs".
    """

    make: Make
    on: str
    expected: tuple[tuple[str, str, Mapping[str, Any]], ...]
    words: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    train: str = "runs"

    @property
    def is_error(self) -> bool:
        return any(CODES[code].severity == "error" for code, _, _ in self.expected)

    @property
    def is_whole(self) -> bool:
        """Whether a list, a folder or a file of the whole split is wrong, so that nothing can be left out."""
        code, file, _ = self.expected[0]
        return code in ("structure", "nothing-to-learn") or file == COCO


DAMAGES: dict[str, Damage] = {}


def damage(
    code: str,
    file: str = "",
    *words: str,
    on: str = "scenes",
    also: tuple[Found, ...] = (),
    settings: Mapping[str, Any] | None = None,
    train: str = "",
    **entries: Any,
) -> Callable[[Make], Make]:
    """``code`` must be found in ``file``, and ``also`` what follows from it."""

    def enter(make: Make) -> Make:
        expected = ((code, file, entries), *((other, place, {}) for other, place in also))
        refused = "refuses" if any(CODES[entry[0]].severity == "error" for entry in expected) else "runs"
        assert make.__name__ not in DAMAGES
        DAMAGES[make.__name__] = Damage(make, on, expected, words, settings or {}, train or refused)
        return make

    return enter


# Lists


@damage("structure", ".", "train.txt", "val.txt")
def the_list_is_not_there(data: Path) -> None:
    (data / "train.txt").unlink()


@damage("structure", ".", "val.txt")
def the_list_for_validation_is_not_there(data: Path) -> None:
    (data / "val.txt").unlink()


@damage("structure", "train.txt", "empty")
def the_list_is_empty(data: Path) -> None:
    (data / "train.txt").write_text("\n# nothing yet\n")


@damage("structure", "train.txt", "UTF-8", "byte 11")
def the_list_is_no_utf_8_text(data: Path) -> None:
    (data / "train.txt").write_bytes("images/stra\xdfe.png;masks/stra\xdfe.png\n".encode("latin-1"))


@damage("bad-line", "train.txt:4", "a picture without a label")
def a_line_without_a_mask(data: Path) -> None:
    edit(data / "train.txt", ";masks/s0003.png", "")


@damage("bad-line", "train.txt:4", "3 entries")
def a_line_of_three_entries(data: Path) -> None:
    edit(data / "train.txt", ";masks/s0003.png", ";masks/s0003.png;2")


@damage("outside-root", "train.txt:4", "../images/s0003.png")
def a_picture_beside_the_data_root(data: Path) -> None:
    edit(data / "train.txt", "images/s0003.png", "../images/s0003.png")


@damage("outside-root", "train.txt:4", "/etc/passwd")
def an_absolute_path_of_a_mask(data: Path) -> None:
    edit(data / "train.txt", "masks/s0003.png", "/etc/passwd")


@damage("outside-root", "train.txt:4")
def a_path_that_leaves_the_data_root_on_its_way(data: Path) -> None:
    edit(data / "train.txt", "masks/s0003.png", "masks/../../data.secret/s0003.png")


@damage("missing-file", "train.txt:4", "s0003.png", id="images/s0003")
def a_listed_picture_is_gone(data: Path) -> None:
    (data / "images/s0003.png").unlink()


@damage("missing-file", "val.txt:2", "s1001.png", id="images/s1001", split="val")
def a_listed_mask_is_gone(data: Path) -> None:
    (data / "masks/s1001.png").unlink()


@damage("missing-file", "train.txt:4", "S0003.png")
def a_name_in_another_case(data: Path) -> None:
    edit(data / "train.txt", "images/s0003.png", "images/S0003.png")


@damage("duplicate-line", "train.txt:19", "s0003.png", "twice")
def a_line_is_there_twice(data: Path) -> None:
    append(data / "train.txt", "images/s0003.png;masks/s0003.png\n")


@damage("duplicate-stem", "train.txt:19", "s0003.jpg and s0003.png", id="images/s0003")
def two_listed_pictures_of_one_name(data: Path) -> None:
    Image.fromarray(draw_scene(77)[0]).save(data / "images/s0003.jpg")
    append(data / "train.txt", "images/s0003.jpg;masks/s0004.png\n")


@damage("bad-line", "ImageSets/Segmentation/train.txt:2", "3 entries", on="voc")
def an_id_with_more_behind_it(data: Path) -> None:
    edit(data / "ImageSets/Segmentation/train.txt", "scene_001\n", "scene_001 1 1\n")


@damage("outside-root", "ImageSets/Segmentation/train.txt:2", on="voc")
def an_id_that_leads_out_of_the_data_root(data: Path) -> None:
    edit(data / "ImageSets/Segmentation/train.txt", "scene_001\n", "../../scene_001\n")


@damage("missing-file", "ImageSets/Segmentation/train.txt:2", on="voc", id="JPEGImages/scene_001")
def an_id_without_a_mask(data: Path) -> None:
    (data / "SegmentationClass/scene_001.png").unlink()


# Folders


@damage("structure", ".", "train/masks/", on="folders")
def a_folder_is_not_there(data: Path) -> None:
    shutil.rmtree(data / "train/masks")


@damage("structure", "train/images", "no pictures", on="folders")
def a_folder_without_pictures(data: Path) -> None:
    for picture in (data / "train/images").iterdir():
        picture.unlink()


@damage("missing-mask", "train/images/scene_003.jpg", on="folders", id="train/images/scene_003")
def a_picture_without_a_mask(data: Path) -> None:
    (data / "train/masks/scene_003.png").unlink()


@damage("unmatched-mask", "train/masks/scene_003.png", on="folders")
def a_mask_without_a_picture(data: Path) -> None:
    (data / "train/images/scene_003.jpg").unlink()


@damage("duplicate-stem", "train/images", "scene_003.jpg and scene_003.png", on="folders", id="train/images/scene_003")
def two_pictures_of_one_name(data: Path) -> None:
    Image.fromarray(draw_scene(77)[0]).save(data / "train/images/scene_003.png")


@damage("duplicate-stem", "val/masks", "scene_1001.bmp and scene_1001.png", on="folders", split="val")
def two_masks_of_one_name(data: Path) -> None:
    Image.open(data / "val/masks/scene_1001.png").save(data / "val/masks/scene_1001.bmp")


# Files that cannot be read


@damage("empty-file", "images/s0003.png", id="images/s0003", split="train")
def a_picture_of_zero_bytes(data: Path) -> None:
    (data / "images/s0003.png").write_bytes(b"")


@damage("empty-file", "masks/s0003.png", id="images/s0003", split="train")
def a_mask_of_zero_bytes(data: Path) -> None:
    (data / "masks/s0003.png").write_bytes(b"")


@damage("unreadable-file", "images/s0003.png", "text", "<!DOCTYPE html>")
def a_page_of_an_error_in_place_of_a_picture(data: Path) -> None:
    (data / "images/s0003.png").write_text("<!DOCTYPE html>\n<title>404 Not Found</title>\n" + "<p>" * 99)


@damage("unreadable-file", "masks/s0003.png", "git lfs pull")
def a_mask_that_git_has_not_fetched(data: Path) -> None:
    (data / "masks/s0003.png").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n")


@damage("unreadable-file", "images/s0003.png", "irectory")
def a_folder_of_a_pictures_name(data: Path) -> None:
    (data / "images/s0003.png").unlink()
    (data / "images/s0003.png").mkdir()


@damage("unreadable-file", "images/s0003.png", "zeros")
def a_picture_of_which_only_the_space_was_written(data: Path) -> None:
    (data / "images/s0003.png").write_bytes(bytes(4000))


@damage("truncated-file", "images/s0003.png", id="images/s0003", train="stops")
def a_picture_of_which_the_end_is_missing(data: Path) -> None:
    cut(data / "images/s0003.png", 0.6)


@damage("truncated-file", "val/images/scene_1001.jpg", on="folders", split="val", train="stops")
def a_jpeg_of_which_the_end_is_missing(data: Path) -> None:
    cut(data / "val/images/scene_1001.jpg", 0.8)


@damage("truncated-file", "images/s0003.tif", train="stops")
def a_tiff_of_which_the_end_is_missing(data: Path) -> None:
    picture = put(data, Image.fromarray(draw_scene(3)[0]), ".tif", compression="tiff_lzw")
    cut(picture, 0.7)


@damage("truncated-file", "masks/s0003.png", id="images/s0003")
def a_mask_of_which_the_end_is_missing(data: Path) -> None:
    cut(data / "masks/s0003.png", 0.6)


@damage("damaged-file", "images/s0003.png", "checksum", train="stops")
def a_picture_with_a_wrong_byte(data: Path) -> None:
    flip(data / "images/s0003.png")


@damage("damaged-file", "masks/s0003.png", "checksum")
def a_mask_with_a_wrong_byte(data: Path) -> None:
    flip(data / "masks/s0003.png")


@damage("damaged-file", "masks/s0003.mat", id="images/s0003")
def a_matlab_file_that_is_none(data: Path) -> None:
    put_mask(data, b"no matrix" * 20, ".mat")


@damage("too-large", "images/s0003.png", "178,956,970")
def a_picture_that_unpacks_to_gigabytes(data: Path) -> None:
    (data / "images/s0003.png").write_bytes(bomb())


@damage("too-large", "masks/s0003.png")
def a_mask_that_unpacks_to_gigabytes(data: Path) -> None:
    (data / "masks/s0003.png").write_bytes(bomb())


@damage("too-large", "masks/s0003.mat", id="images/s0003")
def a_matrix_that_unpacks_to_gigabytes(data: Path) -> None:
    put_mask(data, matrix(np.zeros((15_000, 15_000), np.uint8)), ".mat")


@damage("unsupported-pixels", "images/s0003.tif", "floats", "data.value_range", id="images/s0003")
def a_picture_of_floats(data: Path) -> None:
    put(data, Image.fromarray(draw_scene(3)[0][:, :, 0].astype(np.float32)), ".tif")


@damage("unsupported-pixels", "masks/s0003.jpg", "CMYK")
def a_mask_in_printers_colours(data: Path) -> None:
    put_mask(data, Image.fromarray(draw_scene(3)[1]).convert("CMYK"), ".jpg")


# Pictures that may surprise


@damage("animated-file", "images/s0003.gif", "3 frames", frames=3)
def an_animated_picture(data: Path) -> None:
    frames = [Image.fromarray(draw_scene(index)[0]) for index in (3, 500, 501)]
    put(data, frames[0], ".gif", save_all=True, append_images=frames[1:])


@damage("animated-file", "images/s0003.tif", "2 pages", frames=2)
def a_tiff_of_two_pages(data: Path) -> None:
    pages = [Image.fromarray(draw_scene(index)[0]) for index in (3, 500)]
    put(data, pages[0], ".tif", save_all=True, append_images=pages[1:])


@damage("sixteen-bit", "images/s0003.png", "16 bits", bits=16)
def a_picture_of_sixteen_bits(data: Path) -> None:
    grey = draw_scene(3)[0][:, :, 0].astype(np.uint16) * 257
    Image.fromarray(grey).save(data / "images/s0003.png")


@damage("cmyk", "train/images/scene_003.jpg", on="folders")
def a_picture_in_printers_colours(data: Path) -> None:
    picture = data / "train/images/scene_003.jpg"
    Image.open(picture).convert("CMYK").save(picture)


@damage("alpha", "images/s0003.png", count=40 * 20)
def a_see_through_picture(data: Path) -> None:
    picture = Image.open(data / "images/s0003.png").convert("RGBA")
    picture.paste((0, 0, 0, 0), (0, 0, 20, 40))
    picture.save(data / "images/s0003.png")


@damage("exif-rotated", "train/images/scene_003.jpg", "90 degrees", on="folders", orientation=6)
def a_picture_on_its_side_with_a_mark(data: Path) -> None:
    picture, mask = data / "train/images/scene_003.jpg", data / "train/masks/scene_003.png"
    save_with_mark(picture, 6)
    Image.open(mask).transpose(Image.Transpose.ROTATE_270).save(mask)


@damage(
    "mask-turned", "train/masks/scene_003.png", on="folders", also=(("exif-rotated", "train/images/scene_003.jpg"),),
    orientation=3, id="train/images/scene_003", split="train",
)  # fmt: skip
def a_picture_upside_down_with_a_mark_that_its_mask_has_not(data: Path) -> None:
    save_with_mark(data / "train/images/scene_003.jpg", 3)


@damage(
    "mask-size", "train/masks/scene_003.png", "orientation mark", on="folders",
    also=(("exif-rotated", "train/images/scene_003.jpg"),), mask_size=[48, 64], image_size=[64, 48],
)  # fmt: skip
def a_mask_drawn_before_the_mark_turned_the_picture(data: Path) -> None:
    save_with_mark(data / "train/images/scene_003.jpg", 6)


@damage("odd-size", "images/s0003.png", "28 x 20", size_hw=[20, 28])
def a_picture_as_small_as_an_icon(data: Path) -> None:
    for file in (data / "images/s0003.png", data / "masks/s0003.png"):
        Image.open(file).crop((0, 5, 28, 25)).save(file)


@damage("odd-size", "images/s0003.png", "11 times", size_hw=[40, 440])
def a_picture_that_is_a_strip(data: Path) -> None:
    for file in (data / "images/s0003.png", data / "masks/s0003.png"):
        Image.open(file).resize((440, 40), Image.Resampling.NEAREST).save(file)


# What masks hold


@damage(
    "unknown-value", "masks/s0003.png", "value 99 (2 pixels at row 5, column 7)",
    "nearest: disk (value 80), distance 19",
    id="images/s0003", row=5, column=7, count=2, value=99, nearest="disk", distance=19,
)  # fmt: skip
def a_value_that_no_class_has(data: Path) -> None:
    paint(data / "masks/s0003.png", 99, (5, 7), (30, 2))


@damage("unknown-value", "masks/s1002.png", split="val", value=254, nearest="ignored", distance=1, count=3)
def void_written_as_another_value(data: Path) -> None:
    paint(data / "masks/s1002.png", 254, (39, 0), (39, 1), (39, 2))


@damage("unknown-value", "masks/s0003.png", row=39, column=55, count=1, value=300)
def a_value_beyond_eight_bits(data: Path) -> None:
    mask = draw_scene(3)[1].astype(np.uint16)
    mask[39, 55] = 300
    Image.fromarray(mask).save(data / "masks/s0003.png")


@damage(
    "unknown-value", "masks/scene_003.png", on="colors",
    row=5, column=7, count=1, value="#e61a4e", nearest="disk", distance=3.2,
)  # fmt: skip
def a_colour_that_no_class_has(data: Path) -> None:
    # disk is (230, 25, 75): off by 0, 1 and 3, so the distance is the root of 10.
    paint(data / "masks/scene_003.png", (230, 26, 78), (5, 7))


@damage("unknown-value", "masks/s0003.png", "colour picture", id="images/s0003")
def the_picture_in_place_of_its_mask(data: Path) -> None:
    shutil.copy(data / "images/s0003.png", data / "masks/s0003.png")


@damage("unknown-value", "masks/s0003.jpg", "JPEG", "tolerance", id="images/s0003")
def a_mask_saved_with_loss(data: Path) -> None:
    put_mask(data, Image.fromarray(draw_scene(3)[1]), ".jpg", quality=60)


@damage("unknown-value", "masks/scene_003.jpg", "JPEG", "tolerance", on="colors", id="images/scene_003")
def a_mask_of_colours_saved_with_loss(data: Path) -> None:
    mask = data / "masks/scene_003.png"
    Image.open(mask).save(mask.with_suffix(".jpg"), quality=60)
    mask.unlink()


@damage(
    "lossy-mask", "masks/s0003.jpg",
    settings={"data__labels": {"classes": [{"name": name, "value": value} for name, value in CLASSES.items()],
                               "ignore": [255], "tolerance": 27, "unknown": "ignore"}},
)  # fmt: skip
def a_mask_saved_with_loss_where_that_is_allowed_for(data: Path) -> None:
    put_mask(data, Image.fromarray(draw_scene(3)[1]), ".jpg", quality=60)


@damage("soft-edges", "masks/s0003.png", "mixed values", "antialiasing", id="images/s0003")
def a_mask_resized_smoothly(data: Path) -> None:
    mask = Image.open(data / "masks/s0003.png")
    mask = mask.resize((112, 80), Image.Resampling.BILINEAR).resize((56, 40), Image.Resampling.BILINEAR)
    mask.save(data / "masks/s0003.png")


@damage("soft-edges", "masks/scene_003.png", "mixed colours", on="colors", id="images/scene_003")
def a_mask_of_colours_drawn_with_antialiasing(data: Path) -> None:
    mask = Image.open(data / "masks/scene_003.png")
    mask = mask.resize((256, 192), Image.Resampling.NEAREST).rotate(3).resize((64, 48), Image.Resampling.BOX)
    mask.save(data / "masks/scene_003.png")


@damage("mask-size", "masks/s0003.png", "56 x 30", "56 x 40", mask_size=[30, 56], image_size=[40, 56])
def a_mask_that_does_not_cover_its_picture(data: Path) -> None:
    Image.open(data / "masks/s0003.png").crop((0, 0, 56, 30)).save(data / "masks/s0003.png")


@damage("mask-resized", "masks/s0003.png", mask_size=[20, 28], image_size=[40, 56])
def a_mask_of_half_the_size(data: Path) -> None:
    Image.open(data / "masks/s0003.png").resize((28, 20), Image.Resampling.NEAREST).save(data / "masks/s0003.png")


@damage("mask-resized", "masks/s0003.png", mask_size=[120, 168], image_size=[40, 56])
def a_mask_of_three_times_the_size(data: Path) -> None:
    Image.open(data / "masks/s0003.png").resize((168, 120), Image.Resampling.NEAREST).save(data / "masks/s0003.png")


@damage("empty-mask", "masks/s0003.png", '"ground"', id="images/s0003")
def a_mask_of_nothing_but_the_background(data: Path) -> None:
    Image.fromarray(np.zeros(SIZE_HW, np.uint8)).save(data / "masks/s0003.png")


@damage("ignored-mask", "masks/s0003.png", id="images/s0003")
def a_mask_of_nothing_but_void(data: Path) -> None:
    Image.fromarray(np.full(SIZE_HW, 255, np.uint8)).save(data / "masks/s0003.png")


@damage("not-labels", "masks/s0003.tif", "0.5", "row 2, column 3", id="images/s0003")
def a_mask_of_fractions(data: Path) -> None:
    mask = draw_scene(3)[1].astype(np.float32)
    mask[2, 3] = 0.5
    put_mask(data, Image.fromarray(mask), ".tif")


@damage("not-labels", "masks/s0003.mat", "nan", "row 0, column 0", id="images/s0003")
def a_matrix_that_holds_no_number(data: Path) -> None:
    mask = draw_scene(3)[1].astype(np.float64)
    mask[0, 0] = np.nan
    put_mask(data, matrix(mask), ".mat")


# Boxes: XML files


def first_box(data: Path, corners: str) -> None:
    """Replaces the corners (xmin ymin xmax ymax, as written: 1 is the first pixel) of the first box of a file."""
    parts = dict(zip(("xmin", "ymin", "xmax", "ymax"), corners.split(), strict=True))
    written = "".join(f"<{name}>{value}</{name}>" for name, value in parts.items())
    edit(data / XML, BOX, f"<bndbox>{written}</bndbox>")


BOX = "<bndbox><xmin>5</xmin><ymin>8</ymin><xmax>17</xmax><ymax>19</ymax></bndbox>"


@damage("empty-box", f"{XML}: object 1", on="voc-boxes", box=[5, 8, 5, 19], id="JPEGImages/scene_000")
def a_box_without_area(data: Path) -> None:
    first_box(data, "5 8 5 19")


@damage("inverted-box", f"{XML}: object 1", on="voc-boxes", box=[17, 8, 5, 19], id="JPEGImages/scene_000")
def a_box_from_right_to_left(data: Path) -> None:
    first_box(data, "17 8 5 19")


@damage("outside-box", f"{XML}: object 1", "clip", on="voc-boxes", box=[-9, 8, 17, 19])
def a_box_that_reaches_outside(data: Path) -> None:
    first_box(data, "-9 8 17 19")


@damage("outside-box", f"{XML}: object 1", "wholly outside", on="voc-boxes", box=[70, 8, 90, 19])
def a_box_beside_its_picture(data: Path) -> None:
    first_box(data, "70 8 90 19")


@damage("invalid-box", f"{XML}: object 1", on="voc-boxes", box=["nan", "8.0", "17.0", "19.0"])
def a_box_with_a_corner_that_is_no_number(data: Path) -> None:
    first_box(data, "nan 8 17 19")


@damage("tiny-box", f"{XML}: object 1", "2 x 11", on="voc-boxes", box=[5, 8, 7, 19])
def a_box_two_pixels_wide(data: Path) -> None:
    first_box(data, "5 8 7 19")


@damage("duplicate-box", f"{XML}: object 4", on="voc-boxes", box=[5, 8, 17, 19], iou=1.0)
def a_box_that_is_there_twice(data: Path) -> None:
    again = f"<object><name>disk</name>{BOX}</object></annotation>"
    edit(data / XML, "</annotation>", again)


@damage(
    "unknown-class", f"{XML}: object 1", '"dick" (1 objects)', on="voc-boxes",
    settings={"data__labels": OBJECTS["labels"]},
)  # fmt: skip
def a_name_that_no_class_has(data: Path) -> None:
    edit(data / XML, "<name>disk</name>", "<name>dick</name>")


@damage("annotation-size", XML, "128 x 96", "scaled", on="voc-boxes", id="JPEGImages/scene_000")
def an_annotation_made_at_twice_the_size(data: Path) -> None:
    edit(data / XML, "<width>64</width><height>48</height>", "<width>128</width><height>96</height>")


@damage("annotation-size", XML, "turned", on="voc-boxes", id="JPEGImages/scene_000")
def an_annotation_of_the_picture_on_its_side(data: Path) -> None:
    edit(data / XML, "<width>64</width><height>48</height>", "<width>48</width><height>64</height>")
    # Boxes 2 and 3 would lie outside 48 x 64, which is another matter.
    text = (data / XML).read_text()
    head, first, *_ = text.split("<object>")
    (data / XML).write_text(f"{head}<object>{first}</annotation>")


@damage("no-objects", XML, on="voc-boxes", id="JPEGImages/scene_000")
def a_picture_without_objects(data: Path) -> None:
    text = (data / XML).read_text()
    (data / XML).write_text(f"{text.split('<object>')[0]}</annotation>")


@damage("missing-mask", "JPEGImages/scene_000.jpg", "scene_000.xml", on="voc-boxes", id="JPEGImages/scene_000")
def a_picture_without_its_xml_file(data: Path) -> None:
    (data / XML).unlink()


@damage("unmatched-mask", "train/extra.xml", on="voc-boxes", settings={
    "data__train": {"images": "train", "annotations": "train"}})  # fmt: skip
def an_xml_file_without_a_picture(data: Path) -> None:
    (data / "train").mkdir()
    for number in range(9):
        shutil.copy(data / f"JPEGImages/scene_00{number}.jpg", data / "train")
        shutil.copy(data / f"Annotations/scene_00{number}.xml", data / "train")
    shutil.copy(data / XML, data / "train/extra.xml")


@damage("bad-line", "ImageSets/Main/train.txt:2", "list of a class", on="voc-boxes")
def a_line_of_the_list_of_one_class(data: Path) -> None:
    edit(data / "ImageSets/Main/train.txt", "scene_001\n", "scene_001 -1\n")


@damage("bad-annotation", f"{XML}: object 1", "<name>", on="voc-boxes", id="JPEGImages/scene_000")
def an_object_without_a_name(data: Path) -> None:
    edit(data / XML, "<name>disk</name>", "")


@damage("bad-annotation", f"{XML}: object 1", "<bndbox>", on="voc-boxes", id="JPEGImages/scene_000")
def an_object_without_a_box(data: Path) -> None:
    edit(data / XML, BOX, "")


@damage("bad-annotation", f"{XML}: object 1", "<ymax>", '"nineteen"', on="voc-boxes")
def a_corner_in_words(data: Path) -> None:
    first_box(data, "5 8 17 nineteen")


@damage("bad-annotation", f"{XML}: size", "<width>", on="voc-boxes")
def a_size_in_words(data: Path) -> None:
    edit(data / XML, "<width>64</width>", "<width>wide</width>")


@damage("bad-annotation", XML, "<annotations>", on="voc-boxes", id="JPEGImages/scene_000")
def an_xml_file_of_something_else(data: Path) -> None:
    (data / XML).write_text("<annotations></annotations>")


@damage("bad-annotation", XML, "not XML", "line 2", on="voc-boxes", id="JPEGImages/scene_000")
def an_xml_file_that_ends_in_the_middle(data: Path) -> None:
    text = (data / XML).read_text()
    (data / XML).write_text("<?xml version='1.0'?>\n" + text[: len(text) // 2])


@damage("bad-annotation", XML, "entities", on="voc-boxes", id="JPEGImages/scene_000")
def an_xml_file_whose_entities_grow_without_bound(data: Path) -> None:
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    head = f'<?xml version="1.0"?><!DOCTYPE annotation [<!ENTITY l0 "ha">{laughs}]>'
    text = (data / XML).read_text().replace("<name>disk</name>", "<name>&l11;</name>")
    (data / XML).write_text(head + text)


@damage("bad-annotation", XML, "entities", on="voc-boxes", id="JPEGImages/scene_000")
def an_xml_file_that_asks_for_another_file(data: Path) -> None:
    (data / "secret.txt").write_text("disk")
    head = f'<?xml version="1.0"?><!DOCTYPE annotation [<!ENTITY s SYSTEM "{(data / "secret.txt").as_uri()}">]>'
    (data / XML).write_text(head + (data / XML).read_text().replace("<name>disk</name>", "<name>&s;</name>"))


@damage("empty-file", XML, on="voc-boxes", id="JPEGImages/scene_000")
def an_xml_file_of_zero_bytes(data: Path) -> None:
    (data / XML).write_bytes(b"")


@damage("bad-annotation", XML, "not XML", on="voc-boxes", id="JPEGImages/scene_000")
def an_xml_file_that_is_not_what_it_says_to_be(data: Path) -> None:
    text = (data / XML).read_text().replace("disk", "disk\xe9")
    (data / XML).write_bytes(b'<?xml version="1.0" encoding="utf-8"?>' + text.encode("latin-1"))


COUNT = sum(len(scene.objects) for scene in trees.split_scenes(12)["train"])


@damage("anchor-coverage", "", f"{COUNT} of {COUNT} boxes (100.0%)", "detection.anchors", on="voc-boxes", count=COUNT,
        settings={"detection__anchors": [[9.0, 90.0]], "detection__levels": 1})  # fmt: skip
def anchors_that_reach_no_box(data: Path) -> None:
    """The damage is in the configuration."""


@damage("nothing-to-learn", "", on="voc-boxes", also=tuple(
    ("no-objects", f"Annotations/scene_00{number}.xml") for number in range(9)))  # fmt: skip
def training_pictures_without_a_single_object(data: Path) -> None:
    for number in range(9):
        file = data / f"Annotations/scene_00{number}.xml"
        file.write_text(f"{file.read_text().split('<object>')[0]}</annotation>")


@damage("truncated-file", "JPEGImages/scene_000.jpg", on="voc-boxes", split="train", train="stops")
def a_picture_of_boxes_of_which_the_end_is_missing(data: Path) -> None:
    cut(data / "JPEGImages/scene_000.jpg", 0.7)


@damage("exif-rotated", "JPEGImages/scene_000.jpg", on="voc-boxes", orientation=3)
def a_picture_of_boxes_upside_down_with_a_mark(data: Path) -> None:
    save_with_mark(data / "JPEGImages/scene_000.jpg", 3)


# Boxes: text files

LINE = "0 0.164687 0.270417 0.189062 0.252083"


def first_line(data: Path, text: str) -> None:
    edit(data / TXT, LINE, text)


@damage("unknown-class", f"{TXT}:1", "class 7", on="yolo", id="images/train/scene_000")
def a_class_number_without_a_name(data: Path) -> None:
    first_line(data, "7 0.164687 0.270417 0.189062 0.252083")


@damage("bad-annotation", f"{TXT}:1", "looks like pixels", on="yolo", id="images/train/scene_000")
def a_box_in_pixels_where_fractions_are_due(data: Path) -> None:
    first_line(data, "0 10 13 12 12")


@damage("bad-annotation", f"{TXT}:1", "confidence", on="yolo")
def a_predicted_box(data: Path) -> None:
    first_line(data, f"{LINE} 0.93")


@damage("bad-annotation", f"{TXT}:1", '"disk" is not a number', on="yolo")
def a_class_name_in_place_of_its_number(data: Path) -> None:
    first_line(data, LINE.replace("0 ", "disk ", 1))


@damage("bad-annotation", f"{TXT}:1", "4 numbers", on="yolo")
def a_box_of_three_numbers(data: Path) -> None:
    first_line(data, "0 0.164687 0.270417 0.189062")


@damage("invalid-box", f"{TXT}:1", on="yolo", id="images/train/scene_000")
def a_fraction_that_is_no_number(data: Path) -> None:
    first_line(data, "0 nan 0.270417 0.189062 0.252083")


@damage("inverted-box", f"{TXT}:1", on="yolo", id="images/train/scene_000")
def a_box_of_negative_width(data: Path) -> None:
    first_line(data, "0 0.164687 0.270417 -0.189062 0.252083")


@damage("empty-box", f"{TXT}:1", on="yolo", id="images/train/scene_000")
def a_box_of_no_height(data: Path) -> None:
    first_line(data, "0 0.164687 0.270417 0.189062 0")


@damage("outside-box", f"{TXT}:1", on="yolo", id="images/train/scene_000")
def a_fraction_beyond_one(data: Path) -> None:
    first_line(data, "0 1.0 0.270417 0.189062 0.252083")


@damage("duplicate-box", f"{TXT}:4", on="yolo", iou=1.0)
def a_line_of_a_box_that_is_there_twice(data: Path) -> None:
    append(data / TXT, f"{LINE}\n")


@damage("unmatched-mask", "labels/train/extra.txt", on="yolo")
def a_text_file_without_a_picture(data: Path) -> None:
    shutil.copy(data / TXT, data / "labels/train/extra.txt")


@damage("bad-annotation", TXT, "UTF-8", on="yolo", id="images/train/scene_000")
def a_text_file_that_is_no_text(data: Path) -> None:
    (data / TXT).write_bytes(b"0 0.5 0.5 0.2 0.2 \xff\xfe\xfa\n")


@damage("no-objects", TXT, on="yolo", id="images/train/scene_000")
def a_text_file_of_zero_bytes(data: Path) -> None:
    (data / TXT).write_bytes(b"")


@damage("outside-root", "train.txt:4", on="yolo", settings={"data__train": "train.txt"})
def a_list_of_pictures_that_leads_out_of_the_root(data: Path) -> None:
    lines = [f"images/train/scene_00{number}.jpg" for number in range(9)]
    lines.insert(3, "../images/train/scene_003.jpg")
    (data / "train.txt").write_text("\n".join(lines))


@damage("bad-line", "train.txt:1", "14 numbers", on="box-list", id="pictures/scene_000")
def a_list_of_boxes_with_a_number_missing(data: Path) -> None:
    edit(data / "train.txt", "scene_000.jpg 7 ", "scene_000.jpg ")


@damage("bad-line", "train.txt:1", "class number of box 1 is 0", on="box-list", id="pictures/scene_000")
def a_class_counted_from_zero(data: Path) -> None:
    edit(data / "train.txt", "7 4 19 17 1 ", "7 4 19 17 0 ")


@damage("inverted-box", "train.txt:1", on="box-list", box=[17, 7, 4, 19], id="pictures/scene_000")
def a_listed_box_from_right_to_left(data: Path) -> None:
    edit(data / "train.txt", "7 4 19 17 1 ", "7 17 19 4 1 ")


@damage("missing-file", "train.txt:1", on="box-list", id="pictures/scene_000")
def a_picture_of_listed_boxes_is_gone(data: Path) -> None:
    (data / "pictures/scene_000.jpg").unlink()


@damage("outside-root", "train.txt:1", on="box-list")
def listed_boxes_of_a_picture_outside_the_root(data: Path) -> None:
    edit(data / "train.txt", "pictures/scene_000.jpg", "/pictures/scene_000.jpg")


@damage("duplicate-line", "train.txt:10", on="box-list")
def listed_boxes_that_are_there_twice(data: Path) -> None:
    append(data / "train.txt", (data / "train.txt").read_text().split("\n")[0] + "\n")


# Objects: JSON files


def in_json(data: Path, file: str, change: Callable[[Any], object]) -> None:
    """Changes the content of a JSON file in place."""
    content = json.loads((data / file).read_text())
    change(content)
    (data / file).write_text(json.dumps(content))


def in_coco(data: Path, **entries: Any) -> None:
    """Sets entries of the first object."""
    in_json(data, COCO, lambda content: content["annotations"][0].update(entries))


@damage("bad-annotation", f"{COCO}: annotation 1", "bbox", on="boxes", id="train/scene_000")
def a_box_of_three_numbers_in_json(data: Path) -> None:
    in_coco(data, bbox=[4, 7, 13])


@damage("bad-annotation", f"{COCO}: annotation 1", "bbox", on="boxes", id="train/scene_000")
def a_box_in_json_that_is_no_number(data: Path) -> None:
    in_coco(data, bbox=[float("nan"), 7, 13, 12])


@damage("bad-annotation", f"{COCO}: annotation 1", "bbox", on="boxes", id="train/scene_000")
def a_box_in_json_as_text(data: Path) -> None:
    in_coco(data, bbox="4 7 13 12")


@damage("bad-annotation", f"{COCO}: annotation 1", "neither `bbox` nor `segmentation`", on="boxes")
def an_object_in_json_without_a_box(data: Path) -> None:
    in_json(data, COCO, lambda content: content["annotations"][0].pop("bbox"))


@damage("empty-box", f"{COCO}: annotation 1", on="boxes", box=[4, 7, 4, 19], id="train/scene_000")
def a_box_in_json_without_area(data: Path) -> None:
    in_coco(data, bbox=[4, 7, 0, 12])


@damage("inverted-box", f"{COCO}: annotation 1", on="boxes", box=[17, 7, 4, 19], id="train/scene_000")
def a_box_in_json_of_negative_width(data: Path) -> None:
    in_coco(data, bbox=[17, 7, -13, 12])


@damage("outside-box", f"{COCO}: annotation 1", on="boxes", box=[60, 7, 73, 19], id="train/scene_000")
def a_box_in_json_that_reaches_outside(data: Path) -> None:
    in_coco(data, bbox=[60, 7, 13, 12])


@damage("tiny-box", f"{COCO}: annotation 1", on="boxes", box=[4, 7, 6, 9], id="train/scene_000")
def a_box_in_json_two_pixels_wide(data: Path) -> None:
    in_coco(data, bbox=[4, 7, 2, 2])


@damage("bad-annotation", f"{COCO}: annotation 1", "category_id", "9", on="boxes", id="train/scene_000")
def an_object_of_a_category_that_is_not_there(data: Path) -> None:
    in_coco(data, category_id=9)


@damage("bad-annotation", f"{COCO}: annotation 1", "image_id", "99", on="boxes")
def an_object_of_a_picture_that_is_not_there(data: Path) -> None:
    in_coco(data, image_id=99)


@damage("unknown-class", f"{COCO}: annotation 1", '"dick"', on="boxes", id="train/scene_000")
def a_category_that_no_class_has(data: Path) -> None:
    def rename(content: Any) -> None:
        content["categories"].append({"id": 4, "name": "dick"})
        content["annotations"][0]["category_id"] = 4

    in_json(data, COCO, rename)


@damage("missing-file", f"{COCO}: image 1", "scene_000.jpg", on="boxes", id="train/scene_000")
def a_picture_of_the_json_file_is_gone(data: Path) -> None:
    (data / "train/scene_000.jpg").unlink()


@damage("outside-root", f"{COCO}: image 1", "../../scene_000.jpg", on="boxes")
def a_json_file_that_names_a_picture_outside_the_root(data: Path) -> None:
    in_json(data, COCO, lambda content: content["images"][0].update(file_name="../../scene_000.jpg"))


@damage("outside-root", f"{COCO}: image 1", "/etc/passwd", on="boxes")
def a_json_file_with_an_absolute_path(data: Path) -> None:
    in_json(data, COCO, lambda content: content["images"][0].update(file_name="/etc/passwd"))


@damage("duplicate-line", f"{COCO}: image 1", "scene_001.jpg", on="boxes",
        also=(("bad-annotation", f"{COCO}: annotation 4"), ("bad-annotation", f"{COCO}: annotation 5")))  # fmt: skip
def two_pictures_of_one_id(data: Path) -> None:
    in_json(data, COCO, lambda content: content["images"][1].update(id=1))


@damage("bad-annotation", f"{COCO}: image 1", "`height` and `width`", on="boxes")
def a_picture_in_json_of_negative_height(data: Path) -> None:
    in_json(data, COCO, lambda content: content["images"][0].update(height=-48))


@damage("annotation-size", COCO, "100 x 48", on="boxes", id="train/scene_000")
def a_json_file_that_states_another_size(data: Path) -> None:
    in_json(data, COCO, lambda content: content["images"][0].update(width=100))


@damage("no-objects", COCO, "scene_000.jpg", on="boxes", id="train/scene_000")
def a_picture_in_json_without_objects(data: Path) -> None:
    in_json(data, COCO, lambda content: content.update(annotations=content["annotations"][3:]))


@damage("bad-annotation", COCO, "not JSON", "line 1, column", on="boxes")
def a_json_file_that_ends_in_the_middle(data: Path) -> None:
    cut(data / COCO, 0.5)


@damage("bad-annotation", COCO, '"annotations"', '"images"', on="boxes")
def a_json_file_without_its_lists(data: Path) -> None:
    in_json(data, COCO, lambda content: content.pop("annotations"))


@damage("empty-file", COCO, on="boxes")
def a_json_file_of_zero_bytes(data: Path) -> None:
    (data / COCO).write_bytes(b"")


@damage("bad-annotation", COCO, "not JSON", on="outlines", settings={"data__labels": None})
def a_json_file_that_ends_before_it_names_its_classes(data: Path) -> None:
    cut(data / COCO, 0.5)


@damage("structure", COCO, "UTF-8", on="boxes")
def a_json_file_that_is_no_text(data: Path) -> None:
    (data / COCO).write_bytes((data / COCO).read_bytes().replace(b"scenes", b"sc\xe8nes"))


@damage("bad-annotation", f"{COCO}: annotation 1", "at least 3", on="outlines", id="train/scene_000")
def an_outline_of_two_points(data: Path) -> None:
    in_coco(data, segmentation=[[4, 7, 17, 19]])


@damage("bad-annotation", f"{COCO}: annotation 1", "run lengths", on="outlines", id="train/scene_000")
def run_lengths_that_do_not_cover_the_picture(data: Path) -> None:
    in_coco(data, segmentation={"size": [48, 64], "counts": [100, 20]})


@damage("mask-size", f"{COCO}: annotation 1", "48 x 20", "64 x 48", on="outlines", id="train/scene_000")
def run_lengths_of_another_picture(data: Path) -> None:
    in_coco(data, segmentation={"size": [20, 48], "counts": [900, 60]})


@damage("unknown-class", f"{COCO}: annotation 1", '"dick" (1 objects)', on="outlines", id="train/scene_000")
def an_outline_of_a_class_that_is_not_in_the_label_map(data: Path) -> None:
    a_category_that_no_class_has(data)


def in_labelme(data: Path, **entries: Any) -> None:
    in_json(data, LABELME, lambda content: content["shapes"][0].update(entries))


@damage("bad-annotation", f"{LABELME}: shape 1", "label", on="labelme", id="scene_003")
def an_outline_without_a_label(data: Path) -> None:
    in_labelme(data, label=None)


@damage("bad-annotation", f"{LABELME}: shape 1", "points", on="labelme", id="scene_003")
def an_outline_with_text_for_points(data: Path) -> None:
    in_labelme(data, points="1,2 3,4 5,6")


@damage("bad-annotation", f"{LABELME}: shape 1", "points", on="labelme", id="scene_003")
def an_outline_with_a_point_that_is_no_number(data: Path) -> None:
    in_labelme(data, points=[[1, 2], [3, float("nan")], [5, 6]])


@damage("bad-annotation", f"{LABELME}: shape 1", "poligon", on="labelme", id="scene_003")
def an_outline_of_an_unknown_kind(data: Path) -> None:
    in_labelme(data, shape_type="poligon")


@damage("empty-box", f"{LABELME}: shape 1", "line", on="labelme", id="scene_003")
def a_line_in_place_of_an_outline(data: Path) -> None:
    in_labelme(data, shape_type="linestrip")


@damage("bad-annotation", LABELME, "`shapes`", on="labelme", id="scene_003")
def a_json_file_of_another_tool(data: Path) -> None:
    (data / LABELME).write_text('{"objects": []}')


@damage("bad-annotation", LABELME, "not JSON", on="labelme", id="scene_003")
def a_file_of_outlines_that_ends_in_the_middle(data: Path) -> None:
    cut(data / LABELME, 0.5)


@damage("missing-mask", "scene_003.jpg", on="labelme", id="scene_003")
def a_picture_that_nobody_outlined(data: Path) -> None:
    (data / LABELME).unlink()


@damage("unmatched-mask", LABELME, on="labelme")
def outlines_without_a_picture(data: Path) -> None:
    (data / "scene_003.jpg").unlink()


@damage("no-objects", LABELME, on="labelme", id="scene_003")
def a_file_without_an_outline(data: Path) -> None:
    in_json(data, LABELME, lambda content: content.update(shapes=[]))


@damage("outside-box", f"{LABELME}: shape 1", "wholly outside", on="labelme", id="scene_003")
def an_outline_beside_its_picture(data: Path) -> None:
    in_labelme(data, points=[[70, 10], [90, 10], [80, 30]])


@damage(
    "bad-annotation", 'annotations.xml: image "scene_003.jpg", polygon 1', "points", on="cvat", id="images/scene_003"
)
def an_outline_in_xml_of_two_points(data: Path) -> None:
    text = (data / "annotations.xml").read_text()
    head, tail = text.split('name="scene_003.jpg"')
    start = tail.index('points="') + len('points="')
    tail = tail[:start] + "1,2;3,4" + tail[tail.index('"', start) :]
    (data / "annotations.xml").write_text(f'{head}name="scene_003.jpg"{tail}')


@damage("outside-root", 'annotations.xml: image "../../scene_003.jpg"', on="cvat")
def an_xml_file_that_names_a_picture_outside_the_root(data: Path) -> None:
    edit(data / "annotations.xml", 'name="scene_003.jpg"', 'name="../../scene_003.jpg"')


@damage("missing-file", 'annotations.xml: image "scene_003.jpg"', on="cvat", id="images/scene_003")
def a_picture_of_the_xml_file_is_gone(data: Path) -> None:
    (data / "images/scene_003.jpg").unlink()


@damage("missing-mask", "export.json: task 4", on="label-studio", id="images/scene_003")
def a_task_that_nobody_did(data: Path) -> None:
    in_json(data, "export.json", lambda tasks: tasks[3].update(annotations=[]))


@damage("bad-annotation", "export.json: task 4", "`result`", on="label-studio", id="images/scene_003")
def a_task_without_a_result(data: Path) -> None:
    in_json(data, "export.json", lambda tasks: tasks[3]["annotations"][0].pop("result"))


@damage("unreadable-file", "train/scene_003/masks/00scene_003.png", on="objects", id="train/scene_003/images/scene_003")
def a_mask_of_an_object_that_is_no_picture(data: Path) -> None:
    (data / "train/scene_003/masks/00scene_003.png").write_text("oops")


@damage("empty-box", "train/scene_003/masks/00scene_003.png", on="objects", id="train/scene_003/images/scene_003")
def a_mask_of_an_object_without_a_pixel(data: Path) -> None:
    Image.new("L", (64, 48)).save(data / "train/scene_003/masks/00scene_003.png")


@damage("missing-mask", "train/scene_003/images/scene_003.png", on="objects", id="train/scene_003/images/scene_003")
def a_picture_without_a_folder_of_masks(data: Path) -> None:
    shutil.rmtree(data / "train/scene_003/masks")


# Whole pictures


@damage("missing-mask", "train/stray.jpg", on="classes", id="train/stray")
def a_picture_in_no_folder_of_a_class(data: Path) -> None:
    Image.fromarray(draw_scene(77)[0]).save(data / "train/stray.jpg")


@damage("unknown-class", "train/dick/stray.jpg", '"dick"', on="classes", id="train/dick/stray")
def a_folder_that_is_no_class(data: Path) -> None:
    (data / "train/dick").mkdir()
    Image.fromarray(draw_scene(77)[0]).save(data / "train/dick/stray.jpg")


@damage("empty-file", "train/disk/scene_003.jpg", on="classes", id="train/disk/scene_003", train="stops")
def a_picture_of_a_class_of_zero_bytes(data: Path) -> None:
    (data / "train/disk/scene_003.jpg").write_bytes(b"")


# The set as a whole

MORE_CLASSES = {
    "data__labels": {
        "classes": [{"name": name, "value": value} for name, value in {**CLASSES, "rock": 90}.items()],
        "ignore": [255],
    }
}


@damage("class-missing", "", '"rock"', settings=MORE_CLASSES, **{"class": "rock"}, images=0)
def a_class_in_no_mask(data: Path) -> None:
    """The damage is in the label map."""


@damage("class-rare", "", '"rock" is in 1 of 23 pictures', settings=MORE_CLASSES, **{"class": "rock"}, images=1)
def a_class_in_one_mask(data: Path) -> None:
    paint(data / "masks/s0003.png", 90, (5, 7))


@damage("class-only-in-val", "", '"rock"', "none of train", settings=MORE_CLASSES, **{"class": "rock"}, images=2)
def a_class_in_masks_of_validation_alone(data: Path) -> None:
    paint(data / "masks/s1000.png", 90, (5, 7))
    paint(data / "masks/s1001.png", 90, (5, 7))


@damage("nothing-to-learn", "", also=tuple(("ignored-mask", f"masks/s{number:04d}.png") for number in range(18)))
def training_masks_of_nothing_but_void(data: Path) -> None:
    for number in range(18):
        Image.fromarray(np.full(SIZE_HW, 255, np.uint8)).save(data / f"masks/s{number:04d}.png")


@damage("no-validation", "", settings={"data__val": None})
def no_picture_to_score_the_training(data: Path) -> None:
    """The damage is in the configuration."""


@damage("duplicate-image", "images/s0009.png", "images/s0003", same_as=["images/s0003"], id="images/s0009")
def a_picture_that_is_there_twice(data: Path) -> None:
    copy_pair(data, "s0003", "s0009")


@damage("near-duplicate-image", "images/s0009.png", "images/s0003", same_as=["images/s0003"], id="images/s0009")
def a_picture_that_is_there_again_a_little_brighter(data: Path) -> None:
    copy_pair(data, "s0003", "s0009")
    brighten(data / "images/s0009.png")


@damage("leaked-image", "images/s1002.png", "s0003 (train)", same_as=["images/s0003"], split="val")
def a_training_picture_in_validation(data: Path) -> None:
    copy_pair(data, "s0003", "s1002")


@damage("leaked-image", "images/s0003.png", splits=["train", "val"], split="val", id="images/s0003")
def a_picture_that_two_lists_name(data: Path) -> None:
    append(data / "val.txt", "images/s0003.png;masks/s0003.png\n")


@damage("near-leaked-image", "images/s1002.png", "s0003 (train)", same_as=["images/s0003"], split="val")
def a_training_picture_in_validation_saved_anew(data: Path) -> None:
    copy_pair(data, "s0003", "s1002")
    brighten(data / "images/s1002.png")


@damage("shared-sequence", "", "drive2", "all 5 val pictures", "4 of the 18 train pictures", sequence="drive2",
        train=4, val=5)  # fmt: skip
def frames_of_one_drive_in_training_and_validation(data: Path) -> None:
    drives = {f"s{number:04d}": "drive1" if number < 14 else "drive2" for number in (*range(18), *range(1000, 1005))}
    for name, drive in drives.items():
        for kind in ("images", "masks"):
            (data / f"{kind}/{name}.png").rename(data / f"{kind}/{drive}_{name[1:]}.png")
            edit(
                data / f"{'val' if name > 's1' else 'train'}.txt",
                f"{kind}/{name}.png",
                f"{kind}/{drive}_{name[1:]}.png",
            )


# How things are broken


def edit(file: Path, old: str, new: str) -> None:
    """Replaces the first place where a text stands; it must be there."""
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), encoding="utf-8")


def append(file: Path, text: str) -> None:
    file.write_text(file.read_text(encoding="utf-8") + text, encoding="utf-8")


def cut(file: Path, share: float) -> None:
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * share)])


def flip(png: Path) -> None:
    """Changes a byte in the middle of the pixels of a PNG file."""
    whole = bytearray(png.read_bytes())
    whole[(whole.index(b"IDAT") + whole.index(b"IEND")) // 2] ^= 0x55
    png.write_bytes(whole)


def paint(mask: Path, value: Any, *places: tuple[int, int]) -> None:
    """Sets single pixels, (row, column), of a mask."""
    pixels = np.array(Image.open(mask))
    for row, column in places:
        pixels[row, column] = value
    Image.fromarray(pixels).save(mask)


def put(data: Path, picture: Image.Image, suffix: str, **options: Any) -> Path:
    """Saves a picture in place of s0003.png, in another format."""
    (data / "images/s0003.png").unlink()
    edit(data / "train.txt", "images/s0003.png", f"images/s0003{suffix}")
    picture.save(data / f"images/s0003{suffix}", **options)
    return data / f"images/s0003{suffix}"


def put_mask(data: Path, mask: Image.Image | bytes, suffix: str, **options: Any) -> None:
    """The same of its mask."""
    (data / "masks/s0003.png").unlink()
    edit(data / "train.txt", "masks/s0003.png", f"masks/s0003{suffix}")
    if isinstance(mask, bytes):
        (data / f"masks/s0003{suffix}").write_bytes(mask)
    else:
        mask.save(data / f"masks/s0003{suffix}", **options)


def matrix(mask: NDArray[Any]) -> bytes:
    """A mask as a MATLAB file."""
    file = io.BytesIO()
    scipy.io.savemat(file, {"groundtruth": mask}, do_compression=True)
    return file.getvalue()


def save_with_mark(picture: Path, orientation: int) -> None:
    """Saves a picture anew with an orientation mark."""
    image = Image.open(picture)
    image.load()
    mark = Image.Exif()
    mark[0x0112] = orientation
    image.save(picture, exif=mark)


def copy_pair(data: Path, source: str, target: str) -> None:
    for kind in ("images", "masks"):
        shutil.copy(data / f"{kind}/{source}.png", data / f"{kind}/{target}.png")


def brighten(picture: Path) -> None:
    pixels: NDArray[np.int64] = np.array(Image.open(picture)).astype(np.int64)
    Image.fromarray(np.clip(pixels * 1.05 + 3, 0, 255).astype(np.uint8)).save(picture)


def bomb() -> bytes:
    """A PNG file of a few bytes that claims 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(60_000))) + chunk(b"IEND", b"")
