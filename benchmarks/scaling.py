"""How do time and memory grow with the number and size of pictures, with classes and workers? Run by hand.

Each measurement runs in a process of its own, forked after the libraries are loaded: processor time (of all its
threads) and the most memory beyond what it began with. Along each axis the exponent of a power law is fitted to the
upper end of the curve, where fixed costs no longer hide it, and is compared with what is expected: 1 where work is
done for each picture or pixel, 0 where it must not depend on them. What lies more than a quarter above is marked.
Linux only. Writes ``scaling_<axis>.png`` and prints the tables. Example:

    python -m benchmarks.scaling --out docs/images --axes pictures sizes classes workers
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import torch

from benchmarks.measure import describe_in_words, describe_machine, load_average, say, set_threads
from benchmarks.pictures import drawn_picture
from pixbox.auditing.audit import audit_folder
from pixbox.auditing.pictures import inspect_picture
from pixbox.auditing.scan import scan_labels
from pixbox.augment import FILL, GeometryPolicy, draw_geometry, sample_rng, warp_image, warp_mask
from pixbox.checkpoint import LoadedRun, Position
from pixbox.config import DataConfig, Experiment
from pixbox.data.cache import open_cache
from pixbox.data.dataset import SampleReader, TrainingSet, training_loader
from pixbox.data.formats import read_records
from pixbox.data.images import read_image
from pixbox.data.sampler import StepSampler
from pixbox.labels import LabelMap
from pixbox.losses import build_loss
from pixbox.metrics import ConfusionMatrix, intervals, predicted_classes
from pixbox.metrics.pictures import SegmentationPictures, read_pictures, write_pictures
from pixbox.prediction.predictor import Predictor
from pixbox.report import SegmentationReport, write_report
from pixbox.sample import Record
from pixbox.tasks.segmentation import build_segmentation

matplotlib.use("Agg")
from matplotlib import pyplot

AXES = ("pictures", "sizes", "classes", "workers")
TOLERANCE = 0.25
"""How far an exponent may lie above what is expected."""
_SMALL = 32
"""Side of the pictures that are many, pixels."""
_CLASSES = 4
_FEWEST_PAIRS = 3
"""Points at the upper end of a curve through which its law is fitted."""
_LEAST_SECONDS, _LEAST_BYTES = 2e-3, 4e6
"""Less is the clock's and the allocator's grain."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One kind of work at growing sizes.

    Attributes:
        name: of the work.
        law: the exponent that is expected of its time.
        run: makes ready at a size and returns what is measured.
        most: the largest size that it is measured at.
        memory_law: the exponent that is expected of its memory.
    """

    name: str
    law: float
    run: Callable[[int], Callable[[], object]]
    most: float = float("inf")
    memory_law: float = 1.0


@dataclass(frozen=True, slots=True)
class Point:
    """What a size came to: processor seconds, and bytes beyond those at the start."""

    size: int
    seconds: float
    memory: int


def main() -> None:
    options = _options()
    options.out.mkdir(parents=True, exist_ok=True)
    set_threads(1)
    before = load_average()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for axis in options.axes:
            if axis == "workers":
                print(_workers(folder, options.out / "scaling_workers.png"), flush=True)
                continue
            sizes, unit, curves = _axis(axis, folder, options)
            found = {curve.name: _measure(curve, sizes) for curve in curves}
            print(_table(axis, unit, curves, found), flush=True)
            _plot(options.out / f"scaling_{axis}.png", unit, curves, found)
    print(describe_in_words(describe_machine(1), before, load_average()))


def fitted_exponent(points: Sequence[tuple[float, float]], least: float) -> float | None:
    """The exponent of the power law through the last points, by least squares of logarithms.

    ``points`` are (size, cost), sizes ascending; costs below ``least`` count as ``least``, because they are not known
    any better. None where no cost reaches it, or there are fewer than two points.
    """
    if len(points) < 2 or max(cost for _, cost in points) < least:
        return None
    last = points[-_FEWEST_PAIRS:]
    logs = np.log([(size, max(cost, least)) for size, cost in last])
    return float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the plots")
    parser.add_argument("--axes", nargs="+", choices=AXES, default=AXES, help="default: all")
    parser.add_argument("--pictures", type=int, nargs="+", default=[100, 1000, 10_000, 100_000], help="how many")
    parser.add_argument("--megapixels", type=float, nargs="+", default=[0.1, 0.3, 1, 3, 10, 30, 100], help="of one")
    parser.add_argument("--classes", type=int, nargs="+", default=[2, 5, 12, 40, 150], help="how many")
    return parser.parse_args()


def _axis(axis: str, folder: Path, options: argparse.Namespace) -> tuple[list[int], str, list[Curve]]:
    """Sizes, what they count, and what is measured along an axis."""
    if axis == "pictures":
        for count in options.pictures:
            say(f"drawing {count:,} pictures")
            _draw_many(folder / f"many{count}", count)
        return options.pictures, "pictures", _many_pictures(folder)
    if axis == "sizes":
        pixels = [round(megapixels * 1e6) for megapixels in options.megapixels]
        for size in pixels:
            say(f"drawing {size / 1e6:g} megapixels")
            _draw_one(folder / f"one{size}.jpg", size)
        return pixels, "pixels", _large_pictures(folder)
    return options.classes, "classes", _many_classes(folder)


# What is measured


def _labels(count: int) -> LabelMap:
    return LabelMap.model_validate({"classes": [{"name": f"class {i}", "value": i} for i in range(count)]})


def _draw_many(folder: Path, count: int) -> None:
    """Pictures of noise, no two alike, and masks of blocks, in two folders and a list."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    lines = []
    for index in range(count):
        image = rng.integers(0, 256, (_SMALL, _SMALL, 3), dtype=np.uint8)
        mask = rng.integers(0, _CLASSES, (4, 4), dtype=np.uint8).repeat(_SMALL // 4, 0).repeat(_SMALL // 4, 1)
        for kind, pixels in (("images", image), ("masks", mask)):
            coded = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]
            (folder / kind / f"{index:06d}.png").write_bytes(coded.tobytes())
        lines.append(f"images/{index:06d}.png;masks/{index:06d}.png\n")
    (folder / "train.txt").write_text("".join(lines), encoding="utf-8")


def _many_pictures(folder: Path) -> list[Curve]:
    def records(count: int) -> list[Record]:
        return read_records(DataConfig(root=str(folder / f"many{count}")), "train.txt")

    def check(count: int) -> Callable[[], object]:
        listed, labels = records(count), _labels(_CLASSES)
        return lambda: scan_labels(listed, labels)

    def checked_before(count: int) -> Callable[[], object]:
        again = check(count)
        again()
        return again

    def audit(count: int) -> Callable[[], object]:
        return lambda: audit_folder(folder / f"many{count}", lambda doing, done, total: None)

    def tables(count: int) -> Callable[[], object]:
        statistics = _statistics(count)
        file = folder / "pictures.npz"

        def write_and_read() -> None:
            write_pictures(file, statistics)
            read_pictures(file)

        return write_and_read

    def bootstrap(count: int) -> Callable[[], object]:
        statistics = _statistics(count)
        return lambda: intervals(statistics)

    return [
        Curve("listing", 1, lambda count: lambda: records(count)),
        Curve("label check, first time", 1, check),
        Curve("label check, again", 1, checked_before),
        Curve("audit", 1, audit),
        Curve("evaluation: its table of pictures", 1, tables),
        Curve("evaluation: intervals", 1, bootstrap),
    ]


def _statistics(count: int, classes: int = 12, rows: int = 20) -> SegmentationPictures:
    """Of invented pictures that hold ``rows`` pairs of true and predicted classes each."""
    rng = np.random.default_rng(0)
    pairs = np.sort(np.argsort(rng.random((count, classes**2)), axis=1)[:, :rows], axis=1).ravel()
    picture = np.arange(count).repeat(rows)
    ids, names = [f"{index:06d}" for index in range(count)], [f"class {index}" for index in range(classes)]
    pixels = rng.integers(1, 10_000, len(picture))
    return SegmentationPictures(ids, names, picture, pairs // classes, pairs % classes, pixels)


def _draw_one(path: Path, pixels: int) -> None:
    height = round((pixels * 3 / 4) ** 0.5)
    tile, _ = drawn_picture(0, (480, 640), _CLASSES)
    width = round(pixels / height)
    tiled = np.tile(tile, (-(-height // 480), -(-width // 640), 1))[:height, :width]
    cv2.imwrite(str(path), tiled)


def _large_pictures(folder: Path) -> list[Curve]:
    def file(pixels: int) -> Path:
        return folder / f"one{pixels}.jpg"

    def read(pixels: int) -> Callable[[], object]:
        return lambda: read_image(file(pixels))

    def audit(pixels: int) -> Callable[[], object]:
        return lambda: inspect_picture(Record("one", file(pixels), None))

    def augment(pixels: int) -> Callable[[], object]:
        image = read_image(file(pixels))
        mask = np.ascontiguousarray(image[..., 0])
        policy = GeometryPolicy((360, 360), scale=(0.5, 2.0), rotate=10, flip=0.5)
        warps = [draw_geometry(sample_rng(0, 0, index), image.shape[:2], policy) for index in range(32)]
        return lambda: [(warp_image(image, warp, FILL), warp_mask(mask, warp)) for warp in warps]

    def predict(mode: str) -> Callable[[int], Callable[[], object]]:
        predictor = _predictor(mode)
        return lambda pixels: lambda: predictor.predict(file(pixels))

    return [
        Curve("reading", 1, read),
        Curve("audit of one picture", 1, audit),
        Curve("augmentation, 32 windows of 360 x 360", 0, augment, memory_law=0),
        Curve("prediction, whole", 1, predict("whole"), most=3e6),
        Curve("prediction, in windows", 1, predict("sliding")),
    ]


def _predictor(mode: str) -> Predictor:
    """A tiny network: what surrounds it is to be seen, too."""
    labels = _labels(_CLASSES)
    experiment = Experiment.model_validate({
        "name": "scaling",
        "data": {"root": ".", "labels": labels, "size": [512, 512]},
        "model": {"architecture": "unet", "encoder": "test_resnet", "options": {"decoder_channels": [8, 8, 8, 4, 4]}},
        "training": {"precision": "32"},
        "evaluation": {"mode": mode, "window": [512, 512], "max_memory": "8GB"},
    })  # fmt: skip
    task = build_segmentation(experiment, labels)
    return Predictor(LoadedRun(task, experiment, Position(0, 0, {}), Path()), "cpu")


def _many_classes(folder: Path) -> list[Curve]:
    def batch(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(0)
        logits = torch.randn(2, count, 256, 256, generator=generator).contiguous(memory_format=torch.channels_last)
        return logits, torch.randint(0, count, (2, 256, 256), generator=generator, dtype=torch.uint8)

    def loss(name: str) -> Callable[[int], Callable[[], object]]:
        measured = build_loss(
            name, class_weights=None, label_smoothing=0, gamma=2, dice_weight=1, ohem_threshold=0.7, ohem_min_kept=0.1
        )

        def ready(count: int) -> Callable[[], object]:
            logits, target = batch(count)
            logits.requires_grad_()
            weights = measured.weights(target)

            def step() -> None:
                (measured.sums(logits, target).sum() / weights.sum()).backward()  # type: ignore[no-untyped-call]

            return step

        return ready

    def highest(count: int) -> Callable[[], object]:
        logits, _ = batch(count)
        return lambda: predicted_classes(logits)

    def confusion(count: int) -> Callable[[], object]:
        _, target = batch(count)
        return lambda: ConfusionMatrix(count).update(target.flip(0), target)

    def report(count: int) -> Callable[[], object]:
        made = _report(count)
        return lambda: write_report(made, folder)

    return [
        Curve("cross-entropy and its gradient", 1, loss("cross_entropy")),
        Curve("dice and its gradient", 1, loss("dice")),
        Curve("the highest class of each pixel", 1, highest),
        Curve("confusion matrix", 0, confusion, memory_law=0),
        # Its table of confusions has a cell for each pair of classes.
        Curve("report", 2, report, memory_law=2),
    ]


def _report(count: int) -> SegmentationReport:
    labels = _labels(count)
    confusion = ConfusionMatrix(count)
    confusion.matrix += torch.randint(0, 1000, (count, count), generator=torch.Generator().manual_seed(0))
    experiment = Experiment.model_validate({"name": "scaling", "data": {"root": ".", "labels": labels}})
    metrics = confusion.compute(labels.names, images=1).to_plain()
    return SegmentationReport(
        "scaling", "val", experiment, labels, metrics, confusion.matrix.numpy(), [], [], {},
    )  # fmt: skip


# How it is measured


def _measure(curve: Curve, sizes: Sequence[int]) -> list[Point]:
    points = []
    for size in sizes:
        if size > curve.most:
            continue
        points.append(_apart(curve, size))
        say(f"{curve.name}, {size:,}: {points[-1].seconds:.4g} s, {points[-1].memory / 1e6:.0f} MB")
    return points


def _apart(curve: Curve, size: int) -> Point:
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(there, curve, size))
    process.start()
    there.close()
    try:
        point: Point = here.recv()
    except EOFError:
        raise SystemExit(f"{curve.name}, {size:,}: its process ended early") from None
    process.join()
    return point


def _child(answer: Connection, curve: Curve, size: int) -> None:
    set_threads(1)
    with tempfile.TemporaryDirectory() as cache:
        # What is remembered of masks must not be found by the next, nor kept for the user.
        os.environ["XDG_CACHE_HOME"] = cache
        answer.send(_point(curve, size))


def _point(curve: Curve, size: int) -> Point:
    run = curve.run(size)
    # Five resets what the system remembers as the most resident memory.
    Path("/proc/self/clear_refs").write_text("5")
    memory = _status("VmRSS")
    began = time.process_time()
    run()
    seconds = time.process_time() - began
    memory = _status("VmHWM") - memory
    repeats = min(20, int(0.2 / max(seconds, 1e-4)))
    times = [seconds]
    for _ in range(repeats):
        began = time.process_time()
        run()
        times.append(time.process_time() - began)
    return Point(size, float(np.median(times)), max(0, memory))


def _status(name: str) -> int:
    """Bytes that Linux says of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def _workers(folder: Path, path: Path) -> str:
    """Pictures a second by the number of processes that read; a table."""
    source = folder / "read"
    source.mkdir(exist_ok=True)
    count, batch = 64, 8
    records = []
    for index in range(count):
        image, mask = drawn_picture(index, (360, 480), _CLASSES)
        files = source / f"{index}.png", source / f"{index}_mask.png"
        for file, pixels in zip(files, (image, mask), strict=True):
            cv2.imwrite(str(file), pixels)
        records.append(Record(f"{index}", *files))
    data = DataConfig(root=str(source), size=(360, 360))
    dataset = TrainingSet(records, SampleReader(_labels(_CLASSES), open_cache("none", None)), data, seed=0)
    speeds = {}
    for workers in range(5):
        sampler = StepSampler(count, batch, 1, 0, 0, 6 * count // batch)
        steps: Iterator[object] = iter(training_loader(dataset, sampler, workers=workers, pin_memory=False))
        # The first epoch starts the processes.
        for _ in range(count // batch):
            next(steps)
        began = time.perf_counter()
        done = sum(1 for _ in steps)
        speeds[workers] = done * batch / (time.perf_counter() - began)
        say(f"{workers} workers: {speeds[workers]:.0f} pictures/s")
    cores = len(os.sched_getaffinity(0))
    figure, plot = pyplot.subplots(figsize=(5, 3.4), layout="constrained")
    plot.plot(list(speeds), list(speeds.values()), "o-", label="measured")
    expected = [speeds[1] * min(max(workers, 1), cores) for workers in speeds]
    plot.plot(list(speeds), expected, ":", color="grey", label=f"in proportion, up to {cores} cores")
    plot.set(xlabel="workers", ylabel="pictures/s", ylim=(0, None), xticks=list(speeds))
    plot.legend()
    plot.grid(alpha=0.3)
    figure.savefig(path, dpi=90)
    lines = ["**workers**", "", "| workers | pictures/s | of what cores allow |", "| --- | --- | --- |"]
    lines += [
        f"| {workers} | {speed:.0f} | {speed / bound:.2f} |"
        for (workers, speed), bound in zip(speeds.items(), expected, strict=True)
    ]
    return "\n".join([*lines, ""])


# What is shown


def _exponents(points: Sequence[Point]) -> tuple[float | None, float | None]:
    """Of time and memory."""
    time_law = fitted_exponent([(point.size, point.seconds) for point in points], _LEAST_SECONDS)
    return time_law, fitted_exponent([(point.size, point.memory) for point in points], _LEAST_BYTES)


def _table(axis: str, unit: str, curves: Sequence[Curve], found: dict[str, list[Point]]) -> str:
    lines = [
        f"**{axis}**",
        "",
        f"| | largest, {unit} | seconds | exponent (expected) | MB | exponent (at most) |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for curve in curves:
        points = found[curve.name]
        time_law, memory_law = _exponents(points)
        last = points[-1]
        lines.append(
            f"| {curve.name} | {last.size:,} | {last.seconds:.3g} | {_law(time_law, curve.law)} "
            f"| {last.memory / 1e6:,.0f} | {_law(memory_law, curve.memory_law)} |"
        )
    return "\n".join([*lines, ""])


def _law(found: float | None, expected: float) -> str:
    if found is None:
        return f"too little to tell ({expected:g})"
    return f"{found:.2f} ({expected:g})" + (" **above**" if found > expected + TOLERANCE else "")


def _plot(path: Path, unit: str, curves: Sequence[Curve], found: dict[str, list[Point]]) -> None:
    figure, (times, memories) = pyplot.subplots(1, 2, figsize=(10, 4.6), layout="constrained")
    for curve in curves:
        points = found[curve.name]
        sizes = [point.size for point in points]
        time_law, _ = _exponents(points)
        shown = "" if time_law is None else f" ({time_law:.2f})"
        (line,) = times.plot(sizes, [point.seconds for point in points], "o-", label=curve.name + shown)
        # What is expected, through the last point.
        last = points[-1]
        expected = [last.seconds * (size / last.size) ** curve.law for size in sizes]
        times.plot(sizes, expected, ":", color=line.get_color(), alpha=0.6)
        memories.plot(sizes, [max(point.memory, 1e5) / 1e6 for point in points], "o-", color=line.get_color())
    for plot, what in ((times, "processor seconds (dotted: expected law)"), (memories, "memory beyond the start, MB")):
        plot.set(xscale="log", yscale="log", xlabel=unit, ylabel=what)
        plot.grid(alpha=0.3)
    figure.legend(*times.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    main()
