"""A list of boxes: a line a picture, ``name ymin xmin ymax xmax class``, again for every box; classes from 1."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from pixbox.conversion.writing import Labelled, number_text
from pixbox.data.formats.pairing import read_names
from pixbox.errors import DataError, RunError
from pixbox.files import write_file
from pixbox.labels import LabelMap
from pixbox.sample import Record, Shape

REFUSED_NAMES = r"[\\\s]|^#"
REFUSED_WHY = "blanks part the entries of a line, so it may hold none, nor a backslash, nor start with #"
_NAMES = "classes.txt"


class BoxListWriter:
    """Writes the file ``out``, and ``classes.txt`` beside it. Pictures stay where they are, below their folder."""

    def __init__(self, out: Path, labels: LabelMap) -> None:
        self._out = out
        self._labels = labels
        self._numbers = {name: number for number, name in enumerate(labels.names, start=1)}

    def write(self, item: Labelled[tuple[Shape, ...]]) -> str:
        fields = [listed_name(item.job.record, self._out)]
        for shape in item.label:
            x1, y1, x2, y2 = map(number_text, shape.box_xyxy)
            fields += [y1, x1, y2, x2, str(self._numbers[shape.label])]
        return " ".join(fields)

    def finish(self, entries: Mapping[str, Sequence[str]]) -> list[str]:
        ((_, lines),) = entries.items()
        write_file(self._out.with_name(_NAMES), "".join(f"{name}\n" for name in self._labels.names))
        write_file(self._out, "".join(f"{line}\n" for line in lines))
        return [self._out.name, _NAMES]


def listed_name(record: Record, out: Path) -> str:
    """The picture's path below the folder of the list."""
    return os.path.relpath(record.image, os.path.abspath(out.parent)).replace(os.sep, "/")


def check_place(out: Path, labels: LabelMap, records: Sequence[Record]) -> None:
    """Refuse what the list could not be read back from.

    Raises:
        RunError: ``out`` is there already, or ``classes.txt`` beside it names other classes.
        DataError: the pictures do not lie below the folder of ``out``.
    """
    if out.exists():
        what = "is a folder; a list of boxes is a file" if out.is_dir() else "is there already, and stays"
        raise RunError(what, where=str(out), hint="Name a new file: --out.")
    names = out.with_name(_NAMES)
    if names.exists() and read_names(names) != list(labels.names):
        raise RunError("names other classes than this list would have", where=str(names),
                       hint="Write the list into another folder, or remove the file.")  # fmt: skip
    outside = [record for record in records if listed_name(record, out).startswith("../")]
    if outside:
        root = str(outside[0].image)[: -len(outside[0].id + outside[0].image.suffix)]
        what = f"names are relative to {os.path.abspath(out.parent)}, and the pictures do not lie below it"
        raise DataError(what, where=str(outside[0].image), hint=f"Write the list there: --out {root}{out.name}")
