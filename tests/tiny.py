"""A miniature data set and the real command, for tests that go in by the front door."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from pixbox.data.findings import Findings
from pixbox.sample import Record

CLASSES = {"ground": 0, "disk": 80, "bar": 200}
SIZE_HW = (40, 56)


def draw_scene(index: int) -> tuple[np.ndarray, np.ndarray]:
    """A bright disk and a dark bar on noisy ground: (40, 56, 3) picture and its grey mask with void (255)."""
    rng = np.random.default_rng(index)
    rows, columns = np.mgrid[: SIZE_HW[0], : SIZE_HW[1]]
    mask = np.full(SIZE_HW, CLASSES["ground"], dtype=np.uint8)
    mask[:, (left := int(rng.integers(0, 40))) : left + 8] = CLASSES["bar"]
    center = rng.integers(10, 30), rng.integers(10, 46)
    mask[(rows - center[0]) ** 2 + (columns - center[1]) ** 2 < 64] = CLASSES["disk"]
    grey = np.select([mask == 80, mask == 200], [210, 40], 120)[:, :, None] + rng.normal(0, 12, (*SIZE_HW, 3))
    mask[: int(rng.integers(0, 4))] = 255
    return np.clip(grey, 0, 255).astype(np.uint8), mask


def write_scenes(folder: Path, train: int = 8, val: int = 5) -> Path:
    """A `list` data set with its labels.yaml; returns the folder."""
    for name, indices in (("train", range(train)), ("val", range(1000, 1000 + val))):
        lines = []
        for index in indices:
            picture, mask = draw_scene(index)
            for kind, array in (("images", picture), ("masks", mask)):
                path = folder / kind / f"s{index:04d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(path)
            lines.append(f"images/s{index:04d}.png;masks/s{index:04d}.png\n")
        (folder / f"{name}.txt").write_text("".join(lines))
    labels = {"ignore": [255], "classes": [{"name": name, "value": value} for name, value in CLASSES.items()]}
    (folder / "labels.yaml").write_text(yaml.safe_dump(labels))
    return folder


def experiment(data: Path, **changes: Any) -> dict[str, Any]:
    """A configuration that trains in a second; ``changes`` are dotted keys with ``__`` for the dot."""
    config: dict[str, Any] = {
        "name": "tiny",
        "data": {
            "root": str(data),
            "train": "train.txt",
            "val": "val.txt",
            "labels": str(data / "labels.yaml"),
            "size": [32, 48],
            "batch_size": 2,
            "workers": 0,
            "augment": {"flip": 0.5, "scale": [0.8, 1.25], "brightness": 0.1},
        },
        "model": {"architecture": "unet_classic", "options": {"base_channels": 4, "norm": "group"}},
        "optimizer": {"lr": 0.01},
        "training": {"epochs": 2, "precision": "32", "accelerator": "cpu"},
    }
    for key, value in changes.items():
        *path, last = key.split("__")
        section = config
        for step in path:
            section = section.setdefault(step, {})
        section[last] = value
    return config


@dataclass(frozen=True)
class Finished:
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def pixbox(*arguments: str | Path, cwd: Path, timeout: float = 300) -> Finished:
    """Run the real command in a folder."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-m", "pixbox", *map(str, arguments)],
        cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip
    return Finished(done.returncode, done.stdout, done.stderr)


def strictly(read_records: Callable[[Path, Any, Findings], list[Record]]) -> Callable[[Path, Any], list[Record]]:
    """A format's reader that raises what it finds to be wrong, as training does."""

    def read(root: Path, source: Any) -> list[Record]:
        findings = Findings()
        records = read_records(root, source, findings)
        findings.raise_errors()
        return records

    return read
