"""`pixbox predict`: how the network looks, shares of a folder, what is there already, videos; by the front door."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

import pixbox as px
from acceptance.conftest import Command
from acceptance.test_sizes import detection, write_squares
from tiny import draw_scene, experiment


def train(config: dict[str, Any], folder: Path) -> Path:
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return px.train(folder / "config.yaml", out=folder / "run").run


@pytest.fixture(scope="module")
def run(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(experiment(scenes, training__epochs=4, optimizer__lr=0.02), tmp_path_factory.mktemp("pixels"))


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run that finds squares, badly, and the folder of its pictures."""
    folder = tmp_path_factory.mktemp("boxes")
    config = detection(write_squares(folder))
    config["detection"] |= {"score_threshold": 1e-4, "max_detections": 5}
    return train(config, folder), folder / "images"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "photos/sub").mkdir(parents=True)
    for index, name in enumerate(["a.png", "b.png", "sub/c.png", "sub/d.png", "e.png"]):
        Image.fromarray(draw_scene(index)[0]).save(tmp_path / "photos" / name)
    return tmp_path / "photos"


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def predicted(command: Command, *arguments: Any) -> dict[str, bytes]:
    done = command("predict", *arguments)
    assert done.status == 0, done.err
    return content(Path(arguments[arguments.index("--out") + 1]))


# How the network looks


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        (["--mode", "sliding", "--window", "16,32", "--overlap", "0.5"],
         ["mode=sliding", "window=[16, 32]", "overlap=0.5"]),
        (["--scales", "0.75,1,1.5", "--flip"], ["scales=[0.75, 1, 1.5]", "flip=true"]),
        (["--batch", "3", "--max-memory", "1GB"], ["batch=3", "max_memory=1GB"]),
    ],
)  # fmt: skip
def test_options_are_short_for_settings(
    run: Path, photos: Path, tmp_path: Path, command: Command, options: list[str], settings: list[str]
) -> None:
    long = [text for setting in settings for text in ("--set", f"evaluation.{setting}")]
    extra = ["--save", "probabilities"]
    short = predicted(command, run, photos, "--out", tmp_path / "short", *options, *extra)
    assert short == predicted(command, run, photos, "--out", tmp_path / "long", *long, *extra)


def test_an_option_wins_over_a_setting(run: Path, photos: Path, tmp_path: Path, command: Command) -> None:
    both = ["--set", "evaluation.flip=true", "--no-flip", "--save", "probabilities"]
    there = predicted(command, run, photos, "--out", tmp_path / "both", *both)
    plain = predicted(command, run, photos, "--out", tmp_path / "plain", "--save", "probabilities")
    flipped = predicted(command, run, photos, "--out", tmp_path / "flipped", "--flip", "--save", "probabilities")
    assert there == plain
    assert there != flipped


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (["--mode", "slidng"], "--mode slidng"),
        (["--window", "512"], "--window"),
        (["--window", "0,512"], "--window"),
        (["--window", "a,b"], "--window"),
        (["--overlap", "0.95"], "--overlap 0.95"),
        (["--scales", "1,-2"], "--scales"),
        (["--scales", ""], "--scales"),
        (["--max-memory", "2XB"], "--max-memory 2XB"),
        (["--batch", "0"], "--batch 0"),
        (["--shard", "4/3"], "--shard"),
        (["--save", "frames"], "no video"),
        (["--save", "classes"], "segmentation"),
    ],
)
def test_a_wrong_option_is_named_before_anything_is_done(
    run: Path, photos: Path, tmp_path: Path, command: Command, wrong: list[str], told: str
) -> None:
    done = command("predict", run, photos, "--out", tmp_path / "out", *wrong)
    assert done.status == 2
    assert told in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "out").exists()


def test_evaluate_takes_the_same_options(run: Path, tmp_path: Path, command: Command) -> None:
    looks = (["--mode", "sliding", "--window", "16,16"], ["--set", "evaluation.mode=sliding",
             "--set", "evaluation.window=[16, 16]"])  # fmt: skip
    found = [command("evaluate", run, "--json", "--out", tmp_path / "out", *options).json for options in looks]
    assert found[0] == found[1]
    done = command("evaluate", run, "--overlap", "2")
    assert (done.status, "--overlap 2" in done.err) == (2, True)


def test_a_loaded_model_takes_settings_for_a_call(run: Path, photos: Path) -> None:
    model = px.load(run)
    picture = photos / "a.png"
    by_call: Any = model.predict(picture, probabilities=True, mode="sliding", window=(16, 16), flip=True)
    fixed = px.load(run, {"evaluation.mode": "sliding", "evaluation.window": [16, 16], "evaluation.flip": True})
    by_run: Any = fixed.predict(picture, probabilities=True)
    np.testing.assert_array_equal(by_call.probabilities, by_run.probabilities)
    plain: Any = model.predict(picture, probabilities=True)
    assert not np.array_equal(plain.probabilities, by_call.probabilities)
    with pytest.raises(px.PixboxError, match=r"modes.*Did you mean \"mode\""):
        model.predict(picture, modes="sliding")


# A folder, and a second time


def test_a_second_call_skips_what_is_there_and_says_how_much(
    run: Path, photos: Path, tmp_path: Path, command: Command
) -> None:
    arguments = (run, photos, "--out", tmp_path / "out", "--save", "overlay")
    first = predicted(command, *arguments)
    (tmp_path / "out/sub/c_overlay.png").unlink()
    done = command("predict", *arguments, "--skip-existing")
    assert done.status == 0, done.err
    assert "1 labelled, 4 skipped" in done.out
    assert content(tmp_path / "out") == first
    again = command("predict", *arguments, "--skip-existing", "--json")
    assert again.json["files"] == {}
    assert len(again.json["skipped"]) == 5


def test_boxes_of_skipped_pictures_stay_among_all_boxes(
    boxes: tuple[Path, Path], tmp_path: Path, command: Command
) -> None:
    run, images = boxes
    whole = predicted(command, run, images, "--out", tmp_path / "out")
    assert json.loads(whole["predictions.json"])
    (tmp_path / "out/2.json").unlink()
    (tmp_path / "out/4.json").write_text("{}")
    done = command("predict", run, images, "--out", tmp_path / "out", "--skip-existing")
    assert "2 labelled, 4 skipped" in done.out
    assert content(tmp_path / "out") == whole


def test_broken_pictures_are_listed_each_time(run: Path, photos: Path, tmp_path: Path, command: Command) -> None:
    (photos / "b.png").write_bytes((photos / "b.png").read_bytes()[:900])
    for labelled in ("4 labelled, in", "0 labelled, 4 skipped"):
        done = command("predict", run, photos, "--out", tmp_path / "out", "--skip-existing", "--batch", "2")
        assert done.status == 1
        assert str(photos / "b.png") in done.err
        assert labelled in done.out


# Shares


def test_shares_together_are_the_whole(boxes: tuple[Path, Path], tmp_path: Path, command: Command) -> None:
    run, images = boxes
    whole = predicted(command, run, images, "--out", tmp_path / "whole")
    for part in (1, 2, 3, 4):
        shared = predicted(command, run, images, "--out", tmp_path / "shared", "--shard", f"{part}/4")
    found = [json.loads(shared.pop(f"predictions_{part}of4.json")) for part in (1, 2, 3, 4)]
    named = [json.loads(shared.pop(f"predictions_images_{part}of4.json"))["images"] for part in (1, 2, 3, 4)]
    expected = json.loads(whole.pop("predictions.json"))
    images_of_whole = json.loads(whole.pop("predictions_images.json"))["images"]
    assert sorted(chain(*found), key=lambda one: one["image_id"]) == expected
    assert sorted(chain(*named), key=lambda one: one["id"]) == images_of_whole
    assert shared == whole


def test_a_share_without_a_picture_is_no_fault(run: Path, photos: Path, tmp_path: Path, command: Command) -> None:
    done = command("predict", run, photos, "--out", tmp_path / "out", "--shard", "9/9")
    assert (done.status, done.out.startswith("0 labelled")) == (0, True)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="gloo")
def test_the_processes_of_torchrun_share_a_folder_and_the_first_reports(
    run: Path, photos: Path, tmp_path: Path, command: Command
) -> None:
    (photos / "b.png").write_bytes((photos / "b.png").read_bytes()[:900])
    alone = command("predict", run, photos, "--out", tmp_path / "alone", "--save", "areas", "--json")
    launched = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "pixbox",
         "predict", str(run), str(photos), "--out", str(tmp_path / "shared"), "--save", "areas", "--json"],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert launched.returncode == 1
    told = json.loads(launched.stdout)
    assert told["files"] == {key: path.replace("alone", "shared") for key, path in alone.json["files"].items()}
    assert told["failed"] == alone.json["failed"]
    assert content(tmp_path / "shared") == content(tmp_path / "alone")


# Videos


def test_a_folder_may_hold_pictures_and_videos(boxes: tuple[Path, Path], tmp_path: Path, command: Command) -> None:
    run, images = boxes
    folder = Path(shutil.copytree(images, tmp_path / "in"))
    writer = cv2.VideoWriter(str(folder / "film.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (80, 60))
    for _ in range(3):
        writer.write(cv2.imread(str(images / "0.png")))
    writer.release()
    (folder / "none.mp4").write_bytes(b"no video")
    done = command("predict", run, folder, "--out", tmp_path / "out", "--save", "frames", "--json")
    assert done.status == 1
    assert [fault["file"] for fault in done.json["failed"]] == [str(folder / "none.mp4")]
    assert done.json["files"][str(folder / "film.avi")] == str(tmp_path / "out/film_overlay.mp4")
    names = sorted(path.name for path in (tmp_path / "out/film").iterdir())
    assert names == ["frame_000000.json", "frame_000001.json", "frame_000002.json"]
    assert json.loads((tmp_path / "out/film/frame_000000.json").read_text())["size"] == [60, 80]
    described = json.loads((tmp_path / "out/predictions_images.json").read_text())
    assert len(described["images"]) == 6
