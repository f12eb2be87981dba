import re

import pytest

from pixbox.report.charts import Series, line_chart, round_ticks


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
