"""Times cases that do the same work in turn, in one process, and says how many times as fast each is.

Every round runs each case for a stretch of equal kind, in an order that is turned around from round to round, so that
what changes slowly (temperature, other work on the machine) meets all alike. The first round is left out. A ratio is
taken within each round; what is shown is the median over the rounds with the least and the greatest.
"""

from __future__ import annotations

import argparse
import gc
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata, util
from pathlib import Path
from typing import Any

_STRETCH = 0.2
"""Seconds that a case runs at least in a round: a call is repeated until it takes so long."""
_LIBRARIES = (
    "pixbox", "numpy", "opencv-python-headless", "torch", "torchvision", "timm", "segmentation-models-pytorch",
    "pytorch-lightning", "faster-coco-eval", "pycocotools", "torchmetrics", "albumentations", "monai", "onnxruntime",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Case:
    """One way to do the work.

    Attributes:
        name: of the library and its settings.
        run: does the work once.
        work: how much that is, in the unit of the comparison; 1 where the unit is a time.
    """

    name: str
    run: Callable[[], object]
    work: float = 1.0


@dataclass(frozen=True, slots=True)
class Goal:
    """What was aimed at before it was measured.

    Attributes:
        case: that is to reach it.
        against: the case that it is compared with; None: the goal is a time.
        number: at least so many times as fast as ``against``; without it, at most so many seconds a call.
        why: one line.
    """

    case: str
    against: str | None
    number: float
    why: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """Cases that do the same work.

    Attributes:
        title: what is done, on what.
        unit: ``pictures/s`` and the like is work by time, more is better; ``s`` and ``ms`` are the time of a call.
        cases: the first is what ratios are of.
        goals: those of cases that are left out are not judged.
        equal: what was found equal before, in words.
        left_out: name of a case -> why it could not be run.
        also_found: asked when all is timed; lines of what else was found on the way.
    """

    title: str
    unit: str
    cases: Sequence[Case]
    goals: Sequence[Goal] = ()
    equal: Sequence[str] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    also_found: Callable[[], Sequence[str]] = list

    def __post_init__(self) -> None:
        names = [case.name for case in self.cases]
        if len(set(names)) < len(names):
            raise ValueError(f"two cases have one name: {names}")


@dataclass(frozen=True, slots=True)
class Spread:
    """Median of the rounds, the least and the greatest."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        return f"{_digits(self.median)} ({_digits(self.least)}-{_digits(self.most)})"


@dataclass(frozen=True, slots=True)
class Measured:
    """What a comparison came to.

    Attributes:
        seconds: name of a case -> seconds of a call in each round.
    """

    comparison: Comparison
    seconds: Mapping[str, tuple[float, ...]]

    def figure(self, name: str) -> Spread:
        """Of a case, in the unit of the comparison."""
        case = self._case(name)
        if self.comparison.unit.endswith("/s"):
            return Spread.of([case.work / took for took in self.seconds[name]])
        scale = {"s": 1.0, "ms": 1e3}[self.comparison.unit]
        return Spread.of([took * scale for took in self.seconds[name]])

    def ratio(self, name: str, against: str) -> Spread:
        """How many times as fast one case is as another, by the time that each takes for the same work."""
        scale = self._case(name).work / self._case(against).work
        pairs = zip(self.seconds[name], self.seconds[against], strict=True)
        return Spread.of([scale * other / own for own, other in pairs])

    def judged(self) -> list[tuple[Goal, Spread | None, bool | None]]:
        """Each goal, what was reached, and whether that is enough; None where it could not be measured."""
        found: list[tuple[Goal, Spread | None, bool | None]] = []
        for goal in self.comparison.goals:
            if not {goal.case, goal.against or goal.case} <= self.seconds.keys():
                found.append((goal, None, None))
            elif goal.against is None:
                reached = Spread.of(self.seconds[goal.case])
                found.append((goal, reached, reached.median <= goal.number))
            else:
                reached = self.ratio(goal.case, goal.against)
                found.append((goal, reached, reached.median >= goal.number))
        return found

    def to_plain(self) -> dict[str, Any]:
        """For JSON."""
        first = self.comparison.cases[0].name
        return {
            "title": self.comparison.title,
            "unit": self.comparison.unit,
            "equal": list(self.comparison.equal),
            "cases": {
                name: {
                    "seconds": list(took),
                    "figure": asdict(self.figure(name)),
                    "first_is_times_as_fast": asdict(self.ratio(first, name)),
                }
                for name, took in self.seconds.items()
            },
            "left_out": dict(self.comparison.left_out),
            "also_found": list(self.comparison.also_found()),
            "goals": [
                {**asdict(goal), "found": None if found is None else asdict(found), "reached": reached}
                for goal, found, reached in self.judged()
            ],
        }

    def to_markdown(self) -> str:
        """A table, and below it what was equal, what is missing and which goal is reached."""
        unit, first = self.comparison.unit, self.comparison.cases[0].name
        lines = [
            f"**{self.comparison.title}**",
            "",
            f"| | {unit} | {first} is so many times as fast |",
            "| --- | --- | --- |",
        ]
        for name in self.seconds:
            ratio = "" if name == first else str(self.ratio(first, name))
            lines.append(f"| {name} | {self.figure(name)} | {ratio} |")
        lines += [f"| {name} | left out: {why} | |" for name, why in self.comparison.left_out.items()]
        lines += ["", *(f"- Equal before it was timed: {words}." for words in self.comparison.equal)]
        lines += [f"- {words}." for words in self.comparison.also_found()]
        lines += [_verdict(*judged) for judged in self.judged()]
        return "\n".join(lines).rstrip() + "\n"

    def _case(self, name: str) -> Case:
        return next(case for case in self.comparison.cases if case.name == name)


def measure(comparison: Comparison, rounds: int, stretch: float = _STRETCH) -> Measured:
    """Run every case in turn, ``rounds`` times after a round that does not count.

    In each round a case is called until it has run for about ``stretch`` seconds.
    """
    calls: dict[str, int] = {}
    for case in comparison.cases:
        calls[case.name] = max(1, math.ceil(stretch / max(_seconds(case, 1), 1e-6)))
    taken: dict[str, list[float]] = {case.name: [] for case in comparison.cases}
    for turn in range(rounds):
        order = comparison.cases if turn % 2 == 0 else comparison.cases[::-1]
        for case in order:
            taken[case.name].append(_seconds(case, calls[case.name]))
    return Measured(comparison, {name: tuple(values) for name, values in taken.items()})


def _seconds(case: Case, calls: int) -> float:
    gc.collect()
    began = time.perf_counter()
    for _ in range(calls):
        case.run()
    return (time.perf_counter() - began) / calls


def peers(cases: Iterable[tuple[str, str, Callable[[], Case]]]) -> tuple[list[Case], dict[str, str]]:
    """Cases of libraries that may not be there: (library, name of the case, what makes it) -> cases, left out."""
    made: list[Case] = []
    left_out: dict[str, str] = {}
    for library, name, make in cases:
        if is_installed(library):
            made.append(make())
        else:
            left_out[name] = f"{library} is not installed (pip install 'pixbox[bench]')"
    return made, left_out


def is_installed(library: str) -> bool:
    return util.find_spec(library) is not None


def require(condition: bool, words: str) -> str:
    """The words, where what they say is so.

    Raises:
        SystemExit: it is not; what differs must not be compared by its time.
    """
    if not condition:
        raise SystemExit(f"not timed, because it is not so: {words}")
    return words


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that all topics share."""
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    parser.add_argument("--rounds", type=int, help="rounds that count; default: the topic's, or 7")
    parser.add_argument("--threads", type=int, help="threads of torch and OpenCV; default: the topic's")
    parser.add_argument(
        "--quick", action="store_true", help="tiny inputs, one round: does it run? figures mean nothing"
    )
    parser.add_argument("--camvid", type=Path, help="folder of CamVid (train.txt); else drawn pictures of its size")
    parser.add_argument("--ccp", type=Path, help="folder of Clothing Co-Parsing; else drawn pictures of its size")
    parser.add_argument("--bccd", type=Path, help="folder of BCCD; else drawn pictures of its size")


def set_threads(threads: int) -> None:
    """For torch and OpenCV alike."""
    import cv2
    import torch

    torch.set_num_threads(threads)
    # Zero: OpenCV starts no pool of its own.
    cv2.setNumThreads(0 if threads == 1 else threads)


def describe_machine(threads: int) -> dict[str, Any]:
    """Processor, cores, threads that are used, versions of the libraries that are there."""
    versions = {}
    for name in _LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": threads,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": versions,
    }


def load_average() -> float | None:
    """Processes that ran or waited over the last minute; None where the system does not tell."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def describe_in_words(machine: Mapping[str, Any], before: float | None, after: float | None) -> str:
    """One paragraph for below the tables."""
    load = "" if before is None or after is None else f"; load average {before:.1f} before, {after:.1f} after"
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['threads']} threads used{load}; "
        f"Python {machine['python']}, {versions}.\n"
    )


def say(words: str) -> None:
    """What is being done, for those who wait: standard output is for results."""
    print(words, file=sys.stderr, flush=True)


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _verdict(goal: Goal, found: Spread | None, reached: bool | None) -> str:
    asked = f"at most {goal.number:g} s" if goal.against is None else f"{goal.number:g} times {goal.against}"
    if found is None:
        return f"- Goal: {goal.case} {asked} ({goal.why}): not measured."
    return f"- Goal: {goal.case} {asked} ({goal.why}): {found}, {'reached' if reached else 'missed'}."


def _digits(value: float) -> str:
    """Three that count."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    places = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{places}f}"
