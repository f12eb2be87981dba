"""pixbox's own network for small machines, ``fast``, beside the quickest of those it was to replace. Two threads.

A training step at 288 x 384, batch 8, and the labels of one picture of 384 x 480, both through pixbox with the
machine's own precision: ``fast``, FPN (128/64) on RegNetY-004 and U-Net on ResNet-18. Speed alone; what is learned in
an hour is in benchmarks/camvid.md.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.measure import Case, Comparison, Goal
from benchmarks.models import PRECISION, autocast
from benchmarks.pictures import camvid
from pixbox.checkpoint import LoadedRun, Position
from pixbox.config import Experiment
from pixbox.data.dataset import as_batch
from pixbox.labels import LabelMap
from pixbox.optim import build_optimizer
from pixbox.prediction.predictor import Predictor
from pixbox.sample import Batch, Mask, Sample
from pixbox.tasks.segmentation import build_segmentation

THREADS = 2
TRAIN_HW, PREDICT_HW = (288, 384), (384, 480)
_FPN = "fpn (128/64), regnety_004"
_MODELS: Mapping[str, dict[str, Any]] = {
    "fast": {"architecture": "fast"},
    _FPN: {
        "architecture": "fpn",
        "encoder": "regnety_004",
        "options": {"decoder_pyramid_channels": 128, "decoder_segmentation_channels": 64},
    },
    "unet, resnet18": {"architecture": "unet", "encoder": "resnet18"},
}


def comparisons(options: argparse.Namespace) -> Iterator[Comparison]:
    train_hw, predict_hw, batch = ((64, 96), (64, 96), 2) if options.quick else (TRAIN_HW, PREDICT_HW, 8)
    with tempfile.TemporaryDirectory() as folder:
        pictures = camvid(options, batch, Path(folder))
        samples, labels = pictures.samples(), pictures.reader.labels
        window = as_batch([_cut(sample, train_hw) for sample in samples])
        yield _comparison(
            f"A training step, {batch} x 3 x {train_hw[0]} x {train_hw[1]}, {PRECISION}",
            {name: _step(model, labels, window) for name, model in _MODELS.items()},
            batch,
        )
        image = _fitted(samples[0].image, predict_hw)
        yield _comparison(
            f"Labels of a picture, {predict_hw[0]} x {predict_hw[1]}, {PRECISION}",
            {name: _labels(model, labels, image) for name, model in _MODELS.items()},
            1,
        )


def _comparison(title: str, runs: Mapping[str, Callable[[], None]], pictures: int) -> Comparison:
    return Comparison(
        title,
        "pictures/s",
        [Case(name, run, pictures) for name, run in runs.items()],
        goals=[Goal("fast", _FPN, 1.0, "no slower than the quickest network of its kind")],
    )


def _experiment(model: dict[str, Any], labels: LabelMap) -> Experiment:
    return Experiment.model_validate({
        "name": "benchmark",
        "data": {"root": ".", "labels": labels},
        "model": model,
        "training": {"precision": PRECISION},
    })  # fmt: skip


def _step(model: dict[str, Any], labels: LabelMap, batch: Batch) -> Callable[[], None]:
    torch.manual_seed(0)
    experiment = _experiment(model, labels)
    task = build_segmentation(experiment, labels)
    network = task.network.to(memory_format=torch.channels_last)
    optimizer = build_optimizer(experiment.optimizer, network.encoder_parameters(), network.decoder_parameters())

    def step() -> None:
        task.train()
        optimizer.zero_grad()
        with autocast(PRECISION):
            loss = task.total(task.loss_sums(batch, None), task.loss_weights(batch))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        loss.item()

    return step


def _labels(model: dict[str, Any], labels: LabelMap, image: NDArray[np.uint8]) -> Callable[[], None]:
    torch.manual_seed(0)
    experiment = _experiment(model, labels)
    task = build_segmentation(experiment, labels).eval()
    predictor = Predictor(LoadedRun(task, experiment, Position(0, 0, {}), Path()), "cpu")
    prepared = predictor.prepare(image)

    def label() -> None:
        predictor.label(prepared.fitted, prepared.placement)

    return label


def _cut(sample: Sample, size_hw: tuple[int, int]) -> Sample:
    height, width = size_hw
    assert isinstance(sample.target, Mask)
    return Sample(sample.id, sample.image[:height, :width], Mask(sample.target.classes[:height, :width]))


def _fitted(image: NDArray[np.uint8], size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    rows, columns = (np.arange(side) % limit for side, limit in zip(size_hw, image.shape[:2], strict=True))
    return np.ascontiguousarray(image[rows][:, columns])
