"""What is chosen from speeds that are known, and when nothing is timed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pixbox.config import Experiment
from pixbox.engine import arithmetic
from pixbox.engine.arithmetic import choose_arithmetic
from pixbox.engine.probe import Measured
from pixbox.engine.trainer import CompilationError

Speeds = dict[tuple[str, bool], float]


def choose(
    monkeypatch: pytest.MonkeyPatch,
    speeds: Speeds,
    *,
    hardware: str = "bf16",
    budget: float | None = None,
    **settings: Any,
) -> tuple[str, Any, str]:
    """Precision, compiled and the reason, of a training of 8 pictures a step; speeds are pictures/s."""

    def timed(task: Any, experiment: Experiment, *_: Any) -> Measured:
        training = experiment.training
        speed = speeds[training.precision, training.compile is True]
        if speed == 0:
            raise CompilationError("torch cannot compile the network here (no compiler)")
        return Measured(0, 8 / speed, None, 0, 0)

    def resolved(precision: str, accelerator: str) -> str:
        return hardware if precision == "auto" else precision

    monkeypatch.setattr(arithmetic, "time_training", timed)
    monkeypatch.setattr(arithmetic, "resolve_precision", resolved)
    experiment = Experiment.model_validate(
        {
            "name": "x",
            "data": {"root": ".", "batch_size": 8},
            "training": {"accelerator": "cpu", "max_steps": 1000, **settings},
        }
    )
    pictures: Any = range(80)
    chosen, told = choose_arithmetic(Any, experiment, pictures, budget, Path())  # type: ignore[arg-type]  # not used
    return chosen.training.precision, chosen.training.compile, told


def test_the_faster_precision_is_chosen_and_both_speeds_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    precision, compiled, told = choose(monkeypatch, {("bf16", False): 6.8, ("32", False): 3.2})
    assert (precision, compiled) == ("bf16", False)
    assert told == "Precision bf16 on cpu (bf16: 6.8 pictures/s, 32: 3.2)."
    assert choose(monkeypatch, {("bf16", False): 3.2, ("32", False): 6.8})[0] == "32"


def test_a_difference_that_may_be_chance_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose(monkeypatch, {("bf16", False): 5.0, ("32", False): 5.2})[0] == "bf16"


@pytest.mark.parametrize(
    ("settings", "hardware", "precision"),
    [
        ({"precision": "32"}, "bf16", "32"),
        ({"precision": "bf16"}, "bf16", "bf16"),
        ({}, "32", "32"),
        ({"max_steps": 199}, "bf16", "bf16"),
        ({"compile": "auto", "max_steps": 199}, "32", "32"),
        ({"compile": True, "precision": "32"}, "bf16", "32"),
    ],
)
def test_nothing_is_timed_where_there_is_no_choice_or_no_time_for_it(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], hardware: str, precision: str
) -> None:
    # Without speeds, timing would fail.
    found, compiled, _ = choose(monkeypatch, {}, hardware=hardware, **settings)
    assert (found, compiled) == (precision, settings.get("compile") is True)


def test_a_budget_says_whether_there_is_time(monkeypatch: pytest.MonkeyPatch) -> None:
    speeds: Speeds = {("bf16", False): 1.0, ("32", False): 2.0}
    assert choose(monkeypatch, speeds, budget=299)[0] == "bf16"
    assert choose(monkeypatch, speeds, budget=300, max_steps=1)[0] == "32"


@pytest.mark.parametrize(("speed", "kept"), [(6.0, False), (10.4, False), (10.6, True), (0, False)])
def test_a_compiled_network_is_kept_where_it_is_faster_by_more_than_chance(
    monkeypatch: pytest.MonkeyPatch, speed: float, kept: bool
) -> None:
    speeds: Speeds = {("bf16", False): 10.0, ("32", False): 4.0, ("bf16", True): speed}
    precision, compiled, told = choose(monkeypatch, speeds, compile="auto")
    assert (precision, compiled) == ("bf16", kept)
    assert ("Not compiled" in told) is not kept
    assert ("no compiler" in told) is (speed == 0)
