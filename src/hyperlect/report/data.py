"""From run folders to data: a run as its page needs it, and many runs as one long table.

Every comparison starts from the table. One row is one cell of one run:

    setting, method, seed, part    the run; `method` is the name of the system it belongs to
    labelled, draw                 its point on a few-shot curve; missing where there is none
    few_shot                       whether the curve is of this cell
    complete                       whether the seed has every part that any seed of the system has
    trained_as                     the method of the recipe
    parameters, seconds            of the whole run; missing where they were not kept
    task, kind, language, metric, examples, units    the cell; `units` is -1 without a score
    known_to_encoder, related, stratum    of the language, as in `grid.Stratum`; as far as known
    score                          a percentage or a perplexity; missing without one
    scored, applicable             whether there is a number, whether the method could have one
    counts                         what each example adds, (2, examples); None where it was not kept
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from posixpath import commonpath, dirname
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import Problems, RunError, counted
from ..evaluation.results import CellResult, Results, read_examples, read_results
from ..experiment import read_manifest
from ..grid import Cell
from ..model.hyperx import load_hypernet
from ..run_folder import (
    EMBEDDINGS,
    METRICS,
    MODEL,
    RECIPE,
    TRAINING,
    VERSIONS,
    WEIGHTS,
    RunState,
    read_events,
    read_json,
    read_json_or_empty,
)

SELECTION = "selection score, development data"
_COLUMNS = {"task", "language", "metric", "score", "examples", "known_to_encoder", "related"}
_REPEAT = {"setting", "method", "seed", "part", "draw"}
ADDED = "added after training"
"""The sort of data of a language that training with all others did not see."""


class Curves(NamedTuple):
    """What the log of training says.

    Attributes:
        points: title → step → value, in order of steps; last `SELECTION`, if there is any.
        best_step: that of the best selection score.
    """

    points: dict[str, dict[int, float]]
    best_step: int | None


class Embeddings(NamedTuple):
    """The language embeddings: codes, an array (languages, e), and code → sort of data.

    `from_typology` says whether the model computes them from typological features.
    """

    languages: list[str]
    vectors: NDArray[np.float64]
    kinds: dict[str, str]
    from_typology: bool = False


@dataclass(frozen=True)
class Differences:
    """How far the adapters that a hypernetwork writes for two cells are apart, layer by layer.

    A difference is relative, |w - w'| / |w'|, over all weights of a layer's adapter.

    Attributes:
        tasks, languages: of the cells. A method that reads no task has one name for all of them.
        across_languages: (tasks, layers, languages, languages), of one task.
        across_tasks: (languages, layers, tasks, tasks), of one language.
    """

    tasks: list[str]
    languages: list[str]
    across_languages: NDArray[np.float64]
    across_tasks: NDArray[np.float64]

    def of_task(self, task: str) -> dict[str, NDArray[np.float64]]:
        """Return, by what differs, three rows (3, layers): 5th percentile, median, 95th.

        They are of a language and the one whose adapter is nearest, of all pairs of languages, and
        of all pairs of the task and another in one language.
        """
        row = self.tasks.index(task)
        pairs = _without_diagonal(self.across_languages[row])  # (layers, languages, others)
        nearest = pairs.mean(axis=0).argmin(axis=1)
        series = {
            "the nearest language": np.take_along_axis(pairs, nearest[None, :, None], axis=2),
            "another language": pairs,
            "another task": _without_diagonal(self.across_tasks)[:, :, row].swapaxes(0, 1),
        }
        by_layer = {name: v.reshape(len(v), -1) for name, v in series.items() if v.size}
        return {name: np.percentile(v, [5, 50, 95], axis=1) for name, v in by_layer.items()}

    @property
    def means(self) -> dict[str, float]:
        """The mean of the medians over tasks and layers, by what differs."""
        by_task = [self.of_task(task) for task in self.tasks]
        return {name: float(np.mean([of[name][1] for of in by_task])) for name in by_task[0]}

    @property
    def largest(self) -> float:
        """The upper end of an axis that holds the differences of all tasks."""
        return 1.05 * max(float(s[2].max()) for t in self.tasks for s in self.of_task(t).values())

    def between(self, code: str, other: str) -> float | None:
        """Return the mean over tasks and layers for two languages; None if one is missing."""
        if not {code, other} <= set(self.languages):
            return None
        one, two = self.languages.index(code), self.languages.index(other)
        return float(self.across_languages[:, :, one, two].mean())


def _without_diagonal(square: NDArray[np.float64]) -> NDArray[np.float64]:
    """Leave out what compares something with itself: (…, n, n) to (…, n, n - 1)."""
    size = square.shape[-1]
    others = ~np.eye(size, dtype=bool)
    return square[..., others].reshape(*square.shape[:-1], size - 1)


@dataclass(frozen=True)
class Run:
    """One run folder as the report sees it. What is ``None`` was not in the folder."""

    folder: Path
    results: Results
    curves: Curves | None
    embeddings: Embeddings | None
    differences: Differences | None
    recipe: str | None
    versions: dict[str, str] | None
    warnings: tuple[str, ...] = ()

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
        _read(folder / WEIGHTS, _differences),
        _read(folder / RECIPE, _recipe),
        _read(folder / VERSIONS, _versions),
        tuple(read_json_or_empty(folder / TRAINING).get("warnings", ())),
    )


def _read(path: Path, read: Callable[[Path], Any]) -> Any:
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
        if run.state == RunState.DONE:
            about = {"labelled": run.examples, **run.model_dump(include=_REPEAT)}
            rows += _rows(run.folder, read_results(run.folder), about, run.cells)
        elif run.examples is not None:
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
    rows: list[dict[str, Any]] = []
    for name, runs in zip(names, systems.values(), strict=True):
        for folder, results, seed in runs:
            rows += _rows(folder, results, {"method": name, "seed": seed})
    return Systems("Comparison", _table(rows))


def run_names(runs: Sequence[tuple[Path, Results]]) -> list[str]:
    """Name each run: by its name, and where names repeat by its folder too."""
    names = [results.name for _, results in runs]
    folders = [folder.resolve().name for folder, _ in runs]
    if len(set(zip(names, folders, strict=True))) < len(names):
        folders = [str(folder) for folder, _ in runs]
    pairs = zip(names, folders, strict=True)
    return [f"{name} ({where})" if names.count(name) > 1 else name for name, where in pairs]


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
            **result.model_dump(include=_COLUMNS),
            "kind": str(result.kind),
            "stratum": str(result.stratum),
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
    for number, entry in read_events(path, problems):
        try:
            event, values = entry.get("event"), {}
            if event == "train":
                values = {f"{task}, training loss": loss for task, loss in entry["loss"].items()}
            elif event == "dev":
                values = {SELECTION: entry.get("selection")}
                best_step = entry["step"] if entry.get("best") else best_step
            for title, value in values.items():
                if value is not None and math.isfinite(value):
                    points[title][entry["step"]] = float(value)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            problems.add(f"not an event of training ({error!r}). Remove the line.", number)
    problems.raise_if_any(RunError, "The log of training cannot be read:")
    titles = sorted(points, key=SELECTION.__eq__)
    return Curves({title: points[title] for title in titles}, best_step)


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
    model = read_json_or_empty(path.with_name(MODEL))
    kinds |= {code: ADDED for code in model.get("added", {}) if code in languages}
    features = model.get("language_features") or {}
    return Embeddings(languages, vectors, kinds, bool(features.get("typology")))


def _differences(path: Path) -> Differences | None:
    """Compare the adapters of all cells; None where no hypernetwork reads a language."""
    import torch

    loaded = load_hypernet(path.parent)
    if loaded is None or not loaded[0].reads("language") or len(loaded[0].languages) < 2:
        return None
    config, hypernet = loaded
    tasks = config.adapted_tasks if config.reads("task") else ["all tasks"]
    rows, columns = torch.arange(len(tasks)), torch.arange(len(config.languages))
    points = hypernet.coordinates(*torch.cartesian_prod(rows, columns).T)
    # (tasks, languages, layers, …)
    cells = points.double().view(len(rows), len(columns), *points.shape[1:])
    relative = []
    for ordered in (cells.permute(0, 2, 1, 3), cells.permute(1, 2, 0, 3)):
        apart = torch.cdist(ordered, ordered, compute_mode="donot_use_mm_for_euclid_dist")
        relative.append((apart / ordered.norm(dim=-1)[..., None, :]).numpy())
    return Differences(tasks, list(config.languages), *relative)


def _versions(path: Path) -> dict[str, str]:
    versions = read_json(path, "Remove the file to report without versions.")
    return dict(pd.json_normalize(versions).astype(object).iloc[0].dropna().astype(str))
