"""What a run rests on is seen to be the same where it is resumed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from hyperlect.errors import RunError
from hyperlect.grid import Cell
from hyperlect.training.state import basis, require_same

from ..data.made import tagged

ENG, ISL = Cell("pos", "eng"), Cell("pos", "isl")
ROWS = {ENG: tagged("the/DET cat/NOUN"), ISL: tagged("a/DET dog/NOUN")}


def found(rows: dict[Cell, Any] = ROWS, dev: dict[Cell, Any] = ROWS, encoder: str = "e5") -> Any:
    return basis(SimpleNamespace(backbone=SimpleNamespace(digest=encoder)), rows, dev)  # type: ignore[arg-type]


def test_the_order_of_cells_does_not_matter() -> None:
    again = found(dict(reversed(ROWS.items())))
    assert again == found()
    require_same(found(), again)


def test_all_that_has_changed_is_told() -> None:
    """Labels of the same number would be drawn alike."""
    other = {**ROWS, ENG: tagged("the/NOUN cat/DET")}
    with pytest.raises(RunError, match=r"start a new run:\n  - the training data \(texts or lab"):
        require_same(found(), found(other))
    with pytest.raises(RunError) as error:
        require_same(found(), found(dev={ENG: ROWS[ISL], ISL: ROWS[ENG]}, encoder="e6"))
    said = str(error.value)
    assert "the encoder (its weights)" in said
    assert "the development data" in said
    assert "the training data" not in said
