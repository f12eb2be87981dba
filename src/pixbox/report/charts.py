"""Charts as inline SVG; colours and fonts come from the page's style sheet."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    # It needs torch, which a chart does not.
    from pixbox.metrics import CalibrationBin

_WIDTH, _HEIGHT = 440, 250
_UNIT_HEIGHT = 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 12, 38
_MOST_DOTS = 40
_BAR_STEP, _SPREAD_STEP = 23, 34
_LETTER = 8  # the average letter or figure is narrower, also at the 14 px of a phone
_CELL = 4
_INVISIBLE = 0.3  # of the chart's pixels
_PALEST = 0.25  # opacity of a bar that stands for next to nothing


@dataclass(frozen=True)
class Series:
    """One curve: its name and its (x, y) points, x ascending; y is finite."""

    name: str
    points: Sequence[tuple[float, float]]


def line_chart(
    title: str, x_label: str, series: Sequence[Series], format_y: Callable[[float], str], ceiling: float = math.inf
) -> str:
    """A titled figure with a legend, axes from round number to round number, and a tooltip at every point.

    The y axis ends at ``ceiling``, a round number that no value exceeds, rather than above it.

    Raises:
        ValueError: no series has a point.
    """
    points = [point for item in series for point in item.points]
    if not points:
        raise ValueError(f'the chart "{title}" has no point to show')
    ticks_x = round_ticks(min(x for x, _ in points), max(x for x, _ in points), 6)
    ticks_y = [y for y in round_ticks(min(y for _, y in points), max(y for _, y in points), 5) if y <= ceiling]
    axis_x = _Axis(min(x for x, _ in points), max(x for x, _ in points), _LEFT, _WIDTH - _RIGHT)
    axis_y = _Axis(ticks_y[0], ticks_y[-1], _HEIGHT - _BOTTOM, _TOP)
    parts = [_grid(ticks_x, ticks_y, axis_x, axis_y, format_y)]
    parts += [_curve(number, item, axis_x, axis_y, format_y) for number, item in enumerate(series)]
    parts.append(_x_label(x_label))
    return _figure(title, _HEIGHT, "".join(parts), _legend(item.name for item in series))


def curve_key(number: int) -> str:
    """A piece of the line in which a chart draws its curve of this number, from 0."""
    return f'<span class="dash c{number}"></span>'


def _legend(names: Iterable[str]) -> str:
    items = "".join(f"<li>{curve_key(number)}{escape(name)}</li>" for number, name in enumerate(names))
    return f'<ul class="legend">{items}</ul>'


@dataclass(frozen=True)
class Spot:
    """A place in the unit square and what its tooltip says."""

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class Trace:
    """A curve in the unit square.

    Attributes:
        name: for the legend.
        xy: (K, 2) float64 in 0..1, x ascending.
        spots: places on it with a tooltip.
        dot: the one of them that is drawn.
    """

    name: str
    xy: NDArray[np.float64]
    spots: Sequence[Spot]
    dot: Spot | None = None


MOST_TRACES = 10
"""The style sheet has a colour or dashes for so many curves."""


def unit_chart(title: str, x_label: str, y_label: str, traces: Sequence[Trace], mark: tuple[Spot, str] | None) -> str:
    """Curves of shares over shares, both axes from 0 to 100%; ``mark`` is a place that matters, and its name.

    Raises:
        ValueError: there is no curve, or there are more than ``MOST_TRACES``.
    """
    if not 0 < len(traces) <= MOST_TRACES:
        raise ValueError(f'the chart "{title}" needs 1 to {MOST_TRACES} curves, not {len(traces)}')
    ticks = [n / 5 for n in range(6)]
    axis_x = _Axis(0, 1, _LEFT, _WIDTH - _RIGHT)
    axis_y = _Axis(0, 1, _UNIT_HEIGHT - _BOTTOM, _TOP + 18)
    parts = [_grid(ticks, ticks, axis_x, axis_y, _as_percent, _as_percent)]
    parts += [_trace(number, item, axis_x, axis_y) for number, item in enumerate(traces)]
    if mark:
        parts.append(_mark(*mark, axis_x, axis_y))
    parts.append(f'<text class="label" x="4" y="{_TOP}">{escape(y_label)}</text>{_x_label(x_label, _UNIT_HEIGHT)}')
    return _figure(title, _UNIT_HEIGHT, "".join(parts), _legend(item.name for item in traces))


def _as_percent(value: float) -> str:
    return f"{value:.0%}"


def _trace(number: int, item: Trace, axis_x: _Axis, axis_y: _Axis) -> str:
    places = np.array([(axis_x.at(x), axis_y.at(y)) for x, y in item.xy.tolist()], dtype=np.float32)
    # A curve has as many points as there are detections; most of them lie on a line, as far as one can see.
    corners = cv2.approxPolyDP(places.reshape(-1, 1, 2), _INVISIBLE, False).reshape(-1, 2)
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners.tolist())
    spots = "".join(_target(spot, axis_x, axis_y) for spot in item.spots if spot is not item.dot)
    dot = _target(item.dot, axis_x, axis_y, 4) if item.dot else ""
    return f'<g class="c{number}"><polyline class="curve" points="{line}"/>{spots}{dot}</g>'


def _target(spot: Spot, axis_x: _Axis, axis_y: _Axis, radius: float = 0) -> str:
    """A dot, or with radius 0 nothing but its tooltip."""
    x, y = axis_x.at(spot.x), axis_y.at(spot.y)
    dot = f'<circle class="dot" cx="{x}" cy="{y}" r="{radius}"/>' if radius else ""
    return f'<g>{dot}<circle class="target" cx="{x}" cy="{y}" r="7"/><title>{escape(spot.text)}</title></g>'


def _mark(spot: Spot, name: str, axis_x: _Axis, axis_y: _Axis) -> str:
    x, y = axis_x.at(spot.x), axis_y.at(spot.y)
    # To the lower left, which a curve of precision over recall leaves free.
    left = x - _LEFT > _LETTER * len(name)
    place = f'x="{x - 9 if left else x + 9:g}" y="{min(y + 19, axis_y.start - 5):g}"'
    return (
        f'<g class="mark"><path d="M{x:g} {y - 8:g}l8 8l-8 8l-8-8z"/><title>{escape(spot.text)}</title>'
        f'<text class="strong" {place} text-anchor="{"end" if left else "start"}">{escape(name)}</text></g>'
    )


def reliability_chart(title: str, unit: str, bins: Sequence[CalibrationBin]) -> str:
    """Share of right predictions over their confidence, both axes from 0 to 100%, and the line where they are equal.

    Bars are darker the more predictions they stand for; empty bins have none.

    Raises:
        ValueError: all bins are empty.
    """
    most = max((item.count for item in bins), default=0)
    if not most:
        raise ValueError(f'the chart "{title}" has no prediction to show')
    ticks = [n / 5 for n in range(6)]
    axis_x = _Axis(0, 1, _LEFT, _WIDTH - _RIGHT)
    axis_y = _Axis(0, 1, _UNIT_HEIGHT - _BOTTOM, _TOP + 18)
    parts = [_grid(ticks, ticks, axis_x, axis_y, _as_percent, _as_percent)]
    for item in bins:
        if item.accuracy is None or item.confidence is None:
            continue
        left, right, top = axis_x.at(item.low), axis_x.at(item.high), axis_y.at(item.accuracy)
        opacity = _PALEST + (1 - _PALEST) * math.sqrt(item.count / most)
        words = (
            f"Confidence {item.low:.0%} to {item.high:.0%}: {item.count:,} {unit}, {item.accuracy:.1%} right, "
            f"mean confidence {item.confidence:.1%}"
        )
        parts.append(
            f'<g><rect class="bar" x="{left + 1:.1f}" y="{top}" width="{right - left - 2:.1f}" '
            f'height="{axis_y.start - top:.1f}" opacity="{opacity:.2f}"/><rect class="target" x="{left}" '
            f'y="{axis_y.end}" width="{right - left:.1f}" height="{axis_y.start - axis_y.end}"/>'
            f"<title>{escape(words)}</title></g>"
        )
    corners = f"M{axis_x.start} {axis_y.start}L{axis_x.end} {axis_y.end}"
    parts.append(f'<path class="ideal" d="{corners}"/><text class="label" x="4" y="{_TOP}">right</text>')
    parts.append(_x_label("confidence", _UNIT_HEIGHT))
    return _figure(title, _UNIT_HEIGHT, "".join(parts))


@dataclass(frozen=True)
class Bar:
    """One bar: what stands before it, its length, and what stands after it."""

    name: str
    value: float
    text: str


def bar_chart(title: str, bars: Sequence[Bar]) -> str:
    """Horizontal bars from zero, one below the other; the longest value fills the width.

    Raises:
        ValueError: there is no bar, or one is negative.
    """
    if not bars or min(bar.value for bar in bars) < 0:
        raise ValueError(f'the chart "{title}" needs bars of zero or more')
    before = 8 + _LETTER * max(len(bar.name) for bar in bars)
    after = 8 + _LETTER * max(len(bar.text) for bar in bars)
    axis = _Axis(0, max(bar.value for bar in bars) or 1, before, _WIDTH - after)
    parts = []
    for number, bar in enumerate(bars):
        y, end = number * _BAR_STEP, axis.at(bar.value)
        parts.append(
            f'<text x="{before - 8}" y="{y + 15}" text-anchor="end">{escape(bar.name)}</text>'
            f'<rect class="bar" x="{before}" y="{y + 4}" width="{max(end - before, 1):.1f}" height="14" rx="3"/>'
            f'<text class="strong" x="{max(end, before + 1) + 7:.1f}" y="{y + 15}">{escape(bar.text)}</text>'
        )
    return _figure(title, len(bars) * _BAR_STEP, "".join(parts))


def scatter_chart(title: str, x_label: str, y_label: str, counts: Mapping[tuple[int, int], int]) -> str:
    """(x, y) -> how many, as dots whose areas grow with the number; a tooltip says x, y and number.

    Points closer than the chart can show are one dot, so the figure stays small whatever their number.

    Raises:
        ValueError: there is no point.
    """
    if not counts:
        raise ValueError(f'the chart "{title}" has no point to show')
    widths, heights = zip(*counts, strict=True)
    ticks_x, ticks_y = round_ticks(min(widths), max(widths), 6), round_ticks(min(heights), max(heights), 5)
    axis_x = _Axis(ticks_x[0], ticks_x[-1], _LEFT, _WIDTH - _RIGHT)
    axis_y = _Axis(ticks_y[0], ticks_y[-1], _HEIGHT - _BOTTOM, _TOP + 18)
    dots: dict[tuple[float, float], Counter[tuple[int, int]]] = {}
    for (x, y), count in counts.items():
        cell = (round(axis_x.at(x) / _CELL) * _CELL, round(axis_y.at(y) / _CELL) * _CELL)
        dots.setdefault(cell, Counter())[x, y] += count
    most = max(dot.total() for dot in dots.values())
    drawn = "".join(
        f'<circle class="spot" cx="{px}" cy="{py}" r="{3 + 6 * math.sqrt(dot.total() / most):.1f}">'
        f"<title>{_say(dot)}</title></circle>"
        for (px, py), dot in dots.items()
    )
    label = f'<text class="label" x="4" y="{_TOP}">{escape(y_label)}</text>'
    grid = _grid(ticks_x, ticks_y, axis_x, axis_y, _plain)
    return _figure(title, _HEIGHT, f'{grid}{label}{_x_label(x_label)}<g class="c0">{drawn}</g>')


def _say(dot: Counter[tuple[int, int]]) -> str:
    (x, y), _ = dot.most_common(1)[0]
    others = f" and {len(dot) - 1:,} near it" if len(dot) > 1 else ""
    return f"{x} × {y}{others}: {dot.total():,}"


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of one quantity, and the colour class of the style sheet that it is drawn in."""

    name: str
    mean: float
    std: float
    color: str


def spread_chart(title: str, spreads: Sequence[Spread]) -> str:
    """Means as dots on a scale from 0 to 1, and one standard deviation to either side as a band.

    Raises:
        ValueError: there is nothing to show.
    """
    if not spreads:
        raise ValueError(f'the chart "{title}" has nothing to show')
    names = [f"{spread.name} {spread.mean:.3f} ± {spread.std:.3f}" for spread in spreads]
    before = 8 + _LETTER * max(map(len, names))
    axis = _Axis(0, 1, before, _WIDTH - _RIGHT)
    bottom = len(spreads) * _SPREAD_STEP
    parts = []
    for value in (0, 0.25, 0.5, 0.75, 1):
        x = axis.at(value)
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="0" y2="{bottom}"/>')
        parts.append(f'<text x="{x}" y="{bottom + 16}" text-anchor="middle">{value:g}</text>')
    for number, (name, spread) in enumerate(zip(names, spreads, strict=True)):
        y = (number + 0.5) * _SPREAD_STEP
        low, middle, high = (axis.at(min(max(spread.mean + k * spread.std, 0), 1)) for k in (-1, 0, 1))
        parts.append(
            f'<text x="{before - 8}" y="{y + 4}" text-anchor="end">{escape(name)}</text>'
            f'<g class="{spread.color}">'
            f'<rect class="band" x="{low}" y="{y - 8}" width="{high - low:.1f}" height="16" rx="8"/>'
            f'<circle class="dot" cx="{middle}" cy="{y}" r="5"/></g>'
        )
    return _figure(title, bottom + 22, "".join(parts))


def shape_drawings(shapes_wh: Sequence[tuple[float, float]], longest_side: float) -> str:
    """Boxes of (width, height) drawn to one scale, with their numbers; ``longest_side`` is drawn 88 pixels long."""
    scale = 88 / longest_side
    items = []
    for width, height in shapes_wh:
        w, h = max(width * scale, 1), max(height * scale, 1)
        items.append(
            f'<li><svg width="{w + 2:.1f}" height="{h + 2:.1f}" aria-hidden="true">'
            f'<rect x="1" y="1" width="{w:.1f}" height="{h:.1f}"/></svg>'
            f"<span>{round(width, 1):g} × {round(height, 1):g}</span></li>"
        )
    return f'<ul class="shapes">{"".join(items)}</ul>'


def _figure(title: str, height: float, content: str, legend: str = "") -> str:
    return (
        f'<figure class="chart"><figcaption>{escape(title)}</figcaption>{legend}'
        f'<svg viewBox="0 0 {_WIDTH} {height:g}" role="img" aria-label="{escape(title)}">{content}</svg></figure>'
    )


def _x_label(text: str, height: float = _HEIGHT) -> str:
    x = (_LEFT + _WIDTH - _RIGHT) / 2
    return f'<text class="label" x="{x}" y="{height - 4}" text-anchor="middle">{escape(text)}</text>'


def _plain(value: float) -> str:
    return f"{value:g}"


def round_ticks(low: float, high: float, about: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten that enclose the range: nearly ``about`` of them, at least two."""
    if high <= low:
        pad = abs(low) / 10 or 0.5
        low, high = low - pad, high + pad
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    # A step below one is written as a division: 3 * 0.1 is not 0.3, 3 / 10 is.
    return [n / round(1 / step) if step < 1 else n * step for n in range(first, last + 1)]


@dataclass(frozen=True)
class _Axis:
    """Carries values low..high onto pixels start..end."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        if self.high == self.low:
            return (self.start + self.end) / 2
        return round(self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start), 1)


def _grid(
    ticks_x: Sequence[float],
    ticks_y: Sequence[float],
    axis_x: _Axis,
    axis_y: _Axis,
    format_y: Callable[[float], str],
    format_x: Callable[[float], str] = _plain,
) -> str:
    parts = []
    for value in ticks_y:
        y = axis_y.at(value)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{_LEFT - 7}" y="{y + 4}" text-anchor="end">{escape(format_y(value))}</text>')
    for value in ticks_x:
        if axis_x.low <= value <= axis_x.high:
            x = axis_x.at(value)
            parts.append(f'<text x="{x}" y="{axis_y.start + 16}" text-anchor="middle">{escape(format_x(value))}</text>')
    return "".join(parts)


def _curve(number: int, item: Series, axis_x: _Axis, axis_y: _Axis, format_y: Callable[[float], str]) -> str:
    places = [(axis_x.at(x), axis_y.at(y)) for x, y in item.points]
    line = " ".join(f"{x},{y}" for x, y in places)
    # Many dots would hide the line; the tooltips stay, on invisible dots.
    radius = 2.6 if len(places) <= _MOST_DOTS else 0
    dots = "".join(
        f'<g><circle class="dot" cx="{px}" cy="{py}" r="{radius}"/><circle class="target" cx="{px}" cy="{py}" r="7"/>'
        f"<title>{escape(item.name)}: {escape(format_y(y))} at {x:g}</title></g>"
        for (px, py), (x, y) in zip(places, item.points, strict=True)
    )
    return f'<g class="c{number}"><polyline class="curve" points="{line}"/>{dots}</g>'
