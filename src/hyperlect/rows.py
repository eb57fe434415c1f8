"""The cells of a batch's rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .errors import HyperlectError, Problems, UnknownNameError
from .grid import Cell


def row_cells(
    task: str | Sequence[str],
    language: str | Sequence[str],
    rows: int,
    *checks: Callable[[str], object],
    each: str = "row",
) -> list[Cell]:
    """Pair tasks and languages, each one name for all rows or one name a row.

    Args:
        task, language: the names.
        rows: how many rows there are.
        checks: of a task's name and of a language's; each raises `UnknownNameError`.
        each: what errors call a row.

    Raises:
        UnknownNameError: a name is not known; every such row is named, counted from 0.
        HyperlectError: there are more or fewer names than rows.
    """
    problems = Problems()
    columns = []
    for what, names, check in zip(("task", "language"), (task, language), checks, strict=True):
        if isinstance(names, str):
            check(names)
            columns.append([names] * rows)
            continue
        if len(names) != rows:
            raise HyperlectError(
                f"{rows} {each}s need as many names of a {what}, not {len(names)}."
            )
        for name in dict.fromkeys(names):
            try:
                check(name)
            except UnknownNameError as error:
                where = [str(row) for row, other in enumerate(names) if other == name]
                several = "s" * (len(where) > 1)
                problems.add(f"{each}{several} {', '.join(where)}: {error}")
        columns.append(list(names))
    problems.raise_if_any(UnknownNameError, f"Some {each}s cannot be used:")
    return [Cell(*cell) for cell in zip(*columns, strict=True)]


def rows_by_task(cells: Sequence[Cell]) -> dict[str, list[int]]:
    """Return which rows are of which task, in order."""
    rows: dict[str, list[int]] = {}
    for row, cell in enumerate(cells):
        rows.setdefault(cell.task, []).append(row)
    return rows
