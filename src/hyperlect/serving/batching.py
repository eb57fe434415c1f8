"""The queue that gathers the work of many requests into mixed batches, and its metrics.

The event loop holds all of the queue's state, so it needs no locks. One thread runs the model.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, Gauge, Histogram

from .schemas import Fault

SMOOTHING = 0.2
"""How much the last batch counts in the estimate of the time that a token takes."""
MOST_WAITING = 0.25
"""The share of `timeout` that a job may be expected to wait. If the queue is longer, the job is
refused at once, since it would likely be late."""
_DURATIONS = tuple(0.001 * 1.5**power for power in range(28))  # 1 ms to 57 s
_POWERS = tuple(float(2**power) for power in range(17))


class Metrics:
    """What Prometheus collects, under the names of text-embeddings-inference.

    Its counters have no suffix ``_total``, which the counters of prometheus_client always have. So
    they are gauges here; ``rate`` and ``increase`` work on these too.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def counter(name: str, text: str, label: str) -> Gauge:
            return Gauge(f"te_request_{name}", text, [label], registry=self.registry)

        def seconds(name: str, text: str) -> Histogram:
            name = f"te_request_{name}"
            return Histogram(name, text, registry=self.registry, buckets=_DURATIONS)

        def sizes(name: str, text: str) -> Histogram:
            return Histogram(name, text, registry=self.registry, buckets=_POWERS)

        self.requests = counter("count", "Requests for predictions", "method")
        self.successes = counter("success", "Requests that were answered", "method")
        self.failures = counter("failure", "Requests that were not answered", "err")
        self.duration = seconds("duration", "Seconds from request to answer")
        self.queue_duration = seconds("queue_duration", "Seconds in the queue")
        self.inference_duration = seconds("inference_duration", "Seconds in the model")
        self.input_length = sizes("te_request_input_length", "Sub-words of an item")
        self.batch_size = sizes("te_batch_next_size", "Items in a batch")
        self.batch_tokens = sizes("te_batch_next_tokens", "Sub-words in a batch")
        self.batch_cells = sizes("hyperlect_batch_cells", "Distinct cells in a batch")
        self.queue_size = Gauge("te_queue_size", "Items in the queue", registry=self.registry)


@dataclass(eq=False)
class Refused(Exception):
    """A request that gets no answer.

    Attributes:
        status: of HTTP.
        label: of the metric of failures.
        detail: what is wrong, and what to do.
        retry_after: in how many seconds the request may succeed; None if that is not known.
        faults: everything that is wrong with it, if that is why.
    """

    status: int
    label: str
    detail: str
    retry_after: int | None = None
    faults: Sequence[Fault] = ()


class Entry(NamedTuple):
    """One input for one cell.

    Attributes:
        value: what `HyperX.predict` takes.
        task, language: the cell; the language as an ISO 639-3 code.
        tokens: the number of sub-words, special ones counted.
    """

    value: Any
    task: str
    language: str
    tokens: int


@dataclass(eq=False)
class Job:
    """The entries of one request, and what has become of them.

    Attributes:
        entries: all of them. waiting: the places of those that are in no batch yet.
        answers: by place.
        future: done when the last answer is there.
        arrived, started: in seconds; `started` when its first batch began.
        inference: seconds of the batches that it was in.
        turn: how many tokens it has had, counted from the clock of the queue at its arrival.
    """

    entries: Sequence[Entry]
    future: asyncio.Future[None]
    arrived: float
    turn: int
    waiting: deque[int] = field(init=False)
    answers: dict[int, Any] = field(default_factory=dict)
    started: float | None = None
    inference: float = 0.0

    def __post_init__(self) -> None:
        self.waiting = deque(range(len(self.entries)))

    @property
    def queued(self) -> float:
        """Seconds between its arrival and its first batch."""
        return (self.started or self.arrived) - self.arrived


Batch = list[tuple[Job, int]]
"""Entries, each as its job and its place there."""


@dataclass(eq=False)
class Batcher:
    """Gathers jobs into batches, one after the other.

    The next entry is always one of the job that has had the fewest tokens (start-time fair
    queueing: Goyal, Vin and Cheng 1996). So a small request does not wait for the end of a large
    one that came before, and a large one is not overtaken for ever.

    Args:
        compute: answers the entries of a batch, in a thread of its own: one answer or exception
            for each.
        metrics: where sizes and times are counted.
        batch_tokens: the most sub-words of a batch, unless a single entry has more.
        queue_tokens: the most sub-words in the queue.
        gather: how many seconds the first entry of an empty queue waits for others.
        timeout: how many seconds a job may take.
    """

    compute: Callable[[Sequence[Entry]], Sequence[Any]]
    metrics: Metrics
    batch_tokens: int
    queue_tokens: int
    gather: float
    timeout: float

    def __post_init__(self) -> None:
        self.closing = False
        self._jobs: list[tuple[int, int, Job]] = []  # a heap by turn, then by arrival
        self._number = count()
        self._clock = 0
        self._entries = self._tokens = 0
        self._token_seconds = 0.0
        self._changed = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._loop: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to run batches, in the event loop that runs now."""
        self._loop = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Take no more jobs, finish those that were taken, and end the thread."""
        self.closing = True
        self._changed.set()
        if self._loop is not None:
            await self._loop
        self._thread.shutdown()

    @property
    def alive(self) -> bool:
        """Whether batches are run, or soon will be."""
        return self._loop is None or not self._loop.done() or self.closing

    @property
    def ready(self) -> bool:
        """Whether jobs are taken and run."""
        return not self.closing and self._loop is not None and not self._loop.done()

    async def submit(self, entries: Sequence[Entry]) -> Job:
        """Take a job, and return it when all its entries are answered.

        A job whose caller is cancelled is dropped: what has not begun is not computed.

        Raises:
            Refused: the queue is full or slow (429), the service ends or the job was not begun
                in time (503), or it was not finished in time (504).
            Exception: what `compute` answered for an entry.
        """
        tokens = sum(entry.tokens for entry in entries)
        if not self.ready:
            raise Refused(503, "unhealthy", "The service is shutting down.", 1)
        late = self._tokens * self._token_seconds > self.timeout * MOST_WAITING
        if late or (self._tokens and self._tokens + tokens > self.queue_tokens):
            detail = "The queue is full. Send the request again later."
            raise Refused(429, "overloaded", detail, self._wait())
        now = time.perf_counter()
        job = Job(entries, asyncio.get_running_loop().create_future(), now, self._clock)
        heapq.heappush(self._jobs, (job.turn, next(self._number), job))
        self._count(len(entries), tokens)
        self._changed.set()
        try:
            async with asyncio.timeout(self.timeout):
                await job.future
        except TimeoutError:
            if job.started is None:
                detail = f"No batch had room for the request within {self.timeout:g} s."
                raise Refused(503, "timeout", detail, self._wait()) from None
            detail = f"The request took longer than {self.timeout:g} s. Send fewer items."
            raise Refused(504, "timeout", detail) from None
        finally:
            self._drop(job)
        self.metrics.queue_duration.observe(job.queued)
        self.metrics.inference_duration.observe(job.inference)
        return job

    def _count(self, entries: int, tokens: int) -> None:
        self._entries += entries
        self._tokens += tokens
        self.metrics.queue_size.set(self._entries)

    def _drop(self, job: Job) -> None:
        """Forget the entries of a job that are in no batch yet."""
        self._count(-len(job.waiting), -sum(job.entries[i].tokens for i in job.waiting))
        job.waiting.clear()

    def _wait(self) -> int:
        """Estimate in how many seconds the queue will be empty; 1 at least."""
        return max(1, math.ceil(self._tokens * self._token_seconds))

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while not (self.closing and not self._entries):
            self._changed.clear()
            if not self._entries:
                await self._changed.wait()
                await self._gather()
                continue
            batch = self._next_batch()
            begun = time.perf_counter()
            for job, _ in batch:
                job.started = job.started or begun
            entries = [job.entries[place] for job, place in batch]
            answers = await loop.run_in_executor(self._thread, self._safely, entries)
            seconds = time.perf_counter() - begun
            rate = seconds / sum(entry.tokens for entry in entries)
            weight = SMOOTHING if self._token_seconds else 1.0
            self._token_seconds += weight * (rate - self._token_seconds)
            self._deliver(batch, answers, seconds)

    def _safely(self, entries: Sequence[Entry]) -> Sequence[Any]:
        try:
            return self.compute(entries)
        except Exception as error:
            return [error] * len(entries)

    async def _gather(self) -> None:
        """Wait for others to come, until there is a whole batch or the time is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self.gather):
                while self._tokens < self.batch_tokens and not self.closing:
                    self._changed.clear()
                    await self._changed.wait()

    def _next_batch(self) -> Batch:
        """Take the entries of a batch out of the queue."""
        batch: Batch = []
        tokens = 0
        while self._jobs:
            _, number, job = self._jobs[0]
            if not job.waiting:  # dropped
                heapq.heappop(self._jobs)
                continue
            entry = job.entries[job.waiting[0]]
            if batch and tokens + entry.tokens > self.batch_tokens:
                break
            batch.append((job, job.waiting.popleft()))
            tokens += entry.tokens
            self._clock = job.turn
            job.turn += entry.tokens
            if job.waiting:
                heapq.heapreplace(self._jobs, (job.turn, number, job))
            else:
                heapq.heappop(self._jobs)
        self._count(-len(batch), -tokens)
        cells = {(job.entries[place].task, job.entries[place].language) for job, place in batch}
        self.metrics.batch_size.observe(len(batch))
        self.metrics.batch_tokens.observe(tokens)
        self.metrics.batch_cells.observe(len(cells))
        return batch

    def _deliver(self, batch: Batch, answers: Sequence[Any], seconds: float) -> None:
        for job in {job for job, _ in batch}:
            job.inference += seconds
        for (job, place), answer in zip(batch, answers, strict=True):
            job.answers[place] = answer
            if job.future.done():  # its client has gone, or another of its entries failed
                continue
            if isinstance(answer, Exception):
                job.future.set_exception(answer)
                self._drop(job)
            elif len(job.answers) == len(job.entries):
                job.future.set_result(None)
