from __future__ import annotations

from pathlib import Path

import pytest

from pixbox.auditing.class_tables import ClassTable, find_class_table

CAMVID = Path(__file__).parents[2].parent / "shared" / "data" / "camvid"
RED, GREEN, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 0)

Rows = list[tuple[str, tuple[int, ...], tuple[tuple[int, int, int], ...]]]


def find(folder: Path, name: str, text: str, encoding: str = "utf-8") -> ClassTable | None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(text.encode(encoding))
    return find_class_table(folder)


def rows(table: ClassTable | None) -> Rows:
    assert table is not None
    return [(item.name, item.values, item.colors) for item in table.classes]


NUMBERED: Rows = [("road", (0,), ()), ("car", (1,), ())]
COLORED: Rows = [("road", (0,), (RED,)), ("car", (1,), (GREEN,))]


@pytest.mark.parametrize(
    ("name", "text", "expected", "ignored", "numbered"),
    [
        ("classes.txt", "road\ncar\n", NUMBERED, (), False),
        ("classes.txt", "# index,name,R,G,B\n0,road,255,0,0\n1,car,0,255,0\n2,Unlabelled,0,0,0\n",
         COLORED, (2, BLACK), True),
        ("classes.txt", "0: road\n1: car\n255: void\n", NUMBERED, (255,), True),
        ("class_dict.csv", "name,r,g,b\nroad,255,0,0\ncar,0,255,0\nVoid,0,0,0\n", COLORED, (2, BLACK), False),
        ("class_dict.csv", "name, r, g, b\nroad, 255, 0, 0\ncar, 0, 255, 0\n", COLORED, (), False),
        ("classes.csv", "index;class;red;green;blue\n0;road;255;0;0\n1;car;0;255;0\n", COLORED, (), True),
        ("_classes.csv", "Pixel Value, Class\n0, road\n1, car\n", NUMBERED, (), True),
        ("label_colors.txt", "255 0 0\troad\n0 255 0\tcar\n0 0 0\tVoid\n", COLORED, (2, BLACK), False),
        ("labelmap.txt", "# label:color_rgb:parts:actions\nroad:255,0,0::\ncar:0,255,0:wheel:\nignore:0,0,0::\n",
         COLORED, (2, BLACK), False),
        ("label_list.txt", "road\ncar\n", NUMBERED, (), False),
        # labelme counts its first line as -1, which is 255 in a mask of 8 bits.
        ("labels.txt", "__ignore__\n_background_\ncar\n", [("background", (0,), ()), ("car", (1,), ())], (255,), False),
        ("label.json", '{"road": 0, "car": 1}', NUMBERED, (), True),
        ("classes.json", '{"0": "road", "1": "car"}', NUMBERED, (), True),
        ("classes.json", '["road", "car"]', NUMBERED, (), False),
        ("classes.json", '{"road": [255, 0, 0], "car": "#00ff00"}', COLORED, (), False),
        ("classes.json", '[{"name": "road", "id": 0, "color": [255, 0, 0]},'
         ' {"name": "car", "id": 1, "color": [0, 255, 0]}]', COLORED, (), True),
        # The ids of a database are no mask values.
        ("meta.json", '{"classes": [{"title": "road", "color": "#FF0000", "id": 9512345},'
         ' {"title": "car", "color": "#00FF00", "id": 9512346}], "tags": []}', COLORED, (), False),
        ("labels.yaml", "classes:\n- {name: road, value: 3}\n- {name: car, values: [4, 5]}\nignore: [11, '#ff0000']\n",
         [("road", (3,), ()), ("car", (4, 5), ())], (11, RED), True),
        ("labels.yaml", "classes: [road, car]\n", NUMBERED, (), True),
        ("data.yaml", "train: images/train\nnc: 2\nnames: [road, car]\n", NUMBERED, (), False),
        ("labels.yml", "names:\n  0: road\n  1: car\n", NUMBERED, (), True),
    ],
)  # fmt: skip
def test_each_convention_is_read(
    tmp_path: Path, name: str, text: str, expected: Rows, ignored: tuple[object, ...], numbered: bool
) -> None:
    table = find(tmp_path, name, text)
    assert rows(table) == expected
    assert table is not None
    assert (table.file, table.ignore_sources, table.numbered) == (tmp_path / name, ignored, numbered)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_marks_and_line_ends_of_other_systems_are_no_part_of_the_names(tmp_path: Path, encoding: str) -> None:
    assert rows(find(tmp_path, "classes.txt", "road\r\ncar\r\n\r\n", encoding)) == NUMBERED


@pytest.mark.parametrize(
    "name", ["void", "Unlabeled", "unlabelled", "__ignore__", "border", "don't care", "Ignore region", "edge"]
)
def test_names_that_mean_nothing_are_ignored(tmp_path: Path, name: str) -> None:
    table = find(tmp_path, "class_names.txt", f"road\n{name}\ncar\n")
    assert table is not None
    assert [item.name for item in table.classes] == ["road", "car"]
    assert table.ignore_sources == (1,)


def test_names_with_spaces_and_hyphens_stay_as_they_are(tmp_path: Path) -> None:
    assert [row[0] for row in rows(find(tmp_path, "classes.txt", "0 traffic light\n1 t-shirt\n"))] == [
        "traffic light", "t-shirt"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("classes.txt", ""),
        ("classes.txt", "photos/a.jpg;masks/a.png\nphotos/b.jpg;masks/b.png\n"),
        ("classes.txt", "a.jpg\nb.jpg\n"),
        ("classes.txt", "0001\n0002\n"),
        ("classes.txt", "road\nroad\n"),
        ("classes.txt", "0,road\n0,car\n"),
        ("classes.txt", "0,road\nmore words here: see {1}\n"),
        ("classes.txt", "road,300,0,0\ncar,0,255,0\n"),
        ("class_dict.csv", "name,r,g,b\nroad,9,9,9\ncar,9,9,9\n"),
        ("labelmap.txt", 'item {\n  id: 1\n  name: "car"\n}\n'),
        ("label.json", '{"road": 0, "car"'),
        ("label.json", '{"version": "1.2", "author": {"a": [1]}}'),
        ("meta.json", "[[1, 2], [3]]"),
        ("labels.yaml", "classes: 7\n"),
        ("meta.json", '{"width": 640, "height": 480}'),
        ("labels.txt", "\n".join(f"name {number}x" for number in range(300))),
        ("labels.txt", "x" * 100_000),
    ],
)
def test_files_that_hold_something_else_or_contradict_themselves_are_passed_over(
    tmp_path: Path, name: str, text: str
) -> None:
    assert find(tmp_path, name, text) is None


def test_a_file_that_is_no_text_is_passed_over_for_the_next(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_bytes(b"\xff\x00\x80\x81caf\xe9")
    assert rows(find(tmp_path, "labels.txt", "road\ncar\n")) == NUMBERED


def test_equal_display_colours_do_not_spoil_numbered_classes(tmp_path: Path) -> None:
    assert rows(find(tmp_path, "classes.txt", "0,road,9,9,9\n1,car,9,9,9\n")) == NUMBERED


def test_the_nearest_table_counts_and_those_beside_the_masks_are_found(tmp_path: Path) -> None:
    assert find_class_table(tmp_path) is None
    assert rows(find(tmp_path, "train/masks/_classes.csv", "Pixel Value,Class\n0,deep\n1,deeper\n"))[0][0] == "deep"
    assert rows(find(tmp_path, "masks/classes.txt", "near\nby\n"))[0][0] == "near"
    assert rows(find(tmp_path, "labels.txt", "top\nmost\n"))[0][0] == "top"
    assert find_class_table(tmp_path / "nowhere") is None


@pytest.mark.skipif(not CAMVID.is_dir(), reason="the CamVid pictures are not here")
def test_camvid_has_eleven_classes_and_void_11() -> None:
    table = find_class_table(CAMVID)
    assert [row[0] for row in rows(table)] == [
        "Sky", "Building", "Pole", "Road", "Pavement", "Tree", "SignSymbol", "Fence", "Car", "Pedestrian", "Bicyclist"
    ]  # fmt: skip
    assert table is not None
    assert table.ignore_sources == (11, (0, 0, 0))
    assert table.classes[4].colors == ((60, 40, 222),)
