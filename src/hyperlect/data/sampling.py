"""Which rows a training step takes: of one cell or of many, with similar lengths together."""

from __future__ import annotations

import functools
import hashlib
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import RunError
from ..grid import Cell
from .batching import Drawn

Lengths = Sequence[int] | NDArray[np.int64]
# Rows of similar length are sought among this many batches; more would pad less and mix less.
BATCHES_PER_POOL = 50
# Where a batch is bounded by its sub-words, no row is shorter than this share of the longest.
LEAST_FILLED = 0.75
# Up to this many positions it takes any row: a pass of fewer costs about as much.
SMALL_BATCH = 512


def evenly(rows: int, count: int) -> list[int]:
    """Return the indices of at most `count` rows, evenly spaced from the first one on.

    Evenly, since files begin with one document or even one class. Not at random, so that it is
    always the same ones.
    """
    count = min(count, rows)
    return [number * rows // count for number in range(count)]


def by_length(
    lengths: Lengths, tokens: int | None, batch_size: int | None = None
) -> list[list[int]]:
    """Put rows into batches by length, longest first.

    The first batch needs the most memory, so if one does not fit, it fails at once.

    Args:
        lengths: of every row.
        tokens: at most this many sub-words in a batch, padding counted; a longer row goes alone.
            None for any number.
        batch_size: at most this many rows in a batch; None for any number.

    Returns:
        Batches of row indices; rows of equal length stay in order.
    """
    lengths = np.asarray(lengths, np.int64)
    order = np.argsort(-lengths, kind="stable")
    ordered = lengths[order]
    batches: list[list[int]] = []
    start = 0
    while start < len(order):
        longest = int(ordered[start])
        end = start + (batch_size or len(order))
        if tokens is not None:
            end = min(end, start + max(1, tokens // max(1, longest)))
            # Of few rows, far shorter ones would come along and be padded to twice their length.
            similar = int(np.searchsorted(-ordered, -LEAST_FILLED * longest, side="right"))
            end = min(end, max(similar, start + SMALL_BATCH // max(1, longest)))
        batches.append(order[start:end].tolist())
        start = end
    return batches


def length_grouped(
    lengths: Lengths, batch_size: int, generator: torch.Generator, tokens: int | None = None
) -> list[list[int]]:
    """Shuffle rows into batches of rows of about the same length, for training.

    Rows are shuffled, sorted by length within pools of 50 batches, cut into batches, and the
    batches shuffled. Each row comes exactly once; some batches may be smaller.

    Args:
        lengths: of every row.
        batch_size: rows in a batch.
        generator: decides the order, alone.
        tokens: in place of a number of rows, at most this many sub-words in a batch, padding
            counted; a longer row goes alone.

    Returns:
        Batches of row indices.
    """
    lengths = np.asarray(lengths, np.int64)
    shuffled = torch.randperm(len(lengths), generator=generator).numpy()
    if tokens is None:
        pools = np.arange(len(shuffled)) // (batch_size * BATCHES_PER_POOL)
    else:
        pools = np.cumsum(lengths[shuffled]) // (tokens * BATCHES_PER_POOL)
    bounds = np.flatnonzero(np.diff(pools)) + 1
    batches = [
        pool[batch].tolist()
        for pool in np.split(shuffled, bounds)
        for batch in by_length(lengths[pool], tokens, None if tokens else batch_size)
    ]
    order = torch.randperm(len(batches), generator=generator).tolist()
    return [batches[index] for index in order]


def cell_probabilities(
    batches: Mapping[Cell, int],
    temperature: float,
    shares: Mapping[str, float] | None = None,
) -> dict[Cell, float]:
    """Return the probability of each cell: proportional to n^(1/T) (Üstün et al. 2022).

    Args:
        batches: n, the number of batches (or rows) of every cell.
        temperature: T. 1 draws in proportion to size, a large one evenly.
        shares: tasks whose cells together get this share of the steps; the temperature divides
            it among them. The other cells divide the rest in the same way.

    Returns:
        Probabilities that sum to 1.
    """
    shares = shares or {}
    rest = 1.0 - sum(shares.values())
    groups = {cell: cell.task if cell.task in shares else None for cell in batches}
    weights = {cell: float(count) ** (1.0 / temperature) for cell, count in batches.items()}
    totals: dict[str | None, float] = defaultdict(float)
    for cell, weight in weights.items():
        totals[groups[cell]] += weight
    return {
        cell: shares.get(cell.task, rest) * weight / totals[groups[cell]]
        for cell, weight in weights.items()
    }


class Sampler(ABC):
    """Draws the rows of each training batch.

    Every cell goes through epochs of its own: no row comes again before all have come. Every draw
    follows from the seed and the number of the step, so the state is a few counts. A run that was
    interrupted continues exactly as if it had not been.

    Args:
        lengths: the length of every row of every cell (`list_lengths` of its sub-words).
        batch_size: rows in a batch.
        temperature, shares: see `cell_probabilities`.
        seed: decides everything.
        tokens: in place of a number of rows, at most this many sub-words in a batch, padding
            counted.

    Attributes:
        probabilities: of each cell, at any draw.
        step: how many batches have been drawn.
    """

    def __init__(
        self,
        lengths: Mapping[Cell, Lengths],
        batch_size: int,
        temperature: float,
        shares: Mapping[str, float] | None = None,
        seed: int = 0,
        tokens: int | None = None,
    ) -> None:
        self.lengths = {cell: np.asarray(lengths[cell], np.int64) for cell in sorted(lengths)}
        self.batch_size = batch_size
        self.tokens = tokens
        self.seed = seed
        self.probabilities = cell_probabilities(self._counts(), temperature, shares)
        self.step = 0
        listed = sorted((shares or {}).items())
        self._settings = (type(self).__name__, batch_size, tokens, temperature, listed, seed)
        self._cells = list(self.lengths)
        self._bounds = np.cumsum(list(self.probabilities.values()))
        self._progress = {cell: {"epoch": 0, "taken": 0} for cell in self._cells}
        self._orders: dict[Cell, Any] = {}  # the items of present epochs, once needed

    @abstractmethod
    def next(self) -> list[Drawn]:
        """Draw the rows of the next batch."""

    @abstractmethod
    def _counts(self) -> dict[Cell, int]:
        """Return the number n of every cell, by which it is drawn."""

    @abstractmethod
    def _shuffled(self, cell: Cell, generator: torch.Generator) -> Any:
        """Return the items of one epoch of a cell in their order."""

    def _next_item(self, cell: Cell) -> Any:
        """Return the next item of a cell's present epoch."""
        progress = self._progress[cell]
        if cell not in self._orders:
            self._orders[cell] = self._shuffled(cell, self._generator(cell, progress["epoch"]))
        order = self._orders[cell]
        item = order[progress["taken"]]
        progress["taken"] += 1
        if progress["taken"] == len(order):
            progress["epoch"], progress["taken"] = progress["epoch"] + 1, 0
            del self._orders[cell]
        return item

    def _draw(self, size: int) -> list[Cell]:
        """Draw cells for the present step."""
        points = np.random.default_rng([self.seed, self.step]).random(size) * self._bounds[-1]
        return [self._cells[n] for n in np.searchsorted(self._bounds, points, side="right")]

    def _generator(self, *names: object) -> torch.Generator:
        name = "/".join(str(name) for name in (self.seed, *names))
        number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1
        return torch.Generator().manual_seed(number)

    def state_dict(self) -> dict[str, Any]:
        """Return the state as JSON values, which do not change when more is drawn."""
        cells = {str(cell): dict(progress) for cell, progress in self._progress.items()}
        about = {"step": self.step, "drawn from": self._data_digest, "pool taken": 0}
        return {**about, "cells": cells}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state.

        Raises:
            RunError: it is the state of a sampler over other data or with other settings, which
                would draw other rows than the first run.
        """
        if state["drawn from"] != self._data_digest:
            settings = "batching, batch size, temperature, shares or seed"
            hint = "Resume with those of the run, or start a new one."
            raise RunError(
                f"The checkpoint drew from other data, or with another {settings}. {hint}"
            )
        self.step = state["step"]
        self._progress = {cell: dict(state["cells"][str(cell)]) for cell in self._cells}
        self._orders.clear()

    @functools.cached_property
    def _data_digest(self) -> str:
        digest = hashlib.sha256(repr(self._settings).encode())
        for cell, lengths in self.lengths.items():
            digest.update(f"/{cell}/{len(lengths)}/".encode())
            digest.update(lengths.tobytes())
        return digest.hexdigest()


class CellSampler(Sampler):
    """Draws a cell, then a batch of its rows: one cell in a batch, as published.

    Each epoch of a cell has its own batches, grouped by length. The last ones may be smaller, and
    so are those of a cell with fewer rows.
    """

    def _counts(self) -> dict[Cell, int]:
        if self.tokens is None:
            return {cell: -(-len(rows) // self.batch_size) for cell, rows in self.lengths.items()}
        # The batches of one shuffle, whatever the seed. Another may make a few more or fewer, where
        # a cell is too large to be sorted as a whole.
        shuffle = torch.Generator()
        return {cell: len(self._shuffled(cell, shuffle.manual_seed(0))) for cell in self.lengths}

    def _shuffled(self, cell: Cell, generator: torch.Generator) -> list[list[int]]:
        return length_grouped(self.lengths[cell], self.batch_size, generator, self.tokens)

    def next(self) -> list[Drawn]:
        """Draw the cell of the next batch and its rows."""
        (cell,) = self._draw(1)
        self.step += 1
        return [(cell, row) for row in self._next_item(cell)]


class MixedSampler(Sampler):
    """Draws rows of any cells into each batch.

    The rows of 50 batches are drawn together, each from a cell drawn for it, and put into batches
    by length. So a batch holds rows of many cells and little padding.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._start = super().state_dict()  # of the present pool
        self._pool: list[list[Drawn]] = []
        self._pool_taken = 0

    def _counts(self) -> dict[Cell, int]:
        return {cell: len(rows) for cell, rows in self.lengths.items()}

    def _shuffled(self, cell: Cell, generator: torch.Generator) -> NDArray[np.int64]:
        return np.asarray(torch.randperm(len(self.lengths[cell]), generator=generator))

    def next(self) -> list[Drawn]:
        """Draw the rows of the next batch."""
        if self._pool_taken == len(self._pool):
            self._start = super().state_dict()
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
        drawn = [(cell, int(self._next_item(cell))) for cell in self._draw(size)]
        lengths = [self.lengths[cell][row] for cell, row in drawn]
        batches = by_length(lengths, self.tokens, None if self.tokens else self.batch_size)
        order = torch.randperm(len(batches), generator=self._generator("pool", self.step))
        return [[drawn[row] for row in batches[index]] for index in order.tolist()]

    def state_dict(self) -> dict[str, Any]:
        """Return the state: that at the start of the pool, and how much of the pool is used."""
        return {**self._start, "pool taken": self._pool_taken}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state; see `Sampler.load_state_dict`."""
        super().load_state_dict(state)
        self._start, self._pool, self._pool_taken = super().state_dict(), [], 0
        for _ in range(state["pool taken"]):
            self.next()
