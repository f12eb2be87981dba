from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

import pixbox
from demo_cut_short import cut_short, draw_few_scenes
from pixbox.config import Task, read_experiment
from pixbox.demonstration import experiment as room

RECIPES = Path(__file__).parents[2] / "recipes"
RECIPE = {"segmentation": "demo_aerial", "detection": "demo_buildings", "classification": "demo_tiles"}
TASKS: tuple[Task, ...] = get_args(Task)


@pytest.fixture
def few_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    draw_few_scenes(monkeypatch)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    cut_short(monkeypatch)


@pytest.mark.usefixtures("few_scenes")
@pytest.mark.parametrize("task", TASKS)
def test_the_recipe_is_the_experiment_of_the_demo(task: Task, tmp_path: Path) -> None:
    room.write_demo_scenes(task, tmp_path, seed=0)
    demo = room.demo_experiment(task, tmp_path, seed=0).model_dump(mode="json")
    root = demo["data"]["root"]
    recipe = read_experiment(RECIPES / f"{RECIPE[task]}.yaml", {"data.root": root}).model_dump(mode="json")
    assert {**recipe, "origin": ""} == {**demo, "origin": ""}


@pytest.mark.parametrize("task", TASKS)
def test_the_data_of_the_recipe_are_where_the_demo_draws_them_by_default(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Path] = []

    def remember(_: Task, scenes: Path, __: int) -> None:
        drawn.append(scenes.resolve())
        raise KeyboardInterrupt

    monkeypatch.setattr(room, "write_demo_scenes", remember)
    monkeypatch.chdir(RECIPES.parent)
    with pytest.raises(KeyboardInterrupt):
        pixbox.demo(task=task)
    recipe = read_experiment(RECIPES / f"{RECIPE[task]}.yaml")
    assert Path(recipe.data.root).is_relative_to(drawn[0])


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("task", TASKS)
def test_the_demo_leaves_a_run_with_a_report_on_unseen_scenes(task: Task, tmp_path: Path) -> None:
    run, evaluation = pixbox.demo(tmp_path / "demo", task=task)
    assert run.run == tmp_path / "demo"
    assert (run.run / "checkpoints/best.ckpt").is_file()
    assert evaluation.report == tmp_path / "demo/evaluation/test/report.html"
    names = {"background", "building", "vegetation", "road"}
    if task == "segmentation":
        assert set(evaluation.metrics["class_iou"]) == names
    assert set(pixbox.load(run.run).labels.names) == ({"building"} if task == "detection" else names)
    unseen = 2 if task != "classification" else len(list((tmp_path / "demo/scenes/tiles/test").rglob("*.png")))
    assert evaluation.metrics["images"] == unseen
    with pytest.raises(pixbox.PixboxError, match="not overwritten"):
        pixbox.demo(tmp_path / "demo", task=task)
