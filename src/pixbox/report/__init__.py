"""Self-contained HTML pages: how well a model does, and what an audit found in the data."""

from pixbox.report.audit_page import write_audit_page
from pixbox.report.classification_page import (
    ClassificationExample,
    ClassificationReport,
    write_classification_report,
)
from pixbox.report.compare_page import write_comparison_page
from pixbox.report.detection_page import DetectionExample, DetectionReport, write_detection_report
from pixbox.report.doctor import Advice, BoxErrors, count_box_errors, diagnose
from pixbox.report.page import Example, SegmentationReport, write_report

__all__ = [
    "Advice",
    "BoxErrors",
    "ClassificationExample",
    "ClassificationReport",
    "DetectionExample",
    "DetectionReport",
    "Example",
    "SegmentationReport",
    "count_box_errors",
    "diagnose",
    "write_audit_page",
    "write_classification_report",
    "write_comparison_page",
    "write_detection_report",
    "write_report",
]
