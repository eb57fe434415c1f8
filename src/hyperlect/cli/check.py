"""hyperlect check."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from ..errors import DataError, HyperlectError, Problems, RunError
from .shared import libraries, out, run_folder, warn

if TYPE_CHECKING:
    from ..grid import Grid
    from ..preparation import Corpora
    from ..recipe import Recipe
    from ..tasks import Task

SHOWN_LABELS = 40
MOST_UNKNOWN = 0.05
"""The share of unknown sub-words in a language from which on a remark is due."""


def check(
    place: Annotated[
        Path,
        typer.Argument(
            metavar="RECIPE|RUN", help="A recipe's YAML file, or a run folder.", show_default=False
        ),
    ],
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change one setting of the recipe first, as train does; may be repeated.",
            show_default=False,
        ),
    ] = None,
    encode: Annotated[
        bool,
        typer.Option(
            "--encode", help="Also load the backbone and split all words, as training will."
        ),
    ] = False,
) -> None:
    """Look for faults without training or running anything.

    A recipe: its settings, its data, its labels, and whether test data is among
    the training data; the grid is shown. A run: whether its files are whole and
    fit each other.

    \b
    Examples:
      hyperlect check recipes/mixed-small.yaml
      hyperlect check mine.yaml --set method=head --encode
      hyperlect check runs/mine
    """
    if place.is_dir():
        if changes or encode:
            raise HyperlectError("--set and --encode go with a recipe, not with a run folder.")
        check_run(run_folder(place, trained=False))
    else:
        check_recipe(place, changes or (), encode)


def check_recipe(path: Path, changes: Sequence[str], encode: bool) -> None:
    """Validate a recipe, read its data, and show the grid."""
    with libraries():
        from ..experiment import is_design
        from ..preparation import read_corpora
        from ..recipe import check_table, load_recipe
    if is_design(path):
        raise HyperlectError(
            f"{path} is an experiment's file. To check it with all of its recipes: "
            f"hyperlect experiment {path} --list"
        )
    recipe = load_recipe(path, changes)
    corpora, grid = with_start(recipe) if recipe.start_from else (read_corpora(recipe), None)
    console = out()
    console.print(f"[bold]{recipe.name}[/]: method {recipe.method}, backbone {recipe.backbone}")
    console.print(check_table(recipe, corpora.counts(), grid))
    for task in corpora.tasks.values():
        console.print(describe(task), markup=False)
    console.print()
    check_labels(corpora)
    for overlap in corpora.overlaps:
        warn(str(overlap), console)
    for name in corpora.unchecked:
        warn(f"whether evaluation data was trained on earlier is not checked for {name}", console)
    for note in recipe.notes():
        warn(note, console)
    if encode:
        text, remarks = encoded(recipe, corpora)
        console.print(text)
        for remark in remarks:
            warn(remark, console)
    console.print("No faults found.", style="green")


def with_start(recipe: Recipe) -> tuple[Corpora, Grid]:
    """Read the data of a recipe that starts from a run, and say what will have been trained.

    Raises:
        RunError: there is no such run, or it does not fit.
    """
    with libraries():
        from ..model.inventory import Inventory
        from ..training.run import model_config, read_start
    start, corpora = read_start(recipe)
    tasks = start.config.tasks if start else ()
    left = [task.name for task in tasks if task.name not in recipe.tasks]
    if left:
        warn(f"what {recipe.start_from} knows of {', '.join(left)} is left behind", out())
    return corpora, Inventory(model_config(recipe, corpora, start)).grid


def describe(task: Task) -> str:
    """Return a task's labels on one line; of spans, the entity types."""
    if not task.labels:
        return f"{task.name}: {task.type}"
    labels = [label[2:] for label in task.labels if label.startswith("B-")] or list(task.labels)
    shown = " ".join(labels[:SHOWN_LABELS])
    more = f" and {len(labels) - SHOWN_LABELS} more" if len(labels) > SHOWN_LABELS else ""
    return f"{task.name}: {task.type}, {len(labels)} labels: {shown}{more}"


def check_labels(corpora: Corpora) -> None:
    """Raise `DataError` with every label of any part that its task does not know."""
    from ..data.labels import label_ids

    problems = Problems()
    for (_, cell), examples in corpora.examples.items():
        task = corpora.tasks[cell.task]
        if task.labels:
            try:
                label_ids(examples, task)
            except DataError as error:
                problems.add(str(error))
    problems.raise_if_any(DataError, "The data cannot be used as it stands:")


def encoded(recipe: Recipe, corpora: Corpora) -> tuple[str, list[str]]:
    """Encode everything, which fills the cache that training reads, and sum it up.

    Also remark on languages that the encoder cannot read, or not well.
    """
    with libraries():
        from ..backbone import load_backbone
        from ..data.subwords import unknown_share
    backbone = load_backbone(recipe.backbone, recipe.revision)
    longest = min(recipe.max_length, backbone.max_length)
    rows = corpora.encode(backbone.tokenizer, longest)
    by_language: dict[str, list[list[int]]] = {}
    for (_, cell), data in rows.items():
        by_language.setdefault(cell.language, []).extend(data["input_ids"])
    lengths = [len(ids) for own in by_language.values() for ids in own]
    examples = sum(corpora.counts().values())
    text = (
        f"Encoded {examples:,} examples as {len(lengths):,} inputs of {sum(lengths):,} sub-words; "
        f"the longest has {max(lengths)} of at most {longest}."
    )
    shares = {
        language: unknown_share(ids, backbone.tokenizer) for language, ids in by_language.items()
    }
    return text, [
        f"{language}: {share:.0%} of the sub-words are unknown to the encoder, which so cannot "
        "read this writing well; choose one that knows it"
        for language, share in shares.items()
        if share > MOST_UNKNOWN
    ]


def check_run(run: Path) -> None:
    """Check the files of a run folder one by one, and show what each holds."""
    with libraries():
        from . import run_files
    problems = Problems()
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for name, found in run_files.read_all(run):
        if isinstance(found, Exception):
            problems.add(f"{name}: {found}")
            table.add_row("[red]✗[/]", name, "[red]faulty[/]")
        else:
            table.add_row("[green]✓[/]" if found else "–", name, found or "[dim]not there[/]")
    out().print(table)
    problems.raise_if_any(RunError, f"{run} is not whole:")
    out().print("No faults found.", style="green")
