"""A language for a trained run: a new run beside it, and errors that leave nothing behind."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from hyperlect.errors import DataError, HyperlectError, RunError, UnknownNameError
from hyperlect.evaluation import evaluate_run
from hyperlect.grid import Cell, Kind
from hyperlect.model import HyperX
from hyperlect.recipe import load_recipe
from hyperlect.transfer import Settings, add_language
from tests.project import train, write_data, write_project

FAST = Settings(steps=4, batch_size=8, look_every=2, folds=2, learning_rate=0.1, adapter_rate=0.1)
SENTENCES = ["the cat sees Anna", "a dog in Oslo", "old river and Anna"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of tags, entities and raw text; the project is its parent."""
    folder = tmp_path_factory.mktemp("project")
    recipe = load_recipe(
        write_project(
            folder,
            hypernet={"bottleneck": 4, "projection": 6, "embedding": 5, "language_dropout": 0.2},
        )
    )
    train(recipe, folder / "run")
    for language in ("deu", "nld"):
        write_data(folder, "pos", language, "train")
    raw = "".join(f"{text} {number}\n" for number in range(4) for text in SENTENCES)
    (folder / "raw.txt").write_text(raw)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


def test_labels_make_a_new_run_and_leave_the_old_one(trained: Path, tmp_path: Path) -> None:
    run, target = trained / "run", tmp_path / "new"
    before = files(run)
    added = add_language(
        run, "German", target, labels={"pos": trained / "pos.deu.train"}, settings=FAST
    )
    assert files(run) == before
    assert added.language == "deu"
    assert added.adaptation is not None
    assert added.adaptation.sentences == {"pos": 24}
    model, old = HyperX.from_pretrained(target), HyperX.from_pretrained(run)
    assert model.languages == [*old.languages, "deu"]
    assert model.language_source("deu") == added.source
    for language in ("eng", "isl", "fao", "fra"):
        for task in ("pos", "ner"):
            first, second = (m.predict(SENTENCES, task, language) for m in (old, model))
            assert [p.confidences for p in first] == [p.confidences for p in second]
    (record,) = json.loads((target / "added.json").read_text())["languages"]
    assert (record["language"], record["labels"]) == ("deu", {"pos": "pos.deu.train"})
    assert str(tmp_path) not in (target / "added.json").read_text()


def test_the_new_run_is_used_like_any_other(trained: Path, tmp_path: Path) -> None:
    target = tmp_path / "new"
    labels = {"pos": trained / "pos.deu.train"}
    added = add_language(trained / "run", "deu", target, labels=labels, settings=FAST)
    kinds = {r.cell: r.kind for r in evaluate_run(target).cells}
    assert kinds[Cell("pos", "eng")] is Kind.SUPERVISED
    grid = HyperX.from_pretrained(target).grid
    assert added.adaptation is not None
    expected = Kind.SUPERVISED if added.adaptation.steps else Kind.UNTOUCHED
    assert grid.kind(Cell("pos", "deu")) is expected
    again = add_language(target, "nld", tmp_path / "newer", like={"deu": 1.0})
    assert HyperX.from_pretrained(again.run).languages[-2:] == ["deu", "nld"]
    records = json.loads((again.run / "added.json").read_text())["languages"]
    assert [record["language"] for record in records] == ["deu", "nld"]


def test_raw_text_makes_it_a_language_of_text_only(trained: Path, tmp_path: Path) -> None:
    added = add_language(
        trained / "run", "deu", tmp_path / "new", text=trained / "raw.txt",
        settings=Settings(raw_steps=2, most_changed=1.0, certain=2.0),
    )  # fmt: skip
    assert added.adaptation is not None
    assert added.adaptation.steps == 2
    grid = HyperX.from_pretrained(tmp_path / "new").grid
    assert grid.kind(Cell("ner", "deu")) is Kind.TEXT_ONLY
    recipe = load_recipe(tmp_path / "new" / "recipe.yaml", check_files=False)
    assert Cell("mlm", "deu") in recipe.cells("train")


def test_like_alone_is_a_weighted_mean(trained: Path, tmp_path: Path) -> None:
    add_language(trained / "run", "deu", tmp_path / "new", like={"eng": 0.5, "isl": 0.5})
    names, vectors = HyperX.from_pretrained(tmp_path / "new").language_vectors()
    rows = [vectors[names.index(code)] for code in ("eng", "isl", "deu")]
    torch.testing.assert_close(rows[2], (rows[0] + rows[1]) / 2)


def test_everything_is_trained_with_the_old_data(trained: Path, tmp_path: Path) -> None:
    added = add_language(
        trained / "run", "deu", tmp_path / "new", labels={"pos": trained / "pos.deu.train"},
        trained="all",
    )  # fmt: skip
    assert set(added.dev) == {"pos:eng", "ner:eng", "mlm:fao"}
    model = HyperX.from_pretrained(tmp_path / "new")
    assert model.grid.kind(Cell("pos", "deu")) is Kind.SUPERVISED
    assert model.grid.kind(Cell("ner", "eng")) is Kind.SUPERVISED
    assert set(model.tasks) == {"pos", "ner", "mlm"}


def test_settings_are_kept_and_weights_are_shares(trained: Path, tmp_path: Path) -> None:
    settings = replace(FAST, trained="vector")
    labels = {"pos": trained / "pos.deu.train"}
    like = {"eng": 1.0, "isl": 3.0}
    add_language(
        trained / "run", "deu", tmp_path / "new", labels=labels, like=like, settings=settings
    )
    (record,) = json.loads((tmp_path / "new" / "added.json").read_text())["languages"]
    assert record["settings"]["trained"] == "vector"
    assert record["like"] == {"eng": 0.25, "isl": 0.75}
    assert HyperX.from_pretrained(tmp_path / "new").config.changed == ()


def test_labels_are_recorded_in_the_format_that_they_were_read_in(
    trained: Path, tmp_path: Path
) -> None:
    run = trained / "two-formats"
    shutil.copytree(trained / "run", run)
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    (block, *_) = (block for block in recipe["data"] if block["task"] == "pos")
    other = block | {"format": "conllu", "cells": {"fra": {"train": ["none.conllu"]}}}
    other["fields"] = {"label": "upos"}
    recipe["data"].insert(0, other)
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    labels = {"pos": trained / "pos.deu.train"}
    add_language(run, "deu", tmp_path / "new", labels=labels, settings=FAST)
    added = load_recipe(tmp_path / "new" / "recipe.yaml", check_files=False)
    assert {s.format for s in added.cells("train")[Cell("pos", "deu")]} == {block["format"]}


def test_a_saved_model_without_a_recipe_can_have_a_language_added(
    trained: Path, tmp_path: Path
) -> None:
    HyperX.from_pretrained(trained / "run").save_pretrained(tmp_path / "saved")
    add_language(tmp_path / "saved", "deu", tmp_path / "new", like={"eng": 1.0})
    assert "deu" in HyperX.from_pretrained(tmp_path / "new").languages


def test_what_cannot_be_saved_leaves_an_empty_folder_empty(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    # The function has the name of its module.
    monkeypatch.setattr(sys.modules[add_language.__module__], "save_model", fail)
    (tmp_path / "new").mkdir()
    with pytest.raises(OSError, match="space"):
        add_language(trained / "run", "deu", tmp_path / "new", like={"eng": 1.0})
    assert list((tmp_path / "new").iterdir()) == []


def test_lines_without_a_word_are_passed_over(trained: Path, tmp_path: Path) -> None:
    text = tmp_path / "raw.txt"
    text.write_text((trained / "raw.txt").read_text() + "\u200b\n")
    added = add_language(trained / "run", "deu", tmp_path / "new", text=text, settings=FAST)
    assert added.adaptation is not None


def test_bad_input_leaves_nothing_behind(trained: Path, tmp_path: Path) -> None:
    empty, twice = tmp_path / "empty.txt", tmp_path / "twice.txt"
    empty.write_text("\n\n")
    twice.write_text("the cat\n" * 50)
    wrong = tmp_path / "wrong"
    wrong.write_text("the\tDET\ncat\tPARTICLE\n")
    run, target = trained / "run", tmp_path / "new"
    cases: list[tuple[type[Exception], str, dict[str, Any]]] = [
        (UnknownNameError, "Nonsensish", {"language": "Nonsensish"}),
        (HyperlectError, "isl", {"language": "is"}),
        (UnknownNameError, "deu", {"like": {"deu": 1.0}}),
        (UnknownNameError, "sentiment", {"labels": {"sentiment": wrong}}),
        (DataError, f"{wrong}:1", {"labels": {"pos": wrong}}),
        (DataError, str(tmp_path / "none"), {"labels": {"pos": tmp_path / "none"}}),
        (DataError, str(empty), {"text": empty}),
        (DataError, str(twice), {"text": twice}),
        (HyperlectError, "auto", {"like": "isl"}),
        (HyperlectError, "above 0", {"like": {"eng": 0.0}}),
        (HyperlectError, "mlm", {"trained": "all", "like": {"eng": 1.0}}),
    ]
    for error, named, arguments in cases:
        language = arguments.pop("language", "deu")
        with pytest.raises(error, match=named):
            add_language(run, language, target, settings=FAST, **arguments)
        assert not target.exists(), named


def test_labels_that_the_run_is_tested_on_are_refused(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"pos\.dan\.test"):
        add_language(
            trained / "run", "dan", tmp_path / "new", labels={"pos": trained / "pos.dan.test"}
        )
    assert not (tmp_path / "new").exists()


def test_a_folder_that_exists_is_left_alone(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(RunError, match=str(tmp_path)):
        add_language(trained / "run", "deu", tmp_path, like={"eng": 1.0})
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_a_method_that_reads_no_language_cannot_have_one_added(tmp_path: Path) -> None:
    recipe = load_recipe(write_project(tmp_path, ["pos"], method="adapters"))
    train(recipe, tmp_path / "run")
    with pytest.raises(HyperlectError, match="adapters"):
        add_language(tmp_path / "run", "deu", tmp_path / "new", like={"eng": 1.0})
