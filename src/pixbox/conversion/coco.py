"""COCO: a JSON file of pictures, categories and objects for each split."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faster_coco_eval.core import mask as coco_mask

from pixbox.conversion.objects import encoded_region, usable_outlines
from pixbox.conversion.writing import Labelled, put_labels, put_picture, put_text
from pixbox.labels import LabelMap
from pixbox.sample import Shape

REFUSED_NAMES = r"[\\\x00-\x1f\x7f]"
REFUSED_WHY = "it may hold no backslash or line break"


@dataclass(frozen=True, slots=True)
class CocoEntry:
    """A picture's entry and those of its objects, still without ids; the label of each object."""

    image: dict[str, Any]
    annotations: tuple[dict[str, Any], ...]
    labels: tuple[str, ...]


class CocoWriter:
    """Writes ``images/<split>/``, ``annotations/instances_<split>.json`` and ``labels.yaml``.

    ``names`` are the categories, with ids from 1; other names that objects have follow them.
    """

    def __init__(self, folder: Path, labels: LabelMap, names: Sequence[str]) -> None:
        self._folder = folder
        self._labels = labels
        self._names = names

    def write(self, item: Labelled[tuple[Shape, ...]]) -> CocoEntry:
        height, width = item.size_hw
        annotations = tuple(_annotation(shape, item.size_hw) for shape in item.label)
        put_picture(item.picture, self._folder / "images" / item.job.split / item.job.name)
        image = {"file_name": item.job.name, "width": width, "height": height}
        return CocoEntry(image, annotations, tuple(shape.label for shape in item.label))

    def finish(self, entries: Mapping[str, Sequence[CocoEntry]]) -> list[str]:
        used = {label for split in entries.values() for entry in split for label in entry.labels}
        names = [*self._names, *sorted(used - set(self._names))]
        numbers = {name: number for number, name in enumerate(names, start=1)}
        categories = [{"id": number, "name": name} for name, number in numbers.items()]
        files = []
        for split, of_split in entries.items():
            images: list[dict[str, Any]] = []
            annotations: list[dict[str, Any]] = []
            for image_id, entry in enumerate(of_split, start=1):
                images.append({"id": image_id, **entry.image})
                for label, annotation in zip(entry.labels, entry.annotations, strict=True):
                    ids = {"id": len(annotations) + 1, "image_id": image_id, "category_id": numbers[label]}
                    annotations.append(ids | annotation)
            files.append(f"annotations/instances_{split}.json")
            document = {"images": images, "annotations": annotations, "categories": categories}
            put_text(json.dumps(document, ensure_ascii=False, allow_nan=False), self._folder / files[-1])
        return [*files, put_labels(self._labels, self._folder)]


def _annotation(shape: Shape, size_hw: tuple[int, int]) -> dict[str, Any]:
    """All of an object's entry but its ids and category."""
    x1, y1, x2, y2 = shape.box_xyxy
    # What is left of a difference of two numbers with two decimals is 15 more of them.
    box = [round(value, 6) for value in (x1, y1, x2 - x1, y2 - y1)]
    entry: dict[str, Any] = {"bbox": box, "area": round(box[2] * box[3], 6), "iscrowd": int(shape.crowd)}
    if shape.difficult:
        entry["ignore"] = 1
    if shape.region is not None:
        code = encoded_region(shape, size_hw)
        outlines = usable_outlines(shape)
        entry["area"] = int(coco_mask.area(code))
        entry["segmentation"] = (
            [ring.ravel().tolist() for ring in outlines] if outlines else code | {"counts": code["counts"].decode()}
        )
    return entry
