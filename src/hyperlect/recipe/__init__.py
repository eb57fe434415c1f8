"""Recipes: one YAML file that says what is trained, on what, and how.

A recipe is validated whole before anything is loaded, and all of its faults are reported at once.

    recipe = load_recipe(Path("recipes/mixed-small.yaml"), ["training.steps=200"])
    recipe.cells("train")      # {Cell(task="pos", language="eng"): [Source(...)], ...}
"""

from .load import load_recipe
from .recipe import Recipe
from .schema import EvaluationSection, TrainingSection
