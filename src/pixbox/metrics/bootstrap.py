"""How far figures could be off because a split has these pictures and not others.

Pictures are drawn with replacement, as many as there are, again and again; how much a figure varies from draw to draw
tells how much it would from one split of this size to another. This holds for pictures that have nothing to do with
each other: frames of one video say less than their number, and the intervals come out too narrow.

Source: Efron 1979, Bootstrap methods: another look at the jackknife; Efron and Tibshirani 1993, An introduction to the
bootstrap, chapter 13 (percentile intervals).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixbox.metrics.pictures import PictureStatistics

Floats = NDArray[np.float64]

# Draws that are computed at once: more would leave the processor's cache, fewer would be spent in Python.
_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Interval:
    """From ``low`` to ``high``, both fractions, or differences of fractions."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference:
    """A figure of two runs on the same pictures.

    Attributes:
        a, b: the figure of each on all pictures; None where undefined.
        difference: b - a; None where one is undefined.
        interval: of the difference; None where it cannot be told (see :func:`paired`).
        a_better: share of the draws in which a is higher; equal ones count half. None as ``interval``.
        two_sided: twice the share of draws on the rarer side of zero (draws without a difference are on both), at
            most 1; None as ``interval``. Small values mean what an interval away from zero means. It is not the
            p-value of a test: it asks how often draws from the pictures at hand turn the order round, not how often
            two equal runs would differ so much; and it cannot be trusted below about 10 / number of draws.
    """

    a: float | None
    b: float | None
    difference: float | None
    interval: Interval | None
    a_better: float | None
    two_sided: float | None

    @property
    def is_clear(self) -> bool:
        """The interval lies on one side of zero: more than the choice of pictures would explain."""
        return self.interval is not None and (self.interval.low > 0 or self.interval.high < 0)

    @property
    def words(self) -> str:
        """Whether the difference is more than noise, in a few words."""
        if self.difference is None:
            return "not present"
        if self.interval is None:
            return "too few pictures to tell"
        if self.is_clear:
            return f"{'B' if self.difference > 0 else 'A'} better, more than noise"
        return "not distinguishable" if self.difference else "the same"


def intervals(
    pictures: PictureStatistics, *, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> dict[str, Interval | None]:
    """Percentile bootstrap intervals over pictures of all figures, by name.

    ``level`` of the draws lie inside, half of the others on each side. None where the figure is undefined; where
    more than 1 - ``level`` of the draws leave it undefined (its class is in one or two pictures), so that no such
    interval can be told; and of a single picture. Other draws that leave it undefined are left out.

    Raises:
        ValueError: ``resamples`` is not positive, or ``level`` not between 0 and 1.
    """
    _check(resamples, level)
    draws = _draws(pictures.values, len(pictures.ids), resamples, seed)
    whole = pictures.values(np.ones((1, len(pictures.ids))))[0]
    found = _percentiles(draws, level, known=~np.isnan(whole) & (len(pictures.ids) > 1))
    return dict(zip(pictures.figure_names, found, strict=True))


def paired(
    a: PictureStatistics, b: PictureStatistics, *, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> dict[str, Difference]:
    """All figures of two runs on the same pictures, by name, with bootstrap intervals of their differences.

    Both runs are scored on the same draws, so that what makes a draw easy or hard for both drops out: the interval of
    the difference is much narrower than those of the figures would suggest. None as in :func:`intervals`.

    Raises:
        ValueError: the runs differ in task, classes or pictures; ``resamples`` or ``level`` as there.
    """
    _check(resamples, level)
    if (a.task, a.names, a.ids) != (b.task, b.names, b.ids):
        raise ValueError("runs are compared on the same task, classes and pictures")
    everything = np.ones((1, len(a.ids)))
    whole_a, whole_b = a.values(everything)[0], b.values(everything)[0]
    draws = _draws(lambda weights: b.values(weights) - a.values(weights), len(a.ids), resamples, seed)
    differences = whole_b - whole_a
    found = _percentiles(draws, level, known=~np.isnan(differences) & (len(a.ids) > 1))
    return {
        name: _difference(whole_a[place], whole_b[place], interval, draws[:, place])
        for place, (name, interval) in enumerate(zip(a.figure_names, found, strict=True))
    }


def _difference(a: float, b: float, interval: Interval | None, draws: Floats) -> Difference:
    first, second = _defined(a), _defined(b)
    between = None if first is None or second is None else second - first
    if interval is None:
        return Difference(first, second, between, None, None, None)
    defined = draws[~np.isnan(draws)]
    below, equal = float((defined < 0).mean()), float((defined == 0).mean())
    two_sided = min(1.0, 2 * min(below + equal, 1 - below))
    return Difference(first, second, between, interval, below + equal / 2, two_sided)


def _check(resamples: int, level: float) -> None:
    if resamples < 1:
        raise ValueError(f"{resamples} resamples")
    if not 0 < level < 1:
        raise ValueError(f"a level lies between 0 and 1, not {level}")


def _draws(values: Callable[[Floats], Floats], count: int, resamples: int, seed: int) -> Floats:
    """(resamples, F) what ``values`` gives for the weights of drawn pictures: (R, count) -> (R, F)."""
    return np.concatenate([values(weights) for weights in _weights(count, resamples, seed)])


def _weights(count: int, resamples: int, seed: int) -> Iterator[Floats]:
    """How often each picture is drawn, (R, count) at a time."""
    source = np.random.default_rng(seed)
    for done in range(0, resamples, _AT_ONCE):
        rows = min(_AT_ONCE, resamples - done)
        drawn = source.integers(0, max(count, 1), (rows, count))
        # Each row has its own range of numbers.
        flat = (drawn + count * np.arange(rows)[:, None]).ravel()
        yield np.bincount(flat, minlength=rows * count).reshape(rows, count).astype(np.float64)


def _percentiles(draws: Floats, level: float, known: NDArray[np.bool_]) -> list[Interval | None]:
    """The interval of each column; None where it is not ``known`` or undefined in too many draws."""
    undefined = np.isnan(draws).mean(axis=0)
    ends = [(1 - level) / 2, (1 + level) / 2]
    found: list[Interval | None] = [None] * draws.shape[1]
    for place in np.flatnonzero(known & (undefined <= 1 - level)).tolist():
        column = draws[:, place]
        low, high = np.quantile(column[~np.isnan(column)], ends).tolist()
        found[place] = Interval(low, high)
    return found


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
