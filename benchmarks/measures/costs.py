"""docs/efficiency.md, made from the counts and the times."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hyperlect.methods import METHODS
from hyperlect.tasks import DEPREL, UPOS, Task, TaskType

from .curves import SHOWN
from .sizes import LANGUAGES, SETTINGS, TASKS, model, title

DOCS = Path(__file__).parents[2] / "docs"
PAGE, PICTURE = DOCS / "efficiency.md", DOCS / "images" / "efficiency.png"
ASSUMED_STEPS = 1_000
"""An assumption that turns the time of a step into that of a language; no result."""
Rows = Sequence[Mapping[str, Any]]

FORMULAS: dict[str, str] = {
    "hyperx": "(p + 1)·A + (T + N + L)·e + 3·e·(3·e + 1) + p·(3·e + 1)",
    "task-hypernet": "(p + 1)·A + (T + L)·e + 2·e·(2·e + 1) + p·(2·e + 1)",
    "language-hypernet": "(p + 1)·A + (N + L)·e + 2·e·(2·e + 1) + p·(2·e + 1)",
    "adapters": "T·L·A",
    "mad-x": "(T + N)·L·A",
    "finetune": "E",
    "factorised": "E + 200·(T + N) + 240800",
    "head": "0",
}
"""What is trained, by method, at the default variant and with one model for all tasks. With mad-x,
T counts the tasks other than `mlm`."""

STORED: dict[str, str] = {**FORMULAS, "factorised": "E + 100·(T + N) + 240800"}
"""What is stored. Of the latent vectors of factorised, prediction reads only the means."""

APART: dict[str, str] = {
    "hyperx": "T·[(p + 1)·A + (1 + N + L)·e + 3·e·(3·e + 1) + p·(3·e + 1)]",
    "task-hypernet": "T·[(p + 1)·A + (1 + L)·e + 2·e·(2·e + 1) + p·(2·e + 1)]",
    "language-hypernet": "T·[(p + 1)·A + (N + L)·e + 2·e·(2·e + 1) + p·(2·e + 1)]",
    "adapters": "T·L·A",
    "mad-x": "(T + N)·L·A",
    "finetune": "T·E",
    "factorised": "T·[E + 100·(1 + N) + 240800]",
    "head": "0",
}
"""What is stored if every task has its own model. With mad-x, all share one set of language
adapters."""

WITH_TASK_BASE: dict[str, str] = {
    "hyperx": "T·L·A + (p + 1)·A + (N + L)·e + 2·e·(2·e + 1) + p·(2·e + 1)",
    "task-hypernet": "T·L·A + (p + 1)·A + L·e + e·(e + 1) + p·(e + 1)",
}
"""What is trained and stored with the defaults of recipes of version 2."""

INTRODUCTION = f"""\
# Parameters, and the time to add a language

<!-- Made by benchmarks/efficiency.py; do not edit. -->

What each method trains, and what it stores for every task and language: beside the frozen encoder,
or in its place where the encoder itself is trained. Heads are extra, and so are the encoder's
LayerNorms where a recipe trains them. The numbers are counted on models; a test compares the
formulas with them. h is the hidden size, L the number of layers with adapters, b the bottleneck, e
the size of an embedding (64), p that of the projected source embedding, T tasks, N languages, E the
parameters of the encoder. An adapter has A = 2hb + b + 3h.

The tables are of the published network (`hypernet.task_base: false`, as in recipes of version 1).
There tasks share all but their embeddings and heads. In recipes of version 2 each task also has an
ordinary adapter of its own, the task is no source of the generator, and p is 16. Then `hyperx` has
{WITH_TASK_BASE["hyperx"]} parameters, and `task-hypernet`
{WITH_TASK_BASE["task-hypernet"]}. One more task adds L·A to either, as
it does to `adapters`.
"""
NOTES = """
With mad-x, T counts the tasks other than `mlm`. If every task has its own model, as in the
single-task settings, those of mad-x can share their language adapters; other methods share nothing.
The latent vectors of factorised have means and variances; prediction needs only the means.
"""
HEADS = """
## Heads

| head | parameters | how many |
|---|---|---|
| tags, entities, texts | labels·(h + 1) | one a task |
| the same with `factorised` | 401·labels·(h + 1) | one a task |
| parser, `mlp` | 1200·(h + 1) + 250500 + 10201·relations | one a task |
| parser, `direct` | h·(h + 1) + relations·(h + 1)² | one a task |
| `mlm`, tied | h·(h + 3) + vocabulary | one |
"""
TIME = """
## Time to add a language

What a method trains when a language with raw text is added to a trained model: whole steps on the
same batches of masked language modelling, in turn, without changing the `mlm` head. How many steps
each needs was not measured. So the last column is not a result, but the time of {n} steps of each:
an assumption.

Hyper-X also works without training. The mean of the trained vectors stands for a language without
a vector of its own, or the zero vector if training used `language_dropout`. That costs one
generation of its weights. `adapters`, `task-hypernet` and `finetune` store nothing for a language,
so they need no step either. The row of `finetune` shows what it costs to train on the text all the
same. mad-x needs training.

Most of a step is passes through the encoder, whichever small part is trained. A vector saves
parameters, not time a step. `hyperlect add-language` trains otherwise: on labelled sentences, or on
tags of raw sentences, in about a minute ([new-language.md](new-language.md)).
"""


def page(counts: Rows, times: Rows) -> str:
    """Return the page: formulas, the plot, counts, heads, and times if there are any."""
    parts = [INTRODUCTION, "\n", *_formulas(), NOTES]
    parts.append(
        "\n![Parameters to store against the number of languages](images/efficiency.png)\n"
    )
    for encoder in SHOWN:
        parts += _encoder(encoder, [row for row in counts if row["encoder"] == encoder])
    parts += [HEADS, "\n", *_heads()]
    if times:
        parts += _times(times)
    return "".join(parts)


def _table(headings: Sequence[str], left: int, lines: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lay a table out; the first `left` columns are texts, the rest numbers."""
    yield f"| {' | '.join(headings)} |\n"
    yield "|" + "---|" * left + "--:|" * (len(headings) - left) + "\n"
    for line in lines:
        yield f"| {' | '.join(line)} |\n"


def _formulas() -> Iterator[str]:
    headings = ("method", "trained", "stored", "stored, a model for each task")
    same = "the same"
    lines = [
        (
            f"`{method}`",
            FORMULAS[method],
            same if STORED[method] == FORMULAS[method] else STORED[method],
            same if APART[method] == STORED[method] else APART[method],
        )
        for method in METHODS
    ]
    return _table(headings, len(headings), lines)


def _encoder(encoder: str, rows: Rows) -> Iterator[str]:
    yield f"\n## {title(encoder)}\n\n"
    like = f", {SETTINGS['XLM-R base'].encoder / 1e6:.1f} with XLM-R base, all else being equal"
    yield (
        f"Stored, in millions; E = {SETTINGS[encoder].encoder / 1e6:.1f}"
        f"{like if encoder == 'mBERT' else ''}. `task_base` is false. The last two columns are the "
        "parameters that one more language and one more task add.\n"
    )
    for tasks in TASKS:
        yield f"\n{tasks} task{'s' if tasks > 1 else ''}:\n\n"
        headings = ["method", *(f"N = {n:,}" for n in LANGUAGES)]
        headings += ["a model for each task, N = 10"] if tasks > 1 else []
        lines = []
        for method in METHODS:
            chosen = [r for r in rows if (r["method"], r["tasks"]) == (method, tasks)]
            counts = {row["languages"]: row for row in chosen}
            cells = [f"{counts[n]['stored'] / 1e6:,.2f}" for n in LANGUAGES]
            if tasks > 1:
                cells.append(f"{counts[10]['stored_apart'] / 1e6:,.2f}")
            more = [f"{counts[10][key]:,}" for key in ("per_language", "per_task")]
            lines.append([f"`{method}`", *cells, *more])
        yield from _table([*headings, "language", "task"], 1, lines)


def _heads() -> Iterator[str]:
    tasks: tuple[tuple[str, Task, str], ...] = (
        (f"tags ({len(UPOS)})", Task("pos", TaskType.TAGGING, UPOS), "hyperx"),
        (f"tags ({len(UPOS)}), `factorised`", Task("pos", TaskType.TAGGING, UPOS), "factorised"),
        (f"parser, `mlp` ({len(DEPREL)} relations)", Task("dep", TaskType.PARSING, DEPREL), "head"),
        ("`mlm`, tied", Task("mlm", TaskType.MLM), "hyperx"),
    )
    lines = []
    for name, task, method in tasks:
        models = [model(setting, method, [task], ["eng"]) for setting in SETTINGS.values()]
        sizes = [sum(p.numel() for p in built.head(task.name).parameters()) for built in models]
        lines.append([name, *(f"{size:,}" for size in sizes)])
    return _table(["head", *SETTINGS], 1, lines)


def _times(rows: Rows) -> Iterator[str]:
    where, details = rows[0]["machine"], rows[0]["details"]
    yield TIME.format(n=f"{ASSUMED_STEPS:,}")
    threads = f"{where['threads']} thread{'s' if where['threads'] > 1 else ''}"
    yield (
        f"\n{where['processor']}, {threads}; torch {where['torch']}. `builtin:e5-small`, "
        f"{details['sizes']}; batches of {details['batch']}; medians of {rows[0]['runs']} runs, "
        "and the ratio's quartiles.\n\n"
    )
    lines = []
    for row in rows:
        details = row["details"]
        milliseconds = details["milliseconds"][row["measure"]]
        low, high = (f"{value:.3g}" for value in details["quartiles"])
        trained = details["trained_parameters"]
        minutes = ASSUMED_STEPS * milliseconds / 60_000
        lines.append(
            [
                row["measure"],
                f"{trained:,}",
                f"{milliseconds:,.0f}" if milliseconds >= 10 else f"{milliseconds:.1f}",
                f"{row['ratio']:.3g} ({low} – {high})",
                f"{minutes:.0f} min" if trained else "0",
            ]
        )
    assumed = f"{ASSUMED_STEPS:,} steps (assumed)"
    headings = ["trained", "parameters", "ms a step", "ratio to a step of mad-x", assumed]
    yield from _table(headings, 1, lines)
