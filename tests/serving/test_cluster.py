"""The service under Ray Serve: two replicas on this machine, one of which is killed."""

from __future__ import annotations

import socket
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
pytest.importorskip("psutil")

import httpx
import psutil
import ray
from ray import serve

from hyperlect import HyperX
from hyperlect.serving.cluster import NAME, Served, start
from hyperlect.serving.schemas import Settings

from ..model.models import LANGUAGES, tiny_model
from ..tiny import saved_backbone
from .services import SECONDS, until

REQUESTS = 300


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    tiny_model(saved_backbone(folder / "backbone")).save_pretrained(folder / "run")
    return folder / "run"


@pytest.fixture
def url(run: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    try:
        settings = Settings(token="secret")  # type: ignore[arg-type]
        start(Served(run=str(run), device="cpu", settings=settings), "127.0.0.1", port, 2)
        yield f"http://127.0.0.1:{port}"
    finally:
        serve.shutdown()
        ray.shutdown()


def replicas() -> list[psutil.Process]:
    children = psutil.Process().children(recursive=True)
    return [child for child in children if "ServeReplica" in " ".join(child.cmdline())]


def running() -> int:
    (deployment,) = serve.status().applications[NAME].deployments.values()
    return deployment.replica_states.get("RUNNING", 0)


@pytest.mark.slow
def test_every_request_is_answered_though_a_replica_is_killed(run: Path, url: str) -> None:
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

    assert httpx.get(f"{url}/v1/grid", timeout=SECONDS).status_code == 401
    assert len(replicas()) == running() == 2
    with ThreadPoolExecutor(8) as clients:
        calls = clients.map(call, range(REQUESTS))
        for _ in range(REQUESTS // 4):
            assert answered.acquire(timeout=SECONDS)
        victim = replicas()[0]
        victim.kill()
        assert all(calls)
    assert set(failed) <= {500, 503}  # those that the replica had
    assert len(failed) < REQUESTS // 4
    until(lambda: running() == 2 and len(replicas()) == 2)
    assert victim.pid not in [replica.pid for replica in replicas()]
