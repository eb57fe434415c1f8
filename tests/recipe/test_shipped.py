"""Every recipe in recipes/ is a good one, on the corpora that its header speaks of."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from rich.console import Console

from hyperlect.cli.check import check_table
from hyperlect.data.readers import SPLITS, Split
from hyperlect.grid import Cell, Kind
from hyperlect.recipe import Recipe, load_recipe
from tests.project import touch_files

FOLDER = Path(__file__).parents[2] / "recipes"
RECIPES = sorted([*FOLDER.glob("*.yaml"), *FOLDER.glob("[sl]*/[!g]*.yaml")])  # paper/: test_paper
HELD_OUT = {"fao", "hsb", "wol", "grn", "gug", "pcm"}  # languages kept for adding later on


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """Load a recipe with empty files wherever it names one."""
    monkeypatch.setenv("HYPERLECT_DATA", str(tmp_path))

    def loaded(path: Path) -> Recipe:
        recipe = load_recipe(path, check_files=False)
        touch_files(recipe, tmp_path)
        assert load_recipe(path) == recipe
        return recipe

    return loaded


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_shipped_recipes_load(path: Path, load) -> None:  # type: ignore[no-untyped-def]
    recipe = load(path)
    assert recipe.name == "-".join(path.relative_to(FOLDER).with_suffix("").parts)
    # few-shot runs use nothing but the few sentences, so they have no dev part by intent
    assert [note.partition(",")[0] for note in recipe.notes()] == (
        ["data: there are no dev files"] if path.stem == "few-shot" else []
    )
    commands = re.findall(r"^# .*hyperlect (\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert "train" in commands
    assert not HELD_OUT & {cell.language for split in SPLITS for cell in recipe.cells(split)}


@pytest.fixture
def mixed(load) -> Recipe:  # type: ignore[no-untyped-def]
    recipe = load(next(path for path in RECIPES if path.stem == "mixed-small"))
    assert isinstance(recipe, Recipe)
    return recipe


def test_mixed_small_has_every_kind_of_cell(mixed: Recipe) -> None:
    grid = mixed.grid()
    kinds = {(cell.task, grid.kind(cell)) for cell in mixed.cells("test")}
    assert kinds == {(task, kind) for task in ("pos", "ner", "topic") for kind in Kind}
    languages = {t: {c.language for c in grid.trained if c.task == t} for t in mixed.tasks}
    assert not languages["pos"] & languages["ner"]


def test_mixed_small_maps_the_labels_of_all_its_corpora(mixed: Recipe) -> None:
    task = mixed.task("ner")
    kept = {"B-PERSON": "B-PER", "I-GPE": "I-LOC", "B-ORGANISATION": "B-ORG", "B-PER": "B-PER"}
    assert {label: task.map_label(label) for label in kept} == kept
    assert {task.map_label(label) for label in ("-", "I-DATE", "B-OTH", "B-MISC")} == {"O"}


def test_its_table_fits_80_columns(mixed: Recipe) -> None:
    counts: dict[tuple[Split, Cell], int] = {
        (split, cell): 600 for split in SPLITS for cell in mixed.cells(split)
    }
    console = Console(width=80, record=True, color_system=None)
    console.print(check_table(mixed, counts, mixed.grid()))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    assert sum("●" in line for line in lines) > len(mixed.grid().languages)
    assert not any(re.search(r"\d…|/…", line) for line in lines)
