"""hyperlect evaluate."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group
from rich.table import Table
from rich.text import Text

from ..errors import HyperlectError
from ..grid import Cell, Kind
from ..languages import name, resolve
from ..run_folder import RECIPE, RESULTS, require_run
from . import Device, DeviceOption, RunArgument, SetOption, err, libraries, out, remark

if TYPE_CHECKING:
    from ..evaluation import Results

COLOURS = {
    Kind.SUPERVISED: "green",
    Kind.UNSEEN_COMBINATION: "yellow",
    Kind.TEXT_ONLY: "cyan",
    Kind.UNTOUCHED: "magenta",
}


class Part(StrEnum):
    """Which part of the data."""

    TEST = "test"
    DEV = "dev"


def evaluate(
    run: RunArgument,
    cells: Annotated[
        list[str],
        typer.Option(
            metavar="TASK:LANGUAGE",
            help="Score only these cells. [dim]default: all that have data[/]",
        ),
    ] = [],  # noqa: B006
    more_cells: Annotated[list[str], typer.Argument(hidden=True, metavar="CELL")] = [],  # noqa: B006
    test: Annotated[
        list[str],
        typer.Option(
            "--test",
            metavar="TASK:LANGUAGE=FILE",
            help="Score this file instead, in the format of the task's other data; repeatable.",
        ),
    ] = [],  # noqa: B006
    split: Annotated[Part, typer.Option(help="Which part of the data.")] = Part.TEST,
    overrides: SetOption = [],  # noqa: B006
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the results as JSON instead of a table.")
    ] = False,
    device: DeviceOption = Device.AUTO,
) -> None:
    """Score a run on the data that its recipe names, by kind of cell.

    Test scores of all cells are kept in the run folder, as results.json.
    --set says where data lies now, as in data.0.root=/new/place.

    \b
    Examples:
      hyperlect evaluate runs/mine
      hyperlect evaluate runs/mine --cells ner:fao pos:isl
      hyperlect evaluate runs/mine --test pos:mlt=my-test.conllu
      hyperlect evaluate runs/mine --split dev --json > dev.json
    """
    run = require_run(run, finished=True)
    # The parser gives an option one value: the cells after the first come as arguments.
    texts = [text for group in [*cells, *more_cells] for text in group.split(",") if text]
    chosen = [Cell.parse(text) for text in texts]
    files = dict(_cell_and_file(text) for text in test)
    if files and (chosen or split is not Part.TEST):
        raise HyperlectError("--test names the cells itself; remove --cells and --split.")
    with libraries():
        from ..evaluation import evaluate_run
        from ..recipe import load_recipe
    recipe = load_recipe(run / RECIPE, overrides, check_files=False)
    results = evaluate_run(
        run, chosen or None, split.value, device.value, err(), recipe, files or None
    )
    if as_json:
        typer.echo(results.model_dump_json(indent=1))
        return
    out().print(results_table(results))
    if chosen or files or split is not Part.TEST:
        remark(f"({RESULTS} keeps the test scores of all cells and was not changed)")
    else:
        remark(f"Saved in {run / RESULTS}. As a page: hyperlect report {run}")


def _cell_and_file(text: str) -> tuple[Cell, Path]:
    cell, equals, file = text.partition("=")
    if not (equals and file):
        raise HyperlectError(f'--test must be TASK:LANGUAGE=FILE, not "{text}".')
    if not Path(file).is_file():
        raise HyperlectError(f"--test {text}: there is no file {file}.")
    task, language = Cell.parse(cell)
    return Cell(task, resolve(language)), Path(file)


def results_table(results: Results) -> Group:
    """Lay results out for a terminal.

    Returns:
        The grid (languages × tasks, each score with the mark of its kind and the number of
        examples; beside LAS also UAS) and the averages.
    """
    return Group(_grid(results), Text(), _averages(results), _legend(results))


def _grid(results: Results) -> Table:
    from ..evaluation.metrics import UAS

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
            beside = f" ({cell.details[UAS]:.1f})" if UAS in cell.details else ""
            figure = (f"{_figure(cell.score)}{beside} {cell.kind.mark}", COLOURS[cell.kind])
            row.append(Text.assemble(figure, (f" {cell.examples}", "dim")))
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
    """Explain the marks in the tables."""
    lines = [Text("n is the number of sentences or texts", style="dim")]
    for kind in results.kinds:
        lines.append(Text(f"{kind.mark} {kind}: {kind.meaning}", style=COLOURS[kind]))
    for reason in dict.fromkeys(cell.note for cell in results.cells if cell.note):
        lines.append(Text(f"n/a: {reason}", style="dim"))
    return Text("\n").join(lines)
