"""The command line: one file a verb, each of which parses, calls and prints."""

from __future__ import annotations

from .app import app, main

__all__ = ["app", "main"]
