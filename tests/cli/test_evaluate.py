from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from hyperlect.cli.evaluate import results_table
from hyperlect.evaluation import CellResult, Results
from hyperlect.evaluation.results import Expected
from hyperlect.grid import STRATA_MEANING, Kind

from ..project import train
from ..project import write_project as write_tiny
from .conftest import Call


def test_evaluate_shows_the_grid_and_keeps_the_results(call: Call, run: Path) -> None:
    code, out, err = call("evaluate", run)
    assert code == 0, err
    assert "unseen combination" in out
    assert "untouched" in out
    text = (run / "results.json").read_text()
    kept = json.loads(text)
    assert {(cell["task"], cell["language"]) for cell in kept["cells"]} == {
        ("pos", "eng"), ("pos", "isl"), ("ner", "isl"), ("ner", "fao"),
    }  # fmt: skip
    assert f"hyperlect report {run}" in err
    assert kept["backbone"] == "encoder"  # as the recipe has it
    assert str(run.parent.parent) not in text


@pytest.mark.parametrize(
    "cells",
    [
        ["--cells", "ner:fao", "pos:isl"],
        ["--cells", "ner:fo", "--cells", "pos:Icelandic"],
        ["--cells", "ner:fao,pos:isl"],
    ],
)
def test_json_of_chosen_cells_is_all_there_is_on_stdout(
    call: Call, run: Path, cells: list[str]
) -> None:
    code, out, err = call("evaluate", run, *cells, "--json")
    assert code == 0, err
    scored = {(cell["task"], cell["language"]) for cell in json.loads(out)["cells"]}
    assert scored == {("ner", "fao"), ("pos", "isl")}
    assert not (run / "results.json").exists()


def test_dev_scores_are_shown_and_not_kept(call: Call, run: Path) -> None:
    code, out, err = call("evaluate", run, "--split", "dev")
    assert code == 0, err
    assert "eng" in out
    assert "results.json" in err
    assert not (run / "results.json").exists()


def test_another_file_is_scored_in_the_format_of_the_task(
    call: Call, run: Path, tmp_path: Path
) -> None:
    file = tmp_path / "new.tsv"
    file.write_text("# new\nAnna\tPROPN\nsees\tVERB\n\nOslo\tPROPN\n")
    code, out, err = call("evaluate", run, "--test", f"pos:mlt={file}", "--json")
    assert code == 0, err
    [cell] = json.loads(out)["cells"]
    assert (cell["task"], cell["language"], cell["kind"]) == ("pos", "mlt", str(Kind.UNTOUCHED))
    assert (cell["examples"], cell["units"]) == (2, 3)
    assert not (run / "results.json").exists()


def test_a_run_whose_data_has_moved_is_told_where_it_lies(
    call: Call, run: Path, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in project.glob("?.tsv"):
        (tmp_path / "moved").mkdir(exist_ok=True)
        shutil.copy(file, tmp_path / "moved")
    recipe = (run / "recipe.yaml").read_text()
    (run / "recipe.yaml").write_text(recipe.replace('folder: "../.."', "folder: ../../gone"))
    code, _, err = call("evaluate", run)
    assert code == 2
    assert str(project / "gone" / "c.tsv") in err
    assert "--set folder" in err
    monkeypatch.chdir(tmp_path)
    code, _, err = call("evaluate", run, "--set", "folder=moved")
    assert code == 0, err
    roots = [f"data.{number}.root={tmp_path}/moved" for number in range(2)]
    code, _, err = call("evaluate", run, "--set", roots[0], "--set", roots[1])
    assert code == 0, err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["{run}", "--cells", "ner"], '"ner"'),
        (["{run}", "--cells", "ner:deu"], '"ner:deu"'),
        (["{run}", "--cells", "ner:klingonese"], '"klingonese"'),
        (["{run}x"], '"{run}"'),
        (["{project}/tiny.yaml"], "hyperlect train {project}/tiny.yaml"),
        (["{project}/a.tsv"], "{project}/a.tsv"),
        (["{project}"], "{project}"),
        (["{run}", "--test", "pos:mlt"], '"pos:mlt"'),
        (["{run}", "--test", "pos:mlt=a", "--test", "pos:mlt=b"], "pos:mlt twice"),
        (["{run}", "--test", "pos:mlt={project}/none.tsv"], "{project}/none.tsv"),
        (["{run}", "--test", "pso:mlt={project}/a.tsv"], '"pos"'),
        (["{run}", "--test", "pos:mlt={project}/a.tsv", "--split", "dev"], "--split"),
        (["{run}", "--test", "pos:mlt={project}/bad.tsv"], "{project}/bad.tsv:1"),
    ],
)
def test_wrong_arguments(
    call: Call, run: Path, project: Path, arguments: list[str], named: str
) -> None:
    (project / "bad.tsv").write_text("Anna\tPROPM\n")
    places = {"run": run, "project": project}
    code, _, err = call("evaluate", *(text.format(**places) for text in arguments))
    assert code == 2
    assert named.format(**places) in err


def test_results_that_cannot_be_written_name_the_file(call: Call, run: Path) -> None:
    (run / "results.json").mkdir()
    code, _, err = call("evaluate", run)
    assert code == 2
    assert str(run / "results.json") in err
    assert "Traceback" not in err


def test_what_a_baseline_cannot_have_is_not_applicable(call: Call, tmp_path: Path) -> None:
    """From the check of the recipe to predictions; raw text is there in Faroese alone."""
    recipe = write_tiny(tmp_path / "project", training={"steps": 4, "warmup": 0}, method="mad-x")
    _, out, _ = call("check", recipe)
    assert "mad-x does not apply to pos:dan, ner:isl" in " ".join(out.split())
    run = train(recipe, tmp_path / "run")
    code, out, err = call("evaluate", run)
    assert code == 0, err
    assert "n/a ○ 8" in out
    assert "(1 n/a)" in out
    assert "n/a: its language has no adapter, since training had no raw text in it" in out
    code, out, err = call("report", run)
    assert code == 0, err
    assert "n/a" in (run / "report.html").read_text()
    code, _, err = call("predict", run, "--task", "pos", "--language", "dan", stdin="the cat")
    assert code == 2
    assert "mad-x" in err
    assert "pos:dan: its language has no adapter" in " ".join(err.split())
    for language, source in (("fao", "own adapter"), ("eng", "no adapter")):
        code, out, err = call(
            "predict", run, "--task", "pos", "--language", language, stdin="the cat"
        )
        assert code == 0, err
        assert source in err


# The table of a terminal: every score with its mark, and the marks explained.


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


def test_strata_stand_below_the_average_of_their_kind() -> None:
    known, new = ({"known_to_encoder": known, "related": True} for known in (True, False))
    cells = [
        cell("pos", "dan", Kind.UNTOUCHED, 80.0, 4).model_copy(update=known),
        cell("pos", "fao", Kind.UNTOUCHED, 40.0, 4).model_copy(update=new),
    ]
    rows = [" ".join(line.replace("│", " ").split()) for line in shown(*cells).splitlines()]
    first = rows.index("pos ○ unseen language, untouched accuracy 60.0 2")
    assert rows[first + 1 : first + 3] == [
        "pos known to the encoder, related accuracy 80.0 1",
        "pos new to the encoder, related accuracy 40.0 1",
    ]
    assert STRATA_MEANING.partition(":")[0] in shown(*cells)
    assert "known to the encoder" not in shown(*CELLS)


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


def test_what_was_expected_stands_beside_the_score() -> None:
    about = {"task": "pos", "kind": Kind.UNTOUCHED, "metric": "accuracy", "examples": 50}
    inside = Expected(score=70, low=60, high=75)
    cells = [
        CellResult(language="isl", score=64.0, expected=inside, **about),
        CellResult(language="fao", score=80.0, expected=inside, **about),
        CellResult(language="dan", score=50.0, **about),
    ]
    text = shown(*cells)
    assert "64.0 ○ 50 60–75" in text
    assert "holds 1 of 2" in text
    assert "expected" not in shown(cells[2])
