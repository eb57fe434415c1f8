"""Several processes share each batch, and learn what one process learns."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from torch.distributed import DistBackendError

from hyperlect.errors import RunError
from hyperlect.run_folder import checkpoints, load_tensors
from hyperlect.training.processes import losing_a_process

from ..project import ENTITIES, TAGS, WORDS, go_on, train, treebank, write_project
from .conftest import Crash, Watched
from .runs import CURVE, DIVIDED, ROWS, events, first_gradients, read, same, state, weights

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
STEPS = 6
TORCHRUN = ("torch.distributed.run", "--nproc_per_node", "2", "--master_port")
# Accelerate starts one process alone with --cpu, unless it starts them by MPI.
ACCELERATE = (
    "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port",
)  # fmt: skip
COMMAND = ["--device", "cpu", *(word for setting in CURVE for word in ("--set", setting))]


def uneven_sentences(task: str) -> list[list[str]]:
    source = random.Random(task)
    return [[source.choice(WORDS) for _ in range(2 + 28 * n // 23)] for n in range(24)]


def write_uneven(folder: Path) -> Path:
    """Write a project with training sentences of 2 to 30 words, of words, trees and raw text."""

    def columns(sentences: Sequence[Sequence[str]], tags: dict[str, str]) -> str:
        return "\n".join("".join(f"{w}\t{tags.get(w, 'O')}\n" for w in s) for s in sentences)

    training = {
        "steps": 1, "warmup": 0, "head_dropout": 0.0, "batching": "mixed", "batch_size": 9,
        "accumulate": 2, "clip": None,
    }  # fmt: skip
    recipe = write_project(folder, ("pos", "ner", "dep", "mlm"), training)
    (folder / "pos.eng.train").write_text(columns(uneven_sentences("pos"), TAGS))
    (folder / "ner.eng.train").write_text(columns(uneven_sentences("ner"), ENTITIES))
    (folder / "dep.eng.train").write_text("".join(map(treebank, uneven_sentences("dep"))))
    lines = [" ".join(words) + "\n" for words in uneven_sentences("mlm")]
    (folder / "mlm.fao.train").write_text("".join(lines))
    return recipe


def launched(launcher: Sequence[str], cache: Path, arguments: Sequence[object]) -> Any:
    """Start two processes of a module on this machine, by a launcher."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", *launcher, str(port), "-m", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HYPERLECT_CACHE": str(cache)}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, cwd=ROOT, stdout=pipe, stderr=pipe, text=True)


def finish(process: Any) -> tuple[int, str]:
    """Wait for a launcher; return its exit code and what was printed on stderr."""
    try:
        _, errors = process.communicate(timeout=300)
    finally:
        process.kill()
    return process.returncode, errors


def wait_for_step(step: int, run: Path, process: Any) -> None:
    """Wait for a checkpoint of that step or a later one, while a launcher runs."""
    while not any(int(path.stem) >= step for path in checkpoints(run)):
        assert process.poll() is None, process.communicate()[1][-4000:]
        time.sleep(0.01)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes made, with runs of one process beside it."""
    folder = tmp_path_factory.mktemp("processes")
    # Without dropout, both must come to the same weights.
    settings = {"steps": STEPS, "head_dropout": 0.0, "evaluate_every": 4}
    texts = write_project(folder / "data" / "texts", ("topic",), settings)
    uneven = write_uneven(folder / "data" / "uneven")
    tasks = ("pos", "dep", "topic", "mlm")
    mixed = write_project(folder / "data" / "mixed", tasks, settings)
    cache = folder / "cache"
    arguments = ("tests.training.two_processes", texts, uneven, mixed, folder)
    code, errors = finish(launched(TORCHRUN, cache, arguments))
    assert code == 0, errors[-4000:]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYPERLECT_CACHE", str(cache))
        train(texts, folder / "texts-alone")
        with first_gradients(folder / "gradients-alone.safetensors"):
            train(uneven, folder / "uneven-alone")
        train(mixed, folder / "straight-alone")
        train(uneven, folder / "curve-alone", *CURVE)
        train(uneven, folder / "divided-alone", *DIVIDED)  # one process has nobody to divide with
        train(texts, folder / "rows-alone", *ROWS)
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


def test_on_uneven_sentences_the_gradient_is_that_of_one_process(folder: Path) -> None:
    """For tags, spans, trees and raw text, masks included; in both processes."""
    first, second, alone = (
        load_tensors(folder / f"gradients-{name}.safetensors") for name in ("0", "1", "alone")
    )
    assert same(first, second)
    assert first.keys() == alone.keys()
    for name, gradient in alone.items():
        torch.testing.assert_close(first[name], gradient, rtol=1e-3, atol=1e-6)
    flat, expected = (
        torch.cat([gradient.double().flatten() for gradient in gradients.values()])
        for gradients in (first, alone)
    )
    assert expected.norm() > 0.1
    assert torch.cosine_similarity(flat, expected, dim=0) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("name", ["texts", "straight", "divided", "rows"])
def test_two_processes_learn_what_one_learns(folder: Path, name: str) -> None:
    together, alone = weights(folder / name), weights(folder / f"{name}-alone")
    assert together.keys() == alone.keys()
    # By norms: where a gradient is almost zero, Adam makes a whole step of a rounding error.
    for parameter, tensor in together.items():
        distance, norm = (tensor - alone[parameter]).norm(), alone[parameter].norm()
        assert distance <= (0.02 if name == "divided" else 1e-3) * norm, parameter  # 50 steps, 6
    assert read(folder / name / "versions.json")["processes"] == "2"
    logged, expected = (
        [event["loss"].keys() for event in events(folder / run) if event["event"] == "train"]
        for run in (name, f"{name}-alone")
    )
    assert logged == expected


def test_a_signal_to_one_process_stops_both_at_the_same_step(folder: Path) -> None:
    assert (folder / "interrupted-0").exists()
    assert (folder / "interrupted-1").exists()


def test_resumed_processes_end_as_if_they_had_not_stopped(folder: Path) -> None:
    assert same(weights(folder / "run"), weights(folder / "straight"))
    assert state(folder / "run")["step"] == STEPS
    ours, theirs = (events(folder / name, clocks=False) for name in ("run", "straight"))
    assert ours == theirs


def curve(run: Path) -> list[dict[str, float]]:
    """The losses of each step by task."""
    losses = [event["loss"] for event in events(run) if event["event"] == "train"]
    assert len(losses) == 50
    return losses


def require_same_curve(run: Path, alone: Path) -> None:
    for step, (losses, expected) in enumerate(zip(curve(run), curve(alone), strict=True)):
        assert losses == pytest.approx(expected, rel=1e-4, abs=1e-4), step


def test_fifty_steps_by_accelerate_have_the_losses_of_one_process(
    folder: Path, tmp_path: Path
) -> None:
    """On uneven sentences: of words, of trees, and of raw text with its masks."""
    recipe = folder / "data" / "uneven" / "recipe.yaml"
    arguments = ("hyperlect.cli", "train", recipe, "--out", tmp_path / "run", *COMMAND)
    code, errors = finish(launched(ACCELERATE, folder / "cache", arguments))
    assert code == 0, errors[-4000:]
    assert read(tmp_path / "run" / "versions.json")["processes"] == "2"
    require_same_curve(tmp_path / "run", folder / "curve-alone")
    first, *_, last = curve(tmp_path / "run")
    assert last["ner"] < 0.5 * first["ner"]


def test_a_divided_hypernetwork_has_the_losses_of_one_process(folder: Path) -> None:
    """And the norms of its gradients, by which they are clipped."""
    require_same_curve(folder / "divided", folder / "divided-alone")
    norms, expected = (
        [event["norm"] for event in events(folder / name) if "norm" in event]
        for name in ("divided", "divided-alone")
    )
    assert norms == pytest.approx(expected, rel=1e-3)
    assert max(norms) > 0.5


def test_each_process_holds_its_share_of_a_divided_hypernetwork(folder: Path) -> None:
    first, second = (read(folder / f"shares-{rank}.json") for rank in (0, 1))
    for kind in ("weights", "moments"):
        assert first[kind] + second[kind] == first["all"]
        assert first[kind] == pytest.approx(second[kind], rel=0.1)


def test_a_loss_that_is_not_finite_in_one_process_is_skipped_by_all(folder: Path) -> None:
    run = folder / "skips"
    assert state(run)["skipped"] == 1
    assert [event["step"] for event in events(run) if event["event"] == "train"] == [1, 2, 3, 4]
    assert "step 2 skipped" in (run / "log.txt").read_text()
    assert all(bool(tensor.isfinite().all()) for tensor in weights(run).values())


def test_a_loss_that_is_not_finite_in_one_process_ends_all(folder: Path) -> None:
    for rank in (0, 1):
        assert "at step 2" in (folder / f"diverged-{rank}").read_text()


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_ends_the_job_and_one_process_resumes_it(
    folder: Path, tmp_path: Path, killed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it is the one that writes or the other."""
    run, recipe = tmp_path / "run", folder / "data" / "uneven" / "recipe.yaml"
    arguments = ("hyperlect.cli", "train", recipe, "--out", run, *COMMAND)
    job = launched(TORCHRUN, folder / "cache", arguments)
    wait_for_step(1, run, job)
    workers = sorted(psutil.Process(job.pid).children(), key=lambda worker: worker.pid)
    workers[killed].kill()
    code, _ = finish(job)  # the launcher may end the other before it has said why
    assert code not in (0, None)
    assert not any(worker.is_running() for worker in workers)
    assert not (run / "training.json").exists()
    monkeypatch.setenv("HYPERLECT_CACHE", str(folder / "cache"))
    go_on(run)
    require_same_curve(run, folder / "curve-alone")


def test_two_processes_resume_what_one_began(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, watched: Watched
) -> None:
    run, recipe = tmp_path / "run", folder / "data" / "uneven" / "recipe.yaml"
    monkeypatch.setenv("HYPERLECT_CACHE", str(folder / "cache"))
    watched.crashes.add(27)
    with pytest.raises(Crash):
        train(recipe, run, *CURVE)
    assert state(run)["step"] == 25
    arguments = ("hyperlect.cli", "train", "--resume", run, "--device", "cpu")
    code, errors = finish(launched(TORCHRUN, folder / "cache", arguments))
    assert code == 0, errors[-4000:]
    assert "processes 2 (before: 1)" in (run / "log.txt").read_text()
    require_same_curve(run, folder / "curve-alone")


def test_a_divided_hypernetwork_is_resumed_by_one_process_and_by_several(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, watched: Watched
) -> None:
    run, recipe = tmp_path / "run", folder / "data" / "uneven" / "recipe.yaml"
    monkeypatch.setenv("HYPERLECT_CACHE", str(folder / "cache"))
    watched.crashes.add(12)
    with pytest.raises(Crash):
        train(recipe, run, *DIVIDED)
    arguments = ("hyperlect.cli", "train", "--resume", run, "--device", "cpu")
    job = launched(TORCHRUN, folder / "cache", arguments)
    wait_for_step(25, run, job)
    psutil.Process(job.pid).children()[0].kill()
    finish(job)
    go_on(run)
    require_same_curve(run, folder / "divided-alone")


@pytest.mark.parametrize(
    "error", [RuntimeError("[gloo/pair.cc] Connection closed by peer"), DistBackendError("NCCL")]
)
def test_the_loss_of_a_process_is_an_error_that_says_how_to_go_on(
    tmp_path: Path, error: RuntimeError
) -> None:
    with (
        pytest.raises(RunError, match=r"hyperlect train .*recipe\.yaml"),
        losing_a_process(tmp_path),
    ):
        raise error
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "000000005.safetensors").touch()
    with pytest.raises(RunError, match=f"--resume {tmp_path}"), losing_a_process(tmp_path):
        raise error


def test_other_errors_are_not_taken_for_the_loss_of_a_process(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="out of memory"), losing_a_process(tmp_path):
        raise RuntimeError("out of memory")
