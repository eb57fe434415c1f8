"""Few-shot curves of an experiment: what is averaged over which cells, and how it is written."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from hyperlect.report import write_comparison
from hyperlect.report.few_shot import Curve, PointRow, read_curves, summarise_curve
from hyperlect.report.few_shot_written import curve_legend, missing_runs
from hyperlect.report.systems import read_settings

from .experiments import add, record

ISL, FAO, NER = ("pos", "isl"), ("pos", "fao"), ("ner", "fao")


def right(percent: int) -> list[int]:
    """40 examples, of which so many percent are right."""
    return [1] * (40 * percent // 100) + [0] * (40 - 40 * percent // 100)


def few(folder: Path, method: str, examples: int, scores: dict[int, tuple[int, int]]) -> None:
    """Add the runs of both languages: draw → what is right in each."""
    for draw, (isl, fao) in scores.items():
        for cell, percent in ((ISL, isl), (FAO, fao)):
            part, point = f"pos-{cell[1]}", (examples, draw)
            add(folder, "few", method, 1, {cell: right(percent)}, part, point, "english")


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    folder = tmp_path / "made"
    for method, percent in (("hyperx", 40), ("adapters", 50)):
        add(folder, "english", method, 1, {ISL: right(percent), FAO: right(percent - 20)})
    few(folder, "hyperx", 5, {1: (50, 40), 2: (70, 60)})
    few(folder, "hyperx", 50, {1: (80, 70), 2: (80, 70)})
    few(folder, "adapters", 5, {1: (50, 30), 2: (50, 30)})
    few(folder, "adapters", 50, {1: (80, 80), 2: (90, 80)})
    return folder


def read(folder: Path) -> Curve:
    (curve,) = read_curves(folder, read_settings(folder))
    return curve


def rows(folder: Path) -> dict[tuple[str, int], PointRow]:
    found = summarise_curve(read(folder))
    assert {row.task for row in found} == {"pos"}
    return {(row.method, row.examples): row for row in found}


def test_curves_are_no_settings(experiment: Path) -> None:
    assert [setting.name for setting in read_settings(experiment)] == ["english"]
    assert read(experiment).name == "few"


def test_means_over_cells_and_spread_over_draws(experiment: Path) -> None:
    found = rows(experiment)
    one = found["hyperx", 5]
    assert one.by_seed == (45, 65)
    assert (one.mean, one.cells, one.draws, one.seeds) == (55, 2, 2, 1)
    assert one.std == pytest.approx(14.1421, abs=1e-4)
    assert found["hyperx", 50].std == 0
    assert {key for key, row in found.items() if row.best} == {
        ("adapters", 0), ("hyperx", 5), ("adapters", 50),
    }  # fmt: skip


def test_at_0_stands_what_the_runs_go_on_from(experiment: Path) -> None:
    zero = rows(experiment)["hyperx", 0]
    assert (zero.mean, zero.std, zero.draws, zero.cells) == (30, None, 0, 2)
    assert zero.data()["kind"] == "unseen combination; unseen language, untouched"
    assert rows(experiment)["hyperx", 5].data()["kind"] == "supervised"


def test_what_was_scored_on_other_data_is_not_at_0(experiment: Path) -> None:
    add(experiment, "english", "adapters", 1, {ISL: right(50), FAO: [1, 0]})
    assert ("adapters", 0) not in rows(experiment)
    assert ("hyperx", 0) in rows(experiment)


def test_a_curve_needs_nothing_to_go_on_from(experiment: Path) -> None:
    (curve,) = read_curves(experiment, [])
    found = summarise_curve(curve)
    assert {row.examples for row in found} == {5, 50}
    assert "At 0" not in curve_legend(curve, found)


def test_seeds_and_draws_are_repeats_alike(experiment: Path) -> None:
    for cell in (ISL, FAO):
        add(experiment, "few", "hyperx", 2, {cell: right(50)}, f"pos-{cell[1]}", (5, 1), "english")
    row = rows(experiment)["hyperx", 5]
    assert (sorted(row.by_seed), row.draws, row.seeds) == ([45, 50, 65], 2, 2)
    assert ("hyperx", 0) not in rows(experiment)  # its second seed is not evaluated there


def test_a_cell_that_a_number_lacks_is_left_out_of_the_whole_curve(experiment: Path) -> None:
    add(experiment, "few", "hyperx", 1, {ISL: right(90)}, "pos-isl", (500, 1), "english")
    record(experiment, "few", "hyperx", 1, "pos-fao", (500, 1), "english", ["pos:fao"])
    found = rows(experiment)
    assert {row.cells for row in found.values()} == {1}
    assert found["hyperx", 5].by_seed == (50, 70)
    assert found["hyperx", 500].mean == 90
    assert ("adapters", 500) not in found  # not run yet, and no reason to leave anything out
    curve = read(experiment)
    assert curve.left_out("pos") == ["pos:fao"]
    assert "has a score: pos:fao." in curve_legend(curve, list(found.values()))
    assert missing_runs(curve) == ["hyperx, 1 run"]


def test_a_draw_that_lacks_a_cell_does_not_count_yet(experiment: Path) -> None:
    add(experiment, "few", "hyperx", 1, {ISL: right(100)}, "pos-isl", (5, 3), "english")
    assert rows(experiment)["hyperx", 5].draws == 2


def test_without_a_whole_draw_there_is_nothing_yet(tmp_path: Path) -> None:
    """Each draw lacks a cell, though each cell has a draw; what the runs go on from has both."""
    folder = tmp_path / "made"
    add(folder, "english", "hyperx", 1, {ISL: right(40), FAO: right(20)})
    for draw, cell in ((1, ISL), (2, FAO)):
        add(folder, "few", "hyperx", 1, {cell: right(50)}, f"pos-{cell[1]}", (5, draw), "english")
    assert summarise_curve(read(folder)) == []
    text = next(p for p in write_comparison([folder]) if p.suffix == ".md").read_text()
    assert "no draw with all of them" in text


def test_only_few_shot_cells_make_the_curve(experiment: Path) -> None:
    path = experiment / "experiment.json"
    data = json.loads(path.read_text())
    for run in data["runs"]:
        if "cells" in run:
            run["cells"] = [cell for cell in run["cells"] if cell == "pos:isl"]
    path.write_text(json.dumps(data))
    assert rows(experiment)["hyperx", 5].by_seed == (50, 70)


def test_nothing_in_common(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    add(folder, "few", "hyperx", 1, {ISL: right(50)}, "isl", (5, 1))
    add(folder, "few", "adapters", 1, {FAO: right(50)}, "fao", (5, 1))
    assert summarise_curve(read(folder)) == []
    written = {path.suffix: path.read_text() for path in write_comparison([folder])}
    assert "nothing can be compared" in written[".html"]
    assert "nothing can be compared" in written[".md"]
    assert json.loads(written[".json"]) == []


def test_all_formats(experiment: Path) -> None:
    add(experiment, "few", "hyperx", 1, {NER: right(20)}, "ner-fao", (5, 1), "english")
    record(experiment, "few", "adapters", 1, "ner-fao", (5, 1), "english", ["ner:fao"])
    texts = {path.suffix: path.read_text() for path in write_comparison([experiment])}

    summary = [row for row in json.loads(texts[".json"]) if "examples" in row]
    plain = [row for row in json.loads(texts[".json"]) if "examples" not in row]
    assert {row["setting"] for row in plain} == {"english"}
    assert {row["setting"] for row in summary} == {"few"}
    assert all(plain[0].keys() | {"examples", "draws"} == row.keys() for row in summary)
    assert [row["draws"] for row in summary if row["examples"] == 0] == [0, 0]

    lines = list(csv.DictReader(texts[".csv"].splitlines()))
    places = {(line["setting"], line["few_shot_examples"], line["few_shot_draw"]) for line in lines}
    assert places == {("english", "", "")} | {
        ("few", n, d) for n in ("5", "50") for d in ("1", "2")
    }
    assert {line["examples"] for line in lines} == {"40"}

    assert "### pos, accuracy, cells: 2\n\n| method | 0 | 5 | 50 |" in texts[".md"]
    assert "| hyperx | 30.0 | **55.0 ± 14.1** | 75.0 ± 0.0 |" in texts[".md"]
    assert "Not there yet: adapters, 1 run." in texts[".md"]
    assert r"few: pos, accuracy, cells: 2. Scores against the number" in texts[".tex"]
    assert r"\textbf{55.0 $\pm$ 14.1}" in texts[".tex"]

    page = texts[".html"]
    assert '<section id="c1"' in page
    assert "hyperx: 30.0 with 0, 55.0 with 5, 75.0 with 50; adapters: 40.0 with 0" in page
    assert "<b>55.0 ± 14.1</b>" in page
    assert "2 draws with 1 seed" in page
