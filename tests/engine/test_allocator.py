"""Memory that is kept while a training runs."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

_COUNT_FAULTS = """
import resource
import torch
from pixbox.engine.allocator import memory_kept
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(1 << 24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
with memory_kept():
    kept = min(faults() for _ in range(3))
print(kept, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator alone is told")
def test_blocks_are_asked_of_the_system_once_while_a_training_runs_and_each_time_afterwards() -> None:
    # In a process of its own: these settings are the whole process's.
    done = subprocess.run([sys.executable, "-c", _COUNT_FAULTS], capture_output=True, text=True, check=True)
    kept, given_back = (int(word) for word in done.stdout.split())
    # Once it has found places for them. A block of 64 MB is 16,384 pages of 4 KB; ten of them are asked for.
    assert kept < 1_000
    assert given_back > 100 * max(kept, 1)
