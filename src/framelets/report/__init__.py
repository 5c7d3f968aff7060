"""Reports: one self-contained page of what a run folder holds."""

from framelets.report.page import write_report

__all__ = ["write_report"]
