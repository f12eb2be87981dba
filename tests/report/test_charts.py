import re

import numpy as np
import pytest

from html_page import Page
from pixbox.metrics import CalibrationBin
from pixbox.report.charts import (
    Bar,
    Series,
    Spot,
    Spread,
    Trace,
    bar_chart,
    line_chart,
    reliability_chart,
    round_ticks,
    scatter_chart,
    shape_drawings,
    spread_chart,
    unit_chart,
)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.31, 0.52, [0.3, 0.35, 0.4, 0.45, 0.5, 0.55]),
        (1, 30, [0, 10, 20, 30]),
        (-3, 4, [-4, -2, 0, 2, 4]),
        (0.0, 3e-4, [0.0, 1e-4, 2e-4, 3e-4]),
    ],
)
def test_ticks_are_round_numbers_that_enclose_the_range(low, high, expected):
    assert round_ticks(low, high, 5) == pytest.approx(expected)


@pytest.mark.parametrize("value", [0.0, 5.0, -2.0, 1e-6])
def test_ticks_of_a_single_value_enclose_it(value):
    ticks = round_ticks(value, value, 5)
    assert ticks[0] < value < ticks[-1]
    assert len(ticks) < 20


def test_curve_runs_through_its_points():
    chart = line_chart("Loss", "epoch", [Series("training", [(0, 0.0), (5, 1.0), (10, 0.5)])], str)
    (points,) = re.findall(r'polyline class="curve" points="([^"]+)"', chart)
    (left, bottom), (middle, top), (right, half) = (map(float, pair.split(",")) for pair in points.split())
    assert middle == pytest.approx((left + right) / 2)
    assert half == pytest.approx((top + bottom) / 2)
    # In an SVG y grows downwards.
    assert top < bottom


def test_chart_of_one_point_shows_a_dot():
    chart = line_chart("Loss", "epoch", [Series("training", [(1, 0.7)])], str)
    assert len(re.findall('class="dot"', chart)) == 1
    assert "nan" not in chart


def test_chart_without_points_is_refused():
    with pytest.raises(ValueError, match="Loss"):
        line_chart("Loss", "epoch", [Series("training", [])], str)


def test_bars_are_as_long_as_their_values():
    chart = bar_chart("Sizes", [Bar("a", 200, "200"), Bar("<b>", 50, "50"), Bar("c", 100, "100")])
    widths = [float(width) for width in re.findall(r'class="bar"[^>]* width="([\d.]+)"', chart)]
    assert widths == pytest.approx([widths[0], widths[0] / 4, widths[0] / 2], abs=0.1)
    assert "&lt;b&gt;" in chart


def test_dots_lie_at_their_values_and_grow_with_their_number():
    chart = scatter_chart("Sizes", "width", "height", {(100, 100): 1, (200, 300): 9})
    (x1, y1, r1), (x2, y2, r2) = (map(float, dot) for dot in re.findall(r'cx="(\S+)" cy="(\S+)" r="(\S+)"', chart))
    # In an SVG y grows downwards.
    assert x1 < x2
    assert y1 > y2
    assert r1 < r2
    assert "200 × 300: 9</title>" in chart


def test_dots_that_cannot_be_told_apart_are_one_and_none_is_lost():
    counts = {(1000 + x, 1000 + y): 1 for x in range(120) for y in range(120)} | {(5000, 9000): 7}
    chart = scatter_chart("Sizes", "width", "height", counts)
    numbers = [int(number.replace(",", "")) for number in re.findall(r": ([\d,]+)</title>", chart)]
    assert len(numbers) < 30
    assert sum(numbers) == 120 * 120 + 7


def test_band_reaches_one_standard_deviation_to_either_side():
    chart = spread_chart("Mean", [Spread("red", 0.5, 0.25, "red"), Spread("blue", 0.9, 0.3, "blue")])
    ends = [float(x) for x in re.findall(r'class="grid" x1="(\S+)"', chart)]
    bands = [(float(x), float(x) + float(w)) for x, w in re.findall(r'class="band" x="(\S+)" \S+ width="(\S+)"', chart)]
    assert bands[0] == pytest.approx((ends[1], ends[3]), abs=0.2)
    # 0.9 + 0.3 lies beyond the scale.
    assert bands[1][1] == pytest.approx(ends[4], abs=0.2)


def test_shapes_are_drawn_to_one_scale():
    drawn = re.findall(r'<rect x="1" y="1" width="(\S+)" height="(\S+)"', shape_drawings([(10, 20), (40, 5)], 40))
    assert [(float(w), float(h)) for w, h in drawn] == [(22, 44), (88, 11)]


def polylines(chart):
    """The points of each curve, (K, 2)."""
    lines = re.findall(r'polyline class="curve" points="([^"]+)"', chart)
    return [np.array([[float(part) for part in pair.split(",")] for pair in line.split()]) for line in lines]


def test_shares_run_from_zero_to_all_on_both_axes():
    corners = Trace("a", np.array([[0, 0], [0.25, 1], [1, 1]]), [], Spot(0.5, 0.5, "half <b>"))
    chart = unit_chart("Shares", "x", "y", [corners], (Spot(1, 0, "all"), "there"))
    ((left, bottom), (quarter, top), (right, _)) = polylines(chart)[0]
    assert quarter == pytest.approx(left + (right - left) / 4, abs=0.1)
    ((x, y),) = re.findall(r'class="dot" cx="(\S+)" cy="(\S+)"', chart)
    assert (float(x), float(y)) == pytest.approx(((left + right) / 2, (top + bottom) / 2), abs=0.1)
    # The mark's diamond starts eight pixels above its place.
    (mark,) = re.findall(r'<path d="M(\S+) (\S+)l', chart)
    assert (float(mark[0]), float(mark[1])) == pytest.approx((right, bottom - 8))
    assert "half &lt;b&gt;" in chart
    assert chart.count(">100%</text>") == 2


def test_curve_of_many_points_is_short_and_stays_where_it_is():
    x = np.linspace(0, 1, 20_000)
    rough = 0.5 + 0.4 * np.sin(9 * x) * (1 - x)
    (line,) = polylines(unit_chart("Shares", "x", "y", [Trace("a", np.stack((x, rough), 1), [])], None))
    assert len(line) < 200
    (left, right), span = line[[0, -1], 0], np.ptp(line[:, 1])
    drawn = np.interp(x, (line[:, 0] - left) / (right - left), line[:, 1])
    expected = line[0, 1] + (0.5 - rough) * span / np.ptp(rough)
    assert np.abs(drawn - expected).max() < 1


def test_charts_of_nothing_are_refused():
    with pytest.raises(ValueError, match="bars"):
        bar_chart("Sizes", [])
    with pytest.raises(ValueError, match="bars"):
        bar_chart("Sizes", [Bar("a", -1, "")])
    with pytest.raises(ValueError, match="no point"):
        scatter_chart("Sizes", "", "", {})
    with pytest.raises(ValueError, match="nothing"):
        spread_chart("Mean", [])
    with pytest.raises(ValueError, match="1 to 10 curves"):
        unit_chart("Shares", "x", "y", [], None)


def test_axis_of_shares_does_not_pass_100_percent():
    chart = line_chart("Scores", "epoch", [Series("accuracy", [(1, 1.0), (2, 1.0)])], "{:.0%}".format, ceiling=1.0)
    assert ">100%<" in chart
    assert ">105%<" not in chart


def test_bars_of_confidence_reach_the_share_that_is_right():
    bins = [CalibrationBin(0.0, 0.5, 0, None, None), CalibrationBin(0.5, 1.0, 4, 0.9, 0.5)]
    chart = reliability_chart("Calibration", "pictures", bins)
    (bar,) = [rect for rect in Page(chart).all("rect") if rect["class"] == "bar"]
    ideal = [float(part) for part in re.findall(r"[\d.]+", re.search(r'class="ideal" d="([^"]+)"', chart)[1])]
    left, bottom, right, top = ideal
    assert float(bar["x"]) + float(bar["width"]) / 2 == pytest.approx(left + 0.75 * (right - left), abs=0.1)
    assert float(bar["y"]) == pytest.approx((top + bottom) / 2, abs=0.1)
    assert "4 pictures, 50.0% right, mean confidence 90.0%" in chart
    with pytest.raises(ValueError, match="no prediction"):
        reliability_chart("Calibration", "pictures", bins[:1])
