"""One step of training a RetinaNet: matching, forward, losses, backward, optimizer. Batch 2, 320 and 640, two threads.

pixbox's task beside torchvision's model with the same weights, at its defaults (fp32, AdamW) and with every flag set
by hand (channels_last, fused AdamW, bf16 where the hardware computes it). ResNet-50 is torchvision's second version,
ResNet-18 its first. Pictures and boxes are BCCD's, stretched and in memory, uint8 for pixbox and floats for
torchvision.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from benchmarks.measure import Case, Comparison, Goal
from benchmarks.models import PRECISION, DetectionPair, autocast, detection_pair, flags
from benchmarks.pictures import cells, resized
from pixbox.data.dataset import as_batch
from pixbox.optim import build_optimizer
from pixbox.sample import Batch, Boxes, Sample

THREADS = 2
BATCH = 2


def comparisons(options: argparse.Namespace) -> Iterator[Comparison]:
    data, samples, labels = cells(options, BATCH)
    for backbone in ("resnet18",) if options.quick else ("resnet50", "resnet18"):
        for side in (128,) if options.quick else (320, 640):
            pair = detection_pair(backbone, labels, side)
            yield _comparison(pair, [stretched(sample, side) for sample in samples], data)


def stretched(sample: Sample, side: int) -> Sample:
    """A square picture with its boxes."""
    boxes = sample.target
    assert isinstance(boxes, Boxes)
    height, width = sample.size_hw
    scale = np.array([side / width, side / height] * 2, dtype=np.float32)
    moved = Boxes(boxes.xyxy * scale, boxes.classes, boxes.difficult, boxes.crowd)
    return Sample(sample.id, resized(sample, (side, side)), moved)


def _comparison(pair: DetectionPair, samples: Sequence[Sample], data: str) -> Comparison:
    twin = f"torchvision, {flags(PRECISION)}, fused AdamW"
    return Comparison(
        f"{pair.name}, batch {BATCH}, {data}, pixbox in {PRECISION}",
        "pictures/s",
        [
            Case("pixbox", _pixbox(pair, as_batch(samples)), BATCH),
            Case("torchvision, defaults", _torchvision(pair, samples, tuned=False), BATCH),
            Case(twin, _torchvision(pair, samples, tuned=True), BATCH),
        ],
        goals=[
            Goal("pixbox", "torchvision, defaults", 2.0, "what a user gets who sets nothing"),
            Goal("pixbox", twin, 1.0, "every flag set by hand"),
        ],
        equal=[pair.equal],
    )


def _pixbox(pair: DetectionPair, batch: Batch) -> Callable[[], None]:
    """What ``TrainingModule.training_step`` does in one process."""
    task = pair.task
    network = task.network
    network.to(memory_format=torch.channels_last)
    optimizer = build_optimizer(pair.experiment.optimizer, network.encoder_parameters(), network.decoder_parameters())

    def step() -> None:
        task.train()
        optimizer.zero_grad()
        weights = task.loss_weights(batch)
        with autocast(PRECISION):
            loss = task.total(task.loss_sums(batch, None), weights)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        loss.item()

    return step


def _torchvision(pair: DetectionPair, samples: Sequence[Sample], *, tuned: bool) -> Callable[[], None]:
    layout = torch.channels_last if tuned else torch.contiguous_format
    model = copy.deepcopy(pair.model).to(memory_format=layout).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True if tuned else None)
    images, targets = [], []
    for sample in samples:
        assert isinstance(sample.target, Boxes)
        images.append(torch.from_numpy(sample.image).permute(2, 0, 1).float().contiguous() / 255)
        boxes, classes = torch.from_numpy(sample.target.xyxy), torch.from_numpy(sample.target.classes)
        targets.append({"boxes": boxes, "labels": classes})

    def step() -> None:
        optimizer.zero_grad()
        with autocast(PRECISION if tuned else "32"):
            loss = sum(model(images, targets).values(), torch.zeros(()))
        loss.backward()
        optimizer.step()
        loss.item()

    return step
