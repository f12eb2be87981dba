"""Faults that a user can mend: where, what was found, what to do. Nothing else is caught by the command line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong.

    Attributes:
        where: a file, a file and line (``road.yaml:14``) or an option (``--set optimizer.lr=x``); may be empty.
        what: what is wrong and what was found, in one sentence.
        hint: what to do about it; may be empty.
        code: of ``data.findings.CODES`` where a file of the data is at fault; else empty.
    """

    where: str
    what: str
    hint: str = ""
    code: str = ""

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return head + "".join(f"\n  {line}" for line in self.hint.splitlines())


class PixboxError(Exception):
    """The user's input cannot be used; the command line prints it without a traceback and exits with status 2."""

    def __init__(self, what: str | Sequence[Fault], *, where: str = "", hint: str = "", code: str = "") -> None:
        self.faults: tuple[Fault, ...] = (Fault(where, what, hint, code),) if isinstance(what, str) else tuple(what)
        super().__init__("\n".join(str(fault) for fault in self.faults))

    def __reduce__(self) -> tuple[type[PixboxError], tuple[tuple[Fault, ...]]]:
        # Exceptions cross process borders (data workers); the default would pass the joined text as `what`.
        return type(self), (self.faults,)


class ConfigError(PixboxError):
    """A configuration, an override or the combination of settings cannot be used."""


class DataError(PixboxError):
    """An image, a mask, a list or a folder cannot be used."""


class ModelError(PixboxError):
    """A network cannot be built or its weights cannot be had."""


class RunError(PixboxError):
    """A run folder or a checkpoint cannot be created, read or continued."""


class TrainingError(PixboxError):
    """Training cannot go on (the loss is no longer a number, memory is exhausted)."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``Did you mean "encoder"?`` or, where nothing is near, all known names (up to 40)."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if near:
        return f'Did you mean "{near[0]}"?'
    shown = ", ".join(names[:40])
    return f"Known: {shown}{', ...' if len(names) > 40 else '.'}"
