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


def test_the_formulas_of_heads_are_their_counts() -> None:
    text = costs.page(efficiency.counts(), [])
    for h, encoder in ((768, "mBERT"), (384, "builtin:e5-small")):
        vocabulary = costs.VOCABULARIES[encoder]
        column = list(SETTINGS).index(encoder) + 1
        rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
        found = {r[0].strip("| "): r[column].strip(" |") for r in rows if len(r) == 4}
        assert found["tags (17)"] == f"{17 * (h + 1):,}"
        assert found["tags (17), `factorised`"] == f"{401 * 17 * (h + 1):,}"
        parser = 1200 * (h + 1) + 250500 + 10201 * 37
        assert found["parser, `mlp` (37 relations)"] == f"{parser:,}"
        assert found["`mlm`, tied"] == f"{h * (h + 3) + vocabulary:,}"


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
