"""`pixbox compare`: two evaluated runs, what it says of them, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

import pixbox
from html_page import Page
from tiny import experiment, write_scenes


def train_here(folder: Path, config: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return pixbox.train(folder / "config.yaml", out=folder / "run").run


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("scenes"), val=20)


@pytest.fixture(scope="module")
def runs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two evaluated runs: one that has seen little, and one that knows the scenes fairly well."""
    folder = tmp_path_factory.mktemp("runs")
    short = train_here(folder / "short", experiment(data, training__epochs=1, optimizer__lr=0.001))
    long = train_here(folder / "long", experiment(data, training__epochs=12, optimizer__lr=0.02))
    for run in (short, long):
        pixbox.evaluate(run)
    return short, long


def metrics_of(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "evaluation/val/metrics.json").read_text())
    return found


def test_the_better_run_is_told_apart(command: Any, runs: tuple[Path, Path]) -> None:
    a, b = runs
    found = command("compare", a, b, "--json")
    assert found.status == 0
    plain = found.json
    assert (plain["a"], plain["b"], plain["split"]) == (str(a), str(b), "val")
    assert (plain["task"], plain["pictures"], plain["only_a"], plain["only_b"]) == ("segmentation", 20, [], [])
    for name, difference in plain["figures"].items():
        assert difference["a"] == pytest.approx(metrics_of(a)[name], abs=1e-12)
        assert difference["b"] == pytest.approx(metrics_of(b)[name], abs=1e-12)
        assert difference["difference"] == pytest.approx(difference["b"] - difference["a"])
    chief = plain["figures"]["miou"]
    low, high = chief["interval"]
    assert 0 < low < chief["difference"] < high
    assert chief["clear"]
    assert (chief["a_better"], chief["two_sided"]) == (0, 0)
    assert {name: found["b"] for name, found in plain["class_iou"].items()} == pytest.approx(metrics_of(b)["class_iou"])
    changes = plain["better"] + plain["worse"]
    assert len({change["id"] for change in changes}) == len(changes) <= 20
    gains = [change["difference"] for change in plain["better"]]
    assert gains == sorted(gains, reverse=True)
    assert min(gains) > 0


def test_words_for_a_terminal_end_with_the_verdict(command: Any, runs: tuple[Path, Path], tmp_path: Path) -> None:
    a, b = runs
    found = command("compare", a, b)
    assert found.status == 0
    assert f"A  {a}\nB  {b}\nval: 20 pictures in both; 95% intervals over pictures, 1000 resamples" in found.out
    for name in ("miou", "pixel_accuracy", "class_iou, changed most", "disk", "better in B"):
        assert name in found.out
    assert "B better, more than noise" in found.out
    assert found.out.splitlines()[-1].startswith("B is better, by more than noise (miou +0.")
    turned = command("compare", b, a)
    assert turned.out.splitlines()[-1].startswith("A is better, by more than noise (miou -0.")


def test_a_run_against_itself_is_the_same(command: Any, runs: tuple[Path, Path]) -> None:
    _, b = runs
    found = command("compare", b, b)
    assert "A and B are not distinguishable on these pictures (miou +0.0000" in found.out
    assert "the same" in found.out
    assert "more than noise" not in found.out
    plain = command("compare", b, b, "--json").json
    assert plain["better"] == plain["worse"] == []
    assert plain["figures"]["miou"]["two_sided"] == 1


def test_in_python_it_is_the_same(command: Any, runs: tuple[Path, Path]) -> None:
    a, b = runs
    found = pixbox.compare(a, str(b))
    assert found.to_plain() == command("compare", a, b, "--json").json
    assert found.to_plain() == pixbox.compare(a, b).to_plain()
    assert found.to_plain() != pixbox.compare(a, b, seed=1).to_plain()
    assert found.figures["miou"].is_clear
    assert [change.id for change in found.better] == [change["id"] for change in found.to_plain()["better"]]


def test_the_page_says_what_the_words_say(command: Any, runs: tuple[Path, Path], tmp_path: Path) -> None:
    a, b = runs
    found = command("compare", a, b, "--html", tmp_path / "out/compared.html")
    assert found.out.splitlines()[-1] == f"Page: {tmp_path / 'out/compared.html'}"
    source = (tmp_path / "out/compared.html").read_text()
    page = Page(source)
    assert "http" not in source.replace("http-equiv", "")
    assert "B is better, by more than noise" in page.text
    assert "20 pictures in both" in page.text
    names = [row[0] for row in page.rows]
    for name in ("mIoU", "Pixel accuracy", "ground", "disk", "bar"):
        assert any(row.startswith(name) for row in names)
    miou = next(row for row in page.rows if row[0].startswith("mIoU"))
    assert miou[2:] == [f"{metrics_of(run)['miou']:.1%}" for run in runs]


def test_only_pictures_that_both_have_scored_are_compared(
    command: Any, runs: tuple[Path, Path], data: Path, tmp_path: Path
) -> None:
    a, b = runs
    lines = (data / "val.txt").read_text().splitlines(keepends=True)
    (data / "some.txt").write_text("".join([*lines[3:15], (data / "train.txt").read_text().splitlines()[0] + "\n"]))
    pixbox.evaluate(b, {"data.val": "some.txt"}, out=tmp_path / "some")
    found = command("compare", a, tmp_path / "some")
    assert "val: 12 pictures in both (left out: 8 only in A, 1 only in B)" in found.out
    plain = command("compare", a, tmp_path / "some", "--json").json
    assert (plain["pictures"], len(plain["only_a"]), len(plain["only_b"])) == (12, 8, 1)
    # On the common ones a run equals itself, whatever else was scored.
    same = command("compare", b, tmp_path / "some", "--json").json
    assert (same["pictures"], same["figures"]["miou"]["difference"]) == (12, 0)


def refused(command: Any, *arguments: Any) -> str:
    found = command("compare", *arguments)
    assert found.status == 2
    assert found.out == ""
    assert "Traceback" not in found.err
    return str(found.err)


def test_a_run_that_is_not_evaluated_is_named_with_the_command_to_run(
    command: Any, runs: tuple[Path, Path], tmp_path: Path
) -> None:
    a, _ = runs
    shutil.copytree(a, bare := tmp_path / "bare", ignore=shutil.ignore_patterns("evaluation"))
    message = refused(command, a, bare)
    assert f"{bare}: is not evaluated on the split val" in message
    assert f"Run: pixbox evaluate {bare} --split val" in message
    assert f"Run: pixbox evaluate {a} --split train" in refused(command, a, a, "--split", "train")
    assert '"vall" is not a split' in refused(command, a, a, "--split", "vall")
    assert "no such folder" in refused(command, a, tmp_path / "none")
    assert "is a file" in refused(command, a, a / "checkpoints/best.ckpt")
    assert "is a folder, not a file to write" in refused(command, a, a, "--html", tmp_path)


def test_other_classes_are_named(command: Any, runs: tuple[Path, Path], data: Path, tmp_path: Path) -> None:
    a, _ = runs
    labels = yaml.safe_load((data / "labels.yaml").read_text())
    labels["classes"][1]["name"] = "circle"
    other = train_here(tmp_path, experiment(data, data__labels=labels, training__epochs=1))
    pixbox.evaluate(other)
    message = refused(command, a, other)
    assert f"the classes differ: only {a} has disk; only {other} has circle" in message


def test_runs_scored_against_other_truth_are_refused(
    command: Any, runs: tuple[Path, Path], data: Path, tmp_path: Path
) -> None:
    a, _ = runs
    shutil.copytree(data, changed := tmp_path / "changed")
    mask = np.array(Image.open(changed / "masks/s1002.png"))
    mask[20:] = 255
    Image.fromarray(mask).save(changed / "masks/s1002.png")
    pixbox.evaluate(a, {"data.root": str(changed)}, out=tmp_path / "again")
    message = refused(command, a, tmp_path / "again")
    assert "the truth of 1 of 20 pictures is not the same for both: images/s1002" in message


def test_runs_without_a_common_picture_are_refused(
    command: Any, runs: tuple[Path, Path], data: Path, tmp_path: Path
) -> None:
    a, b = runs
    pixbox.evaluate(b, split="train", out=tmp_path / "train")
    assert "not a single picture was scored for both" in refused(command, a, tmp_path / "train")
