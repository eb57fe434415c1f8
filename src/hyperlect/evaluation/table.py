"""Results as a terminal shows them: the grid, and averages by kind."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table
from rich.text import Text

from ..grid import Kind
from ..languages import name
from .metrics import UAS
from .results import Results

COLOURS = {
    Kind.SUPERVISED: "green",
    Kind.UNSEEN_COMBINATION: "yellow",
    Kind.TEXT_ONLY: "cyan",
    Kind.UNTOUCHED: "magenta",
}


def results_table(results: Results) -> Group:
    """Lay results out for a terminal.

    Returns:
        The grid (languages × tasks, each score with the mark of its kind and the number of
        examples; beside LAS also UAS) and the averages.
    """
    return Group(_grid(results), Text(), _averages(results), _legend(results))


def _grid(results: Results) -> Table:
    cells = results.cells
    with_uas = {cell.task for cell in cells if UAS in cell.details}
    metrics = {c.task: f"{c.metric} ({UAS})" if c.task in with_uas else c.metric for c in cells}
    scores = {(cell.language, cell.task): cell for cell in cells}
    table = Table(title=f"{results.name}: results by cell", title_justify="left")
    table.add_column("language")
    for task, metric in metrics.items():
        table.add_column(f"{task}\n{metric}  n", justify="right")
    for language in sorted({cell.language for cell in cells}):
        row: list[str | Text] = [f"{language}  {name(language)}"]
        for task in metrics:
            cell = scores.get((language, task))
            if cell is None:
                row.append("")
                continue
            kind = cell.kind
            beside = f" ({cell.details[UAS]:.1f})" if UAS in cell.details else ""
            shown = (f"{_figure(cell.score)}{beside} {kind.mark}", COLOURS[kind])
            row.append(Text.assemble(shown, (f" {cell.examples}", "dim")))
        table.add_row(*row)
    return table


def _figure(score: float | None) -> str:
    return "n/a" if score is None else f"{score:.1f}"


def _averages(results: Results) -> Table:
    table = Table(title="averages by kind of cell", title_justify="left")
    for column in ("task", "kind of cell", "metric"):
        table.add_column(column)
    for column in ("mean", "cells"):
        table.add_column(column, justify="right")
    for average in results.averages:
        kind, without = average.kind, average.not_applicable
        table.add_row(
            average.task,
            Text(f"{kind.mark} {kind}", style=COLOURS[kind]),
            average.metric,
            _figure(average.mean),
            f"{average.cells}" + (f" ({without} n/a)" if without else ""),
        )
    return table


def _legend(results: Results) -> Text:
    """Explain the marks that occur."""
    lines = [Text("n is the number of sentences or texts", style="dim")]
    for kind in results.kinds:
        lines.append(Text(f"{kind.mark} {kind}: {kind.meaning}", style=COLOURS[kind]))
    for reason in dict.fromkeys(cell.note for cell in results.cells):
        if reason:
            lines.append(Text(f"n/a: {reason}", style="dim"))
    return Text("\n").join(lines)
