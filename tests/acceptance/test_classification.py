"""`task: classification` by the front door: lists and folders, mixing, processes, schedules, many classes."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torchvision.transforms import v2

import pixbox as px
from acceptance.conftest import Command
from pixbox.config import Experiment, read_experiment
from pixbox.data.cache import open_cache
from pixbox.data.dataset import SampleReader, WholeSet
from pixbox.engine.trainer import plan_training
from pixbox.labels import LabelMap
from pixbox.optim import learning_rate_factor
from pixbox.sample import Record
from tiny import pixbox

RECIPE = Path(__file__).parents[2] / "recipes" / "pretrain_resnet50.yaml"
COLORS = {"red": 0, "green": 1, "deep blue": 2}


def draw(channel: int, index: int) -> Image.Image:
    rng = np.random.default_rng(10 * index + channel)
    picture = rng.integers(0, 60, (36, 40, 3))
    picture[:, :, channel] += 150
    return Image.fromarray(picture.astype(np.uint8))


def write_folders(root: Path, splits: dict[str, int]) -> Path:
    """``root/<split>/<class>/0.png``: so many of each colour."""
    for split, count in splits.items():
        for name, channel in COLORS.items():
            for index in range(count):
                path = root / split / name / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                draw(channel, index + 100 * (split == "val")).save(path)
    return root


def write_lists(root: Path, splits: dict[str, int]) -> Path:
    """The same pictures in one folder, and lists of ``image;class name``."""
    (root / "photos").mkdir(parents=True)
    for split, count in splits.items():
        lines = []
        for name, channel in COLORS.items():
            for index in range(count):
                file = f"photos/{split}-{channel}-{index}.png"
                draw(channel, index + 100 * (split == "val")).save(root / file)
                lines.append(f"{file};{name}\n")
        (root / f"{split}.txt").write_text("# picture;class\n" + "".join(lines))
    return root


def configuration(root: Path, data: dict[str, Any] | None = None, **training: Any) -> dict[str, Any]:
    return {
        "name": "colours",
        "task": "classification",
        "data": {
            "format": "imagefolder", "root": str(root), "train": "train", "val": "val", "size": [32, 32],
            "fit": "stretch", "batch_size": 4, "workers": 0, **(data or {}),
        },
        "model": {"encoder": "test_resnet", "options": {"encoder_norm": "group"}},
        "optimizer": {"lr": 0.003},
        "training": {"epochs": 2, "precision": "32", "accelerator": "cpu", **training},
    }  # fmt: skip


Train = Callable[..., Path]


@pytest.fixture
def train(tmp_path: Path, command: Command) -> Train:
    def run(config: dict[str, Any], name: str = "run", *arguments: str) -> Path:
        file = tmp_path / f"{name}.yaml"
        file.write_text(yaml.safe_dump(config))
        done = command("train", file, "--out", tmp_path / name, *arguments)
        assert done.status == 0, done.err
        return tmp_path / name

    return run


def weights(run: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return [{name: text for name, text in row.items() if name != "seconds"} for row in csv.DictReader(file)]


# Data.


def test_a_list_of_classes_is_audited_trained_and_scored(train: Train, tmp_path: Path, command: Command) -> None:
    root = write_lists(tmp_path / "data", {"train": 6, "val": 3})
    config = configuration(root, {"format": "list", "train": "train.txt", "val": "val.txt"}, epochs=3)
    run = train(config)
    audited = command("audit", tmp_path / "run.yaml", "--json")
    assert audited.status == 0, audited.out
    assert [item["images"] for item in audited.json["splits"].values()] == [18, 9]
    scored = command("evaluate", run, "--json")
    assert scored.status == 0, scored.err
    assert list(scored.json["class_accuracy"]) == ["deep blue", "green", "red"]
    assert scored.json["images"] == 9
    assert scored.json["accuracy"] > 0.5


def test_the_order_of_given_labels_counts(train: Train, tmp_path: Path, command: Command) -> None:
    root = write_lists(tmp_path / "data", {"train": 2, "val": 1})
    labels = {"classes": [{"name": "sea", "aliases": ["deep blue"]}, "red", "green"]}
    data = {"format": "list", "train": "train.txt", "val": "val.txt", "labels": labels}
    run = train(configuration(root, data, max_steps=1))
    assert list(command("evaluate", run, "--json").json["class_accuracy"]) == ["sea", "red", "green"]


def test_a_class_that_the_labels_lack_is_told_with_its_picture(tmp_path: Path, command: Command) -> None:
    root = write_lists(tmp_path / "data", {"train": 2, "val": 1})
    data = {"format": "list", "train": "train.txt", "val": "val.txt", "labels": {"classes": ["red", "green"]}}
    config = tmp_path / "x.yaml"
    config.write_text(yaml.safe_dump(configuration(root, data)))
    done = command("train", config, "--out", tmp_path / "run")
    assert done.status == 2
    assert f'{root / "photos/train-2-0.png"}: class "deep blue" is not in the label map' in done.err


def test_a_share_of_every_class_is_held_out_of_one_folder(train: Train, tmp_path: Path, command: Command) -> None:
    root = write_folders(tmp_path / "data", {"all": 8})
    run = train(configuration(root, {"train": "all", "val": None, "val_fraction": 0.25}, max_steps=1))
    assert "18 training, 6 validation and 0 test pictures, 3 classes" in (run / "train.log").read_text()
    command("evaluate", run)
    report = (run / "evaluation" / "val" / "report.html").read_text(encoding="utf-8")
    assert "of 2 pictures" in report
    audited = command("audit", tmp_path / "run.yaml", "--json").json
    assert [item["images"] for item in audited["splits"].values()] == [18, 6]


def test_classes_255_and_above_are_trained_scored_and_predicted(train: Train, tmp_path: Path, command: Command) -> None:
    root = tmp_path / "data"
    for split, picked in (("train", (254, 255, 256)), ("val", (254, 255))):
        (root / split).mkdir(parents=True)
        lines = []
        for index in picked:
            draw(index % 3, index).save(root / split / f"{index}.png")
            lines.append(f"{split}/{index}.png;{index}\n")
        (root / f"{split}.txt").write_text("".join(lines))
    labels = {"classes": [str(index) for index in range(300)]}
    data = {"format": "list", "train": "train.txt", "val": "val.txt", "labels": labels, "batch_size": 3}
    config = configuration(root, data, epochs=16, evaluate_every=16) | {"optimizer": {"lr": 0.01}}
    run = train(config | {"schedule": {"name": "constant"}})
    scored = command("evaluate", run, "--split", "train", "--json").json
    assert scored["class_accuracy"]["255"] == 1.0
    assert scored["class_accuracy"]["0"] is None
    done = command("predict", run, root / "train", "--out", tmp_path / "out", "--json")
    named = {Path(picture).stem: json.loads(Path(file).read_text()) for picture, file in done.json["files"].items()}
    assert named["255"]["class"] == "255"


# Training.


@pytest.mark.parametrize("mixing", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.2, "cutmix": 1.0}])
def test_a_run_with_mixed_pictures_is_resumed_exactly(mixing: dict[str, float], train: Train, tmp_path: Path) -> None:
    root = write_folders(tmp_path / "data", {"train": 4, "val": 2})
    config = configuration(root, {"augment": {"flip": 0.5, **mixing}}, epochs=3, save_every=1)
    whole = train(config, "whole")
    parted = tmp_path / "parted"
    shutil.copytree(whole, parted)
    shutil.copy(parted / "checkpoints/epoch-0001.ckpt", parted / "checkpoints/last.ckpt")
    train(config, "parted", "--resume")
    one, other = weights(whole), weights(parted)
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
    assert rows(whole) == rows(parted)
    unmixed = weights(train(configuration(root, {"augment": {"flip": 0.5}}, epochs=3), "unmixed"))
    assert any(not torch.equal(one[name], unmixed[name]) for name in one)


def test_mixing_is_refused_where_there_are_no_classes_of_pictures(tmp_path: Path, command: Command) -> None:
    config = configuration(tmp_path, {"augment": {"mixup": 0.2}}) | {"task": "segmentation", "model": {}}
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(config))
    done = command("train", tmp_path / "x.yaml", "--out", tmp_path / "run")
    assert done.status == 2
    assert "mixup and cutmix are for `task: classification`" in done.err


@pytest.mark.slow
def test_two_processes_train_and_score_as_one(train: Train, tmp_path: Path) -> None:
    root = write_folders(tmp_path / "data", {"train": 4, "val": 3})
    # Plain descent: what rounding leaves of a gradient near zero, Adam would blow up.
    sgd = {"optimizer": {"name": "sgd", "lr": 0.01}}
    one = train(configuration(root, {"batch_size": 4}) | sgd, "one")
    config = tmp_path / "two.yaml"
    config.write_text(yaml.safe_dump(configuration(root, {"batch_size": 2}, devices=2) | sgd))
    done = pixbox("train", config, "--out", "two", "--json", cwd=tmp_path)
    assert done.status == 0, done.err
    alone, together = weights(one), weights(tmp_path / "two")
    for name in alone:
        torch.testing.assert_close(alone[name], together[name], rtol=1e-4, atol=1e-5)
    for mine, theirs in zip(rows(one), rows(tmp_path / "two"), strict=True):
        assert (mine["accuracy"], mine["top5_accuracy"]) == (theirs["accuracy"], theirs["top5_accuracy"])
        assert float(mine["val_loss"]) == pytest.approx(float(theirs["val_loss"]), rel=1e-4)


def test_a_schedule_of_steps_is_followed_to_the_step(train: Train, tmp_path: Path) -> None:
    root = write_folders(tmp_path / "data", {"train": 4, "val": 1})
    schedule = {"name": "step", "milestones": ["4 steps", "6 steps"], "factor": 0.1}
    config = configuration(root, epochs=100, max_steps=8, evaluate_every="2 steps")
    config |= {"schedule": schedule, "optimizer": {"name": "sgd", "lr": 0.1}}
    history = rows(train(config))
    assert [row["step"] for row in history] == ["2", "4", "6", "8"]
    # Each row has the rate of the step before it: steps 0-3 have 0.1, 4 and 5 0.01, 6 and 7 0.001.
    assert [float(row["lr_decoder"]) for row in history] == pytest.approx([0.1, 0.1, 0.01, 0.001])


def test_the_recipe_keeps_the_published_schedule() -> None:
    recipe = read_experiment(RECIPE)
    pictures = 1_281_167  # of ImageNet
    plan = plan_training(recipe, pictures, world=1)
    assert plan.total_steps == 550_000
    rates = {
        step: recipe.optimizer.lr * learning_rate_factor(recipe.schedule, step, plan.total_steps, plan.steps_per_epoch)
        for step in (0, 149_999, 150_000, 299_999, 300_000, 549_999)
    }
    assert list(rates.values()) == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    every = recipe.training.evaluate_every.in_steps(plan.steps_per_epoch)
    assert sum(plan.validates_after(step, every) for step in range(1, plan.total_steps + 1)) == 110


# Evaluation.


def smooth(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    waves = (rows / height, columns / width, (rows + columns) / (height + width))
    return np.stack([127 + 120 * np.sin(6 * wave) for wave in waves], axis=2).astype(np.uint8)


def test_a_picture_is_predicted_as_it_is_scored_by_its_centre(train: Train, tmp_path: Path) -> None:
    root = write_folders(tmp_path / "data", {"train": 2, "val": 1})
    config = configuration(root, {"size": [24, 24]}, max_steps=1) | {"evaluation": {"crop": "center"}}
    model = px.load(train(config))
    picture = root / "val" / "green" / "0.png"
    reader = SampleReader(model.labels, open_cache("none", None), task="classification")
    scored = WholeSet([Record("a", picture, "green")], reader, model.experiment)[0].image
    assert scored.shape == (24, 24, 3)
    np.testing.assert_array_equal(model.predict(picture).probabilities, model.predict(scored).probabilities)


@pytest.mark.parametrize("size_hw", [(300, 400), (501, 333), (224, 224), (120, 160), (1000, 333)])
def test_the_centre_cut_is_torchvisions(size_hw: Sequence[int], tmp_path: Path) -> None:
    picture = smooth(*size_hw)
    Image.fromarray(picture).save(tmp_path / "a.png")
    data = {"root": str(tmp_path), "format": "imagefolder", "size": [224, 224], "fit": "stretch"}
    experiment = Experiment.model_validate(
        {"name": "x", "task": "classification", "data": data, "evaluation": {"crop": "center"}}
    )
    reader = SampleReader(LabelMap.model_validate({"classes": ["a"]}), open_cache("none", None), task="classification")
    seen = WholeSet([Record("a", tmp_path / "a.png", "a")], reader, experiment)[0].image
    expected = np.asarray(v2.Compose([v2.Resize(224), v2.CenterCrop(224)])(Image.fromarray(picture)))
    assert seen.shape == (224, 224, 3)
    difference = np.abs(seen.astype(int) - expected)
    # Less than a pixel apart: the picture changes by up to eight levels from one pixel to the next.
    assert difference.mean() < 1
    assert difference.max() <= 8
