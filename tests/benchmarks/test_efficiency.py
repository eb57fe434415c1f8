"""The page of parameters and times is that of the code and of its results."""

from __future__ import annotations

import json

import efficiency
import pytest
from measures import costs
from measures.curves import GAP, draw, spread
from measures.sizes import SETTINGS

TIMES = json.loads(efficiency.TIMES.read_text("utf-8")) if efficiency.TIMES.exists() else []


def test_the_counts_and_the_page_in_the_repository_are_those_of_the_code() -> None:
    counts = efficiency.counts()
    written = json.loads(efficiency.COUNTS.read_text(encoding="utf-8"))
    assert written == counts, "run: python benchmarks/efficiency.py"
    assert costs.PAGE.read_text("utf-8") == costs.page(counts, TIMES)


def test_the_picture_is_drawn(tmp_path) -> None:
    draw(SETTINGS, tmp_path / "images" / "efficiency.png")
    assert (tmp_path / "images" / "efficiency.png").read_bytes().startswith(b"\x89PNG")


def test_labels_keep_their_order_and_their_distance() -> None:
    ends = {"low": 1.0, "c": 101.0, "b": 100.0, "a": 99.0, "high": 1e4}
    placed = spread(ends)
    assert sorted(placed, key=placed.__getitem__) == ["low", "a", "b", "c", "high"]
    assert placed["low"] == pytest.approx(1)
    assert placed["c"] / placed["b"] == pytest.approx(10**GAP)
    assert placed["b"] == pytest.approx(100, rel=0.01)
