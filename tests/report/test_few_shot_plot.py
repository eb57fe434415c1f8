"""The drawing of a few-shot curve."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from hyperlect.grid import Kind
from hyperlect.report.few_shot import PointRow
from hyperlect.report.few_shot_plot import draw_curve
from hyperlect.report.few_shot_written import CurveTable

SIZES = (0, 5, 50, 500)


def row(method: str, examples: int, mean: float, std: float | None = None) -> PointRow:
    return PointRow(
        "few", method, "pos", Kind.SUPERVISED, "accuracy", mean, std, 1, 1,
        examples=examples, draws=3,
    )  # fmt: skip


def table(means: dict[str, Sequence[float | None]], sizes: Sequence[int] = SIZES) -> CurveTable:
    lines = [
        (m, [None if v is None else row(m, n, v, 1.0) for n, v in zip(sizes, of, strict=True)])
        for m, of in means.items()
    ]
    return CurveTable("pos", "accuracy", list(sizes), lines, 1)


def texts(drawing: str) -> dict[str, tuple[float, float]]:
    """Text → the place that it is written at."""
    found = re.findall(r"<text[^>]*>([^<]*)</text>", drawing)
    tags = re.findall(r"<text([^>]*)>", drawing)
    places = {}
    for text, attributes in zip(found, tags, strict=True):
        x, y = (re.search(rf' {name}="([-\d.]+)"', attributes) for name in ("x", "y"))
        assert x is not None
        assert y is not None
        places[text.strip()] = (float(x[1]), float(y[1]))
    return places


def test_the_axis_is_logarithmic_and_0_stands_apart() -> None:
    places = texts(draw_curve(table({"hyperx": (20, 40, 60, 80)}), "c"))
    zero, five, fifty, most = (places[str(size)][0] for size in SIZES)
    assert fifty - five == pytest.approx(most - fifty, abs=0.1)
    assert zero < five - 20


def test_every_point_of_a_lone_line_has_its_score() -> None:
    drawing = draw_curve(table({"hyperx": (33.3, 42.2, 55.5, 64.4)}), "c")
    assert {"33.3", "42.2", "55.5", "64.4", "hyperx"} <= texts(drawing).keys()
    assert "hyperx: 33.3 with 0, 42.2 with 5, 55.5 with 50, 64.4 with 500" in drawing


def test_scores_that_would_cover_each_other_are_not_written() -> None:
    means = {f"m{n}": (50 + n / 10, 60 + n / 10, 70 + n / 10, 80 + n / 10) for n in range(8)}
    places = texts(draw_curve(table(means), "c"))
    scores = [at for text, at in places.items() if re.fullmatch(r"\d\d\.\d", text)]
    assert 0 < len(scores) < 32
    for number, (x, y) in enumerate(scores):
        for other_x, other_y in scores[number + 1 :]:
            assert abs(x - other_x) >= 27 or abs(y - other_y) >= 11


def test_a_colour_is_a_methods_own_though_others_have_no_points() -> None:
    nothing = (None,) * 4
    alone = draw_curve(table({"head": nothing, "hyperx": (20, 40, 60, 80)}), "c")
    assert "var(--line-2)" in alone
    assert "var(--line-1)" not in alone
    assert "head" not in texts(alone)


@pytest.mark.parametrize("sizes", [(5,), (0, 5), (5, 10, 11, 12)])
def test_short_curves_can_be_drawn(sizes: tuple[int, ...]) -> None:
    places = texts(draw_curve(table({"hyperx": (50.0,) * len(sizes)}, sizes), "c"))
    assert {str(size) for size in sizes[:2]} <= places.keys()


def test_numbers_too_close_to_be_read_are_not_all_written() -> None:
    places = texts(draw_curve(table({"hyperx": (50.0,) * 4}, (5, 100, 101, 500)), "c"))
    assert "100" in places
    assert "101" not in places
