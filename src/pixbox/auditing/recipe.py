"""From an audited folder to files that ``pixbox train`` takes: a recipe and the label map beside it."""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pixbox.auditing.result import Audit
from pixbox.config import complete_experiment
from pixbox.data.splits import read_splits
from pixbox.documents import to_yaml
from pixbox.errors import DataError, Fault, PixboxError, RunError
from pixbox.files import write_file

# Every encoder's stride divides it.
_STRIDE = 32
_LONGEST_SIDE = 640
_SEEN_PICTURES = 4000


def write_recipe(audit: Audit, file: Path) -> tuple[Path, Path]:
    """Write a recipe and its label map; returns both paths.

    The recipe trains what the audit worked out, with sizes, batch and epochs that suit the number and the size
    of the pictures. Each decision stands in it as a comment. The label map is ``labels.yaml`` beside it, or
    ``<stem>_labels.yaml`` where there is one already.

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
    try:
        splits = read_splits(complete_experiment(audit.experiment))
    except PixboxError as error:
        raise DataError([*error.faults, Fault("", "no recipe was written")]) from None
    if audit.experiment.data.val is not None and not splits.val:
        raise DataError("no usable picture is left in the validation split", where=audit.source)


def _settings(audit: Audit, root: str, labels: str) -> dict[str, Any]:
    """The recipe as plain values: what is known of the data, and settings that suit them."""
    experiment = audit.experiment
    sizes: dict[tuple[int, int], int] = {}
    for split in audit.splits:
        for size_hw, count in split.sizes.items():
            sizes[size_hw] = sizes.get(size_hw, 0) + count
    size, fit = suitable_size(sizes)
    images = next((split.images for split in audit.splits if split.name == "train"), 0)
    batch = max(1, min(8, images // 4))
    epochs = max(20, min(100, math.ceil(_SEEN_PICTURES / max(1, images))))
    given = experiment.data.model_dump(mode="json", exclude_defaults=True)
    data = {"format": experiment.data.format, "root": Path(root).as_posix(), "train": given.pop("train", "train")}
    data |= {
        key: given[key] for key in ("val", "test", "val_fraction", "exclude", "bands", "value_range") if key in given
    }
    data |= {
        "labels": labels,
        "size": list(size),
        "fit": fit,
        "batch_size": batch,
        "augment": {"scale": [0.75, 1.5], "flip": 0.5, "brightness": 0.1, "contrast": 0.1},
    }
    settings: dict[str, Any] = {"name": experiment.name, "task": experiment.task, "data": data}
    if experiment.task == "segmentation":
        settings["model"] = {"architecture": "unet", "encoder": "resnet18", "weights": "none"}
        settings["loss"] = {"name": "cross_entropy_dice"}
    if experiment.task == "detection" and audit.anchors is not None and audit.anchors.suggested:
        shapes = [[round(width, 1), round(height, 1)] for width, height in audit.anchors.suggested]
        settings["detection"] = {"anchors": shapes, "levels": audit.anchors.levels}
    settings["optimizer"] = {"name": "adamw", "lr": 0.001}
    settings["training"] = {"epochs": epochs}
    return settings


def suitable_size(sizes: Mapping[tuple[int, int], int]) -> tuple[tuple[int, int], str]:
    """``data.size`` and ``data.fit`` for pictures of these sizes (height, width) -> how many.

    Small pictures of one size are seen whole at their own scale. Others are shrunk to fit into a frame of their
    median proportions with a long side of at most 640 pixels.
    """
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
    if audit.experiment.task == "segmentation":
        lines.append("`model.weights: imagenet` learns more from few pictures; it downloads 45 MB once.")
    wrapped = [part for line in lines for part in textwrap.wrap(" ".join(line.split()), 110, subsequent_indent="  ")]
    return "".join(f"# {line}\n" for line in wrapped)
