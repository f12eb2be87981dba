"""The drawn data set on disk: what is written for which task, and when it is drawn again."""

import json
import shutil

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from pixbox.config import read_labels
from pixbox.demonstration.dataset import TILE, write_scenes
from pixbox.demonstration.scenes import draw_scene
from pixbox.errors import DataError
from pixbox.labels import RawMask

GREYS = {"background": 0, "building": 76, "vegetation": 150, "road": 255}
COUNTS = {"train": 2, "val": 1, "test": 1}


def test_written_scenes_are_the_drawn_ones_and_their_label_map_reads_them(tmp_path):
    write_scenes(tmp_path, seed=5, **COUNTS)
    labels = read_labels(tmp_path / "labels.yaml")
    assert labels.names == tuple(GREYS)
    for split, count in (("train", 2), ("val", 1), ("test", 1)):
        lines = (tmp_path / f"{split}.txt").read_text().splitlines()
        assert len(lines) == count
        for line in lines:
            image, mask = line.split(";")
            pixels = cv2.imread(str(tmp_path / mask), cv2.IMREAD_UNCHANGED)
            assert cv2.imread(str(tmp_path / image)).shape == (256, 256, 3)
            assert (np.array(list(GREYS.values()))[labels.encode(RawMask(pixels))] == pixels).all()
    image = cv2.cvtColor(cv2.imread(str(tmp_path / "images/train_001.png")), cv2.COLOR_BGR2RGB)
    assert (image == draw_scene(5, 1).image).all()


def test_splits_share_no_scene_and_do_not_depend_on_each_others_size(tmp_path):
    write_scenes(tmp_path / "a", seed=5, train=1, val=1, test=1)
    write_scenes(tmp_path / "b", seed=5, train=2, val=1, test=1)
    files = sorted(path.name for path in (tmp_path / "a/images").iterdir())
    contents = [(tmp_path / "a/images" / name).read_bytes() for name in files]
    assert contents == [(tmp_path / "b/images" / name).read_bytes() for name in files]
    assert len(set(contents)) == 3


def _times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.*")}


def test_a_complete_set_is_left_as_it_is(tmp_path):
    write_scenes(tmp_path, seed=5, train=1, val=1, test=0)
    before = _times(tmp_path)
    write_scenes(tmp_path, seed=5, train=1, val=1, test=0)
    assert _times(tmp_path) == before


@pytest.mark.parametrize("lost", ["labels.yaml", "images/val_000.png", "masks/train_000.png", "train.txt"])
def test_an_interrupted_or_damaged_set_is_drawn_again(tmp_path, lost):
    write_scenes(tmp_path, seed=5, train=1, val=1, test=0)
    content = (tmp_path / lost).read_bytes()
    (tmp_path / lost).unlink()
    write_scenes(tmp_path, seed=5, train=1, val=1, test=0)
    assert (tmp_path / lost).read_bytes() == content


def test_other_parameters_draw_a_new_set(tmp_path):
    write_scenes(tmp_path, seed=5, train=1, val=0, test=0)
    before = (tmp_path / "images/train_000.png").read_bytes()
    write_scenes(tmp_path, seed=6, train=1, val=0, test=0)
    assert (tmp_path / "images/train_000.png").read_bytes() != before


def test_a_folder_with_other_data_is_not_touched(tmp_path):
    (tmp_path / "labels.yaml").write_text("classes: [cat, dog]\n")
    with pytest.raises(DataError, match="Choose another folder"):
        write_scenes(tmp_path, seed=0, train=1, val=1, test=1)
    assert [path.name for path in tmp_path.iterdir()] == ["labels.yaml"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file"):
        write_scenes(tmp_path / "file", seed=0, train=1, val=0, test=0)


def test_only_what_a_task_needs_is_written(tmp_path):
    write_scenes(tmp_path, seed=5, **COUNTS)
    base = {"images", "masks", "train.txt", "val.txt", "test.txt", "labels.yaml"}
    assert {path.name for path in tmp_path.iterdir()} == base
    before = _times(tmp_path)
    write_scenes(tmp_path, seed=5, **COUNTS, task="detection")
    boxes = {"buildings_train.json", "buildings_val.json", "buildings_test.json"}
    assert {path.name for path in tmp_path.iterdir()} == base | boxes
    write_scenes(tmp_path, seed=5, **COUNTS, task="classification")
    assert {path.name for path in tmp_path.iterdir()} == base | boxes | {"tiles"}
    assert before.items() <= _times(tmp_path).items()


def test_boxes_are_coco_files_that_its_own_library_reads(tmp_path):
    write_scenes(tmp_path, seed=5, **COUNTS, task="detection")
    coco = COCO(str(tmp_path / "buildings_train.json"))
    assert [category["name"] for category in coco.cats.values()] == ["building"]
    assert [image["file_name"] for image in coco.imgs.values()] == ["train_000.png", "train_001.png"]
    for index, key in enumerate(coco.getImgIds()):
        scene = draw_scene(5, index)
        found = coco.imgToAnns[key]
        corners = [(x, y, x + width, y + height) for x, y, width, height in (item["bbox"] for item in found)]
        np.testing.assert_array_equal(corners, scene.buildings_xyxy)
        assert [bool(item["ignore"]) for item in found] == scene.slivers.tolist()


def test_a_tile_is_a_piece_of_its_scene_of_which_its_class_covers_half_or_more(tmp_path):
    write_scenes(tmp_path, seed=5, **COUNTS, task="classification")
    corners = {}
    for path in tmp_path.glob("tiles/*/*/*.png"):
        split, label = path.parts[-3:-1]
        name, row, column = path.stem.rsplit("_", 2)
        assert name.startswith(split)
        window = slice(int(row), int(row) + TILE), slice(int(column), int(column) + TILE)
        mask = cv2.imread(str(tmp_path / f"masks/{name}.png"), cv2.IMREAD_UNCHANGED)[window]
        assert mask.shape == (TILE, TILE)
        assert (mask == GREYS[label]).mean() >= 0.5
        np.testing.assert_array_equal(cv2.imread(str(path)), cv2.imread(str(tmp_path / f"images/{name}.png"))[window])
        corners.setdefault((name, label), []).append((int(row), int(column)))
    assert {label for _, label in corners} == set(GREYS)
    for places in corners.values():
        assert len(places) <= 4
        for i, (row, column) in enumerate(places):
            assert all(max(abs(row - y), abs(column - x)) >= TILE for y, x in places[:i])


def test_no_class_has_many_times_the_tiles_of_another(tmp_path):
    write_scenes(tmp_path, seed=5, train=12, val=1, test=1, task="classification")
    counts = [len(list((tmp_path / "tiles/train" / label).iterdir())) for label in GREYS]
    assert max(counts) < 3 * min(counts)


@pytest.mark.parametrize(
    ("task", "lost"),
    [("detection", "buildings_val.json"), ("classification", "tiles/train/background"), ("detection", "labels.yaml")],
)
def test_a_lost_part_is_drawn_again_and_the_others_are_left(tmp_path, task, lost):
    write_scenes(tmp_path, seed=5, **COUNTS, task=task)
    before = _times(tmp_path)
    content = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*.*")}
    write_scenes(tmp_path, seed=5, **COUNTS, task=task)
    assert _times(tmp_path) == before
    if (tmp_path / lost).is_dir():
        shutil.rmtree(tmp_path / lost)
    else:
        (tmp_path / lost).unlink()
    write_scenes(tmp_path, seed=5, **COUNTS, task=task)
    assert {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*.*")} == content
    after = _times(tmp_path)
    part = {"buildings_val.json": "buildings", "tiles/train/background": "tiles"}.get(lost)
    for path, time in before.items():
        of_part = str(path.relative_to(tmp_path)).startswith(("buildings", "tiles"))
        if of_part == (part is None):
            assert after[path] == time


@pytest.mark.parametrize("task", ["detection", "classification"])
def test_an_interrupted_part_is_drawn_again(tmp_path, task, monkeypatch):
    write_scenes(tmp_path / "whole", seed=5, **COUNTS, task=task)
    drawn = []

    def interrupted(seed, index):
        drawn.append(index)
        if len(drawn) > 2:
            raise KeyboardInterrupt
        return draw_scene(seed, index)

    with monkeypatch.context() as patch:
        patch.setattr("pixbox.demonstration.dataset.draw_scene", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_scenes(tmp_path / "half", seed=5, **COUNTS, task=task)
    write_scenes(tmp_path / "half", seed=5, **COUNTS, task=task)
    for path in (tmp_path / "whole").rglob("*.*"):
        assert (tmp_path / "half" / path.relative_to(tmp_path / "whole")).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("task", ["detection", "classification"])
def test_a_part_of_another_seed_is_replaced_whole(tmp_path, task):
    write_scenes(tmp_path / "new", seed=6, **COUNTS, task=task)
    write_scenes(tmp_path / "old", seed=5, **COUNTS, task=task)
    write_scenes(tmp_path / "old", seed=6, **COUNTS, task=task)
    found, expected = (
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*.*")}
        for root in (tmp_path / "old", tmp_path / "new")
    )
    assert found == expected


@pytest.mark.parametrize(("task", "own"), [("detection", "buildings_val.json"), ("classification", "tiles/mine.png")])
def test_files_of_others_are_not_touched(tmp_path, task, own):
    (tmp_path / own).parent.mkdir(exist_ok=True)
    (tmp_path / own).write_text(json.dumps({"info": {}}))
    with pytest.raises(DataError, match="Choose another folder"):
        write_scenes(tmp_path, seed=0, **COUNTS, task=task)
    assert (tmp_path / own).read_text() == json.dumps({"info": {}})
