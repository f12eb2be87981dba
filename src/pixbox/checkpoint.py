"""What a run saves and how it is read back: plain torch, no trainer needed.

A checkpoint is one file that ``torch.load(weights_only=True)`` reads. Its key ``pixbox`` holds the
experiment, the label map and the position in training; ``state_dict`` the task's weights (averaged, with EMA).
"""

from __future__ import annotations

import csv
import os
import tempfile
import textwrap
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pixbox.config import Experiment, read_experiment
from pixbox.documents import to_yaml
from pixbox.errors import RunError
from pixbox.files import write_file
from pixbox.labels import LabelMap
from pixbox.tasks.build import build_task
from pixbox.tasks.task import Task

FORMAT = 1
"""Raised when a checkpoint can no longer be read by older versions."""


@dataclass(frozen=True)
class RunFolder:
    """The paths inside ``runs/<name>``."""

    path: Path

    @classmethod
    def of(cls, checkpoint: Path) -> RunFolder:
        """The run folder that a checkpoint file lies in; for one that lies elsewhere, the folder around it."""
        folder = checkpoint.absolute().parent
        return cls(folder.parent if folder.name == "checkpoints" else folder)

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def labels(self) -> Path:
        return self.path / "labels.yaml"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def best(self) -> Path:
        return self.checkpoints / "best.ckpt"

    @property
    def last(self) -> Path:
        return self.checkpoints / "last.ckpt"

    @property
    def history(self) -> Path:
        return self.path / "metrics.csv"

    @property
    def log(self) -> Path:
        return self.path / "train.log"

    def evaluation(self, split: str) -> Path:
        return self.path / "evaluation" / split

    def refuse_existing(self) -> None:
        """Raise RunError if a run has been written here."""
        written = (self.config, self.labels, self.checkpoints, self.history, self.log)
        if self.path.is_file() or any(path.exists() for path in written):
            raise RunError(
                "exists already and is not overwritten",
                where=str(self.path),
                hint="Go on with it: --resume; write elsewhere: --out FOLDER; or a dated name: --set name=x_{time}",
            )


@dataclass(frozen=True)
class Position:
    """Where a checkpoint stands in training.

    Attributes:
        step: optimizer steps done; ``epoch`` passes completed.
        metrics: of the last validation before it; empty if there was none.
    """

    step: int
    epoch: int
    metrics: dict[str, Any]


@dataclass(frozen=True)
class LoadedRun:
    """A trained task with all that it needs to be used."""

    task: Task
    experiment: Experiment
    position: Position
    source: Path


def write_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Save a checkpoint whole or not at all; a kill at any moment leaves the former one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        torch.save(dict(content), file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU.

    Raises:
        RunError: no such file, not a checkpoint of pixbox, damaged, or of a newer version.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        damaged = _damaged_part(path)
    except FileNotFoundError:
        raise RunError("no such checkpoint", where=str(path)) from None
    except Exception as error:  # torch raises a dozen kinds, depending on where the file is damaged
        raise RunError(
            f"cannot be read as a checkpoint ({type(error).__name__})", where=str(path), hint="Use another checkpoint."
        ) from None
    if damaged is not None:
        raise RunError(f"is damaged (checksum of {damaged})", where=str(path), hint="Use another checkpoint.")
    saved = content.get("pixbox") if isinstance(content, dict) else None
    if not isinstance(saved, dict) or "format" not in saved:
        raise RunError("is not a checkpoint of pixbox", where=str(path))
    if saved["format"] > FORMAT:
        raise RunError("was written by a newer pixbox", where=str(path), hint="Upgrade: pip install -U pixbox")
    plain: dict[str, Any] = content
    return plain


def _damaged_part(path: Path) -> str | None:
    """The first part of a checkpoint whose checksum is wrong. Torch does not look: a flipped bit becomes a weight."""
    with zipfile.ZipFile(path) as parts:
        return parts.testzip()


def describe_run(experiment: Experiment, labels: LabelMap, position: Position) -> dict[str, Any]:
    """The ``pixbox`` key of a checkpoint: plain values only."""
    return {
        "format": FORMAT,
        "experiment": experiment.to_yaml(),
        "labels": labels.to_plain(),
        "step": position.step,
        "epoch": position.epoch,
        "metrics": position.metrics,
    }


def find_checkpoint(source: Path) -> Path:
    """The checkpoint that a run folder or a file name stands for: the best, or the last if there is no best yet.

    Raises:
        RunError: neither exists.
    """
    if not source.is_dir():
        return source
    run = RunFolder(source)
    for candidate in (run.best, run.last):
        if candidate.is_file():
            return candidate
    raise RunError(
        "holds no checkpoint (looked for checkpoints/best.ckpt and checkpoints/last.ckpt)",
        where=str(source),
        hint="Name a run folder that `pixbox train` made.",
    )


def load_run(source: Path, overrides: Mapping[str, Any] | None = None) -> LoadedRun:
    """Build the task of a run folder or checkpoint file and load its weights, ready to evaluate.

    Raises:
        RunError: no checkpoint, a damaged one, or weights that do not fit.
        ConfigError: an override cannot be used.
    """
    path = find_checkpoint(source)
    content = read_checkpoint(path)
    saved = content["pixbox"]
    labels = LabelMap.model_validate(saved["labels"])
    experiment = trained = saved_experiment(path, saved["experiment"])
    if overrides:
        experiment = saved_experiment(path, saved["experiment"], overrides)
        _check_network(path, trained, experiment)
    task = build_task(experiment, labels, torch.ones(len(labels)) if _has_class_weights(content) else None)
    try:
        task.load_state_dict(task_state(content))
    except RuntimeError as error:
        raise RunError(
            "its weights do not fit the network that its configuration describes",
            where=str(path),
            hint=textwrap.shorten(str(error).partition("\n")[2], 200, placeholder=" ..."),
        ) from None
    position = Position(saved["step"], saved["epoch"], saved["metrics"])
    return LoadedRun(task.eval(), experiment, position, path)


def saved_experiment(source: Path, text: str, overrides: Mapping[str, Any] | None = None) -> Experiment:
    """Read the experiment that a checkpoint holds, with overrides."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{source.stem}.yaml"
        file.write_text(text, encoding="utf-8")
        return read_experiment(file, overrides)


def network_settings(saved: Experiment, asked: Experiment) -> tuple[tuple[str, Any, Any], ...]:
    """What trained weights mean depends on these settings: name, value saved and value asked for."""
    return (
        ("model.architecture", saved.model.architecture, asked.model.architecture),
        ("model.encoder", saved.model.encoder, asked.model.encoder),
        ("model.options", saved.model.options, asked.model.options),
        ("detection.anchors", saved.detection.anchors, asked.detection.anchors),
        ("detection.levels", saved.detection.levels, asked.detection.levels),
    )


def _check_network(path: Path, saved: Experiment, asked: Experiment) -> None:
    """Weights that fit other anchors by chance would find nothing, and say nothing."""
    changed = [f"{name} ({old} there, {new} here)" for name, old, new in network_settings(saved, asked) if old != new]
    if changed:
        raise RunError(
            f"was trained with another network, it differs in {', '.join(changed)}",
            where=str(path),
            hint="Leave these settings out: a trained network is used as it was trained.",
        )


def task_state(content: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The task's weights without the trainer's prefix."""
    return {name.removeprefix("task."): value for name, value in content["state_dict"].items()}


def read_history(path: Path) -> list[dict[str, float | None]]:
    """Rows of a run's metrics.csv, oldest first; none if there is no such file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [{name: float(text) if text else None for name, text in row.items()} for row in csv.DictReader(file)]


def write_labels(path: Path, labels: LabelMap) -> None:
    write_file(path, to_yaml(labels.to_plain()))


def _has_class_weights(content: Mapping[str, Any]) -> bool:
    return any(name.startswith("task.loss.") and name.endswith("class_weights") for name in content["state_dict"])
