"""The grid of a recipe as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich import box
from rich.table import Table

from ..data.examples import SPLITS, Split
from ..grid import Cell, Grid, Kind
from ..languages import name as language_name
from .recipe import Recipe

_WIDTH = 80  # columns that the table should fit
_SHORTEST = len("language")


def check_table(
    recipe: Recipe, counts: Mapping[tuple[Split, Cell], int], grid: Grid | None = None
) -> Table:
    """Lay the grid out, one language a row and one task a column.

    Languages with labels come first, then those with raw text, then untouched ones.

    Args:
        recipe: what is shown.
        counts: examples in each part of each cell; parts that were not counted show ``?``.
        grid: what is trained, where it is more than the recipe says: with a run to start from.

    Returns:
        A table that is readable at 80 columns. A cell reads ``● 600/60/200``: its kind's mark, and
        the examples to train on, to select by and to score; ``◐ 200`` if it is scored only.
    """
    grid = grid or recipe.grid()
    parts = {split: set(recipe.cells(split)) for split in SPLITS}
    cells = set().union(*parts.values())

    def numbers(cell: Cell) -> str:
        if cell not in cells:
            return ""
        shown = [_count(counts.get((s, cell))) if cell in parts[s] else "–" for s in SPLITS]
        text = shown[2] if shown[:2] == ["–", "–"] else "/".join(shown)
        return f"{grid.kind(cell).mark} {text}"

    ordered = sorted({cell.language for cell in cells}, key=lambda code: (_group(grid, code), code))
    rows = [[numbers(Cell(task, language)) for task in recipe.tasks] for language in ordered]
    widths = [max(map(len, column)) for column in zip(recipe.tasks, *rows, strict=True)]
    gaps = 2 * (len(widths) + 1)
    room = max(_SHORTEST, _WIDTH - len("code") - sum(widths) - gaps)

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.caption, table.caption_justify = _legend(grid, cells), "left"
    for heading in ("code", "language", *recipe.tasks):
        table.add_column(heading, no_wrap=True)
    for language, following, row in zip(ordered, [*ordered[1:], None], rows, strict=True):
        last = following is not None and _group(grid, following) != _group(grid, language)
        table.add_row(language, _shorten(language_name(language), room), *row, end_section=last)
    return table


def _shorten(name: str, room: int) -> str:
    return name if len(name) <= room else f"{name[: room - 1].rstrip()}…"


def _group(grid: Grid, language: str) -> int:
    """Number the sorts of languages: with labels, with text alone, untouched."""
    if language in grid.labelled_languages:
        return 0
    return 1 if language in grid.text_languages else 2


def _count(examples: int | None) -> str:
    if examples is None:
        return "?"
    return str(examples) if examples < 10_000 else f"{examples // 1000}k"


def _legend(grid: Grid, cells: set[Cell]) -> str:
    """Explain the marks, with the number of cells of each kind."""
    lines = ["train/dev/test examples, or test examples alone"]
    for kind in Kind:
        number = sum(grid.kind(cell) is kind for cell in cells)
        if number:
            lines.append(f"{kind.mark} {kind} ({number} {'cell' if number == 1 else 'cells'})")
    return "\n".join(lines)
