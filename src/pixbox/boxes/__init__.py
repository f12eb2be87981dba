"""Boxes and anchors as arithmetic: tensors and arrays in, tensors and arrays out."""

from pixbox.boxes.anchors import Anchors, compact_anchors, grid, octave_anchors, paper_anchors, torchvision_anchors
from pixbox.boxes.coding import decode_boxes, encode_boxes
from pixbox.boxes.coverage import Coverage, anchor_coverage, best_ious, suggest_anchors
from pixbox.boxes.iou import pairwise_iou
from pixbox.boxes.matching import BETWEEN, NEGATIVE, match_anchors
from pixbox.boxes.nms import Overlap, Selection, select_detections, suppress_overlaps

__all__ = [
    "BETWEEN",
    "NEGATIVE",
    "Anchors",
    "Coverage",
    "Overlap",
    "Selection",
    "anchor_coverage",
    "best_ious",
    "compact_anchors",
    "decode_boxes",
    "encode_boxes",
    "grid",
    "match_anchors",
    "octave_anchors",
    "pairwise_iou",
    "paper_anchors",
    "select_detections",
    "suggest_anchors",
    "suppress_overlaps",
    "torchvision_anchors",
]
