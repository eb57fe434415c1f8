"""Settings and few-shot curves: what is averaged over which cells, and what is compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hyperlect.errors import UnknownNameError
from hyperlect.grid import Kind
from hyperlect.report.compare import (
    ALL,
    DIFFERING,
    Row,
    choose_baseline,
    mark_best,
    summarise,
    summarise_curve,
)
from hyperlect.report.data import gather_runs, read_systems

from .experiments import KINDS, add, list_run
from .runs import CELLS, cell, write_results

GOOD, HALF, BAD = [1] * 40, [1, 0] * 20, [0] * 40
POS, NER, ISL, FAO = ("pos", "eng"), ("ner", "eng"), ("pos", "isl"), ("pos", "fao")


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    folder = tmp_path / "made"
    for seed, right in ((1, 30), (2, 34), (3, 32)):
        scores = {POS: [1] * right + [0] * (40 - right), NER: HALF, ISL: HALF}
        add(folder, "mixed", "hyperx", seed, {**scores, FAO: HALF})
        add(folder, "mixed", "adapters", seed, {**scores, POS: BAD, FAO: GOOD})
        add(folder, "mixed", "mad-x", seed, {**scores, FAO: None})
    list_run(folder, "mixed", "finetune", 1)
    return folder


def rows(folder: Path, baseline: str | None = "adapters") -> dict[tuple[str, str, str], Row]:
    summary, _ = summarise(read_systems(folder).cells, baseline)
    return {(row.method, row.task, "; ".join(row.kinds)): row for row in summary}


def test_means_and_spread_over_seeds(experiment: Path) -> None:
    of = rows(experiment)
    one = of["hyperx", "pos", "supervised"]
    assert (one.mean, one.seeds, one.cells, one.test_examples) == (80, 3, 1, 40)
    assert one.std == pytest.approx(5)
    assert one.by_seed == (75, 85, 80)
    assert one.by_cell == (80,)
    both = of["hyperx", ALL, "supervised"]
    assert both.mean == (80 + 50) / 2
    assert both.by_seed == ((75 + 50) / 2, (85 + 50) / 2, (80 + 50) / 2)
    assert ("hyperx", ALL, "unseen combination") not in of  # a single task


def test_tasks_come_in_order_and_their_mean_last(experiment: Path) -> None:
    tasks = [task for _, task, kind in rows(experiment) if kind == "supervised"]
    assert list(dict.fromkeys(tasks)) == ["pos", "ner", ALL]


def test_what_a_method_cannot_have_takes_nothing_from_the_others(experiment: Path) -> None:
    of, untouched = rows(experiment), str(Kind.UNTOUCHED)
    without = of["mad-x", "pos", untouched]
    assert (without.mean, without.cells, without.not_applicable) == (None, 0, 1)
    assert of["adapters", "pos", untouched].mean == 100
    assert of["adapters", "pos", untouched].best


def test_a_cell_that_nobody_can_have_hinders_nobody(tmp_path: Path) -> None:
    """Say one in whose data there is no span to find."""
    folder = tmp_path / "made"
    for method, right in (("hyperx", GOOD), ("adapters", HALF)):
        for seed in (1, 2):
            add(folder, "mixed", method, seed, {FAO: right, ("pos", "dan"): None})
    hyperx, adapters = rows(folder).values()
    assert (hyperx.method, hyperx.cells, hyperx.not_applicable) == ("hyperx", 1, 0)
    assert (hyperx.best, adapters.best) == (True, False)


def test_a_mean_over_fewer_tasks_than_others_have_is_none(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    add(folder, "mixed", "hyperx", 1, {POS: GOOD, NER: HALF})
    add(folder, "mixed", "mad-x", 1, {POS: GOOD, NER: None})
    of = rows(folder)
    assert of["hyperx", ALL, "supervised"].mean == 75
    assert of["mad-x", ALL, "supervised"].mean is None
    assert of["mad-x", ALL, "supervised"].not_applicable == 2


def test_the_best_is_marked_and_ties_are_shared(experiment: Path) -> None:
    best = {key for key, row in rows(experiment).items() if row.best}
    assert {m for m, task, kind in best if (task, kind) == ("pos", "supervised")} == {
        "hyperx",
        "mad-x",
    }


def test_the_best_perplexity_is_the_lowest() -> None:
    low, high = (
        Row("s", m, "mlm", "perplexity", (Kind.SUPERVISED,), by_seed=(score,), cells=1)
        for m, score in (("a", 9.0), ("b", 12.0))
    )
    assert [row.best for row in mark_best([low, high])] == [True, False]


def test_differences_are_tested_against_the_baseline(experiment: Path) -> None:
    of = rows(experiment)
    against = of["hyperx", "pos", "supervised"].against_baseline
    assert against is not None
    assert against.mean == 80
    assert against.significant
    assert 60 < against.low < 80 < against.high < 100
    same = of["hyperx", "ner", "supervised"].against_baseline
    assert same is not None
    assert (same.mean, same.significant) == (0, False)
    both = of["hyperx", ALL, "supervised"].against_baseline
    assert both is not None
    assert both.mean == 40  # tasks weigh alike
    assert of["adapters", "pos", "supervised"].against_baseline is None
    assert all(row.against_baseline is None for row in rows(experiment, None).values())


def test_below_three_seeds_in_both_nothing_is_tested(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    for seed in (1, 2, 3):
        add(folder, "mixed", "hyperx", seed, {POS: GOOD})
    for seed in (2, 3, 4):
        add(folder, "mixed", "adapters", seed, {POS: BAD})
    add(folder, "mixed", "head", 1, {POS: BAD})
    assert all(row.against_baseline is None for row in rows(folder).values())
    assert all(row.data()["against_baseline"] is None for row in rows(folder).values())
    add(folder, "mixed", "adapters", 1, {POS: BAD})
    assert rows(folder)["hyperx", "pos", "supervised"].against_baseline is not None
    assert rows(folder)["head", "pos", "supervised"].against_baseline is None


def test_without_the_counts_of_examples_nothing_is_tested(experiment: Path) -> None:
    (experiment / "mixed/hyperx/seed-1/examples.json").unlink()
    assert rows(experiment)["hyperx", "pos", "supervised"].against_baseline is None
    assert rows(experiment)["mad-x", "pos", "supervised"].against_baseline is not None


def test_parts_make_one_system(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    for seed in (1, 2):
        add(folder, "single", "hyperx", seed, {POS: GOOD}, piece="pos")
    add(folder, "single", "hyperx", 1, {NER: HALF}, piece="ner")
    row = rows(folder)["hyperx", ALL, "supervised"]  # the second seed lacks a part
    assert (row.mean, row.std, row.seeds) == (75, None, 1)


def test_cells_that_one_did_not_score_are_left_out(experiment: Path) -> None:
    add(experiment, "mixed", "head", 1, {POS: GOOD})
    summary, left_out = summarise(read_systems(experiment).cells)
    assert {(row.task, row.kinds) for row in summary} == {("pos", (Kind.SUPERVISED,))}
    assert left_out == ["ner:eng", "pos:isl", "pos:fao"]


def test_only_cells_scored_alike_are_compared(tmp_path: Path) -> None:
    first = [cell(*values) for values in CELLS]
    second = [cell(task, lang, kind, m, s - 5) for task, lang, kind, m, s in CELLS]
    second[1]["kind"] = str(Kind.SUPERVISED)  # trained in one run, not in the other
    second[4]["examples"] = 12  # scored on other data
    del second[5]  # not scored
    runs = [write_results(tmp_path / "one", first), write_results(tmp_path / "two", second)]
    summary, left_out = summarise(gather_runs(runs, by_seed=False).cells)
    assert left_out == ["pos:deu", "ner:eng", "ner:deu"]
    assert [(row.task, *row.kinds, row.method, row.mean) for row in summary] == [
        (task, kind, method, score)
        for task, kind, *scores in [
            ("pos", Kind.SUPERVISED, 93.21, 88.21),
            ("mlm", Kind.SUPERVISED, 12.5, 7.5),
            ("pos", Kind.TEXT_ONLY, 70.25, 65.25),
            ("pos", Kind.UNTOUCHED, 61.0, 56.0),
            ("mlm", Kind.UNTOUCHED, 84.0, 79.0),
        ]
        for method, score in zip(("one", "two"), scores, strict=True)
    ]


@pytest.mark.parametrize(
    ("key", "value"),
    [("metric", "macro F1"), ("examples", 36), ("units", 410), ("kind", "unseen combination")],
)
def test_a_score_on_other_data_is_of_another_cell(tmp_path: Path, key: str, value: object) -> None:
    one = cell(*CELLS[0])
    runs = [
        write_results(tmp_path / name, [result])
        for name, result in (("one", one), ("two", {**one, key: value}))
    ]
    assert summarise(gather_runs(runs, by_seed=False).cells) == ([], ["pos:eng"])


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [(None, "a (adapters)"), ("adapters", "a (adapters)"), ("b (hyperx)", "b (hyperx)")],
)
def test_a_baseline_may_be_named_by_its_method(
    tmp_path: Path, wanted: str | None, chosen: str
) -> None:
    about = (("a", "hyperx"), ("a", "adapters"), ("b", "hyperx"))
    runs = [write_results(tmp_path / f"{n}-{m}", name=n, method=m) for n, m in about]
    cells = gather_runs(runs).cells
    assert choose_baseline(cells, wanted) == chosen
    with pytest.raises(UnknownNameError, match=r"a \(hyperx\)"):
        choose_baseline(cells, "hyperx")  # there are two


def test_there_need_be_no_baseline(tmp_path: Path) -> None:
    assert choose_baseline(gather_runs([write_results(tmp_path / "run")]).cells, None) is None


# Few-shot curves


def right(percent: int) -> list[int]:
    """40 examples, of which a share is right."""
    return [1] * (40 * percent // 100) + [0] * (40 - 40 * percent // 100)


def few(folder: Path, method: str, examples: int, scores: dict[int, tuple[int, int]]) -> None:
    """Add the runs of both languages: draw → what is right in each."""
    for draw, (isl, fao) in scores.items():
        for key, percent in ((ISL, isl), (FAO, fao)):
            piece, point = f"pos-{key[1]}", (examples, draw)
            add(folder, "few", method, 1, {key: right(percent)}, piece, point, "english")


@pytest.fixture
def curve(tmp_path: Path) -> Path:
    folder = tmp_path / "curve"
    for method, percent in (("hyperx", 40), ("adapters", 50)):
        add(folder, "english", method, 1, {ISL: right(percent), FAO: right(percent - 20)})
    few(folder, "hyperx", 5, {1: (50, 40), 2: (70, 60)})
    few(folder, "hyperx", 50, {1: (80, 70), 2: (80, 70)})
    few(folder, "adapters", 5, {1: (50, 30), 2: (50, 30)})
    few(folder, "adapters", 50, {1: (80, 80), 2: (90, 80)})
    return folder


def summary_of(folder: Path) -> tuple[list[Row], list[str]]:
    cells = read_systems(folder).cells
    before = cells[cells["setting"] == "english"]
    return summarise_curve(cells[cells["setting"] == "few"], None if before.empty else before)


def points(folder: Path) -> dict[tuple[str, Any], Row]:
    summary, _ = summary_of(folder)
    assert {row.task for row in summary} == {"pos"}
    return {(row.method, row.labelled): row for row in summary}


def test_means_over_cells_and_spread_over_draws(curve: Path) -> None:
    of = points(curve)
    one = of["hyperx", 5]
    assert one.by_seed == (45, 65)
    assert (one.mean, one.cells, one.draws, one.seeds) == (55, 2, 2, 1)
    assert one.std == pytest.approx(14.1421, abs=1e-4)
    assert of["hyperx", 50].std == 0
    assert {key for key, row in of.items() if row.best} == {
        ("adapters", 0), ("hyperx", 5), ("adapters", 50),
    }  # fmt: skip


def test_at_0_stands_what_the_runs_continue(curve: Path) -> None:
    zero = points(curve)["hyperx", 0]
    assert (zero.setting, zero.mean, zero.std, zero.draws, zero.cells) == ("few", 30, None, 0, 2)
    assert zero.data()["kind"] == f"{KINDS['isl']}; {KINDS['fao']}"
    assert points(curve)["hyperx", 5].data()["kind"] == "supervised"


def test_what_was_scored_on_other_data_is_not_at_0(curve: Path) -> None:
    add(curve, "english", "adapters", 1, {ISL: right(50), FAO: [1, 0]})
    assert ("adapters", 0) not in points(curve)
    assert ("hyperx", 0) in points(curve)


def test_a_curve_needs_nothing_to_continue(curve: Path) -> None:
    cells = read_systems(curve).cells
    summary, _ = summarise_curve(cells[cells["setting"] == "few"])
    assert {row.labelled for row in summary} == {5, 50}


def test_seeds_and_draws_are_repeats_alike(curve: Path) -> None:
    for key in (ISL, FAO):
        add(curve, "few", "hyperx", 2, {key: right(50)}, f"pos-{key[1]}", (5, 1), "english")
    row = points(curve)["hyperx", 5]
    assert (sorted(row.by_seed), row.draws, row.seeds) == ([45, 50, 65], 2, 2)
    assert ("hyperx", 0) not in points(curve)  # its second seed is not evaluated there


def test_a_cell_that_a_number_lacks_is_left_out_of_the_whole_curve(curve: Path) -> None:
    add(curve, "few", "hyperx", 1, {ISL: right(90)}, "pos-isl", (500, 1), "english")
    list_run(curve, "few", "hyperx", 1, "pos-fao", (500, 1), "english", ["pos:fao"])
    of = points(curve)
    assert {row.cells for row in of.values()} == {1}
    assert of["hyperx", 5].by_seed == (50, 70)
    assert of["hyperx", 500].mean == 90
    assert ("adapters", 500) not in of  # not run yet, and no reason to leave anything out
    assert summary_of(curve)[1] == ["pos:fao"]


def test_a_draw_that_lacks_a_cell_does_not_count_yet(curve: Path) -> None:
    add(curve, "few", "hyperx", 1, {ISL: right(100)}, "pos-isl", (5, 3), "english")
    assert points(curve)["hyperx", 5].draws == 2


def test_without_a_whole_draw_there_is_nothing_yet(tmp_path: Path) -> None:
    """Each draw lacks a cell, though each cell has a draw; what the runs continue has both."""
    folder = tmp_path / "curve"
    add(folder, "english", "hyperx", 1, {ISL: right(40), FAO: right(20)})
    for draw, key in ((1, ISL), (2, FAO)):
        add(folder, "few", "hyperx", 1, {key: right(50)}, f"pos-{key[1]}", (5, draw), "english")
    assert summary_of(folder) == ([], [])


def test_only_few_shot_cells_make_the_curve(curve: Path) -> None:
    path = curve / "experiment.json"
    data = json.loads(path.read_text())
    for run in data["runs"]:
        if "cells" in run:
            run["cells"] = [name for name in run["cells"] if name == "pos:isl"]
    path.write_text(json.dumps(data))
    assert points(curve)["hyperx", 5].by_seed == (50, 70)


def test_methods_with_nothing_in_common_have_no_curve(tmp_path: Path) -> None:
    folder = tmp_path / "curve"
    add(folder, "few", "hyperx", 1, {ISL: right(50)}, "isl", (5, 1))
    add(folder, "few", "adapters", 1, {FAO: right(50)}, "fao", (5, 1))
    assert summary_of(folder) == ([], ["pos:isl", "pos:fao"])


FAR, DAN, MLT = Kind.UNTOUCHED, ("pos", "dan"), ("pos", "mlt")
STRATA = {"fao": (False, True), "dan": (True, True), "mlt": (False, True), "isl": (None, None)}


def by_stratum(folder: Path, method: str) -> dict[str, Row]:
    summary, _ = summarise(read_systems(folder).cells, "adapters")
    return {row.stratum: row for row in summary if row.method == method and row.kinds == (FAR,)}


def test_a_kind_is_followed_by_its_strata(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    for seed in (1, 2, 3):
        add(folder, "s", "hyperx", seed, {DAN: GOOD, FAO: HALF, MLT: BAD, ISL: BAD}, strata=STRATA)
        add(folder, "s", "adapters", seed, {DAN: BAD, FAO: BAD, MLT: BAD, ISL: BAD}, strata=STRATA)
    of = by_stratum(folder, "hyperx")
    known, new = "known to the encoder, related", "new to the encoder, related"
    assert list(of) == ["", known, new]
    assert [(row.mean, row.cells) for row in of.values()] == [(50, 3), (100, 1), (25, 2)]
    assert all(row.against_baseline is not None for row in of.values())
    assert of[known].against_baseline.significant  # type: ignore[union-attr]
    summary, _ = summarise(read_systems(folder).cells)
    combinations = [row for row in summary if row.kinds == (Kind.UNSEEN_COMBINATION,)]
    assert {row.stratum for row in combinations} == {""}  # nothing is known of its cells


def test_strata_are_not_tested_on_fewer_than_three_seeds(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    for seed in (1, 2):
        add(folder, "s", "hyperx", seed, {DAN: GOOD, FAO: GOOD}, strata=STRATA)
        add(folder, "s", "adapters", seed, {DAN: BAD, FAO: BAD}, strata=STRATA)
    of = by_stratum(folder, "hyperx")
    assert len(of) == 3
    assert {row.against_baseline for row in of.values()} == {None}


def test_a_cell_whose_stratum_differs_between_runs_is_kept_apart(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    add(folder, "s", "hyperx", 1, {DAN: GOOD, FAO: HALF}, strata=STRATA)
    add(folder, "s", "adapters", 1, {DAN: BAD, FAO: BAD}, strata=STRATA | {"dan": (True, False)})
    of = by_stratum(folder, "hyperx")
    assert list(of) == ["", "new to the encoder, related", DIFFERING]
    assert (of[DIFFERING].mean, of[DIFFERING].cells) == (100, 1)
