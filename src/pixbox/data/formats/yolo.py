"""``format: yolo``: one text file a picture, a line an object: class number and box, or class number and outline.

Source: the label files of Darknet and of Ultralytics' YOLO, which adds outlines and ``data.yaml``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from pixbox.config import AnnotatedFolder
from pixbox.data.findings import Findings
from pixbox.data.formats.pairing import (
    Line,
    below,
    find_annotated,
    find_folders,
    find_list,
    listed_files,
    numbers_as_names,
    read_lines,
    read_list,
    read_names,
    split_folders,
)
from pixbox.data.images import image_size_hw
from pixbox.documents import Document, read_document
from pixbox.errors import ConfigError, DataError
from pixbox.sample import Record, Shape, Shapes

_ASIDE = frozenset({
    "classes", "predefined_classes", "names", "labels", "notes",
    "train", "val", "valid", "test", "readme", "readme.dataset", "readme.roboflow",
})  # fmt: skip
"""Text files of these names lie beside labels and are none."""
_NAME_FILES = ("classes.txt", "obj.names", "names.txt", "_darknet.labels")
_LARGEST_FRACTION = 1.5
"""A box may reach beyond its picture; a coordinate beyond this was written in pixels."""


@dataclass(frozen=True, slots=True)
class _Folders:
    """Pictures and labels of the same names, and the file that lists which to use."""

    images: Path
    labels: Path
    ids: Path | None = None


_Place = _Folders | Path
"""Where a split lies: folders, or a list of pictures."""


def read_records(root: Path, source: str | AnnotatedFolder, findings: Findings) -> list[Record]:
    """The pictures of a split with their boxes and outlines, in pixels of the picture.

    A name ``train`` stands for ``images/train`` and ``labels/train``, ``train/images`` and ``train/labels``, a folder
    ``train`` with both side by side, or what ``data.yaml`` says; ``.`` for ``images`` and ``labels``, or the root with
    both side by side; a name that ends in ``.txt`` for a list of pictures. A picture without a label file, or with an
    empty one, has no objects.

    What a file says wrongly is a finding; the rest of the file is used.

    A label is the class name that ``data.yaml``, ``classes.txt`` or ``obj.names`` gives the number; the number itself
    where there are no names.

    Raises:
        DataError: folders or lists that are not there, no picture, or class names that cannot be read.
    """
    records: list[Record] = []
    for place in _places(root, source):
        names = _names(root, place)
        labelled = 0
        for key, image, file in _pictures(root, place, findings):
            labelled += file is not None
            shapes = () if file is None else _read_shapes(file, image, names, key, findings)
            if shapes is not None:
                records.append(Record(key, image, Shapes(shapes, file or image)))
        if not labelled:
            looked = place.labels if isinstance(place, _Folders) else place
            hint = "A picture without objects needs none, but some must have them; is this the right folder?"
            findings.add("structure", str(looked), "no picture has a label file (.txt)", hint)
    return records


def class_names(root: Path, sources: Sequence[str | AnnotatedFolder]) -> list[str]:
    """The class names in the order of their numbers; where nothing names them, the numbers from 0 to the largest.

    Raises:
        DataError: as ``read_records``.
    """
    names: dict[str, None] = {}
    numbers: set[int] = set()
    for place in (place for source in sources for place in _places(root, source)):
        known = _names(root, place)
        names |= dict.fromkeys(known[number] for number in sorted(known))
        if not known:
            files = (file for _, _, file in _pictures(root, place, Findings()) if file is not None)
            numbers |= {number for file in files for number in _numbers(file)}
    return [*names, *(name for name in numbers_as_names(numbers, 0) if name not in names)]


def _places(root: Path, source: str | AnnotatedFolder) -> list[_Place]:
    if isinstance(source, AnnotatedFolder):
        images, labels = find_folders(root, (source.images,), (source.annotations,))
        return [_Folders(images, labels, None if source.ids is None else below(root, source.ids, str(root)))]
    if source.lower().endswith(".txt"):
        return [find_list(root, source, ".")]
    layouts = [("images", "labels")]
    if source != ".":
        layouts = [(f"images/{name}", f"labels/{name}") for name in split_folders(source)]
        layouts += [(f"{name}/images", f"{name}/labels") for name in split_folders(source)]
    pictures = [images for images, _ in layouts]
    if any(below(root, images, str(root)).is_dir() for images in pictures):
        images, labels = find_folders(root, pictures, [labels for _, labels in layouts])
        return [_Folders(images, labels)]
    side_by_side = [name for name in split_folders(source) if below(root, name, str(root)).is_dir()]
    named = [] if side_by_side else _named_in_yaml(root, source)
    if named:
        return named
    (folder,) = find_folders(root, side_by_side or [*split_folders(source), *pictures])
    return [_Folders(folder, folder)]


def _named_in_yaml(root: Path, source: str) -> list[_Place]:
    """What ``path`` and ``train`` (or ``val``, ``test``) of ``data.yaml`` lead to, as far as it lies below the root."""
    document = _yaml(root)
    value = document.value.get(source) if document else None
    if document is None or value is None:
        return []
    places: list[_Place] = []
    for text in value if isinstance(value, list) else [value]:
        # Written relative to `path`, to the file, or (Roboflow) to a folder beside it.
        written = (f"{document.value.get('path') or '.'}/{text}", str(text), re.sub(r"^(\.\./)+", "", str(text)))
        place = next((place for place in map(partial(_place, root), written) if place is not None), None)
        if place is None:
            raise DataError(f'"{source}: {text}" leads to nothing below the data root {root}',
                            where=document.where((source,)), hint="Name the folders in `data`.")  # fmt: skip
        places.append(place)
    return places


def _place(root: Path, text: str) -> _Place | None:
    try:
        path = below(root, text, "")
    except DataError:
        return None
    if path.is_file():
        return path
    labels = _label_path(root, path)
    return _Folders(path, labels if labels.is_dir() else path) if path.is_dir() else None


def _label_path(root: Path, path: Path) -> Path:
    """The path with its last folder ``images`` (or VOC's ``JPEGImages``) below the root replaced by ``labels``."""
    parts = list(path.relative_to(root).parts)
    last = max((position for position, part in enumerate(parts) if part in ("images", "JPEGImages")), default=None)
    if last is not None:
        parts[last] = "labels"
    return root.joinpath(*parts)


def _yaml(root: Path) -> Document | None:
    """``data.yaml``, or the one YAML file in the root that names classes.

    Raises:
        DataError: there are several such files and none is ``data.yaml``, or it cannot be read.
    """
    files = sorted(path for path in root.iterdir() if path.suffix.lower() in (".yaml", ".yml") and path.is_file())
    files = [path for path in files if re.search(rb"^(\xef\xbb\xbf)?names\s*:", path.read_bytes(), re.MULTILINE)]
    files = [path for path in files if path.stem.lower() == "data"] or files
    if len(files) > 1:
        raise DataError(f"several files name the classes: {', '.join(path.name for path in files)}", where=str(root),
                        hint="Keep one, or call it data.yaml.")  # fmt: skip
    try:
        return read_document(files[0]) if files else None
    except ConfigError as error:
        raise DataError(error.faults) from None


def _names(root: Path, place: _Place) -> dict[int, str]:
    """Class number -> name; empty if nothing names the classes.

    Raises:
        DataError: a file that names them cannot be read.
    """
    document = _yaml(root)
    if document is not None:
        return _names_in_yaml(document)
    folders = [root]
    if isinstance(place, _Folders):
        folders += [place.labels, place.labels.parent, place.images, place.images.parent]
    for file in (folder / name for folder in folders if folder.is_relative_to(root) for name in _NAME_FILES):
        if file.is_file():
            return dict(enumerate(read_names(file)))
    return {}


def _names_in_yaml(document: Document) -> dict[int, str]:
    names = document.value.get("names")
    if isinstance(names, list):
        names = {str(number): name for number, name in enumerate(names)}
    if "kpt_shape" in document.value:
        raise DataError("these labels have key points (`kpt_shape`), which cannot be read",
                        where=document.where(("kpt_shape",)), hint="Export boxes or outlines.")  # fmt: skip
    if not isinstance(names, dict) or not names:
        raise DataError("`names` holds no class names", where=document.where(("names",)),
                        hint="Write `names: [first, second]`.")  # fmt: skip
    for number, name in names.items():
        if not number.isdecimal() or not isinstance(name, str | int | float):
            raise DataError(f"`names` must give each class number one name, found {number}: {name}",
                            where=document.where(("names", number)))  # fmt: skip
    return {int(number): str(name) for number, name in names.items()}


def _pictures(root: Path, place: _Place, findings: Findings) -> Iterator[tuple[str, Path, Path | None]]:
    """Record id, picture and label file, if there is one."""
    if isinstance(place, _Folders):
        only = None if place.ids is None else read_list(place.ids)
        yield from find_annotated(root, place.images, place.labels, ".txt", findings, only=only, aside=_ASIDE)
        return
    for key, _, (image,) in listed_files(root, _listed(root, read_list(place), findings), findings):
        candidates = (_label_path(root, image).with_suffix(".txt"), image.with_suffix(".txt"))
        yield key, image, next((file for file in candidates if file.is_file()), None)


def _listed(root: Path, lines: Sequence[Line], findings: Findings) -> Iterator[tuple[Line, tuple[Path]]]:
    for line in lines:
        try:
            image = below(root, line.text, line.where)
        except DataError as error:
            findings.add_error(error)
            continue
        # CVAT's lists say `data/obj_train_data/x.png` for a folder `obj_train_data` beside the list.
        shorter = below(root, line.text.removeprefix("data/"), line.where)
        yield line, (image if image.is_file() or not shorter.is_file() else shorter,)


def _read_shapes(
    file: Path, image: Path, names: Mapping[int, str], key: str, findings: Findings
) -> tuple[Shape, ...] | None:
    """The objects of a label file; None, with a finding, where it or the picture's size cannot be read."""
    try:
        lines = read_lines(file)
    except DataError as error:
        findings.add_error(error, id=key, code="bad-annotation")
        return None
    try:
        size_hw = image_size_hw(image) if lines else (0, 0)
    except DataError as error:
        findings.add_error(error, id=key, code="unreadable-file")
        return None
    shapes = []
    for line in lines:
        try:
            shapes.append(_shape(line, names, size_hw))
        except DataError as error:
            findings.add_error(error, id=key)
    return tuple(shapes)


def _shape(line: Line, names: Mapping[int, str], size_hw: tuple[int, int]) -> Shape:
    number, fractions = _fields(line)
    if names and number not in names:
        raise DataError(f"class {number} has no name: there are names for {min(names)} to {max(names)}",
                        where=line.where, hint="Add the name, or mend the number (the first class is 0).",
                        code="unknown-class")  # fmt: skip
    label = names.get(number, str(number))
    height, width = size_hw
    if len(fractions) == 4:
        x, y, w, h = fractions
        box = ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)
        return Shape(label, box, where=line.where)
    outline = np.array(fractions).reshape(-1, 2) * (width, height)
    x1, y1, x2, y2 = (float(value) for value in (*outline.min(axis=0), *outline.max(axis=0)))
    return Shape(label, (x1, y1, x2, y2), (outline,), where=line.where)


def _fields(line: Line) -> tuple[int, list[float]]:
    """The class number and the fractions: four of a box, or six and more of an outline.

    Raises:
        DataError: it is neither.
    """
    values = []
    for field in line.text.split():
        try:
            values.append(float(field))
        except ValueError:
            raise _bad(line, f'"{field}" is not a number') from None
    number, fractions = values[0], values[1:]
    if not number.is_integer() or number < 0:
        raise _bad(line, f"the class number is {number:g}; it must be 0, 1, 2, ...")
    if len(values) == 6:
        raise _bad(line, "6 numbers: a box has 5; predictions have a sixth, the confidence, labels do not")
    if len(values) < 5 or len(values) % 2 == 0:
        raise _bad(line, f"{len(values)} numbers: a box has 5, an outline 7, 9, 11, ...")
    large = [value for value in fractions if _LARGEST_FRACTION < abs(value) < math.inf]
    if large:
        raise _bad(line, f"{large[0]:g} looks like pixels: coordinates are fractions of the picture's width and height",
                   "Divide x by the width and y by the height.")  # fmt: skip
    return int(number), fractions


def _bad(line: Line, what: str, hint: str = "Write `class x y width height`, or `class x1 y1 x2 y2 x3 y3 ...`."
         ) -> DataError:  # fmt: skip
    return DataError(what, where=line.where, hint=hint, code="bad-annotation")


def _numbers(file: Path) -> set[int]:
    """The class numbers in a label file, as far as it can be read."""
    try:
        return {_fields(line)[0] for line in read_lines(file)}
    except DataError:
        return set()
