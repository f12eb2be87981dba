"""Does a classifier of tiles help the detector of buildings that starts from it? Run by hand; figures in README.md.

For each seed a classifier is trained on tiles of drawn scenes, once with BatchNorm and once with GroupNorm, then the
detector of ``pixbox demo --task detection`` in four variants with one and the same schedule:

    scratch group       GroupNorm in the encoder, random start (the default from scratch)
    scratch batch       BatchNorm with the statistics of each batch, random start
    pretrained group    GroupNorm, from the classifier with GroupNorm
    pretrained batch    BatchNorm with the statistics of each batch, from the classifier with BatchNorm
    pretrained frozen   the same, BatchNorm fixed (the default with weights)

Tiles cost a class each, boxes much more work; so there may be more scenes with tiles than with boxes. The scenes with
boxes are the first of those with tiles. Example:

    python benchmarks/pretraining.py --out /tmp/pretraining --seeds 3 --epochs 6
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

import pixbox
from pixbox.demonstration.dataset import write_scenes
from pixbox.demonstration.experiment import demo_experiment

VARIANTS: dict[str, dict[str, Any]] = {
    "scratch group": {"model.options.encoder_norm": "group"},
    "scratch batch": {"model.options.encoder_norm": "batch"},
    "pretrained group": {"model.options.encoder_norm": "group", "model.weights": "classifier_group"},
    "pretrained batch": {"model.options.encoder_norm": "batch", "model.weights": "classifier_batch"},
    "pretrained frozen": {
        "model.options.encoder_norm": "batch", "model.weights": "classifier_batch", "model.freeze_bn": True,
    },
}  # fmt: skip
FIGURES = ("map_50", "map")


def main() -> None:
    """Draw, train and print one line for each run, then one for each variant."""
    options = _options()
    with_tiles, with_boxes = options.out / "tiles", options.out / "boxes"
    write_scenes(with_tiles, seed=0, train=options.tile_scenes, val=8, test=16, task="classification")
    write_scenes(with_boxes, seed=0, train=options.box_scenes, val=8, test=16, task="detection")
    found: dict[str, list[dict[str, float]]] = {name: [] for name in options.variants}
    for seed in range(options.seeds):
        folder = options.out / f"seed_{seed}"
        for norm in sorted({str(VARIANTS[name].get("model.weights", "")) for name in options.variants} - {""}):
            _train_classifier(with_tiles, folder / norm, seed, norm.removeprefix("classifier_"), options)
        for name in options.variants:
            metrics = _train_detector(with_boxes, folder, name, seed, options)
            found[name].append(metrics)
            print(f"seed {seed}  {name:18}", *(f"{figure} {metrics[figure]:.4f}" for figure in FIGURES), flush=True)
    print(f"\n{'':18}", *(f"{f'{figure}: median (least to most)':34}" for figure in FIGURES))
    for name, runs in found.items():
        print(f"{name:18}", *(f"{_summary([metrics[figure] for metrics in runs]):34}" for figure in FIGURES))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for scenes and runs; finished runs are kept")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tile-scenes", type=int, default=240, help="training scenes of the classifier")
    parser.add_argument("--box-scenes", type=int, default=96, help="training scenes of the detector")
    parser.add_argument("--tile-epochs", type=int, default=9)
    parser.add_argument("--epochs", type=int, default=6, help="of the detector")
    parser.add_argument("--lr", type=float, default=1e-3, help="of the detector")
    parser.add_argument("--encoder-lr-factor", type=float, default=1.0, help="of the pretrained detectors")
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS), metavar="VARIANT")
    return parser.parse_args()


def _train_classifier(scenes: Path, run: Path, seed: int, norm: str, options: argparse.Namespace) -> None:
    if _is_finished(run):
        return
    changes = {
        "model.options.encoder_norm": norm,
        "training.epochs": options.tile_epochs,
        "training.evaluate_every": options.tile_epochs,
    }
    pixbox.train(demo_experiment("classification", scenes, seed), changes, out=run)
    accuracy = pixbox.evaluate(run, split="test").metrics["accuracy"]
    print(f"seed {seed}  {run.name:18} accuracy {accuracy:.4f}", flush=True)


def _train_detector(scenes: Path, folder: Path, name: str, seed: int, options: argparse.Namespace) -> dict[str, float]:
    """Metrics on the unseen scenes of the last weights: all variants have trained equally long."""
    run = folder / name.replace(" ", "_")
    if not _is_finished(run):
        changes = {
            "training.epochs": options.epochs,
            "training.evaluate_every": options.epochs,
            "optimizer.lr": options.lr,
            **VARIANTS[name],
        }
        if "model.weights" in changes:
            changes["model.weights"] = str(folder / changes["model.weights"])
            changes["optimizer.encoder_lr_factor"] = options.encoder_lr_factor
        pixbox.train(demo_experiment("detection", scenes, seed), changes, out=run)
    metrics = pixbox.evaluate(run, split="test").metrics
    return {figure: float(metrics[figure]) for figure in FIGURES}


def _is_finished(run: Path) -> bool:
    """A run that was broken off must be deleted by hand: what it would give is not what the others give."""
    return (run / "checkpoints/best.ckpt").is_file()


def _summary(values: list[float]) -> str:
    return f"{statistics.median(values):.4f} ({min(values):.4f} to {max(values):.4f})"


if __name__ == "__main__":
    main()
