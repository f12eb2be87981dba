"""The demo, cut short: the same networks and files, of few scenes and in one step."""

from __future__ import annotations

from pathlib import Path

import pytest

from pixbox.config import Experiment, Task
from pixbox.demonstration import experiment as room


def draw_few_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "COUNTS", {"train": 4, "val": 1, "test": 2})


def cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    draw_few_scenes(monkeypatch)
    whole = room.demo_experiment

    def made(task: Task, scenes: Path, seed: int) -> Experiment:
        experiment = whole(task, scenes, seed)
        data = experiment.data.model_copy(update={"workers": 0})
        training = experiment.training.model_copy(update={"max_steps": 1})
        return experiment.model_copy(update={"data": data, "training": training})

    monkeypatch.setattr(room, "demo_experiment", made)
