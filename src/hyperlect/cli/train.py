"""hyperlect train."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import HyperlectError, Interrupted, RunError
from ..grid import Cell
from ..run_folder import RECIPE, TRAINING, is_run, is_trained, require_run
from . import Device, DeviceOption, SetOption, err, libraries, out, remark

if TYPE_CHECKING:
    from ..recipe import Recipe

CONTENTS = {
    "model.json, model.safetensors": "the trained model; the backbone stays in its own place",
    "recipe.yaml, versions.json": "what was trained, and with which libraries",
    "metrics.jsonl, log.txt, tensorboard": "how training went",
    "checkpoint": "for --resume; may be deleted once training is over",
}


def train(
    recipe: Annotated[
        Path | None, typer.Argument(metavar="RECIPE", help="The recipe's YAML file.")
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="RUN",
            help="The run folder to make. [dim]default: runs/ and the recipe's name[/]",
        ),
    ] = None,
    overrides: SetOption = [],  # noqa: B006
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Continue an interrupted run.")
    ] = None,
    device: DeviceOption = Device.AUTO,
) -> None:
    """Train a recipe into a run folder.

    Ctrl-C stops after the current step and saves everything. --resume continues
    from there, to the same numbers; --set then says where the data lies now.

    \b
    Examples:
      hyperlect train recipes/mixed-small.yaml
      hyperlect train mine.yaml --out runs/mine-2 --set training.steps=500
      hyperlect train --resume runs/mine-2
    """
    if (recipe is None) == (resume is None):
        raise HyperlectError("Name a recipe to train, or a run to continue: --resume RUN.")
    if recipe is None:
        if run:
            raise HyperlectError("--out is for a new run; a resumed run keeps its folder.")
        _resume(require_run(Path(str(resume))), overrides, device)
        return
    if recipe.is_dir() and is_run(recipe):
        raise RunError(f"{recipe} is a run folder. Resume it: hyperlect train --resume {recipe}")
    with libraries():
        from ..recipe import load_recipe
    loaded = load_recipe(recipe, overrides)
    run = run or Path("runs") / loaded.name
    start_run(loaded, run, device)
    _describe(run, loaded)


def start_run(recipe: Recipe, run: Path, device: Device) -> None:
    """Train a recipe into a run folder, with progress on stderr."""
    with libraries():
        from ..training import start
    for note in recipe.notes():
        remark(note)
    with _interruptible():
        start(recipe, run, device, err())


def _resume(run: Path, overrides: list[str], device: Device) -> None:
    with libraries():
        from ..recipe import load_recipe
        from ..training import resume
    if is_trained(run):
        remark(f"{run} is finished: {TRAINING} is there. Nothing is left to train.")
        return
    recipe = load_recipe(run / RECIPE, overrides)
    with _interruptible():
        resume(run, device, err(), recipe)
    _describe(run, recipe)


def _describe(run: Path, recipe: Recipe) -> None:
    """List the contents of a finished run folder, and what to do next."""
    from accelerate import PartialState

    if not PartialState().is_main_process:
        return
    console = out()
    console.print(f"\n[bold]{run}[/] holds:")
    width = max(map(len, CONTENTS))
    for names, meaning in CONTENTS.items():
        console.print(f"  {names:{width}}  [dim]{meaning}[/]")
    console.print("\nNext:")
    for command in next_commands(run, recipe):
        console.print(f"  hyperlect {command}", markup=False)


def next_commands(run: Path, recipe: Recipe) -> list[str]:
    """Return commands to use a trained run with."""
    commands = [f"check {run}"]
    if recipe.cells("test"):
        commands = [f"evaluate {run}", f"report {run}"]
    grid = recipe.grid()
    cells = [cell for cell in sorted(grid.trained) if cell.task not in grid.text_tasks]
    if cells:
        task = cells[0].task
        untrained = [c for c in cells if Cell(task, c.language) not in grid.trained]
        language = (untrained or cells)[0].language
        commands.append(f"predict {run} --task {task} --language {language} sentences.txt")
    return commands


@contextmanager
def _interruptible() -> Iterator[None]:
    """Exit with 130, as a shell does after Ctrl-C, if training was interrupted."""
    try:
        yield
    except Interrupted as stop:
        remark(str(stop))
        raise typer.Exit(130) from stop
