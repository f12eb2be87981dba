"""The command line in this process: importing torch anew for every call would take most of the time."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tiny import Finished

Command = Callable[..., Finished]


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """``command("evaluate", run, "--json")``: status, standard output and standard error, as of a process."""
    from pixbox.cli import main

    def call(*arguments: str | Path) -> Finished:
        monkeypatch.setattr(sys, "argv", ["pixbox", *map(str, arguments)])
        logger = logging.getLogger("pixbox")
        handlers, level = logger.handlers[:], logger.level
        capfd.readouterr()
        try:
            with pytest.raises(SystemExit) as exit_:
                main()
        finally:
            logger.handlers[:] = handlers
            logger.setLevel(level)
        status = exit_.value.code
        assert status is None or isinstance(status, int)
        return Finished(status or 0, *capfd.readouterr())

    return call
