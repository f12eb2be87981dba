"""Line charts as inline SVG; colours and fonts come from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 440, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 12, 38
_MOST_DOTS = 40


@dataclass(frozen=True)
class Series:
    """One curve: its name and its (x, y) points, x ascending; y is finite."""

    name: str
    points: Sequence[tuple[float, float]]


def line_chart(title: str, x_label: str, series: Sequence[Series], format_y: Callable[[float], str]) -> str:
    """A titled figure with a legend, axes from round number to round number, and a tooltip at every point.

    Raises:
        ValueError: no series has a point.
    """
    points = [point for item in series for point in item.points]
    if not points:
        raise ValueError(f'the chart "{title}" has no point to show')
    ticks_x = round_ticks(min(x for x, _ in points), max(x for x, _ in points), 6)
    ticks_y = round_ticks(min(y for _, y in points), max(y for _, y in points), 5)
    axis_x = _Axis(min(x for x, _ in points), max(x for x, _ in points), _LEFT, _WIDTH - _RIGHT)
    axis_y = _Axis(ticks_y[0], ticks_y[-1], _HEIGHT - _BOTTOM, _TOP)
    parts = [_grid(ticks_x, ticks_y, axis_x, axis_y, format_y)]
    parts += [_curve(number, item, axis_x, axis_y, format_y) for number, item in enumerate(series)]
    parts.append(
        f'<text class="label" x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 4}" text-anchor="middle">'
        f"{escape(x_label)}</text>"
    )
    legend = "".join(
        f'<li><span class="dash c{number}"></span>{escape(item.name)}</li>' for number, item in enumerate(series)
    )
    return (
        f'<figure class="chart"><figcaption>{escape(title)}</figcaption><ul class="legend">{legend}</ul>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg></figure>'
    )


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
    ticks_x: Sequence[float], ticks_y: Sequence[float], axis_x: _Axis, axis_y: _Axis, format_y: Callable[[float], str]
) -> str:
    parts = []
    for value in ticks_y:
        y = axis_y.at(value)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{_LEFT - 7}" y="{y + 4}" text-anchor="end">{escape(format_y(value))}</text>')
    for value in ticks_x:
        if axis_x.low <= value <= axis_x.high:
            x = axis_x.at(value)
            parts.append(f'<text x="{x}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{value:g}</text>')
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
