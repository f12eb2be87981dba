"""`pixbox evaluate` and `pixbox predict`: the figures and files that scripts rely on, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score, recall_score

from tiny import SIZE_HW, draw_scene, experiment, pixbox, write_scenes

NAMES = ["ground", "disk", "bar", "ghost"]
VALUES = {0: 0, 80: 1, 200: 2}
COLORS = {"ground": "#101010", "disk": "#ff0000", "bar": "#00ff80", "ghost": "#0000ff"}
LABELS = {
    "ignore": [255],
    "classes": [{"name": name, "value": value, "color": COLORS[name]} for name, value in
                zip(NAMES, (0, 80, 200, 240), strict=True)],
}  # fmt: skip


def train_here(config: dict[str, Any], folder: Path) -> Path:
    import pixbox as px

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return px.train(folder / "config.yaml", out=folder / "run").run


@pytest.fixture(scope="module")
def run(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that knows the scenes fairly well; its class `ghost` is in no mask."""
    config = experiment(scenes, data__labels=LABELS, training__epochs=10, optimizer__lr=0.02)
    return train_here(config, tmp_path_factory.mktemp("trained"))


def read_truth(mask: Path) -> np.ndarray:
    """Class indices of a grey mask; -1 where it is void."""
    grey = np.array(Image.open(mask))
    truth = np.full(grey.shape, -1)
    for value, index in VALUES.items():
        truth[grey == value] = index
    return truth


def scikit_learn_figures(pairs: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, Any]:
    """What metrics.json must hold, from (truth, prediction) pairs; void is -1 in the truth."""
    truth = np.concatenate([truth[truth >= 0] for truth, _ in pairs])
    predicted = np.concatenate([predicted[truth >= 0] for truth, predicted in pairs])
    classes = list(range(len(NAMES)))
    iou = jaccard_score(truth, predicted, labels=classes, average=None, zero_division=0)
    recall = recall_score(truth, predicted, labels=classes, average=None, zero_division=0)
    in_truth = [bool((truth == index).any()) for index in classes]
    in_either = [there or bool((predicted == index).any()) for index, there in enumerate(in_truth)]
    frequency = confusion_matrix(truth, predicted, labels=classes).sum(axis=1) / len(truth)
    return {
        "miou": np.mean(iou[in_either]),
        "pixel_accuracy": accuracy_score(truth, predicted),
        "mean_accuracy": np.mean(recall[in_truth]),
        "frequency_weighted_iou": (frequency * iou).sum(),
        "class_iou": {name: iou[i] if in_either[i] else None for i, name in enumerate(NAMES)},
        "class_accuracy": {name: recall[i] if in_truth[i] else None for i, name in enumerate(NAMES)},
        "images": len(pairs),
        "pixels": len(truth),
    }


def assert_figures(found: dict[str, Any], expected: dict[str, Any]) -> None:
    for name, value in expected.items():
        assert found[name] == (value if name in ("images", "pixels") else pytest.approx(value, abs=1e-12)), name


def pairs_on_disk(data: Path, list_name: str, masks: dict[str, str]) -> list[tuple[np.ndarray, np.ndarray]]:
    """(truth, prediction) of every line of a list, given the masks that `predict --json` names."""
    pairs = []
    for line in (data / list_name).read_text().split():
        picture, mask = line.split(";")
        predicted = Image.open(masks[str(data / picture)])
        assert predicted.mode == "P"
        pairs.append((read_truth(data / mask), np.array(predicted)))
    return pairs


def write_odd_scenes(folder: Path) -> Path:
    """Pictures of four odd sizes, some smaller and some larger than the 32 x 48 that the network has seen."""
    lines = []
    for index, (height, width) in enumerate([(37, 53), (61, 40), (29, 30), (35, 131)]):
        picture, mask = (np.tile(array, (2, 3, 1)[: array.ndim])[:height, :width] for array in draw_scene(index))
        for kind, array in (("images", picture), ("masks", mask)):
            path = folder / kind / f"odd{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)
        lines.append(f"images/odd{index}.png;masks/odd{index}.png\n")
    (folder / "odd.txt").write_text("".join(lines))
    return folder


def test_evaluate_prints_the_content_of_metrics_json_and_nothing_else(run: Path, tmp_path: Path) -> None:
    done = pixbox("evaluate", run, "--json", cwd=tmp_path)
    assert done.status == 0, done.err
    folder = run / "evaluation" / "val"
    assert done.json == json.loads((folder / "metrics.json").read_text())
    assert (folder / "report.html").read_text().startswith("<!")
    assert list(done.json) == [
        "miou", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou", "class_iou", "class_accuracy",
        "images", "pixels", "boundary_iou", "boundary_f1", "ece", "mode", "intervals",
    ]  # fmt: skip
    assert list(done.json["class_iou"]) == NAMES
    assert done.json["class_iou"]["ghost"] is None
    assert done.json["class_accuracy"]["ghost"] is None
    assert done.json["miou"] > 0.5


def test_evaluation_equals_scikit_learn_on_the_masks_that_predict_writes(
    run: Path, scenes: Path, tmp_path: Path, command: Any
) -> None:
    predicted = command("predict", run, scenes / "images", "--out", tmp_path / "masks", "--json")
    assert predicted.status == 0, predicted.err
    assert predicted.json["failed"] == []
    pairs = pairs_on_disk(scenes, "val.txt", predicted.json["files"])
    assert any((truth < 0).any() for truth, _ in pairs)
    found = command("evaluate", run, "--json", "--out", tmp_path / "figures")
    assert_figures(found.json, scikit_learn_figures(pairs))
    assert json.loads((tmp_path / "figures/metrics.json").read_text()) == found.json


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_masks_of_any_size_are_counted_at_their_own_size(run: Path, tmp_path: Path, command: Any, fit: str) -> None:
    data = write_odd_scenes(tmp_path / "odd")
    other = ("--set", f"data.fit={fit}")
    predicted = command("predict", run, data / "images", "--out", tmp_path / "masks", "--json", *other)
    pairs = pairs_on_disk(data, "odd.txt", predicted.json["files"])
    assert [predicted.shape for _, predicted in pairs] == [(37, 53), (61, 40), (29, 30), (35, 131)]
    found = command(
        "evaluate", run, "--json", "--out", tmp_path / "figures", *other,
        "--set", f"data.root={data}", "--set", "data.val=odd.txt",
    )  # fmt: skip
    assert found.status == 0, found.err
    assert found.json["pixels"] == sum(int((truth >= 0).sum()) for truth, _ in pairs)
    assert_figures(found.json, scikit_learn_figures(pairs))


def test_center_crop_counts_only_the_center(run: Path, scenes: Path, tmp_path: Path, command: Any) -> None:
    # Height 40 is the short side already, so nothing is resized: columns 8 to 47 of 56 count.
    center = slice(8, 48)
    changed = shutil.copytree(scenes, tmp_path / "changed")
    for line in (changed / "val.txt").read_text().split():
        for path in (changed / part for part in line.split(";")):
            array = np.array(Image.open(path))
            inside = array[:, center].copy()
            array[:] = 80
            array[:, center] = inside
            Image.fromarray(array).save(path)
    settings = ("--json", "--set", "evaluation.crop=center", "--set", "data.size=[40, 40]", "--out", tmp_path / "out")
    here = command("evaluate", run, *settings)
    assert here.status == 0, here.err
    masks = [read_truth(scenes / line.split(";")[1]) for line in (scenes / "val.txt").read_text().split()]
    assert here.json["pixels"] == sum(int((mask[:, center] >= 0).sum()) for mask in masks)
    there = command("evaluate", run, *settings, "--set", f"data.root={changed}")
    assert there.json == here.json


def test_other_data_are_evaluated_by_overriding_root_and_list(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Any
) -> None:
    data = write_scenes(tmp_path / "other", train=1, val=2)
    shutil.copy(data / "val.txt", data / "few.txt")
    monkeypatch.chdir(tmp_path)
    found = command(
        "evaluate", run, "--set", "data.root=other", "--set", "data.val=few.txt", "--json", "--out", "figures"
    )
    assert found.status == 0, found.err
    assert found.json["images"] == 2


def test_a_run_with_val_fraction_is_scored_on_the_held_out_part_or_on_other_data(
    scenes: Path, tmp_path: Path, command: Any
) -> None:
    config = experiment(scenes, data__val=None, data__val_fraction=0.25, training__max_steps=1)
    run = train_here(config, tmp_path)
    held_out = command("evaluate", run, "--json")
    assert held_out.status == 0, held_out.err
    assert held_out.json["images"] == 2  # a quarter of the eight training pictures
    trained = command("evaluate", run, "--json", "--split", "train")
    assert trained.json["images"] == 6
    both = [held_out.json["pixels"], trained.json["pixels"]]
    masks = [read_truth(scenes / line.split(";")[1]) for line in (scenes / "train.txt").read_text().split()]
    assert sum(both) == sum(int((mask >= 0).sum()) for mask in masks)
    other = command("evaluate", run, "--json", "--set", "data.val=val.txt", "--out", tmp_path / "other")
    assert other.status == 0, other.err
    assert other.json["images"] == 5


def test_a_split_that_is_not_configured_is_refused_with_the_way_out(run: Path, command: Any) -> None:
    done = command("evaluate", run, "--split", "test")
    assert done.status == 2
    assert "--set data.test=" in done.err
    assert not (run / "evaluation/test").exists()
    assert command("evaluate", run, "--split", "tset").status == 2


def test_the_test_split_is_written_beside_the_validation(run: Path, command: Any) -> None:
    done = command("evaluate", run, "--split", "test", "--set", "data.test=val.txt", "--json")
    assert done.status == 0, done.err
    assert json.loads((run / "evaluation/test/metrics.json").read_text()) == done.json
    shutil.rmtree(run / "evaluation/test")


def test_a_checkpoint_file_is_evaluated_alone(run: Path, tmp_path: Path, command: Any) -> None:
    of_run = command("evaluate", run, "--json", "--out", tmp_path / "a")
    inside = command("evaluate", run / "checkpoints/best.ckpt", "--json", "--out", tmp_path / "b")
    assert inside.json == of_run.json
    lone = Path(shutil.copy(run / "checkpoints/best.ckpt", tmp_path / "lone.ckpt"))
    done = command("evaluate", lone, "--json")
    assert done.status == 0, done.err
    assert done.json == of_run.json
    assert (tmp_path / "evaluation/val/metrics.json").is_file()


def test_other_classes_than_the_models_are_refused(run: Path, tmp_path: Path, command: Any) -> None:
    (tmp_path / "labels.yaml").write_text("classes: [{name: sky, value: 0}, {name: sea, value: 80}]\nignore: [255]\n")
    done = command("evaluate", run, "--set", f"data.labels={tmp_path / 'labels.yaml'}")
    assert done.status == 2
    assert "sky, sea" in done.err
    assert ", ".join(NAMES) in done.err


def test_every_fault_of_the_masks_is_named_before_anything_is_predicted(
    run: Path, tmp_path: Path, command: Any
) -> None:
    data = write_scenes(tmp_path / "data", train=1, val=3)
    Image.fromarray(np.full(SIZE_HW, 21, dtype=np.uint8)).save(data / "masks/s1000.png")
    Image.fromarray(np.zeros((56, 40), dtype=np.uint8)).save(data / "masks/s1001.png")
    done = command("evaluate", run, "--set", f"data.root={data}", "--out", tmp_path / "figures")
    assert done.status == 2
    for part in ("s1000.png", "value 21", "s1001.png", "40 x 56", "56 x 40"):
        assert part in done.err, done.err
    assert not (tmp_path / "figures").exists()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_picture_is_named_whichever_process_reads_it(
    run: Path, tmp_path: Path, command: Any, workers: int
) -> None:
    data = write_scenes(tmp_path / "data", train=2, val=3)
    for name in ("s0000", "s1001"):
        file = data / f"images/{name}.png"
        file.write_bytes(file.read_bytes()[:-1000])
    other = ("--set", f"data.root={data}", "--set", f"data.workers={workers}", "--out", tmp_path / "out")
    evaluated = command("evaluate", run, *other)
    trained = command("train", run / "config.yaml", *other)
    for done, name in ((evaluated, "s1001.png"), (trained, "s0000.png")):
        assert done.status == 2
        assert f"Error: {data}/images/{name}: the PNG file is incomplete" in done.err
        assert "Traceback" not in done.err
        assert "worker" not in done.err


def test_a_mask_is_a_palette_picture_of_class_indices_in_the_classes_colours(
    run: Path, scenes: Path, tmp_path: Path, command: Any
) -> None:
    done = command("predict", run, scenes / "images/s1000.png", "--out", tmp_path)
    assert done.status == 0, done.err
    with Image.open(tmp_path / "s1000.png") as mask:
        assert mask.mode == "P"
        assert mask.size == SIZE_HW[::-1]
        indices = np.array(mask)
        colors = np.array(mask.convert("RGB"))
    assert set(np.unique(indices)) <= set(range(len(NAMES)))
    for index, name in enumerate(NAMES):
        expected = [int(COLORS[name][at : at + 2], 16) for at in (1, 3, 5)]
        assert (colors[indices == index] == expected).all()
    truth = read_truth(scenes / "masks/s1000.png")
    assert accuracy_score(truth[truth >= 0], indices[truth >= 0]) > 0.8


def test_sub_folders_are_mirrored_and_equal_stems_do_not_collide(run: Path, tmp_path: Path, command: Any) -> None:
    pictures = {"a/x.png": 1, "b/x.png": 2, "b/x.jpg": 3, "b/deep/x.bmp": 4, "y.JPG": 5}
    for name, index in pictures.items():
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw_scene(index)[0]).save(tmp_path / "photos" / name)
    (tmp_path / "photos/notes.txt").write_text("not a picture")
    done = command("predict", run, tmp_path / "photos", "--out", tmp_path / "out", "--json")
    assert done.status == 0, done.err
    written = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*")}
    assert written == {"a/x.png", "b/x.png.png", "b/x.jpg.png", "b/deep/x.png", "y.png"}
    named = {picture.removeprefix(f"{tmp_path}/photos/"): mask for picture, mask in done.json["files"].items()}
    assert {name: mask.removeprefix(f"{tmp_path}/out/") for name, mask in named.items()} == {
        "a/x.png": "a/x.png", "b/x.png": "b/x.png.png", "b/x.jpg": "b/x.jpg.png", "b/deep/x.bmp": "b/deep/x.png",
        "y.JPG": "y.png",
    }  # fmt: skip


def test_equal_paths_of_two_folders_are_refused(run: Path, tmp_path: Path, command: Any) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        Image.fromarray(draw_scene(1)[0]).save(tmp_path / folder / "x.png")
    done = command("predict", run, tmp_path / "one", tmp_path / "two", "--out", tmp_path / "out")
    assert done.status == 2
    assert "different --out" in done.err
    assert not (tmp_path / "out").exists()


def test_extras_lie_beside_the_mask(run: Path, scenes: Path, tmp_path: Path, command: Any) -> None:
    picture = scenes / "images/s1001.png"
    done = command("predict", run, picture, "--out", tmp_path, "--save", "overlay,colors, probabilities,colors")
    assert done.status == 0, done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "s1001.png", "s1001_colors.png", "s1001_overlay.png", "s1001_probabilities.npz",
    ]  # fmt: skip
    with Image.open(tmp_path / "s1001.png") as mask, Image.open(tmp_path / "s1001_colors.png") as colors:
        assert colors.mode == "RGB"
        np.testing.assert_array_equal(np.array(mask.convert("RGB")), np.array(colors))
        indices, painted = np.array(mask), np.array(colors).astype(float)
    with Image.open(tmp_path / "s1001_overlay.png") as overlay, Image.open(picture) as original:
        half = (painted + np.array(original)) / 2
        assert np.abs(np.array(overlay) - half).max() <= 1
    probabilities = np.load(tmp_path / "s1001_probabilities.npz")["probabilities"]
    assert probabilities.dtype == np.float16
    assert probabilities.shape == (len(NAMES), *SIZE_HW)
    np.testing.assert_allclose(probabilities.astype(float).sum(axis=0), 1, atol=2e-3)
    # Float16 may make two nearly equal probabilities equal: the mask's class has the highest all the same.
    chosen = np.take_along_axis(probabilities, indices[None].astype(int), axis=0)[0]
    np.testing.assert_array_equal(chosen, probabilities.max(axis=0))


def test_one_broken_picture_fails_alone(run: Path, tmp_path: Path, command: Any) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for index, name in enumerate(["a.png", "b.jpg", "c.png"]):
        Image.fromarray(draw_scene(index)[0]).save(photos / name)
    (photos / "b.jpg").write_bytes((photos / "b.jpg").read_bytes()[:700])
    done = command("predict", run, photos, "--out", tmp_path / "out", "--json")
    assert done.status == 1
    assert [item["file"] for item in done.json["failed"]] == [str(photos / "b.jpg")]
    assert "incomplete" in done.json["failed"][0]["message"]
    assert set(done.json["files"]) == {str(photos / "a.png"), str(photos / "c.png")}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "c.png"]
    assert str(photos / "b.jpg") in done.err
    assert "Traceback" not in done.err


def test_predict_prints_one_json_object_and_nothing_else(
    run: Path, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    done = command("predict", run, scenes / "images/s0001.png", "--out", "masks", "--json")
    assert done.status == 0, done.err
    assert done.json["out"] == "masks"
    assert done.json["files"] == {str(scenes / "images/s0001.png"): "masks/s0001.png"}
    assert (tmp_path / "masks/s0001.png").is_file()


def test_a_picture_is_never_overwritten_by_its_mask(run: Path, tmp_path: Path, command: Any) -> None:
    photo = tmp_path / "photos/a.png"
    photo.parent.mkdir()
    Image.fromarray(draw_scene(1)[0]).save(photo)
    before = photo.read_bytes()
    for out in (photo.parent, photo.parent / "sub/.."):
        done = command("predict", run, photo.parent, "--out", out)
        assert done.status == 2
        assert "--out" in done.err
        assert photo.read_bytes() == before


def test_results_inside_the_folder_of_pictures_are_no_pictures_the_next_time(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "sub/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(draw_scene(1)[0]).save(tmp_path / name)
    for _ in range(2):
        done = command("predict", run, ".", "--out", "sub/masks", "--save", "overlay", "--json")
        assert done.status == 0, done.err
        assert done.json["files"] == {"a.png": "sub/masks/a.png", "sub/b.png": "sub/masks/sub/b.png"}


def test_a_mask_and_the_extra_of_another_picture_do_not_share_a_file(run: Path, tmp_path: Path, command: Any) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for index, name in enumerate(["a.png", "a_overlay.png"]):
        Image.fromarray(draw_scene(index)[0]).save(photos / name)
    assert command("predict", run, photos, "--out", tmp_path / "plain").status == 0
    done = command("predict", run, photos, "--out", tmp_path / "out", "--save", "overlay")
    assert done.status == 2
    assert "a_overlay.png" in done.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--save", "overlay,colours"], 'Did you mean "colors"?'),
        (["--set", "data.fit=cropp"], '"crop"'),
        (["--set", "data.fit"], "KEY=VALUE"),
    ],
)
def test_what_predict_cannot_use_is_refused(
    run: Path, scenes: Path, tmp_path: Path, command: Any, arguments: list[str], told: str
) -> None:
    done = command("predict", run, scenes / "images", "--out", tmp_path / "out", *arguments)
    assert done.status == 2
    assert told in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "out").exists()


def test_inputs_that_are_no_pictures_are_refused(run: Path, tmp_path: Path, command: Any) -> None:
    (tmp_path / "empty").mkdir()
    missing = command("predict", run, tmp_path / "nowhere.png", "--out", tmp_path / "out")
    empty = command("predict", run, tmp_path / "empty", "--out", tmp_path / "out")
    assert (missing.status, empty.status) == (2, 2)
    assert "nowhere.png: no such file" in missing.err
    assert "no picture" in empty.err


def test_an_output_folder_that_cannot_be_made_is_refused(run: Path, scenes: Path, tmp_path: Path, command: Any) -> None:
    (tmp_path / "taken").write_text("a file")
    done = command("predict", run, scenes / "images", "--out", tmp_path / "taken")
    assert done.status == 2
    assert "taken" in done.err
    assert "Traceback" not in done.err
    done = command("evaluate", run, "--out", tmp_path / "taken/below")
    assert done.status == 2
    assert "Traceback" not in done.err


def damage(run: Path, how: str, path: Path) -> Path:
    """A checkpoint of ``run`` that cannot be used any more."""
    content = torch.load(run / "checkpoints/best.ckpt", weights_only=True)
    whole = (run / "checkpoints/best.ckpt").read_bytes()
    if how == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif how == "text":
        path.write_text("name: not a checkpoint\n")
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "flipped":
        with zipfile.ZipFile(run / "checkpoints/best.ckpt") as parts:
            largest = max(parts.infolist(), key=lambda part: part.file_size)
        position = largest.header_offset + largest.file_size // 2
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 64]) + whole[position + 1 :])
    elif how == "other":
        torch.save({"state_dict": content["state_dict"]}, path)
    elif how == "hollow":
        torch.save({"pixbox": {}, "state_dict": content["state_dict"]}, path)
    elif how == "newer":
        torch.save({**content, "pixbox": {**content["pixbox"], "format": content["pixbox"]["format"] + 1}}, path)
    elif how == "misfit":
        other = {name: tensor[:1] for name, tensor in content["state_dict"].items()}
        torch.save({**content, "state_dict": other}, path)
    return path


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("cut", "cannot be read as a checkpoint"),
        ("text", "cannot be read as a checkpoint"),
        ("empty", "cannot be read as a checkpoint"),
        ("flipped", "is damaged"),
        ("other", "not a checkpoint of pixbox"),
        ("hollow", "not a checkpoint of pixbox"),
        ("newer", "newer pixbox"),
        ("misfit", "do not fit"),
    ],
)
def test_a_checkpoint_that_cannot_be_used_is_named(
    run: Path, scenes: Path, tmp_path: Path, command: Any, how: str, told: str
) -> None:
    file = damage(run, how, tmp_path / "damaged.ckpt")
    done = command("predict", file, scenes / "images", "--out", tmp_path / "out")
    assert done.status == 2
    assert f"Error: {file}: " in done.err
    assert told in done.err
    assert "Traceback" not in done.err


def test_a_run_that_is_none_is_named(tmp_path: Path, scenes: Path, command: Any) -> None:
    for missing in (tmp_path / "nowhere", tmp_path / "nowhere.ckpt"):
        done = command("evaluate", missing)
        assert done.status == 2
        assert f"Error: {missing}: " in done.err
    done = command("predict", scenes, scenes / "images", "--out", tmp_path / "out")
    assert done.status == 2
    assert "checkpoints/best.ckpt" in done.err
    assert "Traceback" not in done.err


def test_debug_shows_the_traceback_and_the_status_stays(tmp_path: Path, command: Any) -> None:
    for arguments in (("--debug", "evaluate", tmp_path / "nowhere"), ("evaluate", tmp_path / "nowhere", "--debug")):
        done = command(*arguments)
        assert done.status == 2
        assert "Traceback" in done.err
        assert f"Error: {tmp_path / 'nowhere'}: " in done.err


@pytest.mark.skipif(os.name == "nt", reason="fork")
def test_evaluating_in_several_processes_gives_the_same_figures(run: Path, tmp_path: Path, command: Any) -> None:
    found = [
        command("evaluate", run, "--json", "--out", tmp_path, "--set", f"data.workers={workers}").json
        for workers in (0, 2)
    ]
    assert found[0] == found[1]
