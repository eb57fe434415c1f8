"""Experiments side by side: what is averaged, what is compared, and how it is written."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from hyperlect.errors import RunError, UnknownNameError
from hyperlect.grid import Kind
from hyperlect.report import write_comparison
from hyperlect.report.data import read_run
from hyperlect.report.summary import ALL, Row, summarise
from hyperlect.report.systems import of_runs, read_settings
from hyperlect.report.written import tables

from .experiments import add, record
from .runs import CELLS, cell, write_results

GOOD, HALF, BAD = [1] * 40, [1, 0] * 20, [0] * 40
POS, NER = ("pos", "eng"), ("ner", "eng")


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    folder = tmp_path / "made"
    for seed, right in ((1, [1] * 30 + [0] * 10), (2, [1] * 34 + [0] * 6)):
        scores = {POS: right, NER: HALF, ("pos", "isl"): HALF}
        add(folder, "mixed", "hyperx", seed, {**scores, ("pos", "fao"): HALF})
        add(folder, "mixed", "adapters", seed, {**scores, POS: BAD, ("pos", "fao"): GOOD})
        add(folder, "mixed", "mad-x", seed, {**scores, ("pos", "fao"): None})
    record(folder, "mixed", "finetune", 1)
    return folder


def rows(folder: Path, baseline: str | None = "adapters") -> dict[tuple[str, str, str], Row]:
    (setting,) = read_settings(folder)
    return {(r.method, r.task, str(r.kind)): r for r in summarise(setting, baseline)}


def test_means_and_spread_over_seeds(experiment: Path) -> None:
    found = rows(experiment)
    one = found["hyperx", "pos", "supervised"]
    assert (one.mean, one.seeds, one.cells) == (80.0, 2, 1)  # 75 and 85
    assert one.std == pytest.approx(7.0711, abs=1e-4)
    assert one.by_seed == (75.0, 85.0)
    both = found["hyperx", ALL, "supervised"]
    assert both.mean == (80 + 50) / 2
    assert both.by_seed == ((75 + 50) / 2, (85 + 50) / 2)
    assert ("hyperx", ALL, "unseen combination") not in found  # a single task


def test_what_a_method_cannot_have_takes_nothing_from_the_others(experiment: Path) -> None:
    found = rows(experiment)
    untouched = str(Kind.UNTOUCHED)
    without = found["mad-x", "pos", untouched]
    assert (without.mean, without.cells, without.left_out) == (None, 0, 1)
    assert found["adapters", "pos", untouched].mean == 100
    assert found["adapters", "pos", untouched].best


def test_a_cell_that_nobody_can_have_hinders_nobody(tmp_path: Path) -> None:
    """Say one in whose data there is no span to find."""
    folder = tmp_path / "made"
    for method, right in (("hyperx", GOOD), ("adapters", HALF)):
        for seed in (1, 2):
            scores = {("pos", "fao"): right, ("pos", "dan"): None}
            add(folder, "mixed", method, seed, scores)
    hyperx, adapters = rows(folder).values()
    assert (hyperx.method, hyperx.cells, hyperx.left_out, hyperx.best) == ("hyperx", 1, 1, True)
    assert not adapters.best


def test_the_best_is_marked_and_ties_are_shared(experiment: Path) -> None:
    found = rows(experiment)
    best = {key for key, row in found.items() if row.best}
    assert {m for m, task, kind in best if (task, kind) == ("pos", "supervised")} == {
        "hyperx",
        "mad-x",
    }


def test_differences_are_tested_against_the_baseline(experiment: Path) -> None:
    found = rows(experiment)
    against = found["hyperx", "pos", "supervised"].against
    assert against is not None
    assert against.mean == 80
    assert against.significant
    assert 60 < against.low < 80 < against.high < 100
    same = found["hyperx", "ner", "supervised"].against
    assert same is not None
    assert (same.mean, same.significant) == (0, False)
    assert found["adapters", "pos", "supervised"].against is None
    assert all(row.against is None for row in rows(experiment, None).values())


def test_without_the_counts_of_examples_nothing_is_tested(experiment: Path) -> None:
    (experiment / "mixed/hyperx/seed-1/examples.json").unlink()
    assert rows(experiment)["hyperx", "pos", "supervised"].against is None


def test_parts_make_one_system(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    for seed in (1, 2):
        add(folder, "single", "hyperx", seed, {POS: GOOD}, part="pos")
    add(folder, "single", "hyperx", 1, {NER: HALF}, part="ner")
    (setting,) = read_settings(folder)
    (system,) = setting.systems
    assert system.complete.keys() == {1}  # the other seed lacks a part
    assert system.parameters == 3_000_000
    assert system.seconds == 120
    row = next(r for r in summarise(setting, None) if r.task == ALL)
    assert (row.mean, row.std, row.seeds) == (75, None, 1)


def test_cells_that_one_did_not_score_are_left_out(experiment: Path) -> None:
    add(experiment, "mixed", "head", 1, {POS: GOOD})
    found = {(r.task, str(r.kind)) for r in rows(experiment).values()}
    assert found == {("pos", "supervised")}


def test_all_formats(experiment: Path, tmp_path: Path) -> None:
    written = write_comparison([experiment], tmp_path / "out")
    assert {path.name for path in written} == {
        "report.html", "report.md", "cells.csv", "tables.tex", "summary.json",
    }  # fmt: skip
    texts = {path.suffix: path.read_text(encoding="utf-8") for path in written}
    summary = json.loads(texts[".json"])
    needed = {"setting", "method", "task", "kind", "metric", "mean", "std", "seeds", "cells"}
    assert all(needed <= row.keys() for row in summary)
    assert {row["test_examples"] for row in summary if row["task"] == ALL and row["cells"]} == {80}
    lines = list(csv.DictReader(texts[".csv"].splitlines()))
    assert len(lines) == 3 * 2 * 4
    assert {line["score"] for line in lines if line["method"] == "mad-x"} >= {""}
    assert "| hyperx | **80.0 ± 7.1**\\* |" in texts[".md"]
    assert "| mad-x | n/a |" in texts[".md"]
    assert "40 test examples a cell on average" in texts[".md"]
    assert "Not there yet: finetune, seed 1." in texts[".md"]
    assert r"\textbf{80.0 $\pm$ 7.1}*" in texts[".tex"]
    assert texts[".tex"].count(r"\begin{tabular}") == 3
    page = texts[".html"]
    assert "<b" in page
    assert "1.50 M" in page
    assert "against the baseline" in page
    assert "http" not in page.replace("http://www.w3.org", "")


def test_latex_is_escaped(experiment: Path) -> None:
    add(experiment, "a_b & 50 %", "hyperx", 1, {POS: GOOD})
    (tex,) = write_comparison([experiment], formats=["latex"])
    assert r"a\_b \& 50 \%: supervised" in tex.read_text()


def test_columns_end_with_the_mean_over_tasks(experiment: Path) -> None:
    (setting,) = read_settings(experiment)
    first = next(iter(tables(setting, summarise(setting, None))))
    assert list(first.tasks) == ["pos", "ner", ALL]


def test_single_runs_are_grouped_by_name_and_method(tmp_path: Path) -> None:
    for number, (name, method, seed) in enumerate(
        [("a", "hyperx", 1), ("a", "hyperx", 2), ("a", "adapters", 1), ("b", "hyperx", 1)]
    ):
        write_results(tmp_path / str(number), name=name, method=method, seed=seed)
    runs = [read_run(tmp_path / str(number)) for number in range(4)]
    assert [s.method for s in of_runs(runs[:3]).systems] == ["hyperx", "adapters"]
    assert [len(s.seeds) for s in of_runs(runs[:3]).systems] == [2, 1]
    assert [s.method for s in of_runs(runs).systems] == ["a (hyperx)", "a (adapters)", "b (hyperx)"]


def test_runs_of_other_recipes_are_other_systems(tmp_path: Path) -> None:
    """Though name, method and seed are the same."""
    recipes = {"a": "seed: 1\n  steps: 5", "b": "seed: 1\n  steps: 9", "c": "seed: 2\n  steps: 5"}
    runs = []
    for folder, training in recipes.items():
        seed = int(training[6])
        write_results(tmp_path / folder, name="mine", seed=seed)
        (tmp_path / folder / "recipe.yaml").write_text(f"name: mine\ntraining:\n  {training}\n")
        runs.append(read_run(tmp_path / folder))
    systems = of_runs(runs).systems
    assert [s.method for s in systems] == ["mine (a)", "mine (b)"]
    assert [set(s.seeds) for s in systems] == [{1, 2}, {1}]


def test_the_same_seed_twice_makes_two_systems(tmp_path: Path) -> None:
    cells = [{**cell(*CELLS[0]), "score": score} for score in (50.0, 60.0)]
    runs = [
        read_run(write_results(tmp_path / name, [one], name="mine"))
        for name, one in zip("ab", cells, strict=True)
    ]
    systems = of_runs(runs).systems
    assert [s.method for s in systems] == ["mine (a)", "mine (b)"]
    assert [[c.score for c in s.seeds[3].values()] for s in systems] == [[50.0], [60.0]]


def test_runs_that_do_not_know_their_seeds_are_of_different_ones(tmp_path: Path) -> None:
    runs = [read_run(write_results(tmp_path / n, name="mine", seed=None)) for n in "abc"]
    (system,) = of_runs(runs).systems
    assert len(system.seeds) == 3


def test_a_baseline_may_be_named_by_its_method(tmp_path: Path) -> None:
    for name, method in (("a", "hyperx"), ("a", "adapters"), ("b", "hyperx")):
        write_results(tmp_path / f"{name}-{method}", name=name, method=method)
    folders = sorted(tmp_path.iterdir())
    (text,) = write_comparison(folders, tmp_path, ["markdown"], "adapters")
    assert "| a (adapters) |" in text.read_text()
    with pytest.raises(UnknownNameError, match=r"a \(hyperx\)"):
        write_comparison(folders, tmp_path, ["markdown"], "hyperx")  # there are two


def test_a_system_without_a_whole_seed_waits(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    for method in ("hyperx", "adapters"):
        add(folder, "single", method, 1, {POS: GOOD}, part="pos")
        add(folder, "single", method, 2, {NER: HALF}, part="ner")
    add(folder, "single", "adapters", 1, {NER: HALF}, part="ner")
    (setting,) = read_settings(folder)
    assert [system.method for system in setting.systems] == ["adapters"]
    assert setting.systems[0].complete.keys() == {1}


def test_faults(tmp_path: Path, experiment: Path) -> None:
    with pytest.raises(UnknownNameError, match="adapter"):
        write_comparison([experiment], baseline="adapter")
    record(tmp_path / "empty", "mixed", "hyperx", 1)
    with pytest.raises(RunError, match="has results yet"):
        write_comparison([tmp_path / "empty"])
