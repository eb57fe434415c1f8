"""The table of a terminal: every score with its mark, and the marks explained."""

from __future__ import annotations

import io

from rich.console import Console

from hyperlect.evaluation import CellResult, Results, results_table
from hyperlect.grid import Kind


def shown(*cells: CellResult) -> str:
    console = Console(file=io.StringIO(), width=120, highlight=False)
    results = Results(name="mixed", method="hyperx", backbone="builtin:e5-small", cells=cells)
    console.print(results_table(results))
    return console.file.getvalue()  # type: ignore[attr-defined]


def cell(task: str, language: str, kind: Kind, score: float, examples: int) -> CellResult:
    metric = {"ner": "span F1", "dep": "LAS"}.get(task, "accuracy")
    return CellResult(
        task=task, language=language, kind=kind, metric=metric, score=score, examples=examples
    )


def tree(score: float, uas: float) -> CellResult:
    las = cell("dep", "isl", Kind.SUPERVISED, score, 8)
    return las.model_copy(update={"details": {"UAS": uas}})


def without(task: str, language: str, kind: Kind, examples: int, note: str) -> CellResult:
    scored = cell(task, language, kind, 0.0, examples)
    return scored.model_copy(update={"score": None, "note": note})


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
    text = shown(tree(61.26, 70.04), CELLS[0])
    rows = [" ".join(line.replace("│", " ").split()) for line in text.splitlines()]
    assert "LAS (UAS)" in text
    assert "isl Icelandic 61.3 (70.0) ● 8" in rows
    assert "eng English 91.3 ● 8" in rows


def test_what_is_not_applicable_is_said_and_why() -> None:
    one = without("pos", "deu", Kind.UNTOUCHED, 9, "no adapter for it")
    alone = without("ner", "fao", Kind.TEXT_ONLY, 3, "no")
    text = shown(*CELLS, one, alone)
    rows = [" ".join(line.replace("│", " ").split()) for line in text.splitlines()]
    assert "deu German n/a ○ 9" in rows
    assert "pos ○ unseen language, untouched accuracy 22.0 1 (1 n/a)" in rows
    assert "ner ◔ unseen language, text only span F1 n/a 0 (1 n/a)" in rows
    assert rows.count("n/a: no adapter for it") == 1


def test_uas_stands_in_the_heading_even_if_the_last_tree_bank_is_not_applicable() -> None:
    assert "LAS (UAS)" in shown(tree(61.0, 70.0), without("dep", "dan", Kind.UNTOUCHED, 8, "none"))
