"""Parameters of each method for T tasks and N languages, and the time to add a language.

Parameters are counted on models without memory, at the sizes of three encoders (measures/sizes.py).
The time is measured: whole training steps on raw text that train one more language, in turn
(measures/adding.py).

    python benchmarks/efficiency.py           # the counts; seconds
    python benchmarks/efficiency.py --time    # the steps too; some minutes, on a quiet machine

It writes results/efficiency.json (results/efficiency-time.json), docs/efficiency.md and its plot.
Ratios of counts are to one trained encoder (finetune), those of times to a step of mad-x.
"""

from __future__ import annotations

import argparse
import json
import logging
from typing import Any

import torch
from common import RESULTS, machine
from measures import adding
from measures.bench import Bench
from measures.costs import PAGE, PICTURE, page
from measures.curves import draw
from measures.rows import write_rows
from measures.sizes import LANGUAGES, SETTINGS, TASKS, count, per_language, per_task, stored_apart
from rich.console import Console
from rich.table import Table

from hyperlect.methods import METHODS

COUNTS, TIMES = RESULTS / "efficiency.json", RESULTS / "efficiency-time.json"


def counts() -> list[dict[str, Any]]:
    """Count every method at every size, all tasks in one model and a model for each."""
    rows = []
    for name, setting in SETTINGS.items():
        for tasks in TASKS:
            for languages in LANGUAGES:
                for method in METHODS:
                    counted = count(setting, method, tasks, languages)
                    rows.append(
                        {
                            "encoder": name,
                            "method": method,
                            "tasks": tasks,
                            "languages": languages,
                            "trained": counted.trained,
                            "stored": counted.stored,
                            "stored_apart": stored_apart(setting, method, tasks, languages),
                            "per_language": per_language(setting, method).stored,
                            "per_task": per_task(setting, method).stored,
                            "ratio": round(counted.stored / setting.encoder, 5),
                            "against": "one trained encoder (finetune)",
                        }
                    )
    return rows


def tell(rows: list[dict[str, Any]], console: Console) -> None:
    """Print the counts."""
    keys = ("encoder", "method", "tasks", "languages", "trained", "stored", "stored_apart")
    table = Table(*keys, "stored / trained encoder", "one more language")
    for row in rows:
        cells = (f"{row[key]:,}" if isinstance(row[key], int) else row[key] for key in keys)
        table.add_row(*cells, f"{row['ratio']:.4f}", f"{row['per_language']:,}")
    console.print(table)


def measure(repetitions: int, console: Console) -> None:
    """Time the steps, and write them."""
    console.print(f"measured on {machine()}", highlight=False)
    rows = []
    for row in adding.measure(Bench(torch.device("cpu"), repetitions)):
        console.print(f"{row.measure} / {row.against}: [bold]{row.ratio:.4f}[/]")
        console.print(f"  [dim]{json.dumps(row.details, default=float)}[/]", highlight=False)
        rows.append(row)
    write_rows(rows, TIMES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(".")[0])
    parser.add_argument("--time", action="store_true", help="measure training steps too")
    parser.add_argument("--repetitions", type=int, default=15, help="timed runs of each step")
    arguments = parser.parse_args()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    console = Console()
    rows = counts()
    tell(rows, console)
    COUNTS.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if arguments.time:
        measure(arguments.repetitions, console)
    draw(SETTINGS, PICTURE)
    times = json.loads(TIMES.read_text(encoding="utf-8")) if TIMES.exists() else []
    PAGE.write_text(page(rows, times), encoding="utf-8")
    console.print(f"written: {COUNTS}, {PAGE}, {PICTURE}")


if __name__ == "__main__":
    main()
