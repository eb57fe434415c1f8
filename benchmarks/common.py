"""What every benchmark records: the machine, the versions, and interleaved timings."""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, Any]:
    """Describe what a measurement depends on."""
    names = ("hyperlect", "torch", "transformers", "accelerate")
    info = Path("/proc/cpuinfo")
    models = [
        line.partition(":")[2].strip()
        for line in (info.read_text().splitlines() if info.exists() else [])
        if line.startswith("model name")
    ]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "processor": models[0] if models else platform.processor(),
        "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "gpu": gpu,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in names},
    }


def interleaved(
    runs: Mapping[str, Callable[[], object]], repetitions: int, warmup: int = 2
) -> dict[str, list[float]]:
    """Time several things in turn, so that a noisy neighbour disturbs all alike.

    Returns:
        The seconds of every repetition by name.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for repetition in range(warmup + repetitions):
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            if repetition >= warmup:
                times[name].append(time.perf_counter() - began)
    return times


def ratio(times: Mapping[str, list[float]], measured: str, against: str) -> dict[str, float]:
    """Compare medians, and give the quartiles of the ratio of neighbouring repetitions."""
    pairs = [a / b for a, b in zip(times[measured], times[against], strict=True)]
    quartiles = statistics.quantiles(pairs, n=4)
    return {
        "ratio": statistics.median(times[measured]) / statistics.median(times[against]),
        "paired_lower_quartile": quartiles[0],
        "paired_median": quartiles[1],
        "paired_upper_quartile": quartiles[2],
    }


def write(name: str, data: Mapping[str, Any]) -> Path:
    """Keep a result as JSON beside the benchmarks."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path
