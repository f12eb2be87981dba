"""A damaged data set, its cleaned copy, and what an audit says of that."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from auditing import trees
from pixbox.auditing.audit import audit_experiment, audit_folder
from pixbox.auditing.repair import Repair, repair
from pixbox.auditing.result import Audit
from pixbox.config import Experiment as ExperimentConfig
from pixbox.config import complete_experiment, read_experiment
from pixbox.data.images import read_image, read_mask
from pixbox.data.splits import read_splits
from pixbox.errors import DataError, RunError
from tiny import CLASSES, experiment, write_scenes

Rows = list[dict[str, str]]


def audit_of(config: dict[str, Any]) -> Audit:
    made = complete_experiment(ExperimentConfig.model_validate(config))
    return audit_experiment(made, "experiment.yaml", lambda what, done, total: None)


def audit_copy(done: Repair) -> Audit:
    return audit_experiment(read_experiment(done.recipe), str(done.recipe), lambda what, done, total: None)


def rows(done: Repair) -> Rows:
    with done.log.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def changes(done: Repair) -> set[tuple[str, str]]:
    """(stem of the file, what was done)"""
    return {(Path(row["file"].split(": ")[0].split(":")[0]).stem, row["change"]) for row in rows(done)}


def snapshot(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def resave(path: Path, change: Any, **options: Any) -> None:
    with Image.open(path) as image:
        changed = change(image.copy())
    changed.save(path, **options)


def with_orientation(image: Image.Image, orientation: int) -> dict[str, Any]:
    exif = image.getexif()
    exif[0x0112] = orientation
    return {"exif": exif}


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """Fourteen training pictures, of which s0000, s0012 and s0013 are sound, and five of validation."""
    root = write_scenes(tmp_path / "data", train=14)
    image, mask = (lambda n: root / f"images/s{n:04d}.png"), (lambda n: root / f"masks/s{n:04d}.png")
    image(1).write_bytes(image(1).read_bytes()[:300])
    mask(2).unlink()
    spoiled = np.array(Image.open(mask(3)))
    spoiled[20, 30:32] = 99
    Image.fromarray(spoiled).save(mask(3))
    resave(mask(4), lambda m: m.resize((112, 80), Image.Resampling.NEAREST))
    resave(mask(5), lambda m: m.resize((30, 90), Image.Resampling.NEAREST))
    image(6).write_bytes(image(0).read_bytes())
    image(7).write_bytes(image(1000).read_bytes())
    picture = Image.open(image(8))
    picture.save(image(8), **with_orientation(picture, 6))
    Image.open(image(9)).convert("RGBA").save(image(9))
    resave(image(9), lambda p: (p.putalpha(100), p)[1])
    deep = np.array(Image.open(image(10)).convert("L")).astype(np.uint16) * 256 + 7
    Image.fromarray(deep).save(image(10))
    soft = np.array(Image.open(mask(11)).resize((112, 80)).resize((56, 40), Image.Resampling.BOX))
    Image.fromarray(soft).save(mask(11))
    with (root / "train.txt").open("a") as lines:
        lines.write("images/s0000.png;masks/s0000.png\nimages/s0012.png\n")
    return root


def test_a_damaged_set_becomes_one_without_errors_and_every_change_is_logged(damaged: Path, tmp_path: Path) -> None:
    before = snapshot(damaged)
    audit = audit_of(experiment(damaged))
    assert audit.has_errors
    done = repair(audit, tmp_path / "clean")
    assert snapshot(damaged) == before
    assert changes(done) == {
        ("s0001", "picture dropped"), ("train", "picture dropped"), ("s0003", "mask values decided"),
        ("s0004", "mask resized"), ("s0005", "picture dropped"), ("s0006", "copy dropped"),
        ("s0007", "leaked picture dropped"), ("s0008", "picture saved anew"), ("s0008", "mask turned"),
        ("s0009", "picture saved anew"), ("s0010", "picture saved anew"), ("s0011", "mask values decided"),
        ("train", "line dropped"),
    }  # fmt: skip
    assert sum(done.changes.values()) == len(rows(done))
    assert (done.kept, done.dropped) == (9 + 5, 5)
    after = audit_copy(done)
    assert set(after.findings.counts) <= {"near-duplicate-image", "near-leaked-image"}
    assert {split.name: split.images for split in after.splits} == {"train": 9, "val": 5}
    assert list(after.labels.names) == list(CLASSES)


def test_pictures_and_masks_of_the_copy_are_those_that_training_saw(damaged: Path, tmp_path: Path) -> None:
    out = repair(audit_of(experiment(damaged)), tmp_path / "clean").out
    for number in (0, 4, 12):
        name = f"s{number:04d}.png"
        assert (out / "images/train" / name).read_bytes() == (damaged / "images" / name).read_bytes()
    for number in (8, 9, 10):
        name = f"s{number:04d}.png"
        with Image.open(out / "images/train" / name) as picture:
            assert (picture.mode, picture.getexif().get(0x0112)) == ("RGB", None)
            np.testing.assert_array_equal(np.asarray(picture), read_image(damaged / "images" / name))
    with Image.open(out / "masks/train/s0000.png") as mask:
        assert mask.mode == "P"
        grey = np.array([*CLASSES.values()])
        truth = np.array(Image.open(damaged / "masks/s0000.png"))
        np.testing.assert_array_equal(np.asarray(mask), np.where(truth == 255, 255, np.searchsorted(grey, truth)))
        turned = np.asarray(Image.open(out / "masks/train/s0008.png"))
    assert turned.shape == (56, 40)
    upright = np.array(Image.open(damaged / "masks/s0008.png"))
    np.testing.assert_array_equal(turned == 255, np.rot90(upright == 255, -1))
    assert sorted(np.unique(np.asarray(Image.open(out / "masks/train/s0003.png")))) in ([0, 1, 2], [0, 1, 2, 255])


def test_broken_boxes_become_a_coco_set_without_errors(tmp_path: Path) -> None:
    root = trees.write_coco(tmp_path / "data", 12, outlines=False)
    file = root / "annotations/instances_train.json"
    document = json.loads(file.read_text())
    one, two, three, four, five = document["annotations"][:5]
    one["bbox"] = [20, 20, -8, -8]
    two["bbox"] = [50, 30, 40, 40]
    three["bbox"] = [10, 10, 0, 5]
    copy = four | {"id": 1000}
    document["annotations"].append(copy)
    document["categories"].append({"id": 9, "name": "ghost"})
    five["category_id"] = 9
    document["images"].append({"id": 500, "file_name": "gone.jpg", "height": 48, "width": 64})
    file.write_text(json.dumps(document))
    config = experiment(
        root, task="detection", data__format="coco", data__train="train", data__val="val",
        data__labels={"classes": list(trees.NAMES)}, training__monitor="off",
    )  # fmt: skip
    audit = audit_of(config)
    assert audit.has_errors
    done = repair(audit, tmp_path / "clean")
    told = sorted(row["change"] for row in rows(done))
    assert told == sorted(
        [
            "corners swapped",
            "box clipped",
            "object dropped",
            "copy of a box dropped",
            "object dropped",
            "picture dropped",
        ]
    )
    swapped = next(row for row in rows(done) if row["change"] == "corners swapped")
    assert swapped["file"].startswith("annotations/instances_train.json")
    assert (swapped["before"].split(" ", 1)[1], swapped["after"].split(" ", 1)[1]) == (
        "(20, 20, 12, 12)", "(12, 12, 20, 20)"
    )  # fmt: skip
    after = audit_copy(done)
    assert not after.has_errors
    assert not {"empty-box", "outside-box", "duplicate-box"} & set(after.findings.counts)
    assert after.experiment.data.format == "coco"
    written = sum(len(record.annotation.shapes) for record in read_splits(read_experiment(done.recipe)).train)
    assert written == len(document["annotations"]) - 3


def test_outlines_of_a_segmentation_become_masks(tmp_path: Path) -> None:
    audit = audit_folder(trees.write_labelme(tmp_path / "data"), lambda what, done, total: None)
    done = repair(audit, tmp_path / "clean")
    after = audit_copy(done)
    assert after.experiment.data.format == "list"
    before = {split.name: (split.pixels.tolist(), split.images) for split in audit.splits}
    assert {split.name: (split.pixels.tolist(), split.images) for split in after.splits} == before


def test_noisy_masks_become_index_masks_nearer_to_the_truth_than_training_saw(tmp_path: Path) -> None:
    root = trees.write_jpeg_masks(tmp_path / "data", 8)
    classes = [{"name": str(n), "color": color} for n, color in enumerate(trees.COLORS.tolist())]
    labels = {"classes": classes, "tolerance": 80, "unknown": "ignore"}
    folders = {"images": "images", "masks": "masks"}
    config = experiment(root, data__format="folders", data__train=folders, data__val=None, data__labels=labels)
    audit = audit_of(config)
    done = repair(audit, tmp_path / "clean")
    assert set(audit_copy(done).findings.counts) <= {"no-validation"}
    for scene in trees.draw_scenes(8):
        seen = audit.labels.encode(read_mask(root / f"masks/{scene.name}.jpg")) != scene.mask
        mended = np.asarray(Image.open(done.out / f"masks/train/{scene.name}.png")) != scene.mask
        assert mended.sum() <= seen.sum()
        assert mended.mean() < 0.01


def test_what_the_recipe_of_a_bare_folder_would_exclude_is_mended(tmp_path: Path) -> None:
    root = trees.write_binary(tmp_path / "data", 10)
    masks = sorted((root / "masks").iterdir())
    resave(masks[3], lambda m: m.resize((50, 9)))
    image = root / "images" / f"{masks[4].stem}.jpg"
    with Image.open(image) as picture:
        picture.copy().save(image, **with_orientation(picture, 8))
    audit = audit_folder(root, lambda what, done, total: None)
    assert audit.experiment.data.exclude == [f"images/{masks[3].stem}", f"images/{masks[4].stem}"]
    done = repair(audit, tmp_path / "clean")
    assert {("picture dropped", masks[3].stem), ("mask turned", masks[4].stem)} <= {
        (what, stem) for stem, what in changes(done)
    }
    assert (done.kept, done.dropped) == (9, 1)
    assert not audit_copy(done).has_errors


def test_class_folders_lose_copies_and_pictures_of_validation(tmp_path: Path) -> None:
    root = trees.write_imagefolder(tmp_path / "data")
    (root / "train/box/bad.jpg").write_bytes(b"")
    Image.new("RGB", (64, 48), "red").save(root / "train/disk/one.jpg")
    (root / "train/disk/two.jpg").write_bytes((root / "train/disk/one.jpg").read_bytes())
    config = experiment(
        root, task="classification", data__format="imagefolder", data__train="train", data__val="val",
        data__labels={"classes": list(trees.NAMES)}, training__monitor="off",
    )  # fmt: skip
    done = repair(audit_of(config), tmp_path / "clean")
    assert {"copy dropped", "picture dropped"} <= set(done.changes)
    after = audit_copy(done)
    assert not after.has_errors
    assert not {"duplicate-image", "leaked-image"} & set(after.findings.counts)
    assert {path.name for path in (done.out / "train").iterdir()} == set(trees.NAMES)


def test_a_coarser_first_stage_speaks_of_indices_in_the_copy(scenes: Path, tmp_path: Path) -> None:
    coarse = {"classes": [{"name": "nothing", "value": 0}, {"name": "thing", "values": [80, 200]}], "ignore": [255]}
    config = experiment(scenes, first_stage__labels=coarse, first_stage__epochs=1)
    done = repair(audit_of(config), tmp_path / "clean")
    written = yaml.safe_load(done.recipe.read_text())
    assert [item["values"] for item in written["first_stage"]["labels"]["classes"]] == [[0], [1, 2]]
    assert written["first_stage"]["labels"]["ignore"] == [255]
    assert (written["data"]["root"], written["data"]["labels"], written["data"]["exclude"]) == (".", "labels.yaml", [])


def test_the_copy_lies_neither_in_the_data_nor_around_them_nor_over_anything(scenes: Path, tmp_path: Path) -> None:
    audit = audit_of(experiment(scenes))
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine").write_text("")
    (tmp_path / "link").symlink_to(scenes, target_is_directory=True)
    before = snapshot(scenes)
    for out in (scenes, scenes / "clean", scenes.parent, tmp_path / "full", tmp_path / "link" / "clean"):
        with pytest.raises(RunError):
            repair(audit, out)
    assert snapshot(scenes) == before
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine"]


def test_a_set_of_which_nothing_is_left_leaves_no_folder(tmp_path: Path) -> None:
    root = write_scenes(tmp_path / "data", train=2, val=1)
    for path in (root / "images").glob("s0000*"):
        path.write_bytes(b"")
    os.remove(root / "masks/s0001.png")
    with pytest.raises(DataError, match="no training picture"):
        repair(audit_of(experiment(root)), tmp_path / "clean")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]
