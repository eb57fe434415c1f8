"""What runs at the same time: how many processes, with which threads and GPUs."""

from __future__ import annotations

import os
from collections.abc import Mapping

THREADS, DEVICES = "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"


def slots(
    processes: int | None, device: str, environment: Mapping[str, str] = os.environ
) -> list[dict[str, str]]:
    """Divide the machine among processes.

    Args:
        processes: how many; None for one a GPU, and one where there is none.
        device: "auto", "cuda", "cpu" or "mps".
        environment: variables set in it are left as they are; of the GPUs that
            ``CUDA_VISIBLE_DEVICES`` names only those are used.

    Returns:
        For each process the variables that give it its share: threads, and where there are several
        GPUs, one of them.
    """
    gpus = visible_gpus(environment) if device in ("auto", "cuda") else []
    count = processes or max(1, len(gpus))
    shares: list[dict[str, str]] = []
    for number in range(count):
        share = {}
        if not environment.get(THREADS):
            share[THREADS] = str(max(1, cores() // count))
        if len(gpus) > 1:
            share[DEVICES] = gpus[number % len(gpus)]
        shares.append(share)
    return shares


def visible_gpus(environment: Mapping[str, str]) -> list[str]:
    """Return the GPUs there are, as ``CUDA_VISIBLE_DEVICES`` names them."""
    import torch

    number = torch.cuda.device_count()
    named = [name.strip() for name in environment.get(DEVICES, "").split(",") if name.strip()]
    return named[:number] if named else [str(index) for index in range(number)]


def cores() -> int:
    """Return how many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
