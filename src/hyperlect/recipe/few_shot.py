"""The section ``few_shot``: little training data for some cells."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from ..grid import Cell
from .sections import Positive, Section, cells_listed


def _cells(value: Any) -> Any:
    return cells_listed(value)


class FewShotSection(Section):
    """Little training data for some cells."""

    cells: Annotated[tuple[str, ...], BeforeValidator(_cells)]
    """The cells meant (pos:mlt). They need train files, of which only some examples are used."""
    examples: Annotated[int, Field(ge=0)]
    """How many of each, drawn at random; 0 for none, which leaves the cells unseen."""
    draw: Positive = 1
    """Which draw. Each number puts a cell's examples into an order of its own, the same for all
    methods and seeds, and the first ones are used: so 5 are among the 10 of the same draw."""
    alone: bool = False
    """Whether these cells are all that is trained on; the train files of others are left out."""

    def count(self, cell: Cell) -> int | None:
        """Return how many training examples a cell may have; None for all there are."""
        if str(cell) in self.cells:
            return self.examples
        return 0 if self.alone else None
