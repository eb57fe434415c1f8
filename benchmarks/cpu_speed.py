"""Words a second that `predict` labels on a CPU, and what its arithmetic costs in score.

    python benchmarks/cpu_speed.py speed RUN --threads 1   # and 2; a run with tags, entities, trees
    python benchmarks/cpu_speed.py scores RUN [RUN …]      # bf16 against fp32 on the test parts
    python benchmarks/cpu_speed.py peft                    # 32 cells against 32 adapters of peft
    python benchmarks/cpu_speed.py engines                 # one cell: torch, `adapters`, ONNX
    python benchmarks/cpu_speed.py page                    # the section of docs/performance.md

Each writes its part of results/cpu-speed.json. Sentences are those of the run's own test files.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from common import RESULTS, machine, quartiles
from measures.bench import ROOT, SMALL, TASKS, Bench, Step, like_length, random_cells, twin_of
from measures.page import PAGE, PREDICTING, page
from measures.peer import IGNORED, THREADS, timed
from measures.rows import significant, timed_row
from scipy.stats import t as student
from speed import FILES

from hyperlect.cli import quiet_libraries
from hyperlect.data.batching import Batch
from hyperlect.data.encoding import encode_inputs
from hyperlect.errors import counted
from hyperlect.evaluation.evaluate import fill, subsample
from hyperlect.export import export
from hyperlect.export.onnx import OnnxModel
from hyperlect.grid import Cell
from hyperlect.model import HyperX, HyperXConfig
from hyperlect.predict import forward_rows
from hyperlect.recipe import load_recipe
from hyperlect.recipe.corpora import read_corpora
from hyperlect.run_folder import RECIPE

FILE = RESULTS / "cpu-speed.json"
THREE = ("pos", "ner", "dep")
LANGUAGES = ("eng", "tur", "vie")
WORDS = 2500
"""In each language, in the order of its test file."""
OLD, ALL, TAGS = "three tasks one by one, fp32", "three tasks, auto", "tags, auto"
ENCODER, ENCODER_FAST = "the encoder alone, fp32", "the encoder alone, auto"


def sentences(run: Path, model: HyperX) -> dict[str, list[list[str]]]:
    """Return the first sentences of each language's test file."""
    cells = [Cell("pos", code) for code in LANGUAGES]
    corpora = read_corpora(load_recipe(run / RECIPE), ["test"], model.tasks, cells)
    chosen: dict[str, list[list[str]]] = {}
    for cell in cells:
        total, of_language = 0, chosen.setdefault(cell.language, [])
        for words in corpora.examples["test", cell]["words"]:
            if total < WORDS:
                of_language.append(words)
                total += len(words)
    return chosen


def sides(model: HyperX, texts: Mapping[str, list[list[str]]]) -> dict[str, Callable[[], None]]:
    """Return what is timed: whole calls of `predict`, and the encoder's forward passes alone."""
    config = HyperXConfig((model.task("pos"),), (), (Cell("pos", "eng"),), "head")
    plain = HyperX(twin_of(model.backbone), config).eval()
    rows = {
        code: encode_inputs(words, plain.task("pos"), model.tokenizer, model.max_length)
        for code, words in texts.items()
    }

    def predict(tasks: str | list[str], precision: str) -> None:
        for code, words in texts.items():
            model.predict(words, tasks, code, precision=precision)  # type: ignore[call-overload]

    def encode(precision: Any) -> None:
        for code, of_language in rows.items():
            with plain.backbone.arithmetic(precision):
                cells = [Cell("pos", code)] * len(of_language)
                for _ in forward_rows(plain, of_language, cells):
                    pass

    return {
        OLD: lambda: [predict(task, "fp32") for task in THREE] and None,
        "three tasks, fp32": lambda: predict(list(THREE), "fp32"),
        ALL: lambda: predict(list(THREE), "auto"),
        "tags, fp32": lambda: predict("pos", "fp32"),
        TAGS: lambda: predict("pos", "auto"),
        ENCODER: lambda: encode("fp32"),
        ENCODER_FAST: lambda: encode("auto"),
    }


def interval(values: Sequence[float]) -> dict[str, float]:
    """Return the mean with its 95 % interval (Student's t)."""
    mean, n = statistics.fmean(values), len(values)
    half = float(student.ppf(0.975, n - 1)) * statistics.stdev(values) / n**0.5
    bounds = {"mean": mean, "low": mean - half, "high": mean + half}
    return {name: significant(value) for name, value in bounds.items()}


def in_turn(
    runs: Mapping[str, Callable[[], tuple[float, float]]], repetitions: int
) -> dict[str, list[tuple[float, float]]]:
    """Call all in turn, every other time backwards; the first time is to warm up.

    Each returns its seconds by the clock and of the processor, as `timed` does, since one of them
    may be another process. Returns those of every repetition by name.
    """
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for repetition in range(repetitions + 1):
        for name in list(runs)[:: 1 if repetition % 2 else -1]:
            pair = runs[name]()
            if repetition:
                measured[name].append(pair)
    return measured


def speed(run: Path, threads: int, repetitions: int) -> dict[str, Any]:
    """Time every side in turn, by the clock and in processor time."""
    torch.set_num_threads(threads)
    model = HyperX.from_pretrained(run)
    texts = sentences(run, model)
    words = sum(len(sentence) for of_language in texts.values() for sentence in of_language)
    runs = sides(model, texts)
    measured = in_turn(
        {name: lambda act=act: timed(act) for name, act in runs.items()}, repetitions
    )
    clock, processor = (
        {name: [pair[which] for pair in pairs] for name, pairs in measured.items()}
        for which in (0, 1)
    )
    rows = {}
    for name in runs:
        pairs = zip(processor[OLD], processor[name], strict=True)
        rows[name] = {
            "words_a_second": interval([words / seconds for seconds in clock[name]]),
            "words_a_processor_second": interval([words / s for s in processor[name]]),
            "faster_than_one_by_one": quartiles([old / new for old, new in pairs]),
        }
        print(name, json.dumps(rows[name]), flush=True)
    about = {
        "sentences": sum(map(len, texts.values())),
        "words": words,
        "languages": list(texts),
        "repetitions": repetitions,
        "machine": machine(),
    }
    layers = model.backbone.layers
    title = f"adapters in {len(model.config.hypernet.layers(layers))} of {layers} layers"
    return {f"{title}, {counted(threads, 'thread')}": {**about, "rows": rows}}


def scores(run: Path, examples: int) -> list[dict[str, Any]]:
    """Score every test cell of a run in fp32 and in bf16, as `predict` computes in it."""
    model, recipe = HyperX.from_pretrained(run), load_recipe(run / RECIPE)
    chosen = [cell for cell in recipe.cells("test") if cell.task in (*THREE, "topic")]
    corpora = read_corpora(recipe, ["test"], model.tasks, chosen)
    encoded = corpora.encode(model.tokenizer, model.max_length)
    rows = {cell: subsample(encoded["test", cell], examples) for cell in chosen}
    exact = fill(model, rows)
    with model.backbone.arithmetic("bf16"):
        rounded = fill(model, rows, precision="bf16")
    return [
        {
            "run": run.name,
            "task": before.task,
            "language": before.language,
            "units": before.units,
            "fp32": round(before.score, 3),
            "bf16": round(after.score, 3),
        }
        for before, after in zip(exact, rounded, strict=True)
        if before.score is not None and after.score is not None
    ]


def peft(repetitions: int) -> dict[str, Any]:
    """Time a batch of 32 sentences of 32 cells, and of 32 LoRA adapters of peft."""
    from peft import LoraConfig, get_peft_model

    bench = Bench(torch.device("cpu"), repetitions)
    (rows,) = like_length(bench.sample, bench.sentences, 1)
    cells = list(random_cells(bench.languages, len(rows)))
    batch = bench.batch(rows, cells)
    model = bench.model("hyperx", SMALL, bench.languages, list(TASKS)).eval()
    # Weights of a layer: 2 · 64 · 384 and the biases and scales; twice 2 · 32 · 384.
    lora = LoraConfig(r=32, target_modules=["query", "value"], init_lora_weights=False)
    names = [str(number) for number in range(len(cells))]
    wrapped = get_peft_model(twin_of(bench.backbone).encoder, lora, adapter_name=names[0])
    for name in names[1:]:
        wrapped.add_adapter(name, lora)
    wrapped.eval()
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}

    def ours() -> None:
        with model.eval_mode():
            model.run(batch)

    def theirs() -> None:
        with torch.inference_mode():
            wrapped(**inputs, adapter_names=names)

    sizes = {
        "hyperlect": sum(t.numel() for _, t in model.adapter_weights(*cells[0]).items()),
        "peft": sum(p.numel() for n, p in wrapped.named_parameters() if n.endswith(".0.weight")),
    }
    with model.cached_weights():
        times = bench.times({"hyperlect": ours, "peft": theirs})
    row = timed_row(
        "a batch of 32 sentences of 32 cells, heads included",
        "peft's mixed batch of 32 LoRA adapters, without heads",
        None,
        times,
        ("hyperlect", "peft"),
        numbers=sizes,
        sub_words=list(batch.input_ids.shape),
    )
    return row.to_dict(machine())


PEER = ROOT / ".venv-peers" / "bin" / "python"
OURS, LIBRARY, NETWORK = "hyperlect, fp32", "`adapters`, fp32", "the encoder alone, fp32"
GRAPHS = {"onnxruntime, fp32": None, "onnxruntime, int8": "int8"}


class Library:
    """The library `adapters` with one exported cell, in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.versions = self._answer()

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def ask(self, command: str) -> Any:
        """Let it do something, and return what it says of it."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()
        return self._answer()

    @classmethod
    @contextlib.contextmanager
    def started(cls, folder: Path, batches: Path) -> Iterator[Library]:
        command = [PEER, ROOT / "benchmarks" / "measures" / "peer.py", folder, batches]
        pipe = subprocess.PIPE
        with subprocess.Popen(
            list(map(str, command)), stdin=pipe, stdout=pipe, text=True
        ) as process:
            yield cls(process)
            assert process.stdin is not None
            process.stdin.close()


def engines(repetitions: int) -> dict[str, Any]:
    """Time one cell on the same batches: torch, the library `adapters`, and onnxruntime."""
    torch.set_num_threads(THREADS)
    bench = Bench(torch.device("cpu"), repetitions)
    cell = Cell("pos", "fin")
    batches = bench.batches([cell] * 4)
    model = bench.model("hyperx", SMALL, bench.languages, list(TASKS)).eval()
    learning = bench.model("hyperx", SMALL, bench.languages, list(TASKS))
    plain = twin_of(bench.backbone)
    step = Step(bench, learning, batches)
    quick = bench.model("hyperx", SMALL, bench.languages, list(TASKS))
    rounded = Step(bench, quick, batches, precision="bf16")

    def infer(precision: Any) -> Any:
        def run() -> None:
            with model.backbone.arithmetic(precision), model.eval_mode():
                for batch in batches:
                    model.run(batch)

        return run

    def encode(precision: Any) -> Any:
        def run() -> None:
            with plain.arithmetic(precision), torch.inference_mode():
                for batch in batches:
                    plain(batch.input_ids, batch.attention_mask, batch.token_type_ids)

        return run

    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        folder = Path(temporary)
        export(model, "adapters", folder / "adapters", *cell, encoder=True)
        torch.save([plain_tensors(batch) for batch in batches], folder / "batches.pt")
        graphs = {}
        for name, quantize in GRAPHS.items():
            export(model, "onnx", folder / name, *cell, quantize=quantize)  # type: ignore[arg-type]
            graphs[name] = OnnxModel(folder / name, THREADS)
        library = stack.enter_context(Library.started(folder / "adapters", folder / "batches.pt"))
        stack.enter_context(model.cached_weights())
        inference = {
            OURS: lambda: timed(infer("fp32")),
            LIBRARY: lambda: library.ask("infer"),
            NETWORK: lambda: timed(encode("fp32")),
            **{
                name: lambda run=graph.run: timed(lambda: list(map(run, batches)))
                for name, graph in graphs.items()
            },
            "hyperlect, bf16": lambda: timed(infer("bf16")),
            "the encoder alone, bf16": lambda: timed(encode("bf16")),
        }
        training = {
            OURS: lambda: timed(step),
            LIBRARY: lambda: library.ask("train"),
            "hyperlect, bf16": lambda: timed(rounded),
        }
        differences = largest_differences(model, batches[0], library, graphs)
        busy = {
            what: {
                name: [seconds for _, seconds in pairs]
                for name, pairs in in_turn(runs, repetitions).items()
            }
            for what, runs in (("inference", inference), ("training", training))
        }
        versions = library.versions
    words = sum(batch.tasks[cell.task].units for batch in batches)
    sub_words = sum(int(batch.attention_mask.sum()) for batch in batches)
    rows = {
        what: {
            name: {
                "words_a_processor_second": interval([words / s for s in seconds]),
                "sub_words_a_processor_second": interval([sub_words / s for s in seconds]),
                "against_hyperlect": [
                    significant(value)
                    for value in quartiles(
                        [a / b for a, b in zip(of_all[OURS], seconds, strict=True)]
                    )
                ],
            }
            for name, seconds in of_all.items()
        }
        for what, of_all in busy.items()
    }
    return {
        "batches": [list(batch.input_ids.shape) for batch in batches],
        "words": words,
        "sub_words": sub_words,
        "repetitions": repetitions,
        "library": versions,
        "largest_difference_of_logits": differences,
        "machine": machine() | {n: metadata.version(n) for n in ("onnxruntime",)},
        "rows": rows,
    }


def plain_tensors(batch: Batch) -> dict[str, torch.Tensor]:
    """Return a batch of tags as the library takes it: a label for every sub-word, or none."""
    (rows,) = batch.tasks.values()
    labels = torch.full_like(batch.input_ids, IGNORED)
    assert rows.positions is not None
    assert rows.labels is not None
    labels.view(-1)[rows.positions] = rows.labels
    tensors = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    if batch.token_type_ids is not None:
        tensors["token_type_ids"] = batch.token_type_ids
    return tensors | {"labels": labels}


def largest_differences(
    model: HyperX, batch: Batch, library: Library, graphs: Mapping[str, OnnxModel]
) -> dict[str, float]:
    """Compare logits of the words of a batch with those of the model in fp32."""
    (rows,) = batch.tasks.values()
    with model.eval_mode():
        ours = model.run(batch).logits
        with model.backbone.arithmetic("bf16"):
            others = {"hyperlect, bf16": model.run(batch).logits.float()}
    of_library = torch.tensor(library.ask("logits")).flatten(0, 1)[rows.positions]
    others |= {LIBRARY: of_library}
    others |= {name: graph.run(batch).logits for name, graph in graphs.items()}
    return {
        name: significant(float((ours - logits).abs().max()), 2) for name, logits in others.items()
    }


def section(results: Mapping[str, Any]) -> str:
    """Write the section of the page."""
    text = [INTRODUCTION]
    for title, measured in results.get("speed", {}).items():
        where = measured["machine"]
        text.append(
            f"### {title[:1].upper()}{title[1:]}\n\n{where['processor']}, {where['capability']}; "
            f"torch {where['torch']}. {measured['sentences']:,} sentences, {measured['words']:,} "
            f"words of {len(measured['languages'])} languages ({', '.join(measured['languages'])}),"
            f" {measured['repetitions']} repetitions in turn.\n\n"
            "| measured | words a second of processor time | words a second by the clock | times "
            "one by one |\n| --- | --: | --: | --: |\n"
        )
        for name, row in measured["rows"].items():
            ratio = row["faster_than_one_by_one"][1]
            figures = [
                "{mean:,.0f} ({low:,.0f} – {high:,.0f})".format(**row[key])
                for key in ("words_a_processor_second", "words_a_second")
            ]
            text.append(f"| {name} | {' | '.join(figures)} | {ratio:.2f} |\n")
        text.append("\n")
    if cells := results.get("scores", {}).get("cells"):
        text.append(SCORES.format(examples=results["scores"]["examples"]))
        for task in dict.fromkeys(cell["task"] for cell in cells):
            of_task = [cell for cell in cells if cell["task"] == task]
            changes = [cell["bf16"] - cell["fp32"] for cell in of_task]
            mean = statistics.fmean(changes)
            units = sum(cell["units"] for cell in of_task)
            runs = len({cell["run"] for cell in of_task})
            below = sum(change < -0.5 for change in changes)
            text.append(
                f"| {task} | {runs} | {len(changes)} | {units:,} | {mean:+.3f} | "
                f"{min(changes):+.2f} | {max(changes):+.2f} | {below} |\n"
            )
        text.append("\n")
    if row := results.get("peft"):
        details = row["details"]
        low, high = details["quartiles"]
        text.append(
            PEFT.format(ratio=row["ratio"], low=low, high=high, runs=row["runs"], **details)
        )
    if measured := results.get("engines"):
        text.append(engines_section(measured))
    return "".join(text)


def engines_section(measured: Mapping[str, Any]) -> str:
    """Write the part on one cell in torch, in the library `adapters` and in onnxruntime."""
    where, differences = measured["machine"], measured["largest_difference_of_logits"]
    about = {
        **{name: measured[name] for name in ("words", "sub_words", "repetitions")},
        "processor": where["processor"],
        "versions": ", ".join(f"{name} {v}" for name, v in measured["library"].items()),
        "torch": where["torch"],
        "onnxruntime": where["onnxruntime"],
        "sentences": sum(rows for rows, _ in measured["batches"]),
    }
    lines = [ENGINES.format(**about)]
    for what, rows in measured["rows"].items():
        for name, row in rows.items():
            words = "{mean:,.0f} ({low:,.0f} – {high:,.0f})".format(
                **row["words_a_processor_second"]
            )
            pieces = row["sub_words_a_processor_second"]["mean"]
            low, middle, high = row["against_hyperlect"]
            ratio = "" if name == OURS else f"{middle:.2f} ({low:.2f} – {high:.2f})"
            difference = differences.get(name, "") if what == "inference" else ""
            lines.append(
                f"| {what} | {name} | {words} | {pieces:,.0f} | {ratio} | {difference} |\n"
            )
    return "".join(lines) + "\n"


INTRODUCTION = """\
## Words a second on a CPU

Whole calls of `predict` on sentences given as words, once the model is loaded: sub-words, encoder,
heads, trees. `python benchmarks/cpu_speed.py` measures it. Means with their 95 % interval
(Student's t). Processor time is what to compare where other work runs beside it. "auto" is bf16 on
this processor. "One by one" is a call for each task in fp32. The encoder alone is its forward
passes over the same batches.

"""
SCORES = """\
### What bf16 costs in score

The same test sentences (at most {examples} of each cell) in fp32 and in bf16, in points: UPOS
accuracy, entity F1, LAS, accuracy of topics. A cell of entities has few, so one more or less is
worth points.

| task | runs | cells | scored units | mean change | lowest | highest | cells that lose over 0.5 |
| --- | --: | --: | --: | --: | --: | --: | --: |
"""
PEFT = """\
### Against mixed batches of peft

A batch of 32 sentences from 32 cells takes {ratio:.2f} times as long as the same sentences with 32
LoRA adapters of peft (rank 32 on query and value, {numbers[peft]:,} numbers an adapter; a cell has
{numbers[hyperlect]:,}), `adapter_names` naming one for each row (quartiles {low:.2f} to {high:.2f}
of {runs} pairs of runs, fp32): {milliseconds[hyperlect]:,.0f} against {milliseconds[peft]:,.0f} ms.

"""
ENGINES = """\
### One cell: torch, adapters, onnxruntime

One thread of {processor}, the same {sentences} sentences ({words:,} words, {sub_words:,} sub-words)
in batches of 32, {repetitions} repetitions in turn, every other one in reverse order; b = 64,
p = 32, `builtin:e5-small`, random weights. Every side has collated batches at hand and computes
logits of tags. The library is the unmodified one, in a process and environment of its own
({versions}),
with the cell that `export --format adapters` wrote; here torch {torch} and onnxruntime
{onnxruntime}. A training step is forward, backward, clipping and fused AdamW, without
dropout in the encoder; ours trains the hypernetwork, the library one adapter. Means of words a
processor second with their 95 % interval; ratios are medians (quartiles) over pairs of
neighbouring runs. The last column is the largest difference of a logit from hyperlect in fp32.

| | engine | words a processor second | sub-words | times hyperlect, fp32 | difference |
| --- | --- | --: | --: | --: | --: |
"""


def write(results: Mapping[str, Any]) -> None:
    """Write the results, the section, and the page that it belongs to."""
    FILE.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    PREDICTING.write_text(section(results), encoding="utf-8")
    others = {kind: json.loads(p.read_text("utf-8")) for kind, p in FILES.items() if p.exists()}
    PAGE.write_text(page(others), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("speed", "scores", "peft", "engines", "page"))
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--examples", type=int, default=50)
    arguments = parser.parse_args()
    quiet_libraries()
    results = json.loads(FILE.read_text("utf-8")) if FILE.exists() else {}
    if arguments.what == "speed":
        for run in arguments.runs:
            measured = speed(run, arguments.threads, arguments.repetitions)
            results.setdefault("speed", {}).update(measured)
    elif arguments.what == "scores":
        for run in arguments.runs:
            before = results.get("scores", {}).get("cells", [])
            cells = [cell for cell in before if cell["run"] != run.name]
            cells += scores(run, arguments.examples)
            results["scores"] = {"examples": arguments.examples, "cells": cells}
            write(results)
    elif arguments.what == "peft":
        results["peft"] = peft(arguments.repetitions)
    elif arguments.what == "engines":
        if not PEER.exists():
            parser.error(f"{PEER} is missing: make peers")
        results["engines"] = engines(arguments.repetitions)
    write(results)


if __name__ == "__main__":
    main()
