"""The experiments of ``pixbox demo``: one for each task, small enough for minutes on two cores without GPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pixbox.config import Experiment, Interval, Task, read_labels
from pixbox.demonstration.dataset import TILE, write_scenes

COUNTS: Mapping[str, int] = {"train": 96, "val": 8, "test": 16}
"""Scenes of each split."""


def write_demo_scenes(task: Task, folder: Path, seed: int) -> None:
    """Draw what the demo of a task needs into a folder, unless it is there already."""
    write_scenes(folder, seed=seed, task=task, **COUNTS)


def demo_experiment(task: Task, scenes: Path, seed: int) -> Experiment:
    """The experiment on drawn scenes.

    ``recipes/demo_aerial.yaml``, ``demo_buildings.yaml`` and ``demo_tiles.yaml`` are the same as files.
    """
    make = {"segmentation": _segmentation, "detection": _detection, "classification": _classification}[task]
    settings = make(scenes.resolve())
    settings["training"]["seed"] = seed
    return Experiment.model_validate({"task": task, **settings})


def _segmentation(scenes: Path) -> dict[str, Any]:
    """Windows of the scenes and a small U-Net."""
    return {
        "name": "demo_aerial",
        "data": {
            "root": str(scenes),
            "train": "train.txt",
            "val": "val.txt",
            "test": "test.txt",
            "labels": read_labels(scenes / "labels.yaml"),
            "size": (160, 160),
            "augment": {"flip": 0.5, "flip_vertical": 0.5},
            "batch_size": 4,
        },
        "model": {
            "architecture": "unet",
            "encoder": "resnet10t",
            "options": {"decoder_channels": [96, 64, 48, 24, 8]},
        },
        "optimizer": {"lr": 3e-3},
        "schedule": {"name": "onecycle", "peak": 0.25},
        "training": {"epochs": 15, "evaluate_every": Interval(5)},
    }


def _detection(scenes: Path) -> dict[str, Any]:
    """A small RetinaNet that finds the buildings."""
    return {
        "name": "demo_buildings",
        "data": {
            "format": "coco",
            "root": str(scenes),
            "train": "buildings_train.json",
            "val": "buildings_val.json",
            "test": "buildings_test.json",
            "size": (192, 192),
            "augment": {"flip": 0.5, "flip_vertical": 0.5},
            "batch_size": 4,
        },
        "model": {
            "encoder": "resnet10t",
            "options": {"channels": 64, "depth": 2, "encoder_norm": "group"},
        },
        "detection": {"anchors": [(20, 20), (27, 27), (18, 33), (33, 18)], "levels": 3, "box_loss": "giou"},
        "schedule": {"name": "onecycle", "peak": 0.2},
        "training": {"epochs": 18, "evaluate_every": Interval(6), "ema": 0.99},
    }


def _classification(scenes: Path) -> dict[str, Any]:
    """Small squares of the scenes, each named by the class that covers most of it."""
    return {
        "name": "demo_tiles",
        "data": {
            "format": "imagefolder",
            "root": str(scenes / "tiles"),
            "train": "train",
            "val": "val",
            "test": "test",
            "size": (TILE, TILE),
            "augment": {"flip": 0.5, "flip_vertical": 0.5},
            "batch_size": 32,
        },
        "model": {"encoder": "resnet10t"},
        "schedule": {"name": "onecycle", "peak": 0.25},
        "training": {"epochs": 9, "evaluate_every": Interval(3)},
    }
