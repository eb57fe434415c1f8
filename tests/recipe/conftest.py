from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hyperlect.errors import Problem, RecipeError
from hyperlect.recipe import Recipe, load_recipe

FILES = ("a.conllu", "b.conllu", "c.conllu", "d.tsv", "e.txt")

GOOD = """\
format_version: 1
name: toy
tasks:
  pos: {type: tagging}
  topic: {type: classification, labels: [sport, travel]}
  mlm: {type: mlm, share: 0.2}
data:
  - task: pos
    format: conllu
    root: files
    cells:
      en: {train: a.conllu, dev: b.conllu}
      fo: {test: c.conllu}
  - task: topic
    format: tsv
    fields: {text: sentence, label: topic}
    cells:
      eng: {train: files/d.tsv}
  - task: mlm
    format: text
    cells: {isl: {train: files/e.txt}}
training: {steps: 100, warmup: 10, learning_rate: 1e-3}
"""

Load = Callable[..., Recipe]
Faults = Callable[..., list[Problem]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "files").mkdir()
    for name in FILES:
        (tmp_path / "files" / name).touch()
    return tmp_path


@pytest.fixture
def load(folder: Path) -> Load:
    """Load a recipe given as text, or the good one with some of its text replaced."""

    def loaded(*overrides: str, text: str = GOOD, check_files: bool = True) -> Recipe:
        path = folder / "toy.yaml"
        path.write_text(text, encoding="utf-8")
        return load_recipe(path, overrides, check_files=check_files)

    return loaded


@pytest.fixture
def faults(load: Load, folder: Path) -> Faults:
    """Return what is wrong with a recipe."""

    def problems(*overrides: str, text: str = GOOD) -> list[Problem]:
        with pytest.raises(RecipeError) as error:
            load(*overrides, text=text)
        for problem in error.value.problems:
            assert problem.file == (
                "" if problem.key.startswith("--set") else str(folder / "toy.yaml")
            )
            assert str(problem) in str(error.value)
            assert "pydantic" not in problem.message
        return list(error.value.problems)

    return problems


def places(problems: list[Problem]) -> list[tuple[int | None, str]]:
    return [(problem.line, problem.key) for problem in problems]
