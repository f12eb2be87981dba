"""What an audit gives: findings, what was worked out, and figures of the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixbox.config import Experiment
from pixbox.data.findings import Findings
from pixbox.data.splits import SplitName
from pixbox.labels import LabelMap


@dataclass(frozen=True, slots=True)
class Guess:
    """Something that a bare folder does not say and that was worked out.

    Attributes:
        about: "layout", "masks", "class names", "splits", "task".
        value: what it is taken for, in words: "pictures and masks in two folders", "RGB colours, saved with loss".
        confidence: 0 to 1.
        reason: what it follows from, with figures.
    """

    about: str
    value: str
    confidence: float
    reason: str


@dataclass(frozen=True)
class SplitSummary:
    """Figures of one split. Arrays have one entry per class.

    Attributes:
        name: train, val or test.
        images: pictures that can be used.
        sizes: (height, width) of pictures as they are read -> how many.
        pixels: (N,) int64 labelled pixels; all zero where the labels are boxes or categories.
        ignored_pixels: pixels that count in neither loss nor metric.
        images_with_class: (N,) int64 pictures that hold the class.
        objects: (N,) int64 boxes; all zero where the labels are masks or categories.
    """

    name: SplitName
    images: int
    sizes: Mapping[tuple[int, int], int]
    pixels: NDArray[np.int64]
    ignored_pixels: int
    images_with_class: NDArray[np.int64]
    objects: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class AnchorSummary:
    """How well anchors fit the boxes of the training pictures, at the size that the network sees.

    Attributes:
        boxes: how many were compared.
        recall: share of them with an anchor of IoU >= ``detection.positive_iou``, under the configured anchors.
        suggested: (width, height) shapes at the first level, of as many as are configured per cell.
        suggested_recall: the same share under those.
        levels: of the pyramid.
    """

    boxes: int
    recall: float
    suggested: tuple[tuple[float, float], ...]
    suggested_recall: float
    levels: int


@dataclass(frozen=True)
class Preview:
    """A small picture with its labels drawn over it, for the contact sheet.

    Attributes:
        id: of its Record.
        split: train, val or test.
        image: (h, w, 3) uint8 RGB, the longer side at most 320.
    """

    id: str
    split: SplitName
    image: NDArray[np.uint8]


@dataclass(frozen=True)
class Audit:
    """The outcome of an audit.

    Attributes:
        source: the configuration file or folder that was named.
        experiment: what was audited: the configuration, or for a bare folder what was worked out.
        labels: the label map; None where none could be had (a finding says why).
        guesses: what was worked out of a bare folder; empty for a configuration.
        decisions: what was decided so that training can start, each in one sentence (values ignored, files excluded).
        findings: all that was found.
        splits: train, and val and test where they are.
        mean, std: of the training pictures' channels, RGB, 0 to 1; None without a readable picture.
        class_weights: name of the weighting -> one number per class (NaN where undefined); empty without pixels.
        anchors: for boxes.
        previews: of the training pictures first.
        seconds: how long it took.
    """

    source: str
    experiment: Experiment
    labels: LabelMap | None
    guesses: tuple[Guess, ...]
    decisions: tuple[str, ...]
    findings: Findings
    splits: tuple[SplitSummary, ...]
    mean: tuple[float, float, float] | None
    std: tuple[float, float, float] | None
    class_weights: Mapping[str, tuple[float, ...]]
    anchors: AnchorSummary | None
    previews: tuple[Preview, ...]
    seconds: float

    @property
    def has_errors(self) -> bool:
        return self.findings.count("error") > 0

    def to_plain(self) -> dict[str, Any]:
        """What ``pixbox audit --json`` prints."""
        names = self.labels.names if self.labels else ()
        data = self.experiment.data
        return {
            "source": self.source,
            "task": self.experiment.task,
            "format": data.format,
            "root": data.root,
            "inferred": [
                {"about": g.about, "value": g.value, "confidence": round(g.confidence, 3), "reason": g.reason}
                for g in self.guesses
            ],
            "decisions": list(self.decisions),
            "labels": self.labels.to_plain() if self.labels else None,
            "errors": self.findings.count("error"),
            "warnings": self.findings.count("warning"),
            "notes": self.findings.count("note"),
            "counts": {code: self.findings.counts[code] for code in dict.fromkeys(f.code for f in self.findings)},
            "findings": [finding.to_plain() for finding in self.findings],
            "splits": {split.name: _plain_split(split, names) for split in self.splits},
            "mean": self.mean,
            "std": self.std,
            "class_weights": {
                name: {n: w if np.isfinite(w) else None for n, w in zip(names, weights, strict=True)}
                for name, weights in self.class_weights.items()
            },
            "anchors": None
            if self.anchors is None
            else {
                "boxes": self.anchors.boxes,
                "recall": self.anchors.recall,
                "suggested": [list(shape) for shape in self.anchors.suggested],
                "suggested_recall": self.anchors.suggested_recall,
                "levels": self.anchors.levels,
            },
            "seconds": round(self.seconds, 3),
        }


def _plain_split(split: SplitSummary, names: tuple[str, ...]) -> dict[str, Any]:
    per_class = {
        name: {"pixels": int(pixels), "images": int(images), "objects": int(objects)}
        for name, pixels, images, objects in zip(
            names, split.pixels, split.images_with_class, split.objects, strict=True
        )
    }
    return {
        "images": split.images,
        "sizes": [[*size_hw, count] for size_hw, count in sorted(split.sizes.items(), key=lambda item: -item[1])],
        "ignored_pixels": split.ignored_pixels,
        "classes": per_class,
    }
