"""The engines, with real trainings: the same weights to the bit, whatever happens on the way."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import torch

from hyperlect.cli.__main__ import INTERRUPTED, USER_ERROR
from hyperlect.errors import HyperlectError
from hyperlect.experiment import Experiment, Runner, TimeBudget, make_engine
from hyperlect.experiment.engines import Processes, Share, on_signals, shares, work
from hyperlect.run_folder import RunState, checkpoints
from hyperlect.training.monitor import Monitor

from ..commands import children, finish, start, until
from .grids import FIRST, done, planned, progress_of, run_all, statuses

LONG = {"training.steps": 200, "training.save_every": 20, "training.log_every": 5}
NAMES = [f"mixed/{method}/seed-1" for method in ("hyperx", "adapters")]
Patch = pytest.MonkeyPatch


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: Patch) -> Iterator[None]:
    """Let all engines compute with one thread, as Ray does: the last digit depends on it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def two_runs(folder: Path, **keys: object) -> Experiment:
    return planned(folder, **{"seeds": [1], **keys})


def results(experiment: Experiment) -> list[tuple[bytes, object]]:
    """Return the weights and the scores of every run."""
    return [
        (
            (run.folder / "model.safetensors").read_bytes(),
            [
                cell["score"]
                for cell in json.loads(run.folder.joinpath("results.json").read_text())["cells"]
            ],
        )
        for run in experiment.runs
    ]


def processes(number: int) -> Processes:
    return Processes([Share(threads=1)] * number, "cpu")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[bytes, object]]:
    """The results of the two runs of `LONG`, run through in this process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    experiment = two_runs(tmp_path_factory.mktemp("undisturbed"), set=LONG)
    run_all(experiment)
    torch.set_num_threads(threads)
    return results(experiment)


def once(condition: Callable[[], object], act: Callable[[], object]) -> threading.Thread:
    """Do something, beside the test, as soon as a condition holds."""

    def wait() -> None:
        until(condition)
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def on_ray(experiment: Experiment, *options: str) -> subprocess.Popen[str]:
    """Start the command that works through an experiment on a cluster of this machine."""
    grid = experiment.folder.parent / "grid.yaml"
    places = ["--out", experiment.folder, "--device", "cpu", "--ray", "local"]
    return start("experiment", grid, *places, *options)


def trains(experiment: Experiment, number: int = 0) -> Callable[[], bool]:
    """Return whether a run of an experiment has a checkpoint."""
    return lambda: bool(checkpoints(experiment.runs[number].folder))


@pytest.mark.slow
def test_all_engines_come_to_the_same_results(tmp_path: Path) -> None:
    """And a run starts from another in each of them."""
    settings = {"later": {**FIRST, "after": "mixed", "methods": ["hyperx"]}, "mixed": FIRST}
    engines: dict[str, Callable[[Experiment], object]] = {
        "this process": run_all,
        "two processes": lambda experiment: run_all(experiment, processes(2)),
        "Ray": lambda experiment: finish(on_ray(experiment)),
    }
    by_engine = []
    for name, work_through in engines.items():
        experiment = two_runs(tmp_path / name, settings=settings)
        work_through(experiment)
        status = statuses(progress_of(experiment))
        assert done(status) == {*NAMES, "later/hyperx/seed-1"}, name
        assert not any(run.folder.joinpath("checkpoint").exists() for run in experiment.runs)
        by_engine.append(results(experiment))
    assert by_engine[0] == by_engine[1] == by_engine[2]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_was_stopped_in_this_process_ends_with_the_same_weights(
    tmp_path: Path,
    monkeypatch: Patch,
    number: signal.Signals,
    undisturbed: list[tuple[bytes, object]],
) -> None:
    step = Monitor.step

    def interrupt(*arguments: Any) -> None:
        step(*arguments)
        signal.raise_signal(number)

    experiment = two_runs(tmp_path, set=LONG)
    with monkeypatch.context() as patch:
        patch.setattr(Monitor, "step", interrupt)
        status = run_all(experiment)
    assert list(status.values()) == ["INTERRUPTED", "MISSING"]
    assert [path.stem for path in checkpoints(experiment.runs[0].folder)] == ["000000001"]
    assert done(run_all(experiment)) == set(NAMES)
    assert results(experiment) == undisturbed


@pytest.mark.slow
def test_ctrl_c_stops_all_processes(
    tmp_path: Path, undisturbed: list[tuple[bytes, object]]
) -> None:
    experiment = two_runs(tmp_path, set=LONG)
    thread = once(trains(experiment), lambda: os.kill(os.getpid(), signal.SIGINT))
    progress = progress_of(experiment)
    runner = Runner(progress, processes(2))
    runner.run()
    thread.join()
    assert runner.interrupted
    assert statuses(progress)[NAMES[0]] in ("INTERRUPTED", "MISSING")
    assert "FAILED" not in statuses(progress).values()
    assert done(run_all(experiment, processes(2))) == set(NAMES)
    assert results(experiment) == undisturbed


@pytest.mark.slow
def test_a_time_limit_stops_a_process(
    tmp_path: Path, undisturbed: list[tuple[bytes, object]]
) -> None:
    experiment = two_runs(tmp_path, set=LONG)
    progress = progress_of(experiment, "mixed/hyperx")
    runner = Runner(progress, processes(1), budget := TimeBudget("1h"))
    thread = once(trains(experiment), lambda: vars(budget).update(_end=time.monotonic() + 30))
    runner.run()
    thread.join()
    assert not runner.interrupted
    assert statuses(progress) == {NAMES[0]: "INTERRUPTED", NAMES[1]: "MISSING"}
    assert done(run_all(experiment)) == set(NAMES)
    assert results(experiment) == undisturbed


@pytest.mark.slow
def test_what_does_not_stop_is_ended_when_the_time_is_up(tmp_path: Path) -> None:
    experiment = two_runs(tmp_path, set={"training.steps": 1_000_000})
    progress = progress_of(experiment, "mixed/hyperx")
    engine = processes(1)
    engine_stop = engine.stop
    engine.stop = lambda at_once=False: engine_stop(at_once) if at_once else None  # type: ignore[method-assign]
    budget = TimeBudget("1h")
    begun = (experiment.runs[0].folder / "metrics.jsonl").is_file
    thread = once(begun, lambda: vars(budget).update(_end=time.monotonic()))
    Runner(progress, engine, budget).run()
    thread.join()
    assert statuses(progress)[NAMES[0]] == "MISSING"  # asked to stop, so it has not failed


@pytest.mark.slow
def test_a_killed_process_fails_alone(
    tmp_path: Path, undisturbed: list[tuple[bytes, object]]
) -> None:
    experiment = two_runs(tmp_path, set=LONG, methods=["hyperx", "adapters"])
    others = {process.pid for process in multiprocessing.active_children()}

    def kill() -> None:
        (process, *_) = [p for p in multiprocessing.active_children() if p.pid not in others]
        process.kill()

    thread = once(lambda: trains(experiment)() or trains(experiment, 1)(), kill)
    status = run_all(experiment, processes(2))
    thread.join()
    assert sorted(status.values()) == ["DONE", "FAILED"]
    (failed,) = [run for run in experiment.runs if status[run.name] == "FAILED"]
    assert "killed" in (failed.folder / "error.txt").read_text()
    progress = progress_of(experiment)
    progress.retry()
    assert done(run_all(experiment, processes(1))) == set(NAMES)
    assert results(experiment) == undisturbed


@pytest.mark.slow
def test_the_next_run_gets_a_new_process_after_one_was_killed(tmp_path: Path) -> None:
    experiment = two_runs(tmp_path, set=LONG)
    others = {process.pid for process in multiprocessing.active_children()}

    def kill() -> None:
        (process,) = [p for p in multiprocessing.active_children() if p.pid not in others]
        process.kill()

    thread = once(trains(experiment), kill)
    status = run_all(experiment, processes(1))
    thread.join()
    assert list(status.values()) == ["FAILED", "DONE"]


@pytest.mark.slow
def test_ray_tries_a_run_again_whose_process_was_killed(
    tmp_path: Path, undisturbed: list[tuple[bytes, object]]
) -> None:
    experiment = two_runs(tmp_path, set=LONG)
    job = on_ray(experiment)
    until(lambda: trains(experiment)() or trains(experiment, 1)(), job)
    children(job, "ray::work")[0].kill()
    code, output = finish(job)
    assert code == 0, output
    assert results(experiment) == undisturbed


@pytest.mark.slow
def test_ray_stops_what_is_at_work_and_drops_what_waits(
    tmp_path: Path, undisturbed: list[tuple[bytes, object]]
) -> None:
    settings = {"later": {**FIRST, "after": "mixed"}, "mixed": FIRST}
    experiment = two_runs(tmp_path, set=LONG, settings=settings)
    job = on_ray(experiment)
    until(trains(experiment, 2), job)
    job.send_signal(signal.SIGINT)
    code, output = finish(job)
    assert code == INTERRUPTED, output
    status = statuses(progress_of(experiment))
    assert "FAILED" not in status.values()
    assert "DONE" not in status.values()
    assert done(run_all(experiment, only=["mixed"])) == set(NAMES)
    assert results(two_runs(tmp_path, set=LONG)) == undisturbed


def test_without_ray_the_error_says_what_to_install(monkeypatch: Patch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(HyperlectError, match=r"pip install -e \"\.\[cluster\]\""):
        make_engine(ray="local")


def test_ray_is_not_imported_unless_asked_for(tmp_path: Path, monkeypatch: Patch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # importing it is an error
    assert done(run_all(two_runs(tmp_path))) == set(NAMES)


def test_a_cluster_that_is_not_there(monkeypatch: Patch) -> None:
    def refuse(address: str, **_: object) -> None:
        raise ConnectionError("nobody answers")

    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(HyperlectError, match="somewhere:6379"):
        make_engine(ray="somewhere:6379")


@pytest.mark.slow
def test_a_cluster_with_too_few_gpus(tmp_path: Path) -> None:
    code, output = finish(on_ray(two_runs(tmp_path), "--gpus-per-run", "1000"))
    assert code == USER_ERROR, output
    assert "1000" in output


@pytest.mark.parametrize("options", [{"ray": "local", "processes": 2}, {"gpus_per_run": 0.5}])
def test_options_that_do_not_go_together(options: dict[str, float]) -> None:
    with pytest.raises(HyperlectError, match="--ray"):
        make_engine(**options)  # type: ignore[arg-type]


def test_a_run_loads_its_recipe_where_the_data_is_now(tmp_path: Path, monkeypatch: Patch) -> None:
    """The recipe that the run folder keeps may name files that are no longer there."""
    experiment = two_runs(tmp_path / "one")
    run = experiment.runs[0]
    text = run.file.read_text(encoding="utf-8")
    run.file.write_text(text.replace(": pos.", ": ${CORPORA}/pos."), encoding="utf-8")
    monkeypatch.setenv("CORPORA", str(tmp_path / "one"))
    with monkeypatch.context() as patch:
        patch.setattr(Monitor, "step", lambda *_, **__: signal.raise_signal(signal.SIGTERM))
        assert work(run, "cpu").state is RunState.INTERRUPTED
    (tmp_path / "two").mkdir()
    for path in (tmp_path / "one").glob("pos.*"):
        path.rename(tmp_path / "two" / path.name)
    monkeypatch.setenv("CORPORA", str(tmp_path / "two"))
    assert work(run, "cpu").state is RunState.DONE
    kept = (run.folder / "recipe.yaml").read_text(encoding="utf-8")
    assert "${CORPORA}/pos." in kept
    assert str(tmp_path) not in kept


# Sharing the machine


@pytest.fixture
def machine(monkeypatch: Patch) -> Callable[..., None]:
    def has(gpus: int, threads: str = "", visible: str = "") -> None:
        monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    return has


def test_threads_are_divided(machine: Callable[..., None]) -> None:
    machine(0)
    assert shares(None, "auto") == [Share(8)]
    assert shares(3, "cpu") == [Share(2)] * 3
    assert shares(20, "cpu") == [Share(1)] * 20
    machine(0, threads="5")
    assert shares(2, "cpu") == [Share(None)] * 2


def test_there_is_one_process_for_each_gpu(machine: Callable[..., None]) -> None:
    machine(2, threads="1")
    assert [share.gpu for share in shares(None, "auto")] == ["0", "1"]
    assert [share.gpu for share in shares(3, "cuda")] == ["0", "1", "0"]
    assert [share.gpu for share in shares(None, "cpu")] == [""]
    assert isinstance(make_engine("auto"), Processes)
    assert not isinstance(make_engine("cpu"), Processes)


def test_only_the_visible_gpus_are_used(machine: Callable[..., None]) -> None:
    machine(2, visible="3, GPU-ab")
    assert [share.gpu for share in shares(None, "auto")] == ["3", "GPU-ab"]


def test_a_single_gpu_needs_no_variable(machine: Callable[..., None]) -> None:
    machine(1)
    assert [share.gpu for share in shares(2, "auto")] == ["", ""]


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="only POSIX systems have it")
@pytest.mark.parametrize("ignored", [False, True])
def test_a_closed_terminal_stops_runs_unless_under_nohup(ignored: bool) -> None:
    received: list[int] = []
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
    try:
        with on_signals(lambda number, _: received.append(number)):
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert received == ([] if ignored else [signal.SIGTERM])
