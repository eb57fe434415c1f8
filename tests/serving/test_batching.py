"""The queue: fair, bounded, punctual, and nothing lost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

pytest.importorskip("prometheus_client")

from hyperlect.serving.batching import Batcher, Entry, Job, Metrics, Refused


class Model:
    """Stands in for a model; it can be held.

    Attributes:
        batches: what it was asked.
    """

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.go_on.set()
        self.batches: list[list[Any]] = []

    def __call__(self, entries: Sequence[Entry]) -> list[Any]:
        self.batches.append([entry.value for entry in entries])
        assert self.go_on.wait(60)
        return [ValueError(e.value) if e.value == "bad" else f"<{e.value}>" for e in entries]


def entries(*values: str, tokens: int = 1) -> list[Entry]:
    return [Entry(value, "pos", "eng", tokens) for value in values]


def run(scenario: Callable[[Batcher, Model], Awaitable[None]], **options: Any) -> Metrics:
    """Run a scenario with a batcher, which must be able to end afterwards."""
    metrics = Metrics()

    async def main() -> None:
        model = Model()
        settings = {"batch_tokens": 4, "queue_tokens": 100, "gather": 0.0, "timeout": 60.0}
        batcher = Batcher(model, metrics, **{**settings, **options})
        batcher.start()
        try:
            await scenario(batcher, model)
        finally:
            model.go_on.set()
            await asyncio.wait_for(batcher.close(), 60)

    asyncio.run(main())
    return metrics


async def begun(model: Model, batches: int = 1) -> None:
    while len(model.batches) < batches:
        await asyncio.sleep(0.001)


def answers(job: Job) -> list[Any]:
    return [job.answers[place] for place in range(len(job.entries))]


def test_every_job_gets_its_own_answers_in_order() -> None:
    async def scenario(batcher: Batcher, model: Model) -> None:
        values = [[f"{job}.{i}" for i in range(job % 7 + 1)] for job in range(50)]
        jobs = await asyncio.gather(*(batcher.submit(entries(*v)) for v in values))
        assert [answers(job) for job in jobs] == [[f"<{v}>" for v in of] for of in values]
        assert max(map(len, model.batches)) == 4
        assert sum(map(len, model.batches)) == sum(map(len, values))

    run(scenario, queue_tokens=1000)


def test_requests_that_come_together_share_a_batch() -> None:
    async def scenario(batcher: Batcher, model: Model) -> None:
        await asyncio.gather(*(batcher.submit(entries(value)) for value in "abc"))
        assert [sorted(batch) for batch in model.batches] == [["a", "b", "c"]]

    run(scenario, gather=0.2)


def test_a_full_batch_does_not_wait_for_more() -> None:
    async def scenario(batcher: Batcher, model: Model) -> None:
        job = await asyncio.wait_for(batcher.submit(entries(*"abcd")), 30)
        assert len(answers(job)) == 4

    run(scenario, gather=1000.0)


def test_a_small_request_does_not_wait_for_a_large_one() -> None:
    async def scenario(batcher: Batcher, model: Model) -> None:
        model.go_on.clear()
        large = asyncio.create_task(batcher.submit(entries(*map(str, range(20)))))
        await begun(model)
        small = asyncio.create_task(batcher.submit(entries("small")))
        await asyncio.sleep(0)
        model.go_on.set()
        await small
        assert "small" in model.batches[1]
        await large

    run(scenario)


def test_a_large_request_is_not_overtaken_for_ever() -> None:
    async def scenario(batcher: Batcher, model: Model) -> None:
        large = asyncio.create_task(batcher.submit(entries(*map(str, range(12)))))
        after = 0
        while not large.done():
            await asyncio.gather(*(batcher.submit(entries(value)) for value in "abcd"))
            after += 1
            assert after < 30

    run(scenario)


def test_an_entry_longer_than_a_batch_goes_alone_and_in_its_turn() -> None:
    async def scenario(batcher: Batcher, model: Model) -> None:
        model.go_on.clear()
        first = asyncio.create_task(batcher.submit(entries("first")))
        await begun(model)
        long = asyncio.create_task(batcher.submit(entries("long", tokens=9)))
        await asyncio.sleep(0)
        others = asyncio.gather(*(batcher.submit(entries(value)) for value in "ab"))
        await asyncio.sleep(0)
        model.go_on.set()
        await asyncio.gather(first, long, others)
        assert model.batches == [["first"], ["long"], ["a", "b"]]

    run(scenario)


def test_a_full_queue_refuses_until_there_is_room() -> None:
    async def scenario(batcher: Batcher, model: Model) -> None:
        model.go_on.clear()
        running = asyncio.create_task(batcher.submit(entries("a", tokens=4)))
        await begun(model)
        waiting = asyncio.create_task(batcher.submit(entries("b", tokens=8)))
        await asyncio.sleep(0)
        with pytest.raises(Refused) as refusal:
            await batcher.submit(entries("c", tokens=3))
        assert (refusal.value.status, refusal.value.label) == (429, "overloaded")
        assert refusal.value.retry_after is not None
        assert refusal.value.retry_after >= 1
        model.go_on.set()
        await asyncio.gather(running, waiting)
        assert answers(await batcher.submit(entries("c", tokens=3))) == ["<c>"]

    metrics = run(scenario, queue_tokens=10)
    assert metrics.queue_size._value.get() == 0


def test_a_queue_that_takes_too_long_refuses_too() -> None:
    async def scenario(batcher: Batcher, model: Model) -> None:
        batcher._token_seconds = 1.0  # as if the last batches had been slow
        model.go_on.clear()
        running = asyncio.create_task(batcher.submit(entries("a")))
        await begun(model)
        jobs = [asyncio.create_task(batcher.submit(entries("b", tokens=15))) for _ in range(3)]
        await asyncio.sleep(0)
        model.go_on.set()
        _, *results = await asyncio.gather(running, *jobs, return_exceptions=True)
        # The first two are taken: it is 15 s until the second begins.
        assert [isinstance(result, Refused) for result in results] == [False, False, True]

    run(scenario)


def test_a_request_larger_than_the_queue_is_taken_when_the_queue_is_empty() -> None:
    async def scenario(batcher: Batcher, model: Model) -> None:
        assert len(answers(await batcher.submit(entries(*"abcdef")))) == 6

    run(scenario, queue_tokens=2)


def test_deadlines_tell_waiting_from_running() -> None:
    async def scenario(batcher: Batcher, model: Model) -> None:
        model.go_on.clear()
        running = asyncio.create_task(batcher.submit(entries("running", tokens=4)))
        await begun(model)
        waiting = asyncio.create_task(batcher.submit(entries("waiting")))
        errors = await asyncio.gather(running, waiting, return_exceptions=True)
        assert [error.status for error in errors if isinstance(error, Refused)] == [504, 503]
        model.go_on.set()
        assert answers(await batcher.submit(entries("next"))) == ["<next>"]
        assert model.batches == [["running"], ["next"]]

    run(scenario, timeout=0.1)


def test_what_a_client_that_has_gone_waited_for_is_not_computed() -> None:
    async def scenario(batcher: Batcher, model: Model) -> None:
        model.go_on.clear()
        first = asyncio.create_task(batcher.submit(entries("first", tokens=4)))
        await begun(model)
        gone = asyncio.create_task(batcher.submit(entries(*"uvwxyz")))
        stays = asyncio.create_task(batcher.submit(entries("stays")))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        model.go_on.set()
        await asyncio.gather(first, stays)
        assert model.batches == [["first"], ["stays"]]

    metrics = run(scenario)
    assert metrics.queue_size._value.get() == 0


def test_a_client_that_goes_during_its_batch_disturbs_no_other() -> None:
    async def scenario(batcher: Batcher, model: Model) -> None:
        model.go_on.clear()
        gone = asyncio.create_task(batcher.submit(entries("gone")))
        stays = asyncio.create_task(batcher.submit(entries("stays")))
        await begun(model)
        gone.cancel()
        await asyncio.sleep(0)
        model.go_on.set()
        assert answers(await stays) == ["<stays>"]

    run(scenario)


def test_a_fault_reaches_the_job_that_it_is_of() -> None:
    async def scenario(batcher: Batcher, model: Model) -> None:
        jobs = (batcher.submit(entries(*values)) for values in (["a", "bad", *"cdefgh"], ["x"]))
        bad, good = await asyncio.gather(*jobs, return_exceptions=True)
        assert isinstance(bad, ValueError)
        assert isinstance(good, Job)
        assert answers(good) == ["<x>"]

    metrics = run(scenario)
    assert metrics.queue_size._value.get() == 0


def test_a_model_that_raises_does_not_end_the_queue() -> None:
    async def scenario(batcher: Batcher, model: Model) -> None:
        def broken(entries: Sequence[Entry]) -> list[Any]:
            raise MemoryError

        batcher.compute = broken
        with pytest.raises(MemoryError):
            await batcher.submit(entries("a"))
        batcher.compute = model
        assert answers(await batcher.submit(entries("b"))) == ["<b>"]
        assert batcher.alive
        assert batcher.ready

    run(scenario)


def test_closing_finishes_what_was_taken_and_takes_no_more() -> None:
    async def scenario(batcher: Batcher, model: Model) -> None:
        model.go_on.clear()
        jobs = [asyncio.create_task(batcher.submit(entries(value, tokens=4))) for value in "abc"]
        await begun(model)
        closing = asyncio.create_task(batcher.close())
        await asyncio.sleep(0)
        with pytest.raises(Refused) as refusal:
            await batcher.submit(entries("late"))
        assert refusal.value.status == 503
        model.go_on.set()
        await closing
        assert [answers(await job) for job in jobs] == [["<a>"], ["<b>"], ["<c>"]]
        assert not batcher.ready

    run(scenario)
