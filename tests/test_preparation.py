"""From a recipe to encoded data."""

from __future__ import annotations

from pathlib import Path

import datasets
import pytest
import yaml
from datasets import Dataset

from hyperlect.errors import DataError, UnreachableError
from hyperlect.grid import Cell
from hyperlect.preparation import read_corpora
from hyperlect.recipe import Recipe, load_recipe
from hyperlect.tasks import Task, TaskType

from .project import COUNTS, LONG, TAGS, write_project
from .tiny import tiny_tokenizer


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
    assert rows.keys() > corpora.encode(tiny_tokenizer("bert"), 32, ["test"]).keys()


@pytest.mark.parametrize("split", ["dev", "test"])
def test_training_data_that_contains_an_evaluation_file_is_refused(
    tmp_path: Path, split: str
) -> None:
    """Under another name, in another order, with other white space, among other sentences."""
    recipe = project(tmp_path, "pos")
    evaluated, trained = tmp_path / f"pos.eng.{split}", tmp_path / "pos.isl.train"
    copied = "\n\n".join([*sentences(trained), *reversed(sentences(evaluated))])
    trained.write_text(copied + "\n", encoding="utf-8")
    with pytest.raises(DataError, match="take it out of one of them") as error:
        read_corpora(recipe)
    said = str(error.value)
    assert str(evaluated) in said
    assert str(trained) in said
    assert f"pos:eng {split}" in said


def test_evaluation_data_of_one_task_must_not_be_trained_on_for_another(tmp_path: Path) -> None:
    recipe = project(tmp_path, "pos", "mlm")
    words = [" ".join(line.split("\t")[0] for line in sentence.splitlines())
             for sentence in sentences(tmp_path / "pos.dan.test")]  # fmt: skip
    (tmp_path / "mlm.fao.train").write_text("\n".join(words) + "\n")
    with pytest.raises(DataError) as error:
        read_corpora(recipe)
    assert "pos.dan.test" in str(error.value)
    assert "mlm.fao.train" in str(error.value)


def test_partial_overlap_is_counted(tmp_path: Path) -> None:
    recipe = project(tmp_path, "pos")
    trained = tmp_path / "pos.isl.train"
    shared = sentences(tmp_path / "pos.eng.test")[:3]
    trained.write_text("\n\n".join([*sentences(trained), *shared]) + "\n")
    (overlap,) = read_corpora(recipe).overlaps
    assert (overlap.name, overlap.shared, overlap.examples) == ("pos:eng test", 3, 8)
    assert overlap.train_files == {str(trained): 3}


def test_the_faults_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    recipe = project(tmp_path, "pos", "topic")
    (tmp_path / "pos.eng.train").write_text("the\tDET\ncat\n")
    (tmp_path / "pos.dan.test").unlink()
    (tmp_path / "topic.eng.dev").write_text("text\tclass\nthe cat\tanimals\n")
    with pytest.raises(DataError, match="The data cannot be read:") as error:
        read_corpora(recipe)
    said = str(error.value)
    assert "pos.eng.train:2" in said
    assert "pos.dan.test" in said
    assert "topic.eng.dev" in said


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


def test_unknown_labels_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    recipe = project(tmp_path, "pos", "ner", "topic")
    (tmp_path / "pos.eng.dev").write_text("the\tDET\n\ncat\tNOON\n")
    (tmp_path / "pos.dan.test").write_text("cat\tNOUN\nold\tADJEC\n")
    (tmp_path / "ner.isl.test").write_text("Anna\tB-PERS\n")
    (tmp_path / "topic.eng.test").write_text("text\tlabel\nthe cat\tanimal\n")
    with pytest.raises(DataError) as error:
        read_corpora(recipe).encode(tiny_tokenizer("bert"), 32)
    said = str(error.value)
    for place, label, meant in [
        ("pos.eng.dev:3", "NOON", "NOUN"),
        ("pos.dan.test:1", "ADJEC", "ADJ"),
        ("ner.isl.test:1", "B-PERS", "B-PER"),
        ("topic.eng.test:2", "animal", "animals"),
    ]:
        (line,) = [line for line in said.splitlines() if place in line]
        assert f'"{label}"' in line
        assert f'Did you mean "{meant}"' in line
    assert f"Known: {', '.join(sorted(set(TAGS.values())))}" in said
    assert "Known: animals, people" in said


def test_tags_that_are_not_iob2_are_told_of(tmp_path: Path) -> None:
    recipe = project(tmp_path, "ner")
    (tmp_path / "ner.eng.train").write_text("Anna\tPER\nin\tO\nOslo\tB-LOC\n")
    with pytest.raises(DataError, match=r'ner\.eng\.train:1.*"PER"'):
        read_corpora(recipe)


def test_tags_that_are_not_iob2_are_told_of_for_all_tasks_at_once(tmp_path: Path) -> None:
    path = write_project(tmp_path, ("ner",))
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    written["tasks"]["dates"] = {"type": "spans"}
    cells = {"eng": {"train": "dates.eng.train"}}
    written["data"].append({"task": "dates", "format": "columns", "cells": cells})
    path.write_text(yaml.safe_dump(written), encoding="utf-8")
    (tmp_path / "ner.eng.train").write_text("Anna\tPER\n")
    (tmp_path / "dates.eng.train").write_text("Monday\tDATE\n")
    with pytest.raises(DataError) as error:
        read_corpora(load_recipe(path))
    said = str(error.value)
    assert said.count("must be IOB2 tags") == 2
    for task, label in {"ner": "PER", "dates": "DATE"}.items():
        assert f"  - task {task}: Labels of spans" in said
        assert f"{task}.eng.train:1: word 1" in said
        assert f'has the label "{label}"' in said


def test_text_that_the_tokenizer_knows_nothing_of_is_an_error_and_no_score(tmp_path: Path) -> None:
    recipe = project(tmp_path, "mlm")
    (tmp_path / "mlm.fao.test").write_text("ཀཁག ངཅཆ\n")
    corpora = read_corpora(recipe)
    with pytest.raises(DataError, match="mlm:fao test: the tokenizer knows nothing of this text"):
        corpora.encode(tiny_tokenizer("bert"), 32)
    assert corpora.encode(tiny_tokenizer("bert"), 32, ["train", "dev"])


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
    with pytest.raises(DataError) as error:
        read_corpora(load_recipe(recipe, [few]))
    for cell in ("pos:isl", "pos:eng"):
        assert f"{cell} train: there are 24 examples, and few_shot asks for 25" in str(error.value)
