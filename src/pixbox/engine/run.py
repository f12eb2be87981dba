"""One training run from an experiment to a run folder: check everything, then create the folder, then train."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning.callbacks import Callback
from rich.console import Console
from rich.progress import Progress, TaskID
from torch import Tensor

from pixbox.auditing.scan import LabelScan, scan_categories, scan_labels, scan_objects
from pixbox.checkpoint import (
    RunFolder,
    find_checkpoint,
    network_settings,
    read_checkpoint,
    saved_experiment,
    write_labels,
)
from pixbox.config import Experiment, FirstStage
from pixbox.data.cache import open_cache
from pixbox.data.dataset import SampleReader, TrainingSet, WholeSet, kept_record, pixel_reading
from pixbox.data.findings import CODES, Findings
from pixbox.data.splits import Splits, labels_of, read_splits
from pixbox.engine.arithmetic import choose_arithmetic
from pixbox.engine.budget import Overtime, fit_to_budget, read_duration
from pixbox.engine.probe import Budget
from pixbox.engine.trainer import TrainingOutcome, fit, quiet_lightning, resolve_devices
from pixbox.errors import ConfigError, DataError, RunError
from pixbox.files import write_file
from pixbox.labels import LabelMap
from pixbox.launch import is_first_process
from pixbox.losses import class_weights_from_counts
from pixbox.networks.network import parameter_counts
from pixbox.networks.weights import load_weights
from pixbox.tasks.build import build_task
from pixbox.tasks.task import Task

log = logging.getLogger("pixbox")


@dataclass(frozen=True)
class Prepared:
    """All that a training needs: lists, labels and every mask are checked, the network is built.

    ``class_pixels`` (N,) counts the labelled pixels of the training masks; None where there are no masks.
    """

    experiment: Experiment
    labels: LabelMap
    splits: Splits
    task: Task
    notes: tuple[str, ...]
    class_pixels: NDArray[np.int64] | None


def train_experiment(
    experiment: Experiment, folder: Path, *, resume: bool, console: Console, began: float
) -> TrainingOutcome:
    """Train into a run folder that does not exist yet, or with ``resume`` go on from its last checkpoint.

    ``began`` is what ``time.monotonic`` was when the command began: a budget is counted from there.

    Raises:
        ConfigError, DataError, ModelError: the experiment cannot be trained; nothing has been written.
        RunError: the folder exists already, or cannot be resumed.
        TrainingError: the loss is no longer a number, or memory is exhausted.
    """
    quiet_lightning()
    run = RunFolder(folder)
    first_stage = RunFolder(folder / "first_stage")
    goes_on = resume and run.last.is_file()
    if goes_on:
        experiment = _check_resumable(experiment, run)
    elif resume and not (experiment.first_stage is not None and first_stage.last.is_file()):
        raise RunError(
            "there is nothing to resume (no checkpoints/last.ckpt)", where=str(folder), hint="Start without --resume."
        )
    elif not resume and is_first_process():
        run.refuse_existing()
    if experiment.training.budget is not None and experiment.first_stage is not None:
        raise ConfigError(
            "a budget plans one training, not two stages",
            where="training.budget",
            hint="Train the first stage as a run of its own and name it in model.weights of the second.",
        )
    prepared = _prepare(experiment, console, fresh=not goes_on)
    sets = _open_sets(prepared)
    # On the disk of the run, where its checkpoints will be written.
    existing = next(parent for parent in folder.absolute().parents if parent.is_dir())
    asked = experiment.training.budget
    budget = None if asked is None else Budget(read_duration(asked), began)
    settled, told = choose_arithmetic(
        prepared.task, prepared.experiment, sets[0], None if budget is None else budget.seconds, existing
    )
    prepared = replace(prepared, experiment=settled, notes=(*prepared.notes, told))
    watchers: list[Callback] = []
    if budget is not None:
        planned, measured, told = fit_to_budget(prepared.task, prepared.experiment, *sets, budget, existing)
        prepared = replace(prepared, experiment=planned, notes=(*prepared.notes, told))
        watchers.append(Overtime(budget, measured.end, run.last))
    if is_first_process():
        run.checkpoints.mkdir(parents=True, exist_ok=True)
        write_file(run.config, prepared.experiment.to_yaml())
        write_labels(run.labels, prepared.labels)
    with _log_file(run.log if is_first_process() else None):
        for note in prepared.notes:
            log.info("%s", note)
        if experiment.first_stage is not None and not goes_on:
            outcome = _train_first_stage(experiment, experiment.first_stage, first_stage, resume, console, began)
            if outcome.stopped:
                return outcome
            weights = str(find_checkpoint(first_stage.path))
            log.info("%s", load_weights(prepared.task.network, weights).summary())
        return _fit(prepared, sets, run, goes_on, console, watchers)


def _open_sets(prepared: Prepared) -> tuple[TrainingSet, WholeSet | None]:
    """The training and validation pictures, ready to be read."""
    experiment = prepared.experiment
    folder = None if experiment.data.cache_dir is None else Path(experiment.data.cache_dir)
    cached = [kept_record(record, experiment.task) for record in (*prepared.splits.train, *prepared.splits.val)]
    reader = SampleReader(
        prepared.labels,
        open_cache(experiment.data.cache, folder, cached),
        pixel_reading(experiment.data),
        experiment.task,
    )
    train = TrainingSet(
        prepared.splits.train,
        reader,
        experiment.data,
        experiment.training.seed,
        min_area=experiment.detection.min_area,
        class_pixels=prepared.class_pixels,
    )
    return train, WholeSet(prepared.splits.val, reader, experiment) if prepared.splits.val else None


def _fit(
    prepared: Prepared,
    sets: tuple[TrainingSet, WholeSet | None],
    run: RunFolder,
    resume: bool,
    console: Console,
    watchers: Sequence[Callback],
) -> TrainingOutcome:
    train, val = sets
    log.info("%r", train)
    if val is None:
        log.warning(
            "There is no validation set: the last checkpoint counts as the best. Set data.val or data.val_fraction."
        )
    return fit(
        prepared.task,
        prepared.experiment,
        train,
        val,
        run,
        resume_from=run.last if resume else None,
        console=console,
        watchers=watchers,
    )


def _prepare(experiment: Experiment, console: Console, *, fresh: bool) -> Prepared:
    """Read lists, labels and every mask; build the network and, for a fresh run, load its weights."""
    labels = labels_of(experiment)
    splits = read_splits(experiment)
    scan, findings = _check(experiment, splits, labels, console)
    weights = None if scan is None else _class_weights(experiment, labels, scan)
    resolved = experiment.model_copy(update={"data": experiment.data.model_copy(update={"labels": labels})})
    torch.manual_seed(experiment.training.seed)
    task = build_task(resolved, labels, weights)
    counts = parameter_counts(task.network)
    notes = [
        f"{len(splits.train)} training, {len(splits.val)} validation and {len(splits.test)} test pictures, "
        f"{len(labels)} classes",
        f"{experiment.model.architecture}: {counts.total:,} parameters, {counts.trainable:,} of them trained",
    ]
    warnings = {finding.code: finding for finding in reversed(list(findings)) if finding.severity == "warning"}
    for code, first in warnings.items():
        notes.append(f"{findings.counts[code]} {CODES[code].title}, the first: {first.file}: {first.message}")
    if fresh:
        notes.append(load_weights(task.network, experiment.model.weights).summary())
    return Prepared(resolved, labels, splits, task, tuple(notes), None if scan is None else scan.pixels)


def _class_weights(experiment: Experiment, labels: LabelMap, scan: LabelScan) -> Tensor | None:
    asked = experiment.loss.class_weights
    if isinstance(asked, list):
        if len(asked) != len(labels):
            raise ConfigError(
                f"{len(asked)} weights for {len(labels)} classes ({', '.join(labels.names)})",
                where="loss.class_weights",
            )
        return torch.tensor(asked, dtype=torch.float32)
    if asked == "none":
        return None
    pixels, around = torch.from_numpy(scan.pixels), torch.from_numpy(scan.pixels_of_images_with_class)
    return class_weights_from_counts(asked, pixels, around)


def _check(
    experiment: Experiment, splits: Splits, labels: LabelMap, console: Console
) -> tuple[LabelScan | None, Findings]:
    """What the training masks hold (None: there are no masks), and what was found in both splits.

    Raises:
        DataError: the errors of both splits at once; there is nothing to learn.
    """
    findings = Findings()
    scans: list[LabelScan] = []
    counts: list[int] = []
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("checking labels", total=len(splits.train) + len(splits.val))
        for records, before in ((splits.train, 0), (splits.val, len(splits.train))):
            if experiment.task == "segmentation":
                shown = partial(_show, bar, task, before)
                scans.append(scan_labels(records, labels, reading=pixel_reading(experiment.data), progress=shown))
                findings.extend(scans[-1].findings)
                counts.append(int(scans[-1].pixels.sum()))
            elif experiment.task == "detection":
                objects = scan_objects(records, labels, reading=pixel_reading(experiment.data))
                findings.extend(objects.findings)
                counts.append(int(objects.objects.sum()))
            else:
                images, found = scan_categories(records, labels)
                findings.extend(found)
                counts.append(int(images.sum()))
    findings.raise_errors()
    if counts[0] == 0:
        raise DataError("no training picture has a label that counts: there is nothing to learn",
                        where="data.train", code="nothing-to-learn")  # fmt: skip
    return scans[0] if scans else None, findings


def _show(bar: Progress, task: TaskID, before: int, done: int) -> None:
    bar.update(task, completed=before + done)


def _check_resumable(experiment: Experiment, run: RunFolder) -> Experiment:
    """The experiment to go on with; what the checkpoint has fixed cannot change."""
    content = read_checkpoint(run.last)
    saved = saved_experiment(run.last, content["pixbox"]["experiment"])
    fixed_settings = (
        *network_settings(saved, experiment),
        ("model.freeze_encoder", saved.model.freeze_encoder, experiment.model.freeze_encoder),
        ("optimizer.name", saved.optimizer.name, experiment.optimizer.name),
        (
            "optimizer.decay_norm_and_bias",
            saved.optimizer.decay_norm_and_bias,
            experiment.optimizer.decay_norm_and_bias,
        ),
        ("loss.name", saved.loss.name, experiment.loss.name),
        ("loss.class_weights", saved.loss.class_weights, experiment.loss.class_weights),
    )
    changed = [f"{name} ({old} there, {new} here)" for name, old, new in fixed_settings if old != new]
    if saved.data.labels != labels_of(experiment):
        changed.append("the label map")
    if changed:
        raise RunError(
            f"differs from the run in {', '.join(changed)}: that is another run, not its continuation",
            where=str(run.path),
            hint=f"Start a new one from these weights: --set model.weights={run.path} --out FOLDER",
        )
    # Timed or looked up on this machine, `auto` or a budget may come to something else than it did there.
    chosen = ("precision", "compile")
    fixed: dict[str, Any] = {
        name: getattr(saved.training, name) for name in chosen if getattr(experiment.training, name) == "auto"
    }
    if experiment.training.budget is not None:
        fixed |= {"budget": None}
        fixed |= {name: getattr(saved.training, name) for name in ("epochs", "max_steps", "evaluate_every")}
    return experiment.model_copy(update={"training": experiment.training.model_copy(update=fixed)})


def _train_first_stage(
    experiment: Experiment, stage: FirstStage, run: RunFolder, resume: bool, console: Console, began: float
) -> TrainingOutcome:
    """Train on the coarser labels, in a run folder inside the run's."""
    training = experiment.training
    if resolve_devices(training.accelerator, training.devices)[1] * training.nodes > 1:
        raise ConfigError(
            "two stages in one command need a single process",
            where="first_stage",
            hint="Train the first stage as a run of its own and name it in model.weights of the second.",
        )
    coarse = experiment.model_copy(
        update={
            "name": f"{experiment.name}-first-stage",
            "data": experiment.data.model_copy(update={"labels": stage.labels}),
            "training": training.model_copy(update={"epochs": stage.epochs, "max_steps": None}),
            "first_stage": None,
        }
    )
    log.info("First stage: %s", ", ".join(labels_of(coarse).names))
    return train_experiment(coarse, run.path, resume=resume and run.last.is_file(), console=console, began=began)


@contextmanager
def _log_file(path: Path | None) -> Iterator[None]:
    """Everything that is logged also goes to the run's train.log, with time, level and name."""
    if path is None:
        yield
        return
    handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    former = log.level
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(former)
        handler.close()
