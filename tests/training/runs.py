"""Reading run folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hyperlect.run_folder import load_tensors

CLOCKS = ("seconds", "tokens_per_second")


def weights(run: Path) -> dict[str, Tensor]:
    return load_tensors(run / "model.safetensors")


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    """Whether tensors agree bit for bit."""
    return first.keys() == second.keys() and all(
        torch.equal(tensor, second[name]) for name, tensor in first.items()
    )


def events(run: Path, clocks: bool = True) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; if not `clocks`, without what no two runs have in common."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    read = [json.loads(line) for line in lines]
    if clocks:
        return read
    return [{k: v for k, v in event.items() if k not in CLOCKS} for event in read]


def read(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return data


def state(run: Path) -> dict[str, Any]:
    """The state of a run's checkpoint."""
    return read(run / "checkpoint" / "state.json")
