"""The log of a cleaned copy: what was changed, file by file."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

What = Literal[
    "picture dropped", "copy dropped", "leaked picture dropped", "label set aside", "line dropped",
    "picture saved anew",
    "mask values decided", "mask resized", "mask turned",
    "annotation scaled", "corners swapped", "box clipped", "object dropped", "copy of a box dropped",
    "object ignored", "outline dropped",
]  # fmt: skip
"""Everything that is ever done."""

_COLUMNS = ("file", "change", "before", "after")


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that is otherwise in the copy.

    Attributes:
        file: of the source, with line or object where there is one.
        what: was done.
        before: what was there, in words or numbers.
        after: what is there now; empty if it is gone.
    """

    file: str
    what: What
    before: str
    after: str = ""


class ChangeLog:
    """Writes changes to a CSV file (UTF-8; file, change, before, after) as they come, and counts them.

    Files of the source stand there with their path below its ``root``.
    """

    def __init__(self, path: Path, root: Path) -> None:
        self._start = os.path.join(root, "")
        self.counts: Counter[What] = Counter()
        self._file = path.open("w", encoding="utf-8", newline="")
        self._rows = csv.writer(self._file, lineterminator="\n")
        self._rows.writerow(_COLUMNS)

    def __enter__(self) -> ChangeLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def add(self, changes: Iterable[Change]) -> None:
        for change in changes:
            self.counts[change.what] += 1
            self._rows.writerow((change.file.removeprefix(self._start), change.what, change.before, change.after))
