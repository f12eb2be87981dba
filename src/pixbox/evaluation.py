"""Scores a trained model on a labelled split: metrics.json, report.html and the pictures it got most wrong."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from pixbox.auditing.scan import scan_categories, scan_labels, scan_objects
from pixbox.boxes import Selection
from pixbox.checkpoint import LoadedRun, RunFolder, read_history
from pixbox.config import Experiment
from pixbox.data.cache import open_cache
from pixbox.data.dataset import SampleReader, WholeSet, pixel_reading, whole_loader, worker_count
from pixbox.data.findings import Findings
from pixbox.data.splits import SplitName, labels_of, read_split
from pixbox.drawing import as_png, overlay
from pixbox.errors import ConfigError, DataError
from pixbox.files import write_file
from pixbox.labels import LabelMap
from pixbox.metrics import DetectionScores, PictureErrors
from pixbox.networks.network import parameter_counts
from pixbox.prediction.predictor import Predictor
from pixbox.report import (
    ClassificationExample,
    ClassificationReport,
    DetectionExample,
    DetectionReport,
    Example,
    SegmentationReport,
    write_classification_report,
    write_detection_report,
    write_report,
)
from pixbox.sample import Boxes, Category, Mask, Record, WholeImage
from pixbox.tasks.classification import ClassificationTask
from pixbox.tasks.detection import DetectionTask
from pixbox.tasks.segmentation import SegmentationTask
from pixbox.tasks.task import Task
from pixbox.version import __version__

WORST = 12
"""Pictures that the report shows."""


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found and where it wrote it.

    Attributes:
        metrics: the content of metrics.json.
        folder: holds metrics.json, report.html and the overlays of the worst pictures.
    """

    metrics: dict[str, Any]
    folder: Path

    @property
    def report(self) -> Path:
        return self.folder / "report.html"


def evaluate_run(
    run: LoadedRun, split: SplitName, folder: Path, *, progress: Callable[[int, int], None] = lambda done, total: None
) -> Evaluation:
    """Score a split at its original size and write the result into ``folder``.

    ``progress`` is called with the number of pictures done and their total.

    Raises:
        ConfigError: the split is not configured, or its label map has other classes than the model.
        DataError: files of the split cannot be used; the faults of all masks at once, before any is scored.
    """
    experiment, task = run.experiment, run.task
    labels = _matching_labels(run)
    records = read_split(experiment, split)
    _check_labels(records, labels, experiment).raise_errors()
    reader = SampleReader(labels, open_cache("none", None), pixel_reading(experiment.data), experiment.task)
    dataset = WholeSet(records, reader, experiment)
    predictor = Predictor(run)
    scores = task.scores()
    badness: list[float] = []
    boxes: dict[int, Selection] = {}
    workers = min(2, worker_count(experiment.data.workers, on_gpu=torch.cuda.is_available(), pictures=len(records)))
    for index, item in enumerate(whole_loader(dataset, workers=workers)):
        if isinstance(item, DataError):
            raise item
        prediction = _predict(predictor, item)
        task.score(scores, index, prediction, item.target)
        badness.append(_badness(task, prediction, item))
        if isinstance(prediction, Selection):
            boxes[index] = Selection(prediction.boxes_xyxy.cpu(), prediction.classes.cpu(), prediction.scores.cpu())
        progress(index + 1, len(records))
    if isinstance(scores, DetectionScores):
        threshold = _threshold(scores)
        badness = [scores.picture_errors(index, threshold).count for index in range(len(records))]
    metrics = task.metrics(scores, len(records))
    shown = [index for index in range(len(records)) if math.isfinite(badness[index])]
    worst = [(index, dataset[index]) for index in sorted(shown, key=lambda index: -badness[index])[:WORST]]
    # Boxes are those that were counted: errors name them by their place.
    predicted = [(index, item, boxes.get(index) or _predict(predictor, item)) for index, item in worst]
    _write_worst(folder, task, predicted)
    write_file(folder / "metrics.json", json.dumps(metrics.to_plain(), indent=2, ensure_ascii=False) + "\n")
    _write_report(run, predictor, split, scores, metrics, predicted, folder)
    return Evaluation(metrics.to_plain(), folder)


Predicted = tuple[int, WholeImage, Any]
"""A picture's place in the split, the picture with its truth, and the task's prediction."""


def _predict(predictor: Predictor, item: WholeImage) -> Any:
    return predictor.label(item.image, item.placement)


def _check_labels(records: Sequence[Record], labels: LabelMap, experiment: Experiment) -> Findings:
    if experiment.task == "segmentation":
        return scan_labels(records, labels, reading=pixel_reading(experiment.data)).findings
    if experiment.task == "detection":
        return scan_objects(records, labels, reading=pixel_reading(experiment.data)).findings
    return scan_categories(records, labels)[1]


def _badness(task: Task, prediction: Any, item: WholeImage) -> float:
    """Orders the pictures of a split, the worst highest; minus infinity is not worth showing.

    Boxes are compared when all are known.
    """
    if isinstance(task, SegmentationTask):
        single = task.scores()
        assert item.target is not None
        task.score(single, 0, prediction, item.target)
        miou = task.metrics(single, 1).miou
        return -1.0 if miou is None else -miou
    if isinstance(task, ClassificationTask):
        assert isinstance(item.target, Category)
        predicted = int(prediction.argmax())
        return -math.inf if predicted == item.target.index else float(prediction[predicted])
    return 0.0


def _threshold(scores: DetectionScores) -> float:
    """The score from which on a box counts, where errors are counted and drawn: that of the best F1."""
    best = scores.best_threshold()
    return 0.5 if best is None else best.score_threshold


def _write_worst(folder: Path, task: Task, predicted: Sequence[Predicted]) -> None:
    for former in folder.glob("worst-[0-9][0-9]-*.png"):
        former.unlink()
    for rank, (_, item, prediction) in enumerate(predicted, start=1):
        if isinstance(task, SegmentationTask):
            drawn = overlay(item.original, prediction.cpu().numpy(), task.labels, 0.5)
        else:
            drawn = task.picture(item.original, prediction)
        write_file(folder / f"worst-{rank:02d}-{item.id.replace('/', '_')}.png", as_png(Image.fromarray(drawn)))


def _write_report(
    run: LoadedRun,
    predictor: Predictor,
    split: SplitName,
    scores: Any,
    metrics: Any,
    predicted: Sequence[Predicted],
    folder: Path,
) -> None:
    common: dict[str, Any] = {
        "title": run.experiment.name,
        "split": split,
        "experiment": run.experiment,
        "labels": run.task.labels,
        "history": read_history(RunFolder.of(run.source).history),
        "facts": _facts(run, predictor),
    }
    if isinstance(run.task, SegmentationTask):
        examples = [_pixel_example(run.task, item, prediction) for _, item, prediction in predicted]
        confusion = scores.matrix.cpu().numpy()
        write_report(
            SegmentationReport(**common, metrics=metrics.to_plain(), confusion=confusion, examples=examples), folder
        )
    elif isinstance(run.task, DetectionTask):
        threshold = _threshold(scores)
        write_detection_report(
            DetectionReport(
                **common,
                metrics=metrics,
                curves=scores.curves(run.task.labels.names),
                operating_point=scores.best_threshold(),
                examples=[
                    _box_example(item, prediction, scores.picture_errors(index, threshold))
                    for index, item, prediction in predicted
                ],
            ),
            folder,
        )
    else:
        named = [_named_example(item, prediction) for _, item, prediction in predicted]
        write_classification_report(
            ClassificationReport(**common, metrics=metrics, confusion=scores.pictures, examples=named), folder
        )


def _pixel_example(task: SegmentationTask, item: WholeImage, prediction: torch.Tensor) -> Example:
    assert isinstance(item.target, Mask)
    miou = -_badness(task, prediction, item)
    return Example(item.id, item.original, item.target.classes, prediction.cpu().numpy(), miou)


def _box_example(item: WholeImage, prediction: Selection, errors: PictureErrors) -> DetectionExample:
    assert isinstance(item.target, Boxes)
    boxes, classes, scores = prediction.boxes_xyxy, prediction.classes, prediction.scores
    return DetectionExample(
        item.id, item.original, item.target, boxes.cpu().numpy(), classes.cpu().numpy(), scores.cpu().numpy(), errors
    )


def _named_example(item: WholeImage, prediction: torch.Tensor) -> ClassificationExample:
    assert isinstance(item.target, Category)
    predicted, truth = int(prediction.argmax()), item.target.index
    return ClassificationExample(
        item.id, item.original, truth, predicted, float(prediction[predicted]), float(prediction[truth])
    )


def _matching_labels(run: LoadedRun) -> LabelMap:
    """How to read the masks: the experiment's label map, which must have the classes that the model has learned."""
    labels = labels_of(run.experiment)
    if labels.names != run.task.labels.names:
        raise ConfigError(
            f"the label map has {', '.join(labels.names)}; the model has {', '.join(run.task.labels.names)}",
            where="data.labels",
            hint="Write the model's classes, in its order, with the values that they have in these masks.",
        )
    return labels


def _facts(run: LoadedRun, predictor: Predictor) -> dict[str, str]:
    counts = parameter_counts(run.task.network)
    return {
        "pixbox": __version__,
        "checkpoint": run.source.name,
        "trained": f"{run.position.epoch} epochs, {run.position.step} steps",
        "parameters": f"{counts.total:,} ({counts.trainable:,} trained)",
        "device": str(predictor.device),
        "precision": run.experiment.training.precision,
    }
