"""Scores a trained model on a labelled split: metrics.json, report.html and the pictures it got most wrong."""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from pixbox.auditing.scan import scan_labels
from pixbox.checkpoint import LoadedRun, RunFolder, read_history
from pixbox.data.cache import open_cache
from pixbox.data.dataset import SampleReader, WholeSet, pixel_reading, whole_loader, worker_count
from pixbox.data.splits import SplitName, labels_of, read_split
from pixbox.drawing import overlay
from pixbox.errors import ConfigError, DataError
from pixbox.files import write_file
from pixbox.labels import LabelMap
from pixbox.networks.network import parameter_counts
from pixbox.prediction.predictor import Predictor
from pixbox.report import Example, SegmentationReport, write_report
from pixbox.sample import Mask, WholeImage, as_png
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
    """Score every pixel of a split at its original size and write the result into ``folder``.

    ``progress`` is called with the number of pictures done and their total.

    Raises:
        ConfigError: the split is not configured, or its label map has other classes than the model.
        DataError: files of the split cannot be used; the faults of all masks at once, before any is scored.
    """
    experiment = run.experiment
    labels = _matching_labels(run)
    records = read_split(experiment, split)
    scan_labels(records, labels).findings.raise_errors()
    reader = SampleReader(labels, open_cache("none", None), pixel_reading(experiment.data))
    dataset = WholeSet(records, reader, experiment)
    predictor = Predictor(run)
    confusion = run.task.confusion()
    worst: list[tuple[float, int]] = []  # a heap of the lowest scores, negated
    workers = min(2, worker_count(experiment.data.workers, on_gpu=torch.cuda.is_available(), pictures=len(records)))
    for index, item in enumerate(whole_loader(dataset, workers=workers)):
        if isinstance(item, DataError):
            raise item
        predicted = _predict(predictor, item)
        single = run.task.confusion()
        single.update(predicted, _truth(item))
        confusion.merge(single)
        score = single.compute(labels.names).miou
        heapq.heappush(worst, (-(1.0 if score is None else score), index))
        if len(worst) > WORST:
            heapq.heappop(worst)
        progress(index + 1, len(records))
    metrics = confusion.compute(labels.names, len(records)).to_plain()
    examples = [
        _example(dataset[index], predictor, -negative) for negative, index in sorted(worst, key=lambda item: -item[0])
    ]
    _write_worst(folder, examples, labels)
    write_file(folder / "metrics.json", json.dumps(metrics, indent=2, ensure_ascii=False) + "\n")
    report = SegmentationReport(
        title=experiment.name,
        split=split,
        experiment=experiment,
        labels=labels,
        metrics=metrics,
        confusion=confusion.matrix.cpu().numpy(),
        history=read_history(RunFolder.of(run.source).history),
        examples=examples,
        facts=_facts(run, predictor),
    )
    write_report(report, folder)
    return Evaluation(metrics, folder)


def _write_worst(folder: Path, examples: list[Example], labels: LabelMap) -> None:
    for former in folder.glob("worst-[0-9][0-9]-*.png"):
        former.unlink()
    for rank, example in enumerate(examples, start=1):
        picture = Image.fromarray(overlay(example.image, example.prediction, labels, 0.5))
        write_file(folder / f"worst-{rank:02d}-{example.id.replace('/', '_')}.png", as_png(picture))


def _predict(predictor: Predictor, item: WholeImage) -> torch.Tensor:
    logits = predictor.logits(item.image, item.placement)
    return predictor.task.classes(logits, item.placement)[0].cpu()


def _truth(item: WholeImage) -> torch.Tensor:
    assert isinstance(item.target, Mask)
    return torch.from_numpy(np.array(item.target.classes))


def _example(item: WholeImage, predictor: Predictor, score: float) -> Example:
    return Example(
        id=item.id,
        image=item.original,
        truth=_truth(item).numpy(),
        prediction=_predict(predictor, item).numpy(),
        miou=score,
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
