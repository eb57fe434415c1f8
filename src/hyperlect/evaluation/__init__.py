"""Metrics, and filling the grid with scores."""

from .evaluate import constant_score, evaluate_run, expect_untested, fill, measure_trust, subsample
from .metrics import Score, score, score_trees
from .results import CellResult, Results, read_results, selection_score, selection_text
from .trust import Evidence, Trust, evidence
