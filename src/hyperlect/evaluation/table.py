"""Results as a terminal shows them: the grid, and averages by kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from ..grid import Kind
from ..languages import name
from .metrics import UAS
from .results import cell_results

COLOURS = {
    Kind.SUPERVISED: "green",
    Kind.UNSEEN_COMBINATION: "yellow",
    Kind.TEXT_ONLY: "cyan",
    Kind.UNTOUCHED: "magenta",
}


def results_table(data: Mapping[str, Any]) -> Group:
    """Lay results out for a terminal.

    Args:
        data: as `results.read_results` gives them.

    Returns:
        The grid (languages × tasks, each score with the mark of its kind and the number of
        examples; beside LAS also UAS) and the averages.
    """
    return Group(_grid(data), Text(), _averages(data), _legend(data))


def _grid(data: Mapping[str, Any]) -> Table:
    cells = cell_results(data)
    with_uas = {cell.task for cell in cells if UAS in cell.details}
    metrics = {c.task: f"{c.metric} ({UAS})" if c.task in with_uas else c.metric for c in cells}
    scores = {(cell.language, cell.task): cell for cell in cells}
    table = Table(title=f"{data['name']}: results by cell", title_justify="left")
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
            kind = Kind(cell.kind)
            beside = f" ({cell.details[UAS]:.1f})" if UAS in cell.details else ""
            shown = (f"{_figure(cell.score)}{beside} {kind.mark}", COLOURS[kind])
            row.append(Text.assemble(shown, (f" {cell.examples}", "dim")))
        table.add_row(*row)
    return table


def _figure(score: float | None) -> str:
    return "n/a" if score is None else f"{score:.1f}"


def _averages(data: Mapping[str, Any]) -> Table:
    table = Table(title="averages by kind of cell", title_justify="left")
    for column in ("task", "kind of cell", "metric"):
        table.add_column(column)
    for column in ("mean", "cells"):
        table.add_column(column, justify="right")
    for average in data["averages"]:
        kind = Kind(average["kind"])
        without = average.get("not_applicable", 0)
        table.add_row(
            average["task"],
            Text(f"{kind.mark} {kind}", style=COLOURS[kind]),
            average["metric"],
            _figure(average["mean"]),
            f"{average['cells']}" + (f" ({without} n/a)" if without else ""),
        )
    return table


def _legend(data: Mapping[str, Any]) -> Text:
    """Explain the marks that occur."""
    seen = {cell["kind"] for cell in data["cells"]}
    lines = [Text("n is the number of sentences or texts", style="dim")]
    for kind in Kind:
        if str(kind) in seen:
            lines.append(Text(f"{kind.mark} {kind}: {kind.meaning}", style=COLOURS[kind]))
    for reason in dict.fromkeys(cell.get("note") for cell in data["cells"]):
        if reason:
            lines.append(Text(f"n/a: {reason}", style="dim"))
    return Text("\n").join(lines)
