"""How much memory a network takes for a picture, and how much there is."""

from __future__ import annotations

import os
import re
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ALWAYS_WHOLE = 1 << 20
"""Pixels; inputs of the network up to this size need no look at the memory."""
_SHARE = 0.5
"""Of the free memory that prediction takes if nothing is asked: other programs want some too."""
_SCRATCH = 1.2
"""Convolutions copy their input into layouts of their own, which no tensor shows."""
_PROBES = (128, 192)
_UNITS = {"kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_CGROUP = Path("/sys/fs/cgroup")


def read_amount(text: str) -> int:
    """Bytes: ``2GB``, ``500 MiB``.

    Raises:
        ValueError: it is no amount of memory.
    """
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([kKMGT]i?B)", text)
    if match is None or match[2] not in _UNITS:
        raise ValueError(f'"{text}" is no amount of memory; write a number and one of {", ".join(_UNITS)}')
    return int(float(match[1]) * _UNITS[match[2]])


def write_amount(amount: int) -> str:
    """Bytes for people, as ``read_amount`` reads them: ``256 MB``."""
    unit = next(unit for unit in ("TB", "GB", "MB", "kB") if amount >= _UNITS[unit] or unit == "kB")
    value = amount / _UNITS[unit]
    return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"


def free_memory(device: torch.device) -> int:
    """Bytes that may still be taken on a device: a GPU's own memory, else the machine's, or the container's if less."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = psutil.virtual_memory().available
    limit, used = (_number(_CGROUP / name) for name in ("memory.max", "memory.current"))
    return int(free if limit is None or used is None else min(free, max(0, limit - used)))


def memory_budget(asked: str | None, device: torch.device) -> int:
    """Bytes that prediction may take: what was asked, or half of what is free.

    The processes of a launch share a machine's free memory.
    """
    if asked is not None:
        return read_amount(asked)
    sharing = 1 if device.type == "cuda" else int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return int(_SHARE * free_memory(device)) // sharing


def bytes_per_pixel(run: Callable[[Tensor], Any], device: torch.device) -> float:
    """Memory that ``run`` takes for each pixel of its input, (1, 3, H, W) uint8; measured on two sizes."""
    small, large = (_peak(run, side, device) for side in _PROBES)
    return _SCRATCH * max(0, large - small) / (_PROBES[1] ** 2 - _PROBES[0] ** 2)


def _peak(run: Callable[[Tensor], Any], side: int, device: torch.device) -> int:
    picture = torch.zeros(1, 3, side, side, dtype=torch.uint8, device=device)
    live = _LiveTensors()
    with torch.inference_mode(), live:
        run(picture)
    return live.peak


class _LiveTensors(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all tensors that live at once.

    Attributes:
        peak: the most so far.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._now = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            # Weights in a layout of oneDNN's have no storage, and are not the picture's (``layout_bytes``).
            if isinstance(tensor, Tensor) and not tensor.is_mkldnn:
                self._count(tensor.untyped_storage())
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._seen:
            return
        self._seen.add(key)
        self._now += size
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self._now -= size


def _number(file: Path) -> int | None:
    """The number in a file; None if it is not there or holds none (``max``)."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None
