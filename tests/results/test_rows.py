from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from pixbox.labels import IGNORE, LabelMap
from pixbox.results import EXTRAS, Categorization, Segmentation, tables
from pixbox.results.rows import COLUMNS, area_rows, write_table
from pixbox.sample import Georeference

LABELS = LabelMap.model_validate({"classes": ["ground", "door, open"]})


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_table_has_columns() -> None:
    assert tables(EXTRAS) == tuple(COLUMNS)


def test_areas_of_a_run_are_read_back_by_any_reader_of_csv(tmp_path: Path) -> None:
    mask = np.array([[0, 0, 0, 1, IGNORE]], np.uint8)
    image = np.zeros((1, 5, 3), np.uint8)
    place = Georeference("EPSG:2263", (2, 0, 0, 0, -2, 0), 0.5)
    flat, mapped = (Segmentation("x", image, mask, LABELS, georeference=one) for one in (None, place))
    write_table(tmp_path / "areas.csv", "areas", {"a/x.png": flat.table_rows(), "b/x.png": mapped.table_rows()})
    rows = read(tmp_path / "areas.csv")
    assert [list(row.values()) for row in rows] == [
        ["a/x.png", "ground", "3", "0.75", ""],
        ["a/x.png", "door, open", "1", "0.25", ""],
        # A pixel is 2 x 2 units of half a metre.
        ["b/x.png", "ground", "3", "0.75", "3.0"],
        ["b/x.png", "door, open", "1", "0.25", "1.0"],
    ]
    assert tuple(rows[0]) == COLUMNS["areas"]


def test_shares_of_a_picture_without_a_class_are_zero() -> None:
    assert [row["share"] for row in area_rows({"ground": 0, "sky": 0})] == [0, 0]


def test_classes_of_a_run_stand_in_the_order_of_their_probability(tmp_path: Path) -> None:
    result = Categorization("x", np.zeros((1, 1, 3), np.uint8), np.array([0.25, 0.75], np.float32), LABELS)
    write_table(tmp_path / "classes.csv", "classes", {"x.png": result.table_rows()})
    assert [list(row.values()) for row in read(tmp_path / "classes.csv")] == [
        ["x.png", "door, open", "0.75"],
        ["x.png", "ground", "0.25"],
    ]


def test_a_table_without_pictures_has_its_header(tmp_path: Path) -> None:
    write_table(tmp_path / "areas.csv", "areas", {})
    assert (tmp_path / "areas.csv").read_text() == "picture,class,pixels,share,square_metres\n"


def test_rows_of_other_columns_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="probability"):
        write_table(tmp_path / "areas.csv", "areas", {"x": [{"class": "a", "probability": 1}]})
