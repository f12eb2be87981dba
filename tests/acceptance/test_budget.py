"""`pixbox train --budget`: what fits is chosen, and the training is the one that it says."""

from __future__ import annotations

import csv
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import pixbox
from pixbox.config import Experiment, read_experiment
from pixbox.engine import budget
from pixbox.engine.trainer import plan_training
from tiny import experiment
from tiny import pixbox as real_command


def weights(run: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    return state


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return [{name: text for name, text in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def assert_equal_runs(one: Path, other: Path) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    assert rows(one) == rows(other)


def test_a_budget_is_kept_and_the_choice_is_said_and_written(scenes: Path, tmp_path: Path, command: Any) -> None:
    (tmp_path / "there").mkdir()
    config = write(tmp_path / "there", experiment(scenes, training__ema=0.9))
    began = time.monotonic()
    done = command("train", config, "--out", tmp_path / "there/run", "--budget", "8s", "--json")
    # On a machine that slows down, it ends a tenth later; then Python has to come to its end.
    assert time.monotonic() - began < 1.1 * 8 + 4
    assert done.status == 0, done.err
    run = tmp_path / "there/run"
    chosen = read_experiment(run / "config.yaml").training
    assert chosen.budget is None
    assert chosen.epochs > 2
    assert f"Chosen: {chosen.epochs} epochs" in (run / "train.log").read_text()
    assert "Budget 8s" in done.err
    assert "in place of training.epochs 2" in done.err
    # What was tried is gone.
    assert sorted(path.name for path in run.parent.iterdir()) == ["config.yaml", "run"]


def test_a_run_in_a_budget_equals_one_with_these_epochs(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan(monkeypatch, seconds_of_a_step=2.25)
    config = write(tmp_path, experiment(scenes, training__ema=0.9))
    timed = pixbox.train(config, out=tmp_path / "timed", budget="1m")
    # Four steps an epoch, 57 s without the reserve.
    assert (timed.epochs, timed.steps) == (6, 24)
    by_hand = pixbox.train(config, {"training.epochs": 6}, out=tmp_path / "by_hand")
    assert_equal_runs(timed.run, by_hand.run)
    assert (timed.run / "config.yaml").read_text() == (by_hand.run / "config.yaml").read_text()


def test_a_run_in_a_budget_goes_on_with_its_plan(scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan(monkeypatch, seconds_of_a_step=2.25)
    config = write(tmp_path, experiment(scenes, training__budget="1m", training__save_every=3))
    whole = pixbox.train(config, out=tmp_path / "whole")
    half = pixbox.train(config, out=tmp_path / "half")
    (half.run / "checkpoints/epoch-0003.ckpt").replace(half.run / "checkpoints/last.ckpt")
    # By its first configuration, which knows the budget but not the plan.
    resumed = pixbox.train(config, out=half.run, resume=True)
    assert (resumed.epochs, whole.epochs) == (6, 6)
    assert_equal_runs(resumed.run, whole.run)


def test_a_budget_of_less_than_an_epoch_is_trained_in_steps(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan(monkeypatch, seconds_of_a_step=4.0)
    run = pixbox.train(write(tmp_path, experiment(scenes)), out=tmp_path / "run", budget="1m")
    assert run.steps == 14
    assert read_experiment(run.run / "config.yaml").training.max_steps == 14
    assert [row["step"] for row in rows(run.run)] == ["4", "8", "12", "14"]


def test_a_budget_too_short_for_a_training_writes_nothing(
    scenes: Path, tmp_path: Path, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan(monkeypatch, seconds_of_a_step=7.0)
    done = command("train", write(tmp_path, experiment(scenes)), "--out", tmp_path / "run", "--budget", "1m")
    assert done.status == 2
    assert "training.budget: 1m are too short" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_what_is_no_time_is_refused(scenes: Path, tmp_path: Path, command: Any) -> None:
    done = command("train", write(tmp_path, experiment(scenes)), "--out", tmp_path / "run", "--budget", "half an hour")
    assert done.status == 2
    assert '"90s", "30m" or "1h30m"' in done.err


def test_a_budget_for_a_run_that_has_a_plan_is_refused(scenes: Path, tmp_path: Path, command: Any) -> None:
    config = write(tmp_path, experiment(scenes, training__epochs=1))
    pixbox.train(config, out=tmp_path / "run")
    done = command("train", tmp_path / "run", "--resume", "--budget", "1m")
    assert done.status == 2
    assert "--budget: a budget plans a training before its first step" in done.err


def test_a_budget_does_not_plan_two_stages(scenes: Path, tmp_path: Path) -> None:
    coarse = {"classes": [{"name": "ground", "value": 0}, {"name": "other", "values": [80, 200]}], "ignore": [255]}
    config = experiment(scenes, first_stage={"epochs": 1, "labels": coarse})
    with pytest.raises(pixbox.PixboxError, match="not two stages"):
        pixbox.train(write(tmp_path, config), out=tmp_path / "run", budget="1m")
    assert not (tmp_path / "run").exists()


def test_max_steps_decides_also_beyond_the_epochs(scenes: Path, tmp_path: Path) -> None:
    # Two epochs are eight steps.
    config = write(tmp_path, experiment(scenes, training__max_steps=11, schedule={"name": "poly", "power": 1.0}))
    run = pixbox.train(config, out=tmp_path / "run")
    assert run.steps == 11
    history = rows(run.run)
    assert [row["step"] for row in history] == ["4", "8", "11"]
    # The last step is the eleventh, 10 of 11 parts down.
    assert float(history[-1]["lr_decoder"]) == pytest.approx(0.01 / 11)
    longer = pixbox.train(run.run, {"training.max_steps": 13}, resume=True)
    assert longer.steps == 13


@pytest.mark.parametrize(("epochs", "max_steps", "total"), [(3, None, 12), (3, 5, 5), (3, 40, 40)])
def test_a_plan_is_of_epochs_or_of_max_steps_where_they_are_set(
    scenes: Path, epochs: int, max_steps: int | None, total: int
) -> None:
    config = Experiment.model_validate(experiment(scenes, training__epochs=epochs, training__max_steps=max_steps))
    assert plan_training(config, pictures=8, world=1).total_steps == total


@pytest.mark.slow
def test_two_processes_train_by_one_plan(scenes: Path, tmp_path: Path) -> None:
    config = write(tmp_path, experiment(scenes, training__devices=2, training__evaluate_every=1000))
    done = real_command("train", config, "--budget", "60s", "--out", "run", "--json", cwd=tmp_path)
    assert done.status == 0, done.err
    chosen = read_experiment(tmp_path / "run/config.yaml").training
    # Two steps an epoch; with another plan in one of them, they would wait for each other.
    assert 2 * chosen.epochs == plan_training(read_experiment(tmp_path / "run/config.yaml"), 8, world=2).total_steps
    assert done.json["steps"] == 2 * chosen.epochs or "the plan is not done" in done.err


def write(folder: Path, config: dict[str, Any]) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def plan(monkeypatch: pytest.MonkeyPatch, seconds_of_a_step: float) -> None:
    """Time for real, but plan with round figures: what a machine measures differs from run to run."""
    probe = budget.time_training

    def rounded(*arguments: Any) -> budget.Measured:
        assert probe(*arguments).step > 0
        return budget.Measured(start=0, step=seconds_of_a_step, validation=0.0, checkpoint=0, spent=0)

    monkeypatch.setattr(budget, "time_training", rounded)
    monkeypatch.setattr(budget, "_PROBE_SHARE", 0.0)
