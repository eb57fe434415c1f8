"""What must hold between the parts of a recipe."""

# ruff: noqa: E501 (a case a line)

from __future__ import annotations

from pathlib import Path

import pytest

from hyperlect.grid import Cell

from .conftest import GOOD, Faulty, Load

SPANS = "pos: {type: spans, labels: %s, label_map: {DATE: %s}}"
HUB = "- {task: topic, format: hub, fields: {text: a, label: b}, %scells: {deu: {test: test}}}\n  "


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("task: pos", "task: poss", 'data.0.task: there is no task "poss" under tasks. Did you mean "pos"?'),
        ("{train: a.conllu, dev: b.conllu}", "{test: a.conllu}", "tasks.pos: has no training data"),
        ("pos: {type: tagging}", "pos: {type: tagging, share: 0.8}", "the shares of pos, mlm sum to 1"),
        ("pos: {type: tagging}", "pos: {type: tagging, share: 0.1}\n  keys: {type: mlm}", "PyTorch keeps this name"),
        ("format: text", "format: conlu", 'Did you mean "conllu"?'),
        ("format: tsv", "format: conllu", "conllu cannot hold a task of type classification; use one of tsv"),
        ("{text: sentence, label: topic}", "{text: sentence}", "data.1.fields: do not say which column holds the label"),
        ("label: topic}", "lable: topic, label: t}", 'Did you mean "label"?'),
        ("label: topic}", "label: 2}", "must be the column's name, not 2"),
        ("dev: b.conllu", "dev: a.conllu", "is dev data here and train data of pos:eng"),
        ("c.conllu", "../files/a.conllu", "is test data here and train data of pos:eng"),
        ("train: a.conllu", "train: [a.conllu, a.conllu]", "is already among the train data of pos:eng"),
        ("{test: c.conllu}", "{}", "data.0.cells.fo: has neither train nor dev nor test files"),
        ("mlm: {", "mlm: {labels: [a], ", "tasks.mlm.labels: a task of type mlm has no labels"),
        ("warmup: 10", "warmup: 100", "must be less than training.steps (100), not 100"),
        ("warmup: 10", "patience: 2", "training.patience: counts evaluations"),
        ("warmup: 10", "select_by: unseen language", 'no cell of kind "unseen language" has dev files'),
        ("warmup: 10", "select_by: suprvised", 'Did you mean "supervised"?'),
        ("warmup: 10", "select_by: [pos:en, pos:fo]", "training.select_by.1: pos:fao has no dev files"),
        ("warmup: 10", "select_by: [pos]", "training.select_by: must be supervised"),
        ("pos: {type: tagging}", SPANS % ("[B-PER]", "O"), 'list entity types, not tags: "PER"'),
        ("pos: {type: tagging}", SPANS % ("[PER, O]", "O"), "O stands for no entity"),
        ("pos: {type: tagging}", SPANS % ("[PER]", "PRE"), '"PRE" is no label of this task. Did you mean "PER"?'),
        ("type: tagging", "type: parsing, labels: depre", "tasks.pos.labels: must be a list of labels, upos or deprel"),
        ("- task: mlm", HUB % "" + "- task: mlm", "data.2.dataset: is missing"),
        ("format: tsv", "format: tsv\n    dataset: x", "data.1.dataset: goes with format hub, not tsv"),
        ("format: text", "format: text\n    comment: '#'", "data.2.comment: goes with format columns, not text"),
        ("name: toy", "name: toy\nbackbone: builtin:e5-smal", 'backbone: Unknown built-in backbone "e5-smal". Did you mean "e5-small"?'),
        ("name: toy", "name: toy\nmethod: mad-x\nhypernet: {skip_last_layer: true, top_layers: 1}", "leaves no layer"),
        ("name: toy", "name: toy\nmethod: task-hypernet\nhypernet: {sources: [language, layer]}", "must hold task"),
        ("name: toy", "name: toy\nhypernet: {bottleneck: true}", "bottleneck is true, which does not fit here"),
        ("name: toy", "name: toy\nhypernet: {embedding_std: -1}", "embedding_std must be at least 0"),
    ],
)  # fmt: skip
def test_one_fault(faults: Faulty, old: str, new: str, expected: str) -> None:
    assert old in GOOD
    found = [fault for fault in faults(text=GOOD.replace(old, new, 1)) if expected in fault]
    assert len(found) == 1


def test_madx_says_what_it_will_not_have(load: Load) -> None:
    notes = [note for note in load("method=mad-x").notes() if note.startswith("method")]
    assert notes == [
        "method: there is no raw text in eng, so mad-x trains on their labelled data without a "
        "language adapter.",
        "method: mad-x does not apply to pos:fao, since there is no raw text in their languages.",
    ]
    everywhere = "data.2.cells={eng: {train: files/e.txt}, fo: {train: files/d.tsv}}"
    text = "data.1.cells.eng.train=files/g.tsv"
    recipe = load("method=mad-x", everywhere, text, check_files=False)
    assert not [note for note in recipe.notes() if note.startswith("method")]


def test_madx_needs_text_and_labels_and_two_steps(faults: Faulty) -> None:
    without_text = GOOD[: GOOD.index("  - task: mlm")] + GOOD[GOOD.index("training:") :]
    without_text = without_text.replace("  mlm: {type: mlm, share: 0.2}\n", "")
    (fault,) = faults("method=mad-x", text=without_text)
    assert "method: mad-x trains language adapters on raw text; give a task" in fault
    (fault,) = faults("method=mad-x", "training={steps: 1}")
    assert "training.steps: must be at least 2 with mad-x" in fault
    (fault,) = faults(
        "method=mad-x",
        "data.0.cells.fo={dev: c.conllu}",
        "training.select_by=unseen language",
    )
    assert "training.select_by: mad-x applies to none of the cells to select by" in fault
    only_text = """format_version: 1
name: toy
method: mad-x
tasks: {mlm: {type: mlm}}
data: [{task: mlm, format: text, cells: {isl: {train: files/e.txt}}}]
"""
    (fault,) = faults(text=only_text)
    assert "method: mad-x trains task adapters on labelled data; add some" in fault


def test_test_data_is_recognised_behind_a_link(faults: Faulty, folder: Path) -> None:
    (folder / "files" / "link.conllu").symlink_to(folder / "files" / "a.conllu")
    [fault] = faults(text=GOOD.replace("c.conllu", "link.conllu"))
    assert "test data here and train data of pos:eng" in fault


def test_splits_on_the_hub_are_told_apart(load: Load, faults: Faulty) -> None:
    block = HUB % "dataset: o/d, config: c, " + "- task: mlm"
    recipe = load(text=GOOD.replace("- task: mlm", block))
    [source] = recipe.cells("test")[Cell("topic", "deu")]
    assert (source.location, source.config, source.split) == ("o/d", "c", "test")
    [fault] = faults(
        text=GOOD.replace("- task: mlm", block.replace("{test: test}", "{test: x, dev: x}"))
    )
    assert "o/d/c/x is test data here and dev data of topic:deu" in fault


def test_raw_text_may_come_from_a_treebank(load: Load) -> None:
    text = GOOD.replace("format: text", "format: conllu").replace("e.txt", "a.conllu")
    assert load(text=text)


def test_notes_on_what_is_no_fault(load: Load) -> None:
    assert load().notes() == ["data: no test files for topic; nothing will be scored."]
    notes = load("method=head", "hypernet.bottleneck=8", "data.0.cells.en.dev=[]").notes()
    assert [note.split(":")[0] for note in notes] == ["hypernet", "data", "data"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("columns", "fields: do not say which column holds the word and the head and the label"),
        ("columns\n    fields: {word: 2}", "fields: do not say which column holds the head"),
        ("columns\n    fields: {head: h}", "fields.head: must be the column's number, counted from 1"),
        ("jsonl\n    fields: {words: w, labels: l}", "fields: do not say which column holds the heads"),
        ("conllu\n    fields: {word: form}", "conllu has no such field for parsing"),
    ],
)  # fmt: skip
def test_trees_need_heads(faults: Faulty, fields: str, expected: str) -> None:
    text = GOOD.replace("type: tagging", "type: parsing").replace("conllu", fields, 1)
    assert [fault for fault in faults(text=text) if expected in fault]


def test_treebanks_have_trees_in_their_columns(load: Load) -> None:
    trees = GOOD.replace("type: tagging", "type: parsing, labels: deprel")
    for text, fields in (
        (GOOD, {}),
        (trees, {"head": "head", "label": "deprel"}),
        (
            trees.replace("conllu", "conllu\n    fields: {label: upos}", 1),
            {"head": "head", "label": "upos"},
        ),
    ):
        [source] = load(text=text).cells("train")[Cell("pos", "eng")]
        assert source.fields == fields
    assert len(load(text=trees).task("pos").labels) == 37
