"""The experiment of ``pixbox demo``: a small U-Net that learns the drawn scenes in about two minutes on two cores."""

from __future__ import annotations

from pathlib import Path

from pixbox.config import Experiment, Interval, read_labels
from pixbox.demonstration.scenes import write_scenes

_COUNTS = {"train": 96, "val": 8, "test": 16}


def write_demo_scenes(folder: Path, seed: int) -> None:
    """Draw the demo's data set into a folder, unless it is there already."""
    write_scenes(folder, seed=seed, **_COUNTS)


def demo_experiment(scenes: Path, seed: int) -> Experiment:
    """The experiment on drawn scenes; ``recipes/demo_aerial.yaml`` is the same as a file."""
    return Experiment.model_validate(
        {
            "name": "demo_aerial",
            "data": {
                "root": str(scenes.resolve()),
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
            "training": {"epochs": 15, "evaluate_every": Interval(5), "seed": seed},
        }
    )
