"""How long until ``pixbox --help`` answers, and what importing the libraries alone takes.

Each case is a process of its own; an empty one says what Python itself takes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from functools import partial

from benchmarks.measure import Case, Comparison, Goal, peers, require

THREADS = 1
HELP = "pixbox --help"
_PEERS = (
    "torch", "torchvision", "timm", "segmentation_models_pytorch", "torchmetrics", "pytorch_lightning", "monai",
    "albumentations",
)  # fmt: skip


def comparisons(options: argparse.Namespace) -> Iterator[Comparison]:
    shown = subprocess.run([sys.executable, "-m", "pixbox", "--help"], capture_output=True, text=True, check=True)
    imports, left_out = peers(
        (library, f"import {library}", partial(_process, f"import {library}", "-c", f"import {library}"))
        for library in (_PEERS[:1] if options.quick else _PEERS)
    )
    yield Comparison(
        "Until the process has ended",
        "s",
        [
            _process(HELP, "-m", "pixbox", "--help"),
            _process("import pixbox", "-c", "import pixbox"),
            _process("an empty process", "-c", "pass"),
            *imports,
        ],
        goals=[Goal(HELP, None, 0.3, "an answer that feels immediate")],
        equal=[require("train" in shown.stdout and "predict" in shown.stdout, "the help names the commands")],
        left_out=left_out,
    )


def _process(name: str, *arguments: str) -> Case:
    def run() -> None:
        subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)

    return Case(name, run)
