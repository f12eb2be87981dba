"""What an evaluation writes to be looked at: report.html and the pictures that were got most wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from pixbox.boxes import Selection
from pixbox.checkpoint import LoadedRun, RunFolder, read_history
from pixbox.drawing import as_png, overlay
from pixbox.evaluation.tally import Tally
from pixbox.files import write_file
from pixbox.metrics import BoundaryMetrics, PictureErrors
from pixbox.networks.network import parameter_counts
from pixbox.report import (
    ClassificationExample,
    ClassificationReport,
    DetectionExample,
    DetectionReport,
    Example,
    SegmentationReport,
    diagnose,
    write_classification_report,
    write_detection_report,
    write_report,
)
from pixbox.sample import Boxes, Category, Mask, WholeImage
from pixbox.tasks.detection import DetectionTask
from pixbox.tasks.segmentation import SegmentationTask
from pixbox.tasks.task import Task
from pixbox.version import __version__

Predicted = tuple[int, WholeImage, Any]
"""A picture's place in the split, the picture with its truth, and the task's prediction."""


def write_worst(folder: Path, task: Task, predicted: Sequence[Predicted]) -> None:
    """Draw predictions on their pictures, in place of those of a former evaluation."""
    for former in folder.glob("worst-[0-9][0-9]-*.png"):
        former.unlink()
    for rank, (_, item, prediction) in enumerate(predicted, start=1):
        if isinstance(task, SegmentationTask):
            drawn = overlay(item.original, prediction.numpy(), task.labels, 0.5)
        else:
            drawn = task.picture(item.original, prediction)
        write_file(folder / f"worst-{rank:02d}-{item.id.replace('/', '_')}.png", as_png(Image.fromarray(drawn)))


def write_page(
    run: LoadedRun,
    device: str,
    split: str,
    tally: Tally,
    metrics: Any,
    plain: Mapping[str, Any],
    predicted: Sequence[Predicted],
    folder: Path,
) -> None:
    """Write ``report.html``; ``plain`` is the content of metrics.json, of which ``metrics`` are the task's own."""
    common: dict[str, Any] = {
        "title": run.experiment.name,
        "split": split,
        "experiment": run.experiment,
        "labels": run.task.labels,
        "history": read_history(RunFolder.of(run.source).history),
        "facts": _facts(run, device),
        "intervals": {name: tuple(ends) for name, ends in plain["intervals"].items() if ends is not None},
        "calibration": tally.calibration().bins(),
    }
    diagnosed = partial(diagnose, run.experiment.task, common["history"], plain, experiment=run.experiment)
    if isinstance(run.task, SegmentationTask):
        examples = [_pixel_example(run.task, item, prediction) for _, item, prediction in predicted]
        confusion = tally.scores.matrix.numpy()
        write_report(
            SegmentationReport(
                **common,
                metrics=plain,
                confusion=confusion,
                examples=examples,
                boundary=_boundary_figures(tally.boundary.compute(run.task.labels.names)),
                advice=diagnosed(confusion),
            ),
            folder,
        )
    elif isinstance(run.task, DetectionTask):
        threshold = tally.score_threshold
        write_detection_report(
            DetectionReport(
                **common,
                metrics=metrics,
                curves=tally.scores.curves(run.task.labels.names),
                operating_point=tally.scores.best_threshold(),
                examples=[
                    _box_example(item, prediction, tally.scores.picture_errors(index, threshold))
                    for index, item, prediction in predicted
                ],
                advice=diagnosed(boxes=tally.box_errors()),
            ),
            folder,
        )
    else:
        named = [_named_example(item, prediction) for _, item, prediction in predicted]
        confusions = tally.scores.pictures
        write_classification_report(
            ClassificationReport(
                **common, metrics=metrics, confusion=confusions, examples=named, advice=diagnosed(confusions)
            ),
            folder,
        )


def _boundary_figures(metrics: BoundaryMetrics) -> dict[str, float | None]:
    """Flat, as the page takes them."""
    figures = {"boundary_iou": metrics.boundary_iou, "boundary_f1": metrics.boundary_f1}
    for measure in ("class_boundary_iou", "class_boundary_f1"):
        figures |= {f"{measure}/{name}": value for name, value in getattr(metrics, measure).items()}
    return figures


def _pixel_example(task: SegmentationTask, item: WholeImage, prediction: torch.Tensor) -> Example:
    assert isinstance(item.target, Mask)
    single = task.scores()
    task.score(single, 0, prediction, item.target)
    miou = single.compute(task.labels.names).miou
    return Example(item.id, item.original, item.target.classes, prediction.numpy(), miou)


def _box_example(item: WholeImage, prediction: Selection, errors: PictureErrors) -> DetectionExample:
    assert isinstance(item.target, Boxes)
    boxes, classes, scores = prediction.boxes_xyxy, prediction.classes, prediction.scores
    return DetectionExample(item.id, item.original, item.target, boxes.numpy(), classes.numpy(), scores.numpy(), errors)


def _named_example(item: WholeImage, prediction: torch.Tensor) -> ClassificationExample:
    assert isinstance(item.target, Category)
    predicted, truth = int(prediction.argmax()), item.target.index
    return ClassificationExample(
        item.id, item.original, truth, predicted, float(prediction[predicted]), float(prediction[truth])
    )


def _facts(run: LoadedRun, device: str) -> dict[str, str]:
    counts = parameter_counts(run.task.network)
    return {
        "pixbox": __version__,
        "checkpoint": run.source.name,
        "trained": f"epochs {run.position.epoch}, steps {run.position.step:,}",
        "parameters": f"{counts.total:,} ({counts.trainable:,} trained)",
        "device": device,
        "precision": run.experiment.training.precision,
    }
