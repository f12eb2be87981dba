"""Detection and classification by the front door: the same verbs, the same files."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from acceptance.conftest import Command
from auditing import trees

CPU = {"precision": "32", "accelerator": "cpu"}


def detection(root: Path, **training: Any) -> dict[str, Any]:
    return {
        "name": "boxes",
        "task": "detection",
        "data": {
            "format": "voc-boxes", "root": str(root), "train": "train", "val": "val", "size": [48, 64],
            "fit": "stretch", "batch_size": 2, "workers": 0, "augment": {"flip": 0.5},
        },
        "model": {"encoder": "resnet10t", "options": {"channels": 32, "depth": 1, "encoder_norm": "group"}},
        "detection": {"anchors": [[12, 12], [20, 20]], "levels": 2},
        "optimizer": {"lr": 0.002},
        "training": {"epochs": 2, **CPU, **training},
    }  # fmt: skip


def classification(root: Path, **training: Any) -> dict[str, Any]:
    return {
        "name": "names",
        "task": "classification",
        "data": {
            "format": "imagefolder", "root": str(root), "train": "train", "val": "val", "size": [32, 32],
            "fit": "stretch", "batch_size": 4, "workers": 0,
        },
        "model": {"encoder": "resnet10t", "options": {"encoder_norm": "group"}},
        "training": {"epochs": 2, **CPU, **training},
    }  # fmt: skip


Case = tuple[Callable[[Path], Path], Callable[..., dict[str, Any]], str]
BOXES: Case = (trees.write_voc_boxes, detection, "map_50")


@pytest.fixture
def start(tmp_path: Path, command: Command) -> Callable[..., tuple[Path, Path]]:
    """Write a data set and its configuration, train; returns the run and the data."""

    def train(case: Case, **training: Any) -> tuple[Path, Path]:
        write, configure, _ = case
        root = write(tmp_path / "data")
        config = tmp_path / "experiment.yaml"
        config.write_text(yaml.safe_dump(configure(root, **training)))
        done = command("train", config, "--out", tmp_path / "run", "--json")
        assert done.status == 0, done.err
        return tmp_path / "run", root

    return train


def write_classes(root: Path) -> Path:
    """Red, green and blue pictures in folders of these names; learnable in a few steps."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 3)):
        for channel, name in enumerate(("red", "green", "blue")):
            for index in range(count):
                picture = rng.integers(0, 60, (36, 40, 3))
                picture[:, :, channel] += 150
                path = root / split / name / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture.astype(np.uint8)).save(path)
    return root


NAMES: Case = (write_classes, classification, "accuracy")


@pytest.mark.parametrize("case", [BOXES, NAMES], ids=["detection", "classification"])
def test_a_run_is_trained_scored_and_used_by_the_same_verbs(
    case: Case, start: Callable[..., tuple[Path, Path]], command: Command, tmp_path: Path
) -> None:
    run, root = start(case)
    measure = case[2]
    rows = list(csv.DictReader((run / "metrics.csv").open()))
    assert len(rows) == 2
    assert rows[-1][measure] != ""
    assert yaml.safe_load((run / "config.yaml").read_text())["training"]["monitor"] == f"max {measure}"
    scored = command("evaluate", run, "--json")
    assert scored.status == 0, scored.err
    # The figure of training is that of `evaluate`: one path.
    best = max(float(row[measure]) for row in rows)
    assert scored.json[measure] == pytest.approx(best, abs=1e-6)
    assert json.loads((run / "evaluation" / "val" / "metrics.json").read_text()) == scored.json
    report = (run / "evaluation" / "val" / "report.html").read_text(encoding="utf-8")
    assert report.startswith("<!DOCTYPE html>")
    done = command("predict", run, root, "--out", tmp_path / "out", "--save", "overlay", "--json")
    assert done.status == 0, done.err
    for picture, file in done.json["files"].items():
        result = json.loads(Path(file).read_text())
        assert result["size"] == list(Image.open(picture).size[::-1])
        assert Path(file).with_name(Path(file).stem + "_overlay.png").is_file()


def test_predictions_of_boxes_are_coco_results_in_the_pixels_of_each_picture(
    start: Callable[..., tuple[Path, Path]], command: Command, tmp_path: Path
) -> None:
    run, root = start(BOXES)
    done = command("predict", run, root, "--out", tmp_path / "out", "--json", "--set", "detection.score_threshold=0")
    assert done.status == 0, done.err
    results = json.loads((tmp_path / "out" / "predictions.json").read_text())
    described = json.loads((tmp_path / "out" / "predictions_images.json").read_text())
    images = {image["id"]: image for image in described["images"]}
    assert {image["file_name"] for image in described["images"]} == {Path(p).as_posix() for p in done.json["files"]}
    assert results
    for result in results:
        image = images[result["image_id"]]
        x, y, width, height = result["bbox"]
        assert 0 <= x <= x + width <= image["width"] + 0.02
        assert 0 <= y <= y + height <= image["height"] + 0.02


@pytest.mark.parametrize("case", [BOXES, NAMES], ids=["detection", "classification"])
def test_a_resumed_run_equals_an_uninterrupted_one(
    case: Case, start: Callable[..., tuple[Path, Path]], command: Command, tmp_path: Path
) -> None:
    run, _ = start(case, epochs=3)
    config = tmp_path / "experiment.yaml"
    half = tmp_path / "half"
    steps = int(next(iter(csv.DictReader((run / "metrics.csv").open())))["step"])
    plan = ("--set", f"training.max_steps={3 * steps}")
    # Stopped after its first epoch by a copy of the checkpoint that the whole run would have had then.
    done = command("train", config, "--out", half, "--set", "training.save_every=1", *plan)
    assert done.status == 0, done.err
    first = half / "checkpoints" / "epoch-0001.ckpt"
    (half / "checkpoints" / "last.ckpt").write_bytes(first.read_bytes())
    done = command("train", half, "--resume", *plan)
    assert done.status == 0, done.err
    whole, resumed = (
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for folder in (run, half)
    )
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_an_encoder_trained_on_classes_starts_a_detector(
    start: Callable[..., tuple[Path, Path]], command: Command, tmp_path: Path
) -> None:
    run, _ = start(NAMES)
    root = trees.write_voc_boxes(tmp_path / "boxes")
    config = tmp_path / "boxes.yaml"
    config.write_text(yaml.safe_dump(detection(root, max_steps=1)))
    done = command("train", config, "--set", f"model.weights={run}", "--out", tmp_path / "detector")
    assert done.status == 0, done.err
    log = (tmp_path / "detector" / "train.log").read_text()
    assert "encoder" in log
    pretrained = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    names = [name for name in pretrained if name.startswith("task.network.body.encoder.")]
    assert names
    assert f"{len(names)}" in log


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": {"architecture": "unet"}}, "unet is for segmentation"),
        ({"loss": {"name": "dice"}}, "detection knows only `focal`"),
        ({"training": {"monitor": "max miou"}}, "detection is not judged by"),
    ],
)
def test_settings_of_another_task_are_refused(
    change: dict[str, Any], words: str, command: Command, tmp_path: Path
) -> None:
    config = tmp_path / "experiment.yaml"
    config.write_text(yaml.safe_dump({**detection(trees.write_voc_boxes(tmp_path / "data")), **change}))
    done = command("train", config, "--out", tmp_path / "run")
    assert done.status == 2
    assert words in done.err
    assert not (tmp_path / "run").exists()
