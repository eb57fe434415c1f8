"""Results: averages by kind, the score that selects, and results.json."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hyperlect.errors import RunError
from hyperlect.evaluation import (
    Average,
    CellResult,
    averages,
    cell_results,
    read_results,
    results_data,
    selection_score,
    write_results,
)
from hyperlect.grid import Kind


def result(
    cell: str, score: float, kind: Kind = Kind.SUPERVISED, metric: str = "accuracy"
) -> CellResult:
    task, language = cell.split(":")
    return CellResult(task, language, str(kind), metric, score, 10, 90, "words", {"macro F1": 1.5})


CELLS = [
    result("pos:eng", 90.0),
    result("ner:eng", 50.0, metric="span F1"),
    result("pos:isl", 80.0),
    result("ner:isl", 20.0, Kind.UNSEEN_COMBINATION, "span F1"),
    result("pos:fao", 60.0, Kind.TEXT_ONLY),
    result("pos:dan", 70.0, Kind.UNTOUCHED),
    result("mlm:fao", 12.0, metric="perplexity"),
]


def test_averages_never_mix_tasks_or_kinds() -> None:
    assert averages(CELLS) == [
        Average("pos", "supervised", "accuracy", 85.0, 2),
        Average("pos", "unseen language, text only", "accuracy", 60.0, 1),
        Average("pos", "unseen language, untouched", "accuracy", 70.0, 1),
        Average("ner", "supervised", "span F1", 50.0, 1),
        Average("ner", "unseen combination", "span F1", 20.0, 1),
        Average("mlm", "supervised", "perplexity", 12.0, 1),
    ]


def test_tasks_count_alike_in_the_selection_however_many_cells_they_have() -> None:
    assert selection_score(CELLS[:3]) == pytest.approx((85 + 50) / 2)


def test_perplexity_has_a_say_in_the_selection_only_where_it_is_alone() -> None:
    assert selection_score(CELLS) == selection_score(CELLS[:-1])
    one, other = (
        result("mlm:fao", 12.0, metric="perplexity"),
        result("mlm:isl", 8, metric="perplexity"),
    )
    assert selection_score([one, other]) == -10  # less is better


WITHOUT = [
    replace(result("pos:dan", 1.0, Kind.UNTOUCHED), score=None, units=0, note="no adapter"),
    replace(result("ner:fao", 1.0, Kind.TEXT_ONLY, "span F1"), score=None, note="no adapter"),
]


def test_what_is_not_applicable_counts_in_no_mean_and_is_counted() -> None:
    found = {(a.task, a.kind): a for a in averages([*CELLS, *WITHOUT])}
    untouched = found["pos", "unseen language, untouched"]
    assert (untouched.mean, untouched.cells, untouched.not_applicable) == (70.0, 1, 1)
    text = found["ner", "unseen language, text only"]
    assert (text.mean, text.cells, text.not_applicable) == (None, 0, 1)
    assert selection_score([*CELLS, *WITHOUT]) == selection_score(CELLS)
    assert selection_score(WITHOUT) is None


def test_what_is_not_applicable_comes_back_from_the_file(tmp_path: Path) -> None:
    write_results(tmp_path, results_data({}, [*CELLS, *WITHOUT]))
    assert '"score": null' in (tmp_path / "results.json").read_text()
    assert cell_results(read_results(tmp_path)) == [*CELLS, *WITHOUT]


def test_without_cells_there_is_no_selection_score() -> None:
    assert selection_score([]) is None


def test_results_come_back_from_their_file(tmp_path: Path) -> None:
    data = results_data({"name": "mixed", "seed": 1}, CELLS)
    write_results(tmp_path, data)
    assert read_results(tmp_path) == json.loads((tmp_path / "results.json").read_text()) == data
    assert cell_results(read_results(tmp_path)) == CELLS
    assert data["format_version"] == 1
    assert data["name"] == "mixed"


def test_every_number_in_the_file_stands_with_its_kind(tmp_path: Path) -> None:
    data = results_data({}, CELLS)
    for cell in data["cells"]:
        assert {"task", "language", "kind", "metric", "examples", "unit"} <= cell.keys()
    for average in data["averages"]:
        assert {"task", "kind", "metric", "cells"} <= average.keys()


def test_a_run_without_results_says_how_to_make_them(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=f"hyperlect evaluate {tmp_path}"):
        read_results(tmp_path)


def test_results_of_another_version_are_refused(tmp_path: Path) -> None:
    write_results(tmp_path, {**results_data({}, []), "format_version": 2})
    with pytest.raises(RunError, match="format_version 2"):
        read_results(tmp_path)
