"""Which process of a distributed launch this is, known from the environment before anything is imported."""

from __future__ import annotations

import os

_RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")


def is_first_process() -> bool:
    """False in the processes that a launcher has started beside the first; they write and print nothing."""
    return all(os.environ.get(name, "0") == "0" for name in _RANKS)
