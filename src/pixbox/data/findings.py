"""What is found in the data: one vocabulary for the readers, the check before training and the audit.

A finding has a code of the closed table ``CODES``. Its severity follows from the code alone: an error keeps
training from starting, a warning and a note do not.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pixbox.errors import DataError, Fault

Severity = Literal["error", "warning", "note"]

KEPT_PER_CODE = 1000
"""So many findings of one code are kept; the others are counted. Memory stays bounded, whatever the data hold."""
SHOWN_FAULTS = 10


@dataclass(frozen=True, slots=True)
class Code:
    """One kind of finding: how grave it is, and what it is called in tables."""

    severity: Severity
    title: str


CODES: dict[str, Code] = {
    # Lists, folders, pairs.
    "structure": Code("error", "folders, lists or files that cannot be used"),
    "bad-line": Code("error", "lines that cannot be read"),
    "outside-root": Code("error", "paths outside the data root"),
    "missing-file": Code("error", "files that are not there"),
    "missing-mask": Code("error", "pictures without a label"),
    "unmatched-mask": Code("warning", "labels without a picture"),
    "duplicate-line": Code("error", "pictures that are listed twice"),
    "duplicate-stem": Code("error", "files of one name that cannot be told apart"),
    "bad-annotation": Code("error", "annotation files with wrong or missing fields"),
    # Files.
    "empty-file": Code("error", "files of zero bytes"),
    "unreadable-file": Code("error", "files that are no pictures or cannot be opened"),
    "truncated-file": Code("error", "incomplete files"),
    "damaged-file": Code("error", "damaged files"),
    "too-large": Code("error", "pictures too large to be read whole"),
    "unsupported-pixels": Code("error", "pixels of a kind that cannot be used as they are"),
    "animated-file": Code("warning", "files of several frames or pages, of which the first counts"),
    "sixteen-bit": Code("warning", "16-bit pictures, of which the upper 8 bits are used"),
    "cmyk": Code("warning", "CMYK pictures, converted without a colour profile"),
    "alpha": Code("warning", "pictures with transparency, which is laid over white"),
    "exif-rotated": Code("warning", "pictures that a camera's orientation mark turns"),
    "odd-size": Code("warning", "pictures of an implausible size"),
    # Masks.
    "not-labels": Code("error", "masks whose numbers are no labels"),
    "unknown-value": Code("error", "mask values or colours that the label map does not have"),
    "rare-value": Code("error", "mask values in hardly any mask, probably strays"),
    "soft-edges": Code("error", "masks with antialiased edges: mixed colours between two classes"),
    "lossy-mask": Code("warning", "masks saved with loss (JPEG)"),
    "mask-size": Code("error", "masks of other proportions than their picture"),
    "mask-resized": Code("warning", "masks of another size than their picture, resized to it"),
    "mask-turned": Code("warning", "pictures with an orientation mark whose mask has none"),
    "empty-mask": Code("warning", "masks with nothing but the background"),
    "ignored-mask": Code("warning", "masks of which every pixel is ignored"),
    # Boxes and outlines.
    "unknown-class": Code("error", "class names that the label map does not have"),
    "invalid-box": Code("error", "boxes with corners that are no numbers"),
    "inverted-box": Code("error", "boxes whose corners are in the wrong order"),
    "empty-box": Code("warning", "boxes without area, dropped in training"),
    "outside-box": Code("warning", "boxes that reach outside their picture, clipped in training"),
    "tiny-box": Code("warning", "boxes too small to be found"),
    "duplicate-box": Code("warning", "boxes of one class that lie on each other"),
    "annotation-size": Code("warning", "annotations that state another size than their picture has"),
    "no-objects": Code("note", "pictures without any object"),
    "left-out": Code("note", "objects that a format to be written cannot hold"),
    "anchor-coverage": Code("warning", "boxes that no anchor reaches"),
    # The set as a whole.
    "class-missing": Code("warning", "classes that never occur"),
    "class-rare": Code("warning", "classes that hardly occur"),
    "class-only-in-val": Code("warning", "classes that occur in validation but not in training"),
    "nothing-to-learn": Code("error", "training data without a single labelled pixel or object"),
    "no-validation": Code("note", "no validation set"),
    "duplicate-image": Code("warning", "pictures that are there twice"),
    "near-duplicate-image": Code("warning", "pictures that are nearly the same"),
    "leaked-image": Code("warning", "pictures that are in two splits"),
    "near-leaked-image": Code("warning", "pictures that are nearly in two splits"),
    "shared-sequence": Code("warning", "sequences that give pictures to two splits"),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that an audit has to say.

    Attributes:
        code: of ``CODES``.
        file: a path, or a path and line (``train.txt:14``); empty if it concerns the whole set.
        message: what is wrong and what was found, in one sentence.
        hint: what to do about it; may be empty.
        id: ``Record.id`` of the picture it concerns; may be empty.
        split: train, val or test; may be empty.
        details: more for programs: ``row``, ``column``, ``count``, ``value``, ``nearest``, ...; plain JSON values.
    """

    code: str
    file: str
    message: str
    hint: str = ""
    id: str = ""
    split: str = ""
    details: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.code not in CODES:
            raise ValueError(f'"{self.code}" is no code of a finding')

    @property
    def severity(self) -> Severity:
        return CODES[self.code].severity

    @property
    def fault(self) -> Fault:
        """The same as part of an error message."""
        return Fault(self.file, self.message, self.hint, self.code)

    def to_plain(self) -> dict[str, Any]:
        """What ``audit --json`` prints."""
        plain = {"severity": self.severity, "code": self.code, "file": self.file, "message": self.message}
        optional = {"hint": self.hint, "id": self.id, "split": self.split}
        return plain | {key: text for key, text in optional.items() if text} | self.details


class Findings:
    """Collects findings: the first ``KEPT_PER_CODE`` of each code, and the number of all.

    Those of pictures for which ``is_excluded(id)`` holds are passed over. A line or object that belongs to no picture
    is known by its place below ``root`` (``train.txt:14``) in the same way. ``ids`` holds the ids and places of all,
    these too; ``faulty_places`` the places of errors.
    """

    def __init__(self, is_excluded: Callable[[str], bool] = lambda id_: False, root: Path | None = None) -> None:
        self._is_excluded = is_excluded
        self._start = None if root is None else os.path.join(root, "")
        self.ids: set[str] = set()
        self.faulty_places: set[str] = set()
        self._kept: dict[str, list[Finding]] = {}
        self.counts: Counter[str] = Counter()
        self._faulty: dict[str, set[str]] = {}

    def __iter__(self) -> Iterator[Finding]:
        """The kept findings, errors first, in the order of ``CODES``."""
        for severity in ("error", "warning", "note"):
            for code, kind in CODES.items():
                if kind.severity == severity:
                    yield from self._kept.get(code, ())

    def __len__(self) -> int:
        return self.counts.total()

    def add(
        self, code: str, file: str, message: str, hint: str | Callable[[], str] = "", *, id: str = "", **details: Any
    ) -> None:
        """Note a finding. A ``hint`` that costs a look at the disk is a function, called only for the first ten."""
        if not isinstance(hint, str):
            hint = hint() if self.counts[code] < SHOWN_FAULTS else ""
        self.append(Finding(code, file, message, hint, id, details=details))

    def append(self, finding: Finding) -> None:
        name = finding.id or self._place(finding)
        if name:
            self.ids.add(name)
            if self._is_excluded(name):
                return
        self.counts[finding.code] += 1
        if finding.severity == "error":
            if finding.id:
                self._faulty.setdefault(finding.code, set()).add(finding.id)
            elif name:
                self.faulty_places.add(name)
        kept = self._kept.setdefault(finding.code, [])
        if len(kept) < KEPT_PER_CODE:
            kept.append(finding)

    def extend(self, findings: Iterable[Finding], *, split: str = "") -> None:
        """Add findings; of other ``Findings`` also those that were counted and not kept."""
        for finding in findings:
            self.append(replace(finding, split=split) if split else finding)
        if isinstance(findings, Findings):
            for code, kept in findings._kept.items():
                self.counts[code] += findings.counts[code] - len(kept)
            for code, ids in findings._faulty.items():
                self._faulty.setdefault(code, set()).update(ids)
            self.faulty_places |= findings.faulty_places

    def without(self, *codes: str) -> Findings:
        """The same but for these codes."""
        rest = Findings()
        rest.extend(self)
        for code in codes:
            rest._kept.pop(code, None)
            rest._faulty.pop(code, None)
            rest.counts.pop(code, None)
        return rest

    def _place(self, finding: Finding) -> str:
        # Without its folders or lists a set is another one; without one of its lines it is the same.
        if self._start is None or finding.code == "structure" or not finding.file.startswith(self._start):
            return ""
        return finding.file[len(self._start) :].replace(os.sep, "/")

    def add_error(self, error: DataError, *, file: str = "", id: str = "", code: str = "structure") -> None:
        """Note the faults of an error that was caught; ``file`` and ``code`` for those that name none."""
        for fault in error.faults:
            self.append(Finding(fault.code or code, fault.where or file, fault.what, fault.hint, id))

    def faulty_ids(self, *, but: Collection[str] = ()) -> set[str]:
        """Ids of all pictures with an error, kept or not; errors of the codes ``but`` do not count."""
        return {id_ for code, ids in self._faulty.items() if code not in but for id_ in ids}

    def errors(self) -> list[Finding]:
        return [finding for finding in self if finding.severity == "error"]

    def count(self, severity: Severity) -> int:
        """All findings of a severity, kept or not."""
        return sum(number for code, number in self.counts.items() if CODES[code].severity == severity)

    def raise_errors(self) -> None:
        """Raise one DataError if there is any error: the first ten, and how many more there are."""
        errors = self.errors()
        if errors:
            faults = [finding.fault for finding in errors[:SHOWN_FAULTS]]
            more = self.count("error") - len(faults)
            raise DataError(faults + ([Fault("", f"and {more:,} more like these")] if more else []))
