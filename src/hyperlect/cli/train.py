"""hyperlect train."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import HyperlectError
from ..grid import Cell
from .shared import Device, DeviceOption, err, libraries, out, remark, run_folder

if TYPE_CHECKING:
    from ..recipe import Recipe

CONTENTS = {
    "model.json, model.safetensors": "the trained model; the backbone is loaded from its own place",
    "recipe.yaml, versions.json": "what was trained, and with which libraries",
    "metrics.jsonl, log.txt, tensorboard": "how training went",
    "checkpoint": "what --resume needs; may be deleted once training is over",
}


def train(
    recipe: Annotated[
        Path | None,
        typer.Argument(metavar="RECIPE", help="The recipe's YAML file.", show_default=False),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="RUN",
            help="The run folder to make. [dim]default: runs/ and the recipe's name[/]",
            show_default=False,
        ),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change one setting of the recipe, as training.steps=200; may be repeated.",
            show_default=False,
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN", help="Go on with a run that was interrupted.", show_default=False
        ),
    ] = None,
    device: DeviceOption = Device.AUTO,
) -> None:
    """Train a recipe into a run folder.

    Ctrl-C stops after the step at hand and saves everything; --resume goes on
    from there, to the same numbers.

    \b
    Examples:
      hyperlect train recipes/mixed-small.yaml
      hyperlect train mine.yaml --out runs/mine-2 --set training.steps=500
      hyperlect train --resume runs/mine-2
    """
    if (recipe is None) == (resume is None):
        raise HyperlectError("Name a recipe to train, or a run to go on with: --resume RUN.")
    if recipe is None:
        if run or changes:
            raise HyperlectError(
                "--out and --set go with a new run; one that is resumed keeps its recipe."
            )
        resume_run(run_folder(Path(str(resume))), device)
        return
    if recipe.is_dir() and (recipe / "recipe.yaml").is_file():
        raise HyperlectError(
            f"{recipe} is a run folder. To go on with it: hyperlect train --resume {recipe}"
        )
    with libraries():
        from ..recipe import load_recipe
    loaded = load_recipe(recipe, changes or ())
    run = run or Path("runs") / loaded.name
    start_run(loaded, run, device)
    tell(run, loaded)


def start_run(recipe: Recipe, run: Path, device: Device) -> None:
    """Train a recipe into a run folder, with progress on stderr."""
    with libraries():
        from ..training import start
    for note in recipe.notes():
        remark(note)
    with _stopping():
        start(recipe, run, device, err())


def resume_run(run: Path, device: Device) -> None:
    """Go on with a run, and tell what came of it."""
    with libraries():
        from ..recipe import load_recipe
        from ..training import resume
    with _stopping():
        resume(run, device, err())
    tell(run, load_recipe(run / "recipe.yaml", check_files=False))


def tell(run: Path, recipe: Recipe) -> None:
    """Say what lies in a finished run folder, and what to do next."""
    from accelerate import PartialState

    if not PartialState().is_main_process:
        return
    console = out()
    console.print(f"\n[bold]{run}[/] holds:")
    width = max(map(len, CONTENTS))
    for names, meaning in CONTENTS.items():
        console.print(f"  {names:{width}}  [dim]{meaning}[/]")
    commands = next_commands(run, recipe)
    if commands:
        console.print("\nNext:")
    for command in commands:
        console.print(f"  hyperlect {command}", markup=False)


def next_commands(run: Path, recipe: Recipe) -> list[str]:
    """Return what one would do with a trained run."""
    scored = [f"evaluate {run}", f"report {run}"] if recipe.cells("test") else []
    grid = recipe.grid()
    cells = [cell for cell in sorted(grid.trained) if cell.task not in grid.text_tasks]
    if not cells:
        return scored
    task = cells[0].task
    untrained = [c for c in cells if Cell(task, c.language) not in grid.trained]
    language = (untrained or cells)[0].language
    return [*scored, f"predict {run} --task {task} --language {language} sentences.txt"]


@contextmanager
def _stopping() -> Iterator[None]:
    """Leave with 130, as a shell does after Ctrl-C, where training was interrupted."""
    from ..training import Interrupted

    try:
        yield
    except Interrupted as stop:
        remark(str(stop))
        raise typer.Exit(130) from stop
