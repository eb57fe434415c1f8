"""Several processes share each batch and agree on everything else."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ..project import train, write_project
from .runs import events, same, state, weights

pytestmark = pytest.mark.slow
STEPS = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes made, with a run of one process beside it."""
    folder = tmp_path_factory.mktemp("processes")
    # Without dropout, and with as many rows in each half, both must come to the same weights.
    settings = {"steps": STEPS, "head_dropout": 0.0, "evaluate_every": 4}
    texts = write_project(folder / "texts", ("topic",), settings)
    # Rows of two tasks in a batch; in each half there may be more of one than in the other.
    several = {"batching": "mixed", "accumulate": 2}
    rows = write_project(folder / "rows", ("topic", "nli"), settings | several)
    mixed = write_project(folder / "mixed", ("pos", "dep", "topic", "mlm"), settings)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    cache = folder / "cache"
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2",
        "--master_port", str(port),
        str(Path(__file__).with_name("two_processes.py")), str(texts), str(rows),
        str(mixed), str(folder),
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HYPERLECT_CACHE": str(cache)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYPERLECT_CACHE", str(cache))
        train(texts, folder / "alone")
        train(rows, folder / "rows-alone")
    return folder


def test_each_process_learns_from_its_half_of_each_batch(folder: Path) -> None:
    first, second = (json.loads((folder / f"rows-{rank}.json").read_text()) for rank in (0, 1))
    assert len(first) == len(second) == STEPS
    for (cell, rows), (other_cell, other_rows) in zip(first, second, strict=True):
        assert cell == other_cell == ["topic:eng"]
        assert len(rows) == len(other_rows) == 2
        assert not set(rows) & set(other_rows)
    epoch = {row for batches in (first, second) for _, rows in batches for row in rows}
    assert epoch == set(range(24))


@pytest.mark.parametrize("name", ["", "rows-"])
def test_two_processes_learn_what_one_learns(folder: Path, name: str) -> None:
    together, alone = weights(folder / f"{name}together"), weights(folder / f"{name}alone")
    assert together.keys() == alone.keys()
    for parameter, tensor in together.items():
        torch.testing.assert_close(tensor, alone[parameter], rtol=1e-3, atol=1e-5)
    assert (
        json.loads((folder / f"{name}together" / "versions.json").read_text())["processes"] == "2"
    )


def test_a_signal_to_one_process_stops_both_at_the_same_step(folder: Path) -> None:
    assert (folder / "interrupted-0").exists()
    assert (folder / "interrupted-1").exists()


def test_resumed_they_end_as_if_they_had_not_stopped(folder: Path) -> None:
    assert same(weights(folder / "run"), weights(folder / "straight"))
    assert state(folder / "run")["step"] == STEPS
    ours, theirs = (events(folder / name, clocks=False) for name in ("run", "straight"))
    assert ours == theirs
