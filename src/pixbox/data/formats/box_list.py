"""``format: box-list``: a text file, a line a picture: ``name ymin xmin ymax xmax class``, again for every box.

The only place where boxes have y first and classes count from 1.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pixbox.config import AnnotatedFolder
from pixbox.data.findings import Findings
from pixbox.data.formats.pairing import (
    Line,
    below,
    find_folders,
    find_list,
    listed_files,
    numbers_as_names,
    read_list,
    read_names,
)
from pixbox.errors import ConfigError, DataError
from pixbox.sample import Record, Shape, Shapes

_NAMES = "classes.txt"
_FOLDERS = (".", "JPEGImages", "images")
_FORM = "Write `name ymin xmin ymax xmax class ...`: five numbers a box, classes from 1, no blanks in the name."


@dataclass(frozen=True, slots=True)
class _List:
    """A list and the folders, relative to the root, that its pictures are looked for in."""

    file: Path
    folders: tuple[str, ...]


def read_records(root: Path, source: str | AnnotatedFolder, findings: Findings) -> list[Record]:
    """The pictures that the file ``source`` (or ``source.txt``) lists with their boxes, in its order.

    Pictures are looked for below the root, then in ``JPEGImages`` and ``images``; below the folder that is named, where
    one is. The label of class i is line i of ``classes.txt`` in the root, or the number itself. A line with a name only
    is a picture without objects. Lines that cannot be read, files that are not there or lie outside the root and
    pictures that are listed twice are findings.

    Raises:
        DataError: no such list or folder.
        ConfigError: ``ids`` are given.
    """
    place = _find(root, source)
    names = _names(root)
    records: list[Record] = []
    entries = _entries(root, place, read_list(place.file), findings)
    for key, line, (image,) in listed_files(root, entries, findings):
        try:
            records.append(Record(key, image, Shapes(tuple(_shapes(line, names)), place.file)))
        except DataError as error:
            findings.add_error(error, id=key)
    return records


def class_names(root: Path, sources: Sequence[str | AnnotatedFolder]) -> list[str]:
    """The lines of ``classes.txt``; where there is none, the numbers from 1 to the largest.

    Raises:
        DataError: as ``read_records``; or ``classes.txt`` cannot be read.
    """
    names = _names(root)
    if names:
        return list(dict.fromkeys(names.values()))
    numbers: set[int] = set()
    for line in (line for source in sources for line in read_list(_find(root, source).file)):
        try:
            numbers |= {int(shape.label) for shape in _shapes(line, names)}
        except DataError:
            continue
    return numbers_as_names(numbers, 1)


def _find(root: Path, source: str | AnnotatedFolder) -> _List:
    if isinstance(source, str):
        return _List(find_list(root, source, "."), _FOLDERS)
    if source.ids is not None:
        raise ConfigError("`ids` does not go with `format: box-list`", where="data",
                          hint="Write a list of the pictures to use.")  # fmt: skip
    find_folders(root, (source.images,))
    return _List(find_list(root, source.annotations, "."), (source.images,))


def _names(root: Path) -> dict[int, str]:
    path = root / _NAMES
    return dict(enumerate(read_names(path), start=1)) if path.is_file() else {}


def _entries(root: Path, place: _List, lines: Sequence[Line], findings: Findings) -> Iterator[tuple[Line, tuple[Path]]]:
    for line in lines:
        name = line.text.split()[0]
        try:
            # An absolute name stays one, and is refused where it leads out of the root.
            images = [below(root, os.path.join(folder, name), line.where) for folder in place.folders]
        except DataError as error:
            findings.add_error(error)
        else:
            # Where none is there, the first says what is missing.
            yield line, (next((image for image in images if image.is_file()), images[0]),)


def _shapes(line: Line, names: dict[int, str]) -> Iterator[Shape]:
    """The boxes of a line.

    Raises:
        DataError: it cannot be read, or a class has no name.
    """
    fields = line.text.split()[1:]
    values = []
    for field in fields:
        try:
            values.append(float(field))
        except ValueError:
            raise DataError(f'"{field}" is not a number', where=line.where, hint=_FORM, code="bad-line") from None
    if len(values) % 5:
        raise DataError(f"{len(values)} numbers, which is no multiple of five", where=line.where, hint=_FORM,
                        code="bad-line")  # fmt: skip
    for start in range(0, len(values), 5):
        y1, x1, y2, x2, number = values[start : start + 5]
        if not number.is_integer() or number < 1:
            raise DataError(f"the class number of box {start // 5 + 1} is {number:g}; it must be 1, 2, 3, ...",
                            where=line.where, hint=_FORM, code="bad-line")  # fmt: skip
        if names and number not in names:
            raise DataError(f"class {number:g} of box {start // 5 + 1} has no name: {_NAMES} has {len(names)} lines",
                            where=line.where, hint="Add the name, or mend the number (the first class is 1).",
                            code="unknown-class")  # fmt: skip
        label = names.get(int(number), str(int(number)))
        yield Shape(label, (x1, y1, x2, y2), where=line.where)
