"""Metrics, and filling the grid with scores."""

from .fill import fill
from .metrics import Score, Tree, score, score_trees
from .results import (
    Average,
    CellKey,
    CellResult,
    Results,
    averages,
    read_results,
    selection_score,
    selection_text,
    write_results,
)
from .run import evaluate_run
from .table import results_table

__all__ = [
    "Average",
    "CellKey",
    "CellResult",
    "Results",
    "Score",
    "Tree",
    "averages",
    "evaluate_run",
    "fill",
    "read_results",
    "results_table",
    "score",
    "score_trees",
    "selection_score",
    "selection_text",
    "write_results",
]
