"""The drawings: what they show and say, and that they fit the page."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hyperlect.evaluation import CellResult
from hyperlect.evaluation.results import Expected
from hyperlect.grid import Kind
from hyperlect.report.compare import Row
from hyperlect.report.data import SELECTION, Curves, Differences
from hyperlect.report.plots import (
    ACCENT,
    Scale,
    draw_differences,
    draw_expected,
    draw_few_shot,
    draw_scores,
    draw_training,
)

SIZES = (0, 5, 50, 500)


def texts(drawing: str) -> dict[str, tuple[float, float]]:
    """Text → the place that it is written at."""
    places = {}
    for attributes, text in re.findall(r"<text([^>]*)>([^<]*)</text>", drawing):
        x, y = (re.search(rf' {name}="([-\d.]+)"', attributes) for name in ("x", "y"))
        assert x is not None
        assert y is not None
        places[html.unescape(text)] = (float(x[1]), float(y[1]))
    return places


def training(points: dict[int, float]) -> str:
    return draw_training(Curves({"pos": points}, None), "pos", "c")


def row(method: str, labelled: int | None, *by_seed: float, **about: Any) -> Row:
    about = {"metric": "accuracy", "kinds": (Kind.SUPERVISED,), "by_cell": (40.0, 60.0), **about}
    about |= {"languages": ("isl", "fao", "eng")[: len(about["by_cell"])]}
    about |= {"cells": len(about["by_cell"])}
    return Row(
        "few", method, "pos", by_seed=by_seed, seeds=len(by_seed), labelled=labelled, **about
    )


def few_shot(
    means: dict[str, Sequence[float]], sizes: Sequence[int] = SIZES, spread: float = 1.0
) -> str:
    rows = [
        row(method, size, mean - spread, mean + spread)
        for method, of_method in means.items()
        for size, mean in zip(sizes, of_method, strict=False)
    ]
    return draw_few_shot(rows, list(means), "c")


def test_text_in_a_drawing_is_left_as_it_is() -> None:
    name = '0.12345 $x$ <b id="c">'
    drawing = draw_scores([row(name, None, 5.0, metric="what & why")], "p")
    assert name in texts(drawing)
    assert "<b" not in drawing
    assert name in html.unescape(drawing[: drawing.index("</desc>")])


def test_drawings_on_one_page_share_no_ids_and_use_the_pages_colours() -> None:
    drawings = [draw_scores([row("a", None, 5, 9)], prefix) for prefix in ("one", "two")]
    ids = [set(re.findall(r'id="([^"]+)"', drawing)) for drawing in drawings]
    assert not ids[0] & ids[1]
    for drawing, of_drawing in zip(drawings, ids, strict=True):
        assert set(re.findall(r'href="#([^"]+)"', drawing)) <= of_drawing
        labels = re.search(r'aria-labelledby="([^"]+)"', drawing)
        assert labels is not None
        assert set(labels[1].split()) <= of_drawing
        assert "var(--accent)" in drawing
        assert ACCENT not in drawing
        assert "url(" not in drawing


def test_the_same_drawing_is_the_same_text() -> None:
    points = {step: 1 / (step + 1) for step in range(500)}
    assert training(points) == training(points)


# Expected and true scores


def test_expected_scores_are_drawn_with_their_ranges_against_the_true_ones() -> None:
    about = {"task": "pos", "metric": "accuracy", "examples": 50, "kind": Kind.UNTOUCHED}
    expected = Expected(score=70, low=60, high=75)
    cells = [
        CellResult(language=code, score=score, expected=expected, **about)
        for code, score in (("isl", 64.0), ("fao", 80.0))
    ]
    drawing = draw_expected(cells, "p", Scale(0, 100))
    assert "1 of 2 cells" in drawing
    assert "8.0 points off" in drawing
    assert {"expected, and its range", "true"} <= texts(drawing).keys()


# Scores by kind


def test_a_runs_scores_are_drawn_and_described_by_kind() -> None:
    rows = [
        row("hyperx", None, 70.0, by_cell=(70.0, 80.0, 60.0)),
        row("hyperx", None, 40.0, by_cell=(40.0,), kinds=(Kind.UNTOUCHED,)),
    ]
    drawing = draw_scores(rows, "p", Scale(0, 100))
    assert "supervised: mean 70.0 over 3 cells" in drawing
    assert "untouched: mean 40.0 over 1 cell." in drawing
    assert {"● supervised · 3 cells", "70.0", "40.0"} <= texts(drawing).keys()
    assert {"eng", "fao"} <= texts(drawing).keys()  # the lowest and the highest
    assert not {"isl", "hyperx"} & texts(drawing).keys()


@pytest.mark.parametrize(
    ("seeds", "text"), [((1, 2), "1 to 2 seeds"), ((3, 3), "3 seeds"), ((3, 1, 2), "1 to 3 seeds")]
)
def test_a_heading_counts_the_dots_of_all_systems_of_its_kind(
    seeds: tuple[int, ...], text: str
) -> None:
    rows = [row(f"m{number}", None, *range(60, 60 + n)) for number, n in enumerate(seeds)]
    places = texts(draw_scores(rows, "p"))
    assert f"● supervised · {text}" in places
    assert {row.method for row in rows} <= places.keys()


def test_a_dot_is_a_cell_where_all_systems_have_one_seed() -> None:
    drawing = draw_scores([row("a", None, 50), row("b", None, 40)], "p")
    assert "● supervised · 2 cells" in texts(drawing)


def test_perplexities_have_a_colour_and_an_axis_of_their_own() -> None:
    low = row("a", None, 3.0, metric="perplexity", by_cell=(1.0, 4.0))
    high = row("b", None, 300.0, metric="perplexity", by_cell=(150.0, 450.0))
    drawing = draw_scores([low, high], "p")
    assert "var(--warm)" in drawing
    assert "var(--accent)" not in drawing
    places = texts(drawing)
    assert places["10"][0] - places["1"][0] == pytest.approx(
        places["100"][0] - places["10"][0], abs=0.1
    )


def test_no_axis_of_percentages_goes_below_0() -> None:
    low = [row("a", None, 1, 2, 9), row("b", None, 3, 4, 8)]
    assert not [text for text in texts(draw_scores(low, "p")) if text.startswith("−")]
    drawing = few_shot({"hyperx": (0.5, 1.0, 2.0, 3.0)}, spread=4.0)
    assert not [text for text in texts(drawing) if text.startswith("−")]


# Learning curves


@pytest.mark.parametrize("points", [{0: 0.5}, {5: 2.0, 10: 2.0}, {1: -1.0, 9: 1e6}])
def test_short_and_flat_curves_can_be_drawn(points: dict[int, float]) -> None:
    last = max(points)
    assert f"{points[last]:.3g} at step {last}" in training(points)


def test_long_curves_are_thinned_without_losing_their_extremes() -> None:
    points = {step: 90.0 if step == 4321 else 0.0 for step in range(10_000)}
    drawing = training(points)
    assert len(drawing) < 20_000
    heights = {text: y for text, (_, y) in texts(drawing).items()}
    scale = (heights["0"] - heights["80"]) / 80
    band = re.search(r'<path id="c-[^"]*" d="([^"]*)"', drawing)  # matplotlib draws it upwards
    assert band is not None
    ys = [float(y) for _, y in re.findall(r"(-?[\d.]+) (-?[\d.]+)", band[1])]
    assert max(ys) - min(ys) == pytest.approx(90 * scale, rel=0.01)


@pytest.mark.parametrize(("best", "anchor"), [(10, "left"), (90, "right")])
def test_the_best_step_is_named(best: int, anchor: str) -> None:
    curves = Curves({SELECTION: {10: 50.0, 90: 60.0}}, best)
    drawing = draw_training(curves, SELECTION, "c")
    score = curves.points[SELECTION][best]
    assert f"best {score:.1f}, step {best}" in texts(drawing)
    assert f"best {score:.3g} at step {best}" in drawing


# Few-shot curves


def test_the_axis_is_logarithmic_and_0_stands_apart() -> None:
    places = texts(few_shot({"hyperx": (20, 40, 60, 80)}))
    zero, five, fifty, most = (places[str(size)][0] for size in SIZES)
    assert fifty - five == pytest.approx(most - fifty, abs=0.1)
    assert zero < five - 20


def test_a_few_shot_curve_is_described() -> None:
    drawing = few_shot({"hyperx": (33.3, 42.2, 55.5, 64.4)})
    assert "hyperx: 33.3 with 0, 42.2 with 5, 55.5 with 50, 64.4 with 500" in drawing
    assert {"hyperx", "labelled examples"} <= texts(drawing).keys()


def test_a_colour_is_a_methods_though_others_have_no_points() -> None:
    alone = few_shot({"head": (), "hyperx": (20, 40, 60, 80)})
    assert "var(--line-2)" in alone
    assert "var(--line-1)" not in alone
    assert "head" not in texts(alone)


@pytest.mark.parametrize("sizes", [(5,), (0, 5), (5, 10, 11, 12)])
def test_curves_of_few_sizes_can_be_drawn(sizes: tuple[int, ...]) -> None:
    places = texts(few_shot({"hyperx": (50.0,) * len(sizes)}, sizes))
    assert {str(size) for size in sizes[:2]} <= places.keys()


def test_numbers_too_close_to_be_read_are_not_all_written() -> None:
    places = texts(few_shot({"hyperx": (50.0,) * 4}, (5, 100, 101, 500)))
    assert "100" in places
    assert "101" not in places


# Differences of adapters


def test_differences_of_all_tasks_have_one_axis_and_are_described() -> None:
    layers, ones = 3, np.ones((2, 3, 4, 4))
    across_languages = ones * [[[[0.1]]], [[[0.2]]]]
    differences = Differences(
        ["pos", "ner"], list("abcd"), across_languages, np.full((4, layers, 2, 2), 0.8)
    )
    drawings = [draw_differences(differences, task, "d") for task in ("pos", "ner")]
    axes = [{t: y for t, (_, y) in texts(drawing).items() if t[-1] == "%"} for drawing in drawings]
    assert axes[0] == axes[1]
    assert {"0%", "80%"} <= axes[0].keys()
    assert "the nearest language 20%, another language 20%, another task 80%" in drawings[1]
    assert {"1", "3", "another task"} <= texts(drawings[0]).keys()
    assert "4" not in texts(drawings[0])


def test_the_strata_of_a_run_have_lines_of_their_own() -> None:
    whole = row("a", None, 55, kinds=(Kind.UNTOUCHED,), by_cell=(70, 40))
    known = row("a", None, 70, kinds=whole.kinds, by_cell=(70,), stratum="known to the encoder")
    new = replace(known, by_seed=(40,), by_cell=(40,), stratum="new to the encoder")
    words = texts(draw_scores([whole, known, new], "p", Scale(0, 100)))
    assert {"known (1)", "new (1)", "55.0", "70.0", "40.0"} <= words.keys()
    one = draw_scores([whole, replace(whole, stratum="unrelated")], "p", Scale(0, 100))
    assert "unrelated (2)" not in texts(one)  # it is the whole kind
