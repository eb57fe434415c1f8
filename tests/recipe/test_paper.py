"""The paper's recipes, resolved against a stand-in for the hub: everything they name is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from hyperlect.cli.check import check_recipe
from hyperlect.grid import Cell, Kind
from hyperlect.recipe import Recipe, load_recipe
from hyperlect.training import start
from tests.project import silent
from tests.recipe.stand_in import BACKBONES, use_hub, write_hub

FOLDER = Path(__file__).parents[2] / "recipes" / "paper"
RECIPES = {name: FOLDER / f"{name}.yaml" for name in ("english", "mixed", "few-shot")}
LANGUAGES = {
    "eng", "arb", "zho", "tur", "kaz", "tam", "yue", "bre", "isl", "tgl", "yor", "fao", "uig",
    "mlt", "san", "hsb", "grn",
}  # fmt: skip
TINY = ("training.steps=3", "training.warmup=1", "training.batch_size=2", "hypernet.bottleneck=4")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_hub(tmp_path_factory.mktemp("stand-in"))


@pytest.fixture(autouse=True)
def _only_this_hub(hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_hub(hub, tmp_path, monkeypatch)


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("name", RECIPES)
def test_all_that_a_recipe_names_is_on_the_hub(
    name: str, backbone: str, capsys: pytest.CaptureFixture[str]
) -> None:
    check_recipe(RECIPES[name], [f"backbone={backbone}"], encode=True)
    shown = capsys.readouterr().out
    assert "No mistakes found." in shown
    assert backbone in shown


@pytest.mark.parametrize("name", RECIPES)
def test_the_published_numbers(name: str) -> None:
    recipe = load_recipe(RECIPES[name])
    sizes = recipe.hypernet
    assert (sizes.bottleneck, sizes.projection, sizes.embedding) == (256, 192, 64)
    training = recipe.training
    assert (training.learning_rate, training.weight_decay, training.batch_size) == (1e-4, 0, 32)
    assert training.train_layer_norms
    assert training.batching == "single"
    if name != "few-shot":
        assert (training.steps, training.warmup, training.temperature) == (100_000, 4_000, 5)


@pytest.mark.parametrize("name", ["english", "mixed"])
def test_both_tasks_are_scored_and_text_is_read_in_every_language(name: str) -> None:
    recipe = load_recipe(RECIPES[name])
    for task in ("ner", "pos"):
        assert {cell.language for cell in recipe.cells("test") if cell.task == task} == LANGUAGES
    assert {cell.language for cell in recipe.cells("train") if cell.task == "mlm"} == LANGUAGES


def test_the_kinds_of_cells() -> None:
    def kinds(recipe: Recipe) -> dict[Kind, int]:
        grid = recipe.grid()
        found = [grid.kind(cell) for cell in recipe.cells("test")]
        return {kind: found.count(kind) for kind in set(found)}

    assert kinds(load_recipe(RECIPES["english"])) == {Kind.SUPERVISED: 2, Kind.TEXT_ONLY: 32}
    mixed = load_recipe(RECIPES["mixed"])
    assert kinds(mixed) == {
        Kind.SUPERVISED: 6, Kind.UNSEEN_COMBINATION: 4, Kind.TEXT_ONLY: 24
    }  # fmt: skip
    published = {"ner:eng", "pos:eng", "ner:arb", "pos:tur"}
    assert published <= {str(cell) for cell in mixed.cells("train")}


def test_few_shot_languages_are_new(tmp_path: Path) -> None:
    english, few = load_recipe(RECIPES["english"]), load_recipe(RECIPES["few-shot"])
    assert not english.cells("train").keys() & few.cells("train").keys()
    assert {cell: sources[0] for cell, sources in few.cells("test").items()} == {
        cell: english.cells("test")[cell][0] for cell in few.cells("test")
    }


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_recipe_trains(backbone: str, tmp_path: Path) -> None:
    recipe = load_recipe(RECIPES["mixed"], (*TINY, f"backbone={backbone}"))
    run = start(recipe, tmp_path / "run", device="cpu", console=silent())
    assert (run / "recipe.yaml").is_file()
    chosen = ("ner:eng", "ner:arb", "ner:tam", "pos:eng", "pos:tur", "pos:zho")
    assert recipe.selection_cells() == [Cell.parse(cell) for cell in chosen]
