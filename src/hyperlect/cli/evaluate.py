"""hyperlect evaluate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Group
from rich.table import Column, Table
from rich.text import Text

from ..errors import HyperlectError
from ..grid import STRATA_MEANING, Cell, Kind
from ..languages import resolve
from ..run_folder import RECIPE, RESULTS, require_run
from . import (
    LOOK,
    DeviceOption,
    RunArgument,
    SetOption,
    err,
    grid_table,
    libraries,
    named_files,
    out,
    remark,
)

if TYPE_CHECKING:
    from ..evaluation import Results

COLOURS = {
    Kind.SUPERVISED: "green",
    Kind.UNSEEN_COMBINATION: "yellow",
    Kind.TEXT_ONLY: "cyan",
    Kind.UNTOUCHED: "magenta",
}


def evaluate(
    run: RunArgument,
    cells: Annotated[list[str], typer.Option(metavar="TASK:LANGUAGE")] = [],  # noqa: B006
    more_cells: Annotated[list[str], typer.Argument(hidden=True, metavar="CELL")] = [],  # noqa: B006
    test: Annotated[list[str], typer.Option(metavar="TASK:LANGUAGE=FILE")] = [],  # noqa: B006
    split: Literal["test", "dev"] = "test",
    overrides: SetOption = [],  # noqa: B006
    as_json: Annotated[bool, typer.Option("--json")] = False,
    device: DeviceOption = "auto",
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

    Args:
        run: The folder that training made, or a model's id on the hub.
        cells: Score only these cells. Default: all that have data.
        test: Score this file instead, in the format of the task's other data; repeatable.
        split: Which part of the data.
        overrides: Change one setting of the recipe, as training.steps=200; repeatable.
        as_json: Print the results as JSON instead of a table.
    """
    named, run = run, require_run(run, finished=True)
    # The parser gives an option one value: the cells after the first come as arguments.
    texts = [text for group in [*cells, *more_cells] for text in group.split(",") if text]
    chosen = [Cell.parse(text) for text in texts]
    tested = named_files("--test", "TASK:LANGUAGE=FILE", test)
    parsed = ((Cell.parse(cell), file) for cell, file in tested.items())
    files = {Cell(task, resolve(language)): file for (task, language), file in parsed}
    if files and (chosen or split != "test"):
        raise HyperlectError("--test names the cells itself; remove --cells and --split.")
    with libraries():
        from ..evaluation import evaluate_run
        from ..recipe import load_recipe
    recipe = load_recipe(run / RECIPE, overrides, check_files=False)
    from_hub = run != named  # what lies in the client's cache is not to be changed
    results = evaluate_run(
        run, chosen or None, split, device, err(), recipe, files or None, save=not from_hub
    )
    if as_json:
        typer.echo(results.model_dump_json(indent=1))
        return
    out().print(results_table(results))
    if chosen or files or from_hub or split != "test":
        remark(f"({RESULTS} keeps the test scores of all cells and was not changed)")
    else:
        remark(f"Saved in {run / RESULTS}. As a page: hyperlect report {run}")


def results_table(results: Results) -> Group:
    """Lay results out for a terminal.

    Returns:
        The grid (languages × tasks, each score with the mark of its kind and the number of
        examples; beside LAS also UAS) and the averages.
    """
    return Group(_grid(results), Text(), _averages(results), _legend(results))


def _grid(results: Results) -> Table:
    from ..evaluation.metrics import UAS

    with_uas = {result.task for result in results.cells if UAS in result.details}
    with_range = {result.task for result in results.cells if result.expected}
    headings: dict[str, str] = {}
    cells: dict[Cell, Text] = {}
    for result in results.cells:
        metric = f"{result.metric} ({UAS})" if result.task in with_uas else result.metric
        expected = "\nexpected" if result.task in with_range else ""
        headings[result.task] = f"{result.task}\n{metric}  n{expected}"
        beside = f" ({result.details[UAS]:.1f})" if UAS in result.details else ""
        figure = (f"{_figure(result.score)}{beside} {result.kind.mark}", COLOURS[result.kind])
        expected = f" {result.expected.range}" if result.expected else ""
        cells[result.cell] = Text.assemble(figure, (f" {result.examples}{expected}", "dim"))
    title = f"{results.name}: results by cell"
    return grid_table(cells, headings, title=title, justify="right")


def _figure(score: float | None) -> str:
    return "n/a" if score is None else f"{score:.1f}"


def _averages(results: Results) -> Table:
    numbers = (Column(name, justify="right") for name in ("mean", "cells"))
    title = "averages by kind of cell"
    table = Table("task", "kind of cell", "metric", *numbers, title=title, **LOOK)
    rows = [row for average in results.averages for row in (average, *average.strata)]
    for average in rows:
        kind, without = average.kind, average.not_applicable
        what = f"  {average.stratum}" if average.stratum else f"{kind.mark} {kind}"
        mean = _figure(average.mean)
        cells = f"{average.cells} ({without} n/a)" if without else f"{average.cells}"
        table.add_row(average.task, Text(what, COLOURS[kind]), average.metric, mean, cells)
    return table


def _legend(results: Results) -> Text:
    """Explain the marks in the tables."""
    lines = [Text("n is the number of sentences or texts", style="dim")]
    ranged = [cell for cell in results.cells if cell.expected and cell.scored]
    if ranged:
        inside = sum(cell.as_expected for cell in ranged)
        text = "expected: the range for four of five cells, by the model's confidence alone; "
        text += f"here it holds {inside} of {len(ranged)}"
        lines.append(Text(text, style="dim"))
    for kind in results.kinds:
        lines.append(Text(f"{kind.mark} {kind}: {kind.meaning}", style=COLOURS[kind]))
    if any(average.strata for average in results.averages):
        lines.append(Text(STRATA_MEANING, style="dim"))
    for reason in dict.fromkeys(cell.note for cell in results.cells if cell.note):
        lines.append(Text(f"n/a: {reason}", style="dim"))
    return Text("\n").join(lines)
