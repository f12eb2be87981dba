"""Tables with a few rows for each picture of a run."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pixbox.files import write_file
from pixbox.sample import Georeference

Row = Mapping[str, Any]

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "areas": ("picture", "class", "pixels", "share", "square_metres"),
    "classes": ("picture", "class", "probability"),
}
"""Of the extras that are tables."""


def area_rows(pixels: Mapping[str, int], georeference: Georeference | None = None) -> list[Row]:
    """The rows of a picture in ``areas``, one for each class, of the number of its pixels.

    ``share`` is of the pixels that have a class; ``square_metres`` is None where the picture does not lie on a map of
    metres or the like.
    """
    total = max(1, sum(pixels.values()))
    size = None if georeference is None else georeference.square_metres
    return [
        {
            "class": name,
            "pixels": count,
            "share": round(count / total, 6),
            "square_metres": None if size is None else round(count * size, 4),
        }
        for name, count in pixels.items()
    ]


def write_table(path: Path, extra: str, rows: Mapping[str, Sequence[Row]]) -> None:
    """Write one of the extras that are tables as CSV, UTF-8, with a header; None becomes an empty field.

    ``rows`` maps each picture, as it is to be named, to its rows (``area_rows``, ``table_rows``).
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS[extra], lineterminator="\n")
    writer.writeheader()
    for picture, of_picture in rows.items():
        writer.writerows({"picture": picture, **row} for row in of_picture)
    write_file(path, text.getvalue())
