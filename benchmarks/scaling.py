"""What training costs by formula, against what it costs; and two processes against one.

    python benchmarks/scaling.py costs        # some minutes; 6 GB of memory
    python benchmarks/scaling.py processes    # some minutes; needs two cores

Each writes its part of results/scaling.json and the tables of docs/scaling.md. Bytes are counted by
torch (measures/memory.py) and on the disk, not read off the process.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from common import RESULTS, interleaved, machine
from measures.bench import BASE, REAL, ROOT, SAMPLE, SMALL, Bench, Step
from measures.languages import codes
from measures.memory import MIB, peak
from measures.steps import CELLS
from transformers import BertConfig, BertModel

from hyperlect.backbone import Backbone
from hyperlect.hypernet import HypernetConfig
from hyperlect.training.checkpoint import save_checkpoint

RESULT, PAGE = RESULTS / "scaling.json", ROOT / "docs" / "scaling.md"
LANGUAGES = (10, 100, 1_000, 7_000)
EMBEDDING = 64
ACTIVATIONS = 50
"""Bytes that one position of one layer keeps for the backward pass in fp32, for each of h values:
the states around the block, attention's three inputs, what GELU reads (4 h), the adapter's."""
ENCODERS = {  # name: parameters, those of its layers, hidden size, layers
    "100 M": (118e6, 21e6, 384, 12),
    "300 M": (278e6, 85e6, 768, 12),
    "600 M": (560e6, 302e6, 1024, 24),
    "2 B": (2.1e9, 1.8e9, 2304, 32),
    "7 B": (7e9, 6.7e9, 4096, 32),
}


def parameters(hidden: int, layers: int, config: HypernetConfig, tasks: int, languages: int) -> int:
    """Count those of the hypernetwork: P = (p + 1)·A + (T + N + L)·e + 3e(3e + 1) + p(3e + 1)."""
    b, p, e = config.bottleneck, config.projection or 3 * EMBEDDING, EMBEDDING
    adapter = 2 * hidden * b + b + 3 * hidden
    source = (tasks + languages + layers) * e + 3 * e * (3 * e + 1) + p * (3 * e + 1)
    return (p + 1) * adapter + source


def peak_bytes(encoder: float, trained: float, hidden: int, layers: int, positions: int) -> float:
    """Return the peak of a step in fp32: 4 E + 12 P + max(4 P, 50 h L n).

    Weights, two moments, and either the activations of n positions or, once the backward pass has
    freed them, the gradients of the generator.
    """
    return 4 * encoder + 12 * trained + max(4 * trained, ACTIVATIONS * hidden * layers * positions)


def operations(layer_parameters: float, adapters: float, generated: float, positions: int) -> float:
    """Count those of a step: a frozen layer takes four a parameter and position, a trained six.

    Args:
        layer_parameters: of the encoder's layers.
        adapters: of one cell, all layers.
        generated: parameters of the generator times layers times cells: each is used so often.
        positions: sub-words, padding counted.
    """
    return positions * (4 * layer_parameters + 6 * adapters) + 6 * generated


def random_bert(hidden: int, layers: int, tokenizer: Any) -> Backbone:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=250_037,
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
    )
    return Backbone(BertModel(config, add_pooling_layer=False).eval(), tokenizer)


def points(bench: Bench) -> Iterator[dict[str, Any]]:
    """Measure bytes of models of several sizes, beside those of the formulas."""
    e5, wide = bench.backbone, random_bert(768, 12, bench.backbone.tokenizer)
    e5_name, wide_name = "builtin:e5-small", "random, 768 wide, 12 layers"
    cases = [(e5_name, e5, SMALL, n, 8) for n in LANGUAGES]
    cases += [(e5_name, e5, SMALL, 10, 32), (e5_name, e5, BASE, 1_000, 32)]
    cases += [(wide_name, wide, SMALL, 100, 32), (wide_name, wide, BASE, 7_000, 8)]
    for encoder_name, backbone, config, languages, sentences in cases:
        model = bench.model("hyperx", config, codes(languages), backbone=backbone)
        (batch,) = bench.batches(CELLS[:1], sentences)
        step = Step(bench, model, [batch])
        most = peak(bench, step)
        named = model.own_parameters()
        encoder = sum(p.numel() for p in backbone.parameters())
        head = sum(p.numel() for name, p in named.items() if name.startswith("heads."))
        trained = sum(p.numel() for p in named.values())
        sizes = (backbone.hidden_size, backbone.layers)
        with tempfile.TemporaryDirectory() as folder:
            save_checkpoint(Path(folder), named, named, step.optimizer, {"step": 1})
            disk = sum(f.stat().st_size for f in Path(folder).rglob("*") if f.is_file())
        yield {
            "encoder": encoder_name,
            "b": config.bottleneck,
            "p": config.projection,
            "languages": languages,
            "positions": batch.input_ids.numel(),
            "parameters": [trained, parameters(*sizes, config, 1, languages) + head],
            "peak": [most, peak_bytes(encoder, trained, *sizes, batch.input_ids.numel())],
            "checkpoint": [disk, 16 * trained],
        }


def step_times(bench: Bench) -> dict[str, Any]:
    """Time steps on two encoders in turn, beside the ratio of their operations."""
    sizes = {"narrow": (384, 12), "wide": (768, 12)}
    runs, expected = {}, {}
    (batch,) = bench.batches(CELLS[:1], 32)
    for name, (hidden, layers) in sizes.items():
        backbone = random_bert(hidden, layers, bench.backbone.tokenizer)
        model = bench.model("hyperx", SMALL, backbone=backbone)
        adapter = 2 * hidden * SMALL.bottleneck
        generated = parameters(hidden, layers, SMALL, 1, 4) * layers
        runs[name] = Step(bench, model, [batch])
        in_layers = 12 * hidden**2 * layers
        positions = batch.input_ids.numel()
        expected[name] = operations(in_layers, adapter * layers, generated, positions)
    times = interleaved(runs, bench.repetitions)
    ratios = [wide / narrow for narrow, wide in zip(times["narrow"], times["wide"], strict=True)]
    seconds = {name: statistics.median(values) for name, values in times.items()}
    return {
        "ratio": statistics.median(ratios),
        "expected": expected["wide"] / expected["narrow"],
        "seconds": seconds,
        "operations_per_second": {name: expected[name] / seconds[name] for name in seconds},
        "repetitions": bench.repetitions,
    }


def train(count: int, steps: int) -> dict[str, float]:
    """Train in a number of processes with one thread each; return sub-words a second."""
    recipe = REAL if os.environ.get("HYPERLECT_DATA") else SAMPLE
    with socket.socket() as free, tempfile.TemporaryDirectory() as folder:
        free.bind(("localhost", 0))
        launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(count)]
        settings = [f"training.steps={steps}", "training.warmup=1", "training.log_every=5"]
        settings.append("evaluation.examples=4")
        command = [*launcher, "--master-port", str(free.getsockname()[1]), "-m", "hyperlect.cli"]
        command += ["-q", "train", str(recipe), "--out", f"{folder}/run", "--device", "cpu"]
        command += [word for setting in settings for word in ("--set", setting)]
        free.close()
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        text = (Path(folder) / "run" / "metrics.jsonl").read_text(encoding="utf-8")
        events = [json.loads(line) for line in text.splitlines()]
        logged = [event for event in events if event["event"] == "train"][1:]  # the first warms up
        tokens = sum(event["tokens_per_second"] * event["seconds"] for event in logged)
        return {
            "tokens_per_second": tokens / sum(event["seconds"] for event in logged),
            "processor_seconds": after.ru_utime - before.ru_utime,
        }


def processes(repetitions: int, steps: int) -> Iterator[dict[str, Any]]:
    """Train in one process and in two, in turn; yield the result after each pair."""
    runs: dict[int, list[dict[str, float]]] = {1: [], 2: []}
    for repetition in range(repetitions):
        for count in sorted(runs, reverse=bool(repetition % 2)):
            runs[count].append(train(count, steps))
            print(f"{count} processes: {runs[count][-1]}", flush=True)
        pairs = zip(runs[2], runs[1], strict=True)
        yield {
            "ratio": statistics.median(
                two["tokens_per_second"] / one["tokens_per_second"] for two, one in pairs
            ),
            "runs": {str(count): values for count, values in runs.items()},
            "steps": steps,
            "repetitions": repetition + 1,
            "load": os.getloadavg()[1],
        }


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def predicted() -> str:
    """The table of what the formulas say, b = 256, p = 192, four tasks."""
    rows = []
    for name, (encoder, _, hidden, layers) in ENCODERS.items():
        for languages in (10, 7_000):
            trained = parameters(hidden, layers, BASE, 4, languages)
            n = 32 * 64
            size = peak_bytes(encoder, trained, hidden, layers, n)
            gigabytes = [12 * trained, ACTIVATIONS * hidden * layers * n, size, 16 * trained]
            cells = [f"{value / 1e9:.2f}" for value in gigabytes]
            rows.append([name, f"{languages:,}", f"{trained / 1e6:.1f}", *cells])
    head = [
        "encoder", "languages", "hypernetwork, M", "with moments, GB", "activations, GB",
        "peak, GB", "checkpoint, GB",
    ]  # fmt: skip
    return table(head, rows)


def checked(rows: Sequence[dict[str, Any]]) -> str:
    """The table of measured points, each with its ratio to the formula."""

    def cell(pair: Sequence[float], unit: float) -> str:
        return f"{pair[0] / unit:,.1f} ({pair[0] / pair[1]:.2f})"

    lines = [
        [
            f"{row['encoder']}, b = {row['b']}, p = {row['p']}",
            f"{row['languages']:,}",
            str(row["positions"]),
            f"{row['parameters'][0]:,} ({row['parameters'][0] / row['parameters'][1]:.2f})",
            cell(row["peak"], MIB),
            cell(row["checkpoint"], MIB),
        ]
        for row in rows
    ]
    head = ["model", "languages", "positions", "parameters", "peak, MiB", "checkpoint, MiB"]
    return table(head, lines)


def write(results: dict[str, Any]) -> None:
    """Write the results, and the tables of the page between their marks."""
    RESULT.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    text = PAGE.read_text(encoding="utf-8")
    for name, content in (("predicted", predicted()), ("checked", checked(results["points"]))):
        text = re.sub(
            f"(<!-- {name}: made by benchmarks/scaling.py -->\n).*?(?=\n<!-- end -->)",
            lambda match, content=content: f"{match[1]}\n{content}",
            text,
            flags=re.DOTALL,
        )
    PAGE.write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(".")[0])
    parser.add_argument("what", choices=["costs", "processes", "page"])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--steps", type=int, default=25, help="of each training")
    arguments = parser.parse_args()
    results = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else {}
    results.setdefault("points", [])
    if arguments.what == "costs":
        bench = Bench(torch.device("cpu"), arguments.repetitions)
        results["points"] = list(points(bench))
        results["step"] = step_times(bench)
        results["machine"] = machine()
        print(checked(results["points"]), json.dumps(results["step"], indent=1))
    elif arguments.what == "processes":
        for so_far in processes(arguments.repetitions, arguments.steps):
            results["processes"] = so_far
            write(results)
        print(json.dumps(results["processes"], indent=1))
    write(results)


if __name__ == "__main__":
    main()
