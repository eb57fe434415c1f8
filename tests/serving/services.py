"""A service in this process, on a free port, and a way to hold its model."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from hyperlect.serving.app import create_app
from hyperlect.serving.schemas import Settings
from hyperlect.serving.service import Service

from ..test_predict import random_model

SECONDS = 60


class Running:
    """A service that runs in a thread.

    Attributes:
        app, server, url: the application, what serves it, and where.
        client: calls it.
    """

    def __init__(self, app: Any) -> None:
        self.app = app
        config = uvicorn.Config(
            app, port=0, log_level="critical", timeout_graceful_shutdown=SECONDS
        )
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        until(lambda: self.server.started or not self.thread.is_alive())
        port = self.server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.client = httpx.Client(base_url=self.url, timeout=SECONDS)

    def predict(self, *items: Any, **options: Any) -> httpx.Response:
        return self.client.post("/v1/predict", json={"items": items}, **options)

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        lines = self.client.get("/metrics").text.splitlines()
        values = [line.split() for line in lines if line.split("{")[0].split(" ")[0] == name]
        return sum(float(value) for _, value in values)

    @property
    def waiting(self) -> int:
        return int(self.metric("te_queue_size"))

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(SECONDS)
        self.client.close()


@contextmanager
def running(model: Any = None, run: Path | None = None, **settings: Any) -> Iterator[Running]:
    service = Running(
        create_app(model or random_model(), Settings(**{"precision": "fp32", **settings}), run)
    )
    try:
        yield service
    finally:
        service.stop()


def until(holds: Callable[[], bool]) -> None:
    """Wait for something that another thread brings about."""
    end = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.005)


class Held:
    """Holds the model's thread of every service: batches begin, and wait to be let go.

    Attributes:
        texts: the inputs of the batches that have begun.
    """

    def __init__(self, monkeypatch: Any) -> None:
        self.released = threading.Event()
        self.texts: list[list[Any]] = []
        answer = Service.answer

        def waits(service: Service, entries: Sequence[Any]) -> list[Any]:
            if entries[0].value != "a":  # not the one that warms up
                self.texts.append([entry.value for entry in entries])
                assert self.released.wait(SECONDS)
            return answer(service, entries)

        monkeypatch.setattr(Service, "answer", waits)
