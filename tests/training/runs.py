"""Reading run folders."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_pre_hook

from hyperlect.run_folder import checkpoints, load_tensors, save_tensors
from hyperlect.training.checkpoint import read_checkpoint

CURVE = (
    "training.steps=50", "training.log_every=1", "training.save_every=5",
    "training.learning_rate=0.004",  # with a higher one, rounding errors grow
)  # fmt: skip
DIVIDED = (*CURVE, "training.shard=true", "training.clip=0.5", "training.evaluate_every=20")
ROWS = ("training.batch_size=1", "training.shard=true")
SHORT = ("training.steps=4", "training.log_every=1", "training.shard=true")
CLOCKS = ("seconds", "tokens_per_second", "saving")


def weights(run: Path) -> dict[str, Tensor]:
    return load_tensors(run / "model.safetensors")


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    """Whether tensors agree bit for bit."""
    return first.keys() == second.keys() and all(
        torch.equal(tensor, second[name]) for name, tensor in first.items()
    )


def events(run: Path, clocks: bool = True) -> list[dict[str, Any]]:
    """Return the lines of metrics.jsonl; unless `clocks`, without times, which always differ."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    read = [json.loads(line) for line in lines]
    if clocks:
        return read
    return [
        {k: v for k, v in event.items() if k not in CLOCKS}
        for event in read
        if event["event"] != "start"  # one for each attempt
    ]


def read(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return data


def state(run: Path, clocks: bool = True) -> dict[str, Any]:
    """Return the state of a run's last checkpoint; unless `clocks`, without times."""
    state, _ = read_checkpoint(checkpoints(run)[0])
    return {k: v for k, v in state.items() if clocks or k not in CLOCKS}


@contextmanager
def first_gradients(path: Path) -> Iterator[None]:
    """Write the gradients of the first step inside the block, by the number of the parameter."""

    def write(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if not path.exists():
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            gradients = {str(n): p.grad for n, p in enumerate(parameters) if p.grad is not None}
            save_tensors(gradients, path)

    handle = register_optimizer_step_pre_hook(write)
    try:
        yield
    finally:
        handle.remove()
