"""Comparisons of saved evaluations of every task, without training: verdicts, pictures that changed, the page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from html_page import Page
from pixbox.boxes import Selection
from pixbox.comparison import Comparison, compare_runs, in_words
from pixbox.errors import ConfigError, RunError
from pixbox.labels import LabelMap
from pixbox.metrics import collector_for, write_pictures
from pixbox.report import write_comparison_page
from pixbox.sample import Boxes, Category, Mask, Target

TASKS = {"segmentation": "miou", "detection": "map", "classification": "accuracy"}


def labels(*names: str) -> LabelMap:
    return LabelMap.model_validate({"classes": [{"name": name, "value": n} for n, name in enumerate(names)]})


def answer(task: str, right: bool) -> tuple[object, Target]:
    """A picture of the first class, and a prediction that is right or wrong."""
    if task == "segmentation":
        return torch.full((2, 2), int(not right), dtype=torch.uint8), Mask(np.zeros((2, 2), dtype=np.uint8))
    if task == "classification":
        return torch.tensor([float(right), float(not right)]), Category(0)
    box = torch.tensor([[0.0, 0, 8, 8]])
    truth = Boxes(box.numpy(), np.zeros(1, dtype=np.int64), np.zeros(1, dtype=bool), np.zeros(1, dtype=bool))
    return Selection(box if right else box + 20, torch.zeros(1, dtype=torch.int64), torch.ones(1)), truth


def evaluated(run: Path, task: str, right: str, classes: LabelMap | None = None, first: int = 0) -> Path:
    """A run folder with the evaluation of a picture for each sign: "x" is right, "-" is wrong."""
    collector = collector_for(task, classes or labels("cat", "dog"))
    for index, sign in enumerate(right, start=first):
        collector.add(index, f"p{index}", *answer(task, sign == "x"))
    write_pictures(run / "evaluation/val/pictures.npz", collector.finish())
    return run


def compared(tmp_path: Path, a: str, b: str, task: str = "classification") -> Comparison:
    return compare_runs(evaluated(tmp_path / "a", task, a), evaluated(tmp_path / "b", task, b), "val")


@pytest.mark.parametrize("task", TASKS)
def test_a_run_that_is_right_where_the_other_is_not_is_better(task: str, tmp_path: Path) -> None:
    found = compared(tmp_path, "x---------", "-xxxxxxxxx", task)
    assert found.chief == TASKS[task]
    chief = found.figures[found.chief]
    assert chief.is_clear
    assert (chief.difference or 0) > 0
    assert found.verdict.startswith(f"B is better, by more than noise ({found.chief} +0.")
    assert [change.id for change in found.worse] == ["p0"]
    assert {change.id for change in found.better} == {f"p{n}" for n in range(1, 10)}
    assert all((change.a, change.b) == (0, pytest.approx(1)) for change in found.better)
    assert found.changed_classes[0][0] == "cat"
    assert "p9" in in_words(found)


@pytest.mark.parametrize("task", TASKS)
def test_the_page_of_every_task_is_whole(task: str, tmp_path: Path) -> None:
    found = compared(tmp_path, "x-x-x-x-x-", "-xxxx-x-xx", task)
    page = Page(write_comparison_page(found, tmp_path / "page.html").read_text())
    assert "The two cannot be told apart on these pictures" in page.text
    for words in ("10 pictures in both", "not distinguishable", "cat", "Pictures that B does worse", "p0"):
        assert words in page.text


def test_equal_runs_have_neither_changed_classes_nor_pictures(tmp_path: Path) -> None:
    found = compared(tmp_path, "xx--", "xx--")
    assert (found.changed_classes, found.better, found.worse) == ([], [], [])
    assert found.verdict.startswith("A and B are not distinguishable")
    page = Page(write_comparison_page(found, tmp_path / "page.html").read_text())
    assert "the same" in page.text
    assert "Pictures that B" not in page.text


def test_one_common_picture_tells_nothing(tmp_path: Path) -> None:
    a = evaluated(tmp_path / "a", "classification", "xx")
    b = evaluated(tmp_path / "b", "classification", "--", first=1)
    found = compare_runs(a, b, "val")
    assert (found.pictures, found.only_a, found.only_b) == (1, ("p0",), ("p2",))
    assert found.verdict == (
        "Whether accuracy differs cannot be told (1 picture in both (left out: 1 only in A, 1 only in B))."
    )
    assert "too few pictures to tell" in in_words(found)
    page = Page(write_comparison_page(found, tmp_path / "page.html").read_text())
    assert "there are too few pictures for an interval" in page.text


def test_other_classes_or_tasks_are_refused(tmp_path: Path) -> None:
    a = evaluated(tmp_path / "a", "classification", "xx")
    with pytest.raises(ConfigError, match=r"only .*a has dog; only .*b has cow"):
        compare_runs(a, evaluated(tmp_path / "b", "classification", "xx", labels("cat", "cow")), "val")
    with pytest.raises(ConfigError, match="they stand in another order"):
        compare_runs(a, evaluated(tmp_path / "c", "classification", "xx", labels("dog", "cat")), "val")
    with pytest.raises(ConfigError, match=r"is a classification, .* a segmentation"):
        compare_runs(a, evaluated(tmp_path / "d", "segmentation", "xx"), "val")


def test_an_evaluation_without_its_pictures_is_no_run_to_evaluate(tmp_path: Path) -> None:
    run = evaluated(tmp_path / "a", "classification", "xx")
    (tmp_path / "old").mkdir()
    (tmp_path / "old/metrics.json").write_text("{}")
    with pytest.raises(RunError, match=r"holds no pictures.npz") as error:
        compare_runs(run, tmp_path / "old", "val")
    assert f"pixbox evaluate RUN --split val --out {tmp_path / 'old'}" in str(error.value)
    with pytest.raises(RunError, match="is not evaluated on the split test") as error:
        compare_runs(run, run, "test")
    assert f"pixbox evaluate {run} --split test" in str(error.value)


def test_names_are_escaped_in_the_page(tmp_path: Path) -> None:
    classes = labels("<b>cat</b>", "dog")
    a = evaluated(tmp_path / "<i>", "classification", "x-", classes)
    b = evaluated(tmp_path / "b&c", "classification", "xx", classes)
    source = write_comparison_page(compare_runs(a, b, "val"), tmp_path / "page.html").read_text()
    assert "<b>cat" not in source
    assert "<i>" not in source
    page = Page(source)
    assert "<b>cat</b>" in page.text
    assert "b&c against <i>" in page.text
