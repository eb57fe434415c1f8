"""Working through an experiment, in this process and with trainings that are only pretended."""

from __future__ import annotations

import io
import json
import os
import signal
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from rich.console import Console

from hyperlect.errors import HyperlectError, Interrupted, RunError
from hyperlect.experiment import Progress, Run, Runner, TimeBudget, make_engine, read_manifest
from hyperlect.experiment.engines import Ended, Engine, work
from hyperlect.experiment.runner import last_step, runs_table, summary
from hyperlect.run_folder import LOCK, RunState

from ..project import held
from .grids import (
    CHAIN,
    FIRST,
    NAMES,
    done,
    finish,
    planned,
    pretend,
    progress_of,
    run_all,
    save,
    statuses,
    train,
)

Patch = pytest.MonkeyPatch
ONE: dict[str, Any] = {"methods": ["hyperx"], "seeds": [1]}


def fail(folder: Path) -> None:
    print("this was printed")
    raise RunError("no such thing")


def interrupt(folder: Path) -> None:
    save(folder)
    raise Interrupted("stopped")


class Threads(Engine):
    """Does the work of several runs at a time, in threads."""

    def __init__(self, places: int) -> None:
        super().__init__("cpu")
        self.places = places
        self.pool = ThreadPoolExecutor(places)

    def submit(self, run: Run) -> Future[Ended]:
        return self.pool.submit(work, run, self.device)

    def close(self) -> None:
        self.pool.shutdown()


def test_everything_is_run_once(tmp_path: Path, monkeypatch: Patch) -> None:
    begun = pretend(monkeypatch)
    experiment = planned(tmp_path)
    assert done(run_all(experiment)) == set(NAMES)
    assert {run.state for run in read_manifest(experiment.folder).runs} == {RunState.DONE}
    files = {path.name for path in (experiment.folder / NAMES[0]).iterdir()}
    assert LOCK not in files
    run_all(planned(tmp_path))
    assert begun == NAMES


def test_finished_results_without_weights_count(tmp_path: Path, monkeypatch: Patch) -> None:
    begun = pretend(monkeypatch)
    experiment = planned(tmp_path)
    finish(experiment.runs[0].folder, experiment.runs[0].recipe)
    assert done(run_all(experiment)) == set(NAMES)
    assert begun == NAMES[1:]


def test_a_failing_run_does_not_stop_the_others(tmp_path: Path, monkeypatch: Patch) -> None:
    begun = pretend(monkeypatch, {NAMES[1]: fail})
    experiment = planned(tmp_path)
    status = run_all(experiment)
    assert done(status) == set(NAMES) - {NAMES[1]}
    assert status[NAMES[1]] == "FAILED"
    text = (experiment.folder / NAMES[1] / "error.txt").read_text()
    assert "no such thing" in text
    assert "this was printed" in text
    assert "hyperlect train" in text
    assert "Traceback" not in text  # it is the person's to fix

    run_all(experiment)  # what failed is left alone
    progress = progress_of(experiment)
    progress.retry()
    pretend(monkeypatch)
    assert done(run_all(experiment)) == set(NAMES)
    assert begun == NAMES


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), MemoryError(), ValueError("odd")]
)
def test_whatever_a_run_raises_is_its_own_failure(
    tmp_path: Path, monkeypatch: Patch, error: Exception
) -> None:
    def broken(folder: Path) -> None:
        raise error

    pretend(monkeypatch, {NAMES[0]: broken})
    experiment = planned(tmp_path)
    status = run_all(experiment)
    assert status.pop(NAMES[0]) == "FAILED"
    assert done(status) == set(NAMES[1:])
    text = (experiment.folder / NAMES[0] / "error.txt").read_text()
    assert type(error).__name__ in text
    assert "Traceback" in text


def test_a_failure_that_cannot_be_written_down_is_still_one(
    tmp_path: Path, monkeypatch: Patch
) -> None:
    """As where a file lies in the place of the run folder, or the disk is full."""
    begun = pretend(monkeypatch)
    experiment = planned(tmp_path)
    place = experiment.folder / NAMES[0]
    place.parent.mkdir(parents=True)
    place.touch()
    progress = progress_of(experiment)
    Runner(progress, make_engine("cpu")).run()
    assert statuses(progress)[NAMES[0]] == "FAILED"
    assert str(place) in progress.reason(experiment.runs[0])
    assert begun == NAMES[1:]


def test_a_manifest_that_cannot_be_written_stops_nothing(
    tmp_path: Path, monkeypatch: Patch
) -> None:
    pretend(monkeypatch)

    def full(progress: Progress) -> None:
        raise RunError("no space left")

    monkeypatch.setattr(Progress, "write", full)
    assert done(run_all(planned(tmp_path))) == set(NAMES)


def test_an_interrupted_run_has_not_failed(tmp_path: Path, monkeypatch: Patch) -> None:
    """In this process, what stops a run stops the experiment."""
    begun = pretend(monkeypatch, {NAMES[1]: interrupt})
    experiment = planned(tmp_path)
    progress = progress_of(experiment)
    runner = Runner(progress, make_engine("cpu"))
    runner.run()
    assert runner.interrupted
    assert list(statuses(progress).values()) == ["DONE", "INTERRUPTED", "MISSING", "MISSING"]
    assert not (experiment.folder / NAMES[1] / "error.txt").exists()
    assert read_manifest(experiment.folder).runs[1].state is RunState.INTERRUPTED

    begun.clear()
    pretend(monkeypatch)
    (experiment.folder / NAMES[2]).mkdir(parents=True)
    assert done(run_all(experiment)) == set(NAMES)
    assert not (experiment.folder / NAMES[1] / "checkpoint").exists()  # of no more use


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_stops_a_run_that_does_not_train_yet(
    tmp_path: Path, monkeypatch: Patch, name: str
) -> None:
    number = getattr(signal, name)
    handler = signal.getsignal(number)
    if handler is signal.SIG_IGN:
        pytest.skip(f"{name} is ignored here")

    def wait(folder: Path) -> None:
        os.kill(os.getpid(), number)
        try:
            time.sleep(60)
        except Exception:  # code that collects problems must not take it for one
            pytest.fail("the signal was swallowed")

    pretend(monkeypatch, {NAMES[1]: wait})
    status = run_all(planned(tmp_path))
    assert list(status.values()) == ["DONE", "MISSING", "MISSING", "MISSING"]
    assert signal.getsignal(number) is handler


def test_the_time_limit_stops_a_run_in_this_process(tmp_path: Path, monkeypatch: Patch) -> None:
    def work_on(folder: Path) -> None:
        save(folder)
        for _ in range(6000):
            time.sleep(0.01)

    pretend(monkeypatch, {NAMES[0]: work_on})
    progress = progress_of(planned(tmp_path))
    runner = Runner(progress, make_engine("cpu"), TimeBudget("1s"))
    runner.run()
    assert not runner.interrupted
    assert list(statuses(progress).values()) == ["INTERRUPTED", "MISSING", "MISSING", "MISSING"]


def test_nothing_is_started_when_the_time_is_nearly_up(tmp_path: Path, monkeypatch: Patch) -> None:
    begun = pretend(monkeypatch)
    budget = TimeBudget("600", began=time.monotonic() - 545)
    run_all(planned(tmp_path), budget=budget)
    assert begun == []
    run_all(planned(tmp_path), budget=TimeBudget("600", began=time.monotonic() - 500))
    assert begun == NAMES


def test_a_run_that_was_killed_halfway_resumes_from_its_checkpoint(
    tmp_path: Path, monkeypatch: Patch
) -> None:
    begun = pretend(monkeypatch)
    experiment = planned(tmp_path, **ONE)
    (run,) = experiment.runs
    finish(run.folder, run.recipe)
    (run.folder / "results.json").unlink()
    save(run.folder)
    (run.folder / LOCK).touch()  # of a process that is gone
    assert done(run_all(experiment)) == {run.name}
    assert begun == [run.name]


def test_a_trained_run_is_only_evaluated(tmp_path: Path, monkeypatch: Patch) -> None:
    begun = pretend(monkeypatch)
    experiment = planned(tmp_path, **ONE)
    (run,) = experiment.runs
    finish(run.folder, run.recipe, weights=True)
    (run.folder / "results.json").unlink()
    assert done(run_all(experiment)) == {run.name}
    assert begun == []


def test_a_run_that_never_saved_starts_again(tmp_path: Path, monkeypatch: Patch) -> None:
    pretend(monkeypatch)
    experiment = planned(tmp_path, **ONE)
    (run,) = experiment.runs
    finish(run.folder, run.recipe)
    (run.folder / "results.json").unlink()
    (run.folder / "metrics.jsonl").touch()
    assert done(run_all(experiment)) == {run.name}
    assert not (run.folder / "metrics.jsonl").exists()


def test_runs_begun_earlier_come_first(tmp_path: Path, monkeypatch: Patch) -> None:
    begun = pretend(monkeypatch)
    experiment = planned(tmp_path)
    run = experiment.runs[3]
    finish(run.folder, run.recipe)
    (run.folder / "results.json").unlink()
    save(run.folder)
    run_all(experiment)
    assert begun == [NAMES[3], *NAMES[:3]]


def test_a_run_comes_after_the_one_that_it_starts_from_and_not_after_a_failure(
    tmp_path: Path, monkeypatch: Patch
) -> None:
    experiment = planned(tmp_path, settings=CHAIN, methods=["hyperx"])

    def needs(folder: Path) -> None:
        assert Path(str(folder).replace("/b/", "/a/"), "model.safetensors").is_file()

    pretend(monkeypatch, {"a/hyperx/seed-2": fail, "b/hyperx/seed-1": needs})
    assert run_all(experiment, Threads(2)) == {
        "b/hyperx/seed-1": "DONE", "b/hyperx/seed-2": "BLOCKED",
        "a/hyperx/seed-1": "DONE", "a/hyperx/seed-2": "FAILED",
    }  # fmt: skip


def test_one_run_of_a_curve_fails_and_the_others_do_not(tmp_path: Path, monkeypatch: Patch) -> None:
    few = {
        **FIRST, "after": "a", "curve": {"examples": [2, 3], "draws": [1, 2]},
        "set": {"few_shot.cells": ["pos:isl"]},
    }  # fmt: skip
    experiment = planned(tmp_path, settings={"a": FIRST, "few": few}, **ONE)
    last = experiment.runs[-1]
    pretend(monkeypatch, {"/".join(last.folder.parts[-3:]): fail})
    status = run_all(experiment, Threads(2))
    assert status.pop(last.name) == "FAILED"
    assert set(status.values()) == {"DONE"}


def test_several_runs_at_a_time(tmp_path: Path, monkeypatch: Patch) -> None:
    """Each of two waits for the other, so they only end if they run together."""
    barrier = Barrier(2)
    names = ["mixed/hyperx/seed-1", "mixed/adapters/seed-1"]
    pretend(monkeypatch, dict.fromkeys(names, lambda folder: barrier.wait(60)))
    assert done(run_all(planned(tmp_path, seeds=[1]), Threads(2))) == set(names)


def test_a_run_that_another_process_works_on_is_skipped(tmp_path: Path, monkeypatch: Patch) -> None:
    begun = pretend(monkeypatch)
    experiment = planned(tmp_path)
    with held(experiment.folder / NAMES[0]):
        status = run_all(experiment)
    assert done(status) == set(NAMES[1:])
    assert status[NAMES[0]] == "MISSING"
    assert begun == NAMES[1:]


def test_a_skipped_run_is_looked_at_again(tmp_path: Path, monkeypatch: Patch) -> None:
    """Its process may only have taken a moment to save after its runner was killed."""
    experiment = planned(tmp_path)
    lock = held(experiment.folder / NAMES[0])
    lock.__enter__()
    begun = pretend(monkeypatch, {NAMES[1]: lambda folder: lock.__exit__(None, None, None)})
    assert done(run_all(experiment)) == set(NAMES)
    assert begun == [*NAMES[1:], NAMES[0]]


def test_what_another_process_has_done_meanwhile_is_not_repeated(
    tmp_path: Path, monkeypatch: Patch
) -> None:
    experiment = planned(tmp_path)
    other = experiment.runs[1]
    begun = pretend(monkeypatch, {NAMES[0]: lambda folder: finish(other.folder, other.recipe)})
    assert done(run_all(experiment)) == set(NAMES)
    assert NAMES[1] not in begun


def test_only_what_is_chosen_is_run_but_the_manifest_has_all(
    tmp_path: Path, monkeypatch: Patch
) -> None:
    begun = pretend(monkeypatch)
    experiment = planned(tmp_path)
    run_all(experiment, only=["*/adapters/seed-1"])
    assert begun == ["mixed/adapters/seed-1"]
    runs = read_manifest(experiment.folder).runs
    assert [run.folder for run in runs] == [run.folder for run in experiment.runs]


class Dying(Threads):
    """The process of every run is killed."""

    def submit(self, run: Run) -> Future[Ended]:
        def die() -> Ended:
            raise RuntimeError("killed")

        return self.pool.submit(die)


def test_a_run_whose_process_was_killed_has_failed(tmp_path: Path) -> None:
    experiment = planned(tmp_path, settings=CHAIN, **ONE)
    later, first = experiment.runs
    first.folder.mkdir(parents=True)
    (first.folder / "log.txt").write_text("so far so good")
    (first.folder / "recipe.yaml").write_text(first.recipe.dump(first.folder))
    status = run_all(experiment, Dying(1))
    assert status == {first.name: "FAILED", later.name: "BLOCKED"}
    text = (first.folder / "error.txt").read_text()
    assert "killed" in text
    assert "so far so good" in text


# What is shown


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("600", 600), ("10m", 600), ("1h", 3600), ("1h30m", 5400), ("90s", 90), ("1H", 3600)],
)
def test_spans_of_time_are_read(text: str, seconds: int) -> None:
    budget = TimeBudget(text)
    assert budget.left + budget.margin == pytest.approx(seconds, abs=1)
    assert budget.margin == min(30, seconds / 10)


@pytest.mark.parametrize("text", ["", "0", "0m", "ten", "10 minutes", "-5", "1.5h"])
def test_what_is_not_a_span_of_time(text: str) -> None:
    with pytest.raises(HyperlectError, match="10m"):
        TimeBudget(text)


def test_without_a_time_limit_there_is_no_end() -> None:
    assert TimeBudget().left == float("inf")


def shown(renderable: object) -> list[str]:
    console = Console(file=io.StringIO(), width=120, color_system=None)
    console.print(renderable)
    return [" ".join(line.split()) for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]


def test_the_table_has_a_line_for_each_method_with_every_status(tmp_path: Path) -> None:
    settings = {"a": FIRST, "b": {**FIRST, "after": "a", "methods": ["hyperx"]}}
    experiment = planned(tmp_path, settings=settings)
    finish(experiment.runs[0].folder, experiment.runs[0].recipe)
    progress = progress_of(experiment)
    with held(experiment.runs[2].folder):
        assert shown(runs_table(progress))[1:] == [
            "a hyperx 1 done, 2 missing",
            "a adapters 1 at work, 2 missing",
            "b hyperx 1 blocked (a/hyperx/seed-1 has results but no weights), 2 missing",
        ]
    assert summary(progress) == "1 of 6 runs done, 4 missing, 1 blocked"


def test_an_interrupted_run_shows_its_step(tmp_path: Path) -> None:
    experiment = planned(tmp_path, **ONE)
    (run,) = experiment.runs
    finish(run.folder, run.recipe)
    (run.folder / "results.json").unlink()
    save(run.folder)
    (run.folder / "metrics.jsonl").write_text('{"step": 3, "loss": 1}\n{"step": 6}\n{"st')
    assert last_step(run.folder) == 6
    assert "1 interrupted at step 6" in shown(runs_table(progress_of(experiment)))[1]
    assert summary(progress_of(experiment)) == "0 of 1 run done, 1 interrupted"


def test_the_runs_of_a_curve_are_counted(tmp_path: Path) -> None:
    few = {
        **FIRST, "curve": {"examples": [2, 3], "draws": [1, 2]},
        "set": {"few_shot.cells": ["pos:isl"]},
    }  # fmt: skip
    experiment = planned(tmp_path, settings={"few": few}, methods=["head"], seeds=[1])
    finish(experiment.runs[0].folder, experiment.runs[0].recipe)
    assert shown(runs_table(progress_of(experiment)))[1] == "few head 1 done, 3 missing"


def test_there_is_a_line_for_each_event(tmp_path: Path, monkeypatch: Patch) -> None:
    pretend(monkeypatch, {NAMES[1]: fail})
    file = io.StringIO()
    experiment = planned(tmp_path, methods=["hyperx"])
    run_all(experiment, console=Console(file=file, width=300))
    started, done, _, failed = file.getvalue().splitlines()
    assert started == f"{NAMES[0]}: started"
    assert done.startswith(f"{NAMES[0]}: done in ")
    assert failed.startswith(f"{NAMES[1]}: failed")
    assert Path(failed.rpartition(" ")[2]).is_file()


def test_a_terminal_has_a_live_table(tmp_path: Path, monkeypatch: Patch) -> None:
    def trained(folder: Path) -> None:
        (folder / "metrics.jsonl").write_text(json.dumps({"step": 4}) + "\n")
        time.sleep(1)
        train(folder)

    pretend(monkeypatch, {NAMES[0]: trained})
    file = io.StringIO()
    console = Console(file=file, width=100, force_terminal=True)
    run_all(planned(tmp_path, **ONE), console=console, budget=TimeBudget("1h"))
    assert "step 4 of 12" in file.getvalue()
    assert "time limit" in file.getvalue()
