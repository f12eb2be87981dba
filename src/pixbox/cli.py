"""The command line: thin commands over the verbs of `api`."""

from __future__ import annotations

import io
import json
import logging
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from pixbox.launch import is_first_process
from pixbox.results import EXTRAS

# Typer carries its own copy of click under a private name; this is the parent of all its complaints about usage.
_UsageError: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")

app = typer.Typer(
    name="pixbox",
    help="From a folder of labelled images to a model that labels pixels, finds objects or names pictures.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a setting; may be repeated.")
]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on standard output, all else on standard error.")
]
Config = Annotated[Path, typer.Argument(metavar="CONFIG", help="A configuration file (YAML or JSON).")]
Mode = Annotated[
    str | None,
    typer.Option(help="auto, whole (at once) or sliding (window by window); default: as in the run's configuration."),
]
Window = Annotated[str | None, typer.Option(metavar="H,W", help="Size of a window, pixels.")]
Overlap = Annotated[float | None, typer.Option(help="Least share of a window that its neighbour sees too.")]
Scales = Annotated[str | None, typer.Option(metavar="0.75,1,1.25", help="Sizes to look at; answers are averaged.")]
Flip = Annotated[bool | None, typer.Option("--flip/--no-flip", help="Also look at everything mirrored.")]
MaxMemory = Annotated[str | None, typer.Option(metavar="2GB", help="Memory to use; default: half of what is free.")]
BatchSize = Annotated[
    int | None, typer.Option("--batch", help="Windows, or pictures of one size, that the network sees together.")
]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, or a checkpoint file.")]


def _version(asked: bool) -> None:
    if asked:
        from pixbox import __version__

        typer.echo(f"pixbox {__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options before the verb."""
    del debug, version  # `main` looks for --debug itself: it must also work after the verb.


@app.command()
def demo(
    task: Annotated[str, typer.Option(help="segmentation, detection or classification.")] = "segmentation",
    out: Annotated[
        Path | None, typer.Option(help="The run folder to make; default: runs/demo, of other tasks runs/demo_TASK.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the scenes and of the training.")] = 0,
    as_json: Json = False,
) -> None:
    """Draw sample scenes, train, evaluate, write a report with pictures: minutes, CPU, offline."""
    from pixbox import api

    run, evaluation = api.demo(out, task=task, seed=seed)
    if as_json:
        _print_json({"run": str(run.run), "metrics": evaluation.metrics, "report": str(evaluation.report)})
        return
    again = f"pixbox train {run.run}/config.yaml --set training.epochs=30 --out runs/longer"
    figure, pictures, results, training = {
        "segmentation": (
            "miou", "images", "masks", "pixbox train recipes/camvid_unet.yaml --set data.root=FOLDER"
        ),
        "detection": ("map_50", "images", "boxes", again),
        "classification": ("accuracy", "tiles/test", "classes", again),
    }[task]  # fmt: skip
    name = "mIoU" if figure == "miou" else figure
    typer.echo(
        f"\n{name} {evaluation.metrics[figure]:.3f} on unseen scenes, after {run.seconds:.0f} s of training.\n"
        f"Report: {evaluation.report}\n\n"
        f"Next:\n"
        f"  pixbox predict {run.run} {run.run}/scenes/{pictures} --out {results} --save overlay\n"
        f"  {training}\n"
        f"  pixbox models"
    )


@app.command()
def audit(
    source: Annotated[Path, typer.Argument(metavar="CONFIG|FOLDER", help="A configuration file, or a folder of data.")],
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write a page with pictures.")] = None,
    recipe: Annotated[
        Path | None,
        typer.Option("--write-recipe", metavar="FILE", help="Of a folder: write a configuration that `train` takes."),
    ] = None,
    fix: Annotated[
        Path | None, typer.Option(metavar="OUT", help="Write a cleaned copy and a log of every change; new folder.")
    ] = None,
    overrides: Set = None,
    as_json: Json = False,
) -> None:
    """Look at every picture and label before the first step: what is wrong, where, and what to do."""
    from pixbox import api

    with _progress("auditing") as progress:
        result = api.audit(source, _overrides(overrides), html=html, recipe=recipe, fix=fix, progress=progress)
    if as_json:
        _print_json(result.to_plain())
    else:
        from pixbox.auditing.words import in_words

        typer.echo(in_words(result))
        written = {"Page": html, "Recipe": recipe, "Cleaned copy": fix}
        for what, path in written.items():
            if path is not None:
                typer.echo(f"{what}: {path}")
        if recipe is not None:
            typer.echo(f"Next: pixbox train {recipe}")
    if result.has_errors:
        raise typer.Exit(1)


@app.command()
def convert(
    source_format: Annotated[str, typer.Argument(metavar="FORMAT", help="A format that `pixbox models` lists.")],
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="The folder of the data.")],
    out: Annotated[Path, typer.Option(help="The folder (for box-list: the file) to write.")],
    to: Annotated[
        str | None,
        typer.Option(help="masks, box-list, coco, yolo or voc-boxes; default: masks, of voc-boxes box-list."),
    ] = None,
    split: Annotated[
        list[str] | None, typer.Option(help="What `data.train` would name; may be repeated. Default: train.")
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="A label map, for formats that have none.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Ids to leave out; may be repeated.")] = None,
    as_json: Json = False,
) -> None:
    """Write annotations of one format as another."""
    from pixbox import api

    with _progress("converting") as progress:
        done = api.convert(
            source_format, root, to=to, splits=split or ["train"], labels=labels, exclude=exclude or [], out=out,
            progress=partial(progress, "converting"),
        )  # fmt: skip
    for finding in done.skipped:
        typer.echo(str(finding.fault), err=True)
    if as_json:
        plain = {"out": str(out), "pictures": done.pictures, "objects": done.objects}
        _print_json(plain | {"skipped": [finding.to_plain() for finding in done.skipped]})
    else:
        typer.echo(f"{done.pictures} pictures, {done.objects} objects: {out}")


@app.command()
def train(
    source: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="A configuration file; with --resume, a run folder.")
    ],
    overrides: Set = None,
    out: Annotated[Path | None, typer.Option(help="The run folder to make; default: runs/<name>.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's last checkpoint.")] = False,
    budget: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Train as long as fits into this time: 90s, 30m, 1h30m. Replaces epochs."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Train an experiment into a run folder."""
    from pixbox import api

    run = api.train(source, _overrides(overrides), out=out, resume=resume, budget=budget)
    if not is_first_process():
        return
    if as_json:
        _print_json(
            {
                "run": str(run.run),
                "best": run.best,
                "epochs": run.epochs,
                "steps": run.steps,
                "seconds": round(run.seconds, 3),
                "stopped": run.stopped,
            }
        )
    elif not run.stopped:
        figures = ", ".join(f"{name} {value:.4f}" for name, value in run.best.items() if isinstance(value, float))
        typer.echo(f"Done: {run.run} ({run.epochs} epochs, {run.seconds:.0f} s). Best: {figures or 'not measured'}")
        typer.echo(f"Next: pixbox evaluate {run.run}")
    if run.stopped:
        typer.echo(f"Stopped and saved. To go on: pixbox train {run.run} --resume", err=True)
        raise typer.Exit(130)


@app.command()
def evaluate(
    run: Run,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "val",
    mode: Mode = None,
    window: Window = None,
    overlap: Overlap = None,
    scales: Scales = None,
    flip: Flip = None,
    max_memory: MaxMemory = None,
    batch: BatchSize = None,
    overrides: Set = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results; default: evaluation/<split> in the run.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Score a run on a labelled split: metrics.json and report.html."""
    from pixbox import api
    from pixbox.errors import PixboxError

    settings = _evaluation(mode, window, overlap, scales, flip, max_memory, batch)
    try:
        with _progress("evaluating") as progress:
            result = api.evaluate(
                run, _overrides(overrides), split=split, out=out, progress=partial(progress, "evaluating"), **settings
            )
    except PixboxError:
        if is_first_process():
            raise
        # All processes stop for the same reason; the first tells it.
        raise typer.Exit(2) from None
    if not is_first_process():
        return
    if as_json:
        _print_json(result.metrics)
    else:
        for line in _evaluation_lines(result.metrics):
            typer.echo(line)
        typer.echo(f"Report: {result.report}")


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(metavar="RUN_A", help="A run, or a folder that `evaluate --out` wrote.")],
    b: Annotated[Path, typer.Argument(metavar="RUN_B", help="Another one; differences are B - A.")],
    split: Annotated[str, typer.Option(help="train, val or test: one on which both were evaluated.")] = "val",
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write a page.")] = None,
    as_json: Json = False,
) -> None:
    """Two evaluated runs: which is better, in what, and whether that is more than noise."""
    from pixbox import api

    with _progress("comparing"):
        result = api.compare(a, b, split=split, html=html)
    if as_json:
        _print_json(result.to_plain())
        return
    from pixbox.comparison import in_words

    typer.echo(in_words(result))
    if html is not None:
        typer.echo(f"Page: {html}")


@app.command()
def predict(
    run: Run,
    pictures: Annotated[list[Path], typer.Argument(metavar="PICTURE|VIDEO|FOLDER...", help="What to label.")],
    out: Annotated[Path, typer.Option(help="Folder for the results.")],
    save: Annotated[
        str, typer.Option(metavar="A,B", help=f"Also write, of {', '.join(EXTRAS)}; of videos also frames.")
    ] = "",
    mode: Mode = None,
    window: Window = None,
    overlap: Overlap = None,
    scales: Scales = None,
    flip: Flip = None,
    max_memory: MaxMemory = None,
    batch: BatchSize = None,
    skip_existing: Annotated[bool, typer.Option("--skip-existing", help="Leave out what has its results.")] = False,
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="Only every N-th picture, from the I-th on (1/3, 2/3, 3/3).")
    ] = None,
    overrides: Set = None,
    as_json: Json = False,
) -> None:
    """Label pictures: one palette PNG of class indices each, at the original size; boxes and classes as JSON."""
    from pixbox import api

    settings = _evaluation(mode, window, overlap, scales, flip, max_memory, batch)
    with _progress("predicting") as progress:
        result = api.predict(
            run, pictures, _overrides(overrides), out=out, save=_names(save), skip_existing=skip_existing,
            shard=shard, progress=partial(progress, "predicting"), **settings,
        )  # fmt: skip
    if not is_first_process():
        return
    for fault in result.failed:
        typer.echo(str(fault), err=True)
    if as_json:
        _print_json(
            {
                "out": str(out),
                "files": {str(picture): str(file) for picture, file in result.files.items()},
                "skipped": {str(picture): str(file) for picture, file in result.skipped.items()},
                "failed": [{"file": fault.where, "message": fault.what} for fault in result.failed],
            }
        )
    else:
        skipped = f", {len(result.skipped)} skipped (their results are there)" if result.skipped else ""
        typer.echo(f"{len(result.files)} labelled{skipped}, in {out}")
    if result.failed:
        typer.echo(f"{len(result.failed)} failed; they are listed above.", err=True)
        raise typer.Exit(1)


@app.command()
def models(as_json: Json = False) -> None:
    """What can be named in a configuration: networks, their parameters and sources."""
    from pixbox import api

    listed = api.models()
    if as_json:
        _print_json(
            [
                {
                    "name": info.name,
                    "source": info.source,
                    "default_encoder": info.default_encoder,
                    "encoders": info.encoder_rule,
                    "options": {
                        name: {"type": option.type, "default": option.default, "meaning": option.meaning}
                        for name, option in info.options.items()
                    },
                }
                for info in listed
            ]
        )
        return
    for info in listed:
        typer.echo(f"{info.name}: {info.source}")
        typer.echo(f"  encoder: {info.encoder_rule}; default {info.default_encoder or 'its own'}")
        for name, option in info.options.items():
            default = "" if option.default is None else f", default {option.default}"
            typer.echo(f"  options.{name} ({option.type}{default}): {option.meaning}")
        typer.echo("")
    from pixbox import config

    for setting, names in (
        ("loss.name", config.LossName),
        ("loss.class_weights", config.ClassWeighting),
        ("optimizer.name", config.OptimizerName),
        ("schedule.name", config.ScheduleName),
        ("data.format", config.Format),
    ):
        typer.echo(f"{setting}: {', '.join(get_args(names))}")


@app.command()
def schema() -> None:
    """JSON schema of a configuration file, for editors."""
    from pixbox import api

    _print_json(api.schema())


def main() -> None:
    """Run the command line; exit 0 (done), 1 (errors found, files failed), 2 (wrong input) or 130 (interrupted)."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logging.getLogger("pixbox").addHandler(handler)
    logging.getLogger("pixbox").setLevel(logging.INFO if is_first_process() else logging.ERROR)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # File names may hold signs that the terminal does not know, and bytes that are no text.
        sys.stdout.reconfigure(errors="backslashreplace")
    from pixbox.errors import PixboxError

    try:
        status = app(arguments, standalone_mode=False)
    except typer.Exit as exit_:
        sys.exit(exit_.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        typer.echo("Interrupted.", err=True)
        sys.exit(130)
    except _UsageError as error:
        error.show()
        sys.exit(2)
    except PixboxError as error:
        if debug:
            traceback.print_exc()
        typer.echo(f"Error: {error}" if len(error.faults) == 1 else f"{len(error.faults)} errors:\n{error}", err=True)
        sys.exit(2)
    except BrokenPipeError:
        sys.exit(1)
    except OSError as error:
        # Readers name their files themselves; what is left are folders that cannot be written to, and full disks.
        if debug:
            traceback.print_exc()
        typer.echo(f"Error: {error.filename or 'a file'}: {error.strerror or error}", err=True)
        sys.exit(2)
    sys.exit(status if isinstance(status, int) else 0)


def _names(text: str) -> list[str]:
    """``"a, b"`` -> ``["a", "b"]``."""
    return [name.strip() for name in text.split(",") if name.strip()]


def _evaluation(
    mode: str | None,
    window: str | None,
    overlap: float | None,
    scales: str | None,
    flip: bool | None,
    max_memory: str | None,
    batch: int | None,
) -> dict[str, Any]:
    """Those settings of the section `evaluation` that options name."""
    from pixbox.documents import parse_value

    named = {
        "mode": mode,
        "window": window if window is None else parse_value(f"[{window}]", f"--window {window}"),
        "overlap": overlap,
        "scales": scales if scales is None else parse_value(f"[{scales}]", f"--scales {scales}"),
        "flip": flip,
        "max_memory": max_memory,
        "batch": batch,
    }
    return {name: value for name, value in named.items() if value is not None}


def _overrides(settings: list[str] | None) -> dict[str, Any]:
    """``["a.b=1"]`` -> ``{"a.b": 1}``; values are read as YAML."""
    from pixbox.documents import parse_value
    from pixbox.errors import ConfigError

    parsed: dict[str, Any] = {}
    for text in settings or []:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ConfigError(
                "is not of the form KEY=VALUE", where=f"--set {text}", hint="Example: --set optimizer.lr=3e-4"
            )
        parsed[key.strip()] = parse_value(value, f"--set {text}")
    return parsed


def _evaluation_lines(metrics: dict[str, Any]) -> Iterator[str]:
    """The content of metrics.json for a terminal: figures with their intervals, then those of each class."""
    intervals = metrics["intervals"]

    def line(name: str, value: float | None, figure: str) -> str:
        interval = intervals.get(figure)
        between = f"   {interval[0]:.4f} to {interval[1]:.4f}" if interval else ""
        return f"{name:28} {'     -' if value is None else f'{value:.4f}'}{between}"

    yield f"{metrics['images']} pictures, looked at {metrics['mode']}; with 95 % intervals over pictures"
    classes = {name: values for name, values in metrics.items() if isinstance(values, dict) and name != "intervals"}
    for name, value in metrics.items():
        if isinstance(value, float):
            yield line(name, value, name)
    name, values = next(iter(classes.items()))
    yield name
    for class_name, value in values.items():
        yield line(f"  {class_name}", value, f"{name}/{class_name}")


@contextmanager
def _progress(what: str) -> Iterator[Callable[[str, int, int], None]]:
    """A bar on standard error, if that is a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not (console.is_terminal and is_first_process())) as bar:
        task = bar.add_task(what, total=None)
        yield lambda doing, done, total: bar.update(task, description=doing, completed=done, total=total)


def _print_json(value: Any) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        text = json.dumps(value, indent=2)
    typer.echo(text)
