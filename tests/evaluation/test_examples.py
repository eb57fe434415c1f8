"""What each example adds to a score."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from hyperlect.errors import RunError
from hyperlect.evaluation import evaluate_run, score
from hyperlect.evaluation.examples import FILE, read_examples
from hyperlect.evaluation.metrics import score_trees
from hyperlect.evaluation.results import read_results
from hyperlect.grid import Cell
from hyperlect.tasks import Task, TaskType

from ..project import train, write_project


def drawn(labels: list[str], length: int | None, seed: int) -> list[list[str]]:
    source = random.Random(seed)
    return [[source.choice(labels) for _ in range(length or i % 5 + 1)] for i in range(12)]


@pytest.mark.parametrize(
    ("task_type", "labels", "length"),
    [
        (TaskType.TAGGING, ["A", "B"], None),
        (TaskType.SPANS, ["O", "B-X", "I-X", "B-Y"], None),
        (TaskType.CLASSIFICATION, ["A", "B", "C"], 1),
    ],
)
def test_parts_make_the_score(task_type: TaskType, labels: list[str], length: int | None) -> None:
    # The lengths of both are a function of the place, so gold and predicted agree in them.
    found = score(Task("t", task_type), drawn(labels, length, 1), drawn(labels, length, 2))
    right, of = map(sum, zip(*found.parts, strict=True))
    assert len(found.parts) == 12
    assert 0 < found.value < 100
    assert found.value == pytest.approx(100 * right / of)


def test_parts_of_trees() -> None:
    gold = [([2, 0], ["det", "root"]), ([0, 1, 1], ["root", "obj", "punct"])]
    predicted = [([2, 0], ["det", "root"]), ([0, 1, 2], ["root", "nsubj", "punct"])]
    found = score_trees(gold, predicted)
    assert list(found.parts) == [(2, 2), (1, 3)]
    assert found.value == pytest.approx(60)


def test_a_run_keeps_them(tmp_path: Path) -> None:
    recipe = write_project(tmp_path, ("pos", "ner", "topic", "dep", "mlm"))
    run = train(recipe, tmp_path / "run")
    evaluate_run(run)
    examples = read_examples(run)
    results = read_results(run)
    scored = {Cell(c.task, c.language): c for c in results.cells if c.task != "mlm"}
    assert examples.keys() == scored.keys()
    for cell, (right, of) in examples.items():
        assert len(of) == scored[cell].examples
        assert 100 * right.sum() / of.sum() == pytest.approx(scored[cell].score)
    told = json.loads((run / "training.json").read_text())["trained_parameters"]
    assert results.trained_parameters == told > 1000


def test_no_file_is_no_fault_and_a_malformed_one_is(tmp_path: Path) -> None:
    assert read_examples(tmp_path) == {}
    (tmp_path / FILE).write_text('{"format_version": 1, "cells": {"pos:eng": [[1], [2]]}}')
    found = read_examples(tmp_path)
    assert np.array_equal(found[Cell("pos", "eng")], [[1], [2]])
    for text, said in (
        ("{", "malformed"),
        ('{"format_version": 2, "cells": {}}', "format_version 2"),
        ('{"format_version": 1, "cells": {"pos:eng": [1, 2]}}', "without two lists"),
    ):
        (tmp_path / FILE).write_text(text)
        with pytest.raises(RunError, match=said):
            read_examples(tmp_path)
