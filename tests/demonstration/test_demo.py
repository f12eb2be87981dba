from __future__ import annotations

from pathlib import Path

import pytest

import pixbox
from pixbox.config import read_experiment
from pixbox.demonstration import experiment as room

RECIPE = Path(__file__).parents[2] / "recipes/demo_aerial.yaml"


@pytest.fixture
def few_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_COUNTS", {"train": 4, "val": 1, "test": 2})


@pytest.mark.usefixtures("few_scenes")
def test_the_recipe_is_the_experiment_of_the_demo(tmp_path: Path) -> None:
    room.write_demo_scenes(tmp_path, seed=0)
    demo = room.demo_experiment(tmp_path, seed=0).model_dump(mode="json")
    recipe = read_experiment(RECIPE, {"data.root": str(tmp_path)}).model_dump(mode="json")
    assert {**recipe, "origin": ""} == {**demo, "origin": ""}


@pytest.mark.usefixtures("few_scenes")
def test_the_demo_leaves_a_run_with_a_report_on_unseen_scenes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = room.demo_experiment

    def short(scenes: Path, seed: int) -> pixbox.Experiment:
        made = whole(scenes, seed)
        return made.model_copy(update={"training": made.training.model_copy(update={"epochs": 1})})

    monkeypatch.setattr(room, "demo_experiment", short)
    run, evaluation = pixbox.demo(tmp_path / "demo")
    assert run.run == tmp_path / "demo"
    assert (run.run / "checkpoints/best.ckpt").is_file()
    assert evaluation.report == tmp_path / "demo/evaluation/test/report.html"
    assert evaluation.metrics["images"] == 2
    assert set(evaluation.metrics["class_iou"]) == {"background", "building", "vegetation", "road"}
    with pytest.raises(pixbox.PixboxError, match="not overwritten"):
        pixbox.demo(tmp_path / "demo")
