"""Finding boxes with a RetinaNet, from pixels to boxes. Two pictures at once, 320 and 640, two threads.

pixbox's ``Predictor`` beside torchvision's model with the same weights, at its defaults (fp32) and with every flag set
by hand (channels_last, bf16 where the hardware computes it). Thresholds and numbers of boxes are torchvision's own.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from benchmarks.measure import Case, Comparison, Goal
from benchmarks.models import PRECISION, DetectionPair, autocast, detection_pair, flags
from benchmarks.pictures import cells, resized
from pixbox.checkpoint import LoadedRun, Position
from pixbox.prediction.predictor import Predictor
from pixbox.sample import Sample

THREADS = 2
BATCH = 2


def comparisons(options: argparse.Namespace) -> Iterator[Comparison]:
    data, samples, labels = cells(options, BATCH)
    for backbone in ("resnet18",) if options.quick else ("resnet50", "resnet18"):
        for side in (128,) if options.quick else (320, 640):
            yield _comparison(detection_pair(backbone, labels, side), samples, side, data)


def _comparison(pair: DetectionPair, samples: Sequence[Sample], side: int, data: str) -> Comparison:
    images = [resized(sample, (side, side)) for sample in samples]
    predictor = Predictor(LoadedRun(pair.task.eval(), pair.experiment, Position(0, 0, {}), Path()), "cpu")
    floats = [torch.from_numpy(image).permute(2, 0, 1).float().contiguous() / 255 for image in images]
    twin = f"torchvision, {flags(PRECISION)}"
    return Comparison(
        f"{pair.name}, {BATCH} pictures, {data}, pixbox in {PRECISION}",
        "pictures/s",
        [
            Case("pixbox", lambda: predictor.predict_together([predictor.prepare(image) for image in images]), BATCH),
            Case("torchvision, defaults", _torchvision(pair, floats, tuned=False), BATCH),
            Case(twin, _torchvision(pair, floats, tuned=True), BATCH),
        ],
        goals=[
            Goal("pixbox", "torchvision, defaults", 2.0, "what a user gets who sets nothing"),
            Goal("pixbox", twin, 1.05, "every flag set by hand"),
        ],
        equal=[pair.equal],
    )


def _torchvision(pair: DetectionPair, images: list[torch.Tensor], *, tuned: bool) -> Callable[[], object]:
    model = copy.deepcopy(pair.model).to(memory_format=torch.channels_last if tuned else torch.contiguous_format).eval()

    def run() -> object:
        with torch.inference_mode(), autocast(PRECISION if tuned else "32"):
            return model(images)

    return run
