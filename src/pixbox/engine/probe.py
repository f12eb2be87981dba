"""A training is begun, timed for a few real steps, and ended: what others choose its length and arithmetic by."""

from __future__ import annotations

import copy
import logging
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from pixbox.checkpoint import RunFolder
from pixbox.config import Experiment
from pixbox.data.dataset import TrainingSet, WholeSet
from pixbox.engine.callbacks import Journal, StoppedByUser, has_validation
from pixbox.engine.module import TrainingModule, TrainingPlan
from pixbox.engine.trainer import Loaders, averaging, computing, lightning_trainer, run_trainer
from pixbox.tasks.task import Task

log = logging.getLogger("pixbox")

ENDLESS = 10**9
"""Steps of a training so long that its first learning rates are those of any other's beginning."""

_STEPS, _PICTURES = 4, 12
"""Least steps that are watched; most validation pictures of a process."""


@dataclass(frozen=True)
class Budget:
    """The time that a whole command, or a part of it, may take.

    Attributes:
        seconds: in all.
        began: the clock's reading when it began.
        clock: seconds; never goes back.
    """

    seconds: float
    began: float
    clock: Callable[[], float] = time.monotonic

    @classmethod
    def from_now(cls, seconds: float) -> Budget:
        return cls(seconds, time.monotonic())

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


class Stopwatch(Callback):
    """Times the first steps of a training, the validation after them and a checkpoint; then ends it.

    At least ``seconds`` and four steps are watched after the first step; two steps where half of the budget is over.
    It must be asked before the journal, whose writing after a validation does not grow with the pictures.
    """

    def __init__(self, budget: Budget, seconds: float, val_pictures: int, folder: Path) -> None:
        self.budget = budget
        self.seconds = seconds
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
        trainer.val_check_batch = 1 if trainer.strategy.broadcast(self._has_seen_enough()) else ENDLESS
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
        seen = spent >= self.seconds
        hopeless = budget.spent > budget.seconds / 2
        return len(self.steps) >= (2 if hopeless else _STEPS) and (seen or hopeless)


def second_half(readings: list[float]) -> float:
    """Mean time between the later half of a clock's readings: hardware warms up, and queues are full at first."""
    first = (len(readings) - 1) // 2
    return max((readings[-1] - readings[first]) / max(1, len(readings) - 1 - first), 1e-6)


def time_training(
    task: Task,
    experiment: Experiment,
    train: TrainingSet,
    val: WholeSet | None,
    plan: TrainingPlan,
    budget: Budget,
    seconds: float,
    folder: Path,
) -> Measured:
    """Begin the training of a copy of the network, watch it for about ``seconds``, and end it.

    The training that follows starts from what ``task`` holds, as if this had not been. Every process of a training must
    call this; all get the first one's figures. ``folder`` exists; a checkpoint is written there for a moment.

    Raises:
        TrainingError: memory is exhausted, or the loss is not a number.
        KeyboardInterrupt: the user asked to stop.
    """
    accelerator, world = computing(experiment)
    few = None
    if val is not None:
        # Spread over the set: neighbours may be of one size.
        spread = max(1, len(val) // (_PICTURES * world))
        few = WholeSet(val.records[::spread][: _PICTURES * world], val.reader, experiment)
    module = TrainingModule(copy.deepcopy(task), experiment, plan)
    with tempfile.TemporaryDirectory(prefix=".pixbox-probe-", dir=folder) as scratch:
        watch = Stopwatch(budget, seconds, len(val or ()), Path(scratch))
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
