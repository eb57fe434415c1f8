"""hyperlect train."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import HyperlectError, RunError
from ..grid import Cell
from ..run_folder import RECIPE, TRAINING, is_run, is_trained, require_run
from . import Device, DeviceOption, RunOption, SetOption, err, libraries, out, remark

if TYPE_CHECKING:
    from ..recipe import Recipe

CONTENTS = {
    "model.json, model.safetensors": "the trained model; the backbone stays in its own place",
    "recipe.yaml, versions.json": "what was trained, and with which libraries",
    "metrics.jsonl, log.txt, tensorboard": "how training went",
    "checkpoint": "for --resume; may be deleted once training is over",
}


def train(
    recipe: Annotated[Path | None, typer.Argument(metavar="RECIPE")] = None,
    run: RunOption = None,
    overrides: SetOption = [],  # noqa: B006
    resume: Annotated[Path | None, typer.Option(metavar="RUN")] = None,
    device: DeviceOption = "auto",
) -> None:
    """Train a recipe into a run folder.

    Ctrl-C stops after the current step and saves everything. --resume continues
    from there, to the same numbers; --set then says where the data lies now.

    \b
    Examples:
      hyperlect train recipes/mixed-small.yaml
      hyperlect train mine.yaml --out runs/mine-2 --set training.steps=500
      hyperlect train --resume runs/mine-2

    Args:
        recipe: The recipe's YAML file.
        run: The run folder to make. Default: runs/ and the recipe's name.
        overrides: Change one setting of the recipe, as training.steps=200; repeatable.
        resume: Continue an interrupted run.
    """
    if recipe and not resume:
        if recipe.is_dir() and is_run(recipe):
            hint = f"Resume it: hyperlect train --resume {recipe}"
            raise RunError(f"{recipe} is a run folder. {hint}")
        with libraries():
            from ..recipe import load_recipe
        loaded = load_recipe(recipe, overrides)
        run = run or Path("runs") / loaded.name
        start_run(loaded, run, device)
        _describe(run, loaded)
    elif resume and not recipe:
        if run:
            raise HyperlectError("--out is for a new run; a resumed run keeps its folder.")
        _resume(require_run(resume), overrides, device)
    else:
        raise HyperlectError("Name a recipe to train, or a run to continue: --resume RUN.")


def start_run(recipe: Recipe, run: Path, device: Device) -> None:
    """Train a recipe into a run folder, with progress on stderr."""
    with libraries():
        from ..training import start
    for note in recipe.notes():
        remark(note)
    start(recipe, run, device, err())


def _resume(run: Path, overrides: list[str], device: Device) -> None:
    with libraries():
        from ..recipe import load_recipe
        from ..training import resume
    if is_trained(run):
        remark(f"{run} is finished: {TRAINING} is there. Nothing is left to train.")
        return
    recipe = load_recipe(run / RECIPE, overrides)
    resume(run, device, err(), recipe)
    _describe(run, recipe)


def _describe(run: Path, recipe: Recipe) -> None:
    """List the contents of a finished run folder, and what to do next."""
    from accelerate import PartialState

    if not PartialState().is_main_process:
        return
    console = out()
    console.print(f"\n[bold]{run}[/] holds:")
    for names, meaning in CONTENTS.items():
        console.print(f"  {names:35}  [dim]{meaning}[/]")
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
