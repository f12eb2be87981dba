"""Which arithmetic a training uses: what the machine could do is timed in real steps, and the fastest is kept."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from pixbox.config import Experiment
from pixbox.data.dataset import TrainingSet
from pixbox.engine.module import TrainingPlan
from pixbox.engine.probe import ENDLESS, Budget, time_training
from pixbox.engine.trainer import CompilationError, computing, plan_training, resolve_precision
from pixbox.tasks.task import Task

log = logging.getLogger("pixbox")

LEAST_STEPS, LEAST_SECONDS = 200, 300
"""Shorter trainings, in steps or by their budget, would be over before the timing has paid."""
MARGIN = 1.05
"""So many times as fast as what stands something must be to replace it: below, it may be chance."""

_WATCHED, _PATIENCE = 3.0, 60.0
"""Seconds that each candidate is watched; twice those after which two steps are enough."""


def choose_arithmetic(
    task: Task, experiment: Experiment, train: TrainingSet, budget: float | None, folder: Path
) -> tuple[Experiment, str]:
    """The experiment with ``training.precision`` and ``training.compile`` settled where they are ``auto``, and why.

    ``budget`` is that of the whole command, seconds. The network is copied before it is tried. Every process of a
    training must call this; all come to the same. ``folder`` exists and can be written to.

    Raises:
        TrainingError: memory is exhausted, or the loss is not a number.
        KeyboardInterrupt: the user asked to stop.
    """
    training = experiment.training
    accelerator, world = computing(experiment)
    usual = resolve_precision(training.precision, accelerator)
    settled = _settle(experiment, precision=usual, compile=training.compile is True)
    plan = plan_training(experiment, len(train), world)
    pays = plan.total_steps >= LEAST_STEPS if budget is None else budget >= LEAST_SECONDS
    # A GPU that multiplies half precision at all does so many times as fast.
    has_choice = training.precision == "auto" and accelerator == "cpu" and usual != "32"
    if training.precision == "auto" and not has_choice:
        chosen = "the fastest that the hardware has"
    else:
        chosen = "as asked" if training.precision != "auto" else "the hardware multiplies it; too short to be timed"
    told = f"Precision {usual} on {accelerator} ({chosen})."
    if not pays or not (has_choice or training.compile == "auto"):
        return settled, told
    log.info("Timing a few steps of each arithmetic.")
    begun = TrainingPlan(plan.steps_per_epoch, ENDLESS)
    pictures = experiment.data.batch_size * training.accumulate * world

    def speed(candidate: Experiment) -> float:
        measured = time_training(task, candidate, train, None, begun, Budget.from_now(_PATIENCE), _WATCHED, folder)
        return pictures / measured.step

    fastest = speed(settled)
    if has_choice:
        plain = _settle(settled, precision="32")
        found = speed(plain)
        figures = f"{usual}: {fastest:.3g} pictures/s, 32: {found:.3g}"
        if found > MARGIN * fastest:
            settled, fastest = plain, found
        told = f"Precision {settled.training.precision} on {accelerator} ({figures})."
    if training.compile == "auto":
        compiled = _settle(settled, compile=True)
        try:
            found = speed(compiled)
        except CompilationError as error:
            return settled, f"{told} Not compiled: {error.faults[0].what}."
        kept = found > MARGIN * fastest
        told += f" {'Compiled' if kept else 'Not compiled'} ({found:.3g} pictures/s compiled, {fastest:.3g} as it is)."
        settled = compiled if kept else settled
    return settled, told


def _settle(experiment: Experiment, **changes: Any) -> Experiment:
    return experiment.model_copy(update={"training": experiment.training.model_copy(update=changes)})
