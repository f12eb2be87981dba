"""What training makes small. Every loss is a sum and a weight; the value is their quotient, term by term.

A mean per batch would be wrong as soon as batches differ in how much they hold of what is counted: the mean of two
means is not the mean of all. Sums and weights add up over batches and processes without error, and a weight
needs only the targets, so that the weight of a whole step is known before its first gradient.
"""

from pixbox.losses.detection import (
    Assignment,
    BoxLoss,
    DetectionLoss,
    detection_total,
    focal_loss,
    giou_loss,
    smooth_l1,
)
from pixbox.losses.segmentation import (
    LOSSES,
    CrossEntropy,
    CrossEntropyDice,
    Dice,
    Focal,
    Lovasz,
    Ohem,
    PixelBinary,
    SegmentationLoss,
    build_loss,
    class_weights_from_counts,
    weighted_total,
)

__all__ = [
    "LOSSES",
    "Assignment",
    "BoxLoss",
    "CrossEntropy",
    "CrossEntropyDice",
    "DetectionLoss",
    "Dice",
    "Focal",
    "Lovasz",
    "Ohem",
    "PixelBinary",
    "SegmentationLoss",
    "build_loss",
    "class_weights_from_counts",
    "detection_total",
    "focal_loss",
    "giou_loss",
    "smooth_l1",
    "weighted_total",
]
