"""A run, or several side by side, as one self-contained HTML page with plots."""

from .compare import FORMATS, write_comparison
from .page import write_report

__all__ = ["FORMATS", "write_comparison", "write_report"]
