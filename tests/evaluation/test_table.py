"""The table of a terminal: every score with its mark, and the marks explained."""

from __future__ import annotations

import io

from rich.console import Console

from hyperlect.evaluation import CellResult, results_data, results_table
from hyperlect.grid import Kind


def shown(*cells: CellResult) -> str:
    console = Console(file=io.StringIO(), width=120, highlight=False)
    console.print(results_table(results_data({"name": "mixed"}, cells)))
    return console.file.getvalue()  # type: ignore[attr-defined]


def cell(task: str, language: str, kind: Kind, score: float, examples: int) -> CellResult:
    metric = "span F1" if task == "ner" else "accuracy"
    return CellResult(task, language, str(kind), metric, score, examples, 99, "words")


CELLS = (
    cell("pos", "eng", Kind.SUPERVISED, 91.26, 8),
    cell("ner", "eng", Kind.SUPERVISED, 55.0, 7),
    cell("ner", "isl", Kind.UNSEEN_COMBINATION, 33.0, 6),
    cell("pos", "fao", Kind.TEXT_ONLY, 44.0, 5),
    cell("pos", "dan", Kind.UNTOUCHED, 22.0, 4),
)


def test_a_score_stands_with_its_mark_and_its_number_of_examples() -> None:
    rows = [" ".join(line.replace("│", " ").split()) for line in shown(*CELLS).splitlines()]
    assert "eng English 91.3 ● 8 55.0 ● 7" in rows
    assert "isl Icelandic 33.0 ◐ 6" in rows
    assert "fao Faroese 44.0 ◔ 5" in rows
    assert "dan Danish 22.0 ○ 4" in rows


def test_averages_are_listed_by_kind() -> None:
    rows = [" ".join(line.replace("│", " ").split()) for line in shown(*CELLS).splitlines()]
    assert "ner ● supervised span F1 55.0 1" in rows
    assert "ner ◐ unseen combination span F1 33.0 1" in rows
    assert "pos ○ unseen language, untouched accuracy 22.0 1" in rows


def test_only_the_kinds_that_occur_are_explained() -> None:
    text = shown(CELLS[0], CELLS[2])
    assert f"◐ unseen combination: {Kind.UNSEEN_COMBINATION.meaning}" in text
    assert Kind.TEXT_ONLY.meaning not in text
    assert Kind.UNTOUCHED.meaning not in text


def test_las_stands_with_uas() -> None:
    tree = CellResult(
        "dep", "isl", str(Kind.SUPERVISED), "LAS", 61.26, 8, 99, "words", {"UAS": 70.04}
    )
    text = shown(tree, CELLS[0])
    rows = [" ".join(line.replace("│", " ").split()) for line in text.splitlines()]
    assert "LAS (UAS)" in text
    assert "isl Icelandic 61.3 (70.0) ● 8" in rows
    assert "eng English 91.3 ● 8" in rows


def test_what_is_not_applicable_is_said_and_why() -> None:
    without = CellResult(
        "pos", "deu", str(Kind.UNTOUCHED), "accuracy", None, 9, 0, "", note="no adapter for it"
    )
    alone = CellResult("ner", "fao", str(Kind.TEXT_ONLY), "span F1", None, 3, 0, "", note="no")
    text = shown(*CELLS, without, alone)
    rows = [" ".join(line.replace("│", " ").split()) for line in text.splitlines()]
    assert "deu German n/a ○ 9" in rows
    assert "pos ○ unseen language, untouched accuracy 22.0 1 (1 n/a)" in rows
    assert "ner ◔ unseen language, text only span F1 n/a 0 (1 n/a)" in rows
    assert rows.count("n/a: no adapter for it") == 1


def test_uas_stands_in_the_heading_even_if_the_last_tree_bank_is_not_applicable() -> None:
    tree = CellResult("dep", "isl", str(Kind.SUPERVISED), "LAS", 61.0, 8, 9, "words", {"UAS": 70.0})
    without = CellResult("dep", "dan", str(Kind.UNTOUCHED), "LAS", None, 8, 0, "", note="none")
    assert "LAS (UAS)" in shown(tree, without)
