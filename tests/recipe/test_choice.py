"""Some of a recipe's tasks alone, and some of the examples."""

# ruff: noqa: E501 (a case a line)

from __future__ import annotations

from pathlib import Path

import pytest

from hyperlect.grid import Cell, Kind
from hyperlect.recipe import load_recipe

from .conftest import GOOD, Faulty, Load

ENGLISH, FAROESE = Cell("pos", "eng"), Cell("pos", "fao")
WITHOUT_POS = (
    GOOD.replace("  pos: {type: tagging}\n", "")
    .replace("  - task: pos\n    format: conllu\n    root: files\n    cells:\n", "")
    .replace("      en: {train: a.conllu, dev: b.conllu}\n", "")
    .replace("      fo: {test: c.conllu}\n", "")
)


def test_tasks_are_left_out_as_if_they_were_not_written(load: Load) -> None:
    assert "pos" not in WITHOUT_POS
    chosen = load("only_tasks=[topic, mlm]")
    assert chosen.only_tasks == ("topic", "mlm")
    assert chosen.model_copy(update={"only_tasks": None}) == load(text=WITHOUT_POS)
    assert load("only_tasks=pos").grid().languages == ["eng"]
    assert list(load("only_tasks=[mlm, pos]").tasks) == ["pos", "mlm"]  # in the recipe's order


def test_what_is_left_out_may_be_faulty(load: Load) -> None:
    text = GOOD.replace("files/d.tsv", "'${NOWHERE}/d.tsv'").replace(
        "type: classification", "type: x"
    )
    assert load("only_tasks=[pos, mlm]", text=text) == load("only_tasks=[pos, mlm]")


def test_blocks_keep_their_numbers(load: Load, faults: Faulty) -> None:
    assert (
        load("only_tasks=[mlm]", "tasks.mlm.share=null", "data.2.limit.train=3").data[0].task
        == "mlm"
    )
    [fault] = faults("only_tasks=[pos, mlm]", text=GOOD.replace("e.txt", "none.txt"))
    assert fault.startswith("line 21, data.2.cells.isl.train.0")


def test_cells_of_tasks_left_out_are_not_meant(load: Load) -> None:
    cells = ("data.1.cells.eng.dev=files/b.conllu", "training.select_by=[pos:en, topic:en]")
    few = "few_shot={cells: [topic:en], examples: 3}"
    assert load("only_tasks=[pos]", *cells, few).training.select_by == ("pos:eng",)
    assert load("only_tasks=[pos]", *cells, few).few_shot is None
    assert load(*cells, few).few_shot is not None


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["only_tasks=[pos, mml]"], '--set only_tasks.1: there is no task "mml" under tasks. Did you mean "mlm"? Known: pos, topic, mlm.'),
        (["only_tasks=[]"], "only_tasks: is empty"),
        (["only_tasks={pos: 1}"], "only_tasks: must be a list"),
        (["only_tasks=[topic]", "training.select_by=[pos:en]"], "training.select_by: names no cell of the tasks in only_tasks"),
        (["only_tasks=[topic]", "few_shot={cells: ['pos:en'], examples: 2, alone: true}"], "few_shot.cells: name no cell of the tasks in only_tasks"),
        (["few_shot={cells: ['pos:eng'], examples: -1}"], "few_shot.examples: must be at least 0, not -1"),
        (["few_shot={cells: ['pos:eng'], exampels: 1}"], 'few_shot.exampels: there is no such key. Did you mean "examples"?'),
        (["few_shot={cells: [pos], examples: 1}"], "few_shot.cells: must be a list of cells such as"),
        (["few_shot={cells: [], examples: 1}"], "few_shot.cells: must be a list of cells such as"),
        (["few_shot={cells: ['pos:xqx'], examples: 1}"], 'Unknown language "xqx"'),
        (["few_shot={cells: ['pos:fo'], examples: 1}"], "few_shot.cells.0: pos:fao has no train file under data"),
        (["few_shot={cells: ['poss:en'], examples: 1}"], 'Did you mean "pos:eng"?'),
        (["few_shot={cells: ['pos:en', 'pos:eng'], examples: 1}"], "pos:eng is listed twice"),
        (["few_shot={cells: ['pos:en'], examples: 0}"], "tasks.pos: has no training data in any language"),
    ],
)  # fmt: skip
def test_faults(faults: Faulty, overrides: list[str], expected: str) -> None:
    found = [fault for fault in faults(*overrides) if expected in fault]
    assert len(found) == 1
    assert not [fault for fault in faults(*overrides) if "pydantic" in fault]


def test_few_examples(load: Load) -> None:
    more = "data.0.cells.fo.train=d.tsv"
    grid = {n: load(more, few(n)).grid() for n in (0, 5)}
    assert grid[5].kind(FAROESE) is Kind.SUPERVISED
    assert grid[0].kind(FAROESE) is Kind.UNTOUCHED
    assert list(load(more, few(0)).cells("test")) == [FAROESE]
    assert load(more, few(0)).grid().languages == ["eng", "isl"]
    section = load(more, few(5)).few_shot
    assert section is not None
    assert (section.cells, section.draw) == (("pos:fao",), 1)
    assert [section.count(cell) for cell in (FAROESE, ENGLISH)] == [5, None]


def test_few_examples_alone(load: Load) -> None:
    alone = (few(5, "alone: true"), "only_tasks=[pos]", "training.select_by=all")
    recipe = load("data.0.cells.fo.train=d.tsv", *alone)
    assert list(recipe.cells("train")) == [FAROESE]
    assert list(recipe.cells("dev")) == [ENGLISH]


def few(examples: int, more: str = "alone: false") -> str:
    return f"few_shot={{cells: [pos:fo], examples: {examples}, {more}}}"


def test_a_dumped_recipe_loads_as_an_equal_one(load: Load, tmp_path: Path) -> None:
    cells = "few_shot={cells: [pos:en, topic:en], examples: 3, draw: 2}"
    for overrides in (["only_tasks=[pos]", cells], ["only_tasks=[topic, mlm]"], [cells]):
        recipe = load(*overrides)
        path = tmp_path / "dumped.yaml"
        path.write_text(recipe.dump(), encoding="utf-8")
        assert load_recipe(path) == recipe
        assert load_recipe(path).dump() == recipe.dump()
