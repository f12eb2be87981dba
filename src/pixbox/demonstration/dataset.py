"""The drawn scenes as files: one data set for every task, and only the parts of it that a task needs."""

from __future__ import annotations

import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pixbox.config import Task
from pixbox.demonstration.scenes import Scene, draw_scene
from pixbox.demonstration.world import BACKGROUND, BUILDING, ROAD, VEGETATION
from pixbox.errors import DataError
from pixbox.files import write_file

CLASSES = {"background": BACKGROUND, "building": BUILDING, "vegetation": VEGETATION, "road": ROAD}
"""Name of a class -> its grey value in the masks."""
TILE = 48
"""Pixels; a square of this side holds most of a building. In one of 64 no class but the ground covers half."""

_COLORS = ("#b8a888", "#d1495b", "#3e8e5a", "#33658a")
_TILES_OF_A_CLASS = 4
_STEP = 8
# Part of the files that are written last: a set drawn by older rules is drawn again.
_RULES = 1
_HEADING = "Aerial scenes drawn by pixbox"
_FIRST_INDEX = {"train": 0, "val": 1_000_000, "test": 2_000_000}


def write_scenes(folder: Path, *, seed: int, train: int, val: int, test: int, task: Task = "segmentation") -> None:
    """Draw a data set: ``images/``, ``masks/``, ``train.txt``, ``val.txt``, ``test.txt`` and ``labels.yaml``.

    For detection also ``buildings_train.json``, ``_val`` and ``_test``: the boxes of the buildings as COCO has them;
    slivers at the picture's border have ``ignore: 1``. For classification also ``tiles/<split>/<class>/*.png``: squares
    of ``TILE`` pixels, of which one class covers half or more.

    What is there of the same parameters and complete is left as it is; the scenes of a split do not depend on how
    many the others have. One file of each part is written last, so that an interrupted call is noticed by the next.

    Raises:
        DataError: the folder holds other data, or cannot be written.
    """
    counts = {"train": train, "val": val, "test": test}
    names = {split: [f"{split}_{number:03d}" for number in range(count)] for split, count in counts.items()}
    shown = ", ".join(f"{split} {count}" for split, count in counts.items())
    made = f"{_HEADING}: seed {seed}, {shown}, rules {_RULES}."
    parts: list[_Part] = [_Masks(folder, made, names)]
    if task == "detection":
        parts.append(_Buildings(folder, made, names))
    elif task == "classification":
        parts.append(_Tiles(folder, made, names))
    try:
        missing = [part for part in parts if not part.is_complete()]
        for part in missing:
            part.clear()
        if missing:
            for split, name, scene in _draw(names, seed):
                for part in missing:
                    part.add(split, name, scene)
        for part in missing:
            part.finish()
    except OSError as error:
        raise DataError(f"cannot be written ({error})", where=str(folder)) from None


def _draw(names: Mapping[str, Iterable[str]], seed: int) -> Iterator[tuple[str, str, Scene]]:
    for split, of_split in names.items():
        for number, name in enumerate(of_split):
            yield split, name, draw_scene(seed, _FIRST_INDEX[split] + number)


class _Part(ABC):
    """Some files of the data set. ``made`` says of what parameters; it stands in the file that is written last."""

    def __init__(self, folder: Path, made: str, names: Mapping[str, list[str]]) -> None:
        self.folder = folder
        self.made = made
        self.names = names

    @abstractmethod
    def is_complete(self) -> bool:
        """Whether the files are there, of these parameters."""

    @abstractmethod
    def clear(self) -> None:
        """Take away the file that says that the part is complete.

        Raises:
            DataError: it was not made by the demo.
        """

    @abstractmethod
    def add(self, split: str, name: str, scene: Scene) -> None:
        """Write, or keep, what is needed of a scene."""

    @abstractmethod
    def finish(self) -> None:
        """Write what stands once; the file that says that the part is complete last."""


class _Masks(_Part):
    """Pictures, masks, lists and the label map, which is written last."""

    def is_complete(self) -> bool:
        files = [self.folder / kind / f"{name}.png" for name in _all(self.names) for kind in ("images", "masks")]
        files += [self.folder / f"{split}.txt" for split in self.names]
        return _text(self._last) == self._label_file() and all(file.is_file() for file in files)

    def clear(self) -> None:
        _remove(self._last, f"# {_HEADING}")
        for kind in ("images", "masks"):
            (self.folder / kind).mkdir(parents=True, exist_ok=True)

    def add(self, split: str, name: str, scene: Scene) -> None:
        _write_png(self.folder / f"images/{name}.png", scene.image[:, :, ::-1])
        _write_png(self.folder / f"masks/{name}.png", scene.mask)

    def finish(self) -> None:
        for split, names in self.names.items():
            lines = "".join(f"images/{name}.png;masks/{name}.png\n" for name in names)
            (self.folder / f"{split}.txt").write_text(lines, encoding="utf-8")
        write_file(self._last, self._label_file())

    @property
    def _last(self) -> Path:
        return self.folder / "labels.yaml"

    def _label_file(self) -> str:
        lines = [
            f'  - {{name: {name}, value: {grey}, color: "{color}"}}\n'
            for (name, grey), color in zip(CLASSES.items(), _COLORS, strict=True)
        ]
        return f"# {self.made}\nclasses:\n{''.join(lines)}"


class _Buildings(_Part):
    """A COCO file of boxes for each split. Each tells by its ``info`` what it was made of."""

    def __init__(self, folder: Path, made: str, names: Mapping[str, list[str]]) -> None:
        super().__init__(folder, made, names)
        self._files = {split: folder / f"buildings_{split}.json" for split in names}
        self._images: dict[str, list[dict[str, Any]]] = {split: [] for split in names}
        self._annotations: dict[str, list[dict[str, Any]]] = {split: [] for split in names}

    def is_complete(self) -> bool:
        return all(_text(file).startswith(self._head(self.made)) for file in self._files.values())

    def clear(self) -> None:
        for file in self._files.values():
            _remove(file, self._head(_HEADING))

    def add(self, split: str, name: str, scene: Scene) -> None:
        height, width = scene.mask.shape
        images, annotations = self._images[split], self._annotations[split]
        image = {"id": len(images) + 1, "file_name": f"{name}.png", "width": width, "height": height}
        images.append(image)
        for (x1, y1, x2, y2), sliver in zip(scene.buildings_xyxy.tolist(), scene.slivers.tolist(), strict=True):
            box = [x1, y1, x2 - x1, y2 - y1]
            annotations.append({
                "id": len(annotations) + 1, "image_id": image["id"], "category_id": 1,
                "bbox": box, "area": box[2] * box[3], "iscrowd": 0, "ignore": int(sliver),
            })  # fmt: skip

    def finish(self) -> None:
        for split, file in self._files.items():
            content = {
                "info": {"description": self.made},
                "categories": [{"id": 1, "name": "building"}],
                "images": self._images[split],
                "annotations": self._annotations[split],
            }
            write_file(file, json.dumps(content))

    @staticmethod
    def _head(description: str) -> str:
        """How a file with this description, or one that starts like this, starts."""
        return json.dumps({"info": {"description": description}})[: -len('"}}')]


class _Tiles(_Part):
    """Squares in a folder for each class. ``tiles/about.txt``, written last, says how many and of what parameters."""

    def is_complete(self) -> bool:
        return _text(self._last) == self._about()

    def clear(self) -> None:
        tiles = self.folder / "tiles"
        if tiles.exists() and not _text(self._last).startswith(_HEADING):
            raise DataError("holds files that were not made by the demo", where=str(tiles),
                            hint="Choose another folder.")  # fmt: skip
        # Others of another seed must not stay among the new ones.
        shutil.rmtree(tiles, ignore_errors=True)
        for split in self.names:
            for name in CLASSES:
                (tiles / split / name).mkdir(parents=True)
        self._last.write_text(f"{_HEADING}: not complete.\n", encoding="utf-8")

    def add(self, split: str, name: str, scene: Scene) -> None:
        for label, grey in CLASSES.items():
            for row, column in _covered(scene.mask == grey):
                tile = scene.image[row : row + TILE, column : column + TILE, ::-1]
                _write_png(self.folder / f"tiles/{split}/{label}/{name}_{row:03d}_{column:03d}.png", tile)

    def finish(self) -> None:
        write_file(self._last, self._about())

    @property
    def _last(self) -> Path:
        return self.folder / "tiles/about.txt"

    def _about(self) -> str:
        found = sum(1 for split in self.names for _ in self.folder.glob(f"tiles/{split}/*/*.png"))
        return f"{self.made} {found} tiles.\n"


def _covered(of_class: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Upper left corners, row and column, of at most four tiles that a class covers most, half or more, and that do
    not overlap."""
    height, width = of_class.shape
    sums = cv2.integral(of_class.astype(np.uint8))
    rows, columns = np.arange(0, height - TILE + 1, _STEP), np.arange(0, width - TILE + 1, _STEP)
    below, right = rows[:, None] + TILE, columns + TILE
    covered = sums[below, right] - sums[rows[:, None], right] - sums[below, columns] + sums[rows[:, None], columns]
    found: list[tuple[int, int]] = []
    while len(found) < _TILES_OF_A_CLASS and covered.size:
        place = np.unravel_index(int(covered.argmax()), covered.shape)
        if covered[place] * 2 < TILE**2:
            break
        row, column = int(rows[place[0]]), int(columns[place[1]])
        found.append((row, column))
        covered[np.ix_(abs(rows - row) < TILE, abs(columns - column) < TILE)] = 0
    return found


def _all(names: Mapping[str, Iterable[str]]) -> Iterator[str]:
    for of_split in names.values():
        yield from of_split


def _text(path: Path) -> str:
    """What a file holds; empty if it is not there."""
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _remove(path: Path, start: str) -> None:
    """Delete a file that starts as the demo's do.

    Raises:
        DataError: it starts otherwise.
    """
    if path.exists() and not _text(path).startswith(start):
        raise DataError("was not made by the demo", where=str(path), hint="Choose another folder.")
    path.unlink(missing_ok=True)


def _write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    done, data = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 3])
    if not done:
        raise OSError(f"{path.name} cannot be encoded")
    path.write_bytes(data.tobytes())
