from __future__ import annotations

import json
from pathlib import Path

import pytest

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
