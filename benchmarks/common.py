"""What every benchmark records: the machine, the versions, and interleaved timings."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from hyperlect.hardware import processor

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, Any]:
    """Describe what a measurement depends on."""
    names = ("hyperlect", "torch", "transformers", "accelerate", "datasets", "tokenizers")
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "gpu": gpu,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in names},
    }


def interleaved(
    runs: Mapping[str, Callable[[], object]],
    repetitions: int,
    warmup: int = 2,
    done: Callable[[], object] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Time several things in turn, so that a noisy neighbour disturbs all alike.

    Every other repetition goes through them backwards, so that none always comes after the same.

    Args:
        runs: what is timed.
        repetitions: how often.
        warmup: repetitions before that, which do not count.
        done: waits until the device has done what it was told, before each look at the clock.
        clock: returns seconds; `time.process_time` on a machine that has other work.

    Returns:
        The seconds of every repetition by name.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for repetition in range(warmup + repetitions):
        order = list(runs) if repetition % 2 else list(runs)[::-1]
        for name in order:
            done()
            began = clock()
            runs[name]()
            done()
            if repetition >= warmup:
                times[name].append(clock() - began)
    return times


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """Return the lower quartile, the median and the upper quartile; of one value, itself."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high
