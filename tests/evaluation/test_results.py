"""Results: averages by kind, the score that selects, and results.json."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hyperlect.errors import RunError
from hyperlect.evaluation import (
    CellResult,
    Results,
    averages,
    read_results,
    selection_score,
    selection_text,
    write_results,
)
from hyperlect.grid import Kind


def result(
    cell: str, score: float, kind: Kind = Kind.SUPERVISED, metric: str = "accuracy"
) -> CellResult:
    task, language = cell.split(":")
    return CellResult(
        task=task,
        language=language,
        kind=kind,
        metric=metric,
        score=score,
        examples=10,
        units=90,
        unit="words",
        details={"macro F1": 1.5},
    )


def results(cells: list[CellResult]) -> Results:
    about = {"name": "mixed", "method": "hyperx", "backbone": "builtin:e5-small", "seed": 1}
    return Results(**about, cells=tuple(cells))  # type: ignore[arg-type]


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
    assert [(a.task, str(a.kind), a.metric, a.mean, a.cells) for a in averages(CELLS)] == [
        ("pos", "supervised", "accuracy", 85.0, 2),
        ("pos", "unseen language, text only", "accuracy", 60.0, 1),
        ("pos", "unseen language, untouched", "accuracy", 70.0, 1),
        ("ner", "supervised", "span F1", 50.0, 1),
        ("ner", "unseen combination", "span F1", 20.0, 1),
        ("mlm", "supervised", "perplexity", 12.0, 1),
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
    assert selection_text(-10) == "perplexity 10.00"
    assert selection_text(71.234) == "average 71.23"
    assert selection_text(0) == "average 0.00"


WITHOUT = [
    result(cell, 1.0, kind, metric).model_copy(update={"score": None, "note": "no adapter"})
    for cell, kind, metric in (
        ("pos:dan", Kind.UNTOUCHED, "accuracy"),
        ("ner:fao", Kind.TEXT_ONLY, "span F1"),
    )
]


def test_what_is_not_applicable_counts_in_no_mean_and_is_counted() -> None:
    found = {(a.task, a.kind): a for a in averages([*CELLS, *WITHOUT])}
    untouched = found["pos", Kind.UNTOUCHED]
    assert (untouched.mean, untouched.cells, untouched.not_applicable) == (70.0, 1, 1)
    text = found["ner", Kind.TEXT_ONLY]
    assert (text.mean, text.cells, text.not_applicable) == (None, 0, 1)
    assert selection_score([*CELLS, *WITHOUT]) == selection_score(CELLS)
    assert selection_score(WITHOUT) is None


def test_what_is_not_applicable_comes_back_from_the_file(tmp_path: Path) -> None:
    write_results(tmp_path, results([*CELLS, *WITHOUT]))
    assert '"score": null' in (tmp_path / "results.json").read_text()
    assert read_results(tmp_path).cells == (*CELLS, *WITHOUT)


def test_without_cells_there_is_no_selection_score() -> None:
    assert selection_score([]) is None


def test_results_come_back_from_their_file(tmp_path: Path) -> None:
    written = results(CELLS)
    write_results(tmp_path, written)
    assert read_results(tmp_path) == written
    data = json.loads((tmp_path / "results.json").read_text())
    assert data == written.data()
    assert (data["format_version"], data["name"], data["seed"]) == (1, "mixed", 1)
    assert data["averages"] == [average.model_dump(mode="json") for average in averages(CELLS)]


def test_counts_of_examples_are_not_in_the_file(tmp_path: Path) -> None:
    cell = CELLS[0].model_copy(update={"parts": ((1, 2), (3, 3))})
    write_results(tmp_path, results([cell]))
    assert "parts" not in (tmp_path / "results.json").read_text()
    assert read_results(tmp_path).cells == (CELLS[0],)


def test_a_cell_of_other_data_or_another_kind_is_another_cell() -> None:
    cell = CELLS[0]
    assert cell.key == cell.model_copy(update={"score": 12.0, "details": {}}).key
    changes = ({"examples": 11}, {"units": 91}, {"kind": Kind.UNTOUCHED}, {"metric": "macro F1"})
    assert len({cell.key, *(cell.model_copy(update=change).key for change in changes)}) == 5
    assert [cell.key.units for cell in WITHOUT] == [None, None]


def test_every_number_in_the_file_stands_with_its_kind() -> None:
    data = results(CELLS).data()
    for cell in data["cells"]:
        assert {"task", "language", "kind", "metric", "examples", "unit"} <= cell.keys()
    for average in data["averages"]:
        assert {"task", "kind", "metric", "cells"} <= average.keys()


def test_a_run_without_results_says_how_to_make_them(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=f"hyperlect evaluate {tmp_path}"):
        read_results(tmp_path)


def test_results_of_another_version_are_refused(tmp_path: Path) -> None:
    data = {**results(CELLS).data(), "format_version": 2}
    (tmp_path / "results.json").write_text(json.dumps(data))
    with pytest.raises(RunError, match="format_version: Input should be 1"):
        read_results(tmp_path)


def test_all_faults_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    data = results(CELLS).data()
    data["cells"][0]["kind"], data["cells"][1]["examples"] = "sort of known", "many"
    (tmp_path / "results.json").write_text(json.dumps(data))
    with pytest.raises(RunError, match=r"(?s)cells\.0\.kind.*cells\.1\.examples"):
        read_results(tmp_path)
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(RunError, match="not results that can be read"):
        read_results(tmp_path)
