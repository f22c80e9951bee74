"""The report of an experiment: one self-contained HTML page."""

from dcmnet.report.page import write_report
from dcmnet.report.watch import watch

__all__ = ["watch", "write_report"]
