"""Reports: one self-contained page of what a run folder holds."""

from framelets.report.audit import write_audit
from framelets.report.page import write_report

__all__ = ["write_audit", "write_report"]
