"""Metrics, and filling the grid with scores."""

from .fill import fill
from .metrics import Score, Tree, score, score_trees
from .results import (
    Average,
    CellResult,
    averages,
    cell_results,
    read_results,
    results_data,
    selection_score,
    write_results,
)
from .run import evaluate_run
from .table import results_table

__all__ = [
    "Average",
    "CellResult",
    "Score",
    "Tree",
    "averages",
    "cell_results",
    "evaluate_run",
    "fill",
    "read_results",
    "results_data",
    "results_table",
    "score",
    "score_trees",
    "selection_score",
    "write_results",
]
