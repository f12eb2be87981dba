"""Boxes and anchors as arithmetic: tensors and arrays in, tensors and arrays out."""

from pixbox.boxes.anchors import Anchors, compact_anchors, grid, octave_anchors, paper_anchors, torchvision_anchors
from pixbox.boxes.coverage import Coverage, anchor_coverage, best_ious, suggest_anchors
from pixbox.boxes.iou import pairwise_iou

__all__ = [
    "Anchors",
    "Coverage",
    "anchor_coverage",
    "best_ious",
    "compact_anchors",
    "grid",
    "octave_anchors",
    "pairwise_iou",
    "paper_anchors",
    "suggest_anchors",
    "torchvision_anchors",
]
