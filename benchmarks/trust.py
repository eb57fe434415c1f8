"""Fit the line from promised to true scores over languages, and see how well it holds.

`hyperlect.evaluation.trust` reads what this writes to the package: one line for each type of task.

    HYPERLECT_DATA=… python benchmarks/trust.py runs/a runs/b   # adds the cells of these runs
    python benchmarks/trust.py                                  # fits again

Every test cell without training data is a point: what the model's probabilities promised, and what
came true. Errors and ranges are of languages that the line was not fitted on, and where there are
several runs also of runs that it was not fitted on. Nothing is averaged over two divisions: whether
the encoder was trained on the language, and whether a language of its branch has training data for
the task. Results: results/trust/cells.csv, summary.json and summary.md.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from common import RESULTS
from numpy.typing import NDArray
from rich.console import Console

from hyperlect.evaluation import evaluate, fill, trust
from hyperlect.evaluation.trust import Relation, expit, logit
from hyperlect.grid import Kind
from hyperlect.languages import languages_in
from hyperlect.model import HyperX
from hyperlect.recipe import load_recipe
from hyperlect.recipe.corpora import read_corpora
from hyperlect.run_folder import RECIPE

OUT = RESULTS / "trust"
CELLS = OUT / "cells.csv"
EXAMPLES = 120
"""The most test sentences of a cell. More would make the line no better: what
remains differs between languages, not between samples."""

KNOWN = languages_in(["xlm-r"])
"""The languages that XLM-R was pretrained on, and so e5, the encoder of all runs here."""
# Branches, finer than the families of `evaluate.find_strata`: most languages here are Indo-European
# or Atlantic-Congo.
BRANCHES = (
    ("Germanic", "eng deu afr bar dan nno nob swe isl"), ("Romance", "por ita lij"),
    ("Slavic", "srp hrv rus slk"), ("Celtic", "cym bre gle glv"),
    ("Uralic", "hun fin kpv myv olo sme"), ("Turkic", "tur kaz kir tat uig"),
    ("Dravidian", "tam tel"), ("Semitic", "mlt amh arb heb qaf"), ("Indic", "bho mar san"),
    ("Iranian", "kmr pus"), ("Bantu", "swh kin lug nya sna tsn xho zul"),
    ("Volta-Niger", "yor ibo ewe fon"), ("Gur", "mos"), ("Austronesian", "ind ceb jav tgl"),
    ("Sinitic", "zho yue"), ("Quechuan", "quy"),
)  # fmt: skip
BRANCH = {code: branch for branch, codes in BRANCHES for code in codes.split()}
STRATA = {
    "all": None,
    "encoder knows it": ("known", True),
    "encoder does not": ("known", False),
    "related": ("related", True),
    "unrelated": ("related", False),
}


def collect(run: Path, console: Console) -> pd.DataFrame:
    """Score the development cells of a run, vectors withheld, and its test cells.

    Returns:
        One row a cell; of the former the kind is "anchor".
    """
    recipe = load_recipe(run / RECIPE, check_files=False)
    model = HyperX.from_pretrained(run)
    skipped = model.grid.text_tasks
    rows: dict[str, dict[Any, Any]] = {}
    for split in ("dev", "test"):
        cells = [cell for cell in recipe.cells(split) if cell.task not in skipped]
        corpora = read_corpora(recipe, [split], model.tasks, cells)
        encoded = corpora.encode(model.tokenizer, model.max_length)
        rows[split] = {c: evaluate.subsample(encoded[split, c], EXAMPLES) for c in cells}
    anchors = fill(model, rows["dev"], console=console, untrained=True)
    scored = fill(model, rows["test"], console=console)
    about = {"run": run.name, "method": recipe.method, "seed": recipe.training.seed}
    branches = {
        task: {code: BRANCH.get(code, code) for name, code in model.grid.trained if name == task}
        for task in model.tasks
    }
    return pd.DataFrame(
        {
            **about,
            "task": cell.task,
            "type": str(model.task(cell.task).type),
            "language": cell.language,
            "kind": kind or str(cell.kind),
            "related": BRANCH.get(cell.language)
            in [b for code, b in branches[cell.task].items() if code != cell.language],
            "promised": cell.promised,
            "score": None if cell.score is None else round(cell.score, 3),
            "examples": cell.examples,
        }
        for kind, results in (("anchor", anchors), ("", scored))
        for cell in results
    )


def fit(points: pd.DataFrame, anchors: pd.DataFrame) -> tuple[float, float, float, float]:
    """Fit a line by least squares.

    Returns:
        Intercept and slope; how far anchors lie above the line, and their standard deviation.
    """
    slope, intercept = np.polyfit(points["promised"].map(logit), points["score"].map(logit), 1)
    rests = anchors["score"].map(logit) - intercept - slope * anchors["promised"].map(logit)
    return float(intercept), float(slope), float(rests.mean()), float(rests.std())


def expect(
    line: tuple[float, float, float, float], points: pd.DataFrame, anchors: pd.DataFrame
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Apply a line to cells, moved by the anchors of their runs, as `Trust.expect` does.

    Returns:
        The expectations, and how much wider their ranges must be.
    """
    relation = Relation(*line, 0, 0, 0, 0, 0, 0)
    names = ["task", "language", "promised", "score"]
    moved = {
        key: (run.shift(key[1], relation), run.widening(key[1], relation))
        for key, of_run in anchors.groupby(["run", "task"])
        for run in [trust.Trust(tuple(trust.Anchor(*a) for a in of_run[names].itertuples(False)))]
    }
    shifts = [moved[row.run, row.task] for row in points.itertuples()]
    scores = [
        expit(line[0] + line[1] * logit(promised) + shift)
        for promised, (shift, _) in zip(points["promised"], shifts, strict=True)
    ]
    return np.array(scores), np.array([wider for _, wider in shifts])


def held_out(
    points: pd.DataFrame, anchors: pd.DataFrame, other_run: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Expect each cell by a line fitted without its language and, if asked, without its run.

    Returns:
        The expectations, and their ranges (2, cells) around zero: the quantiles of what was left in
        the cells of other languages (and runs), by the same rule.
    """
    expected, wider = np.full((2, len(points)), math.nan)
    runs = points["run"].unique() if other_run else [None]
    language, run = points["language"].to_numpy(), points["run"].to_numpy()
    for code in set(language):
        for name in runs:
            test = (language == code) & ((run == name) if name else True)
            train = (language != code) & ((run != name) if name else True)
            if test.any():
                kept = anchors if name is None else anchors[anchors["run"] != name]
                line = fit(points[train], kept[kept["language"] != code])
                expected[test], wider[test] = expect(line, points[test], anchors)
    rests = points["score"].to_numpy() - expected
    bounds = [
        quantiles(rests[(language != code) & ((run != name) if other_run else True)])
        for code, name in zip(language, run, strict=True)
    ]
    return expected, np.array(bounds).T * wider


def quantiles(rests: NDArray[np.float64]) -> tuple[float, float]:
    """The order statistics that bound a new one with 80 % (split conformal, each side 10 %)."""
    ordered = np.sort(rests)
    tail = max(1, (len(ordered) + 1) // 10)
    return float(ordered[tail - 1]), float(ordered[-tail])


def baselines(points: pd.DataFrame, anchors: pd.DataFrame) -> dict[str, NDArray[np.float64]]:
    """What could be said without the line."""
    means, nearest, differences = [], [], []
    for row in points.itertuples():
        others = points[(points["language"] != row.language) & (points["task"] == row.task)]
        of_run = anchors[(anchors["run"] == row.run) & (anchors["task"] == row.task)]
        of_run = of_run[of_run["language"] != row.language]
        means.append(others["score"].mean())
        branch = others["language"].map(BRANCH) == BRANCH.get(row.language, "")
        nearest.append((others[branch] if branch.any() else others)["score"].mean())
        differences.append(row.promised + (of_run["score"] - of_run["promised"]).mean())
    return {
        "mean of other languages": np.array(means),
        "mean of its branch": np.array(nearest),
        "promised score": points["promised"].to_numpy(),
        "difference of confidences": np.array(differences),
    }


def strata(points: pd.DataFrame) -> dict[str, NDArray[np.bool_]]:
    masks = {name: np.ones(len(points), bool) for name in STRATA}
    for name, condition in STRATA.items():
        if condition:
            masks[name] = (points[condition[0]] == condition[1]).to_numpy()
    return masks


def report(points: pd.DataFrame, anchors: pd.DataFrame) -> list[dict[str, Any]]:
    """Errors and coverage of one type of task, by stratum."""
    rows = []
    ways: dict[str, tuple[NDArray[np.float64], NDArray[np.float64] | None]] = {
        "line, other languages": held_out(points, anchors, other_run=False)
    }
    if points["run"].nunique() > 1:
        ways["line, other languages and runs"] = held_out(points, anchors, other_run=True)
    ways |= {name: (values, None) for name, values in baselines(points, anchors).items()}
    score = points["score"].to_numpy()
    for way, (expected, bounds) in ways.items():
        rest = score - expected
        for stratum, mask in strata(points).items():
            row = {"type": points["type"].iloc[0], "way": way, "stratum": stratum}
            row |= {"cells": int(mask.sum()), "languages": points[mask]["language"].nunique()}
            row["error"] = round(float(np.abs(rest[mask]).mean()), 2) if mask.any() else None
            if bounds is not None and mask.any():
                inside = (bounds[0] <= rest) & (rest <= bounds[1])
                row["coverage"] = round(float(inside[mask].mean()), 3)
                row["width"] = round(float((bounds[1] - bounds[0])[mask].mean()), 1)
            rows.append(row)
    return rows


def relation(points: pd.DataFrame, anchors: pd.DataFrame) -> Relation:
    """The line that ships, with the quantiles of languages and runs left out."""
    several = points["run"].nunique() > 1
    expected, _ = held_out(points, anchors, other_run=several)
    rests = points["score"].to_numpy() - expected
    below, above = quantiles(rests)
    numbers = [*fit(points, anchors), -below, above, float(np.abs(rests).mean())]
    counts = (len(points), points["language"].nunique(), points["run"].nunique())
    return Relation(*(round(number, 4) for number in numbers), *counts)


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| type | expectation | " + " | ".join(STRATA) + " |",
        "|---|---" + "|--:" * len(STRATA) + "|",
    ]
    table: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        text = "–" if row["error"] is None else f"{row['error']:.1f}"
        if "coverage" in row:
            text += f" ({row['coverage']:.0%})"
        languages = table.setdefault((row["type"], "*languages*"), {})
        languages[row["stratum"]] = f"*{row['languages']}*"
        table.setdefault((row["type"], row["way"]), {})[row["stratum"]] = text
    for (kind, way), texts in table.items():
        lines.append(f"| {kind} | {way} | " + " | ".join(texts[name] for name in STRATA) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", type=Path)
    console = Console()
    arguments = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    cells = pd.read_csv(CELLS, keep_default_na=False, na_values=[""]) if CELLS.is_file() else None
    for run in arguments.runs:
        console.rule(str(run))
        new = collect(run, console)
        cells = new if cells is None else pd.concat([cells[cells["run"] != run.name], new])
        cells.to_csv(CELLS, index=False, lineterminator="\n")
    if cells is None:
        parser.error("Name runs: there are no results yet.")
    cells = cells[cells["score"].notna()].assign(known=lambda frame: frame["language"].isin(KNOWN))
    points = cells[~cells["kind"].isin(["anchor", str(Kind.SUPERVISED)])]
    relations, rows = {}, []
    for kind, of_type in points.groupby("type", sort=False):
        anchors = cells[(cells["kind"] == "anchor") & (cells["type"] == kind)]
        relations[kind] = asdict(relation(of_type, anchors))
        rows += report(of_type, anchors)
    data = {"format_version": trust.FORMAT_VERSION, "relations": relations}
    trust.RELATIONS.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    summary = {"examples": EXAMPLES, "rows": rows}
    (OUT / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    (OUT / "summary.md").write_text(markdown(rows), encoding="utf-8")
    print(markdown(rows))
    console.print(f"written to {OUT} and {trust.RELATIONS}")


if __name__ == "__main__":
    main()
