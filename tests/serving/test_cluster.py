"""The service under Ray Serve: two replicas on this machine, one of which is killed."""

from __future__ import annotations

import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("ray.serve")
pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("httpx")

import httpx

from hyperlect import HyperX

from ..commands import children, finish, start, until
from ..model.models import LANGUAGES, tiny_model
from ..tiny import saved_backbone
from .services import SECONDS

REQUESTS = 300
REPLICA = "ServeReplica"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    tiny_model(saved_backbone(folder / "backbone")).save_pretrained(folder / "run")
    return folder / "run"


@pytest.fixture
def service(run: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command that serves, and its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--device", "cpu", "--token", "secret", "--port", port]
    job = start("serve", run, "--ray", "--replicas", 2, *options)
    url = f"http://127.0.0.1:{port}"
    try:
        until(lambda: answers(url), job)
        yield job, url
    finally:
        job.send_signal(signal.SIGINT)
        finish(job)


def answers(url: str) -> bool:
    """Return whether a service is up; without its token it has no access."""
    try:
        return httpx.get(f"{url}/v1/grid", timeout=SECONDS).status_code == 401
    except httpx.TransportError:
        return False


@pytest.mark.slow
def test_every_request_is_answered_though_a_replica_is_killed(
    run: Path, service: tuple[subprocess.Popen[str], str]
) -> None:
    job, url = service
    model = HyperX.from_pretrained(run)
    headers = {"authorization": "Bearer secret"}
    failed: list[int] = []
    answered = threading.Semaphore(0)

    def call(number: int) -> bool:
        words = ["the", "cat", *"abc"[: number % 4]]
        cell = ("pos", "ner")[number % 2], LANGUAGES[number % 3]
        item = {"words": words, "task": cell[0], "language": cell[1]}
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            response = httpx.post(
                f"{url}/v1/predict", json={"items": [item]}, headers=headers, timeout=SECONDS
            )
            if response.status_code == 200:
                answered.release()
                (prediction,) = response.json()["items"][0]["predictions"]
                (single,) = model.predict([words], *cell)
                return prediction["labels"] == list(single.labels)
            failed.append(response.status_code)
            time.sleep(0.1)
        return False

    until(lambda: len(children(job, REPLICA)) == 2)
    with ThreadPoolExecutor(8) as clients:
        calls = clients.map(call, range(REQUESTS))
        for _ in range(REQUESTS // 4):
            assert answered.acquire(timeout=SECONDS)
        victim = children(job, REPLICA)[0]
        victim.kill()
        assert all(calls)
    assert set(failed) <= {500, 503}  # those that the replica had
    assert len(failed) < REQUESTS // 4
    until(lambda: len(children(job, REPLICA)) == 2)
    assert victim.pid not in [replica.pid for replica in children(job, REPLICA)]
