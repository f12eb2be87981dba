"""Detection by the front door: crowds, pictures without boxes, several processes, four formats of the same boxes."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from acceptance.conftest import Command
from auditing import trees
from pixbox.boxes import Selection
from pixbox.config import Experiment, read_experiment
from pixbox.data.cache import open_cache
from pixbox.data.dataset import SampleReader
from pixbox.data.splits import labels_of, read_splits
from pixbox.sample import Boxes
from pixbox.tasks.detection import build_detection
from tiny import pixbox


def configured(root: Path, *, format: str = "voc-boxes", **sections: dict[str, Any]) -> dict[str, Any]:
    """A detector that trains in seconds; ``sections`` change or add settings."""
    config: dict[str, Any] = {
        "name": "boxes",
        "task": "detection",
        "data": {
            "format": format, "root": str(root), "train": "train", "val": "val", "size": [48, 64], "fit": "stretch",
            "batch_size": 4, "workers": 0,
        },
        "model": {"encoder": "resnet10t", "options": {"channels": 32, "depth": 1}},
        "detection": {"anchors": [[12, 12], [20, 20]], "levels": 2},
        "optimizer": {"name": "sgd", "lr": 0.005},
        "training": {"epochs": 1, "precision": "32", "accelerator": "cpu"},
    }  # fmt: skip
    for section, changes in sections.items():
        config[section] = {**config[section], **changes}
    return config


@pytest.fixture
def write_config(tmp_path: Path) -> Callable[[dict[str, Any]], Path]:
    def write(config: dict[str, Any], name: str = "experiment.yaml") -> Path:
        path = tmp_path / name
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        return path

    return write


def empty(root: Path, split: str, kept: int = 0) -> None:
    """Take the objects out of all pictures of a split but the first few."""
    for name in (root / f"ImageSets/Main/{split}.txt").read_text().split()[kept:]:
        path = root / f"Annotations/{name}.xml"
        path.write_text(re.sub(r"<object>.*</object>", "", path.read_text(), flags=re.DOTALL))


def weights(run: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    return state


# Crowds


def write_crowds(root: Path) -> dict[str, Any]:
    """COCO's instances_val.json of twelve pictures with boxes of three classes and crowds, and train as it."""
    source = np.random.default_rng(3)
    document: dict[str, Any] = {
        "images": [{"id": n, "file_name": f"{n:03d}.png", "height": 96, "width": 128} for n in range(1, 13)],
        "categories": [{"id": 10 * n, "name": name} for n, name in enumerate(("cat", "dog", "bird"), start=1)],
        "annotations": [],
    }
    for image in document["images"]:
        for crowd in (0, 0, 0, 1):
            width, height = source.integers(8, 50, 2).tolist()
            box = [*source.integers(0, 40, 2).tolist(), width + 20 * crowd, height + 20 * crowd]
            document["annotations"].append(
                {"id": len(document["annotations"]) + 1, "image_id": image["id"], "bbox": box, "iscrowd": crowd,
                 "category_id": int(source.choice((10, 20, 30))), "area": box[2] * box[3]}
            )  # fmt: skip
    for split in ("train", "val"):
        for image in document["images"]:
            path = root / split / image["file_name"]
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((96, 128, 3), 90, dtype=np.uint8)).save(path)
        path = root / f"annotations/instances_{split}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document))
    return document


def detections_near(truth: Boxes, source: np.random.Generator) -> Selection:
    """What a fair detector would find: moved boxes, some of another class, some twice, and small ones in crowds."""
    copied = np.repeat(truth.xyxy, 2, axis=0) + source.integers(-6, 7, (2 * len(truth.classes), 4))
    inside = np.repeat(truth.xyxy[truth.crowd], 3, axis=0)
    corner = inside[:, :2] + source.integers(0, 20, (len(inside), 2))
    xyxy = np.concatenate((copied, np.concatenate((corner, corner + 12), axis=1))).astype(np.float32)
    xyxy[:, 2:] = np.maximum(xyxy[:, 2:], xyxy[:, :2] + 1)
    classes = np.concatenate((np.repeat(truth.classes, 2), np.repeat(truth.classes[truth.crowd], 3)))
    classes = np.where(source.random(len(classes)) < 0.8, classes, source.integers(0, 3, len(classes)))
    scores = source.random(len(classes)).astype(np.float32)
    order = np.argsort(-scores)
    return Selection(*(torch.from_numpy(part[order]) for part in (xyxy, classes, scores)))


def by_pycocotools(file: Path, results: list[dict[str, Any]]) -> dict[str, float]:
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(file))
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(("map", "map_50", "map_75", "mar_100"), evaluation.stats[[0, 1, 2, 8]].tolist(), strict=True))


def test_scores_of_a_coco_file_with_crowds_equal_pycocotools(tmp_path: Path) -> None:
    write_crowds(tmp_path / "data")
    experiment = Experiment.model_validate(configured(tmp_path / "data", format="coco"))
    labels = labels_of(experiment)
    reader = SampleReader(labels, open_cache("none", None), task="detection")
    task, source = build_detection(experiment, labels), np.random.default_rng(0)
    scores, without, results = task.scores(), task.scores(), []
    for index, record in enumerate(read_splits(experiment).val):
        truth = reader.read(record).target
        assert isinstance(truth, Boxes)
        assert truth.crowd.sum() == truth.difficult.sum() == 1
        found = detections_near(truth, source)
        task.score(scores, index, found, truth)
        task.score(without, index, found, Boxes(truth.xyxy, truth.classes, truth.difficult, np.zeros(4, bool)))
        for (x1, y1, x2, y2), c, score in zip(*(part.tolist() for part in vars_of(found)), strict=True):
            results.append({"image_id": int(record.image.stem), "category_id": 10 * (c + 1), "score": score,
                            "bbox": [x1, y1, x2 - x1, y2 - y1]})  # fmt: skip
    assert labels.names == ("cat", "dog", "bird")
    expected = by_pycocotools(tmp_path / "data/annotations/instances_val.json", results)
    plain = task.metrics(scores, 12).to_plain()
    assert 0.2 < expected["map_50"] < 0.95
    assert {name: plain[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    # Crowds matter here: as merely difficult boxes they would give another figure.
    assert abs(task.metrics(without, 12).to_plain()["map_50"] - expected["map_50"]) > 0.01


def vars_of(found: Selection) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return found.boxes_xyxy, found.classes, found.scores


# Pictures without boxes


def test_pictures_and_batches_without_boxes_are_trained_scored_and_predicted(
    command: Command, tmp_path: Path, write_config: Any
) -> None:
    root = trees.write_voc_boxes(tmp_path / "data", 10)
    empty(root, "train", kept=1)
    empty(root, "val", kept=1)
    # Most batches of two have no box at all.
    path = write_config(configured(root, data={"batch_size": 2}, training={"epochs": 2}))
    done = command("train", path, "--out", tmp_path / "run", "--json")
    assert done.status == 0, done.err
    rows = list(csv.DictReader((tmp_path / "run/metrics.csv").open()))
    assert all(0 < float(row["train_loss"]) < 10 and 0 < float(row["val_loss"]) < 10 for row in rows)
    scored = command("evaluate", tmp_path / "run", "--json")
    assert scored.status == 0, scored.err
    assert (scored.json["images"], scored.json["map_50"] is None) == (2, False)
    assert scored.json["voc07_map_50"] is not None
    done = command("predict", tmp_path / "run", root, "--out", tmp_path / "out", "--json")
    assert done.status == 0, done.err
    assert len(done.json["files"]) == 10


def test_a_validation_set_without_any_box_has_no_score_and_says_so(
    command: Command, tmp_path: Path, write_config: Any
) -> None:
    root = trees.write_voc_boxes(tmp_path / "data", 6)
    empty(root, "val")
    path = write_config(configured(root, training={"epochs": 3, "patience": 1}))
    done = command("train", path, "--out", tmp_path / "run", "--json")
    assert done.status == 0, done.err
    assert done.err.count("map_50 is undefined") == 1
    # What is undefined is not worse than before: patience does not run out.
    assert done.json["epochs"] == 3
    assert done.json["best"]["map_50"] is None
    assert not (tmp_path / "run/checkpoints/best.ckpt").exists()
    scored = command("evaluate", tmp_path / "run", "--json")
    assert scored.status == 0, scored.err
    figures = {name: value for name, value in scored.json.items() if "ma" in name and name != "images"}
    assert set(figures.values()) == {None}
    assert scored.json["boxes"] == 0
    judged = write_config(configured(root, training={"monitor": "min val_loss"}), "judged.yaml")
    done = command("train", judged, "--out", tmp_path / "judged", "--json")
    assert done.status == 0, done.err
    assert "undefined" not in done.err
    assert (tmp_path / "judged/checkpoints/best.ckpt").is_file()


def test_a_trained_detector_keeps_its_network_and_its_anchors(
    command: Command, tmp_path: Path, write_config: Any
) -> None:
    root, run = trees.write_voc_boxes(tmp_path / "data", 6), tmp_path / "run"
    done = command("train", write_config(configured(root)), "--out", run, "--json")
    assert done.status == 0, done.err
    # As many anchors as before: all weights fit, and would mean other boxes.
    changes = ("detection.anchors=[[30, 30], [40, 40]]", "detection.levels=3", "model.encoder=resnet18")
    for change in changes:
        name = change.partition("=")[0]
        for call in (("train", run, "--resume"), ("evaluate", run), ("predict", run, root, "--out", tmp_path / "out")):
            refused = command(*call, "--set", change)
            assert refused.status == 2
            assert f"in {name} (" in refused.err
            assert len(refused.err) < 500
    assert not (tmp_path / "out").exists()


def test_a_training_set_without_any_box_is_refused(command: Command, tmp_path: Path, write_config: Any) -> None:
    root = trees.write_voc_boxes(tmp_path / "data", 6)
    empty(root, "train")
    done = command("train", write_config(configured(root)), "--out", tmp_path / "run")
    assert done.status == 2
    assert "nothing to learn" in done.err
    assert not (tmp_path / "run").exists()


# Several processes


@pytest.mark.slow
@pytest.mark.parametrize("with_boxes", [9, 2], ids=["boxes", "few boxes"])
def test_two_processes_train_as_one(with_boxes: int, tmp_path: Path, write_config: Any) -> None:
    root = trees.write_voc_boxes(tmp_path / "data", 12)
    # With two pictures that have boxes among nine, at least every second step has a batch without any.
    empty(root, "train", kept=with_boxes)
    momentum = {"optimizer": {"momentum": 0.9}, "training": {"epochs": 3}}
    one = write_config(configured(root, data={"batch_size": 4}, **momentum), "one.yaml")
    changes = {**momentum, "training": {"epochs": 3, "devices": 2}}
    two = write_config(configured(root, data={"batch_size": 2}, **changes), "two.yaml")
    told = {}
    for name, path in (("one", one), ("two", two)):
        done = pixbox("train", path, "--out", name, "--json", cwd=tmp_path)
        assert done.status == 0, done.err
        told[name] = done.json
    assert told["one"]["steps"] == told["two"]["steps"] == 6
    alone, together = weights(tmp_path / "one"), weights(tmp_path / "two")
    for name in alone:
        torch.testing.assert_close(alone[name], together[name], rtol=1e-4, atol=1e-5)
    assert told["two"]["best"] == pytest.approx(told["one"]["best"], rel=1e-3, abs=1e-3)


@pytest.mark.slow
def test_two_processes_score_boxes_digit_for_digit_as_one(tmp_path: Path, write_config: Any) -> None:
    # Seven pictures to validate: one process has one more than the other.
    root = trees.write_voc_boxes(tmp_path / "data", 28)
    trained = write_config(configured(root, optimizer={"name": "adamw", "lr": 0.005}, training={"epochs": 6}), "a.yaml")
    done = pixbox("train", trained, "--out", "trained", cwd=tmp_path)
    assert done.status == 0, done.err
    told = {}
    for name, batch, devices in (("one", 4, 1), ("two", 2, 2)):
        config = configured(
            root,
            data={"batch_size": batch},
            model={
                "weights": str(tmp_path / "trained"),
                "options": {"channels": 32, "depth": 1, "encoder_norm": "group"},
            },
            optimizer={"lr": 1e-30},
            training={"devices": devices, "max_steps": 1},
        )
        done = pixbox("train", write_config(config, f"{name}.yaml"), "--out", name, "--json", cwd=tmp_path)
        assert done.status == 0, done.err
        told[name] = done.json["best"]
    loss = {name: best.pop("val_loss") for name, best in told.items()}
    assert told["one"] == told["two"]
    assert told["one"]["images"] == 7
    assert told["one"]["map"] > 0
    assert loss["two"] == pytest.approx(loss["one"], rel=1e-6)


# Formats

FORMATS = ("voc-boxes", "box-list", "coco", "yolo")


@pytest.fixture(scope="module")
def same_boxes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The pictures and boxes of a VOC tree, and what `pixbox convert` makes of them."""
    folder = tmp_path_factory.mktemp("formats")
    root = trees.write_voc_boxes(folder / "voc-boxes")
    shutil.copytree(root, folder / "box-list")
    for split in ("train", "val"):
        split_of = ("--split", split, "--to", "box-list", "--out", folder / f"box-list/{split}.txt")
        assert pixbox("convert", "voc-boxes", folder / "box-list", *split_of, cwd=folder).status == 0
    for target in ("coco", "yolo"):
        splits = ("--split", "train", "--split", "val")
        done = pixbox("convert", "voc-boxes", root, *splits, "--to", target, "--out", folder / target, cwd=folder)
        assert done.status == 0, done.err
    return {name: folder / name for name in FORMATS}


def boxes_by_picture(experiment: Experiment) -> dict[str, list[tuple[Any, ...]]]:
    """Picture -> its boxes and class names, rounded to a tenth of a pixel, in an order of their own."""
    labels = labels_of(experiment)
    reader = SampleReader(labels, open_cache("none", None), task="detection")
    splits, found = read_splits(experiment), {}
    for record in (*splits.train, *splits.val):
        sample = reader.read(record)
        assert isinstance(sample.target, Boxes)
        rows = zip(sample.target.xyxy.round(1).tolist(), sample.target.classes.tolist(), strict=True)
        found[record.image.stem] = sorted((labels.names[c], *box) for box, c in rows)
    return found


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_of_boxes_trains_on_the_same_boxes(
    format: str, same_boxes: dict[str, Path], command: Command, tmp_path: Path, write_config: Any
) -> None:
    path = write_config(configured(same_boxes[format], format=format, training={"max_steps": 1}))
    reference = Experiment.model_validate(configured(same_boxes["voc-boxes"]))
    # Class names come from the data, not from the configuration.
    assert boxes_by_picture(read_experiment(path)) == boxes_by_picture(reference)
    assert set(labels_of(read_experiment(path)).names) == {"disk", "box", "tent"}
    done = command("train", path, "--out", tmp_path / "run", "--json")
    assert done.status == 0, done.err
    assert done.json["best"]["images"] == 2
    names = ["tent", "box", "disk"]
    labels = {"data": {"labels": {"classes": names}}}
    if format in ("voc-boxes", "coco"):
        # A label map puts the classes into another order, where the files hold names.
        ordered = read_experiment(write_config(configured(same_boxes[format], format=format, **labels), "ordered.yaml"))
        assert labels_of(ordered).names == tuple(names)
        assert boxes_by_picture(ordered) == boxes_by_picture(reference)


def test_difficult_boxes_of_voc_become_ordinary_ones_in_a_list(command: Command, tmp_path: Path) -> None:
    root = trees.write_voc_boxes(tmp_path / "data", 4)
    for path in (root / "Annotations").glob("*.xml"):
        path.write_text(path.read_text().replace("<difficult>0", "<difficult>1", 1))
    done = command("convert", "voc-boxes", root, "--to", "box-list", "--out", root / "train.txt", "--json")
    assert done.status == 0, done.err
    experiments = [
        Experiment.model_validate(configured(root, format=name, data={"val": None}))
        for name in ("voc-boxes", "box-list")
    ]
    assert boxes_by_picture(experiments[0]) == boxes_by_picture(experiments[1])
