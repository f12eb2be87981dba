"""Scores of a batch of logits: 8 x 12 x 360 x 360 to a confusion matrix and the mean IoU, one thread.

pixbox's ``predicted_classes`` and ``ConfusionMatrix`` beside torchmetrics' Jaccard index and the usual few lines (class
by ``argmax``, ignored pixels left out, ``np.bincount``). The logits lie in memory as a network leaves them: channels
last, as pixbox trains, or channels first. All must give the same mean IoU.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.measure import Case, Comparison, Goal, peers, require
from pixbox.labels import IGNORE
from pixbox.metrics import ConfusionMatrix, predicted_classes

THREADS = 1
CLASSES = 12
_NAMES = [f"class {index}" for index in range(CLASSES)]
PLAIN = "argmax and np.bincount"
TORCHMETRICS = "torchmetrics, Jaccard index"


def comparisons(options: argparse.Namespace) -> Iterator[Comparison]:
    batch, side = (2, 64) if options.quick else (8, 360)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(batch, CLASSES, side, side, generator=generator)
    target = torch.randint(0, CLASSES, (batch, side, side), generator=generator, dtype=torch.uint8)
    # A twentieth ignored; the truth is likely where the network says so.
    target = torch.where(torch.rand(target.shape, generator=generator) < 0.6, logits.argmax(1).to(torch.uint8), target)
    target[torch.rand(target.shape, generator=generator) < 0.05] = IGNORE
    for layout, values in (
        ("channels last", logits.contiguous(memory_format=torch.channels_last)),
        ("channels first", logits),
    ):
        yield _comparison(f"{batch} x {CLASSES} x {side} x {side}, {layout}", values, target)


def _comparison(title: str, logits: Tensor, target: Tensor) -> Comparison:
    # Both get their targets as they like them, before the clock runs.
    wide, plain = target.long(), target.numpy()
    cases = [
        Case("pixbox", lambda: _by_pixbox(logits, target)),
        Case(PLAIN, lambda: _by_bincount(logits, plain)),
    ]
    others, left_out = peers(
        [("torchmetrics", TORCHMETRICS, lambda: Case(TORCHMETRICS, lambda: _by_torchmetrics(logits, wide)))]
    )
    cases += others
    found = [float(str(case.run())) for case in cases]
    return Comparison(
        title,
        "ms",
        [*cases, Case("argmax(dim=1) alone", lambda: logits.argmax(dim=1))],
        goals=[
            Goal("pixbox", PLAIN, 1.7, "the usual few lines"),
            Goal("pixbox", TORCHMETRICS, 4.0, "the usual library"),
        ],
        equal=[require(max(found) - min(found) < 1e-6, f"the mean IoU, {found[0]:.6f}, to six digits")],
        left_out=left_out,
    )


def _by_pixbox(logits: Tensor, target: Tensor) -> float:
    confusion = ConfusionMatrix(CLASSES)
    confusion.update(predicted_classes(logits), target)
    miou = confusion.compute(_NAMES).miou
    assert miou is not None
    return miou


def _by_bincount(logits: Tensor, target: NDArray[np.uint8]) -> float:
    predicted = logits.argmax(dim=1).numpy()
    kept = target != IGNORE
    index = CLASSES * target[kept].astype(np.int64) + predicted[kept]
    matrix = np.bincount(index, minlength=CLASSES**2).reshape(CLASSES, CLASSES)
    right = matrix.diagonal()
    return float((right / (matrix.sum(0) + matrix.sum(1) - right)).mean())


def _by_torchmetrics(logits: Tensor, target: Tensor) -> float:
    from torchmetrics.classification import MulticlassJaccardIndex

    metric = MulticlassJaccardIndex(CLASSES, ignore_index=IGNORE, validate_args=False)
    metric.update(logits, target)
    return float(metric.compute())
