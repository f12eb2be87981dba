"""From an audited folder to files that ``pixbox train`` takes: a recipe and the label map beside it."""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pixbox.auditing.result import Audit
from pixbox.config import (
    MONITORED,
    AugmentConfig,
    Experiment,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    TrainingConfig,
    complete_experiment,
)
from pixbox.data.findings import CODES
from pixbox.data.splits import read_splits
from pixbox.documents import to_yaml
from pixbox.errors import DataError, Fault, PixboxError, RunError
from pixbox.files import write_file

# Every encoder's stride divides it.
_STRIDE = 32
_LONGEST_SIDE = 640
_SEEN_PICTURES = 4000
_DATA_KEYS = ("val", "test", "val_fraction", "exclude", "bands", "value_range")
_SUITED_KEYS = ("size", "fit", "batch_size", "augment")


def write_recipe(audit: Audit, file: Path) -> tuple[Path, Path]:
    """Write a recipe and its label map; returns both paths.

    The recipe trains what the audit worked out, with anchors that fit the boxes better. Each decision stands in
    it as a comment. The label map is ``labels.yaml`` beside it, or ``<stem>_labels.yaml`` where there is one already.

    Raises:
        RunError: the file is there already.
        DataError: no picture is left that could be trained on.
    """
    labels_file = file.with_name("labels.yaml")
    if labels_file.exists():
        labels_file = file.with_name(f"{file.stem}_labels.yaml")
    for path in (file, labels_file):
        if path.exists():
            raise RunError("is there already and is not overwritten", where=str(path), hint="Name another file.")
    if audit.labels is None:
        raise DataError("no label map could be worked out, so there is no recipe", where=audit.source)
    _check_trainable(audit)
    plain = _settings(audit, os.path.relpath(audit.experiment.data.root, file.parent.resolve()), labels_file.name)
    write_file(labels_file, to_yaml(audit.labels.to_plain()))
    write_file(file, f"{_comments(audit)}{to_yaml(plain)}")
    return file, labels_file


def _check_trainable(audit: Audit) -> None:
    """The lists of the experiment must be accepted as training reads them."""
    counts = audit.findings.counts
    if counts["nothing-to-learn"]:
        codes = dict.fromkeys(error.code for error in audit.findings.errors() if error.code != "nothing-to-learn")
        kinds = "; ".join(f"{CODES[code].title} ({counts[code]:,})" for code in codes)
        what = f"as it is, no picture can be trained on, so there is no recipe{': ' if kinds else ''}{kinds}"
        hint = "`pixbox audit FOLDER` alone lists them by file; `--fix OUT` mends what can be mended in a copy."
        raise DataError(what, where=audit.source, hint=hint)
    try:
        splits = read_splits(complete_experiment(audit.experiment))
    except PixboxError as error:
        raise DataError([*error.faults, Fault("", "no recipe was written")]) from None
    if audit.experiment.data.val is not None and not splits.val:
        raise DataError("no usable picture is left in the validation split", where=audit.source)


def _settings(audit: Audit, root: str, labels: str) -> dict[str, Any]:
    """The recipe as plain values: what was worked out of the data, and the settings that suit them."""
    experiment = audit.experiment
    written = experiment.model_dump(mode="json", exclude_unset=True)
    given = written["data"]
    data = {"format": experiment.data.format, "root": Path(root).as_posix(), "train": given["train"]}
    data |= {key: given[key] for key in _DATA_KEYS if given.get(key)}
    data |= {"labels": labels, **{key: given[key] for key in _SUITED_KEYS if key in given}}
    settings: dict[str, Any] = {"name": experiment.name, "task": experiment.task, "data": data}
    settings |= {key: written[key] for key in ("model", "loss", "optimizer", "training") if key in written}
    anchors = audit.anchors
    if anchors is not None and anchors.suggested_recall > anchors.recall:
        shapes = [[round(width, 1), round(height, 1)] for width, height in anchors.suggested]
        settings["detection"] = {"anchors": shapes, "levels": anchors.levels}
    return settings


def suit(experiment: Experiment, sizes: Mapping[tuple[int, int], int], images: int) -> Experiment:
    """The experiment with sizes, batch and epochs that suit its pictures.

    ``sizes`` is (height, width) -> how many; ``images`` those of training.
    """
    size, fit = suitable_size(sizes)
    data: dict[str, Any] = {
        "size": size,
        "fit": fit,
        "batch_size": max(1, min(8, images // 4)),
        "augment": AugmentConfig(scale=(0.75, 1.5), flip=0.5, brightness=0.1, contrast=0.1),
    }
    changes: dict[str, Any] = {
        "data": experiment.data.model_copy(update=data),
        "optimizer": OptimizerConfig(name="adamw", lr=1e-3),
        "training": TrainingConfig(
            epochs=max(20, min(100, math.ceil(_SEEN_PICTURES / max(1, images)))),
            monitor=f"max {MONITORED[experiment.task][0]}",
        ),
    }
    # Batches are small and nothing is pretrained: GroupNorm learns where BatchNorm's statistics would be noise.
    from_scratch = {"encoder_norm": "group"}
    match experiment.task:
        case "segmentation":
            changes["model"] = ModelConfig(architecture="unet", encoder="resnet18", weights="none")
            changes["loss"] = LossConfig(name="cross_entropy_dice")
        case "detection":
            changes["model"] = ModelConfig(architecture="retinanet", encoder="resnet18", options=from_scratch)
            changes["loss"] = LossConfig(name="focal")
        case "classification":
            changes["model"] = ModelConfig(architecture="classifier", encoder="resnet18", options=from_scratch)
            changes["loss"] = LossConfig(name="cross_entropy")
    return experiment.model_copy(update=changes)


def suitable_size(sizes: Mapping[tuple[int, int], int]) -> tuple[tuple[int, int], str]:
    """``data.size`` and ``data.fit`` for pictures of these sizes (height, width) -> how many; of none, the defaults.

    Small pictures of one size are seen whole at their own scale. Others are shrunk to fit into a frame of their
    median proportions with a long side of at most 640 pixels.
    """
    if not sizes:
        return (512, 512), "crop"
    heights = sorted(h for (h, _), count in sizes.items() for _ in range(count))
    widths = sorted(w for (_, w), count in sizes.items() for _ in range(count))
    height, width = heights[len(heights) // 2], widths[len(widths) // 2]
    if len(sizes) == 1 and max(height, width) <= _LONGEST_SIDE:
        return (height, width), "crop"
    factor = min(1.0, _LONGEST_SIDE / max(height, width))
    rounded = [max(_STRIDE, round(side * factor / _STRIDE) * _STRIDE) for side in (height, width)]
    return (rounded[0], rounded[1]), "pad"


def _comments(audit: Audit) -> str:
    """What was worked out and decided, as the head of the recipe."""
    lines = [f"Worked out from {audit.source} by `pixbox audit`; look at what it says:"]
    lines += [f"- {g.about}: {g.value} ({g.confidence:.0%} sure). {g.reason}" for g in audit.guesses]
    lines += [f"- {decision}" for decision in audit.decisions]
    if audit.experiment.task == "segmentation":  # The others begin with GroupNorm, for which there are no weights.
        lines.append("`model.weights: imagenet` learns more from few pictures; it downloads 45 MB once.")
    wrapped = [part for line in lines for part in textwrap.wrap(_printable(line), 110, subsequent_indent="  ")]
    return "".join(f"# {line}\n" for line in wrapped)


def _printable(text: str) -> str:
    """One line that YAML takes: file names may hold any sign, and bytes that are no text."""
    line = " ".join(text.split())
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in line)
