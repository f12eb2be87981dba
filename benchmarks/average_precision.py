"""COCO's average precision of 364 pictures with 100 detections each, from arrays to figures.

pixbox's ``DetectionScores`` beside pycocotools, faster-coco-eval alone and torchmetrics on it. ``map``, ``map_50`` and
``mar_100`` must be equal (torchmetrics computes in float32). pixbox also computes VOC's figures.
"""

from __future__ import annotations

import argparse
import contextlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.measure import Case, Comparison, Goal, peers, require
from benchmarks.pictures import BCCD_HW, random_boxes
from pixbox.metrics import DetectionScores
from pixbox.sample import Boxes

THREADS = 1
CLASSES = ("a", "b", "c")
TORCHMETRICS = "torchmetrics on faster-coco-eval"
_EQUAL = {TORCHMETRICS: 1e-4}
"""Boxes rounded to float32 may fall to the other side of a threshold; the others agree to 1e-9."""
DETECTIONS, TRUE = 100, 14
"""Of each picture; the true boxes are about BCCD's."""

Figures = tuple[float, float, float]
"""Mean AP, AP at 0.5, recall with 100 detections."""


@dataclass(frozen=True, slots=True)
class Picture:
    """What was found in a picture, and what is there."""

    boxes_xyxy: NDArray[np.float32]
    classes: NDArray[np.int64]
    scores: NDArray[np.float32]
    truth: Boxes


def comparisons(options: argparse.Namespace) -> Iterator[Comparison]:
    pictures = [_draw(seed) for seed in range(8 if options.quick else 364)]
    runs = {
        "pixbox": ("numpy", lambda: _by_pixbox(pictures)),
        "pycocotools": ("pycocotools", lambda: _by_coco("pycocotools", pictures)),
        "faster-coco-eval": ("faster_coco_eval", lambda: _by_coco("faster_coco_eval", pictures)),
        TORCHMETRICS: ("torchmetrics", lambda: _by_torchmetrics("faster_coco_eval", pictures)),
    }
    cases, left_out = peers((library, name, partial(Case, name, run)) for name, (library, run) in runs.items())
    found: dict[str, Any] = {case.name: case.run() for case in cases}
    apart = {
        name: max(abs(own - other) for own, other in zip(found["pixbox"], figures, strict=True))
        for name, figures in found.items()
    }
    same = all(difference < _EQUAL.get(name, 1e-9) for name, difference in apart.items())
    words = "; ".join(f"{name} to {_EQUAL.get(name, 1e-9):.0e}" for name in apart if name != "pixbox")
    yield Comparison(
        f"{len(pictures)} pictures, {len(pictures) * DETECTIONS:,} detections, {len(CLASSES)} classes",
        "s",
        cases,
        goals=[Goal("pixbox", None, 0.35, "about what the fastest library takes")],
        equal=[require(same, f"map ({found['pixbox'][0]:.6f}), map_50 and mar_100: {words}")],
        left_out=left_out,
    )


def _draw(seed: int) -> Picture:
    rng = np.random.default_rng(seed)
    truth = random_boxes(rng, TRUE, BCCD_HW)
    kinds = rng.integers(0, len(CLASSES), TRUE)
    # Most detections are true boxes moved by some pixels; some are of another class.
    chosen = rng.integers(0, TRUE, DETECTIONS)
    moved = truth[chosen] + rng.normal(0, 8, (DETECTIONS, 4))
    boxes = np.concatenate((moved[:, :2], np.maximum(moved[:, 2:], moved[:, :2] + 4)), axis=1).astype(np.float32)
    classes = np.where(rng.random(DETECTIONS) < 0.8, kinds[chosen], rng.integers(0, len(CLASSES), DETECTIONS))
    flags = np.zeros(TRUE, dtype=np.bool_)
    return Picture(boxes, classes, rng.random(DETECTIONS).astype(np.float32), Boxes(truth, kinds, flags, flags))


def _by_pixbox(pictures: Sequence[Picture]) -> Figures:
    scores = DetectionScores(len(CLASSES))
    for index, picture in enumerate(pictures):
        boxes, classes, sure = map(torch.from_numpy, (picture.boxes_xyxy, picture.classes, picture.scores))
        scores.update(index, boxes, classes, sure, picture.truth)
    metrics = scores.compute(CLASSES)
    assert metrics.map is not None
    assert metrics.map_50 is not None
    assert metrics.mar_100 is not None
    return metrics.map, metrics.map_50, metrics.mar_100


def _by_coco(library: str, pictures: Sequence[Picture]) -> Figures:
    from importlib import import_module

    package: Any = import_module(f"{library}.coco" if library == "pycocotools" else library)
    evaluation: Any = (
        import_module("pycocotools.cocoeval").COCOeval if library == "pycocotools" else package.COCOeval_faster
    )
    with contextlib.redirect_stdout(io.StringIO()):
        truth = package.COCO()
        truth.dataset = _coco_truth(pictures)
        truth.createIndex()
        found = truth.loadRes(_coco_results(pictures))
        run = evaluation(truth, found, "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return float(run.stats[0]), float(run.stats[1]), float(run.stats[8])


def _coco_truth(pictures: Sequence[Picture]) -> dict[str, Any]:
    annotations: list[dict[str, Any]] = []
    for index, picture in enumerate(pictures):
        rows = zip(_xywh(picture.truth.xyxy), picture.truth.classes.tolist(), strict=True)
        for box, kind in rows:
            annotations.append({"id": len(annotations) + 1, "image_id": index + 1, "category_id": kind + 1,
                                "bbox": box, "area": box[2] * box[3], "iscrowd": 0})  # fmt: skip
    return {
        "info": {},
        "images": [{"id": index + 1, "height": BCCD_HW[0], "width": BCCD_HW[1]} for index in range(len(pictures))],
        "categories": [{"id": index + 1, "name": name} for index, name in enumerate(CLASSES)],
        "annotations": annotations,
    }


def _coco_results(pictures: Sequence[Picture]) -> list[dict[str, Any]]:
    return [
        {"image_id": index + 1, "category_id": kind + 1, "bbox": box, "score": score}
        for index, picture in enumerate(pictures)
        for box, kind, score in zip(
            _xywh(picture.boxes_xyxy), picture.classes.tolist(), picture.scores.tolist(), strict=True
        )
    ]


def _xywh(xyxy: NDArray[np.float32]) -> list[list[float]]:
    wide = xyxy.astype(np.float64)
    rows: list[list[float]] = np.concatenate((wide[:, :2], wide[:, 2:] - wide[:, :2]), axis=1).tolist()
    return rows


def _by_torchmetrics(backend: str, pictures: Sequence[Picture]) -> Figures:
    from torchmetrics.detection import MeanAveragePrecision

    metric = MeanAveragePrecision(backend=backend)  # type: ignore[arg-type]  # a closed set that mypy cannot see
    for picture in pictures:
        found = {"boxes": picture.boxes_xyxy, "scores": picture.scores, "labels": picture.classes}
        true = {"boxes": picture.truth.xyxy, "labels": picture.truth.classes}
        metric.update(*([{name: torch.from_numpy(part) for name, part in parts.items()}] for parts in (found, true)))
    figures = metric.compute()
    return float(figures["map"]), float(figures["map_50"]), float(figures["mar_100"])
