"""hyperlect experiment."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from ..errors import listed
from . import DeviceOption, complain, libraries, out, remark, warn

if TYPE_CHECKING:
    from ..experiment import Progress

FAILED, UNFINISHED, INTERRUPTED = 1, 3, 130
ADVICE = {
    "failed": "Fix the cause, then try again with --retry.",
    "changed": "Restore the recipe, name another folder with --out, or use --redo to run it again.",
    "blocked": "Retry or redo the run that blocks. If its weights are gone, remove its folder.",
}


def experiment(
    source: Annotated[Path, typer.Argument(metavar="GRID.yaml|FOLDER")],
    folder: Annotated[Path | None, typer.Option("--out", metavar="DIR")] = None,
    show: Annotated[bool, typer.Option("--list", "--dry-run")] = False,
    only: Annotated[list[str], typer.Option(metavar="NAME")] = [],  # noqa: B006
    processes: Annotated[int | None, typer.Option(metavar="N", min=1)] = None,
    ray: Annotated[str | None, typer.Option(metavar="ADDRESS")] = None,
    gpus_per_run: Annotated[float | None, typer.Option(metavar="N", min=0)] = None,
    time_limit: Annotated[str | None, typer.Option(metavar="TIME")] = None,
    slice_: Annotated[str | None, typer.Option("--slice", hidden=True)] = None,
    retry: bool = False,
    redo: bool = False,
    methods: Annotated[str, typer.Option(metavar="M,M")] = "",
    seeds: Annotated[str, typer.Option(metavar="N,N")] = "",
    device: DeviceOption = "auto",
) -> None:
    """Run recipes with several methods and seeds, and continue where it stopped.

    What is done is never repeated. Use the same command again after an
    interruption or a failure, or with more methods and seeds. A run that fails
    does not stop the others; it is named at the end. docs/experiments.md says
    how to write GRID.yaml.

    Exit codes: 0 all done; 1 all done but what failed; 2 a mistake in the
    command, the file or a recipe; 3 the same command continues with the rest;
    130 the same after Ctrl-C.

    \b
    Examples:
      hyperlect experiment recipes/small/grid.yaml --list
      hyperlect experiment recipes/small/grid.yaml --processes 2
      hyperlect experiment mine/ --methods hyperx,adapters --seeds 1,2,3
      hyperlect experiment grid.yaml --only mixed/hyperx --time-limit 10m
      hyperlect experiment grid.yaml --ray auto --gpus-per-run 0.25

    Args:
        source: An experiment's file, or a folder with one; or a folder of recipes.
        folder: Where the runs go. Default: runs/NAME.
        show: Check everything, list the runs, run nothing.
        only: Only runs whose name begins so, as mixed/hyperx; * is anything; repeatable.
        processes: Runs at a time, in processes. Default: one, or one a GPU.
        ray: Run on a Ray cluster; local starts one here.
        gpus_per_run: With --ray: GPUs for each run; 0.25 for four on one.
        time_limit: Work for 10m, 1h30m or 600 seconds, then save and stop.
        retry: Try failed runs again, from their last checkpoint.
        redo: Remove and run again what a changed recipe had made.
        methods: For a folder of recipes: the methods.
        seeds: For a folder of recipes: the seeds.
    """
    began = time.monotonic()  # importing the libraries counts
    with libraries():
        from .. import experiment as room
    if slice_ is not None:
        warn("--slice is called --time-limit now. The next version will not know --slice.")
    budget = room.TimeBudget(time_limit or slice_, began)
    planned = room.plan(source, folder, _names(methods), _numbers(seeds))
    room.check_owner(planned)
    progress = room.Progress(planned, room.choose(planned, only))
    interrupted = False
    if show:
        out().print(room.runs_table(progress))
    else:
        engine = room.make_engine(device, processes, ray, gpus_per_run, planned.variables)
        for run in progress.redo() if redo else ():
            remark(f"{run.name}: removed, to be run again")
        if retry:
            progress.retry()
        # Runs in this process keep what is printed to sys.stderr, so the console has its own.
        console = Console(file=sys.stderr, highlight=False, soft_wrap=True)
        runner = room.Runner(progress, engine, budget, console)
        runner.run()
        interrupted = runner.interrupted
    out().print(f"{room.summary(progress)}: {planned.folder}", markup=False)
    code = _report(progress)
    if code == UNFINISHED:
        command = "Without --list the command" if show else "The same command"
        remark(f"{command} continues with the rest.")
    raise typer.Exit(INTERRUPTED if interrupted and code == UNFINISHED else code)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _numbers(text: str) -> list[int]:
    try:
        return [int(number) for number in _names(text)]
    except ValueError:
        raise typer.BadParameter(f"write numbers separated by commas, not {text}") from None


def _report(progress: Progress) -> int:
    """Say what failed and why, and what else keeps runs from being done. Returns the exit code."""
    from ..experiment.manifest import LEFT

    statuses = {run: progress.status(run) for run in progress.chosen}
    problems: dict[tuple[str, str], list[str]] = {}
    for run, status in statuses.items():
        if status in ADVICE:
            problems.setdefault((status, progress.reason(run)), []).append(run.name)
    for (problem, reason), names in problems.items():
        complain(f"{listed(names, 1)}: {problem}; {reason}")
    for problem in dict.fromkeys(problem for problem, _ in problems):
        remark(ADVICE[problem])
    if LEFT.intersection(statuses.values()):
        return UNFINISHED
    return FAILED if problems else 0
