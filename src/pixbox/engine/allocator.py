"""How memory is asked of the system while a training runs."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

# Of malloc.h. The defaults that are put back are glibc's.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_NEVER, _DEFAULT_TRIM, _DEFAULT_MMAP_MAX = 2**31 - 1, 128 * 1024, 65536


@contextmanager
def memory_kept() -> Iterator[None]:
    """Memory that tensors give back stays with the process for the next ones; what is free at the end goes back.

    glibc gives each large block back to the system at once and asks for it again in the next step, and the system fills
    every page of it with zeros: thousands of pages a step. Every step of a training needs the same blocks, so
    keeping them costs little memory. A prediction, which is to stay within a bound, does without this.

    Elsewhere than under Linux with glibc nothing happens.
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    glibc = ctypes.CDLL(None)
    glibc.mallopt(_MMAP_MAX, 0)
    glibc.mallopt(_TRIM_THRESHOLD, _NEVER)
    try:
        yield
    finally:
        glibc.mallopt(_MMAP_MAX, _DEFAULT_MMAP_MAX)
        glibc.mallopt(_TRIM_THRESHOLD, _DEFAULT_TRIM)
        glibc.malloc_trim(0)
