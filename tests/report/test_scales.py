from __future__ import annotations

import re
from pathlib import Path

import matplotlib.colors
import numpy as np
import pytest
from matplotlib.figure import Figure

from hyperlect.report import plots
from hyperlect.report.plots import LEVELS, Scale, counts_text, figure_text

STYLE = Path(plots.__file__).parent.joinpath("templates/style.css").read_text(encoding="utf-8")


def luminance(colour: str) -> float:
    """The relative luminance of a colour, as WCAG 2 defines it."""
    shade = np.array(matplotlib.colors.to_rgb(colour))
    linear = np.where(shade <= 0.04045, shade / 12.92, ((shade + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def test_text_on_every_colour_is_legible_and_colours_run_one_way() -> None:
    rules = re.findall(r"\.([qp])(\d+) \{ background: (#\w+); color: (#\w+)", STYLE)
    assert [int(level) for _, level, *_ in rules] == [*range(LEVELS)] * 4
    for _, _, shade, ink in rules:
        low, high = sorted(luminance(colour) for colour in (shade, ink))
        assert (high + 0.05) / (low + 0.05) >= 4.5
    for start in range(0, len(rules), LEVELS):
        lights = [luminance(shade) for _, _, shade, _ in rules[start : start + LEVELS]]
        assert lights in (sorted(lights), sorted(lights, reverse=True))


def ticks(scale: Scale) -> list[float]:
    axes = Figure().subplots()
    scale.set_axis(axes)
    return [tick for tick in axes.get_xticks() if scale.low <= tick <= scale.high]


def test_percentages_share_a_scale_with_round_ends() -> None:
    scale = Scale.around([43.0, 91.0])
    assert (scale.low, scale.high) == (40, 100)
    assert ticks(scale) == [40, 60, 80, 100]
    assert (scale.colour_class(40), scale.colour_class(100)) == ("q0", f"q{LEVELS - 1}")
    assert scale.place(70) == 0.5


def test_perplexities_have_a_logarithmic_scale_on_which_low_is_best() -> None:
    scale = Scale.around([2.3, 170.0], perplexity=True)
    assert (scale.low, scale.high) == (2, 200)
    assert (scale.colour_class(200), scale.colour_class(2)) == ("p0", f"p{LEVELS - 1}")
    assert scale.place(20) == pytest.approx(0.5)
    assert ticks(scale) == pytest.approx([2, 5, 10, 20, 50, 100, 200])


@pytest.mark.parametrize("scores", [[], [50.0], [100.0], [0.0], [float("inf")], [3.0, 8.0]])
@pytest.mark.parametrize("perplexity", [False, True])
def test_every_scale_has_a_range_and_no_percentage_lies_beyond_0_and_100(
    scores: list[float], perplexity: bool
) -> None:
    scale = Scale.around(scores, perplexity)
    assert scale.low < scale.high
    assert len(ticks(scale)) >= 2
    assert scale.low >= 0
    assert perplexity or scale.high <= 100


def test_scores_beyond_the_ends_have_the_colours_of_the_ends() -> None:
    assert [Scale(0, 100).colour_class(score) for score in (-5, 250)] == ["q0", f"q{LEVELS - 1}"]
    assert Scale(2, 20, perplexity=True).colour_class(500) == "p0"


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
    ("counts", "text"),
    [([1, 1], "1 seed"), ([3], "3 seeds"), ([3, 1, 2], "1 to 3 seeds"), ([], "0 seeds")],
)
def test_counts_are_one_number_or_the_least_and_the_most(counts: list[int], text: str) -> None:
    assert counts_text(counts, "seed") == text
