"""What a training run reports: metrics.jsonl, TensorBoard, log.txt and the console."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path

import pytest
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hyperlect.training.monitor import Monitor

from ..project import silent
from .runs import events


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr("hyperlect.training.monitor.time.monotonic", lambda: self.now)


def test_a_line_holds_the_mean_loss_by_task_and_the_speed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    with Monitor(tmp_path, 4, 0, silent()) as monitor:
        monitor.step({"pos": 1.0}, 40)
        monitor.step({"ner": 3.0}, 20)
        monitor.step({"pos": 2.0}, 30)
        clock.now += 2
        monitor.log(2, 0.01)
    (event,) = events(tmp_path)
    assert event["loss"] == {"ner": 3.0, "pos": 1.5}
    assert (event["event"], event["step"], event["learning_rate"]) == ("train", 2, 0.01)
    assert (event["seconds"], event["tokens_per_second"]) == (2.0, 45.0)


def test_a_step_may_have_several_tasks(tmp_path: Path) -> None:
    with Monitor(tmp_path, 4, 0, silent()) as monitor:
        monitor.step({"pos": 1.0, "ner": 3.0}, 40)
        monitor.step({"pos": 2.0}, 40)
        monitor.log(2, 0.1)
    assert events(tmp_path)[0]["loss"] == {"ner": 3.0, "pos": 1.5}


def test_each_line_starts_again(tmp_path: Path) -> None:
    with Monitor(tmp_path, 4, 0, silent()) as monitor:
        monitor.step({"pos": 1.0}, 1)
        monitor.log(1, 0.1)
        monitor.step({"pos": 5.0}, 1)
        monitor.log(2, 0.1)
    assert [event["loss"] for event in events(tmp_path)] == [{"pos": 1.0}, {"pos": 5.0}]


def test_a_pause_stops_the_clock_and_keeps_the_losses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    with Monitor(tmp_path, 4, 0, silent()) as monitor:
        monitor.step({"pos": 1.0}, 1)
        with monitor.paused():
            clock.now += 60
        monitor.step({"pos": 3.0}, 1)
        clock.now += 1
        monitor.log(2, 0.1)
    (event,) = events(tmp_path)
    assert event["loss"] == {"pos": 2.0}
    assert event["seconds"] == 1


def test_losses_of_a_resumed_run_join_those_from_before(tmp_path: Path) -> None:
    with Monitor(tmp_path, 4, 1, silent(), losses={"pos": [1.0]}) as monitor:
        monitor.step({"pos": 2.0}, 1)
        monitor.log(2, 0.1)
    assert events(tmp_path)[0]["loss"] == {"pos": 1.5}


def test_events_past_the_step_of_a_checkpoint_are_dropped(tmp_path: Path) -> None:
    lines = [json.dumps({"event": "train", "step": step}) for step in (2, 4, 6)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + '\n{"event": "tra')
    Monitor(tmp_path, 8, 4, silent())
    assert [event["step"] for event in events(tmp_path)] == [2, 4]


def test_tensorboard_hides_events_past_the_step_of_a_checkpoint(tmp_path: Path) -> None:
    def run(start: int, steps: range) -> None:
        with Monitor(tmp_path, 8, start, silent()) as monitor:
            for step in steps:
                monitor.scalars(step, {"loss/pos": float(start)})
        time.sleep(1.1)  # the name of the second file must sort after that of the first

    run(0, range(1, 7))
    run(4, range(5, 9))
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    shown = [(event.step, event.value) for event in board.Scalars("loss/pos")]
    assert shown == [(s, 0.0) for s in range(1, 5)] + [(s, 4.0) for s in range(5, 9)]


def test_messages_are_shown_and_kept_unchanged(tmp_path: Path) -> None:
    shown = io.StringIO()
    with Monitor(tmp_path, 1, 0, Console(file=shown, width=80)) as monitor:
        monitor.say("runs[1]: all is well")
    assert "runs[1]: all is well" in shown.getvalue()
    assert (tmp_path / "log.txt").read_text().endswith(" runs[1]: all is well\n")


def test_only_the_main_process_reports(tmp_path: Path) -> None:
    shown = io.StringIO()
    with Monitor(None, 4, 0, Console(file=shown)) as monitor:
        monitor.step({"pos": 1.0}, 1)
        monitor.log(1, 0.1)
        monitor.say("heard by nobody")
    assert shown.getvalue().strip() == ""  # rich 14.0 ends with an empty line
    assert not list(tmp_path.iterdir())
