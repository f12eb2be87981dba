"""The arithmetic of the benchmarks, worked by hand, and that all of them are listed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.__main__ import with_table
from benchmarks.measure import Case, Comparison, Goal, Measured, Spread, measure, peers

ROOT = Path(__file__).parents[2]


def nothing() -> None:
    pass


def measured(unit: str = "pictures/s", goals: tuple[Goal, ...] = ()) -> Measured:
    """Three rounds; the peer does half the work in a call."""
    cases = [Case("ours", nothing, 4.0), Case("peer", nothing, 2.0)]
    return Measured(Comparison("a title", unit, cases, goals), {"ours": (1.0, 2.0, 4.0), "peer": (2.0, 1.0, 2.0)})


def test_all_scripts_are_listed() -> None:
    listed = subprocess.run([sys.executable, "-m", "benchmarks", "--list"], cwd=ROOT, capture_output=True, text=True)
    assert listed.returncode == 0
    names = {line.split()[0] for line in listed.stdout.splitlines() if line}
    shared = {"__init__", "__main__", "measure", "models", "pictures"}
    assert {path.stem for path in (ROOT / "benchmarks").glob("*.py")} - shared <= names


def test_speeds_are_work_by_time() -> None:
    assert measured().figure("ours") == Spread(median=2.0, least=1.0, most=4.0)
    assert measured().figure("peer") == Spread(median=1.0, least=1.0, most=2.0)


def test_times_are_shown_in_their_unit() -> None:
    assert measured("ms").figure("ours") == Spread(median=2000.0, least=1000.0, most=4000.0)


def test_ratios_are_taken_within_each_round_for_the_same_work() -> None:
    # 4 pictures a second and 1; 2 and 2; 1 and 1. The ratio of the medians would be 2.
    assert measured().ratio("ours", "peer") == Spread(median=1.0, least=1.0, most=4.0)


def test_goals_are_judged_by_the_median() -> None:
    goals = (
        Goal("ours", "peer", 1.0, "reached"),
        Goal("ours", "peer", 1.1, "missed"),
        Goal("ours", None, 2.0, "reached: two seconds a call"),
        Goal("ours", None, 1.9, "missed"),
        Goal("ours", "another", 1.0, "not there"),
    )
    assert [reached for _, _, reached in measured(goals=goals).judged()] == [True, False, True, False, None]


def test_each_round_runs_each_case_and_turns_the_order_around() -> None:
    ran: list[str] = []
    cases = [Case("a", lambda: ran.append("a")), Case("b", lambda: ran.append("b"))]
    result = measure(Comparison("", "s", cases), rounds=2, stretch=0.0)
    # The first pair does not count.
    assert "".join(ran) == "abab" + "ba"
    assert [len(seconds) for seconds in result.seconds.values()] == [2, 2]


def test_cases_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="one name"):
        Comparison("", "s", [Case("a", nothing), Case("a", nothing)])


def test_a_library_that_is_not_there_is_left_out_with_its_reason() -> None:
    cases, left_out = peers(
        [
            ("json", "there", lambda: Case("there", nothing)),
            ("no_such_library", "not there", lambda: Case("never made", nothing)),
        ]
    )
    assert [case.name for case in cases] == ["there"]
    assert "no_such_library is not installed" in left_out["not there"]


def test_a_table_takes_the_place_of_the_former() -> None:
    text = "before\n<!-- a -->\nold\n<!-- /a -->\nafter\n"
    assert with_table(text, "a", "new\n") == "before\n<!-- a -->\n\nnew\n\n<!-- /a -->\nafter\n"
    with pytest.raises(ValueError, match="no place"):
        with_table(text, "b", "new\n")
