"""The batches of a run, made one step ahead of their use."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from accelerate import Accelerator

from ..data.batching import Batch, Drawn, make_batch
from ..data.lengths import row_lengths
from ..data.mixing import MixedSampler
from ..data.sampling import CellSampler, Position, Sampler
from ..grid import Cell
from ..model import HyperX
from ..recipe import TrainingSection
from .schedule import derived_seed


def make_sampler(
    rows: Mapping[Cell, Any], settings: TrainingSection, shares: Mapping[str, float]
) -> Sampler:
    """Make the sampler that a recipe's training section asks for."""
    kind = MixedSampler if settings.batching == "mixed" else CellSampler
    return kind(
        {cell: row_lengths(encoded) for cell, encoded in rows.items()},
        batch_size=settings.batch_size,
        temperature=settings.temperature,
        shares=shares,
        seed=derived_seed(settings.seed, "cells"),
        tokens=settings.tokens,
    )


class Loader:
    """Makes the batches of each step in a thread of its own while the step before is computed.

    What a step gets follows from the seed and its number alone. Each process takes every so-manieth
    row of what is drawn; a process for which none is left computes the first, for nothing.

    Args:
        model: whose tasks and tokenizer are used.
        rows: encoded training rows by cell.
        settings: the recipe's training section.
        shares: fixed shares of the rows by task.
        accelerator: device and processes.
    """

    def __init__(
        self,
        model: HyperX,
        rows: Mapping[Cell, Any],
        settings: TrainingSection,
        shares: Mapping[str, float],
        accelerator: Accelerator,
    ) -> None:
        self.tasks, self.tokenizer = model.tasks, model.tokenizer
        self.rows = rows
        self.settings = settings
        self.accelerator = accelerator
        self.sampler = make_sampler(rows, settings, shares)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._position = self.sampler.position()
        self._ahead: tuple[int, Position, Future[list[Batch]]] | None = None

    def next(self, step: int) -> list[Batch]:
        """Return the batches of a step, on the device, and begin with the next step's."""
        if self._ahead is None or self._ahead[0] != step:
            self._begin(step)
        assert self._ahead is not None
        _, self._position, future = self._ahead
        batches = future.result()
        self._begin(step + 1)
        return [batch.to(self.accelerator.device) for batch in batches]

    def close(self) -> None:
        """Let the thread end."""
        self._worker.shutdown(cancel_futures=True)

    def _begin(self, step: int) -> None:
        drawn = [self.sampler.next() for _ in range(self.settings.accumulate)]
        future = self._worker.submit(self._make, step, drawn)
        self._ahead = (step, self.sampler.position(), future)

    def _make(self, step: int, drawn: list[list[Drawn]]) -> list[Batch]:
        count, rank = self.accelerator.num_processes, self.accelerator.process_index
        generator = torch.Generator()
        generator.manual_seed(derived_seed(self.settings.seed, "masks", step, rank))
        batches = []
        for rows in drawn:
            own = rows[rank::count]
            batch = make_batch(self.rows, own or rows[:1], self.tasks, self.tokenizer, generator)
            batch.weight = len(own) * count / len(rows)
            batches.append(batch.pin() if self.accelerator.device.type == "cuda" else batch)
        return batches

    def state_dict(self) -> dict[str, Any]:
        """Return the state after the step that was last returned, whatever lies ready."""
        return self.sampler.state_dict(self._position)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; see `Sampler.load_state_dict`."""
        self.sampler.load_state_dict(state)
        self._position, self._ahead = self.sampler.position(), None
