"""A run, or several side by side, as one self-contained HTML page with plots, and as tables."""

from .page import FORMATS, write_comparison, write_report
