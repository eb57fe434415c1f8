"""hyperlect experiment."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .shared import Device, DeviceOption, complain, err, libraries, out, remark

if TYPE_CHECKING:
    from ..experiment import Board, State

FAILED, UNFINISHED, INTERRUPTED = 1, 3, 130


def experiment(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="GRID.yaml|FOLDER",
            help="The experiment's file; or a folder that holds one, or else recipes, of which "
            "all are run.",
            show_default=False,
        ),
    ],
    folder: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="Where the runs go. [dim]default: runs/ and the experiment's name[/]",
            show_default=False,
        ),
    ] = None,
    show: Annotated[
        bool,
        typer.Option("--list", "--dry-run", help="Check everything, show the runs, run nothing."),
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SETTING/METHOD",
            help="Only runs whose name begins so; * stands for anything; may be repeated.",
            show_default=False,
        ),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Runs at a time. [dim]default: one; one a GPU where there are several[/]",
            show_default=False,
        ),
    ] = None,
    slice_: Annotated[
        str | None,
        typer.Option(
            "--slice",
            metavar="TIME",
            help="Work for so long (10m, 1h30m), save, and stop; the same command goes on.",
            show_default=False,
        ),
    ] = None,
    retry: Annotated[
        bool, typer.Option("--retry", help="Try again what failed before, from where it was.")
    ] = False,
    redo: Annotated[
        bool,
        typer.Option(
            "--redo", help="Remove and run anew what was made by a recipe that has changed since."
        ),
    ] = False,
    methods: Annotated[
        str | None,
        typer.Option(
            metavar="M,M",
            help="For a folder of recipes: the methods. [dim]default: each recipe's own[/]",
            show_default=False,
        ),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(
            metavar="N,N",
            help="For a folder of recipes: the seeds. [dim]default: each recipe's own[/]",
            show_default=False,
        ),
    ] = None,
    device: DeviceOption = Device.AUTO,
) -> None:
    """Run recipes with several methods and seeds, and go on where it stopped.

    What is done is never repeated: call it again after an interruption or a
    failure, or with more methods and seeds. What fails is named at the end;
    the rest goes on. docs/experiments.md says how to write GRID.yaml.

    Exit codes: 0 all done; 3 something is left that the same command goes on
    with, 130 after Ctrl-C; 1 nothing is left but what failed; 2 the experiment
    is faulty.

    \b
    Examples:
      hyperlect experiment recipes/small/grid.yaml --list
      hyperlect experiment recipes/small/grid.yaml --processes 2
      hyperlect experiment mine/ --methods hyperx,adapters --seeds 1,2,3
      hyperlect experiment grid.yaml --only mixed/hyperx --slice 10m
    """
    began = time.monotonic()  # importing the libraries is part of the slice
    with libraries():
        from ..experiment import Board, Runner, Screen, Slice, check_owner, choose, plan, slots
        from ..experiment import seconds as read_seconds
    limit = Slice(None if slice_ is None else read_seconds(slice_), began=began)
    planned = plan(source, folder, _names(methods), _numbers(seeds))
    check_owner(planned)
    board = Board(planned, choose(planned, only or ()))
    if redo and not show:
        for run in board.redo():
            remark(f"{run.name}: removed, to be run anew")
    if retry and not show:
        board.retry()
    interrupted = False
    if show:
        states = board.states()
        _table(board, states)
    else:
        screen, shares = Screen(err()), slots(processes, device.value)
        runner = Runner(board, shares, limit, screen, device.value)
        states = runner.run()
        interrupted = runner.asked > 0
    code = _summary(board, states)
    if code == UNFINISHED:
        again = "Without --list the command" if show else "The same command"
        remark(f"{again} goes on with what is left.")
    raise typer.Exit(INTERRUPTED if interrupted and code == UNFINISHED else code)


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def _numbers(text: str | None) -> list[int]:
    numbers = _names(text)
    if not all(number.isdigit() for number in numbers):
        raise typer.BadParameter(f"write numbers with commas between, not {text}")
    return [int(number) for number in numbers]


def _table(board: Board, states: Mapping[str, State]) -> None:
    from ..experiment import runs_table

    out().print(runs_table(board, states))


def _summary(board: Board, states: Mapping[str, State]) -> int:
    """Say what was done, what failed and why, and what is left. Returns the exit code."""
    from ..experiment import ERROR, LEFT, State, counted, told

    runs = board.chosen
    out().print(f"{counted(board, states)}: {board.experiment.folder}", markup=False)
    failed = [run for run in runs if states[run.name] is State.FAILED]
    for run in failed:
        complain(f"{run.name} failed; see {run.folder / ERROR}")
    if failed:
        remark("Once mended, try again with --retry.")
    changed = [run for run in runs if states[run.name] is State.CHANGED]
    for run in changed:
        complain(told(run, board.changed[run.name]))
    if changed:
        remark("Put the recipe back, name another folder with --out, or run them anew with --redo.")
    blocked: dict[str, list[str]] = {}
    for run in runs:
        if states[run.name] is State.BLOCKED:
            blocked.setdefault(board.obstacle(run), []).append(run.name)
    for why, names in blocked.items():
        others = f" and {len(names) - 1} more are" if len(names) > 1 else " is"
        complain(f"{names[0]}{others} blocked: {why}")
    if blocked:
        remark("Retry or redo what blocks; where weights are gone, remove the folder.")
    if any(states[run.name] in LEFT for run in runs):
        return UNFINISHED
    return 0 if all(states[run.name] is State.DONE for run in runs) else FAILED
