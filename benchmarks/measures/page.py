"""docs/performance.md and its picture, made from the results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .plot import draw

BENCHMARKS = Path(__file__).parents[1]
DOCS = BENCHMARKS.parent / "docs"
PAGE, LIMITS = DOCS / "performance.md", BENCHMARKS / "limits.md"
PREDICTING = BENCHMARKS / "results" / "cpu-speed.md"  # of cpu_speed.py
PICTURES = {"cpu": "images/performance.png", "cuda": "images/performance-gpu.png"}
Rows = Sequence[Mapping[str, Any]]

INTRODUCTION = """\
# Performance

<!-- Made by benchmarks/speed.py and cpu_speed.py from their results; do not edit. -->

What the hypernetwork costs beyond the frozen encoder, and what many cells in one batch cost. In the
sections on a CPU and on a GPU, each row is a ratio. Both sides of a ratio of times ran in turn on
the same data, in one process (starts in new ones). It is the median over pairs of neighbouring
runs, with its quartiles. `python benchmarks/speed.py` measures these sections, and
`python benchmarks/cpu_speed.py` the [words a second](#words-a-second-on-a-cpu). [The
notes](../benchmarks/README.md) say how each row is measured. The [last
section](#what-misses-its-goal-and-why) explains the missed goals.

The networks of the tables are without an adapter for each task (`hypernet.task_base: false`, as in
recipes of version 1). b is the bottleneck, p the size of the projected source embedding; the
published sizes are b = 256, p = 192. The default network of recipes of version 2 (b = 64, p = 16,
`task_base: true`) was measured in a training step alone, on two cores of another processor (Intel
Xeon at 2.8 GHz), 20 pairs: 1.01 times a step of ordinary adapters with 32 sentences (quartiles 0.97
– 1.04), and 1.06 times with 8 (0.99 – 1.13). `speed.py` measures it with the rest.
"""
HEADINGS = {"cpu": "On a CPU", "cuda": "On a GPU"}
COLUMNS = ("measured", "against", "ratio", "quartiles", "goal", "met")
# Details that are shown as absolute numbers, with their units.
ABSOLUTE = {
    "milliseconds": "ms",
    "mebibytes": "MiB",
    "tokens_per_second": "tokens/s",
    "operations_per_second": "operations/s",
}


def write_page(results: Mapping[str, Rows]) -> list[Path]:
    """Write the page and a picture for each device that has results; return what was written."""
    written = [PAGE]
    for kind, rows in results.items():
        picture = DOCS / PICTURES[kind]
        draw(rows, picture)
        written.append(picture)
    PAGE.write_text(page(results), encoding="utf-8")
    return written


def page(results: Mapping[str, Rows]) -> str:
    """Return the page: for each device the goals, what else was measured, absolute numbers."""
    parts = [INTRODUCTION]
    for kind, rows in results.items():
        parts += [f"\n## {HEADINGS[kind]}\n", f"\n{_machine(rows)}\n"]
        parts.append(f"\n![Every ratio that has a goal, and its goal]({PICTURES[kind]})\n")
        parts.append("\nGreen is where a ratio meets its goal. Lines span its quartiles.\n")
        goals = [row for row in rows if not row["extra"]]
        others = [row for row in rows if row["extra"]]
        parts += ["\n### Goals\n\n", _table(goals), "\n### Also measured\n\n", _table(others)]
        parts += ["\n### Absolute numbers\n\n", _absolute(rows)]
    for file in (PREDICTING, LIMITS):
        if file.exists():
            parts += ["\n", file.read_text(encoding="utf-8")]
    return "".join(parts)


def _machine(rows: Rows) -> str:
    where = rows[0]["machine"]
    versions = ("python", "hyperlect", "torch", "transformers", "accelerate")
    named = ", ".join(f"{name} {where[name]}" for name in versions)
    device = where["gpu"] or f"{where['processor']}, {where['threads']} threads"
    return f"{device}; {named}. Encoder: `builtin:e5-small`, unless the row names another."


def _table(rows: Rows) -> str:
    lines = [COLUMNS, ("---", "---", "--:", "--:", "--:", "---")]
    for row in rows:
        quartiles = row["details"].get("quartiles")
        spread = " – ".join(map(figure, quartiles)) if quartiles else ""
        met = {None: "", True: "yes", False: "**no**"}[row["met"]]
        ratio = f"**{figure(row['ratio'])}**"
        lines.append((row["measure"], row["against"], ratio, spread, row["goal"] or "", met))
    return _laid_out(lines)


def _absolute(rows: Rows) -> str:
    lines = [("measured", "absolute numbers", "on"), ("---", "---", "---")]
    for row in rows:
        details = row["details"]
        texts = []
        for name, unit in ABSOLUTE.items():
            amount = details.get(name)
            if isinstance(amount, Mapping):
                listed = ", ".join(f"{key} {figure(number)}" for key, number in amount.items())
                texts.append(f"{listed} {unit}")
            elif amount is not None:
                texts.append(f"{figure(amount)} {unit}")
        if texts:
            lines.append((row["measure"], "; ".join(texts), _circumstances(details)))
    return _laid_out(lines)


def _circumstances(details: Mapping[str, Any]) -> str:
    parts = [str(details[k]) for k in ("batch", "one_run", "recipe", "device") if k in details]
    return "; ".join(part for part in parts if part)


def _laid_out(lines: Sequence[Sequence[str]]) -> str:
    # A bar would end the table's cell.
    cleaned = ([cell.replace("|", "\\|") for cell in line] for line in lines)
    return "".join(f"| {' | '.join(line)} |\n" for line in cleaned)


def figure(value: float) -> str:
    """Write a number with three significant digits, and at most two decimals."""
    if value >= 1e6:
        return f"{value:.3g}".replace("e+", "·10^")
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
