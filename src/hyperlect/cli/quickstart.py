"""hyperlect quickstart: the whole of it, on data that comes with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from . import PACKAGE, DeviceOption, RunOption, err, libraries, out, remark
from .check import check_table
from .evaluate import results_table
from .predict import explained, load, readable
from .train import start_run

RECIPE = PACKAGE / "data" / "sample" / "quickstart.yaml"
RUN = Path("runs/quickstart")
TASK, LANGUAGE = "ner", "eng"
SENTENCE = "Last spring Ingrid Larsen flew from Nairobi to the University of Coimbra."
NEXT = """
Next:
  Open {page} in a browser.
  Names in Faroese, which it has never seen (type sentences, or give a file):
    hyperlect predict {run} --task ner --language fao
  Your own data: copy {recipe}, change it, then
    hyperlect check MINE.yaml
    hyperlect train MINE.yaml"""


def quickstart(
    run: RunOption = None,
    steps: Annotated[int | None, typer.Option(min=1)] = None,
    device: DeviceOption = "auto",
) -> None:
    """Train, evaluate, report and predict on data that comes with hyperlect.

    Word classes are learned in six languages and names in six others; both are
    then scored in all twelve, and in three without any training data. It takes
    some minutes and needs no network.

    \b
    Examples:
      hyperlect quickstart
      hyperlect quickstart --steps 50 --out /tmp/quickstart

    Args:
        run: The run folder to make. Default: runs/quickstart.
        steps: Train fewer or more steps than the recipe says.
    """
    run = run or free(RUN)
    console = out()
    with libraries():
        from ..evaluation import evaluate_run
        from ..recipe import load_recipe
        from ..recipe.corpora import read_corpora
        from ..report import write_report
    recipe = load_recipe(RECIPE, overrides(steps))
    counts = read_corpora(recipe).counts()
    _title(console, "1. The data", "columns are tasks; numbers are sentences")
    console.print(check_table(recipe, counts, recipe.grid()))
    _title(console, "2. Training", f"the backbone stays as it is; the rest goes into {run}")
    start_run(recipe, run, device)
    _title(console, "3. Results", "on test sentences, none of them trained on")
    results = evaluate_run(run, device=device, console=err())
    console.print(results_table(results))
    page = write_report([run])
    _title(console, "4. A new sentence", "names in English, where only word classes were learned")
    model = load(str(run), device)
    (prediction,) = model.predict([SENTENCE], TASK, LANGUAGE)
    console.print(explained(prediction), style="dim", markup=False)
    console.print(readable(prediction, model.task(TASK)))
    console.print(NEXT.format(run=run, page=page, recipe=RECIPE), markup=False)


def free(wanted: Path) -> Path:
    """Return the wanted folder, or one like it with a number, where that is taken."""
    run, number = wanted, 1
    while run.exists() and any(run.iterdir()):
        number += 1
        run = wanted.with_name(f"{wanted.name}-{number}")
    if run != wanted:
        remark(f"{wanted} is there already; this goes into {run}.")
    return run


def overrides(steps: int | None) -> list[str]:
    """Return what --steps changes of the recipe."""
    return [] if steps is None else [f"training.steps={steps}"]


def _title(console: Console, title: str, remark: str) -> None:
    console.print(f"\n[bold]{title}[/] [dim]({remark})[/]")
