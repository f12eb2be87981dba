"""Scores a run on a split, alone or as one of several processes, and writes what was found."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pixbox.auditing.scan import scan_categories, scan_labels, scan_objects
from pixbox.checkpoint import LoadedRun
from pixbox.config import EvaluationConfig, Experiment
from pixbox.data.cache import open_cache
from pixbox.data.dataset import SampleReader, WholeSet, pixel_reading, whole_loader, worker_count
from pixbox.data.splits import SplitName, labels_of, read_split
from pixbox.errors import ConfigError, DataError, PixboxError
from pixbox.evaluation.pages import write_page, write_worst
from pixbox.evaluation.tally import Tally
from pixbox.files import write_file
from pixbox.labels import LabelMap
from pixbox.metrics import DetectionScores
from pixbox.metrics.bootstrap import intervals
from pixbox.metrics.pictures import write_pictures
from pixbox.prediction.group import Group, process_group
from pixbox.prediction.predictor import Predictor
from pixbox.sample import Record
from pixbox.tasks.segmentation import SegmentationTask

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found and where it wrote it.

    Attributes:
        metrics: the content of metrics.json.
        folder: holds metrics.json, pictures.npz, report.html and the overlays of the worst pictures.
    """

    metrics: dict[str, Any]
    folder: Path

    @property
    def report(self) -> Path:
        return self.folder / "report.html"


def evaluate_run(
    run: LoadedRun, split: SplitName, folder: Path, *, progress: Progress = lambda done, total: None
) -> Evaluation:
    """Score a split at its original size and write the result into ``folder``.

    Under ``torchrun`` each process scores its share of the pictures; the first one writes, and all return the same.
    ``progress`` is called with the number of pictures done and their total, in the first process only.

    Raises:
        ConfigError: the split is not configured, or its label map has other classes than the model.
        DataError: files of the split cannot be used, or nothing in it is labelled; the faults of all labels at once,
            before any picture is scored.
    """
    labels = _matching_labels(run)
    records = read_split(run.experiment, split)
    reader = SampleReader(labels, open_cache("none", None), pixel_reading(run.experiment.data), run.experiment.task)
    dataset = WholeSet(records, reader, run.experiment)
    with process_group() as group:
        group.by_first(lambda: _check_labels(records, labels, run.experiment, split))
        predictor = Predictor(run, group.device)
        parts = group.gather(_score(predictor, dataset, group, progress))
        metrics = group.by_first(lambda: _write(run, predictor, split, dataset, _merged(parts), folder))
    return Evaluation(metrics, folder)


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


def _check_labels(records: Sequence[Record], labels: LabelMap, experiment: Experiment, split: SplitName) -> None:
    """Read every label once, before minutes are spent on the network."""
    reading = pixel_reading(experiment.data)
    if experiment.task == "segmentation":
        masks = scan_labels(records, labels, reading=reading)
        findings, counted, what = masks.findings, int(masks.pixels.sum()), "pixel"
    elif experiment.task == "detection":
        # That nothing is there is a label, too: what is found in such pictures is wrong.
        findings, counted, what = scan_objects(records, labels, reading=reading).findings, len(records), "picture"
    else:
        images, findings = scan_categories(records, labels)
        counted, what = int(images.sum()), "picture"
    findings.raise_errors()
    if counted == 0:
        raise DataError(
            f"no {what} of the {len(records)} pictures in the {split} split has a class that counts, so there is "
            "nothing to compare predictions with",
            where=f"data.{split}",
            hint="Look at the labels: pixbox audit CONFIG; or label pictures without scores: pixbox predict",
        )


def _score(predictor: Predictor, dataset: WholeSet, group: Group, progress: Progress) -> Tally | PixboxError:
    """This process's share of the split; or what is wrong with a picture, which the first process is to tell."""
    task, experiment = predictor.task, predictor.run.experiment
    tally = Tally(task, experiment.task)
    places = range(group.rank, len(dataset), group.world)
    on_gpu = torch.cuda.is_available()
    workers = min(2, worker_count(experiment.data.workers, on_gpu=on_gpu, pictures=len(places)))
    loader = whole_loader(dataset, rank=group.rank, world=group.world, workers=workers)
    # While the network looks at a picture, the former one is counted.
    with ThreadPoolExecutor(max_workers=1) as counting:
        counted: Future[None] | None = None
        for index, item in zip(places, loader, strict=True):
            if isinstance(item, PixboxError):
                return item
            mode = predictor.mode((item.image.shape[0], item.image.shape[1]))
            prediction, confidence = predictor.label_with_confidence(item.image, item.placement)
            if counted is not None:
                counted.result()
            counted = counting.submit(tally.add, task, index, item, prediction, confidence, mode)
            if group.is_first:
                progress(min(index + group.world, len(dataset)), len(dataset))
        if counted is not None:
            counted.result()
    return tally


def _merged(parts: Sequence[Tally | PixboxError]) -> Tally:
    tallies = []
    for part in parts:
        if isinstance(part, PixboxError):
            raise part
        tallies.append(part)
    whole = tallies[0]
    for tally in tallies[1:]:
        whole.merge(tally)
    return whole


def _write(
    run: LoadedRun, predictor: Predictor, split: SplitName, dataset: WholeSet, tally: Tally, folder: Path
) -> dict[str, Any]:
    """Write all files; returns the content of metrics.json."""
    metrics = run.task.metrics(tally.scores, len(dataset))
    pictures = tally.pictures.finish()
    plain = metrics.to_plain() | _further_figures(run, tally)
    plain["mode"] = _mode(run.experiment.evaluation, tally.modes)
    plain["intervals"] = {
        name: None if interval is None else [interval.low, interval.high]
        for name, interval in intervals(pictures).items()
    }
    predicted = [(index, dataset[index], prediction) for index, prediction in tally.worst()]
    write_worst(folder, run.task, predicted)
    write_pictures(folder / "pictures.npz", pictures)
    write_file(folder / "metrics.json", json.dumps(plain, indent=2, ensure_ascii=False) + "\n")
    write_page(run, str(predictor.device), split, tally, metrics, plain, predicted, folder)
    return plain


def _further_figures(run: LoadedRun, tally: Tally) -> dict[str, float | None]:
    if isinstance(tally.scores, DetectionScores):
        best = tally.scores.best_threshold()
        return {
            "best_score": best.score_threshold if best else None,
            "precision_at_best": best.precision if best else None,
            "recall_at_best": best.recall if best else None,
        }
    ece = {"ece": tally.calibration().ece()}
    if not isinstance(run.task, SegmentationTask):
        return ece
    boundary = tally.boundary.compute(run.task.labels.names)
    return {"boundary_iou": boundary.boundary_iou, "boundary_f1": boundary.boundary_f1, **ece}


def _mode(settings: EvaluationConfig, modes: set[str]) -> str:
    """How the pictures were looked at: ``whole``, ``sliding`` or ``mixed``, with what else was averaged."""
    parts = [next(iter(modes)) if len(modes) == 1 else "mixed"]
    parts += ["multiscale"] if settings.scales != [1.0] else []
    parts += ["flip"] if settings.flip else []
    return " + ".join(parts)
