"""Files: written whole or not at all, and opened only if they are files."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


# Once: to ask for it is to change it for a moment, and files are written by several threads.
_UMASK = _umask()


def open_file(path: Path) -> IO[bytes]:
    """Open a file to read its bytes. A pipe or a device, which may keep one waiting for ever, is refused.

    Raises:
        OSError: it is not there, no file, or cannot be opened.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OSError(errno.EINVAL, "it is a pipe or a device, not a file", str(path))
    return path.open("rb")


@contextmanager
def partial_file(path: Path) -> Iterator[Path]:
    """An empty file under a temporary name beside ``path``, to be written by whoever asks for it.

    It becomes ``path`` when the block ends and is removed when the block raises: a kill at any moment leaves the former
    file. Folders on the way are made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        with partial.open("r+b") as file:
            os.fsync(file.fileno())
        partial.chmod(0o666 & ~_UMASK)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_file(path: Path, content: bytes | str) -> None:
    """Write a file whole or not at all (``partial_file``); text as UTF-8."""
    with partial_file(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)
