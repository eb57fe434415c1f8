"""Recipes: one YAML file that says what is trained, on what, and how.

A recipe is validated whole before anything is loaded, and all of its faults are reported at once.

    recipe = load_recipe(Path("recipes/mixed-small.yaml"), ["training.steps=200"])
    recipe.cells("train")      # {Cell(task="pos", language="eng"): [Source(...)], ...}
"""

from __future__ import annotations

from .few_shot import FewShotSection
from .keys import documentation
from .load import load_recipe
from .recipe import FORMAT_VERSION, Recipe
from .sections import (
    CellFiles,
    DataBlock,
    EvaluationSection,
    LimitSection,
    TaskSection,
    TrainingSection,
)
from .table import check_table

__all__ = [
    "FORMAT_VERSION",
    "CellFiles",
    "DataBlock",
    "EvaluationSection",
    "FewShotSection",
    "LimitSection",
    "Recipe",
    "TaskSection",
    "TrainingSection",
    "check_table",
    "documentation",
    "load_recipe",
]
