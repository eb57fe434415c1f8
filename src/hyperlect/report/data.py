"""From run folders to data: a run as its page needs it, and many runs as one long table.

Every comparison starts from the table. One row is one cell of one run:

    setting, method, seed, part    the run; `method` is the name of the system it belongs to
    labelled, draw                 its point on a few-shot curve; missing where there is none
    few_shot                       whether the curve is of this cell
    complete                       whether the seed has every part that any seed of the system has
    trained_as                     the method of the recipe
    parameters, seconds            of the whole run; missing where they were not kept
    task, kind, language, metric, examples, units    the cell; `units` is -1 without a score
    score                          a percentage or a perplexity; missing without one
    scored, applicable             whether there is a number, whether the method could have one
    counts                         what each example adds, (2, examples); None where it was not kept
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from posixpath import commonpath, dirname
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import Problems, RunError, counted
from ..evaluation.results import CellResult, Results, read_examples, read_results
from ..experiment import read_manifest
from ..grid import Cell
from ..run_folder import EMBEDDINGS, METRICS, RECIPE, VERSIONS, RunState, read_json

Content = TypeVar("Content")
SELECTION = "selection score, development data"


@dataclass(frozen=True)
class Curves:
    """What the log of training says.

    Attributes:
        points: title → step → value, in order of steps; last `SELECTION`, if there is any.
        best_step: that of the best selection score.
    """

    points: dict[str, dict[int, float]]
    best_step: int | None


@dataclass(frozen=True)
class Embeddings:
    """The language embeddings: codes, an array (languages, e), and code → sort of data."""

    languages: list[str]
    vectors: NDArray[np.float64]
    kinds: dict[str, str]


@dataclass(frozen=True)
class Run:
    """One run folder as the report sees it. What is ``None`` was not in the folder."""

    folder: Path
    results: Results
    curves: Curves | None
    embeddings: Embeddings | None
    recipe: str | None
    versions: dict[str, str] | None

    @property
    def cells(self) -> dict[Cell, CellResult]:
        """Each cell's result."""
        return {result.cell: result for result in self.results.cells}


@dataclass(frozen=True)
class Systems:
    """What is compared: methods in settings, each trained with several seeds.

    Attributes:
        name: the experiment's, or what stands for it.
        cells: the table that this module describes.
        missing: setting → its runs without results, as "method, seed 1".
        after: setting of a curve → the setting that its runs continue.
    """

    name: str
    cells: pd.DataFrame
    missing: dict[str, list[str]] = field(default_factory=dict)
    after: dict[str, str] = field(default_factory=dict)


def read_run(folder: Path) -> Run:
    """Read one run folder. Files other than the results may be missing.

    Raises:
        RunError: there is no such folder, it has no results, or a file is malformed.
    """
    return Run(
        folder,
        read_results(folder),
        _read(folder / METRICS, _curves),
        _read(folder / EMBEDDINGS, _embeddings),
        _read(folder / RECIPE, _recipe),
        _read(folder / VERSIONS, _versions),
    )


def _read(path: Path, read: Callable[[Path], Content]) -> Content | None:
    return read(path) if path.is_file() else None


def read_systems(folder: Path) -> Systems:
    """Read the finished runs of an experiment's folder.

    Raises:
        RunError: the folder holds no experiment, or a file of a run is malformed.
    """
    manifest = read_manifest(folder)
    rows: list[dict[str, Any]] = []
    missing: dict[str, list[str]] = {}
    on_curve: Counter[tuple[str, str]] = Counter()
    for run in manifest.runs:
        about = {"setting": run.setting, "method": run.method, "seed": run.seed, "part": run.part}
        if run.state == RunState.DONE:
            about |= {"labelled": run.point.examples, "draw": run.point.draw} if run.point else {}
            rows += _rows(run.folder, read_results(run.folder), about, run.cells)
        elif run.point:
            on_curve[run.setting, run.method] += 1
        else:
            name = f"{run.method} {run.part}".strip()
            missing.setdefault(run.setting, []).append(f"{name}, seed {run.seed}")
    for (setting, method), number in on_curve.items():
        missing.setdefault(setting, []).append(f"{method}, {counted(number, 'run')}")
    after = {run.setting: run.after for run in manifest.runs if run.after}
    return Systems(manifest.name, _table(rows), missing, after)


def gather_runs(folders: Sequence[Path], by_seed: bool = True) -> Systems:
    """Put single runs together.

    Args:
        folders: of the runs.
        by_seed: whether those that differ in the seed alone are one system; else each run is one.

    Raises:
        RunError: a folder has no results, or a file of it is malformed.
    """
    systems: dict[tuple[object, ...], list[tuple[Path, Results, int]]] = {}
    repeats: Counter[tuple[object, ...]] = Counter()
    for number, folder in enumerate(folders, start=1):
        results = read_results(folder)
        seed = -number if results.seed is None else results.seed
        recipe = re.sub(r"(?m)^(\s+)seed:.*$", "", _read(folder / RECIPE, _recipe) or "")
        what = (recipe, results.method, results.name)
        repeats[what, seed] += 1  # the same seed once more is another system
        system = (*what, repeats[what, seed]) if by_seed else (number,)
        systems.setdefault(system, []).append((folder, results, seed))
    firsts = [(folder, results) for (folder, results, _), *_ in systems.values()]
    methods = [results.method for _, results in firsts]
    named = [f"{results.name} ({results.method})" for _, results in firsts]
    choices = [methods, named] if by_seed else []
    names = next((c for c in choices if len(set(c)) == len(c)), run_names(firsts))
    rows = [
        row
        for name, runs in zip(names, systems.values(), strict=True)
        for folder, results, seed in runs
        for row in _rows(folder, results, {"method": name, "seed": seed})
    ]
    return Systems("Comparison", _table(rows))


def run_names(runs: Sequence[tuple[Path, Results]]) -> list[str]:
    """Name each run: by its name, and where names repeat by its folder too."""
    names = [results.name for _, results in runs]
    folders = [folder.resolve().name for folder, _ in runs]
    if len(set(zip(names, folders, strict=True))) < len(names):
        folders = [str(folder) for folder, _ in runs]
    return [
        f"{name} ({folder})" if names.count(name) > 1 else name
        for name, folder in zip(names, folders, strict=True)
    ]


def _rows(
    folder: Path, results: Results, about: dict[str, Any], few_shot: Sequence[str] = ()
) -> Iterator[dict[str, Any]]:
    """Yield the rows of one run."""
    counts = read_examples(folder)
    for result in results.cells:
        yield {
            **{"setting": "runs", "part": "", "labelled": None, "draw": None},
            **about,
            "trained_as": results.method,
            "parameters": results.trained_parameters,
            "seconds": results.seconds,
            **result.model_dump(include={"task", "language", "metric", "score", "examples"}),
            "kind": str(result.kind),
            "units": result.units if result.scored and result.units is not None else -1,
            "scored": result.scored,
            "applicable": result.applicable,
            "few_shot": str(result.cell) in few_shot,
            "counts": counts.get(result.cell),
        }


def _table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Make the table. What was scored twice in one seed counts once, as it was scored last.

    A system without a complete seed waits for one. Settings come before curves, and the parts of a
    run together.
    """
    table = pd.DataFrame(rows)
    if rows:
        system, repeat = ["setting", "method"], ["setting", "method", "labelled", "draw", "seed"]
        cell = ["task", "kind", "language", "metric", "examples", "units"]
        numbers = ("labelled", "draw", "parameters", "seconds", "score")
        table = table.drop_duplicates([*repeat, *cell], keep="last")
        table = table.astype(dict.fromkeys(numbers, float))
        parts = table.groupby(repeat, dropna=False)["part"].transform("nunique")
        whole = parts == table.groupby(system)["part"].transform("nunique")
        table = table.assign(complete=whole | table["labelled"].notna())
        table = table[table.groupby(system)["complete"].transform("any")]
        runs = table.groupby(repeat, sort=False, dropna=False).ngroup()
        order = pd.DataFrame({"curve": table["labelled"].notna(), "run": runs})
        table = table.loc[order.sort_values(["curve", "run"], kind="stable").index]
    return table


def _recipe(path: Path) -> str:
    """Read a recipe, with … for the folders of its files: a page is shown to others."""
    recipe = path.read_text(encoding="utf-8")
    files = sorted(re.findall(r"(?<=[\s'\"\[])/[^'\",\]\n]+", recipe))
    for _, group in groupby(files, key=lambda file: file.split("/")[1]):
        shared = commonpath([dirname(file) for file in group])
        recipe = recipe.replace(f"{shared}/", "…/") if len(shared) > 1 else recipe
    return recipe


def _curves(path: Path) -> Curves:
    """Read the log of training; a step that was logged again after a resume counts once."""
    points: dict[str, dict[int, float]] = defaultdict(dict)
    best_step: int | None = None
    problems = Problems(str(path))
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line.strip() or "{}")
            event, values = entry.get("event"), {}
            if event == "train":
                values = {f"{task}, training loss": loss for task, loss in entry["loss"].items()}
            elif event == "dev":
                values = {SELECTION: entry.get("selection")}
                best_step = int(entry["step"]) if entry.get("best") else best_step
            for title, value in values.items():
                if value is not None and math.isfinite(value):
                    points[title][int(entry["step"])] = float(value)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if number < len(lines):  # a run that was cut off, or is still running, ends mid-line
                problems.add(f"not an event of training ({error!r}). Remove the line.", number)
    problems.raise_if_any(RunError, "The log of training cannot be read:")
    return Curves(
        {title: points[title] for title in sorted(points, key=SELECTION.__eq__)}, best_step
    )


def _embeddings(path: Path) -> Embeddings:
    remedy = "Remove the file to report without the map of languages."
    raw = read_json(path, remedy)
    try:
        languages = [str(code) for code in raw["languages"]]
        vectors = np.asarray(raw["vectors"], dtype=np.float64)
        kinds = {str(code): str(kind) for code, kind in raw.get("kinds", {}).items()}
        if vectors.ndim != 2 or len(vectors) != len(languages) or not np.isfinite(vectors).all():
            raise ValueError("one finite vector a language is needed, all of one length")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(f"{path} is not language embeddings ({error!r}). {remedy}") from None
    return Embeddings(languages, vectors, kinds)


def _versions(path: Path) -> dict[str, str]:
    versions = read_json(path, "Remove the file to report without versions.")
    return dict(pd.json_normalize(versions).astype(object).iloc[0].dropna().astype(str))
