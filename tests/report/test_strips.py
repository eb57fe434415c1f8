"""Strips: scores by kind, a dot a cell or a seed."""

from __future__ import annotations

import pytest

from hyperlect.evaluation import CellResult
from hyperlect.grid import Kind
from hyperlect.report.scales import scale_of
from hyperlect.report.strips import Strip, strip_panel


def dots(count: int) -> list[CellResult]:
    kind = Kind.SUPERVISED
    return [
        CellResult(task="pos", language="", kind=kind, metric="accuracy", score=s, examples=0)
        for s in range(60, 60 + count)
    ]


@pytest.mark.parametrize(
    ("counts", "said"), [((1, 1), "1 seed"), ((3, 3), "3 seeds"), ((3, 1, 2), "1 to 3 seeds")]
)
def test_a_heading_counts_the_dots_of_all_strips_of_its_kind(
    counts: tuple[int, ...], said: str
) -> None:
    strips = [Strip(Kind.SUPERVISED, dots(n), 60, f"method {n}") for n in counts]
    drawn = str(strip_panel(strips, scale_of(dots(3), False), "p", "pos", "seed"))
    assert f"supervised · {said}<" in drawn
