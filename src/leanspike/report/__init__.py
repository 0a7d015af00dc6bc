"""A result as a page to show (`write_report`) and as tables for the terminal (`render_tables`)."""

from leanspike.report.html import write_report
from leanspike.report.terminal import render_tables

__all__ = ["render_tables", "write_report"]
