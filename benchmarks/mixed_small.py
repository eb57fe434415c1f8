"""Hyper-X, in two sizes, against three baselines on the real mixed recipe, several seeds each.

Every method trains the same cells for the same steps in the same harness:

- hyperx: the recipe as it stands;
- hyperx, small: the same with less than half the parameters of ordinary adapters;
- task-hypernet: the same model without the language;
- adapters: one ordinary adapter a task;
- head: one head a task on the frozen backbone, without adapters.

Runs that are finished are not repeated, so the script can be stopped and started again.

    HYPERLECT_DATA=… python benchmarks/mixed_small.py [--seeds 1 2 3] [--set training.steps=1000]

It writes results/mixed-small/: summary.json and summary.md (mean and standard deviation over seeds
by task and kind), cells.csv (every score of every run), and the report of the first Hyper-X run.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from common import RESULTS, machine
from rich.console import Console
from rich.table import Table

from hyperlect.evaluation import evaluate_run
from hyperlect.recipe import load_recipe
from hyperlect.report import compare, write_report
from hyperlect.report.data import Run, gather_runs, read_run
from hyperlect.training import resume, start

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "recipes" / "mixed-small.yaml"
METHODS = {
    "hyperx": ["method=hyperx"],
    "hyperx, small": ["method=hyperx", "hypernet.bottleneck=24", "hypernet.projection=8"],
    "task-hypernet": ["method=task-hypernet"],
    "adapters": ["method=adapters"],
    "head": ["method=head"],
}
OUT = RESULTS / "mixed-small"


def run_folder(method: str, seed: int) -> Path:
    return ROOT / "runs" / "mixed-small" / f"{method.replace(', ', '-')}-{seed}"


def run_one(method: str, seed: int, overrides: list[str], console: Console) -> Run:
    """Train and evaluate one method with one seed, unless that is done already."""
    run = run_folder(method, seed)
    if not (run / "results.json").is_file():
        console.rule(f"{method}, seed {seed}")
        if not (run / "training.json").is_file():
            settings = [*METHODS[method], f"training.seed={seed}"]
            if run.exists():
                resume(run, console=console)
            else:
                start(load_recipe(RECIPE, [*overrides, *settings]), run, console=console)
        began = time.monotonic()
        evaluate_run(run, console=console)
        console.print(f"evaluated in {time.monotonic() - began:.0f} s")
    return read_run(run)


def summarise(runs: Mapping[tuple[str, int], Run]) -> list[dict[str, Any]]:
    """Average over seeds: one row a method, task and kind, and one for the mean of the tasks.

    The rows of a kind are followed by those of its strata.
    """
    folders: dict[str, list[Path]] = defaultdict(list)
    for (method, _), run in runs.items():
        folders[method].append(run.folder)
    methods = list(folders)
    tables = [gather_runs(of).cells.assign(method=method) for method, of in folders.items()]
    rows, _ = compare.summarise(pd.concat(tables))
    order = list(dict.fromkeys(row.task for row in rows))
    rows.sort(key=lambda row: (methods.index(row.method), order.index(row.task)))
    return [
        {
            "task": row.task,
            "kind": ": ".join(filter(None, (*row.kinds, row.stratum))),
            "method": row.method,
            "metric": row.metric or "mean",
            "mean": round(row.mean, 2),
            "std": None if row.std is None else round(row.std, 2),
            "seeds": row.seeds,
            "cells": row.cells,
        }
        for row in rows
        if row.mean is not None
    ]


def lines(rows: list[dict[str, Any]], methods: list[str]) -> tuple[list[str], list[list[str]]]:
    """Lay the rows out as a table: its headings, and one line a task and kind."""
    groups: dict[tuple[str, str], dict[str, dict[str, Any]]] = defaultdict(dict)
    for row in rows:
        groups[row["task"], row["kind"]][row["method"]] = row
    headings = ["task", "kind of cell", "metric", "cells", *methods]
    laid_out = []
    for (task, kind), by_method in groups.items():
        first = next(iter(by_method.values()))
        scores = [
            f"{by_method[m]['mean']:.1f} ± {by_method[m]['std'] or 0:.1f}"
            if m in by_method
            else "–"
            for m in methods
        ]
        laid_out.append([task, kind, first["metric"], str(first["cells"]), *scores])
    return headings, laid_out


def table(rows: list[dict[str, Any]], methods: list[str]) -> Table:
    headings, laid_out = lines(rows, methods)
    shown = Table(*headings, title="mean ± standard deviation over seeds", title_justify="left")
    for line in laid_out:
        shown.add_row(*line)
    return shown


def markdown(rows: list[dict[str, Any]], methods: list[str]) -> str:
    headings, laid_out = lines(rows, methods)
    rule = ["---"] * 3 + ["--:"] * (len(headings) - 3)
    return "".join(f"| {' | '.join(line)} |\n" for line in (headings, rule, *laid_out))


def write_cells(runs: Mapping[tuple[str, int], Run]) -> None:
    with (OUT / "cells.csv").open("w", encoding="utf-8", newline="") as file:
        of, numbers = ("task", "language", "kind"), ("score", "examples", "units", "unit")
        columns = (*of, "known_to_encoder", "related", "metric", *numbers)
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["method", "seed", *columns])
        for (method, seed), run in runs.items():
            for cell in run.results.cells:
                row = {**cell.model_dump(mode="json"), "score": round(cell.value, 3)}
                writer.writerow([method, seed, *(row[column] for column in columns)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    arguments = parser.parse_args()
    console = Console()
    runs = {
        (method, seed): run_one(method, seed, arguments.overrides, console)
        for seed in arguments.seeds
        for method in arguments.methods
    }
    OUT.mkdir(parents=True, exist_ok=True)
    rows = summarise(runs)
    written = {
        "recipe": "recipes/mixed-small.yaml",
        "overrides": arguments.overrides,
        "rows": rows,
        "runs": [
            {
                "method": method,
                "seed": seed,
                "steps": run.results.steps,
                "training_seconds": run.results.seconds,
            }
            for (method, seed), run in runs.items()
        ],
        "machine": machine(),
    }
    text = json.dumps(written, indent=1, ensure_ascii=False)
    (OUT / "summary.json").write_text(text + "\n", encoding="utf-8")
    (OUT / "summary.md").write_text(markdown(rows, arguments.methods), encoding="utf-8")
    write_cells(runs)
    write_report([run_folder(arguments.methods[0], arguments.seeds[0])], OUT / "report.html")
    console.print(table(rows, arguments.methods))
    console.print(f"written to {OUT.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
