"""Batches that hold rows of many cells."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..grid import Cell
from .batching import Drawn
from .lengths import BATCHES_PER_POOL, by_length
from .sampling import Position, Sampler


class MixedSampler(Sampler):
    """Draws rows of any cells into each batch.

    The rows of 50 batches are drawn together, each from a cell drawn for it, and put into batches
    by length. So a batch holds rows of many cells and little padding.

    Args:
        args, options: as for `Sampler`.
        apart: tasks whose rows come in batches of their own, without those of other tasks. For
            raw text: to score a whole vocabulary costs nearly as much for one row as for eight.
    """

    def __init__(self, *args: Any, apart: Iterable[str] = (), **options: Any) -> None:
        super().__init__(*args, **options)
        self.apart = frozenset(apart)
        self._settings = (*self._settings, sorted(self.apart))
        self._start = super().position()
        self._pool: list[list[Drawn]] = []
        self._pool_taken = 0
        self._orders: dict[int, NDArray[np.int64]] = {}

    def _counts(self) -> dict[Cell, int]:
        return {cell: len(rows) for cell, rows in self.lengths.items()}

    def next(self) -> list[Drawn]:
        """Draw the rows of the next batch."""
        if self._pool_taken == len(self._pool):
            self._start = super().position()
            self._pool, self._pool_taken = self._draw_pool(), 0
        self._pool_taken += 1
        self.step += 1
        return self._pool[self._pool_taken - 1]

    def _draw_pool(self) -> list[list[Drawn]]:
        """Draw the rows of some batches, and put them into batches by length."""
        size = self.batch_size * BATCHES_PER_POOL
        if self.tokens is not None:
            means = [float(rows.mean()) for rows in self.lengths.values()]
            expected = float(np.dot(means, list(self.probabilities.values())))
            size = max(1, round(self.tokens * BATCHES_PER_POOL / expected))
        points = np.random.default_rng([self.seed, self.step]).random(size)
        drawn = [(self._cells[i], self._next_row(i)) for i in self._draw(points).tolist()]
        together = [self._batches(drawn, alone) for alone in (False, True)]
        batches = [batch for part in together for batch in part]
        order = torch.randperm(len(batches), generator=self._generator("pool", self.step))
        return [batches[index] for index in order.tolist()]

    def _batches(self, drawn: list[Drawn], alone: bool) -> list[list[Drawn]]:
        """Put the drawn rows of the tasks that are kept apart, or of all others, into batches."""
        rows = [(cell, row) for cell, row in drawn if (cell.task in self.apart) == alone]
        lengths = [self.lengths[cell][row] for cell, row in rows]
        batches = by_length(lengths, self.tokens, None if self.tokens else self.batch_size)
        return [[rows[index] for index in batch] for batch in batches]

    def _next_row(self, number: int) -> int:
        """Return the next row of a cell's present epoch."""
        order = self._orders.get(number)
        if order is None:
            cell = self._cells[number]
            generator = self._generator(cell, self._epochs[number])
            order = torch.randperm(len(self.lengths[cell]), generator=generator).numpy()
            self._orders[number] = order
        row = int(order[self._taken[number]])
        self._taken[number] += 1
        if self._taken[number] == len(order):
            self._epochs[number] += 1
            self._taken[number] = 0
            del self._orders[number]
        return row

    def position(self) -> Position:
        """Return how far drawing has come: the start of the pool, and what of it is used up."""
        start = self._start
        return Position(start.step, start.epochs, start.taken, self._pool_taken)

    def _go_to(self, position: Position) -> None:
        super()._go_to(position)
        self._orders.clear()
        self._start = super().position()
        self._pool, self._pool_taken = [], 0
        for _ in range(position.pool_taken):
            self.next()
