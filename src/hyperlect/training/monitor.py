"""What a training run reports: a live line, metrics.jsonl, TensorBoard, log.txt."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from ..run_folder import LOG, METRICS, TENSORBOARD, read_events, sync, write_text, writing


class Monitor:
    """Collects losses and speed between log lines, and shows and writes them.

    Args:
        run: the run folder; None in all but the main process, which then reports nothing.
        steps: how many steps the run has.
        start: the step it starts or resumes from.
        console: where the live line is shown.
        losses: by task, those since the last log line of a run that is resumed; changed in place.
    """

    def __init__(
        self,
        run: Path | None,
        steps: int,
        start: int,
        console: Console,
        losses: dict[str, list[float]] | None = None,
    ) -> None:
        self.run = run
        self.console = console
        self.start = start
        self.losses = {} if losses is None else losses
        self.tokens = 0
        self.clock = time.monotonic()
        self._shown: dict[str, float] = {}
        self._writer: Any = None
        columns = ("[bold]training", BarColumn(bar_width=20), MofNCompleteColumn())
        rest = ("{task.fields[note]}", TimeRemainingColumn(compact=True))
        self._progress = Progress(*columns, *rest, console=console, disable=run is None)
        self._bar = self._progress.add_task("training", total=steps, completed=start, note="")
        if run is not None and (run / METRICS).is_file():
            _drop_after(run / METRICS, start)

    def __enter__(self) -> Monitor:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
        if self._writer is not None:
            self._writer.close()

    def step(self, losses: Mapping[str, float], tokens: int) -> None:
        """Note one optimiser step: the loss of each of its tasks, and its sub-words."""
        for task, loss in losses.items():
            self.losses.setdefault(task, []).append(loss)
        self.tokens += tokens
        self._progress.advance(self._bar)

    def log(self, step: int, learning_rate: float) -> None:
        """Write what was collected since the last log line, and start again."""
        seconds = time.monotonic() - self.clock
        mean = {task: sum(values) / len(values) for task, values in sorted(self.losses.items())}
        speed = self.tokens / seconds if seconds else 0.0
        self._shown |= mean
        note = "  ".join(f"{task} {loss:.3f}" for task, loss in self._shown.items())
        self._progress.update(self._bar, note=f"loss {note}  {speed:,.0f} tokens/s")
        numbers = {"learning_rate": learning_rate, "tokens_per_second": round(speed, 1)}
        event = {"event": "train", "step": step, "loss": mean, **numbers}
        self.write({**event, "seconds": round(seconds, 3)})
        self.scalars(step, {f"loss/{task}": loss for task, loss in mean.items()} | numbers)
        self.losses.clear()
        self.tokens = 0
        self.clock = time.monotonic()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the clock by which the speed of training is measured."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.clock += time.monotonic() - start

    def write(self, event: dict[str, Any]) -> None:
        """Append one event to metrics.jsonl."""
        if self.run is not None:
            _append(self.run / METRICS, json.dumps(event))

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Write numbers to TensorBoard."""
        if self.run is None:
            return
        with writing(self.run / TENSORBOARD):
            if self._writer is None:
                from torch.utils.tensorboard import SummaryWriter

                # TensorBoard hides what an earlier attempt wrote past the step it resumes from.
                purge = self.start + 1 if self.start else None
                self._writer = SummaryWriter(str(self.run / TENSORBOARD), purge_step=purge)
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def flush(self) -> None:
        """Force what was written onto the disk, before a checkpoint that relies on it."""
        if self._writer is not None:
            self._writer.flush()
        for path in (self.run / METRICS, self.run / LOG) if self.run else ():
            if path.is_file():
                with writing(path):
                    sync(path)

    def say(self, message: str) -> None:
        """Print a line above the live one, and keep it in log.txt."""
        if self.run is not None:
            say(self.run, self.console, message)


def say(run: Path, console: Console, message: str) -> None:
    """Print a line, and keep it in a run folder's log.txt."""
    console.print(message, highlight=False, markup=False)
    _append(run / LOG, f"{time.strftime('%Y-%m-%d %H:%M:%S')} {message}")


def _append(path: Path, line: str) -> None:
    with writing(path), path.open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")


def _drop_after(path: Path, step: int) -> None:
    """Remove events past the step that a run resumes from; they will be written again."""
    kept = [json.dumps(event) for _, event in read_events(path) if event["step"] <= step]
    write_text(path, "".join(f"{line}\n" for line in kept))
