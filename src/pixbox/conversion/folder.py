"""A new folder, written whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pixbox.errors import RunError


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder to write into. It becomes ``out`` when the block ends, and is removed if the block raises.

    Raises:
        RunError: ``out`` is a file, or a folder that is not empty.
    """
    out = Path(os.path.realpath(out))
    check_new(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    # Beside it, so that renaming is one step; not `mkdtemp`, whose folders are closed to others.
    partial = out.with_name(f".{out.name}.{secrets.token_hex(4)}")
    partial.mkdir()
    try:
        yield partial
        check_new(out)
        if out.is_dir():
            out.rmdir()
        partial.rename(out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def check_new(out: Path) -> None:
    """Refuse to write into what is there.

    Raises:
        RunError: ``out`` is a file, or a folder that is not empty.
    """
    if out.is_dir() and not any(out.iterdir()):
        return
    if out.exists() or out.is_symlink():
        what = "holds files already" if out.is_dir() else "is a file already"
        raise RunError(f"{what}, and nothing is overwritten", where=str(out), hint="Name a new folder.")
