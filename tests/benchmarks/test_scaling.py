"""The laws that are fitted to measured costs, against laws that are known."""

from __future__ import annotations

import pytest

pytest.importorskip("matplotlib", reason="the plots need the extra `bench`")

from benchmarks.scaling import fitted_exponent


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_a_power_law_is_found_behind_fixed_costs(exponent: float) -> None:
    # The fixed cost is all that is seen at the smallest sizes.
    points = [(size, 1e-6 * size**exponent + (0.5 if size < 100 else 0.0)) for size in (1, 10, 100, 1_000, 10_000)]
    assert fitted_exponent(points, least=1e-9) == pytest.approx(exponent)


def test_costs_below_the_grain_of_the_clock_give_no_law() -> None:
    assert fitted_exponent([(1, 1e-5), (10, 1e-4)], least=1e-3) is None
    assert fitted_exponent([(1, 1.0)], least=1e-3) is None


def test_a_cost_that_is_not_known_counts_as_the_least_that_could_be_told() -> None:
    assert fitted_exponent([(1, 1e-9), (10, 1.0)], least=0.1) == pytest.approx(1.0)
