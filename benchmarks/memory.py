"""How much memory does a prediction take as pictures grow? Run by hand; figures in README.md.

Draws tiled TIFFs of growing size, block by block, and lets ``pixbox predict`` label each with a budget
(``evaluation.max_memory``) in a process of its own, whose memory is sampled. A small U-Net is made on the first call.
Beyond what the process takes for a tiny picture (the program, its libraries, the network), memory must not grow with
the picture, nor exceed the budget. Example:

    python benchmarks/memory.py --out /tmp/memory --budget 512MB --sides 1000 2000 5000 10000 20000
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import rasterio

import pixbox
from pixbox.demonstration.dataset import write_scenes
from pixbox.demonstration.experiment import demo_experiment
from pixbox.prediction.memory import read_amount

_BLOCK = 512
_TINY = 64
_EVERY = 0.01
"""Seconds between two samples."""


def main() -> None:
    """Print one line for each picture."""
    options = _options()
    run = _make_run(options.out)
    budget = read_amount(options.budget)
    tiny, _ = _predict(run, _draw(options.out / "tiny.tif", _TINY), options)
    print(f"a picture of {_TINY} x {_TINY} takes {tiny / 1e6:.0f} MB; the budget beyond is {budget / 1e6:.0f} MB\n")
    print(f"{'megapixels':>10} {'file':>9} {'seconds':>8} {'peak':>9} {'beyond':>9} {'of the budget':>14}")
    for side in options.sides:
        picture = _draw(options.out / f"{side}.tif", side)
        peak, seconds = _predict(run, picture, options)
        beyond, size = peak - tiny, picture.stat().st_size
        pixels = side * side
        print(f"{pixels / 1e6:10.0f} {size / 1e6:6.0f} MB {seconds:8.0f} {peak / 1e6:6.0f} MB {beyond / 1e6:6.0f} MB "
              f"{beyond / budget:14.2f}", flush=True)  # fmt: skip
        if not options.keep:
            picture.unlink()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the network, the pictures and the masks")
    parser.add_argument("--budget", default="512MB", help="evaluation.max_memory")
    parser.add_argument("--sides", type=int, nargs="+", default=[1000, 2000, 5000, 10000, 20000], help="pixels")
    parser.add_argument("--window", type=int, default=512, help="side of a window, pixels")
    parser.add_argument("--save", default="", help="as for `pixbox predict`: overlay,colors")
    parser.add_argument("--keep", action="store_true", help="leave the pictures there")
    return parser.parse_args()


def _make_run(folder: Path) -> Path:
    """A small U-Net after two steps of training: what it says does not matter, only what it takes."""
    run = folder / "run"
    if not (run / "checkpoints" / "last.ckpt").is_file():
        write_scenes(folder / "scenes", seed=0, train=4, val=1, test=1)
        experiment = demo_experiment("segmentation", folder / "scenes", 0)
        changes = {
            "model.encoder": "test_resnet", "model.options.decoder_channels": [16, 16, 8, 8, 8], "data.workers": 0,
            "training.max_steps": 2, "training.accelerator": "cpu",
        }  # fmt: skip
        pixbox.train(experiment, changes, out=run)
    return run


def _draw(path: Path, side: int) -> Path:
    """Square, RGB, deflated in blocks: slow waves of colour with noise. A row of blocks is in memory at once."""
    if path.is_file():
        return path
    random = np.random.default_rng(side)
    partial = path.with_suffix(".partial")
    with rasterio.open(
        partial, "w", driver="GTiff", height=side, width=side, count=3, dtype="uint8", tiled=True, blockxsize=_BLOCK,
        blockysize=_BLOCK, compress="deflate", zlevel=1, photometric="RGB", BIGTIFF="IF_SAFER", crs="EPSG:32633",
        transform=rasterio.Affine(0.5, 0, 400000, 0, -0.5, 5700000),
    ) as file:  # fmt: skip
        columns = np.arange(side)
        for top in range(0, side, _BLOCK):
            rows = np.arange(top, min(side, top + _BLOCK))
            waves = np.add.outer(60 * np.sin(rows / 90), 60 * np.cos(columns / 130)).astype(np.float32)
            for band in range(3):
                noisy = waves + random.integers(100, 156, waves.shape, dtype=np.uint8)
                window = ((top, top + len(rows)), (0, side))
                file.write(np.clip(noisy, 0, 255).astype(np.uint8), band + 1, window=window)
    partial.rename(path)
    return path


def _predict(run: Path, picture: Path, options: argparse.Namespace) -> tuple[int, float]:
    """The most memory that the command's process took (resident, bytes), and its seconds."""
    command = [
        sys.executable, "-m", "pixbox", "predict", str(run), str(picture), "--out", str(options.out / "masks"),
        "--set", f"evaluation.max_memory={options.budget}",
        "--set", f"evaluation.window=[{options.window}, {options.window}]",
        *(["--save", options.save] if options.save else []),
    ]  # fmt: skip
    started, peak = time.monotonic(), 0
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
    process = psutil.Process(child.pid)
    while child.poll() is None:
        try:
            peak = max(peak, process.memory_info().rss)
        except psutil.NoSuchProcess:
            break
        time.sleep(_EVERY)
    if child.wait() != 0:
        raise SystemExit(f"`{' '.join(command)}` failed")
    return peak, time.monotonic() - started


if __name__ == "__main__":
    main()
