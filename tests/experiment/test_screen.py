from __future__ import annotations

import io
import json
from pathlib import Path

from rich.console import Console

from hyperlect.experiment.board import Board, choose
from hyperlect.experiment.screen import Screen, counted, last_step, runs_table
from hyperlect.experiment.state import State

from .made import FAILS, LONG, finish, planned, runner


def test_the_table_has_a_line_a_method_and_every_state(tmp_path: Path) -> None:
    settings = {
        "a": {"recipe": "recipe.yaml"},
        "b": {"recipe": "recipe.yaml", "after": "a", "methods": ["hyperx"]},
    }
    experiment = planned(tmp_path, settings=settings)
    finish(experiment.runs[0].folder, experiment.runs[0].recipe.dump())
    board = Board(experiment, choose(experiment, ()))
    console = Console(file=io.StringIO(), width=120, color_system=None)
    console.print(runs_table(board, board.states()))
    lines = [line.split() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    assert [" ".join(line) for line in lines[1:]] == [
        "a hyperx 1 done, 2 missing",
        "a adapters 1 missing, 2 missing",
        "b hyperx 1 blocked (a/hyperx/seed-1 has results but no weights), 2 missing",
    ]
    assert counted(board, board.states()) == "1 of 6 runs are done, 4 missing, 1 blocked"


def test_the_runs_of_a_curve_are_counted(tmp_path: Path) -> None:
    few = {
        "recipe": "recipe.yaml", "curve": {"examples": [2, 3], "draws": [1, 2]},
        "set": {"few_shot.cells": ["pos:isl"]},
    }  # fmt: skip
    experiment = planned(tmp_path, settings={"few": few}, methods=["head"], seeds=[1])
    finish(experiment.runs[0].folder, experiment.runs[0].recipe.dump())
    board = Board(experiment, choose(experiment, ()))
    console = Console(file=io.StringIO(), width=120, color_system=None)
    console.print(runs_table(board, board.states()))
    assert "few head 1 done, 3 missing" in " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]


def test_lines_for_a_file(tmp_path: Path) -> None:
    experiment = planned(tmp_path, methods=["head"])
    file = io.StringIO()
    work = runner(experiment, {"mixed/head/seed-2": FAILS})
    work.screen = Screen(Console(file=file, width=300))
    work.run()
    told = file.getvalue().splitlines()
    assert told[0] == "mixed/head/seed-1: started"
    assert told[1].startswith("mixed/head/seed-1: done, ")
    assert told[3].startswith("mixed/head/seed-2: failed; see ")
    assert Path(told[3].partition("see ")[2]).is_file()


def test_a_live_table_for_a_terminal(tmp_path: Path) -> None:
    experiment = planned(tmp_path, methods=["head"], seeds=[1])
    (run,) = experiment.runs
    steps = f"open(run + '/metrics.jsonl', 'w').write('{json.dumps({'step': 4})}\\n')"
    file = io.StringIO()
    work = runner(experiment, default=f"{steps}\ntime.sleep(1.5)\n" + LONG.replace("60", "0"))
    work.screen = Screen(Console(file=file, width=100, force_terminal=True))
    states = work.run()
    assert states[run.name] is State.FAILED  # it ends without results
    assert "step 4 of 12" in file.getvalue()


def test_the_last_step_of_a_log(tmp_path: Path) -> None:
    assert last_step(tmp_path) is None
    log = tmp_path / "metrics.jsonl"
    log.write_text("")
    assert last_step(tmp_path) is None
    log.write_text('{"step": 3}\n{"step": 6}\n{"st')
    assert last_step(tmp_path) == 6
