"""The work itself, with processes that only pretend to train."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hyperlect.experiment.claim import claim, claim_path
from hyperlect.experiment.clock import Slice
from hyperlect.experiment.record import read_experiment
from hyperlect.experiment.state import State

from .made import DEAF, DONE, FAILS, KILLED, LONG, WEIGHTS, finish, planned, ran, runner

NAMES = [f"mixed/{method}/seed-{seed}" for method in ("hyperx", "adapters") for seed in (1, 2)]


def test_everything_is_run_once(tmp_path: Path) -> None:
    experiment = planned(tmp_path)
    states = runner(experiment).run()
    assert list(states) == NAMES
    assert ran(states) == set(NAMES)
    assert {run.state for run in read_experiment(experiment.folder).runs} == {State.DONE}
    kept = {p.name for p in (experiment.folder / "mixed" / "hyperx").iterdir()}
    assert kept == {"seed-1", "seed-2"}  # neither claims nor logs

    again = runner(planned(tmp_path), default=FAILS).run()  # nothing is begun, so nothing fails
    assert ran(again) == set(NAMES)


def test_finished_results_without_weights_count(tmp_path: Path) -> None:
    experiment = planned(tmp_path)
    finish(experiment.runs[0].folder, experiment.runs[0].recipe.dump(), ["kept"])
    states = runner(experiment).run()
    assert ran(states) == set(NAMES)
    assert "kept" in (experiment.runs[0].folder / "results.json").read_text()


def test_the_rest_goes_on_when_one_fails(tmp_path: Path) -> None:
    experiment = planned(tmp_path)
    states = runner(experiment, {NAMES[1]: FAILS, NAMES[2]: KILLED}).run()
    assert ran(states) == {NAMES[0], NAMES[3]}
    assert states[NAMES[1]] is State.FAILED
    told = (experiment.folder / NAMES[1] / "error.txt").read_text()
    assert told == f"{NAMES[1]} failed: exit code 1\n\nno such thing\n"
    assert (
        "SIGKILL (perhaps for want of memory)"
        in (experiment.folder / NAMES[2] / "error.txt").read_text()
    )

    still = runner(experiment).run()  # what failed is left alone
    assert ran(still) == {NAMES[0], NAMES[3]}
    again = runner(experiment)
    again.board.retry()
    assert ran(again.run()) == set(NAMES)
    assert not (experiment.folder / NAMES[1] / "error.txt").exists()


def test_what_goes_on_from_another_comes_after_it_and_not_after_a_failure(tmp_path: Path) -> None:
    recipe = {"recipe": "recipe.yaml"}
    experiment = planned(
        tmp_path, settings={"b": {**recipe, "after": "a"}, "a": recipe}, methods=["hyperx"]
    )
    needs = f"assert os.path.exists(run.replace('/b/', '/a/') + '/model.safetensors')\n{DONE}"
    scripts = {
        "a/hyperx/seed-1": f"{WEIGHTS}\n{DONE}", "a/hyperx/seed-2": FAILS,
        "b/hyperx/seed-1": needs, "b/hyperx/seed-2": DONE,
    }  # fmt: skip
    states = runner(experiment, scripts, processes=2).run()
    assert states == {
        "b/hyperx/seed-1": State.DONE, "b/hyperx/seed-2": State.BLOCKED,
        "a/hyperx/seed-1": State.DONE, "a/hyperx/seed-2": State.FAILED,
    }  # fmt: skip


def test_several_at_a_time(tmp_path: Path) -> None:
    """Each of two waits for the other, so that they only end when they run together."""
    experiment = planned(tmp_path, seeds=[1])
    meet = (
        "open(run + '/here', 'w').close()\n"
        "other = run.replace('hyperx', 'x').replace('adapters', 'hyperx').replace('/x/', "
        "'/adapters/')\nend = time.time() + 30\n"
        f"while not os.path.exists(other + '/here'): assert time.time() < end\n{DONE}"
    )
    assert len(ran(runner(experiment, processes=2, default=meet).run())) == 2


def test_a_share_of_the_machine_reaches_the_process(tmp_path: Path) -> None:
    experiment = planned(tmp_path, seeds=[1], methods=["head"])
    says = "open(run + '/results.json', 'w').write('{\"cells\": [%s]}' % os.environ['MINE'])"
    own = runner(experiment, default=says)
    own.shares = [{"MINE": "17"}]
    own.run()
    assert json.loads((experiment.runs[0].folder / "results.json").read_text())["cells"] == [17]


class Stopped:
    """A slice that ends when told to."""

    def __init__(self, until: Callable[[], bool], patience: float = 30) -> None:
        self.until, self.patience = until, patience
        self.ended: float | None = None

    def now(self) -> float:
        if self.ended is None:
            if not self.until():
                return 0.0
            self.ended = time.monotonic()
        return 1000.0 - self.patience + (time.monotonic() - self.ended)

    def slice(self) -> Slice:
        made = Slice(1000, self.now)
        made.margin = self.patience
        return made


def test_a_slice_ends_in_good_order_and_the_next_goes_on(tmp_path: Path) -> None:
    experiment = planned(tmp_path)
    scripts = {NAMES[1]: LONG}
    ready = (experiment.folder / NAMES[1] / "ready").exists
    states = runner(experiment, scripts, time=Stopped(ready).slice()).run()
    assert states == dict(
        zip(NAMES, (State.DONE, State.TRAINING, State.MISSING, State.MISSING), strict=True)
    )
    assert not (experiment.folder / NAMES[2]).exists()
    assert not claim_path(experiment.folder / NAMES[1]).exists()
    assert (experiment.folder / "mixed/hyperx/seed-1/recipe.yaml").is_file()
    listed = {run.folder.name: run.state for run in read_experiment(experiment.folder).runs[:2]}
    assert listed == {"seed-1": State.DONE, "seed-2": State.TRAINING}

    assert ran(runner(experiment, scripts).run()) == set(NAMES)
    assert "resumed" in (experiment.folder / NAMES[1] / "results.json").read_text()
    assert not (experiment.folder / NAMES[1] / "checkpoint").exists()  # of no more use


def test_what_does_not_stop_is_killed_when_the_slice_is_over(tmp_path: Path) -> None:
    experiment = planned(tmp_path, methods=["head"], seeds=[1])
    ready = (experiment.runs[0].folder / "ready").exists
    states = runner(experiment, default=DEAF, time=Stopped(ready, 0.5).slice()).run()
    assert states == {"mixed/head/seed-1": State.MISSING}  # asked to stop, so no failure


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_work_as_a_slice_does(tmp_path: Path, number: signal.Signals) -> None:
    experiment = planned(tmp_path)
    ready = experiment.folder / NAMES[0] / "ready"

    def send() -> None:
        end = time.monotonic() + 30
        while not ready.exists() and time.monotonic() < end:
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    sender = threading.Thread(target=send)
    handlers = signal.getsignal(number)
    sender.start()
    states = runner(experiment, default=LONG).run()
    sender.join()
    assert states[NAMES[0]] is State.TRAINING
    assert states[NAMES[1]] is State.MISSING
    assert signal.getsignal(number) is handlers


def test_a_run_that_was_killed_halfway_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    experiment = planned(tmp_path, methods=["head"], seeds=[1])
    (run,) = experiment.runs
    finish(run.folder, run.recipe.dump())
    (run.folder / "results.json").unlink()
    (run.folder / "checkpoint").mkdir()
    (run.folder / "checkpoint" / "state.json").touch()
    claim_path(run.folder).write_text(json.dumps({"host": "elsewhere", "pid": 1, "token": "x"}))
    os.utime(claim_path(run.folder), (0, 0))
    assert ran(runner(experiment, default=LONG).run()) == {"mixed/head/seed-1"}
    assert "resumed" in (run.folder / "results.json").read_text()


def test_a_run_that_never_saved_begins_anew(tmp_path: Path) -> None:
    experiment = planned(tmp_path, methods=["head"], seeds=[1])
    finish(experiment.runs[0].folder, experiment.runs[0].recipe.dump())
    (experiment.runs[0].folder / "results.json").unlink()
    (experiment.runs[0].folder / "metrics.jsonl").touch()
    runner(experiment).run()
    assert not (experiment.runs[0].folder / "metrics.jsonl").exists()


def test_what_another_process_is_at_is_left_to_it(tmp_path: Path) -> None:
    experiment = planned(tmp_path)
    held = claim(experiment.folder / NAMES[0])
    assert held is not None
    states = runner(experiment).run()
    assert ran(states) == set(NAMES[1:])
    assert states[NAMES[0]] is State.MISSING
    assert held.renew()


def test_what_another_process_gives_free_is_done_after_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Say one that outlived its runner for the second that it took to save."""
    monkeypatch.setattr("hyperlect.experiment.runner.LOOK_EVERY", 0.0)
    experiment = planned(tmp_path)
    held = claim(experiment.folder / NAMES[0])
    assert held is not None
    free = f"os.remove({str(claim_path(experiment.folder / NAMES[0]))!r}); {DONE}"
    assert ran(runner(experiment, {NAMES[1]: free}).run()) == set(NAMES)


def test_a_record_that_cannot_be_written_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = planned(tmp_path)

    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("hyperlect.experiment.runner.write_experiment", full)
    assert ran(runner(experiment).run()) == set(NAMES)


def test_a_claim_that_another_has_taken_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hyperlect.experiment.runner.RENEW_EVERY", 0.0)
    experiment = planned(tmp_path, methods=["head"], seeds=[1])
    (run,) = experiment.runs
    theirs = json.dumps({"host": "elsewhere", "pid": 1, "token": "theirs"})
    steal = f"open(run + '.lock', 'w').write('{theirs}'); time.sleep(60)"
    states = runner(experiment, default=steal).run()
    assert states == {run.name: State.MISSING}  # no failure: the other does it
    assert claim_path(run.folder).read_text() == theirs


def test_a_folder_of_something_else_is_not_touched(tmp_path: Path) -> None:
    experiment = planned(tmp_path)
    mine = experiment.folder / NAMES[0] / "notes.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    states = runner(experiment).run()
    assert mine.read_text() == "mine"
    assert ran(states) == set(NAMES[1:])
    assert states[NAMES[0]] is State.CHANGED


def test_only_what_is_chosen_is_run_but_all_is_recorded(tmp_path: Path) -> None:
    experiment = planned(tmp_path)
    runner(experiment, only=["*/adapters/seed-1"]).run()
    recorded = {r.folder.relative_to(experiment.folder).as_posix(): r.state
                for r in read_experiment(experiment.folder).runs}  # fmt: skip
    assert list(recorded) == NAMES
    assert ran(recorded) == {"mixed/adapters/seed-1"}
