"""What fits into a time, by hand arithmetic and a clock that is set."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pixbox.config import Experiment, Interval, ScheduleConfig, TrainingConfig
from pixbox.engine import budget
from pixbox.engine.budget import (
    Overtime,
    affordable_interval,
    choose_length,
    fit_to_budget,
    read_duration,
    say_seconds,
    training_seconds,
)
from pixbox.engine.module import TrainingModule, TrainingPlan
from pixbox.engine.probe import Budget, Measured, Stopwatch, second_half
from pixbox.errors import ConfigError
from pixbox.optim import learning_rate_factor

FREE = Measured(start=0, step=1.0, validation=None, checkpoint=0, spent=0)


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("1h30m", 5400), ("1h30m5s", 5405), ("1h5s", 3605)]
)
def test_a_duration_is_read_in_hours_minutes_and_seconds(text: str, seconds: int) -> None:
    assert TrainingConfig(budget=text).budget == text
    assert read_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "30 m", "1.5h", "5m1h", "0s", "half an hour", "30m\n"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write a time"):
        TrainingConfig(budget=text)


def test_nineteen_of_twenty_parts_of_the_budget_are_planned() -> None:
    # 1,000 s less a reserve of 5 % are 950 s; an epoch of 10 steps takes 10 s.
    length = choose_length(1000, FREE, per_epoch=10, training=TrainingConfig())
    assert (length.epochs, length.steps, length.seconds) == (95, 950, 950)


def test_what_has_gone_by_is_taken_off() -> None:
    spent = Measured(start=20, step=1.0, validation=None, checkpoint=0, spent=130)
    # 950 - 130 - 20 = 800 s.
    assert choose_length(1000, spent, per_epoch=10, training=TrainingConfig()).epochs == 80


def test_validation_and_checkpoints_are_counted() -> None:
    measured = Measured(start=0, step=1.0, validation=1.0, checkpoint=0.5, spent=0)
    # An epoch: 10 s of steps, 1 s of validation, the best and the last checkpoint 1 s; 950 / 12 = 79.2.
    length = choose_length(1000, measured, per_epoch=10, training=TrainingConfig())
    assert (length.epochs, length.seconds) == (79, 79 * 12)
    # Every second epoch one more is kept: 12.25 s an epoch, 77.6.
    assert choose_length(1000, measured, per_epoch=10, training=TrainingConfig(save_every=2)).epochs == 77


@pytest.mark.parametrize(
    ("steps", "every", "validations", "last"),
    [
        (30, 10, 3, 3),  # at 10, 20, 30
        (30, 20, 2, 3),  # validated at 20 and 30
        (30, 4, 8, 9),  # 4, 8, (10), 12, 16, 20, 24, 28, 30
        (25, 10, 3, 3),  # 10, 20, 25
        (7, 10, 1, 1),  # 7
        (28, 4, 7, 8),  # 4, 8, (10), 12, 16, 20, 24, 28
    ],
)
def test_the_checkpoints_of_a_training_are_those_it_writes(steps: int, every: int, validations: int, last: int) -> None:
    measured = Measured(start=0, step=0.0, validation=100.0, checkpoint=1.0, spent=0)
    seconds = training_seconds(steps, measured, every, per_epoch=10, save_every=0)
    # Each validation also writes the best.
    assert seconds == validations * (100 + 1) + last


def test_validation_within_its_share_is_left_as_it_was_asked_for() -> None:
    measured = Measured(start=0, step=1.0, validation=15.0, checkpoint=0, spent=0)
    # 15 s after every 85 s are 15 %.
    assert affordable_interval(Interval(1), measured, per_epoch=85) == Interval(1)
    assert affordable_interval(Interval(85, "steps"), measured, per_epoch=10) == Interval(85, "steps")


def test_validation_that_would_eat_up_the_time_becomes_rarer() -> None:
    measured = Measured(start=0, step=1.0, validation=15.0, checkpoint=0, spent=0)
    assert affordable_interval(Interval(1), measured, per_epoch=10) == Interval(9)
    assert affordable_interval(Interval(5, "steps"), measured, per_epoch=10) == Interval(85, "steps")
    length = choose_length(2000, measured, per_epoch=10, training=TrainingConfig())
    assert length.evaluate_every == Interval(9)
    # 1,900 s: 18 rounds of 9 epochs and 15 s are 1,890 s; one epoch more would be validated once more.
    assert (length.epochs, length.seconds) == (162, 1890)


def test_where_few_epochs_fit_the_budget_is_filled_with_steps() -> None:
    length = choose_length(1000, FREE, per_epoch=500, training=TrainingConfig())
    assert (length.epochs, length.steps) == (None, 950)
    assert choose_length(1000, FREE, per_epoch=475, training=TrainingConfig()).epochs == 2


def test_less_than_an_epoch_is_validated_at_its_end() -> None:
    measured = Measured(start=0, step=1.0, validation=50.0, checkpoint=0, spent=0)
    assert choose_length(1000, measured, per_epoch=5000, training=TrainingConfig()).steps == 900


def test_a_budget_for_a_handful_of_steps_is_refused_and_says_what_would_do() -> None:
    measured = Measured(start=0, step=60.0, validation=100.0, checkpoint=0, spent=200)
    with pytest.raises(ConfigError) as error:
        choose_length(600, measured, per_epoch=5, training=TrainingConfig(budget="10m"))
    (fault,) = error.value.faults
    assert fault.where == "training.budget"
    assert fault.what.startswith("10m are too short")
    # The first interval of validation that leaves it its share is 10 steps: 200 + 600 + 100 s, and a twentieth unused.
    assert "about 16m" in fault.hint
    enough = choose_length(16 * 60, measured, per_epoch=5, training=TrainingConfig(budget="16m"))
    assert enough.steps >= 10


def test_the_chosen_length_is_that_of_the_learning_rates() -> None:
    length = choose_length(1000, FREE, per_epoch=10, training=TrainingConfig())
    halfway = learning_rate_factor(ScheduleConfig(name="poly", power=1.0), 475, length.steps, 10)
    assert halfway == pytest.approx(0.5)


def test_the_earlier_half_of_the_readings_is_warm_up() -> None:
    # Steps of 9, 9, 1, 1 and 1 s.
    assert second_half([0, 9, 18, 19, 20, 21]) == 1.0
    assert second_half([3, 5]) == 2.0


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.3412, "0.34 s"), (29.4, "29 s"), (1740, "29 min"), (7810, "2 h 10 min")]
)
def test_a_length_of_time_is_said_in_its_own_unit(seconds: float, said: str) -> None:
    assert say_seconds(seconds) == said


class Strategy:
    """Of a single process."""

    def broadcast(self, value: Any) -> Any:
        return value

    def reduce_boolean_decision(self, decision: bool, all: bool) -> bool:
        return decision


class Trainer(SimpleNamespace):
    def __init__(self, clock: Clock, *, validates: bool = True) -> None:
        super().__init__(
            strategy=Strategy(),
            enable_validation=validates,
            val_check_batch=0,
            should_stop=False,
            world_size=1,
            saved=[],
        )
        self.clock = clock

    def save_checkpoint(self, path: Path) -> None:
        self.clock.now += 0.5
        self.saved.append(path)


def module_at(step: int, total: int) -> TrainingModule:
    module = TrainingModule.__new__(TrainingModule)
    vars(module).update(progress=SimpleNamespace(step=step), plan=TrainingPlan(10, total), stop_agreed=False)
    return module


def test_a_stopwatch_leaves_warm_up_out_and_counts_the_whole_validation_set(tmp_path: Path) -> None:
    clock = Clock()
    trainer: Any = Trainer(clock)
    watch = Stopwatch(Budget(100, began=0, clock=clock), 4.0, val_pictures=200, folder=tmp_path)
    clock.now = 10
    watch.setup(trainer, module_at(0, 99), "fit")
    for duration in (8, 3, 2, 2):  # 4 s must be seen after the first step
        clock.now += duration
        watch.on_train_batch_end(trainer, module_at(1, 99), None, None, 0)
    assert trainer.val_check_batch == 1
    clock.now += 6  # the workers start
    for _ in range(12):
        clock.now += 0.25
        watch.on_validation_batch_end(trainer, module_at(4, 99), None, None, 0)
    watch.on_validation_end(trainer, module_at(4, 99))
    clock.now += 1  # the journal
    watch.on_train_end(trainer, module_at(4, 99))
    assert trainer.should_stop
    assert watch.measured == Measured(start=6, step=2, validation=6 + 1 + 200 * 0.25, checkpoint=0.5, spent=35.5)


def test_a_stopwatch_stops_at_once_where_two_steps_take_half_of_the_budget(tmp_path: Path) -> None:
    clock = Clock()
    trainer: Any = Trainer(clock, validates=False)
    watch = Stopwatch(Budget(100, began=0, clock=clock), 4.0, val_pictures=0, folder=tmp_path)
    for seen in (False, True):
        clock.now += 30
        watch.on_train_batch_end(trainer, module_at(1, 99), None, None, 0)
        assert trainer.should_stop == seen


@pytest.mark.parametrize("validates", [True, False])
def test_a_training_that_would_last_a_tenth_too_long_is_ended_with_all_saved(
    validates: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    trainer: Any = Trainer(clock, validates=validates)
    watch = Overtime(Budget(600, began=0, clock=clock), 40, tmp_path / "last.ckpt")
    # 40 s are kept for what comes after the last step.
    clock.now = 619
    watch.on_train_batch_end(trainer, module_at(50, 100), None, None, 0)
    assert (trainer.val_check_batch, trainer.should_stop) == (0, False)
    clock.now = 621
    watch.on_train_batch_end(trainer, module_at(51, 100), None, None, 0)
    assert "step 51 of 100" in caplog.text
    if validates:
        assert trainer.val_check_batch == 1
        watch.on_validation_end(trainer, module_at(51, 100))
    else:
        assert trainer.saved == [tmp_path / "last.ckpt"]
    assert trainer.should_stop


def test_the_last_step_is_not_overtime(tmp_path: Path) -> None:
    clock = Clock()
    trainer: Any = Trainer(clock)
    watch = Overtime(Budget(600, began=0, clock=clock), 40, tmp_path / "last.ckpt")
    clock.now = 1000
    watch.on_train_batch_end(trainer, module_at(100, 100), None, None, 0)
    assert not watch.is_over


def test_an_interval_that_reaches_beyond_the_end_stays_as_it_was_asked_for() -> None:
    measured = Measured(start=0, step=1.0, validation=50.0, checkpoint=0, spent=0)
    length = choose_length(500, measured, per_epoch=1000, training=TrainingConfig())
    assert (length.steps, length.evaluate_every) == (425, Interval(1))
    assert affordable_interval(Interval(100, "steps"), measured, per_epoch=1000) == Interval(284, "steps")


def test_where_the_first_steps_see_halved_pictures_both_kinds_are_timed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def probe(task: Any, experiment: Any, train: Any, val: Any, plan: TrainingPlan, *_: Any) -> Measured:
        halved = plan.halved_steps > 0
        return Measured(2, 0.25 if halved else 1.0, None if val is None else 3.0, 0.1, 20 if halved else 10)

    monkeypatch.setattr(budget, "time_training", probe)
    plain = Experiment.model_validate({"name": "x", "data": {"root": "."}, "training": {"budget": "10m"}})
    mixed = plain.model_copy(update={"training": plain.training.model_copy(update={"halved_first": 0.6})})
    pictures: Any = range(80)  # 10 steps of 8
    one, measured, _ = fit_to_budget(Any, plain, pictures, pictures, Budget(600, 0.0), tmp_path)
    two, mean, _ = fit_to_budget(Any, mixed, pictures, pictures, Budget(600, 0.0), tmp_path)
    # 0.6 of the steps at 0.25 s, 0.4 at 1 s.
    assert (measured.step, mean.step, mean.validation, mean.spent) == (1.0, pytest.approx(0.55), 3.0, 20)
    assert two.training.epochs > 1.5 * one.training.epochs
