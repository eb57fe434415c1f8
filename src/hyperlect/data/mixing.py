"""Batches that hold rows of many cells."""

from __future__ import annotations

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
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
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
        lengths = [self.lengths[cell][row] for cell, row in drawn]
        batches = by_length(lengths, self.tokens, None if self.tokens else self.batch_size)
        order = torch.randperm(len(batches), generator=self._generator("pool", self.step))
        return [[drawn[row] for row in batches[index]] for index in order.tolist()]

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
