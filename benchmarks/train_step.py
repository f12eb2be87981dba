"""One step of training a network that labels pixels: forward, loss, backward, optimizer. 352 x 480, two threads.

pixbox's task beside the same network of segmentation-models-pytorch (SMP) with the same weights: at PyTorch's defaults
(fp32, AdamW), and with every flag set by hand (channels_last, fused AdamW, bf16 where the hardware computes it).
Pictures are in memory: pixbox is given raw uint8 pixels, as its loader gives them, and normalises; the others floats
that are normalised already. ``pixbox, with figures`` also counts the confusion matrix that its log shows, as each
training does.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.measure import Case, Comparison, Goal, require
from benchmarks.models import PRECISION, SegmentationPair, autocast, flags, normalised, segmentation_pair
from benchmarks.pictures import camvid
from pixbox.data.dataset import as_batch
from pixbox.labels import IGNORE
from pixbox.metrics import ConfusionMatrix
from pixbox.optim import build_optimizer
from pixbox.sample import Batch, Mask, Sample

THREADS = 2
SIZE_HW = (352, 480)
_NETWORKS = (
    ("unet", "resnet18", 4),
    ("unet", "resnet18", 8),
    ("unet", "resnet34", 4),
    ("deeplabv3plus", "resnet18", 4),
)


def comparisons(options: argparse.Namespace) -> Iterator[Comparison]:
    size_hw = (64, 96) if options.quick else SIZE_HW
    with tempfile.TemporaryDirectory() as folder:
        pictures = camvid(options, 8, Path(folder))
        samples = [_cut(sample, size_hw) for sample in pictures.samples()]
        for architecture, encoder, batch in _NETWORKS[:1] if options.quick else _NETWORKS:
            pair = segmentation_pair(architecture, encoder, pictures.reader.labels, size_hw)
            yield _comparison(pair, as_batch(samples[:batch]), pictures.name.split(",")[0])


def _cut(sample: Sample, size_hw: tuple[int, int]) -> Sample:
    height, width = size_hw
    assert isinstance(sample.target, Mask)
    return Sample(sample.id, sample.image[:height, :width], Mask(sample.target.classes[:height, :width]))


def _comparison(pair: SegmentationPair, batch: Batch, data: str) -> Comparison:
    images = normalised(batch.images)
    assert isinstance(batch.targets, Tensor)
    targets = batch.targets.long()
    words = "the loss of the first batch with the same weights, to a thousandth"
    equal = require(_losses_agree(pair, batch, images, targets), words)
    twin = f"SMP, {flags(PRECISION)}, fused AdamW"
    height, width = batch.images.shape[-2:]
    return Comparison(
        f"{pair.name}, batch {len(batch)}, {height} x {width}, {data}, pixbox in {PRECISION}",
        "pictures/s",
        [
            Case("pixbox", _pixbox(pair, batch, None), len(batch)),
            Case("pixbox, with figures", _pixbox(pair, batch, ConfusionMatrix(len(pair.task.labels))), len(batch)),
            Case("SMP, defaults", _by_hand(pair.model, images, targets, tuned=False), len(batch)),
            Case(twin, _by_hand(pair.model, images, targets, tuned=True), len(batch)),
        ],
        goals=[Goal("pixbox", twin, 1.0, "the bare step costs nothing more than every flag set by hand")],
        equal=[pair.equal, equal],
    )


def _losses_agree(pair: SegmentationPair, batch: Batch, images: Tensor, targets: Tensor) -> bool:
    with torch.no_grad():
        pair.task.eval(), pair.model.eval()
        ours = pair.task.total(pair.task.loss_sums(batch, None), pair.task.loss_weights(batch))
        theirs = functional.cross_entropy(pair.model(images), targets, ignore_index=IGNORE)
    return abs(float(ours) - float(theirs)) < 1e-3 * float(theirs)


def _pixbox(pair: SegmentationPair, batch: Batch, seen: ConfusionMatrix | None) -> Callable[[], None]:
    """What ``TrainingModule.training_step`` does in one process."""
    task = pair.task
    task.network.to(memory_format=torch.channels_last)
    network = task.network
    optimizer = build_optimizer(pair.experiment.optimizer, network.encoder_parameters(), network.decoder_parameters())

    def step() -> None:
        task.train()
        optimizer.zero_grad()
        weights = task.loss_weights(batch)
        with autocast(PRECISION):
            loss = task.total(task.loss_sums(batch, seen), weights)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        loss.item()

    return step


def _by_hand(model: nn.Module, images: Tensor, targets: Tensor, *, tuned: bool) -> Callable[[], None]:
    layout = torch.channels_last if tuned else torch.contiguous_format
    pictures = images.contiguous(memory_format=layout)
    # A network of its own for each case: the layout of weights is one of the settings.
    own = copy.deepcopy(model).to(memory_format=layout).train()
    optimizer = torch.optim.AdamW(own.parameters(), lr=1e-3, fused=True if tuned else None)

    def step() -> None:
        optimizer.zero_grad()
        with autocast(PRECISION if tuned else "32"):
            loss = functional.cross_entropy(own(pictures), targets, ignore_index=IGNORE)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        loss.item()

    return step
