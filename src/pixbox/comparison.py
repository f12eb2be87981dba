"""Two evaluated runs on the same pictures: which is better, by how much, and whether that is more than noise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pixbox.checkpoint import RunFolder
from pixbox.errors import ConfigError, DataError, RunError
from pixbox.metrics import Difference, PictureStatistics, paired, read_pictures

_FILE = "pictures.npz"
_MOST_SHOWN = 10
_MOST_NAMED = 5


@dataclass(frozen=True)
class PictureChange:
    """The chief figure of a single picture in both runs."""

    id: str
    a: float
    b: float

    @property
    def difference(self) -> float:
        return self.b - self.a


@dataclass(frozen=True)
class Comparison:
    """What two evaluations of a split say about each other; all differences are B - A.

    Attributes:
        a, b: the runs, as they were named.
        split: "train", "val" or "test".
        task: "segmentation", "detection" or "classification".
        pictures: number of pictures that both have scored; all figures are of these.
        only_a, only_b: ids of pictures that were left out because the other run has not scored them.
        level, resamples: of the intervals.
        chief: the name of the figure that decides, one of ``figures``.
        figures: by the name in metrics.json.
        class_figure: what ``classes`` hold, "class_iou" for example.
        classes: by class name, in the order of the label map.
        changes: pictures in which the chief figure is defined and not the same, from what B lost to what it won.
    """

    a: str
    b: str
    split: str
    task: str
    pictures: int
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    level: float
    resamples: int
    chief: str
    figures: dict[str, Difference]
    class_figure: str
    classes: dict[str, Difference]
    changes: tuple[PictureChange, ...]

    @property
    def worse(self) -> list[PictureChange]:
        """Pictures that B does worse, the largest change first."""
        return [change for change in self.changes if change.difference < 0]

    @property
    def better(self) -> list[PictureChange]:
        """Pictures that B does better, the largest change first."""
        return [change for change in reversed(self.changes) if change.difference > 0]

    @property
    def changed_classes(self) -> list[tuple[str, Difference]]:
        """Classes whose figure is defined in both runs and not the same, the largest change first."""
        changed = [(name, found) for name, found in self.classes.items() if found.difference]
        return sorted(changed, key=lambda item: -abs(item[1].difference or 0))

    @property
    def counted(self) -> str:
        """How many pictures were compared and how many left out, in words."""
        both = f"{self.pictures:,} picture{'' if self.pictures == 1 else 's'} in both"
        rest = [f"{len(ids):,} only in {run}" for run, ids in (("A", self.only_a), ("B", self.only_b)) if ids]
        return f"{both} (left out: {', '.join(rest)})" if rest else both

    @property
    def verdict(self) -> str:
        """One sentence on the chief figure."""
        found = self.figures[self.chief]
        if found.difference is None or found.interval is None:
            return f"Whether {self.chief} differs cannot be told ({self.counted})."
        low, high = f"{found.interval.low:+.4f}", f"{found.interval.high:+.4f}"
        between = f"{self.chief} {found.difference:+.4f}, {self.level:.0%} interval {low} to {high}"
        if found.is_clear:
            return f"{'B' if found.difference > 0 else 'A'} is better, by more than noise ({between})."
        return f"A and B are not distinguishable on these pictures ({between})."

    def to_plain(self) -> dict[str, Any]:
        """What ``pixbox compare --json`` prints: numbers, texts and None."""
        return {
            "a": self.a,
            "b": self.b,
            "split": self.split,
            "task": self.task,
            "pictures": self.pictures,
            "only_a": list(self.only_a),
            "only_b": list(self.only_b),
            "level": self.level,
            "resamples": self.resamples,
            "chief": self.chief,
            "verdict": self.verdict,
            "figures": {name: _plain(found) for name, found in self.figures.items()},
            self.class_figure: {name: _plain(found) for name, found in self.classes.items()},
            "better": [_plain_change(change) for change in self.better],
            "worse": [_plain_change(change) for change in self.worse],
        }


def compare_runs(a: Path, b: Path, split: str, *, resamples: int = 1000, seed: int = 0) -> Comparison:
    """Compare what ``pixbox evaluate`` has written for two runs; a and b may also be folders of evaluations.

    Raises:
        RunError: a run is not evaluated on the split.
        ConfigError: task or classes differ.
        DataError: the runs have no picture in common, or not the same truth for one.
    """
    whole_a, whole_b = (_read(run, split) for run in (a, b))
    _check_classes(whole_a, whole_b, a, b)
    first, second = _common(whole_a, whole_b, a, b)
    level = 0.95
    found = paired(first, second, resamples=resamples, level=level, seed=seed)
    return Comparison(
        a=str(a),
        b=str(b),
        split=split,
        task=first.task,
        pictures=len(first.ids),
        only_a=_missing(whole_a, first),
        only_b=_missing(whole_b, first),
        level=level,
        resamples=resamples,
        chief=first.scalars[0],
        figures={name: found[name] for name in first.scalars},
        class_figure=first.per_class,
        classes={name: found[f"{first.per_class}/{name}"] for name in first.names},
        changes=tuple(sorted(_changes(first, second), key=lambda change: change.difference)),
    )


def in_words(comparison: Comparison) -> str:
    """A comparison as text for a terminal; the verdict stands last, nearest to the prompt."""
    parts = [_head(comparison), _figures(comparison), _classes(comparison), _pictures(comparison)]
    return "\n\n".join(part for part in [*parts, comparison.verdict] if part)


def _read(run: Path, split: str) -> PictureStatistics:
    """What an evaluation wrote: of a run, or the folder of an evaluation itself."""
    if not run.is_dir():
        what = "is a file" if run.exists() else "no such folder"
        raise RunError(what, where=str(run), hint="Name the folder of a run, or of an evaluation (evaluate --out).")
    direct = run / _FILE
    path = direct if direct.is_file() else RunFolder(run).evaluation(split) / _FILE
    if not path.is_file():
        if (run / "metrics.json").is_file():
            raise RunError(f"this evaluation holds no {_FILE}", where=str(run),
                           hint=f"Evaluate its run again: pixbox evaluate RUN --split {split} --out {run}")  # fmt: skip
        raise RunError(
            f"is not evaluated on the split {split} (there is no {path.relative_to(run)})",
            where=str(run),
            hint=f"Run: pixbox evaluate {run} --split {split}",
        )
    return read_pictures(path)


def _check_classes(first: PictureStatistics, second: PictureStatistics, a: Path, b: Path) -> None:
    if first.task != second.task:
        raise ConfigError(f"{a} is a {first.task}, {b} a {second.task}", where="compare",
                          hint="Only runs of one task can be compared.")  # fmt: skip
    if first.names == second.names:
        return
    only = [
        f"only {run} has {_listed(own)}"
        for run, own in (
            (a, [name for name in first.names if name not in second.names]),
            (b, [name for name in second.names if name not in first.names]),
        )
        if own
    ]
    raise ConfigError(
        f"the classes differ: {'; '.join(only) or 'they stand in another order'}",
        where=f"{a} and {b}",
        hint="Only runs with the same classes, in the same order, can be compared.",
    )


def _common(
    first: PictureStatistics, second: PictureStatistics, a: Path, b: Path
) -> tuple[PictureStatistics, PictureStatistics]:
    """Both on the pictures that both have, in the order of the first.

    Raises:
        DataError: there is none, or the truth of one is not the same.
    """
    places = {id: place for place, id in enumerate(second.ids)}
    pairs = [(place, places[id]) for place, id in enumerate(first.ids) if id in places]
    if not pairs:
        raise DataError(
            "not a single picture was scored for both",
            where=f"{a} and {b}",
            hint="Both are to be evaluated on the same split of the same data.",
        )
    chosen = np.array(pairs, dtype=np.int64)
    first, second = first.take(chosen[:, 0]), second.take(chosen[:, 1])
    other = np.unique((first.truth() != second.truth()).nonzero()[0])
    if len(other):
        raise DataError(
            f"the truth of {len(other)} of {len(pairs)} pictures is not the same for both: "
            f"{_listed([first.ids[place] for place in other])}",
            where=f"{a} and {b}",
            hint="Labels or their meaning have changed since one of them was evaluated. Evaluate both again.",
        )
    return first, second


def _missing(whole: PictureStatistics, common: PictureStatistics) -> tuple[str, ...]:
    kept = set(common.ids)
    return tuple(id for id in whole.ids if id not in kept)


def _changes(first: PictureStatistics, second: PictureStatistics) -> Iterator[PictureChange]:
    """The chief figure of every single picture in which it is defined and not the same."""
    once = np.ones((1, 1))
    for place, id in enumerate(first.ids):
        alone = np.array([place])
        a, b = (float(run.take(alone).values(once)[0, 0]) for run in (first, second))
        if a != b and not np.isnan(a) and not np.isnan(b):
            yield PictureChange(id, a, b)


def _head(comparison: Comparison) -> str:
    return (
        f"A  {comparison.a}\nB  {comparison.b}\n"
        f"{comparison.split}: {comparison.counted}; "
        f"{comparison.level:.0%} intervals over pictures, {comparison.resamples} resamples"
    )


def _figures(comparison: Comparison) -> str:
    return _table("", list(comparison.figures.items()))


def _classes(comparison: Comparison) -> str:
    changed = comparison.changed_classes
    if not changed:
        return ""
    table = _table(f"{comparison.class_figure}, changed most", changed[:_MOST_SHOWN])
    rest = len(changed) - _MOST_SHOWN
    return table + (f"\n{rest} more changed less" if rest > 0 else "")


def _table(title: str, rows: Sequence[tuple[str, Difference]]) -> str:
    width = max(24, len(title), *(len(name) for name, _ in rows))
    lines = [f"{title:{width}}      A       B    B - A   interval"]
    for name, found in rows:
        between = f"{found.interval.low:+.4f} to {found.interval.high:+.4f}" if found.interval else "-"
        numbers = f"{_figure(found.a)}  {_figure(found.b)}  {_figure(found.difference, '+'):>7}"
        lines.append(f"{name:{width}} {numbers}   {between:18}   {found.words}")
    return "\n".join(lines)


def _pictures(comparison: Comparison) -> str:
    sides = (("better", comparison.better), ("worse", comparison.worse))
    return "\n\n".join(
        f"{comparison.chief} of single pictures, {len(changes)} {side} in B\n"
        + "\n".join(f"  {c.a:.4f}  {c.b:.4f}  {c.difference:+.4f}   {c.id}" for c in changes[:_MOST_SHOWN])
        for side, changes in sides
        if changes
    )


def _figure(value: float | None, sign: str = "") -> str:
    return f"{'-':>6}" if value is None else f"{value:{sign}.4f}"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _plain(found: Difference) -> dict[str, Any]:
    return {
        "a": found.a,
        "b": found.b,
        "difference": found.difference,
        "interval": None if found.interval is None else [found.interval.low, found.interval.high],
        "a_better": found.a_better,
        "two_sided": found.two_sided,
        "clear": found.is_clear,
    }


def _plain_change(change: PictureChange) -> dict[str, Any]:
    return {"id": change.id, "a": change.a, "b": change.b, "difference": change.difference}
