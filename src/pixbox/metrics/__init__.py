"""How good predictions are. Counts first, one division at the end."""

from pixbox.metrics.confusion import ConfusionMatrix, SegmentationMetrics, predicted_classes

__all__ = ["ConfusionMatrix", "SegmentationMetrics", "predicted_classes"]
