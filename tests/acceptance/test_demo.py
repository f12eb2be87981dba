"""`pixbox demo` by the front door: what it prints for each task, and that the commands it names work."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import get_args

import pytest

from acceptance.conftest import Command
from demo_cut_short import cut_short
from pixbox.config import Task

FIGURE = {"segmentation": "miou", "detection": "map_50", "classification": "accuracy"}
TASKS: tuple[Task, ...] = get_args(Task)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    cut_short(monkeypatch)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("task", TASKS)
def test_the_command_tells_the_figure_of_the_task_and_commands_that_work(
    task: Task, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = command("demo", "--task", task)
    assert done.status == 0, done.err
    run = Path("runs/demo" if task == "segmentation" else f"runs/demo_{task}")
    told = re.fullmatch(r"(\w+) ([01]\.\d{3}) on unseen scenes, after \d+ s of training\.", done.out.splitlines()[1])
    assert told is not None
    assert told[1].lower() == FIGURE[task]
    metrics = json.loads((run / "evaluation/test/metrics.json").read_text())
    assert float(told[2]) == pytest.approx(metrics[FIGURE[task]], abs=6e-4)
    assert f"Report: {(run / 'evaluation/test/report.html').resolve()}" in done.out
    hints = [shlex.split(line)[1:] for line in done.out.split("Next:\n")[1].splitlines()]
    assert [hint[0] for hint in hints] == ["predict", "train", "models"]
    for hint in hints:
        if "data.root=FOLDER" in hint:
            continue
        longer = ["--set", "training.max_steps=2"] if hint[0] == "train" else []
        followed = command(*hint, *longer)
        assert followed.status == 0, followed.err
    (results,) = (hints[0][index + 1] for index, word in enumerate(hints[0]) if word == "--out")
    assert list(Path(results).rglob("*_overlay.png"))


@pytest.mark.usefixtures("short")
def test_as_json_the_demo_gives_run_metrics_and_report(tmp_path: Path, command: Command) -> None:
    done = command("demo", "--task", "classification", "--out", tmp_path / "demo", "--json")
    assert done.status == 0, done.err
    assert done.json["run"] == str(tmp_path / "demo")
    assert 0 <= done.json["metrics"]["accuracy"] <= 1
    assert Path(done.json["report"]).is_file()


def test_an_unknown_task_is_named_and_leaves_nothing(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = command("demo", "--task", "detect")
    assert done.status == 2
    assert 'there is no task "detect". Did you mean "detection"?' in done.err
    assert list(tmp_path.iterdir()) == []
