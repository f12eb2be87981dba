"""Miniature data sets, each written the way one kind of data set lies on disk.

Pictures are 48 x 64 pixels: red disks, blue boxes and yellow tents on noisy green ground, so that a small network
learns them in a few epochs. Every function returns the folder that it wrote.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
import scipy.io
from PIL import Image, ImageDraw

from pixbox.data.formats.voc import voc_color

SIZE_HW = (48, 64)
NAMES = ("disk", "box", "tent")
"""The objects; in masks the ground is 0 and these are 1, 2, 3."""
PAINT = ((80, 120, 80), (205, 70, 60), (60, 80, 200), (225, 205, 80))
"""What they look like in the pictures, the ground first."""
COLORS = np.array([(0, 0, 0), (230, 25, 75), (60, 180, 75), (255, 255, 255)], dtype=np.uint8)
"""What they are in masks of colours."""
Polygon = tuple[tuple[float, float], ...]
Document = dict[str, Any]


@dataclass(frozen=True)
class Scene:
    """A picture (48, 64, 3), its mask (48, 64) of 0 to 3, and (name, outline) of each object."""

    name: str
    picture: np.ndarray
    mask: np.ndarray
    objects: tuple[tuple[str, Polygon], ...]


def draw_scene(index: int) -> Scene:
    """The scene of this number: always the same. It has one to three objects that do not touch; 0 to 2 are disk,
    box and tent, so that every class occurs in any three scenes in a row."""
    rng = np.random.default_rng(index)
    mask = Image.new("L", (SIZE_HW[1], SIZE_HW[0]), 0)
    objects = []
    for place in range(int(rng.integers(1, 4))):
        kind = (index + place) % len(NAMES)
        x, y = 11 + 21 * place + rng.uniform(-1, 1), rng.uniform(12, SIZE_HW[0] - 12)
        outline = _outline(kind, x, y, rng.uniform(6, 9))
        ImageDraw.Draw(mask).polygon(outline, fill=kind + 1)
        objects.append((NAMES[kind], outline))
    classes = np.asarray(mask)
    noisy = np.array(PAINT)[classes] + rng.normal(0, 10, (*SIZE_HW, 3))
    return Scene(f"scene_{index:03d}", np.clip(noisy, 0, 255).astype(np.uint8), classes, tuple(objects))


def _outline(kind: int, x: float, y: float, radius: float) -> Polygon:
    corners = {
        0: [(np.cos(turn), np.sin(turn)) for turn in np.linspace(0, 2 * np.pi, 16, endpoint=False)],
        1: [(-1, -1), (1, -1), (1, 1), (-1, 1)],
        2: [(0, -1), (1, 1), (-1, 1)],
    }[kind]
    return tuple((round(float(x + radius * dx), 2), round(float(y + radius * dy), 2)) for dx, dy in corners)


def draw_scenes(count: int, first: int = 0) -> list[Scene]:
    return [draw_scene(first + index) for index in range(count)]


def split_scenes(count: int) -> dict[str, list[Scene]]:
    """So many scenes, of which a quarter, but two at least, are for validation."""
    val = max(2, count // 4)
    return {"train": draw_scenes(count - val), "val": draw_scenes(val, first=1000)}


# Pictures and masks.


def write_rgb_folder(root: Path, count: int = 8) -> Path:
    """Masks of colours: images/a.jpg, masks/a.png."""
    return write_pairs(root, count, lambda scene: Image.fromarray(COLORS[scene.mask]))


def write_binary(root: Path, count: int = 8) -> Path:
    """Black and white masks: images/a.jpg, masks/a.png of 0 and 255."""
    return write_pairs(root, count, lambda scene: Image.fromarray(np.where(scene.mask > 0, 255, 0).astype(np.uint8)))


def write_jpeg_masks(root: Path, count: int = 8) -> Path:
    """Masks of colours saved with loss: images/a.jpg, masks/a.jpg."""
    return write_pairs(root, count, lambda scene: Image.fromarray(COLORS[scene.mask]), mask_file="masks/{}.jpg")


def write_pairs(
    root: Path,
    count: int = 8,
    encode: Callable[[Scene], Image.Image] = lambda scene: Image.fromarray(scene.mask),
    *,
    image_file: str = "images/{}.jpg",
    mask_file: str = "masks/{}.png",
) -> Path:
    """A picture and a mask, of class indices unless ``encode`` says otherwise, for each scene."""
    for scene in draw_scenes(count):
        _save(Image.fromarray(scene.picture), root / image_file.format(scene.name))
        _save(encode(scene), root / mask_file.format(scene.name))
    return root


def write_split_pairs(root: Path, count: int = 8, *, image_file: str, mask_file: str) -> Path:
    """The same with ``{split}`` (train or val) and ``{name}`` in the file names: masks of class indices."""
    for split, scenes in split_scenes(count).items():
        for scene in scenes:
            _save(Image.fromarray(scene.picture), root / image_file.format(split=split, name=scene.name))
            _save(Image.fromarray(scene.mask), root / mask_file.format(split=split, name=scene.name))
    return root


def write_mat(root: Path, count: int = 8) -> Path:
    """images/a.jpg and labels/a.mat with the matrix ``groundtruth``."""
    for scene in draw_scenes(count):
        _save(Image.fromarray(scene.picture), root / f"images/{scene.name}.jpg")
        _save_mat(scene.mask, root / f"labels/{scene.name}.mat")
    return root


def write_list(root: Path, count: int = 8) -> Path:
    """train.txt and val.txt of ``image;label`` lines; one folder for all pictures, one for all masks."""
    for split, scenes in split_scenes(count).items():
        for scene in scenes:
            _save(Image.fromarray(scene.picture), root / f"photos/{scene.name}.png")
            _save(Image.fromarray(scene.mask), root / f"truth/{scene.name}.png")
        _write_lines(root / f"{split}.txt", [f"photos/{s.name}.png;truth/{s.name}.png" for s in scenes])
    return root


def write_voc(root: Path, count: int = 8) -> Path:
    """Pascal VOC: palette masks whose objects have outlines of 255, and lists of ids."""
    palette = [channel for index in range(256) for channel in voc_color(index)]
    for split, scenes in split_scenes(count).items():
        for scene in scenes:
            bordered = Image.fromarray(scene.mask).convert("P")
            for _, outline in scene.objects:
                ImageDraw.Draw(bordered).line([*outline, outline[0]], fill=255)
            bordered.putpalette(palette)
            _save(Image.fromarray(scene.picture), root / f"JPEGImages/{scene.name}.jpg")
            _save(bordered, root / f"SegmentationClass/{scene.name}.png")
        _write_lines(root / f"ImageSets/Segmentation/{split}.txt", [scene.name for scene in scenes])
    return root


def write_cityscapes(root: Path, count: int = 8) -> Path:
    """Cityscapes with the label ids road (7), car (26), person (24) and sky (23), and the other files of gtFine."""
    ids = np.array([7, 26, 24, 23], dtype=np.uint8)
    for split, scenes in split_scenes(count).items():
        for number, scene in enumerate(scenes):
            frame = f"{split}/ulm/ulm_{number:06d}_000019"
            _save(Image.fromarray(scene.picture), root / f"leftImg8bit/{frame}_leftImg8bit.png")
            _save(Image.fromarray(ids[scene.mask]), root / f"gtFine/{frame}_gtFine_labelIds.png")
            _save(Image.fromarray(COLORS[scene.mask]), root / f"gtFine/{frame}_gtFine_color.png")
            _save(Image.fromarray(scene.mask.astype(np.uint16) * 1000), root / f"gtFine/{frame}_gtFine_instanceIds.png")
            _write_json(root / f"gtFine/{frame}_gtFine_polygons.json", {"imgHeight": 48, "imgWidth": 64, "objects": []})
    return root


def write_ade20k(root: Path, count: int = 8) -> Path:
    """The scene parsing benchmark: values 1 to 4, and 0 for nothing."""
    for split, folder in (("train", "training"), ("val", "validation")):
        for number, scene in enumerate(split_scenes(count)[split]):
            name = f"{folder}/ADE_{split}_{number:08d}"
            _save(Image.fromarray(scene.picture), root / f"images/{name}.jpg")
            _save(Image.fromarray(scene.mask + 1), root / f"annotations/{name}.png")
    return root


def write_coco_stuff(root: Path, count: int = 8) -> Path:
    for split, scenes in split_scenes(count).items():
        for number, scene in enumerate(scenes):
            _save(Image.fromarray(scene.picture), root / f"images/{split}2017/{number:012d}.jpg")
            _save(Image.fromarray(scene.mask), root / f"stuffthingmaps/{split}2017/{number:012d}.png")
    return root


def write_ccp(root: Path, count: int = 8) -> Path:
    """Clothing Co-Parsing; one photo has no label, as most of the original have not."""
    for number, scene in enumerate(draw_scenes(count), start=1):
        _save(Image.fromarray(scene.picture), root / f"photos/{number:04d}.jpg")
        _save_mat(scene.mask, root / f"annotations/pixel-level/{number:04d}.mat")
    _save(Image.fromarray(draw_scene(count).picture), root / f"photos/{count + 1:04d}.jpg")
    names = np.empty((1, 4), dtype=object)
    names[0] = [np.array([name]) for name in ("null", *NAMES)]
    scipy.io.savemat(root / "label_list.mat", {"label_list": names})
    return root


def write_objects(root: Path, count: int = 8) -> Path:
    """One file per object: train/<id>/images/<id>.png and train/<id>/masks/<any name>.png of 0 and 255."""
    for scene in draw_scenes(count):
        _save(Image.fromarray(scene.picture), root / f"train/{scene.name}/images/{scene.name}.png")
        for number, (_, outline) in enumerate(scene.objects):
            mask = Image.new("L", (SIZE_HW[1], SIZE_HW[0]), 0)
            ImageDraw.Draw(mask).polygon(outline, fill=255)
            _save(mask, root / f"train/{scene.name}/masks/{number:02d}{scene.name}.png")
    return root


# Outlines and boxes.


def write_labelme(root: Path, count: int = 8) -> Path:
    """Pictures, and beside each a JSON file with its outlines."""
    for scene in draw_scenes(count):
        _save(Image.fromarray(scene.picture), root / f"{scene.name}.jpg")
        shapes = [
            {"label": name, "points": outline, "group_id": None, "shape_type": "polygon", "flags": {}}
            for name, outline in scene.objects
        ]
        document = {"version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": f"{scene.name}.jpg",
                    "imageData": None, "imageHeight": SIZE_HW[0], "imageWidth": SIZE_HW[1]}  # fmt: skip
        _write_json(root / f"{scene.name}.json", document)
    return root


def write_coco(root: Path, count: int = 8, *, outlines: bool = True) -> Path:
    """annotations/instances_train.json and pictures in train/, likewise val; without outlines, boxes alone."""
    for split, scenes in split_scenes(count).items():
        for scene in scenes:
            _save(Image.fromarray(scene.picture), root / f"{split}/{scene.name}.jpg")
        _write_json(root / f"annotations/instances_{split}.json", coco_document(scenes, outlines=outlines))
    return root


def write_coco_export(root: Path, count: int = 8) -> Path:
    """train/_annotations.coco.json beside the pictures, and valid/ the same way."""
    for folder, scenes in zip(("train", "valid"), split_scenes(count).values(), strict=True):
        for scene in scenes:
            _save(Image.fromarray(scene.picture), root / f"{folder}/{scene.name}.jpg")
        _write_json(root / f"{folder}/_annotations.coco.json", coco_document(scenes))
    return root


def coco_document(scenes: list[Scene], *, outlines: bool = True) -> Document:
    images, annotations = [], []
    for number, scene in enumerate(scenes, start=1):
        images.append({"id": number, "file_name": f"{scene.name}.jpg", "height": SIZE_HW[0], "width": SIZE_HW[1]})
        for name, outline in scene.objects:
            x1, y1, x2, y2 = box_of(outline)
            entry = {"id": len(annotations) + 1, "image_id": number, "category_id": NAMES.index(name) + 1,
                     "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": 0}  # fmt: skip
            annotations.append(entry | ({"segmentation": [np.ravel(outline).tolist()]} if outlines else {}))
    categories = [{"id": number, "name": name} for number, name in enumerate(NAMES, start=1)]
    return {"info": {"description": "scenes"}, "licenses": [], "images": images, "annotations": annotations,
            "categories": categories}  # fmt: skip


def write_yolo_boxes(root: Path, count: int = 8) -> Path:
    """images/train/a.jpg and labels/train/a.txt of ``class x y width height``, and a data.yaml with the names."""
    return _write_yolo(root, count, _yolo_box)


def write_yolo_polygons(root: Path, count: int = 8) -> Path:
    """The same with lines of ``class x1 y1 x2 y2 ...``."""
    return _write_yolo(root, count, lambda outline: [part for x, y in outline for part in (x / 64, y / 48)])


def _write_yolo(root: Path, count: int, encode: Callable[[Polygon], list[float]]) -> Path:
    for split, scenes in split_scenes(count).items():
        for scene in scenes:
            _save(Image.fromarray(scene.picture), root / f"images/{split}/{scene.name}.jpg")
            lines = [" ".join([str(NAMES.index(name)), *(f"{part:.6f}" for part in encode(outline))])
                     for name, outline in scene.objects]  # fmt: skip
            _write_lines(root / f"labels/{split}/{scene.name}.txt", lines)
    names = "".join(f"  {number}: {name}\n" for number, name in enumerate(NAMES))
    (root / "data.yaml").write_text(f"path: .\ntrain: images/train\nval: images/val\nnames:\n{names}")
    return root


def _yolo_box(outline: Polygon) -> list[float]:
    x1, y1, x2, y2 = box_of(outline)
    return [(x1 + x2) / 2 / SIZE_HW[1], (y1 + y2) / 2 / SIZE_HW[0], (x2 - x1) / SIZE_HW[1], (y2 - y1) / SIZE_HW[0]]


def write_voc_boxes(root: Path, count: int = 8) -> Path:
    """Pascal VOC for detection: JPEGImages, Annotations and lists of ids in ImageSets/Main."""
    for split, scenes in split_scenes(count).items():
        for scene in scenes:
            _save(Image.fromarray(scene.picture), root / f"JPEGImages/{scene.name}.jpg")
            _write_lines(root / f"Annotations/{scene.name}.xml", [voc_xml(scene)])
        _write_lines(root / f"ImageSets/Main/{split}.txt", [scene.name for scene in scenes])
    return root


def voc_xml(scene: Scene) -> str:
    objects = ""
    for name, outline in scene.objects:
        x1, y1, x2, y2 = (round(corner) for corner in box_of(outline))
        objects += (f"<object><name>{name}</name><difficult>0</difficult><bndbox><xmin>{x1 + 1}</xmin>"
                    f"<ymin>{y1 + 1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>")  # fmt: skip
    return (f"<annotation><filename>{scene.name}.jpg</filename><size><width>{SIZE_HW[1]}</width>"
            f"<height>{SIZE_HW[0]}</height><depth>3</depth></size>{objects}</annotation>")  # fmt: skip


def write_box_list(root: Path, count: int = 8) -> Path:
    """train.txt and val.txt of ``name ymin xmin ymax xmax class ...`` (classes from 1), and one folder of pictures."""
    for split, scenes in split_scenes(count).items():
        lines = []
        for scene in scenes:
            _save(Image.fromarray(scene.picture), root / f"pictures/{scene.name}.jpg")
            fields = [f"pictures/{scene.name}.jpg"]
            for name, outline in scene.objects:
                x1, y1, x2, y2 = (round(corner) for corner in box_of(outline))
                fields += [str(number) for number in (y1, x1, y2, x2, NAMES.index(name) + 1)]
            lines.append(" ".join(fields))
        _write_lines(root / f"{split}.txt", lines)
    return root


def write_cvat(root: Path, count: int = 8) -> Path:
    """annotations.xml of polygons, and images/."""
    images = ""
    for number, scene in enumerate(draw_scenes(count)):
        _save(Image.fromarray(scene.picture), root / f"images/{scene.name}.jpg")
        polygons = ""
        for name, outline in scene.objects:
            points = ";".join(f"{x:.2f},{y:.2f}" for x, y in outline)
            polygons += f'<polygon label={quoteattr(name)} occluded="0" points="{points}" z_order="0"></polygon>'
        images += f'<image id="{number}" name="{scene.name}.jpg" width="64" height="48">{polygons}</image>'
    _write_lines(root / "annotations.xml", ['<?xml version="1.0" encoding="utf-8"?>',
                                            f"<annotations><version>1.1</version>{images}</annotations>"])  # fmt: skip
    return root


def write_label_studio(root: Path, count: int = 8) -> Path:
    """export.json of polygons, in percents of the picture, and images/."""
    tasks = []
    for number, scene in enumerate(draw_scenes(count), start=1):
        _save(Image.fromarray(scene.picture), root / f"images/{scene.name}.jpg")
        result = [
            {"id": f"r{number}{place}", "type": "polygonlabels", "from_name": "label", "to_name": "image",
             "original_width": SIZE_HW[1], "original_height": SIZE_HW[0], "image_rotation": 0,
             "value": {"points": [[x / 64 * 100, y / 48 * 100] for x, y in outline], "polygonlabels": [name]}}
            for place, (name, outline) in enumerate(scene.objects)
        ]  # fmt: skip
        tasks.append({"id": number, "data": {"image": f"/data/upload/1/0a1b2c3d-{scene.name}.jpg"},
                      "annotations": [{"id": number, "was_cancelled": False, "result": result}]})  # fmt: skip
    _write_json(root / "export.json", tasks)
    return root


def box_of(outline: Polygon) -> tuple[float, float, float, float]:
    """(x1, y1, x2, y2), clipped to the picture."""
    (x1, y1), (x2, y2) = np.min(outline, axis=0).tolist(), np.max(outline, axis=0).tolist()
    return max(x1, 0.0), max(y1, 0.0), min(x2, float(SIZE_HW[1])), min(y2, float(SIZE_HW[0]))


# Whole pictures.


def write_imagefolder(root: Path, count: int = 12) -> Path:
    """train/disk/a.jpg: pictures of one object each, in folders of their class."""
    for split, scenes in split_scenes(count).items():
        for number, scene in enumerate(scenes):
            kind = number % len(NAMES)
            rng = np.random.default_rng(number)
            picture = Image.fromarray(np.clip(rng.normal(PAINT[0], 10, (*SIZE_HW, 3)), 0, 255).astype(np.uint8))
            ImageDraw.Draw(picture).polygon(_outline(kind, 32, 24, 14), fill=PAINT[kind + 1])
            _save(picture, root / split / NAMES[kind] / f"{scene.name}.jpg")
    return root


def _save(picture: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, **({"quality": 90} if path.suffix == ".jpg" else {}))


def _save_mat(mask: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, {"groundtruth": mask})


def _write_lines(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _write_json(path: Path, document: Document | list[Document]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document), encoding="utf-8")
