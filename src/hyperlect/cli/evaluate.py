"""hyperlect evaluate."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated

import typer

from ..grid import Cell
from .shared import (
    Device,
    DeviceOption,
    RunArgument,
    err,
    libraries,
    out,
    remark,
    run_folder,
)


class Part(StrEnum):
    """Which part of the data."""

    TEST = "test"
    DEV = "dev"


def evaluate(
    run: RunArgument,
    cells: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TASK:LANGUAGE",
            help="Score only these cells, one or several. [dim]default: all that have data[/]",
            show_default=False,
        ),
    ] = None,
    more_cells: Annotated[
        list[str] | None, typer.Argument(hidden=True, metavar="TASK:LANGUAGE")
    ] = None,
    split: Annotated[Part, typer.Option(help="Which part of the data.")] = Part.TEST,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the results as JSON instead of a table.")
    ] = False,
    device: DeviceOption = Device.AUTO,
) -> None:
    """Score a run on the data its recipe names, by kind of cell.

    Test scores of all cells are kept in the run folder, as results.json.

    \b
    Examples:
      hyperlect evaluate runs/mine
      hyperlect evaluate runs/mine --cells ner:fao pos:isl
      hyperlect evaluate runs/mine --split dev --json > dev.json
    """
    run = run_folder(run, finished=True)
    # The parser gives an option one value: what follows the first cell comes as arguments.
    given = [text for group in [*(cells or ()), *(more_cells or ())] for text in group.split(",")]
    chosen = [Cell.parse(text) for text in given if text]
    with libraries():
        from ..evaluation import evaluate_run, results_table
    results = evaluate_run(run, chosen or None, split.value, device.value, err())
    if as_json:
        typer.echo(json.dumps(results.data(), ensure_ascii=False, indent=1))
        return
    out().print(results_table(results))
    if chosen or split is not Part.TEST:
        remark("(results.json keeps the test scores of all cells; it was left as it is)")
    else:
        remark(f"Kept in {run / 'results.json'}. As a page: hyperlect report {run}")
