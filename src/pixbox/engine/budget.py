"""Training in a time budget: a few real steps are timed, then as much training is planned as ends in time."""

from __future__ import annotations

import bisect
import copy
import logging
import math
import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from pixbox.checkpoint import RunFolder
from pixbox.config import Experiment, Interval, TrainingConfig
from pixbox.data.dataset import TrainingSet, WholeSet
from pixbox.engine.callbacks import Journal, StoppedByUser, has_validation
from pixbox.engine.module import TrainingModule, TrainingPlan
from pixbox.engine.trainer import Loaders, averaging, computing, lightning_trainer, plan_training, run_trainer
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

_PROBE_SHARE, _PROBE_SECONDS, _PROBE_STEPS, _PROBE_PICTURES = 0.04, 30.0, 4, 12
_ENDLESS = 10**9
"""Steps of a training so long that its first learning rates are those of any other's beginning."""


@dataclass(frozen=True)
class Budget:
    """The time that a whole command may take.

    Attributes:
        seconds: in all.
        began: the clock's reading when the command began.
        clock: seconds; never goes back.
    """

    seconds: float
    began: float
    clock: Callable[[], float] = time.monotonic

    @property
    def spent(self) -> float:
        return self.clock() - self.began


@dataclass(frozen=True)
class Measured:
    """What a probe has measured; all in seconds.

    Attributes:
        start: from the start of a training to its first step, workers and caches of the hardware included.
        step: one optimizer step, waiting for its data included; the mean, where the first steps see halved pictures.
        validation: of the whole validation set; None without one.
        checkpoint: writing one.
        spent: since the command began.
    """

    start: float
    step: float
    validation: float | None
    checkpoint: float
    spent: float

    @property
    def end(self) -> float:
        """What comes after the last step: a validation, the best checkpoint and the last."""
        return self.checkpoint if self.validation is None else self.validation + 2 * self.checkpoint


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
    measured = _probe(task, experiment, train, val, TrainingPlan(per_epoch, _ENDLESS), budget, folder)
    if training.halved_first > 0:
        quick = _probe(task, experiment, train, None, TrainingPlan(per_epoch, _ENDLESS, _ENDLESS), budget, folder)
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


class Stopwatch(Callback):
    """Times the first steps of a training, the validation after them and a checkpoint; then ends it.

    It must be asked before the journal, whose writing after a validation does not grow with the pictures.
    """

    def __init__(self, budget: Budget, val_pictures: int, folder: Path) -> None:
        self.budget = budget
        self.val_pictures = val_pictures
        self.folder = folder
        self.began = 0.0
        self.steps: list[float] = []
        self.pictures: list[float] = []
        self.scored = 0.0
        self.measured: Measured | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        # From here on all processes are there; the training itself need not start them again.
        self.began = self.budget.clock()

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(module, TrainingModule)
        self.steps.append(self.budget.clock())
        if module.stop_agreed:
            raise StoppedByUser
        # Lightning validates where the step is a multiple of this number.
        trainer.val_check_batch = 1 if trainer.strategy.broadcast(self._has_seen_enough()) else _ENDLESS
        if trainer.val_check_batch == 1 and not has_validation(trainer):
            trainer.should_stop = True

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self.pictures.append(self.budget.clock())

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.scored = self.budget.clock()
        trainer.should_stop = True

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        clock = self.budget.clock
        ended = clock()
        trainer.save_checkpoint(self.folder / "probe.ckpt")
        step = second_half(self.steps)
        validation = None
        if self.pictures:
            # The last reading is that of the whole: what is computed at the end grows with the pictures, too.
            one = second_half([*self.pictures[:-1], self.scored])
            rest = max(0.0, ended - self.steps[-1] - one * len(self.pictures))
            validation = rest + one * math.ceil(self.val_pictures / trainer.world_size)
        start = max(0.0, self.steps[0] - self.began - step)
        found = Measured(start, step, validation, clock() - ended, self.budget.spent)
        self.measured = trainer.strategy.broadcast(found)

    def _has_seen_enough(self) -> bool:
        budget, spent = self.budget, self.steps[-1] - self.steps[0]
        seen = spent >= min(_PROBE_SHARE * budget.seconds, _PROBE_SECONDS)
        hopeless = budget.spent > budget.seconds / 2
        return len(self.steps) >= (2 if hopeless else _PROBE_STEPS) and (seen or hopeless)


def second_half(readings: list[float]) -> float:
    """Mean time between the later half of a clock's readings: hardware warms up, and queues are full at first."""
    first = (len(readings) - 1) // 2
    return max((readings[-1] - readings[first]) / max(1, len(readings) - 1 - first), 1e-6)


def _probe(
    task: Task,
    experiment: Experiment,
    train: TrainingSet,
    val: WholeSet | None,
    plan: TrainingPlan,
    budget: Budget,
    folder: Path,
) -> Measured:
    accelerator, world = computing(experiment)
    few = None
    if val is not None:
        # Spread over the set: neighbours may be of one size.
        spread = max(1, len(val) // (_PROBE_PICTURES * world))
        few = WholeSet(val.records[::spread][: _PROBE_PICTURES * world], val.reader, experiment)
    module = TrainingModule(copy.deepcopy(task), experiment, plan)
    with tempfile.TemporaryDirectory(prefix=".pixbox-probe-", dir=folder) as scratch:
        watch = Stopwatch(budget, len(val or ()), Path(scratch))
        callbacks = [*averaging(experiment), watch, Journal(RunFolder(Path(scratch)))]
        trainer = lightning_trainer(experiment, callbacks, validates=few is not None)
        loaders = Loaders(train, few, experiment, plan, 0, on_gpu=accelerator != "cpu")
        level = log.level
        log.setLevel(max(level, logging.WARNING))  # The journal's lines would be taken for the training's.
        try:
            if not run_trainer(trainer, module, loaders, goes_on=True):
                raise KeyboardInterrupt
        finally:
            log.setLevel(level)
    del module, trainer, loaders
    torch.cuda.empty_cache()
    assert watch.measured is not None
    return watch.measured


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
