from __future__ import annotations

import re

import matplotlib.colors
import pytest

from hyperlect.evaluation import CellResult
from hyperlect.grid import Kind
from hyperlect.report.scales import (
    LEVELS,
    Scale,
    colour_rules,
    counts_text,
    figure_text,
    luminance,
    scale_of,
)


def _cells(metric: str, *scores: float) -> list[CellResult]:
    return [
        CellResult(
            task="t", language="eng", kind=Kind.SUPERVISED, metric=metric, score=s, examples=1
        )
        for s in scores
    ]


def test_text_on_every_colour_is_legible_and_colours_run_one_way() -> None:
    rules = re.findall(r"\.([qp])(\d+) \{ background: (#\w+); color: (#\w+)", colour_rules())
    assert len(rules) == 4 * LEVELS
    for _, _, shade, ink in rules:
        lights = sorted(luminance(*matplotlib.colors.to_rgb(colour)) for colour in (shade, ink))
        assert (lights[1] + 0.05) / (lights[0] + 0.05) >= 4.5
    for start in range(0, len(rules), LEVELS):
        lights = [luminance(*matplotlib.colors.to_rgb(r[2])) for r in rules[start : start + LEVELS]]
        assert lights in (sorted(lights), sorted(lights, reverse=True))


def test_percentages_share_a_scale_with_round_ends() -> None:
    scale = scale_of([*_cells("accuracy", 43.0, 91.0), *_cells("perplexity", 7.0)], False)
    assert (scale.low, scale.high) == (40.0, 100.0)
    assert scale.ticks() == [40.0, 60.0, 80.0, 100.0]
    assert scale.place(70) == pytest.approx(0.5)
    assert (scale.colour_class(40), scale.colour_class(100)) == ("q0", f"q{LEVELS - 1}")


def test_perplexities_have_a_logarithmic_scale_on_which_low_is_best() -> None:
    scale = scale_of([*_cells("accuracy", 43.0), *_cells("perplexity", 2.3, 170.0)], True)
    assert (scale.low, scale.high) == (2.0, 200.0)
    assert scale.place(20) == pytest.approx(0.5)
    assert (scale.colour_class(200), scale.colour_class(2)) == ("p0", f"p{LEVELS - 1}")
    assert scale.ticks() == [2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0]


@pytest.mark.parametrize("scores", [[], [50.0], [100.0], [0.0], [float("inf")]])
@pytest.mark.parametrize("metric", ["accuracy", "perplexity"])
def test_every_scale_has_a_range(metric: str, scores: list[float]) -> None:
    scale = scale_of(_cells(metric, *scores), metric == "perplexity")
    assert scale.low < scale.high
    assert len(scale.ticks()) >= 2


def test_scores_beyond_the_ends_stay_within() -> None:
    assert [Scale(0, 100).place(score) for score in (-5, 250)] == [0.0, 1.0]


@pytest.mark.parametrize(
    ("score", "digits", "text"),
    [
        (87.125, 1, "87.1"),
        (87.126, 2, "87.13"),
        (99.97, 1, "100"),
        (-3.0, 1, "−3.0"),
        (8.04, 1, "8.0"),
        (1234.5, 1, "1234"),
        (2_500_000.0, 1, "2.5e6"),
        (float("inf"), 1, "∞"),
        (float("nan"), 1, "–"),
        (None, 1, "–"),
    ],
)
def test_figures(score: float | None, digits: int, text: str) -> None:
    assert figure_text(score, digits) == text


@pytest.mark.parametrize(
    ("counts", "text"), [([1, 1], "1 seed"), ([3], "3 seeds"), ([3, 1, 2], "1 to 3 seeds")]
)
def test_counts_are_one_number_or_the_least_and_the_most(counts: list[int], text: str) -> None:
    assert counts_text(counts, "seed") == text
