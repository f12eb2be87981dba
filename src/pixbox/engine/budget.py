"""Training in a time budget: a few real steps are timed, then as much training is planned as ends in time."""

from __future__ import annotations

import bisect
import logging
import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from pixbox.config import Experiment, Interval, TrainingConfig
from pixbox.data.dataset import TrainingSet, WholeSet
from pixbox.engine.callbacks import has_validation
from pixbox.engine.module import TrainingModule, TrainingPlan
from pixbox.engine.probe import ENDLESS, Budget, Measured, time_training
from pixbox.engine.trainer import computing, plan_training
from pixbox.errors import ConfigError
from pixbox.tasks.task import Task

log = logging.getLogger("pixbox")

RESERVE = 0.05
"""Share of the budget that is not planned for: log and pictures of a validation, the end, a machine that slows down."""
VALIDATION_SHARE = 0.15
"""Of the training's time, what validation may take before it is made rarer."""
FEW_EPOCHS = 5
"""Where fewer epochs fit, steps are planned: whole epochs would leave much of the budget unused."""
LEAST_STEPS = 10
"""Fewer steps are no training."""
OVERTIME = 1.1
"""Times the budget; a training that would last longer is ended."""

_PROBE_SHARE, _PROBE_SECONDS = 0.04, 30.0
"""Of the budget, how long steps are timed; at most so many seconds."""


@dataclass(frozen=True)
class Length:
    """The training that fits: ``epochs``, or where few would fit (None), ``steps``; ``seconds``: how long it takes."""

    epochs: int | None
    steps: int
    evaluate_every: Interval
    seconds: float


def read_duration(text: str) -> int:
    """Seconds: ``90s``, ``30m``, ``1h30m``; what ``training.budget`` may be."""
    units = {"h": 3600, "m": 60, "s": 1}
    return sum(int(count) * units[unit] for count, unit in re.findall(r"([0-9]+)([hms])", text))


def fit_to_budget(
    task: Task, experiment: Experiment, train: TrainingSet, val: WholeSet | None, budget: Budget, folder: Path
) -> tuple[Experiment, Measured, str]:
    """The experiment with the length that ends in time, what it was chosen by, and both in words.

    The network is copied before it is tried: the training starts from what ``task`` holds. Every process of a training
    must call this; all get the first one's choice. ``folder`` exists; a checkpoint is written there for a moment.

    Raises:
        ConfigError: the budget is too short for a training.
        TrainingError: memory is exhausted, or the loss is not a number.
        KeyboardInterrupt: the user asked to stop.
    """
    training = experiment.training
    world = computing(experiment)[1]
    per_epoch = plan_training(experiment, len(train), world).steps_per_epoch
    log.info("Timing a few steps for the budget of %s.", training.budget)
    seconds = min(_PROBE_SHARE * budget.seconds, _PROBE_SECONDS)
    plan = TrainingPlan(per_epoch, ENDLESS)
    measured = time_training(task, experiment, train, val, plan, budget, seconds, folder)
    if training.halved_first > 0:
        halved = replace(plan, halved_steps=ENDLESS)
        quick = time_training(task, experiment, train, None, halved, budget, seconds, folder)
        mean = training.halved_first * quick.step + (1 - training.halved_first) * measured.step
        measured = replace(measured, step=mean, spent=quick.spent)
    length = choose_length(budget.seconds, measured, per_epoch, training)
    changes = {
        "epochs": length.epochs or training.epochs,
        "max_steps": None if length.epochs else length.steps,
        "evaluate_every": length.evaluate_every,
        "budget": None,
    }
    pictures = experiment.data.batch_size * training.accumulate * world
    told = _in_words(training, length, measured, pictures, per_epoch)
    return experiment.model_copy(update={"training": training.model_copy(update=changes)}), measured, told


def choose_length(budget: float, measured: Measured, per_epoch: int, training: TrainingConfig) -> Length:
    """The longest training that ends ``RESERVE`` before ``budget`` seconds are over.

    Raises:
        ConfigError: not even ``LEAST_STEPS`` steps fit.
    """
    interval = affordable_interval(training.evaluate_every, measured, per_epoch)
    every = interval.in_steps(per_epoch)

    def lasts(steps: int) -> float:
        return training_seconds(steps, measured, every, per_epoch, training.save_every)

    def length(epochs: int | None, steps: int) -> Length:
        asked = training.evaluate_every
        return Length(epochs, steps, asked if asked.in_steps(per_epoch) >= steps else interval, lasts(steps))

    left = budget * (1 - RESERVE) - measured.spent
    most = range(1, max(2, int(left / measured.step) + 1))
    epochs = bisect.bisect_right(most, left, key=lambda count: lasts(count * per_epoch))
    if epochs >= FEW_EPOCHS:
        return length(epochs, epochs * per_epoch)
    steps = bisect.bisect_right(most, left, key=lasts)
    if steps < LEAST_STEPS:
        raise _too_short((measured.spent + lasts(LEAST_STEPS)) / (1 - RESERVE), measured, training)
    return length(None if steps % per_epoch else steps // per_epoch, steps)


def affordable_interval(asked: Interval, measured: Measured, per_epoch: int) -> Interval:
    """The interval of validation that was asked for, or the least that leaves it ``VALIDATION_SHARE`` of the time."""
    if measured.validation is None:
        return asked
    least = math.ceil(measured.validation * (1 - VALIDATION_SHARE) / VALIDATION_SHARE / measured.step)
    if asked.in_steps(per_epoch) >= least:
        return asked
    return Interval(least, "steps") if asked.unit == "steps" else Interval(math.ceil(least / per_epoch))


def training_seconds(steps: int, measured: Measured, every: int, per_epoch: int, save_every: int) -> float:
    """How long so many steps take, with validation every ``every`` of them and all checkpoints.

    Each validation is counted as the best so far. The last checkpoint is written at every epoch, every validation and
    at the end; one is kept every ``save_every`` epochs (0: none).
    """
    validations, ends = 0, steps // per_epoch
    if measured.validation is not None:
        validations = math.ceil(steps / every)
        ends += steps // every - steps // math.lcm(every, per_epoch)
    at_the_end = steps % per_epoch != 0 and (measured.validation is None or steps % every != 0)
    kept = steps // (per_epoch * save_every) if save_every else 0
    writes = validations + ends + at_the_end + kept
    return (
        measured.start + steps * measured.step + validations * (measured.validation or 0) + writes * measured.checkpoint
    )


class Overtime(Callback):
    """Ends a training that has become slower than it was when it was timed: it validates, saves and stops."""

    def __init__(self, budget: Budget, end: float, last: Path) -> None:
        self.budget = budget
        self.end = end
        self.last = last
        self.is_over = False

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(module, TrainingModule)
        step, plan = module.progress.step, module.plan
        if self.is_over or step == plan.total_steps:
            return
        late = self.budget.spent + self.end > OVERTIME * self.budget.seconds
        self.is_over = trainer.strategy.reduce_boolean_decision(late, all=False)
        if not self.is_over:
            return
        log.warning(
            "%s of the budget of %s are over, and the plan is not done: the machine was faster when it was made. The "
            "training ends here, at step %d of %d, and is saved. Going on with --resume completes the plan.",
            say_seconds(self.budget.spent),
            say_seconds(self.budget.seconds),
            step,
            plan.total_steps,
        )
        if has_validation(trainer):
            trainer.val_check_batch = 1
        else:
            trainer.save_checkpoint(self.last)
            trainer.should_stop = True

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if self.is_over:
            trainer.should_stop = True


def _in_words(training: TrainingConfig, length: Length, measured: Measured, pictures: int, per_epoch: int) -> str:
    found = [f"{pictures / measured.step:.3g} pictures/s"]
    if measured.validation is not None:
        found.append(f"validation {say_seconds(measured.validation)}")
    found.append(f"checkpoint {say_seconds(measured.checkpoint)}")
    chosen = f"{length.epochs} epochs" if length.epochs else f"{length.steps / per_epoch:.2f} epochs"
    rarer = ""
    if length.evaluate_every != training.evaluate_every:
        every = length.evaluate_every
        rarer = f"; validation every {every.count} {every.unit}, for it is to take no more than {VALIDATION_SHARE:.0%}"
    replaced = (
        f"training.max_steps {training.max_steps}" if training.max_steps else f"training.epochs {training.epochs}"
    )
    return (
        f"Budget {training.budget}, of which {say_seconds(measured.spent)} are over: {', '.join(found)}. "
        f"Chosen: {chosen} ({length.steps} steps) in {say_seconds(length.seconds)}, in place of {replaced}{rarer}."
    )


def _too_short(needed: float, measured: Measured, training: TrainingConfig) -> ConfigError:
    validation = "" if measured.validation is None else f", validation {say_seconds(measured.validation)}"
    minutes = math.ceil(needed / 60)
    return ConfigError(
        f"{training.budget} are too short to train anything: a step takes {say_seconds(measured.step)}{validation}, "
        f"and {say_seconds(measured.spent)} went by before the first one",
        where="training.budget",
        hint=f"{LEAST_STEPS} steps need about {minutes}m. Or make a step cheaper: data.size, data.batch_size.",
    )


def say_seconds(seconds: float) -> str:
    """``0.34 s``, ``29 s``, ``29 min``, ``2 h 10 min``."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
