"""docs/efficiency.md, made from the counts and the times."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hyperlect.accounting import APART, FORMULAS, STORED, head_size
from hyperlect.methods import METHODS
from hyperlect.tasks import DEPREL, UPOS, Task, TaskType

from .curves import SHOWN
from .sizes import LANGUAGES, SETTINGS, TASKS, VOCABULARIES, title

DOCS = Path(__file__).parents[2] / "docs"
PAGE, PICTURE = DOCS / "efficiency.md", DOCS / "images" / "efficiency.png"
ASSUMED_STEPS = 1_000
"""An assumption that turns the time of a step into that of a language; no result."""
Rows = Sequence[Mapping[str, Any]]

INTRODUCTION = """\
# Parameters, and the time to add a language

<!-- Made by benchmarks/efficiency.py; do not edit. -->

What each method trains, and what has to be stored beside the frozen encoder so that every task and
language can be served; where the encoder itself is trained, what is stored takes its place. Heads
come on top, and so do the encoder's LayerNorms where a recipe trains them. h is the hidden size, L
the number of layers with adapters, b the bottleneck, e the size of an embedding (64), p that of the
projected source embedding, T tasks, N languages, E the parameters of the encoder; an adapter has
A = 2hb + b + 3h. `hyperlect.accounting` counts all variants; tests compare it with models.
"""
NOTES = """
With mad-x, T counts the tasks other than `mlm`. Where every task has a model of its own, as in the
single-task settings, those of mad-x can share their language adapters; other methods share nothing.
The latent vectors of factorised have means and variances; prediction needs the means alone.
"""
HEADS = """
## Heads

| head | parameters | of which there are |
|---|---|---|
| tags, entities, texts | labels·(h + 1) | one a task |
| the same with `factorised` | 401·labels·(h + 1) | one a task |
| parser, `mlp` | 1200·(h + 1) + 250500 + 10201·relations | one a task |
| parser, `direct` | h·(h + 1) + relations·(h + 1)² | one a task |
| `mlm`, tied | h·(h + 3) + vocabulary | one |
"""
TIME = """
## Time to add a language

What a method trains when a language with raw text is added to a model that is there already: whole
steps on the same batches of masked language modelling, in turn, the `mlm` head staying as it is.
How many steps each needs was not measured. The last column is therefore no result, but the time of
{n} steps of every one, an assumption.

Hyper-X can also do without training: a language without a vector of its own gets the mean of the
others (or zero, if training dropped some), which costs one generation of its weights. `adapters`,
`task-hypernet` and `finetune` have nothing of a language's own, so they need no step either (the
row of `finetune` is what learning from the text all the same takes); mad-x cannot do without.

Passes through the encoder are most of a step whichever small part is trained: what a vector saves
is parameters, not time a step. There is no command for adding a language yet.
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
    like = f", {SETTINGS['XLM-R base'][0].encoder / 1e6:.1f} with XLM-R base, all else being equal"
    yield (
        f"Stored, in millions; E = {SETTINGS[encoder][0].encoder / 1e6:.1f}"
        f"{like if encoder == 'mBERT' else ''}. The last two columns are what one more language "
        "and one more task add, in single parameters.\n"
    )
    for tasks in TASKS:
        yield f"\n{tasks} task{'s' if tasks > 1 else ''}:\n\n"
        headings = ["method", *(f"N = {n:,}" for n in LANGUAGES)]
        headings += ["a model for each task, N = 10"] if tasks > 1 else []
        lines = []
        for method in METHODS:
            own = {r["languages"]: r for r in rows if (r["method"], r["tasks"]) == (method, tasks)}
            cells = [f"{own[n]['stored'] / 1e6:,.2f}" for n in LANGUAGES]
            if tasks > 1:
                cells.append(f"{own[10]['stored_apart'] / 1e6:,.2f}")
            more = [f"{own[10][key]:,}" for key in ("per_language", "per_task")]
            lines.append([f"`{method}`", *cells, *more])
        yield from _table([*headings, "language", "task"], 1, lines)


def _heads() -> Iterator[str]:
    tasks = (
        (f"tags ({len(UPOS)})", Task("pos", TaskType.TAGGING, UPOS), "hyperx"),
        (f"tags ({len(UPOS)}), `factorised`", Task("pos", TaskType.TAGGING, UPOS), "factorised"),
        (f"parser, `mlp` ({len(DEPREL)} relations)", Task("dep", TaskType.PARSING, DEPREL), "head"),
        ("`mlm`, tied", Task("mlm", TaskType.MLM), "hyperx"),
    )
    lines = [
        [name]
        + [
            f"{head_size(task, sizes.hidden, VOCABULARIES[encoder], method=method):,}"
            for encoder, (sizes, _) in SETTINGS.items()
        ]
        for name, task, method in tasks
    ]
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
