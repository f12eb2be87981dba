"""How good predictions are. Counts first, one division at the end."""

from pixbox.metrics.accuracy import ClassificationMetrics, ClassificationScores
from pixbox.metrics.average_precision import (
    DetectionMetrics,
    DetectionScores,
    OperatingPoint,
    PictureErrors,
    PrecisionRecall,
)
from pixbox.metrics.bootstrap import Difference, Interval, intervals, paired
from pixbox.metrics.boundary import BoundaryMetrics, BoundaryScores
from pixbox.metrics.calibration import CalibrationBin, CalibrationScores
from pixbox.metrics.confusion import ConfusionMatrix, SegmentationMetrics, predicted_classes
from pixbox.metrics.pictures import PictureStatistics, collector_for, read_pictures, write_pictures

__all__ = [
    "BoundaryMetrics",
    "BoundaryScores",
    "CalibrationBin",
    "CalibrationScores",
    "ClassificationMetrics",
    "ClassificationScores",
    "ConfusionMatrix",
    "DetectionMetrics",
    "DetectionScores",
    "Difference",
    "Interval",
    "OperatingPoint",
    "PictureErrors",
    "PictureStatistics",
    "PrecisionRecall",
    "SegmentationMetrics",
    "collector_for",
    "intervals",
    "paired",
    "predicted_classes",
    "read_pictures",
    "write_pictures",
]
