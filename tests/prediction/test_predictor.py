"""Whole pictures through a network whose answer is known: it calls bright pixels `bright`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from pixbox.checkpoint import LoadedRun, Position
from pixbox.config import Experiment
from pixbox.errors import DataError
from pixbox.labels import LabelMap
from pixbox.losses import build_loss
from pixbox.prediction.predictor import Predictor
from pixbox.tasks.build import build_task
from pixbox.tasks.segmentation import SegmentationTask

LABELS = LabelMap.model_validate({"classes": ["dark", "bright"]})


class Brightness(nn.Module):
    """(B, 3, H, W) uint8 -> (B, 2, H, W): logits of dark and bright, in favour of bright above 127.5."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(0.2))
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, images: Tensor) -> Tensor:
        assert images.dtype == torch.uint8
        self.sizes.append(tuple(images.shape[2:]))
        above = (images.float().mean(dim=1, keepdim=True) - 127.5) * self.gain
        return torch.cat([-above, above], dim=1)


def predictor(**data: Any) -> Predictor:
    experiment = Experiment.model_validate({"name": "x", "data": {"root": "nowhere", **data}})
    network: Any = Brightness()
    settings = experiment.loss.model_dump(exclude={"class_weights", "auxiliary_weight"})
    task = SegmentationTask(network, build_loss(**settings, class_weights=None), LABELS, 0.0)
    return Predictor(LoadedRun(task, experiment, Position(0, 0, {}), Path("x.ckpt")), device="cpu", task=task)


def picture_and_truth(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A bright rectangle off the centre of a dark picture."""
    truth = np.zeros((height, width), dtype=np.uint8)
    truth[height // 5 : height // 2, width // 3 : width - width // 7] = 1
    return np.where(truth[:, :, None] == 1, 220, 30).astype(np.uint8).repeat(3, axis=2), truth


def near_an_edge(truth: np.ndarray, reach: int) -> np.ndarray:
    """Pixels within ``reach`` of a change of class."""
    near = np.zeros(truth.shape, dtype=bool)
    padded = np.pad(truth, reach, mode="edge")
    for row in range(2 * reach + 1):
        for column in range(2 * reach + 1):
            near |= padded[row : row + truth.shape[0], column : column + truth.shape[1]] != truth
    return near


@pytest.mark.parametrize("image_hw", [(31, 47), (90, 64), (65, 150)])
def test_at_its_own_size_every_pixel_is_answered_exactly(image_hw: tuple[int, int]) -> None:
    image, truth = picture_and_truth(*image_hw)
    whole = predictor(size=(32, 32))
    np.testing.assert_array_equal(whole.predict(image).mask, truth)
    network: Any = whole.task.network
    assert network.sizes == [image_hw]


@pytest.mark.parametrize("fit", ["pad", "stretch"])
@pytest.mark.parametrize("size_hw", [(64, 96), (33, 40), (200, 150)])
@pytest.mark.parametrize("image_hw", [(31, 47), (90, 64), (65, 150)])
def test_resized_pictures_are_answered_in_their_own_place(
    fit: str, size_hw: tuple[int, int], image_hw: tuple[int, int]
) -> None:
    image, truth = picture_and_truth(*image_hw)
    resized = predictor(size=size_hw, fit=fit)
    result = resized.predict(image, probabilities=True)
    network: Any = resized.task.network
    assert network.sizes == [size_hw]
    # Where a picture is shrunk by a factor, an edge is known no better than that many pixels.
    factors = [own / seen for own, seen in zip(image_hw, size_hw, strict=True)]
    wrong = result.mask != truth
    assert not wrong[~near_an_edge(truth, max(1, round(max(factors))))].any()
    assert result.probabilities is not None
    np.testing.assert_allclose(result.probabilities.sum(axis=0), 1, atol=1e-5)
    np.testing.assert_array_equal(result.probabilities.argmax(axis=0), result.mask)
    np.testing.assert_array_equal(result.image, image)


def test_base_size_resizes_the_long_side_and_back() -> None:
    image, truth = picture_and_truth(50, 100)
    resized = predictor(base_size=200)
    np.testing.assert_array_equal(resized.predict(image).mask[~near_an_edge(truth, 1)], truth[~near_an_edge(truth, 1)])
    network: Any = resized.task.network
    assert network.sizes == [(100, 200)]


def test_a_file_and_its_pixels_are_answered_alike(tmp_path: Path) -> None:
    image, truth = picture_and_truth(20, 30)
    Image.fromarray(image).save(tmp_path / "street.png")
    result = predictor().predict(tmp_path / "street.png")
    assert result.name == "street"
    np.testing.assert_array_equal(result.mask, truth)
    np.testing.assert_array_equal(predictor().predict(str(tmp_path / "street.png")).mask, truth)


@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_views_and_read_only_arrays_are_pictures_too(fit: str) -> None:
    image, truth = picture_and_truth(20, 30)
    image.flags.writeable = False
    mirrored = image[::-1, ::-1, ::-1]
    whole = predictor(fit=fit, size=(40, 60))
    sure = ~near_an_edge(truth, 1)
    np.testing.assert_array_equal(whole.predict(mirrored).mask[::-1, ::-1][sure], truth[sure])


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((4, 5), np.uint8), np.zeros((4, 5, 4), np.uint8), np.zeros((3, 4, 5), np.uint8),
        np.zeros((4, 5, 3), np.float32), np.zeros((0, 5, 3), np.uint8),
    ],
    ids=["grey", "alpha", "channels first", "float", "empty"],
)  # fmt: skip
def test_another_array_is_refused(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match="a picture is"):
        predictor().predict(wrong)


def test_a_file_that_is_no_picture_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_text("no picture")
    with pytest.raises(DataError, match=r"x\.png"):
        predictor().predict(tmp_path / "x.png")


@pytest.mark.parametrize("name", ["segmentation", "detection", "classification"])
def test_predictions_are_what_the_trained_network_says(name: str) -> None:
    experiment = Experiment.model_validate({
        "name": "x", "task": name, "data": {"root": "nowhere", "size": [64, 96]}, "training": {"precision": "32"},
        "model": {"encoder": "resnet18"}, "detection": {"score_threshold": 0.0},
    })  # fmt: skip
    torch.manual_seed(0)
    task: Any = build_task(experiment, LABELS).eval()
    looking = Predictor(LoadedRun(task, experiment, Position(0, 0, {}), Path("x.ckpt")), device="cpu")
    pictures = [looking.prepare(np.random.default_rng(seed).integers(0, 256, (70, 90, 3), np.uint8)) for seed in (0, 1)]
    found: Any = looking.predict_together(pictures)
    for prediction, picture in zip(found, pictures, strict=True):
        with torch.inference_mode():
            wanted = task.decode(task.answer(picture.fitted, picture.placement), picture.placement)
        if name == "segmentation":
            assert np.mean(prediction.mask == wanted.numpy()) > 0.999
        elif name == "classification":
            np.testing.assert_allclose(prediction.probabilities, wanted.numpy(), atol=1e-4)
        else:
            assert len(prediction.scores) == len(wanted.scores) > 10
            # Neighbours in rank whose scores are equal up to rounding may change places.
            apart = np.abs(prediction.boxes_xyxy[:, None] - wanted.boxes_xyxy.numpy()).max(axis=2)
            assert np.mean(apart.min(axis=1) < 0.01) > 0.99
