"""The pictures that are worked on: of a data set where its folder is given, else drawn in its sizes and formats."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pixbox.config import DataConfig, read_labels
from pixbox.data.cache import open_cache
from pixbox.data.dataset import SampleReader
from pixbox.data.formats import default_labels, read_records
from pixbox.labels import LabelMap
from pixbox.sample import Boxes, Record, Sample

CAMVID_HW, CCP_HW, BCCD_HW = (360, 480), (830, 550), (480, 640)
_CAMVID_LABELS = Path(__file__).parent.parent / "recipes" / "camvid_labels.yaml"
_BLOB = 24
"""Pixels between the points from which a drawn picture is made."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """Labelled pictures on disk.

    Attributes:
        name: of the data set, and how many.
        records: where they lie.
        reader: reads them, keeping nothing.
    """

    name: str
    records: list[Record]
    reader: SampleReader

    def samples(self) -> list[Sample]:
        return [self.reader.read(record) for record in self.records]


def camvid(options: argparse.Namespace, count: int, folder: Path) -> Pictures:
    """Street scenes of 360 x 480 as PNG with masks; drawn ones are written into ``folder``."""
    if options.camvid is None:
        labels = _draw(folder, count, CAMVID_HW, ".png", classes=12)
        return _of_masks("drawn as CamVid", DataConfig(root=str(folder)), labels, count)
    data = DataConfig(root=str(options.camvid))
    return _of_masks("CamVid", data, read_labels(_CAMVID_LABELS), count)


def clothes(options: argparse.Namespace, count: int, folder: Path) -> Pictures:
    """Photos of 830 x 550 as JPEG with masks (``.mat`` where they are real); drawn ones come into ``folder``."""
    if options.ccp is None:
        labels = _draw(folder, count, CCP_HW, ".jpg", classes=59)
        return _of_masks("drawn as Clothing Co-Parsing", DataConfig(root=str(folder)), labels, count)
    data = DataConfig(format="ccp", root=str(options.ccp), train="all")
    known = default_labels(data, "segmentation", ["all"])
    assert known is not None
    return _of_masks("Clothing Co-Parsing", data, known, count)


def cells(options: argparse.Namespace, count: int) -> tuple[str, list[Sample], LabelMap]:
    """Pictures of 480 x 640 with the boxes of three classes."""
    if options.bccd is None:
        labels = LabelMap.model_validate({"classes": ["a", "b", "c"]})
        return "drawn as BCCD", [_draw_boxes(index) for index in range(count)], labels
    data = DataConfig(format="voc-boxes", root=str(options.bccd))
    found = default_labels(data, "detection", ["train"])
    assert found is not None
    reader = SampleReader(found, open_cache("none", None), task="detection")
    return "BCCD", [reader.read(record) for record in read_records(data, "train")[:count]], found


def resized(sample: Sample, size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """The picture stretched to a size: (h, w, 3) uint8 RGB."""
    picture: NDArray[np.uint8] = cv2.resize(sample.image, size_hw[::-1], interpolation=cv2.INTER_AREA)
    return picture


def drawn_picture(seed: int, size_hw: tuple[int, int], classes: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Soft blobs of colour with noise, (h, w, 3) uint8, and the class of each place, (h, w) uint8: as hard to decode
    as a photo."""
    rng = np.random.default_rng(seed)
    height, width = size_hw
    points = rng.random((height // _BLOB + 2, width // _BLOB + 2, 4)).astype(np.float32)
    fields = cv2.resize(points, (width, height), interpolation=cv2.INTER_CUBIC)
    noise = rng.normal(0, 6, (height, width, 3))
    picture = np.clip(fields[..., :3] * 255 + noise, 0, 255).astype(np.uint8)
    mask = np.clip(fields[..., 3] * classes, 0, classes - 1).astype(np.uint8)
    return picture, mask


def _of_masks(name: str, data: DataConfig, labels: LabelMap, count: int) -> Pictures:
    source = data.train if data.format != "list" else "train.txt"
    records = read_records(data, source)[:count]
    return Pictures(f"{name}, {len(records)} pictures", records, SampleReader(labels, open_cache("none", None)))


def _draw(folder: Path, count: int, size_hw: tuple[int, int], suffix: str, classes: int) -> LabelMap:
    """Pictures, masks and ``train.txt``."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for index in range(count):
        picture, mask = drawn_picture(index, size_hw, classes)
        names = f"{index:03d}{suffix}", f"{index:03d}_mask.png"
        cv2.imwrite(str(folder / names[0]), picture[..., ::-1])
        cv2.imwrite(str(folder / names[1]), mask)
        lines.append(";".join(names))
    (folder / "train.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return LabelMap.model_validate({"classes": [{"name": f"class {i}", "value": i} for i in range(classes)]})


def _draw_boxes(seed: int) -> Sample:
    picture, _ = drawn_picture(seed, BCCD_HW, 3)
    rng = np.random.default_rng([seed, 1])
    xyxy = random_boxes(rng, 14, BCCD_HW)
    flags = np.zeros(len(xyxy), dtype=np.bool_)
    return Sample(f"{seed}", picture, Boxes(xyxy, rng.integers(0, 3, len(xyxy)), flags, flags))


def random_boxes(rng: np.random.Generator, count: int, size_hw: tuple[int, int]) -> NDArray[np.float32]:
    """(count, 4) float32 corners within a picture, sides of 24 to 140 pixels."""
    sides = rng.uniform(24, 140, (count, 2))
    first = rng.random((count, 2)) * (np.array(size_hw[::-1]) - sides)
    return np.concatenate((first, first + sides), axis=1).astype(np.float32)
