"""Which rows a training step takes: of one cell or of many, with similar lengths together."""

from __future__ import annotations

import functools
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import Problems, RecipeError, RunError
from ..grid import Cell
from .batching import Drawn
from .corpus import arrow_column

if TYPE_CHECKING:
    from datasets import Dataset

# Rows of similar length are sought among this many batches; more would pad less and mix less.
BATCHES_PER_POOL = 50
# Where a batch is bounded by its sub-words, no row is shorter than this share of the longest.
LEAST_FILLED = 0.75
# Up to this many positions it takes any row: a pass of fewer costs about as much.
SMALL_BATCH = 512


def row_lengths(encoded: Dataset) -> list[int]:
    """Return the number of sub-words of every row of an encoded corpus, without reading them."""
    import pyarrow.compute as pc

    lengths: list[int] = pc.list_value_length(arrow_column(encoded, "input_ids")).to_pylist()
    return lengths


def by_length(
    lengths: Sequence[int] | NDArray[np.int64],
    tokens: int | None,
    batch_size: int | None = None,
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
    lengths: Sequence[int] | NDArray[np.int64],
    batch_size: int,
    generator: torch.Generator,
    tokens: int | None = None,
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

    Raises:
        RecipeError: shares or temperature do not fit; all problems at once.
    """
    shares = shares or {}
    _check(batches, temperature, shares)
    rest = 1.0 - sum(shares.values())
    weights = {cell: float(count) ** (1.0 / temperature) for cell, count in batches.items()}
    totals: dict[str | None, float] = {}
    for cell, weight in weights.items():
        group = cell.task if cell.task in shares else None
        totals[group] = totals.get(group, 0.0) + weight
    return {
        cell: shares[cell.task] * weight / totals[cell.task]
        if cell.task in shares
        else rest * weight / totals[None]
        for cell, weight in weights.items()
    }


def _check(batches: Mapping[Cell, int], temperature: float, shares: Mapping[str, float]) -> None:
    problems = Problems()
    if not temperature > 0:
        problems.add(f"temperature must be above 0, not {temperature}")
    tasks = {cell.task for cell in batches}
    for cell, count in batches.items():
        if count < 1:
            problems.add(f"{cell} has no rows")
    for task, share in shares.items():
        if not 0 < share <= 1:
            problems.add(f"the share of {task} must be above 0 and at most 1, not {share}")
        if task not in tasks:
            problems.add(f"{task} has a share of the steps but no data")
    total = sum(shares.values())
    others = sorted(tasks - set(shares))
    if others and total >= 1:
        problems.add(f"the shares sum to {total:g} and leave nothing for {', '.join(others)}")
    if tasks and not others and abs(total - 1) > 1e-9:
        problems.add(f"every task has a share, so they must sum to 1, not {total:g}")
    if not tasks:
        problems.add("no cell has training data")
    problems.raise_if_any(RecipeError, "Cells cannot be drawn:")


@dataclass(frozen=True)
class Position:
    """How far a sampler is: its state at one moment.

    Attributes:
        step: how many batches have been drawn.
        epochs, taken: of each cell, its present epoch and how much of it is used; int64.
        pool_taken: how many batches of the present pool are used.
    """

    step: int
    epochs: NDArray[np.int64]
    taken: NDArray[np.int64]
    pool_taken: int = 0


class Sampler(ABC):
    """Draws the rows of each training batch.

    Every cell goes through epochs of its own: no row comes again before all have come. Every draw
    follows from the seed and the number of the step, so the state is a few counts. A run that was
    interrupted continues exactly as if it had not been.

    Args:
        lengths: the length of every row of every cell (see `row_lengths`).
        batch_size: rows in a batch.
        temperature, shares: see `cell_probabilities`.
        seed: decides everything.
        tokens: in place of a number of rows, at most this many sub-words in a batch, padding
            counted.

    Attributes:
        probabilities: of each cell, at any draw.
    """

    def __init__(
        self,
        lengths: Mapping[Cell, Sequence[int]],
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
        self._epochs = np.zeros(len(self._cells), np.int64)
        self._taken = np.zeros(len(self._cells), np.int64)

    @abstractmethod
    def next(self) -> list[Drawn]:
        """Draw the rows of the next batch."""

    @abstractmethod
    def _counts(self) -> dict[Cell, int]:
        """Return the number n of every cell, by which it is drawn."""

    def position(self) -> Position:
        """Return how far drawing is."""
        return Position(self.step, self._epochs.copy(), self._taken.copy())

    def _draw(self, size: int) -> list[int]:
        """Draw cells for the present step."""
        points = np.random.default_rng([self.seed, self.step]).random(size) * self._bounds[-1]
        cells: list[int] = np.searchsorted(self._bounds, points, side="right").tolist()
        return cells

    def _advance(self, number: int, size: int) -> bool:
        """Count one item of a cell's present epoch of `size`; tell whether the epoch is over."""
        self._taken[number] += 1
        if self._taken[number] < size:
            return False
        self._epochs[number] += 1
        self._taken[number] = 0
        return True

    def _generator(self, *names: object) -> torch.Generator:
        name = "/".join(str(name) for name in (self.seed, *names))
        number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1
        return torch.Generator().manual_seed(number)

    def state_dict(self, position: Position | None = None) -> dict[str, Any]:
        """Return the state as JSON values; that of an earlier `position` if there is one."""
        position = position or self.position()
        return {
            "step": position.step,
            "drawn from": self._data_digest,
            "pool taken": position.pool_taken,
            "cells": {
                str(cell): {"epoch": int(position.epochs[i]), "taken": int(position.taken[i])}
                for i, cell in enumerate(self._cells)
            },
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state.

        Raises:
            RunError: it is the state of a sampler over other data or with other settings, which
                would draw other rows than the first run.
        """
        if state["drawn from"] != self._data_digest:
            raise RunError(
                "The checkpoint drew from other data, or with another batching, batch size, "
                "temperature, shares or seed. Resume with those of the run, or start a new one."
            )
        counts = [state["cells"][str(cell)] for cell in self._cells]
        epochs = np.array([count["epoch"] for count in counts], np.int64)
        taken = np.array([count["taken"] for count in counts], np.int64)
        self._go_to(Position(state["step"], epochs, taken, state["pool taken"]))

    def _go_to(self, position: Position) -> None:
        self.step = position.step
        self._epochs, self._taken = position.epochs.copy(), position.taken.copy()

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

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._batches: dict[int, list[list[int]]] = {}

    def _counts(self) -> dict[Cell, int]:
        if self.tokens is None:
            return {cell: -(-len(rows) // self.batch_size) for cell, rows in self.lengths.items()}
        # The batches of one shuffle, whatever the seed. Another may make a few more or fewer, where
        # a cell is too large to be sorted as a whole.
        fixed = {cell: torch.Generator().manual_seed(0) for cell in self.lengths}
        return {
            cell: len(length_grouped(rows, self.batch_size, fixed[cell], self.tokens))
            for cell, rows in self.lengths.items()
        }

    def next(self) -> list[Drawn]:
        """Draw the cell of the next batch and its rows."""
        (number,) = self._draw(1)
        cell = self._cells[number]
        self.step += 1
        if number not in self._batches:
            generator = self._generator(cell, self._epochs[number])
            self._batches[number] = length_grouped(
                self.lengths[cell], self.batch_size, generator, self.tokens
            )
        rows = self._batches[number][self._taken[number]]
        if self._advance(number, len(self._batches[number])):
            del self._batches[number]
        return [(cell, row) for row in rows]

    def _go_to(self, position: Position) -> None:
        super()._go_to(position)
        self._batches.clear()


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
        drawn = [(self._cells[number], self._next_row(number)) for number in self._draw(size)]
        lengths = [self.lengths[cell][row] for cell, row in drawn]
        batches = by_length(lengths, self.tokens, None if self.tokens else self.batch_size)
        order = torch.randperm(len(batches), generator=self._generator("pool", self.step))
        return [[drawn[row] for row in batches[index]] for index in order.tolist()]

    def _next_row(self, number: int) -> int:
        """Return the next row of a cell's present epoch."""
        if number not in self._orders:
            cell = self._cells[number]
            generator = self._generator(cell, self._epochs[number])
            order = torch.randperm(len(self.lengths[cell]), generator=generator).numpy()
            self._orders[number] = order
        order = self._orders[number]
        row = int(order[self._taken[number]])
        if self._advance(number, len(order)):
            del self._orders[number]
        return row

    def position(self) -> Position:
        """Return how far drawing is: the start of the pool, and how much of it is used."""
        start = self._start
        return Position(start.step, start.epochs, start.taken, self._pool_taken)

    def _go_to(self, position: Position) -> None:
        super()._go_to(position)
        self._orders.clear()
        self._start = super().position()
        self._pool, self._pool_taken = [], 0
        for _ in range(position.pool_taken):
            self.next()
