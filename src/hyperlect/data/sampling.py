"""Which rows a training step takes: of one cell, or of many."""

from __future__ import annotations

import functools
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import Problems, RecipeError, RunError
from ..grid import Cell
from .batching import Drawn
from .lengths import length_grouped


def cell_probabilities(
    batches: Mapping[Cell, int],
    temperature: float,
    shares: Mapping[str, float] | None = None,
) -> dict[Cell, float]:
    """Return how probable each cell is: proportional to n^(1/T) (Üstün et al. 2022).

    Args:
        batches: n, the number of batches (or rows) of every cell.
        temperature: T. 1 draws in proportion to size, a great one evenly.
        shares: tasks whose cells together get this share of the steps; the temperature divides
            it among them. The other cells divide what is left in the same way.

    Returns:
        Probabilities that sum to 1.

    Raises:
        RecipeError: shares or temperature that cannot be; all faults at once.
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
        problems.add(f"temperature is {temperature}; it must be above 0")
    tasks = {cell.task for cell in batches}
    for cell, count in batches.items():
        if count < 1:
            problems.add(f"{cell} has no rows")
    for task, share in shares.items():
        if not 0 < share <= 1:
            problems.add(f"the share of {task} is {share}; it must be above 0 and at most 1")
        if task not in tasks:
            problems.add(f"{task} has a share of the steps but no data")
    total = sum(shares.values())
    others = sorted(tasks - set(shares))
    if others and total >= 1:
        problems.add(f"the shares sum to {total:g} and leave nothing for {', '.join(others)}")
    if tasks and not others and abs(total - 1) > 1e-9:
        problems.add(f"every task has a share, so they must sum to 1, not {total:g}")
    if not tasks:
        problems.add("there is no cell to train on")
    problems.raise_if_any(RecipeError, "Cells cannot be drawn:")


@dataclass(frozen=True)
class Position:
    """How far a sampler has come: its state at one moment.

    Attributes:
        step: how many batches have been drawn.
        epochs, taken: of each cell, its present epoch and how much of it is used up; int64.
        pool_taken: how many batches of the present pool are used up.
    """

    step: int
    epochs: NDArray[np.int64]
    taken: NDArray[np.int64]
    pool_taken: int = 0


class Sampler(ABC):
    """Draws the rows of each training batch.

    Every cell goes through epochs of its own: no row comes again before all have come. All that
    is drawn follows from the seed and the number of the step, so the state is a few counts, and a
    run that was interrupted goes on exactly as if it had not been.

    Args:
        lengths: the length of every row of every cell (see `batching.row_lengths`).
        batch_size: rows a batch.
        temperature, shares: see `cell_probabilities`.
        seed: decides everything.
        tokens: in place of a number of rows, at most this many sub-words a batch, padding counted.

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
        """Return how far drawing has come."""
        return Position(self.step, self._epochs.copy(), self._taken.copy())

    def _draw(self, points: NDArray[np.float64]) -> NDArray[np.int64]:
        """Turn evenly spread numbers in [0, 1) into cells."""
        found: NDArray[np.int64] = np.searchsorted(
            self._bounds, points * self._bounds[-1], side="right"
        )
        return found

    def _generator(self, *parts: object) -> torch.Generator:
        name = "/".join(str(part) for part in (self.seed, *parts))
        number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1
        return torch.Generator().manual_seed(number)

    def state_dict(self, position: Position | None = None) -> dict[str, Any]:
        """Return the state as JSON values; that of an earlier `position` if one is given."""
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
        """Go on from a state.

        Raises:
            RunError: it is the state of a sampler over other data, or with other settings, which
                would not draw what the first run would have.
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
    """Draws a cell, then a batch of its rows: one cell a batch, as published.

    Each epoch of a cell has batches of its own, grouped by length; there are fewer rows in some at
    its end, and for a cell that has fewer.
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
        point = np.random.default_rng([self.seed, self.step]).random(1)
        number = int(self._draw(point)[0])
        self.step += 1
        batches = self._batches.get(number)
        if batches is None:
            batches = self._batches[number] = self._epoch(number)
        rows = batches[self._taken[number]]
        self._taken[number] += 1
        if self._taken[number] == len(batches):
            self._epochs[number] += 1
            self._taken[number] = 0
            del self._batches[number]
        return [(self._cells[number], row) for row in rows]

    def _epoch(self, number: int) -> list[list[int]]:
        """Make the batches of a cell's present epoch."""
        cell = self._cells[number]
        generator = self._generator(cell, self._epochs[number])
        return length_grouped(self.lengths[cell], self.batch_size, generator, self.tokens)

    def _go_to(self, position: Position) -> None:
        super()._go_to(position)
        self._batches.clear()
