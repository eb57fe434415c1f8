"""Learning rates and seeds."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from transformers import get_polynomial_decay_schedule_with_warmup

from hyperlect.training.schedule import derived_seed, learning_rate, seed_everything


def rates(warmup: int, steps: int, decay: str = "linear") -> list[float]:
    return [
        learning_rate(step, peak=0.5, warmup=warmup, steps=steps, decay=decay)
        for step in range(steps)
    ]


def test_the_rate_rises_to_its_peak_and_falls_to_zero() -> None:
    assert rates(4, 8) == pytest.approx([0.125, 0.25, 0.375, 0.5, 0.5, 0.375, 0.25, 0.125])
    assert learning_rate(8, peak=0.5, warmup=4, steps=8, decay="linear") == 0


def test_without_warmup_the_first_step_has_the_peak() -> None:
    assert rates(0, 4) == pytest.approx([0.5, 0.375, 0.25, 0.125])


def test_a_constant_rate_stays_at_its_peak() -> None:
    assert rates(2, 5, "constant") == pytest.approx([0.25, 0.5, 0.5, 0.5, 0.5])


def test_the_fall_is_the_polynomial_of_the_released_code() -> None:
    # There, the first step has rate zero; here, every step learns, and the rise is a step ahead.
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    schedule = get_polynomial_decay_schedule_with_warmup(optimizer, 5, 20, lr_end=0.0)
    theirs = []
    for _ in range(20):
        theirs.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    ours = rates(5, 20)
    assert ours[5:] == pytest.approx(theirs[5:])
    assert ours[:5] == pytest.approx(theirs[1:6])


def test_seeds_are_the_same_on_every_machine_and_differ_by_purpose() -> None:
    assert derived_seed(1, "cells") == 2951481534200089699
    seeds = {derived_seed(*parts) for parts in [(1, "a"), (2, "a"), (1, "b"), ("1a",), (1, "a", 0)]}
    assert len(seeds) == 5
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_seeding_reaches_torch_numpy_and_python() -> None:
    def draw(*parts: int | str) -> tuple[float, ...]:
        seed_everything(*parts)
        return torch.rand(1).item(), float(np.random.rand()), random.random()

    first, again, other = draw(1, "step", 3), draw(1, "step", 3), draw(1, "step", 4)
    assert first == again
    assert all(a != b for a, b in zip(first, other, strict=True))
