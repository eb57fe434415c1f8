"""The table of mixed_small.py, from runs whose summary is kept."""

import csv
import json

import mixed_small
import pytest
from common import RESULTS

from hyperlect.report.data import read_run

FOLDER = RESULTS / "small-settings"


@pytest.fixture(scope="module")
def runs():
    pairs = [(method, seed) for seed in (1, 2, 3) for method in ("hyperx", "adapters")]
    return {(m, seed): read_run(FOLDER / "mixed" / m / f"seed-{seed}") for m, seed in pairs}


def test_the_rows_are_those_of_the_report(runs):
    rows = mixed_small.summarise(runs)
    assert [row["method"] for row in rows] == ["hyperx"] * 20 + ["adapters"] * 20
    assert [row["task"] for row in rows[:20:4]] == ["pos", "dep", "ner", "topic", "all"]
    kept = {
        (row["method"], row["task"], row["kind"]): row
        for row in json.loads((FOLDER / "summary.json").read_text(encoding="utf-8"))
        if row["setting"] == "mixed"
    }
    for row in rows:
        expected = kept[row["method"], row["task"], row["kind"]]
        assert row["mean"] == pytest.approx(expected["mean"], abs=0.006)
        assert row["std"] == pytest.approx(expected["std"], abs=0.006)
        assert (row["seeds"], row["cells"]) == (expected["seeds"], expected["cells"])
        assert row["metric"] == (expected["metric"] or "mean")


def test_the_table_has_a_line_for_each_task_and_kind(runs):
    lines = mixed_small.markdown(mixed_small.summarise(runs), ["hyperx", "adapters"]).splitlines()
    assert len(lines) == 22
    assert lines[2].startswith("| pos | supervised | accuracy | 4 | ")
    assert all(line.count("|") == 7 and line.count(" ± ") == 2 for line in lines[2:])


def test_every_score_of_every_run_is_written(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(mixed_small, "OUT", tmp_path)
    mixed_small.write_cells(runs)
    with (tmp_path / "cells.csv").open(encoding="utf-8", newline="") as file:
        written = list(csv.DictReader(file))
    assert len(written) == sum(len(run.results.cells) for run in runs.values())
    first = runs["hyperx", 1].results.cells[0]
    assert float(written[0]["score"]) == pytest.approx(first.score, abs=0.001)
    assert written[0]["kind"] == first.kind
