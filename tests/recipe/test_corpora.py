"""The data of a recipe: reading, label sets, overlap with test data, remarks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pytest
import yaml
from datasets import Dataset

from hyperlect.data.corpus import read_corpus
from hyperlect.data.readers import Source
from hyperlect.errors import DataError, Problem, UnreachableError
from hyperlect.grid import Cell
from hyperlect.recipe import Recipe, load_recipe
from hyperlect.recipe.corpora import Corpora, Overlap, overlaps, read_corpora, remarks
from hyperlect.tasks import Task, TaskType

from ..data.made import corpus, tagged
from ..project import COUNTS, LONG, TAGS, write_project
from ..tiny import tiny_tokenizer


def problems(call: Callable[[], object]) -> tuple[Problem, ...]:
    with pytest.raises(DataError) as error:
        call()
    return error.value.problems


def project(folder: Path, *tasks: str, overrides: tuple[str, ...] = ()) -> Recipe:
    return load_recipe(write_project(folder, tasks), overrides)


def sentences(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").rstrip("\n").split("\n\n")


def test_every_part_of_every_cell_is_read(tmp_path: Path) -> None:
    corpora = read_corpora(project(tmp_path, "pos", "topic", "mlm"))
    expected = {
        "pos": {"eng": "train dev test", "isl": "train test", "fao": "test", "dan": "test"},
        "topic": {"eng": "train dev test"},
        "mlm": {"fao": "train dev test"},
    }
    assert corpora.counts() == {
        (split, Cell(task, language)): COUNTS[split]
        for task, languages in expected.items()
        for language, splits in languages.items()
        for split in splits.split()
    }
    assert corpora.overlaps == []


def test_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    recipe = project(tmp_path, "pos")
    (tmp_path / "pos.eng.train").unlink()
    (tmp_path / "pos.isl.test").unlink()
    tasks = {"pos": Task("pos", TaskType.TAGGING, tuple(sorted(set(TAGS.values()))))}
    chosen = [Cell("pos", "eng"), Cell("pos", "dan")]
    corpora = read_corpora(recipe, ["test"], tasks, chosen)
    assert list(corpora.examples) == [("test", cell) for cell in chosen]
    assert corpora.tasks == tasks


def test_labels_are_those_of_the_training_data_of_all_languages(tmp_path: Path) -> None:
    recipe = project(tmp_path, "pos", "ner", "mlm")
    (tmp_path / "pos.isl.train").write_text("hestur\tNOUN\nOslo\tX\n")
    (tmp_path / "ner.eng.train").write_text("Anna\tB-PER\nOslo\tB-LOC\n")
    tasks = read_corpora(recipe).tasks
    assert tasks["pos"].labels == tuple(sorted({*TAGS.values(), "X"}))
    assert tasks["ner"].labels == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    assert tasks["mlm"].labels == ()
    assert [task.type for task in tasks.values()] == ["tagging", "spans", "mlm"]


def test_labels_of_the_recipe_come_before_those_of_the_data(tmp_path: Path) -> None:
    tags = ["X", *sorted(set(TAGS.values()))]
    overrides = (
        f"tasks.pos.labels=[{', '.join(tags)}]",
        "tasks.ner.labels=[PER, LOC, MISC]",
    )
    tasks = read_corpora(project(tmp_path, "pos", "ner", overrides=overrides)).tasks
    assert tasks["pos"].labels == tuple(tags)
    entities = ("LOC", "MISC", "PER")
    assert tasks["ner"].labels == ("O", *(f"{p}-{e}" for e in entities for p in "BI"))


def test_the_label_map_is_applied_before(tmp_path: Path) -> None:
    overrides = ("tasks.ner.label_map={LOC: O}", "tasks.pos.label_map={PROPN: NOUN}")
    tasks = read_corpora(project(tmp_path, "pos", "ner", overrides=overrides)).tasks
    assert tasks["ner"].labels == ("O", "B-PER", "I-PER")
    assert "PROPN" not in tasks["pos"].labels
    assert tasks["pos"].map_label("PROPN") == "NOUN"


def test_data_is_encoded_by_split_and_cell(tmp_path: Path) -> None:
    corpora = read_corpora(project(tmp_path, "pos", "mlm"))
    rows = corpora.encode(tiny_tokenizer("bert"), 32)
    assert rows.keys() == corpora.examples.keys()
    test = rows["test", Cell("pos", "isl")]
    words = sum(len(row["positions"]) for row in test)
    assert words == sum(
        len(words) for words in corpora.examples["test", Cell("pos", "isl")]["words"]
    )
    assert len(test) > COUNTS["test"]  # a sentence of 70 words has several windows
    assert max(len(row["input_ids"]) for row in test) <= 32 < LONG


@pytest.mark.parametrize("split", ["dev", "test"])
def test_training_data_that_contains_an_evaluation_file_is_refused(
    tmp_path: Path, split: str
) -> None:
    """Under another name, in another order, with other white space, among other sentences."""
    recipe = project(tmp_path, "pos")
    evaluated, trained = tmp_path / f"pos.eng.{split}", tmp_path / "pos.isl.train"
    copied = "\n\n".join([*sentences(trained), *reversed(sentences(evaluated))])
    trained.write_text(copied + "\n", encoding="utf-8")
    (problem,) = problems(lambda: read_corpora(recipe))
    assert str(evaluated) in problem.message
    assert str(trained) in problem.message
    assert f"pos:eng {split}" in problem.message


def test_evaluation_data_of_one_task_must_not_be_trained_on_for_another(tmp_path: Path) -> None:
    recipe = project(tmp_path, "pos", "mlm")
    words = [" ".join(line.split("\t")[0] for line in sentence.splitlines())
             for sentence in sentences(tmp_path / "pos.dan.test")]  # fmt: skip
    (tmp_path / "mlm.fao.train").write_text("\n".join(words) + "\n")
    (problem,) = problems(lambda: read_corpora(recipe))
    assert "pos.dan.test" in problem.message
    assert "mlm.fao.train" in problem.message


def test_partial_overlap_is_counted(tmp_path: Path) -> None:
    recipe = project(tmp_path, "pos")
    trained = tmp_path / "pos.isl.train"
    shared = sentences(tmp_path / "pos.eng.test")[:3]
    trained.write_text("\n\n".join([*sentences(trained), *shared]) + "\n")
    (overlap,) = read_corpora(recipe).overlaps
    assert (overlap.name, overlap.shared, overlap.examples) == ("pos:eng test", 3, 8)
    assert overlap.train_files == {str(trained): 3}


def test_the_problems_of_all_files_are_found_at_once(tmp_path: Path) -> None:
    recipe = project(tmp_path, "pos", "topic")
    (tmp_path / "pos.eng.train").write_text("the\tDET\ncat\n")
    (tmp_path / "pos.dan.test").unlink()
    (tmp_path / "topic.eng.dev").write_text("text\tclass\nthe cat\tanimals\n")
    assert {(Path(p.file).name, p.line) for p in problems(lambda: read_corpora(recipe))} == {
        ("pos.eng.train", 2),
        ("pos.dan.test", None),
        ("topic.eng.dev", 1),
    }


def test_a_hub_that_is_not_reached_is_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def load(path: str, **_: object) -> Dataset:
        asked.append(path)
        raise ConnectionError("no route")

    monkeypatch.setattr(datasets, "load_dataset", load)
    block = (
        "{task: pos, format: hub, dataset: a/b, fields: {words: w, labels: l}, "
        "cells: {deu: {train: train, test: test}, fra: {train: more}}}"
    )
    recipe = project(tmp_path, "pos", overrides=(f"data.0={block}",))
    with pytest.raises(UnreachableError, match="cannot be read: no route"):
        read_corpora(recipe)
    assert asked == ["a/b"]


def test_unknown_labels_of_all_files_are_found_at_once(tmp_path: Path) -> None:
    recipe = project(tmp_path, "pos", "ner", "topic")
    (tmp_path / "pos.eng.dev").write_text("the\tDET\n\ncat\tNOON\n")
    (tmp_path / "pos.dan.test").write_text("cat\tNOUN\nold\tADJEC\n")
    (tmp_path / "ner.isl.test").write_text("Anna\tB-PERS\n")
    (tmp_path / "topic.eng.test").write_text("text\tlabel\nthe cat\tanimal\n")
    every = problems(lambda: read_corpora(recipe).encode(tiny_tokenizer("bert"), 32))
    tasks = {problem.key: problem.message for problem in every if problem.key}
    assert list(tasks) == ["tasks.pos.labels", "tasks.ner.labels", "tasks.topic.labels"]
    assert ", ".join(sorted(set(TAGS.values()))) in tasks["tasks.pos.labels"]
    places = {(Path(p.file).name, p.line): p.message for p in every if p.file}
    for place, label, meant in [
        (("pos.eng.dev", 3), "NOON", "NOUN"),
        (("pos.dan.test", 1), "ADJEC", "ADJ"),
        (("ner.isl.test", 1), "B-PERS", "B-PER"),
        (("topic.eng.test", 2), "animal", "animals"),
    ]:
        assert f'"{label}"' in places[place]
        assert f'"{meant}"' in places[place]
    assert len(places) == 4


def test_tags_that_are_not_iob2_are_found_in_all_tasks_at_once(tmp_path: Path) -> None:
    path = write_project(tmp_path, ("ner",))
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    written["tasks"]["dates"] = {"type": "spans"}
    cells = {"eng": {"train": "dates.eng.train"}}
    written["data"].append({"task": "dates", "format": "columns", "cells": cells})
    path.write_text(yaml.safe_dump(written), encoding="utf-8")
    (tmp_path / "ner.eng.train").write_text("Anna\tPER\nin\tO\nOslo\tB-LOC\n")
    (tmp_path / "dates.eng.train").write_text("Monday\tDATE\n")
    every = problems(lambda: read_corpora(load_recipe(path)))
    places = {(Path(p.file).name, p.line): p.message for p in every}
    assert len(places) == 2
    assert '"PER"' in places["ner.eng.train", 1]
    assert "tasks.ner" in places["ner.eng.train", 1]
    assert "tasks.dates" in places["dates.eng.train", 1]


def test_a_task_says_how_its_data_is_marked(tmp_path: Path) -> None:
    marks = ("tasks.ner.scheme=io", "tasks.ner.unlabelled=ignore", "tasks.pos.unlabelled=ignore")
    recipe = project(tmp_path, "pos", "ner", overrides=marks)
    (tmp_path / "ner.eng.train").write_text("Anna\tPER\nLi\tPER\nin\tO\nOslo\tLOC\n")
    for name in ("ner.eng.dev", "ner.eng.test", "ner.isl.test"):
        (tmp_path / name).write_text(f"{name}\tPER\n")
    (tmp_path / "pos.eng.train").write_text("the\tDET\ncat\t_\ndog\tNOUN\n")
    corpora = read_corpora(recipe)
    assert corpora.tasks["ner"].labels == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    assert corpora.tasks["pos"].labels == tuple(sorted(set(TAGS.values())))
    assert corpora.examples["train", Cell("pos", "eng")][0]["labels"] == ["DET", "", "NOUN"]
    # A trained model knows its labels; how the data is marked stands in the recipe.
    known = {
        name: replace(task, scheme="iob2", unlabelled="error")
        for name, task in corpora.tasks.items()
    }
    again = read_corpora(recipe, ["test"], known)
    assert again.tasks == corpora.tasks


def test_text_that_the_tokenizer_knows_nothing_of_is_an_error_and_no_score(tmp_path: Path) -> None:
    recipe = project(tmp_path, "mlm")
    (tmp_path / "mlm.fao.test").write_text("ཀཁག ངཅཆ\n")
    corpora = read_corpora(recipe)
    (problem,) = problems(lambda: corpora.encode(tiny_tokenizer("bert"), 32))
    assert "mlm:fao test" in problem.message


def test_few_training_examples_and_all_others(tmp_path: Path) -> None:
    recipe = write_project(tmp_path, ["pos"])
    counts = {key: len(data) for key, data in read_corpora(load_recipe(recipe)).examples.items()}
    isl = ("train", Cell("pos", "isl"))
    drawn = {}
    for examples in (3, 6):
        few = f"few_shot={{cells: [pos:isl], examples: {examples}, draw: 2}}"
        corpora = read_corpora(load_recipe(recipe, [few, f"training.seed={examples}"]))
        assert corpora.counts() == {**counts, isl: examples}
        drawn[examples] = corpora.examples[isl]["words"][:]
    assert drawn[6][:3] == drawn[3]
    none = load_recipe(recipe, ["few_shot={cells: [pos:isl], examples: 0}"])
    assert isl not in read_corpora(none).counts()
    assert isl not in read_corpora(none).encode(tiny_tokenizer("bert"), 32)


def test_fewer_examples_than_are_asked_for(tmp_path: Path) -> None:
    recipe = write_project(tmp_path, ["pos"])
    few = "few_shot={cells: [pos:isl, pos:eng], examples: 25}"
    every = problems(lambda: read_corpora(load_recipe(recipe, [few])))
    for cell, problem in zip(("pos:eng", "pos:isl"), every, strict=True):
        assert cell in problem.message
        assert "25 of 24 examples" in problem.message


def text_corpus(name: str, *lines: str, limit: int | None = None) -> Dataset:
    """Make a corpus of lines in a file of that name."""
    if lines:
        Path(name).write_text("\n".join(lines) + "\n")
    return read_corpus([Source("text", name, limit=limit)], False)


@pytest.fixture
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


in_folder = pytest.mark.usefixtures("_in_folder")


@in_folder
def test_data_apart_has_no_overlap() -> None:
    assert (
        overlaps({"train": text_corpus("a.txt", "x")}, {"test": text_corpus("b.txt", "y", "z")})
        == []
    )


@in_folder
def test_a_part_in_common_is_counted_and_not_refused() -> None:
    train = {
        "mlm:fao": text_corpus("a.txt", "x", "y", "y", "w"),
        "mlm:isl": text_corpus("c.txt", "y", "z"),
    }
    (shared,) = overlaps(train, {"mlm:fao test": text_corpus("b.txt", "v", "y", "z", "y")})
    assert shared == Overlap(
        name="mlm:fao test",
        file="b.txt",
        examples=4,
        shared=3,
        train_files={"c.txt": 3, "a.txt": 2},
    )
    assert not shared.refused
    for text in ("mlm:fao test", "3 of 4 examples of b.txt", "c.txt (3), a.txt (2)"):
        assert text in str(shared)


@in_folder
def test_a_file_contained_in_several_together_is_refused() -> None:
    train = {"one": text_corpus("a.txt", "x", "u"), "two": text_corpus("b.txt", "y", "v")}
    (shared,) = overlaps(train, {"test": text_corpus("c.txt", "x", "y")})
    assert shared.refused
    assert shared.train_files == {"a.txt": 1, "b.txt": 1}


@in_folder
def test_a_larger_evaluation_file_is_not_contained() -> None:
    (shared,) = overlaps(
        {"train": text_corpus("a.txt", "x")}, {"test": text_corpus("b.txt", "x", "y")}
    )
    assert not shared.refused


@in_folder
def test_one_file_on_both_sides_is_refused_whatever_the_limits() -> None:
    evaluation = text_corpus("a.txt", "x", "y", "z")
    train = text_corpus(str(Path("a.txt").resolve()), limit=1)
    (shared,) = overlaps({"train": train}, {"test": evaluation})
    assert (shared.shared, shared.same_file, shared.refused) == (1, True, True)
    assert "that file is trained on" in str(shared)


@in_folder
def test_each_file_of_a_split_is_looked_at_by_itself(tmp_path: Path) -> None:
    train = {"train": text_corpus("a.txt", "x", "w")}
    text_corpus("in.txt", "x")
    text_corpus("out.txt", "y")
    both = read_corpus([Source("text", "in.txt"), Source("text", "out.txt")], False)
    assert [shared.file for shared in overlaps(train, {"test": both})] == ["in.txt"]


@in_folder
def test_white_space_and_normal_form_and_format_do_not_hide_a_text() -> None:
    Path("words.txt").write_text("Cafe\u0301 O\n! O\n\nNew O\nYork O\n")
    words = read_corpus([Source("columns", "words.txt")], True)
    train = {"mlm": text_corpus("a.txt", "Caf\u00e9!", "New  York", "more")}
    (shared,) = overlaps(train, {"ner": words})
    assert shared.refused


@in_folder
def test_multiword_tokens_do_not_hide_a_sentence() -> None:
    rows = (("1-2", "zum"), ("1", "zu"), ("2", "dem"), ("3", "Haus"))
    lines = ("\t".join((*row, "_", "NOUN", *"______")) for row in rows)
    Path("tree.conllu").write_text("\n".join(lines) + "\n")
    Path("split.txt").write_text("zu O\ndem O\nHaus O\n")
    words, raw = (read_corpus([Source("conllu", "tree.conllu")], level) for level in (True, False))
    split = read_corpus([Source("columns", "split.txt")], True)
    lines_of_text = text_corpus("raw.txt", "zum Haus", "more")
    for train, test in [
        (lines_of_text, words),
        (words, text_corpus("test.txt", "zum Haus")),
        (words, split),
        (raw, split),
        (split, raw),
    ]:
        (shared,) = overlaps({"train": train}, {"test": test})
        assert shared.refused
        assert list(shared.train_files.values()) == [1]


@in_folder
def test_the_two_texts_of_a_pair_count_together(tmp_path: Path) -> None:
    fields = {"text": "a", "pair": "b", "label": "gold"}
    for name, rows in {"train": "p\tq\tyes\n", "test": "p\tr\tyes\n", "swap": "p\tq\tno\n"}.items():
        (tmp_path / name).write_text("a\tb\tgold\n" + rows)
    train, test, swap = (
        read_corpus([Source("tsv", str(tmp_path / name), fields)], False)
        for name in ("train", "test", "swap")
    )
    assert overlaps({"train": train}, {"test": test}) == []
    assert overlaps({"train": train}, {"test": swap})[0].refused


def looked_at(examples: Dataset, task: Task | None = None) -> list[str]:
    task = task or Task("pos", TaskType.TAGGING, ("NOUN", "VERB"))
    return remarks(Corpora({task.name: task}, {("train", Cell(task.name, "eng")): examples}))


ORDINARY = [f"a{number}/NOUN runs/VERB" for number in range(20)]
TOPIC = Task("topic", TaskType.CLASSIFICATION, ("x", "y"))


def texts(*written: str) -> Dataset:
    return corpus([{"text": text, "label": "x"} for text in written])


def test_of_ordinary_data_nothing_is_remarked_on() -> None:
    assert looked_at(tagged(*ORDINARY, "_/NOUN en:b/VERB " * 3)) == []
    assert looked_at(texts("a", "b", ""), TOPIC) == []
    assert looked_at(tagged()) == looked_at(corpus([]), TOPIC) == []


@pytest.mark.parametrize(
    ("examples", "word"),
    [
        (tagged("_/NOUN " * 50, "_/VERB a/NOUN"), "_"),
        (tagged(*(f"en:a{i}/NOUN be-tarask:b/VERB" for i in range(9)), "c/NOUN"), "strip_prefix"),
        (tagged(*ORDINARY, "a/NOUN " * 1001), "made.txt:201"),
        (tagged("a/NOUN b/VERB " * 60), "120"),
        (tagged(*ORDINARY, "a/NO\x07UN"), "NO\\x07UN"),
    ],
)
def test_words_that_cannot_be_meant_so(examples: Dataset, word: str) -> None:
    (remark,) = looked_at(examples)
    assert remark.startswith("pos:eng train: ")
    assert word in remark


def test_texts_that_cannot_be_meant_so() -> None:
    (remark,) = looked_at(texts('"a ""b"" c"', '"d"', '"e" and "f"', 'g ""h""'), TOPIC)
    assert "quoting: minimal" in remark
    assert looked_at(texts('"d"', '"e" and "f"', 'g ""h""'), TOPIC) == []
    (remark,) = looked_at(texts("a", *[" "] * 30), TOPIC)
    assert "empty" in remark
    rows = corpus([{"text": "a", "label": "x\u0000"}])
    (remark,) = looked_at(rows, TOPIC)
    assert "x\\x00" in remark


def test_what_is_odd_in_many_cells_is_said_once() -> None:
    odd = tagged("_/NOUN _/VERB")
    cells: list[Any] = [("train", Cell("pos", f"qa{letter}")) for letter in "abcdef"]
    task = Task("pos", TaskType.TAGGING, ("NOUN", "VERB"))
    (remark,) = remarks(Corpora({"pos": task}, dict.fromkeys(cells, odd)))
    assert remark.startswith("pos:qaa train, pos:qab train, pos:qac train and 3 more: ")


def test_labels_that_are_alike() -> None:
    labels = ("Sports", "sports", "sports ", "travel", "health  care", "Health care")
    first, second = looked_at(texts("a"), replace(TOPIC, labels=labels))
    assert first.startswith("tasks.topic")
    assert '"Health care" and "health  care"' in first + second
    assert '"Sports" and "sports" and "sports "' in first + second
    spans = Task("ner", TaskType.SPANS, ("O", "B-Per", "I-Per", "B-PER", "I-PER"))
    (remark,) = looked_at(tagged("a/O"), spans)
    assert '"PER" and "Per"' in remark
