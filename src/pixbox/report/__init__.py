"""One self-contained HTML page that shows how well a model does: figures, curves, classes, confusions, pictures."""

from pixbox.report.page import Example, SegmentationReport, write_report

__all__ = ["Example", "SegmentationReport", "write_report"]
