"""Measure the service: throughput, latency, overload, and 1,024 cells against one.

    python benchmarks/serving.py RUN
    python benchmarks/serving.py RUN --only throughput --repetitions 1 --dry

A client process calls services on this machine over HTTP. The texts are those of the sample corpus,
each in cells drawn at random from the run's tasks and the corpus's languages. Every answer is
compared with the single prediction of the same model. Results: results/serving/.

Three services are compared, which differ only in how they call the model:

- mixed: as `hyperlect serve` does, with batches of all cells;
- one cell: the same queue, and each forward pass has the requests of one cell;
- one request: each request goes through the model alone.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
from common import RESULTS, interleaved, machine, quartiles
from rich.console import Console

from hyperlect.data.readers import Source, column_sentences
from hyperlect.errors import Problems
from hyperlect.hardware import Precision, fast_precision
from hyperlect.languages import common
from hyperlect.model import HyperX
from hyperlect.serving import service as serving
from hyperlect.serving.batching import Entry
from hyperlect.serving.schemas import Settings

OUT = RESULTS / "serving"
SAMPLE = Path(__file__).parents[1] / "src" / "hyperlect" / "data" / "sample"
SERVICES = ("mixed", "one cell", "one request")
CELLS, CLIENTS, REQUESTS = 32, 32, 1000
RATE, RATE_SECONDS = 50, 30
OVERLOAD, OVERLOAD_SECONDS = 5, 10
MANY = 1024
TOLERANCE = 2e-3
"""How far probabilities may be apart; padding and the order of sums change the last digits."""
out = Console()


@dataclass(frozen=True)
class Call:
    """One request, and what came of it."""

    item: dict[str, Any]
    status: int
    seconds: float
    answer: dict[str, Any] | None


# --- services


def serve(run: Path, name: str, precision: Precision) -> None:
    """Serve a run on a free port, which is printed."""
    import uvicorn

    from hyperlect.serving.app import create_app

    predict = serving.Service._predict

    def by_cell(self: Any, entries: Sequence[Entry]) -> list[Any]:
        answers: dict[int, Any] = {}
        cells: dict[tuple[str, str], list[int]] = {}
        for place, entry in enumerate(entries):
            cells.setdefault((entry.task, entry.language), []).append(place)
        for places in cells.values():
            answers |= zip(places, predict(self, [entries[i] for i in places]), strict=True)
        return [answers[place] for place in range(len(entries))]

    def one_by_one(self: Any, entries: Sequence[Entry]) -> list[Any]:
        return [prediction for entry in entries for prediction in predict(self, [entry])]

    if name != "mixed":
        serving.Service._predict = by_cell if name == "one cell" else one_by_one  # type: ignore[method-assign]
    app = create_app(HyperX.from_pretrained(run), Settings(precision=precision), run)

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            print(self.servers[0].sockets[0].getsockname()[1], flush=True)

    Server(uvicorn.Config(app, port=0, log_level="warning")).run()


@contextlib.contextmanager
def served(run: Path, name: str, precision: str) -> Iterator[tuple[str, psutil.Process]]:
    """Start a service in a process of its own, and give its address and process."""
    command = [sys.executable, __file__, str(run), "--serve", name, "--precision", precision]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            port = int(process.stdout.readline())
            yield f"http://127.0.0.1:{port}", psutil.Process(process.pid)
        finally:
            process.terminate()


# --- requests


def sentences() -> dict[str, list[str]]:
    """Read the sentences of the sample corpus by language, as texts."""
    texts = {}
    for path in sorted(SAMPLE.glob("*.test.tsv")):
        problems = Problems(str(path))
        source = Source("columns", str(path), {"word": 1}, "# ", unlabelled="ignore")
        blocks = column_sentences(source, True, problems)
        words = [example.words for example, _ in blocks if example]
        texts[path.name.partition(".")[0]] = [" ".join(sentence) for sentence in words]
    return texts


def requests(model: HyperX, count: int) -> list[dict[str, Any]]:
    """Draw requests of one item each, over 32 cells."""
    chance = random.Random(1)
    texts = sentences()
    tasks = [task.name for task in model.tasks.values() if task.type.reads in ("words", "text")]
    cells = chance.sample(list(itertools.product(tasks, texts)), CELLS)
    items = []
    for number in range(count):
        task, language = cells[number % CELLS]
        text = chance.choice(texts[language])
        items.append({"text": text, "task": task, "language": language})
    chance.shuffle(items)
    return items


class Client:
    """A lean HTTP client, so that the machine's time is the service's: it keeps connections."""

    def __init__(self, url: str) -> None:
        host, port = url.removeprefix("http://").split(":")
        self.address = host, int(port)
        self.idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def call(self, item: dict[str, Any]) -> Call:
        """Send one request of one item."""
        body = json.dumps({"items": [item]}).encode()
        head = "POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        begun = time.perf_counter()
        try:
            while self.idle and self.idle[-1][0].at_eof():  # closed after some idle seconds
                self.idle.pop()
            connection = self.idle.pop() if self.idle else asyncio.open_connection(*self.address)
            reader, writer = connection if isinstance(connection, tuple) else await connection
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines if line)
            content = await reader.readexactly(int(headers["content-length"]))
        except (OSError, asyncio.IncompleteReadError):
            return Call(item, 0, time.perf_counter() - begun, None)
        self.idle.append((reader, writer))
        seconds, code = time.perf_counter() - begun, int(status.split()[1])
        answer = json.loads(content)["items"][0]["predictions"][0] if code == 200 else None
        return Call(item, code, seconds, answer)

    def close(self) -> None:
        """Close all connections."""
        for _, writer in self.idle:
            writer.close()


async def closed_loop(url: str, items: Sequence[dict[str, Any]]) -> tuple[list[Call], float]:
    """Let 32 clients send requests, each the next one when it has its answer."""
    calls: list[Call] = []
    waiting = iter(items)

    client = Client(url)

    async def work() -> None:
        for item in waiting:
            calls.append(await client.call(item))

    begun = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(CLIENTS)))
    seconds = time.perf_counter() - begun
    client.close()
    return calls, seconds


async def open_loop(url: str, items: Iterator[dict[str, Any]], rate: float, seconds: float) -> Any:
    """Send requests at a steady rate, whether or not answers come; then see it recover."""
    client = Client(url)
    idle = [(await client.call(next(items))).seconds for _ in range(10)]
    tasks = []
    begun = time.perf_counter()
    for number in range(int(rate * seconds)):
        delay = begun + number / rate - time.perf_counter()
        if delay > 0:
            await asyncio.sleep(delay)
        tasks.append(asyncio.create_task(client.call(next(items))))
    ended = time.perf_counter()
    usual = 3 * statistics.median(idle)
    while True:  # until a request is as fast again as before
        probe = await client.call(next(items))
        if probe.status == 200 and probe.seconds < usual:
            break
        await asyncio.sleep(0.1)
    recovered = time.perf_counter() - ended
    calls = await asyncio.gather(*tasks)
    client.close()
    return calls, ended - begun, recovered


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Return milliseconds."""
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {f"p{p}": round(1000 * cuts[p - 1], 1) for p in (50, 95, 99)}


# --- measures


def compare(model: HyperX, calls: Sequence[Call]) -> dict[str, int]:
    """Compare every answer with the single prediction of its item."""
    counts = Counter(lost=sum(sent.answer is None for sent in calls))
    singles: dict[str, dict[str, Any]] = {}
    with model.cached_weights():
        for sent in calls:
            if sent.answer is None:
                continue
            key = json.dumps(sent.item)
            if key not in singles:
                item = sent.item
                (single,) = model.predict([item["text"]], item["task"], item["language"])
                singles[key] = single.to_dict()
            counts[difference(sent.answer, singles[key])] += 1
    names = ("equal", "other probabilities", "other labels", "lost")
    return {name: counts[name] for name in names}


def difference(answer: dict[str, Any], single: dict[str, Any]) -> str:
    """Say whether an answer equals the single prediction, up to rounding."""
    exact = ("task", "language", "kind", "text", "words", "labels", "label", "heads")
    if any(answer.get(key) != single.get(key) for key in exact):
        return "other labels"
    pairs = zip(answer.get("confidences", ()), single.get("confidences", ()), strict=True)
    close = all(abs(a - b) <= TOLERANCE for a, b in pairs)
    scores = single.get("scores", {})
    close = close and all(abs(answer["scores"][k] - v) <= TOLERANCE for k, v in scores.items())
    return "equal" if close else "other probabilities"


def throughput(run: Path, model: HyperX, precision: str, repetitions: int) -> dict[str, Any]:
    """Send 1,000 requests from 32 clients to each service, in turn."""
    items = requests(model, REQUESTS)
    rates: dict[str, list[float]] = {name: [] for name in SERVICES}
    calls: dict[str, list[Call]] = {name: [] for name in SERVICES}
    costs: dict[str, list[float]] = {name: [] for name in SERVICES}
    with contextlib.ExitStack() as stack:
        services = {name: stack.enter_context(served(run, name, precision)) for name in SERVICES}
        for url, _ in services.values():
            asyncio.run(closed_loop(url, items[:100]))
        for repetition in range(repetitions):
            for name in SERVICES if repetition % 2 == 0 else SERVICES[::-1]:
                url, process = services[name]
                before = sum(process.cpu_times()[:2])
                answered, seconds = asyncio.run(closed_loop(url, items))
                costs[name].append((sum(process.cpu_times()[:2]) - before) / len(answered))
                rates[name].append(len(answered) / seconds)
                calls[name] += answered
                speed = f"{rates[name][-1]:.1f} requests a second"
                out.print(f"  {name}: {speed}, {1000 * costs[name][-1]:.1f} ms of CPU each")
        metrics = httpx.get(f"{services['mixed'][0]}/metrics").text
    ratios = {}
    for name in SERVICES[1:]:
        pairs = zip(rates["mixed"], rates[name], costs["mixed"], costs[name], strict=True)
        both = [(mixed / other, cost / least) for mixed, other, least, cost in pairs]
        ratios[f"requests a second, over {name}"] = [rate for rate, _ in both]
        ratios[f"requests a second of CPU, over {name}"] = [cost for _, cost in both]
    values = dict(
        line.split() for line in metrics.splitlines() if line[0] != "#" and "{" not in line
    )
    batches = float(values["te_batch_next_size_count"])
    return {
        "requests": REQUESTS,
        "cells": CELLS,
        "clients": CLIENTS,
        "repetitions": repetitions,
        "precision": precision,
        "requests per second": {n: round(statistics.median(r), 1) for n, r in rates.items()},
        "latency, ms": {n: percentiles([c.seconds for c in of]) for n, of in calls.items()},
        "CPU per request, ms": {n: round(1000 * statistics.median(c), 1) for n, c in costs.items()},
        "mixed, quartiles": {
            name: [round(value, 2) for value in quartiles(of)] for name, of in ratios.items()
        },
        "items in a mixed batch, mean": round(float(values["te_batch_next_size_sum"]) / batches, 1),
        "answers of mixed against single predictions": compare(model, calls["mixed"]),
    }


def steady(run: Path, model: HyperX, precision: str) -> dict[str, Any]:
    """Send 50 requests a second for 30 s."""
    items = itertools.cycle(requests(model, REQUESTS))
    with served(run, "mixed", precision) as (url, _):
        asyncio.run(closed_loop(url, [next(items) for _ in range(100)]))
        calls, seconds, _ = asyncio.run(open_loop(url, items, RATE, RATE_SECONDS))
    return {
        "requests per second": RATE,
        "seconds": round(seconds, 1),
        "statuses": dict(Counter(sent.status for sent in calls)),
        "latency, ms": percentiles([sent.seconds for sent in calls]),
    }


def overload(run: Path, model: HyperX, precision: str) -> dict[str, Any]:
    """Send five times as many requests as it can answer, then see how soon it is itself again."""
    items = requests(model, REQUESTS)
    cycle = itertools.cycle(items)
    with served(run, "mixed", precision) as (url, _):
        asyncio.run(closed_loop(url, items[:100]))
        calls, seconds = asyncio.run(closed_loop(url, items[:500]))
        capacity = len(calls) / seconds
        rate = OVERLOAD * capacity
        calls, seconds, recovered = asyncio.run(open_loop(url, cycle, rate, OVERLOAD_SECONDS))
    answered = [sent.seconds for sent in calls if sent.status == 200]
    refused = [sent.seconds for sent in calls if sent.status == 429]
    return {
        "capacity, requests per second": round(capacity, 1),
        "sent, requests per second": round(len(calls) / seconds, 1),
        "seconds": round(seconds, 1),
        "statuses": dict(Counter(sent.status for sent in calls)),
        "latency of answered, ms": percentiles(answered),
        "latency of refused, ms": percentiles(refused) if len(refused) > 1 else None,
        "seconds until a request is as fast as before": round(recovered, 1),
    }


def many_cells(model: HyperX, precision: Precision, repetitions: int) -> list[dict[str, Any]]:
    """Compare 1,024 cells in turn with one, for caches of several sizes."""
    chance = random.Random(1)
    tasks = [task.name for task in model.tasks.values() if task.type.reads in ("words", "text")]
    trained = list(model.languages)
    for code in common():
        if len(model.languages) * len(tasks) >= MANY:
            break
        if code not in model.languages:
            share = chance.random()
            mixture = dict(zip(chance.sample(trained, 2), (share, 1 - share), strict=True))
            model.add_language(code, mixture, "the benchmark")
    cells = list(itertools.product(tasks, model.languages))[:MANY]
    assert len(cells) == MANY
    chance.shuffle(cells)
    size = model.adapter_weights(*cells[0]).nbytes
    texts = [text for of_language in sentences().values() for text in of_language]
    chance.shuffle(texts)
    rows = []
    for kept, (items, batches) in itertools.product((0, 100, MANY), ((1, 40), (32, 4))):
        service = serving.Service(model, Settings(precision=precision, cache_bytes=kept * size))

        def run(
            of: Iterator[tuple[str, str]],
            inputs: Iterator[str],
            items: int = items,
            service: serving.Service = service,
        ) -> None:
            entries = [Entry(next(inputs), *next(of), 20) for _ in range(items)]
            for answer in service.answer(entries):
                if isinstance(answer, Exception):
                    raise answer

        # Both sides have the same texts in the same order.
        of_one = itertools.repeat(cells[0]), itertools.cycle(texts)
        of_many = itertools.cycle(cells), itertools.cycle(texts)
        runs: dict[str, Callable[[], object]] = {
            "one": lambda of=of_one, run=run: run(*of),  # type: ignore[misc]
            "many": lambda of=of_many, run=run: run(*of),  # type: ignore[misc]
        }
        with service.warm():
            if kept == MANY:
                model._cache.get([model.config.index(serving.Cell(*cell)) for cell in cells])  # type: ignore[union-attr]
            # Other work on the machine does not count.
            times = interleaved(runs, batches * repetitions, 4, clock=time.process_time)
        rows.append(
            {
                "cells kept": kept,
                "items in a batch": items,
                "batches": len(times["one"]),
                "one cell, ms of CPU": round(1000 * statistics.median(times["one"]), 1),
                "1,024 cells, ms of CPU": round(1000 * statistics.median(times["many"]), 1),
                "ratio of medians": round(
                    statistics.median(times["many"]) / statistics.median(times["one"]), 2
                ),
                "ratio of means": round(
                    statistics.fmean(times["many"]) / statistics.fmean(times["one"]), 2
                ),
            }
        )
        out.print(rows[-1])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("run", type=Path)
    parser.add_argument("--only", choices=("throughput", "steady", "overload", "cells"))
    parser.add_argument("--dry", action="store_true", help="write nothing")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    parser.add_argument("--serve", choices=SERVICES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # as the command line does
    run = options.run
    precision = fast_precision("cpu") if options.precision == "auto" else options.precision
    if options.serve:
        serve(run, options.serve, precision)
        return
    model = HyperX.from_pretrained(run)
    result: dict[str, Any] = {
        "machine": machine(),
        "run": run.name,
        "precision": precision,
    }
    measures: dict[str, Callable[[], Any]] = {
        "throughput": lambda: throughput(run, model, precision, options.repetitions),
        "steady": lambda: steady(run, model, precision),
        "overload": lambda: overload(run, model, precision),
        "cells": lambda: {"rows": many_cells(model, precision, options.repetitions)},
    }
    for name, measure in measures.items():
        if options.only in (None, name):
            out.rule(name)
            result[name] = measure() | {"load": os.getloadavg()}
            out.print_json(json.dumps(result[name], ensure_ascii=False))
    if not options.dry:
        OUT.mkdir(parents=True, exist_ok=True)
        path = OUT / f"{run.name}-{precision}.json"
        if options.only and path.is_file():
            result = json.loads(path.read_text(encoding="utf-8")) | result
        path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        out.print(f"Written: {path}")


if __name__ == "__main__":
    main()
