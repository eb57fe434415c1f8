"""What a loaded recipe gives."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import pytest

from hyperlect.data.readers import Source
from hyperlect.errors import UnknownNameError
from hyperlect.grid import Cell, Grid, Kind
from hyperlect.hypernet.config import HypernetConfig
from hyperlect.recipe import load_recipe
from hyperlect.tasks import PARSERS, UPOS, TaskType

from .conftest import GOOD, Load

ENGLISH, FAROESE = Cell("pos", "eng"), Cell("pos", "fao")


def test_cells(load: Load, folder: Path) -> None:
    recipe = load("data.1.limit.train=9")
    files = folder / "files"
    assert list(recipe.cells("train")) == [ENGLISH, Cell("topic", "eng"), Cell("mlm", "isl")]
    assert recipe.cells("train")[Cell("topic", "eng")] == [
        Source("tsv", str(files / "d.tsv"), {"text": "sentence", "label": "topic"}, limit=9)
    ]
    assert recipe.cells("test") == {FAROESE: [Source("conllu", str(files / "c.conllu"))]}


def test_blocks_that_give_the_same_cell_are_joined(load: Load) -> None:
    again = "- {task: pos, format: columns, cells: {fao: {test: files/f.txt}}}\n  - task: mlm"
    recipe = load(text=GOOD.replace("- task: mlm", again), check_files=False)
    assert [source.format for source in recipe.cells("test")[FAROESE]] == ["conllu", "columns"]


def test_grid_and_tasks(load: Load) -> None:
    recipe = load("tasks.pos.labels=upos")
    assert recipe.grid().kind(FAROESE) is Kind.UNTOUCHED
    assert recipe.grid().kind(Cell("pos", "isl")) is Kind.TEXT_ONLY
    assert recipe.task("mlm").type is TaskType.MLM
    assert recipe.task("pos").labels == UPOS
    assert recipe.task("topic", ["ignored"]).labels == ("sport", "travel")
    assert load().task("pos", ["VERB", "NOUN"]).labels == ("NOUN", "VERB")
    with pytest.raises(UnknownNameError, match="topic"):
        recipe.task("topics")


def test_span_labels_are_entity_types(load: Load) -> None:
    recipe = load("tasks.pos={type: spans, labels: [PER, LOC], label_map: {GPE: LOC, DATE: O}}")
    task = recipe.task("pos")
    assert task.labels == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    assert [task.map_label(tag) for tag in ("I-GPE", "B-DATE", "O")] == ["I-LOC", "O", "O"]


def test_selection(load: Load) -> None:
    assert load().selection_cells() == [ENGLISH]
    assert load("training.select_by=[pos:en]").selection_cells() == [ENGLISH]
    both = ["data.0.cells.fo.test=[]", "data.0.cells.fo.dev=c.conllu"]
    assert load(*both, "training.select_by=unseen language").selection_cells() == [FAROESE]
    assert load(*both, "training.select_by=all").selection_cells() == [ENGLISH, FAROESE]


def test_raw_text_alone_selects_by_itself_whatever_was_trained_before(load: Load) -> None:
    text = Cell("mlm", "isl")
    dev = "data.2.cells.isl.dev=files/a.conllu"
    recipe = load("only_tasks=[mlm]", "tasks.mlm.share=null", dev)
    assert recipe.selection_cells() == [text]
    after_labels = Grid([text, ENGLISH], ["mlm"])
    assert recipe.selection_cells(after_labels) == [text]


def test_the_hypernetwork_has_one_source_of_defaults(load: Load) -> None:
    assert load().hypernet_config() == HypernetConfig()
    assert load("hypernet.projection=null").hypernet_config().projection is None
    baseline = load("method=task-hypernet", "hypernet.bottleneck=8").hypernet_config()
    assert baseline == HypernetConfig(bottleneck=8, sources=("task", "layer"))


def test_the_form_of_parsers(load: Load) -> None:
    assert load().parser == PARSERS[0]
    assert [load(f"parser={form}").parser for form in PARSERS] == list(PARSERS)


HUB = """\
  - task: topic
    format: hub
    dataset: owner/topics
    config: "{language}-2"
    fields: {text: text, label: topic}
    cells: {zh-Hant: {test: validation}, deu: {test: test, config: de-3}}
"""


def test_a_dumped_recipe_loads_as_an_equal_one(load: Load, tmp_path: Path) -> None:
    text = GOOD.replace("training:", HUB + "training:")
    recipe = load(
        "description=$${HOME} costs 1e3",
        "training.select_by=[pos:en]",
        "tasks.pos={type: spans, labels: ['no', '1e3', '007'], label_map: {'-': O, yes: 'no'}}",
        "data.0.format=columns",
        "data.0.fields={word: 2}",
        "data.0.comment='# '",
        text=text,
    )
    elsewhere = tmp_path / "elsewhere" / "recipe.yaml"
    elsewhere.parent.mkdir()
    elsewhere.write_text(recipe.dump(), encoding="utf-8")
    again = load_recipe(elsewhere)
    assert again == recipe
    assert again.description == "${HOME} costs 1e3"
    assert again.dump() == recipe.dump()
    configs = [source.config for source in chain(*again.cells("test").values())]
    assert configs == [None, "zh-Hant-2", "de-3"]
