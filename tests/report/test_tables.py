"""Comparisons as text: what stands in tables, and how each format writes it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from hyperlect.report.compare import ALL
from hyperlect.report.data import gather_runs, read_systems
from hyperlect.report.tables import (
    Chapter,
    as_csv,
    as_json,
    as_latex,
    as_markdown,
    chapters_of,
)

from .experiments import add, list_run
from .runs import CELLS, cell, write_results

GOOD, HALF, BAD = [1] * 40, [1, 0] * 20, [0] * 40
POS, NER, ISL, FAO = ("pos", "eng"), ("ner", "eng"), ("pos", "isl"), ("pos", "fao")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment with a setting and a curve, not all of which has been run."""
    folder = tmp_path_factory.mktemp("tables") / "made"
    for seed, right in ((1, 30), (2, 34), (3, 32)):
        scores = {POS: [1] * right + [0] * (40 - right), NER: HALF, ISL: HALF}
        add(folder, "mixed", "hyperx", seed, {**scores, FAO: HALF})
        add(folder, "mixed", "adapters", seed, {**scores, POS: BAD, FAO: GOOD})
        add(folder, "mixed", "mad-x", seed, {**scores, FAO: None})
    for draw, right in ((1, 20), (2, 28)):
        shots = {ISL: [1] * right + [0] * (40 - right)}
        add(folder, "few", "hyperx", 1, shots, "pos-isl", (5, draw), "mixed")
    list_run(folder, "few", "adapters", 1, "pos-isl", (5, 1), "mixed", ["pos:isl"])
    list_run(folder, "mixed", "finetune", 1)
    return folder


@pytest.fixture(scope="module")
def chapters(folder: Path) -> list[Chapter]:
    return chapters_of(read_systems(folder), "adapters")


def test_settings_come_before_curves(chapters: list[Chapter]) -> None:
    assert [chapter.name for chapter in chapters] == ["mixed", "few"]
    assert [table.title for table in chapters[1].tables] == ["pos"]


def test_columns_are_tasks_with_the_mean_parameters_and_time_last(chapters: list[Chapter]) -> None:
    first = chapters[0].tables[0]
    heads = ["pos accuracy", "ner span F1", ALL, "parameters", "time"]
    assert list(first.frame.columns) == heads
    assert list(first.frame.loc["hyperx", ["parameters", "time"]]) == ["1.50 M", "2.0 min"]


def test_parameters_and_time_are_those_of_all_parts(tmp_path: Path) -> None:
    for seed in (1, 2):
        add(tmp_path, "single", "hyperx", seed, {POS: GOOD}, piece="pos")
        add(tmp_path, "single", "hyperx", seed, {NER: HALF}, piece="ner")
    frame = chapters_of(read_systems(tmp_path))[0].tables[0].frame
    assert list(frame.loc["hyperx", ["parameters", "time"]]) == ["3.00 M", "3.0 min"]


def test_what_was_not_kept_is_a_dash(tmp_path: Path) -> None:
    runs = [write_results(tmp_path / name, name=name, seconds=None) for name in "ab"]
    frame = chapters_of(gather_runs(runs, by_seed=False))[0].tables[0].frame
    assert list(frame.loc["a", ["parameters", "time"]]) == ["–", "–"]


def test_the_legend_says_what_the_marks_mean_and_of_how_much(chapters: list[Chapter]) -> None:
    legend = chapters[0].legend
    assert "3 seeds" in legend
    assert "40 test examples a cell" in legend
    assert "*: differs from adapters" in legend
    assert "†" not in legend  # mad-x has all cells of a kind or none
    assert "2 draws with 1 seed" in chapters[1].legend
    assert "At 0: the runs of mixed that these continue (unseen combination)" in chapters[1].legend


def test_the_legend_says_where_nothing_is_tested_or_left_out(tmp_path: Path) -> None:
    for method in ("hyperx", "adapters"):
        add(tmp_path, "mixed", method, 1, {POS: GOOD, ISL: None if method == "hyperx" else HALF})
    add(tmp_path, "mixed", "adapters", 2, {POS: HALF, ISL: HALF, NER: GOOD})
    (chapter,) = chapters_of(read_systems(tmp_path), "adapters")
    assert "nothing here is tested" in chapter.legend
    assert "ner:eng" in chapter.legend
    assert "1 to 2 seeds" in chapter.legend


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    runs = [write_results(tmp_path / str(n), [cell(*CELLS[n])], name=str(n)) for n in (0, 1)]
    (chapter,) = chapters_of(gather_runs(runs, by_seed=False))
    assert (chapter.rows, chapter.tables) == ([], [])
    assert "nothing can be compared" in chapter.legend
    add(tmp_path / "curve", "few", "hyperx", 1, {ISL: HALF}, "isl", (5, 1))
    add(tmp_path / "curve", "few", "adapters", 1, {FAO: HALF}, "fao", (5, 1))
    (chapter,) = chapters_of(read_systems(tmp_path / "curve"))
    assert (chapter.rows, chapter.tables) == ([], [])
    assert "nothing can be compared" in chapter.legend


def test_json_has_every_row_with_its_kind_and_counts(chapters: list[Chapter]) -> None:
    data = json.loads(as_json(chapters))
    needed = {
        "setting",
        "method",
        "task",
        "kind",
        "stratum",
        "metric",
        "mean",
        "std",
        "seeds",
        "cells",
    }
    needed |= {"test_examples", "not_applicable", "against_baseline"}
    of_curve = [row for row in data if row["setting"] == "few"]
    assert all(row.keys() == needed for row in data if row["setting"] == "mixed")
    assert all(row.keys() == needed | {"examples", "draws"} for row in of_curve)
    assert [(row["examples"], row["draws"]) for row in of_curve] == [(0, 0), (5, 2)]
    assert {row["test_examples"] for row in data if row["task"] == ALL and row["cells"]} == {80}
    tested = [row["against_baseline"] for row in data if row["against_baseline"]]
    assert all(0 < difference["p"] <= 1 for difference in tested)


def test_csv_has_every_score_of_every_run(folder: Path) -> None:
    lines = list(csv.DictReader(as_csv(read_systems(folder).cells).splitlines()))
    assert len(lines) == 3 * 3 * 4 + 2
    assert [line["score"] for line in lines if line["method"] == "mad-x"].count("") == 3
    places = {(line["setting"], line["few_shot_examples"], line["few_shot_draw"]) for line in lines}
    assert places == {("mixed", "", ""), ("few", "5", "1"), ("few", "5", "2")}
    assert {line["examples"] for line in lines} == {"40"}
    assert lines[0] == {
        "setting": "mixed", "method": "hyperx", "seed": "1", "task": "pos", "kind": "supervised",
        "language": "eng", "known_to_encoder": "", "related": "", "metric": "accuracy",
        "score": "75.000", "examples": "40",
        "few_shot_examples": "", "few_shot_draw": "",
    }  # fmt: skip


def test_markdown_has_a_table_a_kind_and_a_task_of_a_curve(chapters: list[Chapter]) -> None:
    text = as_markdown("made", chapters)
    assert text.startswith(
        "# made\n\n## mixed\n\n### supervised (cells: pos 1, ner 1)\n\n| method |"
    )
    assert "| hyperx | **80.0 ± 5.0**\\* |" in text
    assert "| mad-x | n/a |" in text
    assert "No results yet: finetune, seed 1." in text
    assert "### pos (accuracy by labelled examples; cells: 1)\n\n| method | 0 | 5 |" in text
    assert "| hyperx | 50.0 | 60.0 ± 14.1 |" in text
    assert "No results yet: adapters, 1 run." in text


def test_a_row_of_markdown_stays_a_row_whatever_a_run_is_called(tmp_path: Path) -> None:
    runs = [write_results(tmp_path / str(n), name=name) for n, name in enumerate(("a|b", "c*d*"))]
    text = as_markdown("made", chapters_of(gather_runs(runs, by_seed=False)))
    assert r"| a\|b |" in text
    assert r"| c\*d\* |" in text


def test_latex_has_the_same_tables_with_captions(chapters: list[Chapter]) -> None:
    text = as_latex(chapters)
    assert r"\textbf{80.0 $\pm$ 5.0}*" in text
    assert text.count(r"\begin{tabular}{lr") == text.count(r"\toprule") == 4
    assert r"\caption{few: pos (accuracy by labelled examples; cells: 1). Scores" in text
    assert r"p $<$ 0.05" in text


def test_latex_is_escaped(tmp_path: Path) -> None:
    add(tmp_path, "a_b & 50 %", "hyper_x", 1, {POS: GOOD})
    text = as_latex(chapters_of(read_systems(tmp_path)))
    assert r"a\_b \& 50 \%: supervised" in text
    assert r"hyper\_x & 100" in text


STRATA = {"eng": (True, True), "isl": (True, True), "fao": (False, True), "dan": (True, False)}


@pytest.fixture
def divided(tmp_path: Path) -> Path:
    right, dan = [1, 0, 1, 1], ("pos", "dan")
    for method in ("hyperx", "adapters"):
        scores = {("pos", "eng"): right, ("pos", "fao"): right, dan: right, ("ner", "fao"): right}
        add(tmp_path / "divided", "s", method, 1, scores, strata=STRATA)
    return tmp_path / "divided"


def test_strata_stand_behind_their_kind_in_every_format(divided: Path) -> None:
    systems = read_systems(divided)
    (chapter,) = chapters_of(systems)
    supervised, untouched = chapter.tables
    assert supervised.note == "cells: pos 1; known to the encoder, related"
    assert supervised.strata == ()  # it would say the same again
    titles = [(table.title.partition(": ")[2], table.note) for table in untouched.strata]
    assert titles == [
        ("known to the encoder, unrelated", "cells: pos 1"),
        ("new to the encoder, related", "cells: pos 1, ner 1"),
    ]
    columns = [list(table.frame) for table in untouched.strata]
    assert columns == [["pos accuracy", "ner span F1", "all"]] * 2
    for text in (as_markdown("made", [chapter]), as_latex([chapter])):
        assert text.index("new to the encoder, related") > text.index("known to the encoder, unrel")
    assert {row["stratum"] for row in json.loads(as_json([chapter])) if row["task"] == "ner"} == {
        "", "new to the encoder, related",
    }  # fmt: skip
    lines = csv.DictReader(as_csv(systems.cells).splitlines())
    assert {(x["language"], x["known_to_encoder"], x["related"]) for x in lines} == {
        ("eng", "True", "True"), ("fao", "False", "True"), ("dan", "True", "False"),
    }  # fmt: skip
