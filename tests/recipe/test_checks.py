"""What must hold between the keys of a recipe."""

# ruff: noqa: E501 (a case a line)

from __future__ import annotations

from pathlib import Path

import pytest

from hyperlect.data.readers import Source
from hyperlect.grid import Cell

from .conftest import GOOD, Faults, Load, places

SPANS = "pos: {type: spans, labels: %s, label_map: {DATE: %s}}"
HUB = "- {task: topic, format: hub, fields: {text: a, label: b}, %scells: {deu: {test: test}}}\n  "


@pytest.mark.parametrize(
    ("old", "new", "key", "hint"),
    [
        ("task: pos", "task: poss", "data.0.task", 'Did you mean "pos"?'),
        ("{train: a.conllu, dev: b.conllu}", "{test: a.conllu}", "tasks.pos", "only_tasks"),
        ("pos: {type: tagging}", "pos: {type: tagging, share: 0.8}", "tasks.pos.share", "pos, mlm sum to 1"),
        ("pos: {type: tagging}", "pos: {type: tagging, share: 0.1}\n  keys: {type: mlm}", "tasks.keys", "PyTorch"),
        ("pos: {type: tagging}", "pos: {type: tagging}\n  training: {type: mlm}", "tasks.training", "PyTorch"),
        ("pos: {type: tagging}", "pos: {type: tagging}\n  a b: {type: mlm}", "tasks.a b", "letters"),
        ("format: text", "format: conlu", "data.2.format", 'Did you mean "conllu"?'),
        ("format: tsv", "format: conllu", "data.1.format", "tsv, csv, jsonl, hub"),
        ("{text: sentence, label: topic}", "{text: sentence}", "data.1.fields", "fields: {text: …, label: …}"),
        ("label: topic}", "lable: topic, label: t}", "data.1.fields.lable", 'Did you mean "label"?'),
        ("label: topic}", "label: 2}", "data.1.fields.label", "not 2"),
        ("dev: b.conllu", "dev: a.conllu", "data.0.cells.en.dev.0", "train data of pos:eng"),
        ("c.conllu", "../files/a.conllu", "data.0.cells.fo.test.0", "train data of pos:eng"),
        ("train: a.conllu", "train: [a.conllu, a.conllu]", "data.0.cells.en.train.1", "pos:eng"),
        ("{test: c.conllu}", "{}", "data.0.cells.fo", "neither"),
        ("mlm: {", "mlm: {labels: [a], ", "tasks.mlm.labels", "mlm"),
        ("warmup: 10", "warmup: 100", "training.warmup", "training.steps (100)"),
        ("warmup: 10", "patience: 2", "training.patience", "training.evaluate_every"),
        ("warmup: 10", "select_by: unseen language", "training.select_by", "unseen language"),
        ("warmup: 10", "select_by: suprvised", "training.select_by", 'Did you mean "supervised"?'),
        ("warmup: 10", "select_by: [pos:en, pos:fo]", "training.select_by.1", "pos:fao"),
        ("warmup: 10", "select_by: [pos]", "training.select_by.0", "task:language"),
        ("warmup: 10", "select_by: [pos:en, pos:eng]", "training.select_by", "lists pos:eng twice"),
        ("warmup: 10", "select_by: []", "training.select_by", "empty"),
        ("pos: {type: tagging}", SPANS % ("[B-PER]", "O"), "tasks.pos.labels", '"PER"'),
        ("pos: {type: tagging}", SPANS % ("[PER, O]", "O"), "tasks.pos.labels", "remove"),
        ("pos: {type: tagging}", SPANS % ("[PER]", "PRE"), "tasks.pos.label_map.DATE", 'Did you mean "PER"?'),
        ("pos: {type: tagging}", "pos: {type: tagging, labels: [a, b, a]}", "tasks.pos.labels", "lists a twice"),
        ("type: tagging", "type: tagging, labels: []", "tasks.pos.labels", "empty"),
        ("type: tagging", "type: parsing, labels: depre", "tasks.pos.labels", '"depre"'),
        ("- task: mlm", HUB % "" + "- task: mlm", "data.2.dataset", "required"),
        ("format: tsv", "format: tsv\n    dataset: x", "data.1.dataset", "hub"),
        ("format: text", "format: text\n    comment: '#'", "data.2.comment", "columns"),
        ("format: text", "format: text\n    strip_prefix: true", "data.2.strip_prefix", "columns"),
        ("format: conllu", "format: conllu\n    quoting: minimal", "data.0.quoting", "tsv"),
        ("format: tsv", "format: tsv\n    quoting: double", "data.1.quoting", "minimal"),
        ("{test: c.conllu}", "{test: c.conllu, config: x}", "data.0.cells.fo.config", "hub"),
        ("name: toy", "name: toy\nbackbone: builtin:e5-smal", "backbone", 'Did you mean "e5-small"?'),
        ("name: toy", "name: toy\nfolder: nowhere", "folder", "nowhere"),
        ("name: toy", "name: toy\nmethod: mad-x\nhypernet: {skip_last_layer: true, top_layers: 1}", "hypernet", "leaves no layer"),
        ("name: toy", "name: toy\nmethod: task-hypernet\nhypernet: {sources: [language, layer]}", "hypernet", "must hold task"),
        ("name: toy", "name: toy\nhypernet: {bottleneck: true}", "hypernet.bottleneck", "number"),
        ("name: toy", "name: toy\nhypernet: {embedding_std: -1}", "hypernet", "embedding_std"),
    ],
)  # fmt: skip
def test_one_fault(faults: Faults, old: str, new: str, key: str, hint: str) -> None:
    assert old in GOOD
    problems = faults(text=GOOD.replace(old, new, 1))
    assert len([fault for fault in problems if fault.key == key and hint in fault.message]) == 1


def test_options_of_formats_and_tasks_reach_the_sources(load: Load) -> None:
    text = GOOD.replace("format: tsv", "format: tsv\n    quoting: minimal")
    text = text.replace("{type: tagging}", "{type: spans, scheme: bioes, unlabelled: ignore}")
    text = text.replace("format: conllu", "format: columns\n    strip_prefix: true")
    recipe = load(text=text)
    [topic], [words] = (
        recipe.cells("train")[Cell("topic", "eng")],
        recipe.cells("train")[Cell("pos", "eng")],
    )
    assert (topic.quoting, topic.strip_prefix, topic.unlabelled) == ("minimal", False, "error")
    assert (words.quoting, words.strip_prefix, words.unlabelled) == ("none", True, "ignore")
    task = recipe.task("pos", ["B-PER"])
    assert (task.scheme, task.unlabelled) == ("bioes", "ignore")
    plain = load()
    assert plain.cells("train")[Cell("topic", "eng")][0].quoting == Source("tsv", "x").quoting
    assert (plain.task("pos").scheme, plain.task("pos").unlabelled) == ("iob2", "error")


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


def test_madx_needs_text_and_labels_and_two_steps(faults: Faults) -> None:
    without_text = GOOD[: GOOD.index("  - task: mlm")] + GOOD[GOOD.index("training:") :]
    without_text = without_text.replace("  mlm: {type: mlm, share: 0.2}\n", "")
    assert places(faults("method=mad-x", text=without_text)) == [(None, "--set method")]
    one_step = faults("method=mad-x", "training={steps: 1}")
    assert places(one_step) == [(None, "--set training.steps")]
    none_applies = faults(
        "method=mad-x", "data.0.cells.fo={dev: c.conllu}", "training.select_by=unseen language"
    )
    assert places(none_applies) == [(None, "--set training.select_by")]
    only_text = """format_version: 1
name: toy
method: mad-x
tasks: {mlm: {type: mlm}}
data: [{task: mlm, format: text, cells: {isl: {train: files/e.txt}}}]
"""
    assert places(faults(text=only_text)) == [(3, "method")]


def test_test_data_is_recognised_behind_a_link(faults: Faults, folder: Path) -> None:
    (folder / "files" / "link.conllu").symlink_to(folder / "files" / "a.conllu")
    [fault] = faults(text=GOOD.replace("c.conllu", "link.conllu"))
    assert (fault.line, fault.key) == (13, "data.0.cells.fo.test.0")
    assert "pos:eng" in fault.message


def test_splits_on_the_hub_are_told_apart(load: Load, faults: Faults) -> None:
    block = HUB % "dataset: o/d, config: c, " + "- task: mlm"
    recipe = load(text=GOOD.replace("- task: mlm", block))
    [source] = recipe.cells("test")[Cell("topic", "deu")]
    assert (source.location, source.config, source.split) == ("o/d", "c", "test")
    [fault] = faults(
        text=GOOD.replace("- task: mlm", block.replace("{test: test}", "{test: x, dev: x}"))
    )
    assert fault.key == "data.2.cells.deu.test.0"
    assert "o/d/c/x" in fault.message


def test_raw_text_may_come_from_a_treebank(load: Load) -> None:
    text = GOOD.replace("format: text", "format: conllu").replace("e.txt", "a.conllu")
    assert load(text=text)


def test_notes_on_what_is_no_fault(load: Load) -> None:
    assert load().notes() == ["data: no test files for topic; nothing will be scored."]
    notes = load("method=head", "hypernet.bottleneck=8", "data.0.cells.en.dev=[]").notes()
    assert [note.split(":")[0] for note in notes] == ["hypernet", "data", "data"]


def test_notes_on_what_the_encoder_has_to_fit(load: Load) -> None:
    recipe = load("max_length=5000")
    note, *others = recipe.notes(longest=512)
    assert note.startswith("max_length: ")
    assert recipe.notes(longest=5000) == recipe.notes() == others


@pytest.mark.parametrize(
    ("fields", "key", "hint"),
    [
        ("columns", "fields", "word and the head and the label"),
        ("columns\n    fields: {word: 2}", "fields", "head"),
        ("columns\n    fields: {head: h}", "fields.head", "number"),
        ("jsonl\n    fields: {words: w, labels: l}", "fields", "heads"),
        ("conllu\n    fields: {word: form}", "fields.word", "parsing"),
    ],
)
def test_trees_need_heads(faults: Faults, fields: str, key: str, hint: str) -> None:
    text = GOOD.replace("type: tagging", "type: parsing").replace("conllu", fields, 1)
    messages = [fault.message for fault in faults(text=text) if fault.key == f"data.0.{key}"]
    assert [message for message in messages if hint in message]


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
