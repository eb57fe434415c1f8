"""Learning rates and seeds as functions of the step, so that a resumed run needs no history."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import torch


def learning_rate(step: int, peak: float, *, warmup: int, steps: int, decay: str) -> float:
    """Return the rate of one step, counted from 0.

    It rises linearly over `warmup` steps to `peak`, then falls linearly to zero at `steps`
    ("linear", what the released code calls polynomial), or stays ("constant").
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    if decay == "constant":
        return peak
    return peak * max(steps - step, 0) / max(steps - warmup, 1)


def derived_seed(*parts: int | str) -> int:
    """Hash a run's seed and what it is for into a seed of 63 bits, the same on every machine."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def seed_everything(*parts: int | str) -> None:
    """Seed torch (every device), NumPy and Python from `derived_seed` of the parts."""
    seed = derived_seed(*parts)
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
