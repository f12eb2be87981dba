"""Pictures of many sizes by the front door: the network sees each at its own size, in batches that are padded."""

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

from acceptance.conftest import Command
from pixbox.auditing.objects import compare_anchors
from pixbox.augment import FILL
from pixbox.augment.geometry import place_whole
from pixbox.config import DataConfig, DetectionConfig, Experiment, read_experiment
from pixbox.data.cache import open_cache
from pixbox.data.dataset import SampleReader, TrainingSet, WholeSet, training_loader
from pixbox.data.sampler import EpochIndex, StepSampler
from pixbox.data.splits import labels_of, read_splits
from pixbox.labels import IGNORE
from pixbox.sample import Batch, Boxes, BoxTargets, Mask
from pixbox.tasks.build import build_task

SIZES_HW = [(60, 80), (80, 60), (50, 120), (64, 64), (90, 70), (48, 61)]
GROUND, BRIGHT = 20, 230
SHORT, LONG = 40, 72


def write_squares(root: Path) -> Path:
    """A bright square on dark ground in pictures of six sizes: masks by lists, boxes as COCO writes them."""
    for split, numbers in (("train", range(6)), ("val", range(3, 6))):
        lines, images, boxes = [], [], []
        for number in numbers:
            height, width = SIZES_HW[number]
            x, y, side = 10 + 3 * number, 8 + 2 * number, 22
            mask = np.zeros((height, width), dtype=np.uint8)
            mask[y : y + side, x : x + side] = 1
            for kind, pixels in (("images", np.where(mask[..., None], BRIGHT, GROUND).repeat(3, -1)), ("masks", mask)):
                path = root / kind / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels.astype(np.uint8)).save(path)
            lines.append(f"images/{number}.png;masks/{number}.png\n")
            images.append({"id": number, "file_name": f"{number}.png", "height": height, "width": width})
            box = {"image_id": number, "category_id": 1, "bbox": [x, y, side, side], "area": side**2, "iscrowd": 0}
            boxes.append({"id": number + 1, **box})
        (root / f"{split}.txt").write_text("".join(lines))
        coco = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "square"}]}
        (root / f"{split}.json").write_text(json.dumps(coco))
    return root


def segmentation(root: Path, **data: Any) -> dict[str, Any]:
    labels = {"classes": [{"name": "ground", "value": 0}, {"name": "square", "value": 1}]}
    return {
        "name": "masks",
        "data": {
            "root": str(root), "train": "train.txt", "val": "val.txt", "labels": labels,
            "size": [SHORT, LONG], "fit": "short_side", "batch_size": 3, "workers": 0, **data,
        },
        "model": {"architecture": "unet_classic", "options": {"base_channels": 4, "norm": "group"}},
        "training": {"epochs": 1, "precision": "32", "accelerator": "cpu"},
    }  # fmt: skip


def detection(root: Path, **data: Any) -> dict[str, Any]:
    return {
        "name": "boxes",
        "task": "detection",
        "data": {
            "format": "coco", "root": str(root), "train": {"images": "images", "annotations": "train.json"},
            "val": {"images": "images", "annotations": "val.json"}, "size": [SHORT, LONG], "fit": "short_side",
            "batch_size": 3, "workers": 0, **data,
        },
        "model": {"encoder": "resnet10t", "options": {"channels": 32, "depth": 1, "encoder_norm": "group"}},
        "detection": {"anchors": [[12, 12], [20, 20]], "levels": 2, "min_area": 0.0},
        "training": {"epochs": 1, "precision": "32", "accelerator": "cpu"},
    }  # fmt: skip


Configure = Callable[..., dict[str, Any]]
TASKS = pytest.mark.parametrize("configure", [segmentation, detection], ids=["segmentation", "detection"])


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_squares(tmp_path_factory.mktemp("squares"))


def write_config(folder: Path, configured: dict[str, Any]) -> Path:
    file = folder / "experiment.yaml"
    file.write_text(yaml.safe_dump(configured))
    return file


def reader_of(experiment: Experiment) -> SampleReader:
    return SampleReader(labels_of(experiment), open_cache("none", None), task=experiment.task)


def training_set(experiment: Experiment) -> TrainingSet:
    return TrainingSet(read_splits(experiment).train, reader_of(experiment), experiment.data, seed=3)


def first_batch(experiment: Experiment) -> Batch:
    dataset = training_set(experiment)
    sampler = StepSampler(len(dataset), len(dataset), 1, seed=0, first_step=0, total_steps=1)
    ((batch,),) = training_loader(dataset, sampler, workers=0, pin_memory=False)
    return batch


@TASKS
def test_a_run_on_pictures_of_many_sizes_is_trained_scored_and_used(
    configure: Configure, squares: Path, command: Command, tmp_path: Path
) -> None:
    augment = {"flip": 0.5, "scale": [0.8, 1.25], "crop_area": [0.5, 1.0]}
    config = write_config(tmp_path, configure(squares, augment=augment))
    run = tmp_path / "run"
    done = command("train", config, "--out", run, "--json")
    assert done.status == 0, done.err
    assert done.json["steps"] == 2
    done = command("evaluate", run, "--json")
    assert done.status == 0, done.err
    report = (run / "evaluation" / "val" / "report.html").read_text(encoding="utf-8")
    assert f"shorter side {SHORT} pixels, longer side at most {LONG}" in report
    done = command("predict", run, squares / "images", "--out", tmp_path / "out", "--json")
    assert done.status == 0, done.err
    assert len(done.json["files"]) == len(SIZES_HW)
    for picture, file in done.json["files"].items():
        size_hw = list(Image.open(picture).size[::-1])
        if configure is detection:
            assert json.loads(Path(file).read_text())["size"] == size_hw
        else:
            assert list(Image.open(file).size[::-1]) == size_hw


@TASKS
def test_a_batch_is_as_large_as_its_largest_pictures_and_the_rest_is_padding(
    configure: Configure, squares: Path, tmp_path: Path
) -> None:
    batch = first_batch(read_experiment(write_config(tmp_path, configure(squares))))
    inputs = {f"images/{number}": place_whole(SIZES_HW[number], (SHORT, LONG), "short_side")[1] for number in range(6)}
    # 80 x 60 becomes 53 x 40, 50 x 120 becomes 30 x 72.
    assert {inputs["images/1"].input_hw, inputs["images/2"].input_hw} == {(53, 40), (30, 72)}
    assert batch.images.shape == (6, 3, 53, 72)
    for row, id_ in enumerate(batch.ids):
        height, width = inputs[id_].input_hw
        outside = torch.ones(53, 72, dtype=torch.bool)
        outside[:height, :width] = False
        padding = batch.images[row][:, outside]
        assert (padding == torch.tensor(FILL, dtype=torch.uint8)[:, None]).all()
        bright = batch.images[row, 0] > (GROUND + BRIGHT) / 2
        if isinstance(batch.targets, BoxTargets):
            (x1, y1, x2, y2) = batch.targets.boxes_xyxy[row, 0].tolist()
            rows, columns = torch.nonzero(bright & ~outside, as_tuple=True)
            seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            np.testing.assert_allclose([x1, y1, x2, y2], seen, atol=0.51)
        else:
            assert (batch.targets[row][outside] == IGNORE).all()
            assert (batch.targets[row][~outside] != IGNORE).all()
            assert (batch.targets[row][~outside] == bright[~outside]).float().mean() > 0.99


def test_padded_pixels_do_not_count(squares: Path, tmp_path: Path) -> None:
    experiment = read_experiment(write_config(tmp_path, segmentation(squares)))
    batch = first_batch(experiment)
    areas = [np.prod(place_whole(size_hw, (SHORT, LONG), "short_side")[1].input_hw) for size_hw in SIZES_HW]
    task = build_task(experiment, labels_of(experiment))
    weights = task.loss_weights(batch)
    assert weights.sum().item() == pytest.approx(sum(areas))


@TASKS
@pytest.mark.parametrize("fit", ["pad", "stretch", "short_side"])
def test_pictures_masks_and_boxes_of_random_parts_lie_on_each_other(
    configure: Configure, fit: str, squares: Path, tmp_path: Path
) -> None:
    augment = {"crop_area": [0.3, 1.0], "scale": [0.8, 1.25], "flip": 0.5, "flip_vertical": 0.5}
    dataset = training_set(read_experiment(write_config(tmp_path, configure(squares, fit=fit, augment=augment))))
    compared = 0
    for epoch in range(6):
        for index in range(len(dataset)):
            sample = dataset[EpochIndex(epoch, index)]
            bright = sample.image[:, :, 0] > (GROUND + BRIGHT) / 2
            if isinstance(sample.target, Mask):
                known = sample.target.classes != IGNORE
                assert (bright == (sample.target.classes == 1))[known].mean() > 0.98
                compared += 1
                continue
            assert isinstance(sample.target, Boxes)
            outside = (sample.image == FILL).all(axis=-1)
            rows, columns = np.nonzero(bright & ~outside)
            if len(rows) < 40:
                continue
            seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            np.testing.assert_allclose(sample.target.xyxy[0], seen, atol=1.01)
            compared += 1
    assert compared > 25


def test_evaluation_sees_whole_pictures_without_padding_whatever_training_cuts(squares: Path, tmp_path: Path) -> None:
    experiment = read_experiment(write_config(tmp_path, detection(squares, augment={"crop_area": [0.1, 0.2]})))
    whole = WholeSet(read_splits(experiment).val, reader_of(experiment), experiment)
    for index, size_hw in enumerate(SIZES_HW[3:]):
        item = whole[index]
        assert item.placement.original_hw == size_hw
        assert item.placement.input_hw == item.placement.content_hw == item.image.shape[:2]
        assert min(item.image.shape[:2]) == SHORT
        np.testing.assert_array_equal(item.image[0, 0], [GROUND] * 3)
        np.testing.assert_array_equal(item.image[-1, -1], [GROUND] * 3)


def test_the_audit_compares_anchors_with_boxes_at_the_size_of_the_shorter_side() -> None:
    boxes = [np.array([[100, 100, 124, 124]], np.float32)]
    anchors = DetectionConfig(anchors=[(24.0, 24.0)], levels=1)
    # The longer side decides: at most 1024 leaves 512 x 1024 as it is, at most 512 halves it.
    for longest, reached in ((1024, 1.0), (512, 0.0)):
        data = DataConfig(root=".", size=(min(600, longest), longest), fit="short_side")
        found = compare_anchors(boxes, [(512, 1024)], data, anchors)
        assert found is not None
        assert found.recall == reached
