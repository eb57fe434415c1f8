"""Everything about speed and memory that is promised, measured in one go.

Each row of the result is a ratio of two things that were run in turn on the same data; see
measures/ for what exactly, README.md for how to read it.

    HYPERLECT_DATA=… python benchmarks/speed.py            # everything: an hour on two cores
    python benchmarks/speed.py --only steps --repetitions 3   # a look at some; nothing is written

It writes results/speed.json (results/speed-gpu.json on a GPU), docs/performance.md and its plot.
On a GPU it computes in bf16, and measures base Hyper-X on a large encoder as well.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from common import RESULTS
from measures import gpu, inference, languages, memory, skewed, start, steps, switches, throughput
from measures.bench import DATA_VARIABLE, Bench
from measures.page import write_page
from measures.rows import Row, write_rows
from rich.console import Console
from rich.table import Table

from hyperlect.cli import quiet_libraries
from hyperlect.hardware import choose_device

# In the order of the table of goals; each puts its other rows after it.
MEASURES = {
    "steps": steps.measure,
    "throughput": throughput.measure,
    "inference": inference.measure,
    "memory": memory.measure,
    "skewed": skewed.measure,
    "start": start.measure,
    "switches": switches.measure,
    "languages": languages.measure,
    "gpu": gpu.measure,
}
FILES = {"cpu": RESULTS / "speed.json", "cuda": RESULTS / "speed-gpu.json"}


def run(bench: Bench, names: Sequence[str], console: Console) -> list[Row]:
    """Measure, and tell each row as it comes."""
    rows = []
    for name in names:
        console.rule(name)
        for row in MEASURES[name](bench):
            goal = "" if row.met is None else f"  goal {row.goal}: {'met' if row.met else 'MISSED'}"
            console.print(f"{row.measure} / {row.against}: [bold]{row.ratio:.3f}[/]{goal}")
            console.print(f"  [dim]{json.dumps(row.details, default=float)}[/]", highlight=False)
            rows.append(row)
    return rows


def table(rows: Sequence[Row]) -> Table:
    shown = Table("measured", "against", "ratio", "goal", "met")
    for row in rows:
        met = {None: "", True: "yes", False: "[red]no[/]"}[row.met]
        shown.add_row(row.measure, row.against, f"{row.ratio:.3f}", row.goal or "", met)
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto", help="cpu or cuda; auto takes a GPU if any")
    parser.add_argument("--repetitions", type=int, default=30)
    parser.add_argument("--only", nargs="+", choices=list(MEASURES), help="measure, write nothing")
    parser.add_argument("--out", type=Path, help="write the rows here, and no page")
    parser.add_argument("--page", action="store_true", help="write the page anew, measure nothing")
    arguments = parser.parse_args()
    console = Console()
    quiet_libraries()  # also sets what torch reads when it first allocates
    logging.getLogger("transformers").setLevel(logging.ERROR)
    if not arguments.page:
        bench = Bench(torch.device(choose_device(arguments.device)), arguments.repetitions)
        if not bench.real:
            console.print(f"{DATA_VARIABLE} is not set: recipes run on the sample corpus.")
        rows = run(bench, arguments.only or list(MEASURES), console)
        console.print(table(rows))
        if arguments.out or not arguments.only:
            write_rows(rows, arguments.out or FILES[bench.device.type])
    if arguments.page or not (arguments.only or arguments.out):
        results = {
            kind: json.loads(p.read_text("utf-8")) for kind, p in FILES.items() if p.exists()
        }
        if not results:
            parser.error("there are no results yet; run it without --page")
        for path in write_page(results):
            console.print(f"written: {path}")


if __name__ == "__main__":
    main()
