"""`pixbox evaluate` by several processes: the same files as by one, and one message where something is wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import pixbox as px
from acceptance.conftest import Command
from tiny import Finished, experiment, write_scenes


@pytest.fixture(scope="module")
def run(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("processes")
    (folder / "config.yaml").write_text(yaml.safe_dump(experiment(scenes, training__epochs=2)))
    return px.train(folder / "config.yaml", out=folder / "run").run


def launched(processes: int, *arguments: str | Path) -> Finished:
    """The real command in so many processes."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m", "pixbox"]
    done = subprocess.run(
        [sys.executable, *launcher, *map(str, arguments)],
        env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    return Finished(done.returncode, done.stdout, done.stderr)


def written(folder: Path) -> dict[str, Any]:
    """All files of an evaluation, by name; a page without its bulk of pictures is compared whole, too."""
    files: dict[str, Any] = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix != ".npz"}
    with np.load(folder / "pictures.npz") as saved:
        files["pictures.npz"] = {name: saved[name].tolist() for name in saved.files}
    return files


@pytest.mark.parametrize(("processes", "pictures"), [(2, 5), (3, 5), (3, 2)])
def test_several_processes_write_what_one_writes(
    run: Path, scenes: Path, tmp_path: Path, command: Command, processes: int, pictures: int
) -> None:
    data = shutil.copytree(scenes, tmp_path / "data")
    lines = (scenes / "val.txt").read_text().splitlines()[:pictures]
    (data / "some.txt").write_text("".join(f"{line}\n" for line in lines))
    chosen = ("--set", f"data.root={data}", "--set", "data.val=some.txt", "--json")
    alone = command("evaluate", run, *chosen, "--out", tmp_path / "alone")
    together = launched(processes, "evaluate", run, *chosen, "--out", tmp_path / "together")
    assert together.status == 0, together.err
    assert together.out == alone.out
    assert written(tmp_path / "together") == written(tmp_path / "alone")
    assert alone.json["images"] == pictures
    assert "terminate" not in together.err
    assert "Traceback" not in together.err


def test_a_fault_that_another_process_meets_is_told_once_and_nothing_is_written(run: Path, tmp_path: Path) -> None:
    data = write_scenes(tmp_path / "data", train=1, val=4)
    file = data / "images/s1001.png"
    file.write_bytes(file.read_bytes()[:-1000])
    done = launched(2, "evaluate", run, "--set", f"data.root={data}", "--out", tmp_path / "out")
    assert done.status != 0
    assert done.err.count(f"Error: {file}: the PNG file is incomplete") == 1
    assert not (tmp_path / "out").exists()


def test_faults_of_the_labels_are_told_once(run: Path, tmp_path: Path) -> None:
    data = write_scenes(tmp_path / "data", train=1, val=4)
    (data / "masks/s1002.png").unlink()
    done = launched(2, "evaluate", run, "--set", f"data.root={data}", "--out", tmp_path / "out")
    assert done.status != 0
    assert done.err.count("s1002.png") == 1, done.err
    assert not (tmp_path / "out").exists()
