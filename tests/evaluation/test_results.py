"""Results: averages by kind, the score that selects, and the files of a run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hyperlect.errors import RunError
from hyperlect.evaluation import (
    CellResult,
    Results,
    read_results,
    selection_score,
    selection_text,
)
from hyperlect.evaluation.results import averages, read_examples, write_results
from hyperlect.grid import Cell, Kind
from hyperlect.run_folder import EXAMPLES, RunState, run_state


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


def test_an_average_is_of_one_task_and_kind() -> None:
    assert [(a.task, str(a.kind), a.metric, a.mean, a.cells) for a in averages(CELLS)] == [
        ("pos", "supervised", "accuracy", 85.0, 2),
        ("pos", "unseen language, text only", "accuracy", 60.0, 1),
        ("pos", "unseen language, untouched", "accuracy", 70.0, 1),
        ("ner", "supervised", "span F1", 50.0, 1),
        ("ner", "unseen combination", "span F1", 20.0, 1),
        ("mlm", "supervised", "perplexity", 12.0, 1),
    ]


def test_an_average_has_those_of_its_strata() -> None:
    divided = [
        result("pos:dan", 70.0).model_copy(update={"known_to_encoder": True, "related": True}),
        result("pos:fao", 60.0).model_copy(update={"known_to_encoder": False, "related": True}),
        result("pos:mlt", 20.0).model_copy(update={"known_to_encoder": False, "related": True}),
        result("pos:qaa", 30.0),
        result("pos:isl", 50.0, Kind.UNTOUCHED),
    ]
    supervised, untouched = averages([*divided, divided[0].model_copy(update={"score": None})])
    assert (supervised.mean, supervised.cells, supervised.stratum) == (45, 4, "")
    assert [(a.stratum, a.mean, a.cells, a.not_applicable) for a in supervised.strata] == [
        ("known to the encoder, related", 70, 1, 1),
        ("new to the encoder, related", 40, 2, 0),
        ("not known", 30, 1, 0),
    ]
    assert untouched.strata == ()  # nothing is known of its cells


def test_tasks_count_equally_in_the_selection() -> None:
    assert selection_score(CELLS[:3]) == pytest.approx((85 + 50) / 2)


def test_perplexity_selects_only_if_there_is_nothing_else() -> None:
    assert selection_score(CELLS) == selection_score(CELLS[:-1])
    one, other = (
        result("mlm:fao", 12.0, metric="perplexity"),
        result("mlm:isl", 8, metric="perplexity"),
    )
    assert selection_score([one, other]) == -10  # lower is better
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


def test_cells_without_a_score_count_in_no_mean() -> None:
    by_group = {(a.task, a.kind): a for a in averages([*CELLS, *WITHOUT])}
    untouched = by_group["pos", Kind.UNTOUCHED]
    assert (untouched.mean, untouched.cells, untouched.not_applicable) == (70.0, 1, 1)
    text = by_group["ner", Kind.TEXT_ONLY]
    assert (text.mean, text.cells, text.not_applicable) == (None, 0, 1)
    assert selection_score([*CELLS, *WITHOUT]) == selection_score(CELLS)
    assert selection_score(WITHOUT) is None


def test_cells_without_a_score_come_back_from_the_file(tmp_path: Path) -> None:
    write_results(tmp_path, results([*CELLS, *WITHOUT]))
    assert '"score": null' in (tmp_path / "results.json").read_text()
    assert read_results(tmp_path).cells == (*CELLS, *WITHOUT)


def test_without_cells_there_is_no_selection_score() -> None:
    assert selection_score([]) is None


def test_results_come_back_from_the_file(tmp_path: Path) -> None:
    written = results(CELLS)
    write_results(tmp_path, written)
    assert read_results(tmp_path) == written
    assert run_state(tmp_path) is RunState.DONE
    data = json.loads((tmp_path / "results.json").read_text())
    assert data == written.model_dump(mode="json")
    assert (data["format_version"], data["name"], data["seed"]) == (1, "mixed", 1)
    assert data["averages"] == [average.model_dump(mode="json") for average in averages(CELLS)]


def test_counts_of_examples_have_a_file_of_their_own(tmp_path: Path) -> None:
    cell = CELLS[0].model_copy(update={"by_example": ((1, 2), (3, 3))})
    write_results(tmp_path, results([cell, CELLS[-1]]))
    assert "by_example" not in (tmp_path / "results.json").read_text()
    assert read_results(tmp_path).cells == (CELLS[0], CELLS[-1])
    counts = read_examples(tmp_path)
    assert counts.keys() == {Cell("pos", "eng")}
    assert np.array_equal(counts[Cell("pos", "eng")], [[1, 3], [2, 3]])


def test_a_run_may_lack_counts_of_examples(tmp_path: Path) -> None:
    assert read_examples(tmp_path) == {}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("{", "malformed"),
        ('{"format_version": 2, "cells": {}}', "format_version 2"),
        ('{"format_version": 1}', "cells"),
        ('{"format_version": 1, "cells": {"pos:eng": [1, 2]}}', "two lists"),
        ('{"format_version": 1, "cells": {"pos": [[1], [2]]}}', "malformed"),
        ('{"format_version": 1, "cells": {"pos:eng": [[1], ["a"]]}}', "malformed"),
    ],
)
def test_a_malformed_file_of_counts_is_refused(tmp_path: Path, text: str, name: str) -> None:
    (tmp_path / EXAMPLES).write_text(text)
    with pytest.raises(RunError, match=name) as error:
        read_examples(tmp_path)
    assert EXAMPLES in str(error.value)


def test_every_number_in_the_file_has_its_kind() -> None:
    data = results(CELLS).model_dump(mode="json")
    for cell in data["cells"]:
        assert {"task", "language", "kind", "metric", "examples", "unit"} <= cell.keys()
    for average in data["averages"]:
        assert {"task", "kind", "metric", "cells"} <= average.keys()


def test_a_run_without_results_names_the_command_that_makes_them(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=f"hyperlect evaluate {tmp_path}"):
        read_results(tmp_path)


def test_results_of_another_version_are_refused(tmp_path: Path) -> None:
    data = {**results(CELLS).model_dump(mode="json"), "format_version": 2}
    (tmp_path / "results.json").write_text(json.dumps(data))
    with pytest.raises(RunError, match="format_version"):
        read_results(tmp_path)


def test_all_problems_of_a_file_are_named_at_once(tmp_path: Path) -> None:
    data = results(CELLS).model_dump(mode="json")
    data["cells"][0]["kind"], data["cells"][1]["examples"] = "sort of known", "many"
    path = tmp_path / "results.json"
    path.write_text(json.dumps(data))
    with pytest.raises(RunError) as error:
        read_results(tmp_path)
    problems = error.value.problems
    assert [problem.key for problem in problems] == ["cells.0.kind", "cells.1.examples"]
    assert {problem.file for problem in problems} == {str(path)}
    path.write_text("{")
    with pytest.raises(RunError, match=r"results\.json"):
        read_results(tmp_path)
