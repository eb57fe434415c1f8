from __future__ import annotations

import html
import re

import pytest

from hyperlect.report.data import Curves
from hyperlect.report.learning_curves import panels
from hyperlect.report.svg import ACCENT, canvas, to_svg, write


def test_text_in_a_drawing_is_left_as_it_is() -> None:
    text = 'rate 0.123456 $x$ <b id="c"> #010101 font-family: x; -->'
    figure, axes = canvas(100, 50)
    write(axes, (10, 10), text)
    drawing = to_svg(figure, "here", "what & why")
    assert text in html.unescape(drawing)
    assert "<b" not in drawing
    assert "what &amp; why" in drawing


def test_drawings_on_one_page_share_no_ids_and_use_the_pages_colours() -> None:
    drawings = []
    for prefix in ("one", "two"):
        figure, axes = canvas(100, 50)
        axes.scatter([10, 20], [10, 20], color=ACCENT)
        drawings.append(to_svg(figure, prefix, "dots"))
    ids = [set(re.findall(r'id="([^"]+)"', drawing)) for drawing in drawings]
    assert ids[0]
    assert not ids[0] & ids[1]
    for drawing, own in zip(drawings, ids, strict=True):
        assert set(re.findall(r'href="#([^"]+)"', drawing)) <= own
        assert "var(--accent)" in drawing
        assert ACCENT not in drawing
        assert 'viewBox="0 0 100 50"' in drawing


def test_the_same_drawing_is_the_same_text() -> None:
    points = [(step, 1 / (step + 1)) for step in range(0, 500)]
    curves = Curves({"pos": points}, [(10, 50.0)], 10)
    assert panels(curves, "r1") == panels(curves, "r1")


@pytest.mark.parametrize("points", [[(0, 0.5)], [(5, 2.0), (10, 2.0)], [(1, -1.0), (9, 1e6)]])
def test_short_and_flat_curves_can_be_drawn(points: list[tuple[int, float]]) -> None:
    (title, drawing), *_ = panels(Curves({"pos": points}, [], None), "r1")
    assert title == "pos, training loss"
    assert f"{points[-1][1]:.3g} at step {points[-1][0]}" in drawing


def test_long_curves_are_thinned_without_losing_their_extremes() -> None:
    points = [(step, 90.0 if step == 4321 else 0.0) for step in range(10_000)]
    (_, drawing), *_ = panels(Curves({"pos": points}, [], None), "r1")
    assert len(drawing) < 20_000
    # The axis runs from 0 at pixel 166 to 100 at pixel 12. matplotlib writes a band upwards from
    # the lower edge of the canvas, which is 190 pixels high.
    band = [190 - float(y) for y in re.findall(r"[ML] [\d.]+ -([\d.]+)", drawing)]
    assert min(band) == pytest.approx(166 - 0.9 * 154, abs=0.1)
