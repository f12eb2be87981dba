"""The verbs as functions: what the command line and ``import pixbox`` call."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from pixbox.config import (
    DataConfig,
    Experiment,
    Format,
    Task,
    complete_experiment,
    json_schema,
    read_experiment,
    read_labels,
)
from pixbox.errors import ConfigError, Fault, RunError, did_you_mean
from pixbox.launch import is_first_process

if TYPE_CHECKING:
    # Torch and Lightning take seconds to import; each verb imports what it needs.
    import numpy as np
    from numpy.typing import NDArray
    from rich.console import Console

    from pixbox.auditing.result import Audit
    from pixbox.checkpoint import LoadedRun
    from pixbox.conversion import Converted
    from pixbox.data.splits import SplitName
    from pixbox.evaluation import Evaluation
    from pixbox.networks.build import ArchitectureInfo
    from pixbox.results import Prediction
    from pixbox.sample import Record

Overrides = Mapping[str, Any]


@dataclass(frozen=True)
class TrainedRun:
    """What `train` returns.

    Attributes:
        run: the run folder.
        best: scalar metrics of the best checkpoint.
        epochs, steps: done in all; ``seconds``: of this call.
        stopped: the user asked to stop; ``train(run, resume=True)`` goes on.
    """

    run: Path
    best: dict[str, Any]
    epochs: int
    steps: int
    seconds: float
    stopped: bool


@dataclass(frozen=True)
class PredictedFiles:
    """What `predict` wrote: picture -> its file, and a fault for each picture that could not be read."""

    files: dict[Path, Path]
    failed: tuple[Fault, ...]


class Model:
    """A trained model, ready to use: ``pixbox.load("runs/camvid_unet").predict("street.png")``."""

    def __init__(self, run: LoadedRun) -> None:
        from pixbox.prediction.predictor import Predictor

        self._predictor = Predictor(run)
        self.experiment = run.experiment
        self.labels = run.task.labels
        self.metrics = run.position.metrics

    def predict(self, picture: str | Path | NDArray[np.uint8], *, probabilities: bool = False) -> Prediction:
        """Label a picture (a file, or (H, W, 3) uint8 RGB) at its original size.

        Returns a ``Segmentation``, ``Detections`` or ``Categorization``, as the model's task is.

        Raises:
            DataError: the file cannot be read as a picture.
        """
        return self._predictor.predict(picture, probabilities=probabilities)


def load(source: str | Path, overrides: Overrides | None = None) -> Model:
    """Load a run folder (its best checkpoint) or a checkpoint file.

    Raises:
        RunError: there is no usable checkpoint.
    """
    from pixbox.checkpoint import load_run

    return Model(load_run(Path(source), overrides))


def audit(
    source: str | Path,
    overrides: Overrides | None = None,
    *,
    html: str | Path | None = None,
    recipe: str | Path | None = None,
    fix: str | Path | None = None,
    progress: Callable[[str, int, int], None] = lambda doing, done, total: None,
) -> Audit:
    """Look at every picture and label of a configuration, or of a bare folder, and say what is wrong.

    For a folder it works out how the data lie and what their masks mean. ``html`` is a page to write. ``recipe``
    (for a folder) is a configuration to write, with ``labels.yaml`` beside it, that `train` takes as it is.
    ``fix`` is a new folder for a cleaned copy with a log of every change; the source is never touched.

    Raises:
        ConfigError, DataError: the configuration cannot be read, or nothing in the folder is recognised.
        RunError: a file or folder to be written is there already.
    """
    source = Path(source)
    if source.is_dir():
        if overrides:
            raise ConfigError("a bare folder has no settings to override", where="--set",
                              hint="Write a recipe first (`--write-recipe FILE`) and audit that.")  # fmt: skip
        if (source / "config.yaml").is_file() and (source / "checkpoints").is_dir():
            source = source / "config.yaml"
    elif recipe is not None:
        raise ConfigError("there is a configuration already; a recipe is written for a bare folder",
                          where="--write-recipe")  # fmt: skip
    for target in (html, recipe):
        if target is not None and Path(target).is_dir():
            raise RunError("is a folder, not a file to write", where=str(target))
    from pixbox.auditing.audit import audit_experiment, audit_folder

    if source.is_dir():
        result = audit_folder(source, progress)
    else:
        result = audit_experiment(read_experiment(source, overrides), str(source), progress)
    if html is not None:
        from pixbox.report import write_audit_page

        write_audit_page(result, Path(html))
    if recipe is not None:
        from pixbox.auditing.recipe import write_recipe

        write_recipe(result, Path(recipe))
    if fix is not None:
        from pixbox.auditing.repair import repair

        repair(result, Path(fix), lambda done, total: progress("writing the cleaned copy", done, total))
    return result


def convert(
    source_format: str,
    root: str | Path,
    *,
    to: str | None = None,
    splits: Sequence[str] = ("train",),
    labels: str | Path | None = None,
    exclude: Sequence[str] = (),
    out: str | Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Converted:
    """Write annotations of one format as another: index masks, COCO, YOLO, VOC XML or a list of boxes.

    ``splits`` name lists, folders or splits as ``data.train`` does. ``to`` defaults to ``masks``, for ``voc-boxes``
    to ``box-list``. ``labels`` is a label map for formats that have none.

    Raises:
        ConfigError, DataError: the data cannot be read, or cannot be written in that format.
    """
    from pixbox.conversion import TARGETS
    from pixbox.conversion import convert as convert_records
    from pixbox.data.formats import default_labels, read_records

    known_formats = get_args(Format)
    if source_format not in known_formats:
        raise ConfigError(f'"{source_format}" is no format. {did_you_mean(source_format, known_formats)}')
    target = to or ("box-list" if source_format == "voc-boxes" else "masks")
    if target not in TARGETS:
        raise ConfigError(f'"{target}" is nothing to convert to. {did_you_mean(target, TARGETS)}', where="--to")
    data = DataConfig(format=cast("Format", source_format), root=str(root), train=splits[0], exclude=list(exclude))
    task: Task = "segmentation" if target == "masks" else "detection"
    known = read_labels(Path(labels)) if labels is not None else default_labels(data, task, list(splits))
    if known is None:
        raise ConfigError(
            f"`{source_format}` has no label map of its own", where="--labels", hint="Name one: --labels FILE"
        )
    records: dict[str, list[Record]] = {}
    for split in splits:
        name = Path(split).stem or "train"
        if name in records:
            raise ConfigError(f'two splits would be written as "{name}"', where=f"--split {split}",
                              hint="Convert them one by one.")  # fmt: skip
        records[name] = read_records(data, split)
    return convert_records(records, known, target, Path(out), progress)


def train(
    source: str | Path | Experiment,
    overrides: Overrides | None = None,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    console: Console | None = None,
) -> TrainedRun:
    """Train the experiment of a configuration file, or go on with a run.

    ``source`` is a configuration file or an Experiment (its paths relative to the current folder), or with
    ``resume`` a run folder. ``out`` is the run
    folder; by default ``runs/<name>`` in the current folder.

    Raises:
        ConfigError, DataError, ModelError: the experiment cannot be trained; nothing was written.
        RunError: the run folder exists already, or cannot be resumed.
        TrainingError: the loss is no longer a number, or memory is exhausted.
    """
    from rich.console import Console

    experiment, folder = _experiment_and_folder(source, overrides, out, resume)
    # After the configuration is known to be right: Lightning takes seconds to import.
    from pixbox.engine.run import train_experiment

    outcome = train_experiment(experiment, folder, resume=resume, console=console or Console(stderr=True))
    return TrainedRun(
        run=folder,
        best=outcome.best,
        epochs=outcome.epochs,
        steps=outcome.steps,
        seconds=outcome.seconds,
        stopped=outcome.stopped,
    )


def evaluate(
    source: str | Path,
    overrides: Overrides | None = None,
    *,
    split: str = "val",
    out: str | Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Score a run (or a checkpoint file) on a split: ``train``, ``val`` or ``test``.

    Writes ``evaluation/<split>/{metrics.json,report.html,*.png}`` in the run folder (or beside a checkpoint file
    that lies outside one), or into ``out``.

    Raises:
        RunError: there is no usable checkpoint.
        ConfigError, DataError: the split is not configured or cannot be read.
    """
    if split not in ("train", "val", "test"):
        raise ConfigError(f'"{split}" is not a split', where="--split", hint="Known: train, val, test.")
    from pixbox.checkpoint import RunFolder, load_run
    from pixbox.evaluation import evaluate_run

    chosen = dict(overrides or {})
    if "data.val" in chosen:
        chosen.setdefault("data.val_fraction", 0.0)
    run = load_run(Path(source), chosen)
    folder = Path(out) if out is not None else RunFolder.of(run.source).evaluation(split)
    return evaluate_run(run, cast("SplitName", split), folder, progress=progress)


def predict(
    source: str | Path,
    pictures: str | Path | Sequence[str | Path],
    overrides: Overrides | None = None,
    *,
    out: str | Path,
    save: Sequence[str] = (),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> PredictedFiles:
    """Label pictures and folders of pictures, writing one file each below ``out``.

    For segmentation that is a palette PNG of class indices, for detection and classification a JSON file;
    detection also writes ``predictions.json`` in COCO's results format. ``save`` names what else to write: of
    ``overlay`` and, for segmentation, ``colors``, ``probabilities``. A picture that cannot be read is listed in the
    result and does not stop the others.

    Raises:
        RunError: there is no usable checkpoint.
        DataError: an input does not exist; two files would be written to one path, or one over a picture.
    """
    from pixbox.checkpoint import load_run
    from pixbox.prediction.outputs import SUFFIX, find_pictures, output_paths, predict_files
    from pixbox.prediction.predictor import Predictor
    from pixbox.results import EXTRAS

    for name in save:
        if name not in EXTRAS:
            raise ConfigError(f'"{name}" cannot be saved. {did_you_mean(name, EXTRAS)}', where="--save")
    given = [pictures] if isinstance(pictures, str | Path) else pictures
    found = find_pictures([Path(picture) for picture in given], Path(out))
    run = load_run(Path(source), overrides)
    task = run.experiment.task
    if task != "segmentation" and set(save) - {"overlay"}:
        raise ConfigError(f"a model for {task} can save `overlay`, not `{', '.join(sorted(set(save)))}`",
                          where="--save")  # fmt: skip
    paths = output_paths(found, Path(out), save, SUFFIX[task])
    written, failed = predict_files(Predictor(run), paths, save, Path(out), progress)
    return PredictedFiles(written, tuple(failed))


def demo(
    out: str | Path | None = None, *, task: str = "segmentation", seed: int = 0, console: Console | None = None
) -> tuple[TrainedRun, Evaluation]:
    """Draw aerial scenes, train a small network on them, and evaluate it on unseen ones: minutes, on any machine.

    The scenes come to ``out/scenes``, the run to ``out``, the report to ``out/evaluation/test``.

    Args:
        out: the run folder to make; default: ``runs/demo``, of another task ``runs/demo_<task>``.
        task: ``segmentation`` labels every pixel, ``detection`` finds the buildings, ``classification`` names tiles.

    Raises:
        ConfigError: there is no such task.
        RunError: ``out`` holds a run already.
    """
    from pixbox.checkpoint import RunFolder
    from pixbox.demonstration.experiment import demo_experiment, write_demo_scenes

    if task not in get_args(Task):
        raise ConfigError(f'there is no task "{task}". {did_you_mean(task, get_args(Task))}', where="--task")
    known = cast(Task, task)
    if out is None:
        out = "runs/demo" if known == "segmentation" else f"runs/demo_{known}"
    out = Path(out)
    RunFolder(out).refuse_existing()
    write_demo_scenes(known, out / "scenes", seed)
    run = train(demo_experiment(known, out / "scenes", seed), out=out, console=console)
    return run, evaluate(out, split="test")


def models() -> tuple[ArchitectureInfo, ...]:
    """What can be named in ``model.architecture``, with parameters and source."""
    from pixbox.networks.build import ARCHITECTURES

    return tuple(ARCHITECTURES.values())


def schema() -> dict[str, Any]:
    """JSON schema of a configuration file, for editors."""
    return json_schema()


def _experiment_and_folder(
    source: str | Path | Experiment, overrides: Overrides | None, out: str | Path | None, resume: bool
) -> tuple[Experiment, Path]:
    if isinstance(source, Experiment):
        source = complete_experiment(source, overrides)
        return source, Path(out) if out is not None else Path("runs") / _dated(source.name)
    source = Path(source)
    if not source.is_dir():
        experiment = read_experiment(source, overrides)
        return experiment, Path(out) if out is not None else Path("runs") / _dated(experiment.name)
    if not resume:
        raise RunError(
            "is a folder", where=str(source), hint="Add --resume to go on with this run, or name a configuration file."
        )
    if not (source / "config.yaml").is_file():
        raise RunError("is not a run folder (it has no config.yaml)", where=str(source))
    return read_experiment(source / "config.yaml", overrides), source


def _dated(name: str) -> str:
    # The processes that a distributed launch starts beside the first must find its folder.
    started = None if is_first_process() else os.environ.get("PIXBOX_STARTED")
    os.environ["PIXBOX_STARTED"] = started or time.strftime("%Y%m%d-%H%M%S")
    return name.replace("{time}", os.environ["PIXBOX_STARTED"])
