"""Evaluating a run: every cell of its recipe that has data, and the table that shows it."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..data.examples import Split
from ..errors import HyperlectError, RunError, UnknownNameError, unknown
from ..grid import Cell
from ..hardware import choose_device
from ..languages import resolve
from ..model import HyperX
from ..preparation import read_corpora
from ..recipe import Recipe, load_recipe
from .examples import write_examples
from .fill import fill
from .results import CellResult, Results, write_results
from .sample import spread


def evaluate_run(
    run: str | Path,
    cells: Sequence[Cell] | None = None,
    split: Split = "test",
    device: str = "auto",
    console: Console | None = None,
    recipe: Recipe | None = None,
) -> Results:
    """Score a run on every cell of its recipe that has data of a split, and write results.json.

    Args:
        run: a finished run folder.
        cells: only these; results.json is then left alone.
        split: "test" or "dev"; only test results are written.
        device: "auto" (CUDA, Apple GPU or CPU, in this order), or one of them by name.
        console: where progress is shown.
        recipe: the run's, where its data lies elsewhere by now; by default the one that it holds.

    Returns:
        The results.

    Raises:
        RunError: the run is not finished.
        HyperlectError: there is nothing to score, a wanted cell has no data, or data is faulty.
    """
    run = Path(run)
    if recipe is None:
        recipe = load_recipe(run / "recipe.yaml", check_files=False)  # only those scored are needed
    described = about(recipe, run)
    chosen = _choose(list(recipe.cells(split)), cells, split)
    model = HyperX.from_pretrained(run, device=choose_device(device))
    corpora = read_corpora(recipe, [split], model.tasks, chosen)
    encoded = corpora.encode(model.tokenizer, model.max_length)
    rows = {cell: spread(encoded[split, cell], recipe.evaluation.examples) for cell in chosen}
    with _bar(console) as progress:
        bar = progress.add_task("", total=len(chosen), note="")

        def show(result: CellResult) -> None:
            figure = "n/a" if result.score is None else f"{result.score:.1f}"
            note = f"{result.task}:{result.language} {result.metric} {figure}"
            progress.update(bar, advance=1, note=note)

        how = recipe.evaluation
        scored = fill(model, rows, how.tokens_per_batch, how.precision, show)
    results = Results(**described, cells=tuple(scored))
    if cells is None and split == "test":
        write_examples(run, scored)
        write_results(run, results)  # last, for it says that the run is done
    return results


def about(recipe: Recipe, run: Path) -> dict[str, Any]:
    """Say what results are of: the recipe's name, method, seed and backbone, and the training."""
    path = run / "training.json"
    if not path.is_file():
        raise RunError(f"{run} is not finished. Go on with: hyperlect train --resume {run}")
    try:
        training = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{path} is malformed ({error}). Train the run again.") from None
    return {
        "name": recipe.name,
        "method": recipe.method,
        "seed": recipe.training.seed,
        "steps": training["steps"],
        "backbone": recipe.backbone,
        "seconds": training["seconds"],
        "trained_parameters": training.get("trained_parameters"),
        "date": datetime.date.today().isoformat(),
    }


def _choose(there: list[Cell], wanted: Sequence[Cell] | None, split: str) -> list[Cell]:
    """Return the cells to score. Raises where a wanted one has no data, or none has."""
    if not there:
        raise HyperlectError(f"The recipe of this run names no {split} data.")
    if wanted is None:
        return there
    chosen = list(dict.fromkeys(Cell(task, resolve(language)) for task, language in wanted))
    for cell in chosen:
        if cell not in there:
            error = unknown(f"cell with {split} data", str(cell), [str(known) for known in there])
            where = f"More {split} data goes under data in the run's recipe.yaml."
            raise UnknownNameError(f"{error} {where}")
    return chosen


def _bar(console: Console | None) -> Progress:
    return Progress(
        TextColumn("[bold]evaluating"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(compact=True),
        console=console,
        disable=console is None,
        transient=True,
    )
