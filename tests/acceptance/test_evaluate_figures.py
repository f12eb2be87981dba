"""`pixbox evaluate`: what metrics.json says of boundaries, confidence, intervals and modes, and of splits without
labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import nn
from torchmetrics.classification import MulticlassAccuracy, MulticlassCalibrationError, MulticlassJaccardIndex

import pixbox as px
from acceptance.conftest import Command
from acceptance.test_classification import configuration, write_folders
from pixbox.checkpoint import LoadedRun, load_run
from pixbox.evaluation import Evaluation, evaluate_run
from pixbox.labels import IGNORE
from pixbox.metrics import BoundaryScores
from pixbox.metrics.bootstrap import intervals
from pixbox.metrics.pictures import read_pictures
from tiny import CLASSES, draw_scene, experiment, write_scenes


@pytest.fixture(scope="module")
def run(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("figures")
    (folder / "config.yaml").write_text(yaml.safe_dump(experiment(scenes, training__epochs=5)))
    return px.train(folder / "config.yaml", out=folder / "run").run


def truth_and_said(run: Path, scenes: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """(H, W) class indices, void ``IGNORE``, and (N, H, W) probabilities of each validation picture."""
    model = px.load(run)
    pairs = []
    for line in (scenes / "val.txt").read_text().split():
        picture, mask = line.split(";")
        grey = np.array(Image.open(scenes / mask))
        truth = np.full(grey.shape, IGNORE, dtype=np.uint8)
        for index, value in enumerate(CLASSES.values()):
            truth[grey == value] = index
        said: Any = model.predict(scenes / picture, probabilities=True)
        pairs.append((truth, said.probabilities))
    return pairs


def test_figures_of_pixels_are_those_of_torchmetrics_over_the_whole_split(
    run: Path, scenes: Path, tmp_path: Path, command: Command
) -> None:
    found = command("evaluate", run, "--json", "--out", tmp_path).json
    pairs = truth_and_said(run, scenes)
    truth = torch.cat([torch.from_numpy(truth).flatten() for truth, _ in pairs]).long()
    said = torch.cat([torch.from_numpy(said).flatten(1).T for _, said in pairs])
    settings: Any = {"num_classes": 3, "ignore_index": IGNORE}
    for name, metric in (
        ("ece", MulticlassCalibrationError(n_bins=15, norm="l1", **settings)),
        ("miou", MulticlassJaccardIndex(**settings)),
        ("pixel_accuracy", MulticlassAccuracy(average="micro", **settings)),
        ("mean_accuracy", MulticlassAccuracy(average="macro", **settings)),
    ):
        assert found[name] == pytest.approx(float(metric(said, truth)), abs=1e-5), name
    boundary = BoundaryScores(3)
    for truth_here, said_here in pairs:
        boundary.update(torch.from_numpy(said_here.argmax(axis=0).astype(np.uint8)), torch.from_numpy(truth_here))
    metrics = boundary.compute(list(CLASSES))
    assert (found["boundary_iou"], found["boundary_f1"]) == (metrics.boundary_iou, metrics.boundary_f1)


def test_intervals_are_of_the_pictures_that_are_saved_and_hold_the_figures(
    run: Path, tmp_path: Path, command: Command
) -> None:
    found = command("evaluate", run, "--json", "--out", tmp_path).json
    pictures = read_pictures(tmp_path / "pictures.npz")
    assert pictures.ids == tuple(f"images/s{index}" for index in range(1000, 1005))
    expected = {name: between and [between.low, between.high] for name, between in intervals(pictures).items()}
    assert found["intervals"] == expected
    for name in ("miou", "pixel_accuracy", "class_iou/bar"):
        low, high = found["intervals"][name]
        figure = found["class_iou"]["bar"] if "/" in name else found[name]
        assert low <= figure <= high
    assert pictures.figures(np.ones(5))["miou"] == pytest.approx(found["miou"], abs=1e-12)


def test_figures_of_a_classifier_are_those_of_torchmetrics(tmp_path: Path, command: Command) -> None:
    data = write_folders(tmp_path / "data", {"train": 4, "val": 5})
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(configuration(data, epochs=1)))
    run = px.train(tmp_path / "config.yaml", out=tmp_path / "run").run
    found = command("evaluate", run, "--json").json
    model: Any = px.load(run)
    names = list(model.labels.names)
    files = [(path, names.index(path.parent.name)) for path in sorted((data / "val").rglob("*.png"))]
    said = torch.from_numpy(np.stack([model.predict(path).probabilities for path, _ in files]))
    truth = torch.tensor([index for _, index in files])
    assert found["ece"] == pytest.approx(float(MulticlassCalibrationError(3, n_bins=15)(said, truth)), abs=1e-5)
    assert found["accuracy"] == pytest.approx(float(MulticlassAccuracy(3, average="micro")(said, truth)))
    assert found["mode"] == "whole"
    assert set(found["intervals"]) == {"accuracy", "top5_accuracy"} | {f"class_accuracy/{name}" for name in names}


class SinglePixels(nn.Module):
    """Sees no further than each pixel: grey values near those of the scenes' classes."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Identity()
        self.centers = nn.Parameter(torch.tensor([0.0, 1.5, -1.5])[:, None, None])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return -((x.mean(dim=1, keepdim=True) - self.centers) ** 2)


def evaluated(run: Path, folder: Path, **settings: Any) -> Evaluation:
    overrides = {f"evaluation.{name}": value for name, value in settings.items()}
    loaded: LoadedRun = load_run(run, overrides)
    loaded.task.network.body = SinglePixels()
    return evaluate_run(loaded, "val", folder)


def test_windows_score_as_the_whole_where_a_network_sees_single_pixels(run: Path, tmp_path: Path) -> None:
    whole = evaluated(run, tmp_path / "whole", mode="whole").metrics
    windows = evaluated(run, tmp_path / "windows", mode="sliding", window=[16, 32], overlap=0.4).metrics
    assert (whole.pop("mode"), windows.pop("mode")) == ("whole", "sliding")
    assert windows.pop("ece") == pytest.approx(whole.pop("ece"), abs=1e-6)
    assert windows == whole
    assert whole["miou"] > 0.5


def test_the_mode_names_what_was_averaged(run: Path, tmp_path: Path) -> None:
    found = evaluated(run, tmp_path, mode="sliding", scales=[1, 1.5], flip=True).metrics
    assert found["mode"] == "sliding + multiscale + flip"


def test_the_terminal_shows_figures_with_intervals_by_class(run: Path, tmp_path: Path, command: Command) -> None:
    done = command("evaluate", run, "--out", tmp_path)
    assert done.status == 0, done.err
    figures = json.loads((tmp_path / "metrics.json").read_text())
    lines = done.out.splitlines()
    assert lines[0].startswith("5 pictures, looked at whole")
    low, high = figures["intervals"]["miou"]
    assert f"miou {figures['miou']:.4f} {low:.4f} to {high:.4f}" in [" ".join(line.split()) for line in lines]
    assert any(line.split()[:2] == ["disk", f"{figures['class_iou']['disk']:.4f}"] for line in lines)
    assert lines[-1] == f"Report: {tmp_path / 'report.html'}"


@pytest.mark.parametrize("content", ["", "# nothing\n"])
def test_an_empty_split_is_named(run: Path, tmp_path: Path, command: Command, content: str) -> None:
    data = write_scenes(tmp_path / "data", train=1, val=1)
    (data / "none.txt").write_text(content)
    done = command("evaluate", run, "--set", f"data.root={data}", "--set", "data.val=none.txt", "--out", tmp_path / "o")
    assert done.status == 2
    assert f"Error: {data / 'none.txt'}: the list is empty" in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "o").exists()


def test_a_split_in_which_nothing_is_labelled_is_named(run: Path, tmp_path: Path, command: Command) -> None:
    data = write_scenes(tmp_path / "data", train=1, val=2)
    for index in (1000, 1001):
        Image.fromarray(np.full(draw_scene(0)[1].shape, 255, dtype=np.uint8)).save(data / f"masks/s{index}.png")
    done = command("evaluate", run, "--set", f"data.root={data}", "--out", tmp_path / "out")
    assert done.status == 2
    assert "Error: data.val: no pixel of the 2 pictures in the val split has a class that counts" in done.err
    assert not (tmp_path / "out").exists()
