from __future__ import annotations

import json
from pathlib import Path

import pytest

from ..project import train
from ..project import write_project as write_tiny
from .conftest import Call


def test_evaluate_shows_the_grid_and_keeps_the_results(call: Call, run: Path) -> None:
    code, out, err = call("evaluate", run)
    assert code == 0, err
    assert "unseen combination" in out
    assert "untouched" in out
    kept = json.loads((run / "results.json").read_text())
    assert {(c["task"], c["language"]) for c in kept["cells"]} == {
        ("pos", "eng"),
        ("pos", "isl"),
        ("ner", "isl"),
        ("ner", "fao"),
    }
    assert f"hyperlect report {run}" in err


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
    found = {(cell["task"], cell["language"]) for cell in json.loads(out)["cells"]}
    assert found == {("ner", "fao"), ("pos", "isl")}
    assert not (run / "results.json").exists()


def test_dev_scores_are_shown_and_not_kept(call: Call, run: Path) -> None:
    code, out, err = call("evaluate", run, "--split", "dev")
    assert code == 0, err
    assert "eng" in out
    assert "results.json" in err
    assert not (run / "results.json").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{run}", "--cells", "ner"], "Write task:language"),
        (["{run}", "--cells", "ner:deu"], 'Unknown cell with test data "ner:deu"'),
        (["{run}", "--cells", "ner:klingonese"], "Unknown language"),
        (["{run}x"], 'Did you mean "{run}"?'),
        (["{project}/tiny.yaml"], "is a recipe. Train it first"),
        (["{project}/a.tsv"], "is a file"),
        (["{project}"], "is no run folder"),
    ],
)
def test_wrong_arguments(
    call: Call, run: Path, project: Path, arguments: list[str], said: str
) -> None:
    places = {"run": run, "project": project}
    code, _, err = call("evaluate", *(text.format(**places) for text in arguments))
    assert code == 2
    assert said.format(**places) in err


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
    said = " ".join(err.split())
    assert code == 2
    assert "The method mad-x does not apply. Train it with raw text in the language" in said
    assert "pos:dan: its language has no adapter" in said
    for language, source in (("fao", "own adapter"), ("eng", "no adapter")):
        code, out, err = call(
            "predict", run, "--task", "pos", "--language", language, stdin="the cat"
        )
        assert code == 0, err
        assert source in err
