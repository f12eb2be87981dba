"""The verbs as functions: what the command line and ``import pixbox`` call."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from pixbox.config import (
    DataConfig,
    EvaluationConfig,
    Experiment,
    Format,
    Task,
    complete_experiment,
    json_schema,
    read_experiment,
    read_labels,
)
from pixbox.documents import Document, validate
from pixbox.errors import ConfigError, Fault, RunError, did_you_mean
from pixbox.launch import is_first_process

if TYPE_CHECKING:
    # Torch and Lightning take seconds to import; each verb imports what it needs.
    import numpy as np
    from numpy.typing import NDArray
    from rich.console import Console

    from pixbox.auditing.result import Audit
    from pixbox.checkpoint import LoadedRun
    from pixbox.comparison import Comparison
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
    """What `predict` wrote: picture -> its file.

    Attributes:
        files: written by this call.
        skipped: there already, and left as they were.
        failed: a fault for each picture that could not be read, or its result not written.
    """

    files: dict[Path, Path]
    skipped: dict[Path, Path]
    failed: tuple[Fault, ...]


class Model:
    """A trained model, ready to use: ``pixbox.load("runs/camvid_unet").predict("street.png")``."""

    def __init__(self, run: LoadedRun) -> None:
        from pixbox.prediction.predictor import Predictor

        self._predictor = Predictor(run)
        self.experiment = run.experiment
        self.labels = run.task.labels
        self.metrics = run.position.metrics

    def predict(
        self, picture: str | Path | NDArray[np.uint8], *, probabilities: bool = False, **settings: Any
    ) -> Prediction:
        """Label a picture (a file, or (H, W, 3) uint8 RGB) at its original size.

        ``settings`` of the section ``evaluation`` hold for this call: ``mode="sliding", window=(512, 512), flip=True``.
        Returns a ``Segmentation``, ``Detections`` or ``Categorization``, as the model's task is.

        Raises:
            ConfigError: there is no such setting, or it has no such value.
            DataError: the file cannot be read as a picture.
        """
        predictor = self._predictor
        if settings:
            own = self.experiment.evaluation.model_dump()
            predictor = predictor.with_settings(_evaluation_config({**own, **settings}))
        return predictor.predict(picture, probabilities=probabilities)


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
    budget: str | None = None,
    console: Console | None = None,
) -> TrainedRun:
    """Train the experiment of a configuration file, or go on with a run.

    ``source`` is a configuration file or an Experiment (its paths relative to the current folder), or with
    ``resume`` a run folder. ``out`` is the run folder; by default ``runs/<name>`` in the current folder. ``budget``
    is ``training.budget``: the time that this call may take ("30m").

    Raises:
        ConfigError, DataError, ModelError: the experiment cannot be trained; nothing was written.
        RunError: the run folder exists already, or cannot be resumed.
        TrainingError: the loss is no longer a number, or memory is exhausted.
    """
    began = time.monotonic()
    from rich.console import Console

    if budget is not None:
        if resume:
            raise ConfigError(
                "a budget plans a training before its first step; a run goes on with the plan that it has",
                where="--budget",
                hint="Leave it away. Another length: --set training.epochs=N (training.max_steps, if the run has it).",
            )
        overrides = {**(overrides or {}), "training.budget": budget}
    experiment, folder = _experiment_and_folder(source, overrides, out, resume)
    # After the configuration is known to be right: Lightning takes seconds to import.
    from pixbox.engine.run import train_experiment

    outcome = train_experiment(experiment, folder, resume=resume, console=console or Console(stderr=True), began=began)
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
    **settings: Any,
) -> Evaluation:
    """Score a run (or a checkpoint file) on a split: ``train``, ``val`` or ``test``.

    Writes ``evaluation/<split>/{metrics.json,report.html,*.png}`` in the run folder (or beside a checkpoint file
    that lies outside one), or into ``out``. ``settings`` are of the section ``evaluation``: ``mode="sliding"``.

    Raises:
        RunError: there is no usable checkpoint, or the folder cannot be written to.
        ConfigError, DataError: a setting is wrong; the split is not configured or cannot be read.
    """
    _check_split(split)
    from pixbox.checkpoint import RunFolder, load_run
    from pixbox.evaluation import evaluate_run

    chosen = _with_evaluation(overrides, settings)
    if "data.val" in chosen:
        chosen.setdefault("data.val_fraction", 0.0)
    run = load_run(Path(source), chosen)
    folder = Path(out) if out is not None else RunFolder.of(run.source).evaluation(split)
    _check_out(folder)
    return evaluate_run(run, cast("SplitName", split), folder, progress=progress)


def compare(
    a: str | Path, b: str | Path, *, split: str = "val", html: str | Path | None = None, seed: int = 0
) -> Comparison:
    """Compare two runs that `evaluate` has scored on a split: differences b - a, with intervals over pictures.

    ``a`` and ``b`` are run folders, or folders that `evaluate` wrote into (``out``). Pictures that only one of them
    has scored are left out. ``html`` is a page to write.

    Raises:
        ConfigError: no such split; the runs differ in task or classes.
        RunError: a run is not evaluated on the split, or ``html`` is a folder or lies where nothing can be written.
        DataError: they have no picture in common, or not the same truth.
    """
    _check_split(split)
    if html is not None and Path(html).is_dir():
        raise RunError("is a folder, not a file to write", where=str(html))
    if html is not None:
        _check_out(Path(html).parent)
    from pixbox.comparison import compare_runs
    from pixbox.report import write_comparison_page

    result = compare_runs(Path(a), Path(b), split, seed=seed)
    if html is not None:
        write_comparison_page(result, Path(html))
    return result


def predict(
    source: str | Path,
    pictures: str | Path | Sequence[str | Path],
    overrides: Overrides | None = None,
    *,
    out: str | Path,
    save: Sequence[str] = (),
    skip_existing: bool = False,
    shard: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    **settings: Any,
) -> PredictedFiles:
    """Label pictures, videos and folders of them, writing one file each below ``out``.

    For segmentation that is a palette PNG of class indices, for detection and classification a JSON file;
    detection also writes ``predictions.json`` in COCO's results format. A video becomes an overlay video. A picture
    that cannot be read is listed in the result and does not stop the others. The processes of a launch by
    ``torchrun`` share the pictures, and the first returns what came of all.

    Args:
        source: a run folder, or a checkpoint file.
        save: what else to write, of ``results.EXTRAS``; ``frames`` are the results of every frame of videos.
        skip_existing: leave out pictures whose files are all there.
        shard: ``"2/3"``: every third picture, from the second on; for processes or machines that share a folder.
        settings: of the section ``evaluation``: ``mode="sliding", scales=[0.75, 1, 1.25]``.

    Raises:
        RunError: there is no usable checkpoint, or ``out`` cannot be written to.
        ConfigError: a setting is wrong.
        DataError: an input does not exist; two files would be written to one path, or one over a picture.
        PixboxError: the disk is full.
    """
    from pixbox.checkpoint import load_run
    from pixbox.prediction.group import process_group
    from pixbox.prediction.outputs import Shard, find_pictures, output_paths, predict_files, write_summaries
    from pixbox.prediction.predictor import Predictor

    chosen = _with_evaluation(overrides, settings)
    share = Shard() if shard is None else Shard.read(shard)
    given = [pictures] if isinstance(pictures, str | Path) else pictures
    out = Path(out)
    _check_out(out)
    found = find_pictures([Path(picture) for picture in given], out)
    _check_saved(save, found)
    with process_group() as group:
        if shard is not None and group.world > 1:
            raise ConfigError("the processes of this launch share the pictures by themselves", where="--shard",
                              hint="Leave it away, or start the processes one by one.")  # fmt: skip
        run = load_run(Path(source), chosen)
        _check_saved(save, found, run.experiment.task)
        paths = output_paths(found, out, save, run.experiment.task)
        predictor = Predictor(run, group.device)
        out.mkdir(parents=True, exist_ok=True)
        own = share if shard is not None else Shard(group.rank, group.world)
        mine = dict(list(paths.items())[own.index :: own.count])
        outcome = predict_files(predictor, mine, save, skip_existing=skip_existing, progress=progress)
        outcome = outcome.joined(group.gather(outcome), list(paths))
        if group.is_first:
            write_summaries(outcome, out, save, list(paths), run.task.labels, share)
    failed = tuple(fault for faults in outcome.failed.values() for fault in faults)
    return PredictedFiles(outcome.files, outcome.skipped, failed)


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


def _check_split(split: str) -> None:
    if split not in ("train", "val", "test"):
        raise ConfigError(f'"{split}" is not a split', where="--split", hint="Known: train, val, test.")


def _check_out(folder: Path) -> None:
    """Refuse a folder that cannot be made or written to, before the work whose results it is to hold."""
    there = next(place for place in (folder, *folder.absolute().parents) if os.path.lexists(place))
    if not there.is_dir():
        raise RunError("is no folder, so no results can be written there", where=str(there),
                       hint="Name another folder.")  # fmt: skip
    if not os.access(there, os.W_OK | os.X_OK):
        raise RunError("this folder may not be written to", where=str(there),
                       hint="Name another folder for the results, or change its rights.")  # fmt: skip


def _evaluation_config(settings: Mapping[str, Any]) -> EvaluationConfig:
    """Settings of the section ``evaluation``; a fault names the option that is wrong."""
    options: dict[tuple[str | int, ...], str] = {
        (name,): f"--{name.replace('_', '-')} {value}" for name, value in settings.items()
    }
    return validate(EvaluationConfig, Document(dict(settings), options))


def _with_evaluation(overrides: Overrides | None, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The overrides with settings of the section ``evaluation`` after them."""
    _evaluation_config(settings)
    return {**(overrides or {}), **{f"evaluation.{name}": value for name, value in settings.items()}}


def _check_saved(save: Sequence[str], found: Iterable[Path], task: Task | None = None) -> None:
    from pixbox.prediction.outputs import FRAMES, is_video
    from pixbox.results import check_extras

    check_extras([name for name in save if name != FRAMES], task)
    if FRAMES in save and not any(is_video(path) for path in found):
        raise ConfigError(f"`{FRAMES}` are those of videos, and there is no video", where="--save")


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
