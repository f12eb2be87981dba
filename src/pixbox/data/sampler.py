"""Which pictures each training step sees: a pure function of the step, so training can start at any step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class EpochIndex:
    """The ``index``-th picture of the set in pass ``epoch``; together with the seed it fixes every random draw.

    ``halved``: it is to be shown at half its size.
    """

    epoch: int
    index: int
    halved: bool = False


@dataclass(frozen=True)
class StepSampler:
    """Yields, step by step, the pictures of one optimizer step on one process.

    An epoch is a permutation of the set, cut into steps of ``batch_size * accumulate * world`` pictures; the
    rest of it (less than one step) is left out, another rest each epoch. A set smaller than one step is
    repeated to fill it. Every process takes every ``world``-th picture of a step, so all have equally many
    steps, and the same pictures make the same step on any number of processes.

    Attributes:
        length: pictures in the set.
        batch_size: pictures per process and forward pass.
        accumulate: forward passes per step.
        first_step, total_steps: the range of steps to yield, counted from the start of training.
        halved_steps: of the whole training, so many steps from its start see pictures at half their size.
    """

    length: int
    batch_size: int
    accumulate: int
    seed: int
    first_step: int
    total_steps: int
    rank: int = 0
    world: int = 1
    halved_steps: int = 0

    @property
    def steps_per_epoch(self) -> int:
        return steps_per_epoch(self.length, self.batch_size * self.accumulate * self.world)

    def __len__(self) -> int:
        return self.total_steps - self.first_step

    def __iter__(self) -> Iterator[list[EpochIndex]]:
        per_process = self.batch_size * self.accumulate
        per_step = per_process * self.world
        epoch, order = -1, np.empty(0, dtype=np.int64)
        for step in range(self.first_step, self.total_steps):
            if step // self.steps_per_epoch != epoch:
                epoch = step // self.steps_per_epoch
                order = _permutation(self.seed, epoch, self.length)
            start = step % self.steps_per_epoch * per_step
            window = np.take(order, np.arange(start, start + per_step), mode="wrap")
            halved = step < self.halved_steps
            yield [EpochIndex(epoch, int(index), halved) for index in window[self.rank :: self.world]]


def steps_per_epoch(length: int, pictures_per_step: int) -> int:
    """Full steps in one pass over ``length`` pictures, at least one."""
    return max(1, length // pictures_per_step)


def _permutation(seed: int, epoch: int, length: int) -> NDArray[np.int64]:
    # Raw bits: NumPy promises them for ever, but not what `permutation` makes of them.
    keys = np.random.Philox(key=[seed, epoch]).random_raw(length)
    return np.argsort(keys, kind="stable")
