"""On a GPU: base Hyper-X on a random encoder of the published size, and the share of the peak."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from common import quartiles
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from hyperlect.backbone import Backbone
from hyperlect.data.batching import Batch, TaskRows
from hyperlect.grid import Cell

from .bench import BASE, Bench, Step
from .rows import Row, timed_row
from .steps import ORDINARY

LENGTH = 64
SENTENCES = (32, 256)
VOCABULARY = 119547  # multilingual BERT's
STEPS = 4
COSTLIEST = 10
"""Kernels that are named."""

# Dense bf16 products with fp32 sums, in 10^12 operations a second, from the makers' data sheets.
# A name is looked for inside that of the device; the longer ones come first.
PEAKS = {
    "H100 PCIe": 756.0,
    "H100 NVL": 835.0,
    "H100": 989.4,
    "H200": 989.4,
    "GH200": 989.4,
    "B200": 2250.0,
    "A100": 312.0,
    "A30": 165.0,
    "L40S": 362.0,
    "A10G": 70.0,
    "A10": 125.0,
    "L4": 121.0,
    "RTX 4090": 165.2,
    "RTX 3090": 71.0,
}


def device_peak(name: str) -> float | None:
    """Return the peak of a device in operations a second, if it is known."""
    return next((peak * 1e12 for known, peak in PEAKS.items() if known in name), None)


def encoder(device: torch.device, **sizes: Any) -> Backbone:
    """Make a random BERT encoder, 768 wide and 12 layers deep unless told otherwise."""
    from transformers import AutoModel, BertConfig

    torch.manual_seed(1)
    config = BertConfig(vocab_size=VOCABULARY, **sizes)
    return Backbone(AutoModel.from_config(config, add_pooling_layer=False)).eval().to(device)


def random_batch(device: torch.device, sentences: int) -> Batch:
    """Make a batch of random sub-words of full length, one label a sub-word."""
    generator = torch.Generator().manual_seed(1)
    shape = (sentences, LENGTH)
    ids = torch.randint(1000, VOCABULARY, shape, generator=generator)
    labels = torch.randint(17, (ids.numel(),), generator=generator)
    rows = TaskRows(
        torch.arange(sentences),
        (LENGTH,) * sentences,
        positions=torch.arange(ids.numel()),
        labels=labels,
    )
    cells = [Cell("pos", "eng")] * sentences
    return Batch(cells, ids, torch.ones_like(ids), {"pos": rows}).to(device)


def operations(step: Step) -> int:
    """Count the floating-point operations of one run of a step."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def kernels(bench: Bench, step: Step) -> dict[str, float]:
    """Return the milliseconds of the costliest kernels of one run (on a CPU, of operations)."""
    kind = ProfilerActivity.CUDA if bench.cuda else ProfilerActivity.CPU
    for _ in range(2):  # the first has the start of the profiler in it
        bench.sync()
        with profile(activities=[kind]) as record:
            step()
    return costliest(record.key_averages(), bench.cuda)


def costliest(events: Iterable[Any], cuda: bool) -> dict[str, float]:
    """Return the milliseconds of the costliest of a profiler's events by name.

    Args:
        events: as `torch.profiler` averages them by name.
        cuda: whether kernels are wanted, and not what the processor did to launch them.
    """
    spent: Counter[str] = Counter()
    for event in events:
        if not cuda:
            spent[event.key] += event.self_cpu_time_total / 1000
        elif event.device_type == DeviceType.CUDA and not event.is_user_annotation:
            spent[event.key] += event.self_device_time_total / 1000
    return dict(spent.most_common(COSTLIEST))


def training(bench: Bench, backbone: Backbone, sentences: int) -> Iterator[Row]:
    """Time whole steps of base Hyper-X and of ordinary adapters, and see how busy the GPU is."""
    batches = [random_batch(bench.device, sentences)] * STEPS
    runs = {
        "hypernetwork": Step(bench, bench.model("hyperx", BASE, backbone=backbone), batches),
        "ordinary adapters": Step(bench, bench.model("adapters", BASE, backbone=backbone), batches),
    }
    times = bench.times(runs)
    flops = {name: operations(step) for name, step in runs.items()}
    seconds = {name: quartiles(values)[1] for name, values in times.items()}
    tokens = STEPS * sentences * LENGTH
    name = torch.cuda.get_device_name(bench.device) if bench.cuda else "CPU"
    peak = device_peak(name)
    size = f"{sentences} sentences of {LENGTH} sub-words"
    yield timed_row(
        f"training step of base Hyper-X, 768 wide, 12 layers, {size}",
        ORDINARY,
        "≤ 1.05",
        times,
        ("hypernetwork", "ordinary adapters"),
        extra=True,
        tokens_per_second={run: tokens / s for run, s in seconds.items()},
        operations_per_second={run: flops[run] / s for run, s in seconds.items()},
        one_run=f"{STEPS} steps",
        kernel_milliseconds={run: kernels(bench, step) for run, step in runs.items()},
        device=name,
    )
    reached = flops["hypernetwork"] / seconds["hypernetwork"]
    if peak is not None:
        yield Row(
            f"operations per second in training base Hyper-X, {size}",
            f"the peak of the {name}, {peak / 1e12:g}·10¹² in bf16",
            reached / peak,
            None,
            len(times["hypernetwork"]),
            True,
            {"operations_per_second": reached, "peak": peak},
        )


def measure(bench: Bench) -> Iterator[Row]:
    """Measure every row of this module; none without a GPU."""
    if bench.cuda:
        backbone = encoder(bench.device)
        for sentences in SENTENCES:
            yield from training(bench, backbone, sentences)
