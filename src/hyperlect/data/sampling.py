"""Which cell a training step takes, and which of its rows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ..errors import Problems, RecipeError, RunError
from ..grid import Cell
from .batching import length_grouped


def cell_probabilities(
    batches: Mapping[Cell, int],
    temperature: float,
    shares: Mapping[str, float] | None = None,
) -> dict[Cell, float]:
    """Return how probable each cell is at a step: proportional to n^(1/T) (Üstün et al. 2022).

    Args:
        batches: n, the number of batches of every cell.
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


class CellSampler:
    """Draws a cell and a batch of its rows for each training step.

    Every cell goes through epochs of its own: no row comes again before all have come, and each
    epoch has batches of its own, grouped by length. All that is drawn follows from the seed and
    the number of the step, so the state is a few counts, and a run that was interrupted goes on
    exactly as if it had not been.

    Args:
        lengths: the length of every row of every cell (see `batching.row_lengths`).
        batch_size: rows a step; fewer at the end of an epoch, and for a cell that has fewer.
        temperature, shares: see `cell_probabilities`.
        seed: decides everything.

    Attributes:
        probabilities: of each cell, at any step.
        step: how many batches have been drawn.
    """

    def __init__(
        self,
        lengths: Mapping[Cell, Sequence[int]],
        batch_size: int,
        temperature: float,
        shares: Mapping[str, float] | None = None,
        seed: int = 0,
    ) -> None:
        self.lengths = {cell: np.asarray(lengths[cell], np.int64) for cell in sorted(lengths)}
        self.batch_size = batch_size
        self.seed = seed
        counts = {cell: -(-len(rows) // batch_size) for cell, rows in self.lengths.items()}
        self.probabilities = cell_probabilities(counts, temperature, shares)
        self.step = 0
        self._settings = (batch_size, float(temperature), sorted((shares or {}).items()), seed)
        self._cells = list(self.lengths)
        self._bounds = np.cumsum(list(self.probabilities.values()))
        self._epochs = dict.fromkeys(self._cells, 0)
        self._taken = dict.fromkeys(self._cells, 0)
        self._batches: dict[Cell, list[list[int]]] = {}

    def next(self) -> tuple[Cell, list[int]]:
        """Draw the cell of the next step and the indices of its rows."""
        point = np.random.default_rng([self.seed, self.step]).random() * self._bounds[-1]
        cell = self._cells[int(np.searchsorted(self._bounds, point, side="right"))]
        self.step += 1
        batches = self._batches.get(cell)
        if batches is None:
            batches = self._batches[cell] = self._epoch(cell)
        rows = batches[self._taken[cell]]
        self._taken[cell] += 1
        if self._taken[cell] == len(batches):
            self._epochs[cell] += 1
            self._taken[cell] = 0
            del self._batches[cell]
        return cell, rows

    def _epoch(self, cell: Cell) -> list[list[int]]:
        """Make the batches of the cell's present epoch."""
        name = f"{self.seed}/{cell}/{self._epochs[cell]}"
        number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1
        generator = torch.Generator().manual_seed(number)
        return length_grouped(self.lengths[cell], self.batch_size, generator)

    def state_dict(self) -> dict[str, Any]:
        """Return the state as JSON values."""
        return {
            "step": self.step,
            "drawn from": self._data_digest(),
            "cells": {
                str(cell): {"epoch": self._epochs[cell], "taken": self._taken[cell]}
                for cell in self._cells
            },
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state.

        Raises:
            RunError: it is the state of a sampler over other data, or with another batch size,
                temperature, shares or seed, which would not draw what the first run would have.
        """
        if state["drawn from"] != self._data_digest():
            raise RunError(
                "The checkpoint drew its batches from other data, or with another batch size, "
                "temperature, shares or seed. Resume with those of the run, or start a new one."
            )
        self.step = state["step"]
        for cell in self._cells:
            self._epochs[cell] = state["cells"][str(cell)]["epoch"]
            self._taken[cell] = state["cells"][str(cell)]["taken"]
        self._batches.clear()

    def _data_digest(self) -> str:
        digest = hashlib.sha256(repr(self._settings).encode())
        for cell, lengths in self.lengths.items():
            digest.update(f"/{cell}/{len(lengths)}/".encode())
            digest.update(lengths.tobytes())
        return digest.hexdigest()
