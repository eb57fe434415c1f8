"""Peak memory of a training step.

On a GPU torch counts it. On a CPU it is every allocation that torch makes and frees in
one step, as its profiler records them, on top of the tensors that live from step to step. That is
exact and the same every time, while the peak resident size of a process holds what the allocator
kept and what loading the encoder took, half a gigabyte of libraries among it, and varies more from
run to run than a hypernetwork weighs. What it leaves out is scratch memory inside single kernels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from hyperlect.hypernet import HypernetConfig

from .bench import BASE, SMALL, Bench, Step
from .rows import Row
from .steps import CELLS, shape, sizes

MIB = 2**20


def peak(bench: Bench, step: Step) -> int:
    """Return the most bytes that are in use during a step: model, moments, and all it makes."""
    step()  # the first makes the moments
    if bench.cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()  # other measures' models may be among it
        step()
        return kept(step) + torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        step()
    used = most = 0
    events = record.profiler.kineto_results.events()
    for event in sorted(events, key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            used += event.nbytes()
            most = max(most, used)
    return kept(step) + most


def kept(step: Step) -> int:
    """Count the bytes that live from step to step: all parameters and the moments."""
    model = step.model
    trained = model.own_parameters().values()
    return size(model.parameters()) + size(model.buffers()) + moments(step, trained)


def moments(step: Step, parameters: Iterable[Tensor]) -> int:
    """Count the bytes of the optimiser's state of some parameters."""
    states = (step.optimizer.state.get(parameter, {}) for parameter in parameters)
    return size(v for state in states for v in state.values() if isinstance(v, Tensor))


def size(tensors: Iterable[Tensor]) -> int:
    """Count the bytes of tensors."""
    return sum(tensor.nbytes for tensor in tensors)


def compared(bench: Bench, hypernet: HypernetConfig, extra: bool) -> Row:
    """Compare peaks; the hypernetwork is granted its own size and its moments."""
    batches = bench.batches(CELLS[:1])
    peaks, hypernetwork = {}, 0
    for method in ("hyperx", "adapters"):
        step = Step(bench, bench.model(method, hypernet), batches)
        peaks[method] = peak(bench, step)
        if method == "hyperx":
            parameters = list(step.model.adapters.parameters())
            hypernetwork = size(parameters) + moments(step, parameters)
    granted = peaks["adapters"] + hypernetwork
    return Row(
        f"peak memory of a training step, {sizes(hypernet)}",
        "ordinary adapters + size of hypernetwork and optimiser state",
        peaks["hyperx"] / granted,
        None if extra else "≤ 1.10",
        1,
        extra,
        {
            "mebibytes": {
                "hypernetwork": peaks["hyperx"] / MIB,
                "ordinary adapters": peaks["adapters"] / MIB,
                "size of hypernetwork and optimiser state": hypernetwork / MIB,
            },
            **shape(batches),
            "measured": "by the GPU's allocator" if bench.cuda else "by torch's profiler",
        },
    )


def measure(bench: Bench) -> Iterator[Row]:
    """Measure every row of this module."""
    yield compared(bench, BASE, extra=False)
    yield compared(bench, SMALL, extra=True)
