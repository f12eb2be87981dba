"""Every recipe reads, trains, is evaluated and predicts, on a miniature of the data that it names."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from scipy.io import savemat

import pixbox
from pixbox.config import Experiment, read_experiment
from pixbox.data.splits import labels_of
from pixbox.labels import LabelMap
from pixbox.results import Detections

FOLDER = Path(__file__).parents[2] / "recipes"
RECIPES = sorted(path.stem for path in FOLDER.glob("*.yaml") if "data" in yaml.safe_load(path.read_text()))
SIZE_HW = (70, 50)
# The smallest encoder that an architecture takes; SegNet has two only, of 29 million parameters.
SMALL_ENCODER = {
    "unet": "test_resnet", "pspnet": "test_resnet", "classifier": "test_resnet", "retinanet": "resnet10t",
}  # fmt: skip
# What a run of the task is judged by, and its table of classes.
MEASURES = {
    "segmentation": ("miou", "class_iou"),
    "detection": ("map_50", "class_ap_50"),
    "classification": ("accuracy", "class_accuracy"),
}
Pixels = dict[str, tuple[np.ndarray, np.ndarray]]


def draw(names: list[str], labels: LabelMap) -> Pixels:
    """Noise with masks of bands, each of a value that the label map knows."""
    values = [value for item in labels.classes for value in item.values[:1]]
    values += [value for value in labels.ignore if isinstance(value, int)]
    drawn: Pixels = {}
    for index, name in enumerate(names):
        rng = np.random.default_rng(index)
        bands = rng.choice(np.array(values, dtype=np.uint8), 7)
        mask = np.repeat(np.repeat(bands, 10)[:, None], SIZE_HW[1], axis=1)
        drawn[name] = rng.integers(0, 256, (*SIZE_HW, 3), dtype=np.uint8), mask
    return drawn


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".mat":
        savemat(path, {"groundtruth": pixels})
    else:
        Image.fromarray(pixels).save(path)


def write_list(recipe: Experiment, root: Path) -> None:
    """`image;label` lines in every list that the recipe names."""
    labels = labels_of(recipe)
    for split in (recipe.data.train, recipe.data.val, recipe.data.test):
        if split is None:
            continue
        lines = []
        for name, (image, mask) in draw([f"{Path(str(split)).stem}{i}" for i in range(4)], labels).items():
            save(root / f"images/{name}.png", image)
            save(root / f"masks/{name}.png", mask)
            lines.append(f"images/{name}.png;masks/{name}.png\n")
        (root / str(split)).write_text("".join(lines))


def write_ccp(recipe: Experiment, root: Path) -> None:
    """Photos, of which one has no pixel label; MATLAB masks; the list of 59 names."""
    names = ["null", *(f"cloth{index}" for index in range(1, 59))]
    cells = np.empty((1, 59), dtype=object)
    cells[0] = names
    savemat(root / "label_list.mat", {"label_list": cells})
    for name, (image, mask) in draw([f"{index:04d}" for index in range(1, 7)], labels_of(recipe)).items():
        save(root / f"photos/{name}.jpg", image)
        if name != "0006":
            save(root / f"annotations/pixel-level/{name}.mat", mask)


def write_class_folders(recipe: Experiment, root: Path) -> None:
    """Two classes of two pictures in every folder that the recipe names."""
    for split in (recipe.data.train, recipe.data.val, recipe.data.test):
        for name in ("n01440764", "n01443537") if split is not None else ():
            for index in range(2):
                rng = np.random.default_rng(index)
                save(root / f"{split}/{name}/{index}.jpg", rng.integers(0, 256, (*SIZE_HW, 3), dtype=np.uint8))


BOX = (10, 20, 34, 52)


def write_voc_boxes(recipe: Experiment, root: Path) -> None:
    """Four pictures a split with one object each, except that the last has none."""
    for split in (recipe.data.train, recipe.data.val, recipe.data.test):
        names = [f"{split}{index}" for index in range(4)] if split is not None else []
        for index, name in enumerate(names):
            rng = np.random.default_rng(index)
            save(root / f"JPEGImages/{name}.jpg", rng.integers(0, 256, (*SIZE_HW, 3), dtype=np.uint8))
            corners = "".join(
                f"<{key}>{v}</{key}>" for key, v in zip(("xmin", "ymin", "xmax", "ymax"), BOX, strict=True)
            )
            thing = f"<object><name>{'cat' if index % 2 else 'dog'}</name><bndbox>{corners}</bndbox></object>"
            write_text(root / f"Annotations/{name}.xml", f"<annotation>{thing if index < 3 else ''}</annotation>")
        if names:
            write_text(root / f"ImageSets/Main/{split}.txt", "\n".join(names) + "\n")


def write_coco(recipe: Experiment, root: Path) -> None:
    """The same as COCO has it."""
    x1, y1, x2, y2 = BOX
    for split in (recipe.data.train, recipe.data.val, recipe.data.test):
        if split is None:
            continue
        stem = Path(str(split)).stem
        files = [f"images/{stem}{index}.jpg" for index in range(4)]
        for index, file in enumerate(files):
            save(root / file, np.random.default_rng(index).integers(0, 256, (*SIZE_HW, 3), dtype=np.uint8))
        content = {
            "images": [
                {"id": i, "file_name": file, "height": SIZE_HW[0], "width": SIZE_HW[1]} for i, file in enumerate(files)
            ],
            "categories": [{"id": 1, "name": "building"}],
            "annotations": [
                {"id": i, "image_id": i, "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1], "iscrowd": 0}
                for i in range(3)
            ],
        }
        write_text(root / str(split), json.dumps(content))


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


WRITERS: dict[tuple[str, str], Callable[[Experiment, Path], None]] = {
    ("segmentation", "list"): write_list,
    ("segmentation", "ccp"): write_ccp,
    ("detection", "voc-boxes"): write_voc_boxes,
    ("detection", "coco"): write_coco,
    ("classification", "imagefolder"): write_class_folders,
}
"""(task, format) -> what writes a miniature of the data: four pictures, or six without a validation split."""


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_says_what_it_reproduces_and_where_its_data_come_from(name: str, tmp_path: Path) -> None:
    file = FOLDER / f"{name}.yaml"
    recipe = read_experiment(file)
    assert recipe.name == name
    assert file.read_text().startswith("# ")
    with pytest.raises(pixbox.PixboxError) as error:
        pixbox.train(file, overrides={"data.root": str(tmp_path / "nowhere")}, out=tmp_path / "run")
    (fault,) = error.value.faults
    assert fault.where == str(tmp_path / "nowhere")
    assert recipe.origin.strip() in fault.hint
    assert "--set data.root=" in fault.hint
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if "segnet" in name else name for name in RECIPES]
)
def test_a_recipe_trains_is_evaluated_and_predicts(name: str, tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    overrides: dict[str, Any] = {
        "data.root": str(root),
        "data.size": [64, 64],
        "data.batch_size": 2,
        "data.workers": 0,
        "model.weights": "none",
        "training.max_steps": 2,
        "training.precision": "32",
    }
    recipe = read_experiment(FOLDER / f"{name}.yaml", overrides)
    WRITERS[recipe.task, recipe.data.format](recipe, root)
    if recipe.first_stage is not None:
        overrides["first_stage.epochs"] = 1
    if recipe.model.architecture in SMALL_ENCODER:
        overrides["model.encoder"] = SMALL_ENCODER[recipe.model.architecture]

    run = pixbox.train(FOLDER / f"{name}.yaml", overrides, out=tmp_path / "run")
    assert run.steps == 2
    assert (tmp_path / "run/first_stage/checkpoints/last.ckpt").is_file() == (recipe.first_stage is not None)

    labels = labels_of(recipe)
    metrics = pixbox.evaluate(run.run).metrics
    assert metrics["images"] == (4 if recipe.data.val else 1)
    measure, of_classes = MEASURES[recipe.task]
    assert list(metrics[of_classes]) == list(labels.names)
    assert metrics[measure] == pytest.approx(run.best[measure], abs=1e-6)

    pictures = sorted(root.rglob("*.jpg")) or sorted((root / "images").iterdir())
    model = pixbox.load(run.run)
    predicted = pixbox.predict(run.run, pictures[:2], out=tmp_path / "predicted", save=["overlay"])
    assert predicted.failed == ()
    for picture, file in predicted.files.items():
        found = model.predict(picture)
        if not isinstance(found, pixbox.Segmentation):
            assert json.loads(Path(file).read_text()) == found.to_plain()
            assert found.image.shape == (*SIZE_HW, 3)
            continue
        with Image.open(file) as saved:
            assert saved.size == SIZE_HW[::-1]
            np.testing.assert_array_equal(np.array(saved), found.mask)

    # Where nothing is monitored the last one counts as the best.
    kept = "last" if recipe.training.monitor == "off" else "best"
    content = torch.load(run.run / f"checkpoints/{kept}.ckpt", weights_only=True)
    assert [item["name"] for item in content["pixbox"]["labels"]["classes"]] == list(labels.names)
    assert_answers_as_its_checkpoint(model, content["state_dict"], pictures[0])


def assert_answers_as_its_checkpoint(model: pixbox.Model, state: dict[str, torch.Tensor], picture: Path) -> None:
    """The loaded model answers as a network that is built anew and filled with the saved tensors."""
    from pixbox.checkpoint import LoadedRun, Position
    from pixbox.prediction.predictor import Predictor
    from pixbox.tasks.build import build_task

    weights = torch.ones(len(model.labels)) if "task.loss.class_weights" in state else None
    task = build_task(model.experiment, model.labels, weights)
    task.load_state_dict({name.removeprefix("task."): tensor for name, tensor in state.items()})
    anew = Predictor(LoadedRun(task, model.experiment, Position(0, 0, {}), picture))
    expected, found = anew.predict(picture, probabilities=True), model.predict(picture, probabilities=True)
    for name in ("boxes_xyxy", "classes", "scores") if isinstance(found, Detections) else ("probabilities",):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-6)
