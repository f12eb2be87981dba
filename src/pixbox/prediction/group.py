"""The processes that share a split or a folder of pictures, as ``torchrun`` starts them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import distributed

from pixbox.errors import PixboxError

T = TypeVar("T")

_PATIENCE = timedelta(days=7)
"""Processes wait for the slowest; a launcher ends them all when one dies."""


@dataclass(frozen=True)
class Group:
    """This process among ``world``, by its ``rank``; the first has rank 0."""

    rank: int = 0
    world: int = 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    @property
    def device(self) -> str:
        """What this process computes on: where a machine has several GPUs, its own."""
        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        return f"cuda:{int(os.environ.get('LOCAL_RANK', self.rank)) % gpus}" if gpus and self.world > 1 else "auto"

    def gather(self, own: T) -> list[T]:
        """What each process gives, by rank, in the first process; nothing in the others."""
        if self.world == 1:
            return [own]
        gathered: list[T] | None = [own] * self.world if self.is_first else None
        distributed.gather_object(own, gathered)
        return gathered or []

    def by_first(self, work: Callable[[], T]) -> T:
        """What ``work`` gives in the first process, in all of them; what it raises to the user is raised in all."""
        if self.world == 1:
            return work()
        told: list[Any] = [None, None]
        if self.is_first:
            try:
                told[0] = work()
            except (PixboxError, OSError) as error:
                told[1] = error
        distributed.broadcast_object_list(told)
        if told[1] is not None:
            raise told[1]
        result: T = told[0]
        return result


@contextmanager
def process_group() -> Iterator[Group]:
    """All processes of a launch by ``torchrun``, or this one alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or "RANK" not in os.environ:
        yield Group()
        return
    # Counts and boxes are exchanged, no gradients: `gloo` needs no GPU and is there wherever torch is.
    distributed.init_process_group("gloo", timeout=_PATIENCE)
    try:
        yield Group(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()
