"""Self-contained HTML pages: how well a model does, and what an audit found in the data."""

from pixbox.report.audit_page import write_audit_page
from pixbox.report.page import Example, SegmentationReport, write_report

__all__ = ["Example", "SegmentationReport", "write_audit_page", "write_report"]
