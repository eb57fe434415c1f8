"""Few-shot curves as tables: methods down, numbers of labelled examples across."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .few_shot import Curve, PointRow
from .scales import counts_text
from .written import Chapter, Sheet, written


@dataclass(frozen=True)
class CurveTable:
    """One task of a curve.

    Attributes:
        task, metric: of what.
        examples: the columns; 0 for the runs that the others go on from.
        lines: a method, its rows by number of examples (None where there is none).
        cells: over how many cells every score is.
    """

    task: str
    metric: str
    examples: list[int]
    lines: list[tuple[str, list[PointRow | None]]]
    cells: int


def curve_tables(curve: Curve, rows: Sequence[PointRow]) -> Iterator[CurveTable]:
    """Lay the rows of a curve out, a table for each task."""
    for task in dict.fromkeys(row.task for row in rows):
        own = {(row.method, row.examples): row for row in rows if row.task == task}
        first = next(iter(own.values()))
        examples = sorted({number for _, number in own})
        lines = [(m, [own.get((m, number)) for number in examples]) for m in curve.own]
        yield CurveTable(task, first.metric, examples, lines, first.cells)


def curve_legend(curve: Curve, rows: Sequence[PointRow]) -> str:
    """Say what stands in a curve's tables: over what the means are, spread, what is at 0."""
    if not rows:
        return (
            "The methods have no cell in common, or no draw with all of them: "
            "nothing can be compared."
        )
    drawn = [row for row in rows if row.examples]
    text = "Scores against the number of labelled examples in each cell: means over the cells and "
    text += f"{counts_text((row.draws for row in drawn), 'draw')} with "
    text += f"{counts_text((row.seeds for row in drawn), 'seed')}, ± the standard deviation over "
    text += "draws and seeds; bold is best."
    before = [row for row in rows if not row.examples]
    if before and curve.before:
        kinds = "; ".join(str(kind) for kind in dict.fromkeys(k for r in before for k in r.kinds))
        text += f" At 0: the runs of {curve.before.name} that these go on from ({kinds})."
    if left_out := [cell for task in curve.tasks for cell in curve.left_out(task)]:
        text += f" Left out, since not every method and number has a score: {', '.join(left_out)}."
    return text


def missing_runs(curve: Curve) -> list[str]:
    """Say how many runs have no results yet."""
    return [f"{method}, {counts_text([n], 'run')}" for method, n in curve.missing.items()]


def curve_chapter(curve: Curve, rows: Sequence[PointRow]) -> Chapter:
    """Put the tables of a curve together."""
    sheets = [
        Sheet(
            f"{table.task}, {table.metric}, cells: {table.cells}",
            ["method", *map(str, table.examples)],
            [[(method, "", False), *map(written, of)] for method, of in table.lines],
        )
        for table in curve_tables(curve, rows)
    ]
    return Chapter(curve.name, sheets, curve_legend(curve, rows), missing_runs(curve))
