"""A run, or several side by side, as one self-contained HTML page with plots."""

from .page import write_report

__all__ = ["write_report"]
