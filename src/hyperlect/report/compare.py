"""How systems compare: means over the cells that all have, their spread, and tests.

A setting compares systems by task and kind of cell, and within kinds by stratum, over seeds. A
few-shot curve compares them by task and number of labelled examples, over draws and seeds. Both
give rows.

A test says whether the difference of two systems may be chance. Test examples and seeds are
samples: other examples, or other seeds, would have given another difference. They are
crossed, since every seed is scored on the same examples, so two uncertainties are added up.

- Examples: a paired bootstrap (Efron and Tibshirani 1993, chapter 16; Koehn 2004). Examples are
  drawn with replacement within each cell, the same for all systems and seeds.
- Seeds: Student's t. A bootstrap over three seeds has two thirds of the variance and no tails:
  where seeds differ much, it calls a quarter of equal systems different. So each draw adds
  t · s / √n, with s the standard deviation of the n paired differences and t of n - 1 degrees of
  freedom. Such a sum is the solution of Behrens and Fisher, which is conservative (Robinson 1976,
  Annals of Statistics 4(5)).

What an example does to one seed alone is in both (Owen 2007, Annals of Applied Statistics 1(2)), so
the bootstrap is shrunk: with V the variance of the draws of the mean over seeds, and W the mean
variance of the draws of one seed, the share of the examples in V is (nV - W) / ((n - 1) V), as in
an analysis of variance with crossed random effects.

In simulations with three and five seeds the test marks 2 to 6 % of equal systems at a level of 5 %,
whether seeds or examples differ more.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import compress, product
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import unknown
from ..evaluation.results import is_perplexity
from ..grid import STRATA, Cell, Kind, Stratum

DRAWS = 2000
LEVEL = 0.05
FEWEST_SEEDS = 3
"""What both systems must have in common: one or two seeds say too little of others."""
_SEED = 20221207
_AT_A_TIME = 2_000_000
"""How many examples are drawn at a time."""


@dataclass(frozen=True)
class Difference:
    """How a system differs from the one it is compared with, in points.

    Attributes:
        mean: the difference of their scores.
        low, high: the interval of 95 % around it.
        p: the chance of a difference as far from zero, were the systems equal; never zero.
    """

    mean: float
    low: float
    high: float
    p: float

    @property
    def significant(self) -> bool:
        """Whether it is hardly chance, at a level of 5 %."""
        return self.p < LEVEL


def resample(counts: NDArray[np.int64], cell: int) -> NDArray[np.float64]:
    """Score one cell as it is, and in each draw of its examples.

    Args:
        counts: what each example adds to numerator and denominator, (runs, 2, examples).
        cell: the number of the cell; the draws depend on it alone.

    Returns:
        Percentages, (runs, 1 + draws), first the scores as they are; 0 where there is nothing to
        divide by.
    """
    examples = counts.shape[2]
    generator = np.random.default_rng((_SEED, cell))
    exact = counts.reshape(-1, examples).astype(np.float64)  # products of whole numbers, by BLAS
    sums = [exact.sum(axis=1, keepdims=True)]
    together = max(1, _AT_A_TIME // max(1, examples))
    for start in range(0, DRAWS, together):
        size = min(together, DRAWS - start)
        drawn = generator.integers(examples, size=(size, examples))
        drawn += examples * np.arange(size)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)
        sums.append(exact @ weights.T)
    right, total = np.concatenate(sums, axis=1).reshape(len(counts), 2, 1 + DRAWS).swapaxes(0, 1)
    scores: NDArray[np.float64] = np.zeros(right.shape)
    np.divide(100 * right, total, out=scores, where=total > 0)
    return scores


def difference(differences: NDArray[np.float64]) -> Difference | None:
    """Test whether two systems differ, on two sides.

    p = (1 + k) / (1 + draws), with k the draws as far from their centre as the difference is from
    zero (Davison and Hinkley 1997, chapter 4).

    Args:
        differences: of their scores, (seeds, 1 + draws), first those without drawing.

    Returns:
        None with fewer seeds than `FEWEST_SEEDS`.
    """
    seeds = len(differences)
    if seeds < FEWEST_SEEDS:
        return None
    observed, drawn = differences[:, 0], differences[:, 1:]
    mean, centre = float(observed.mean()), drawn.mean(axis=0)
    together, alone = centre.var(), drawn.var(axis=1).mean()
    share = max(0.0, (seeds * together - alone) / ((seeds - 1) * together)) if together else 0.0
    away = (centre - centre.mean()) * math.sqrt(share)
    away += _student(seeds - 1) * observed.std(ddof=1) / math.sqrt(seeds)
    low, high = np.percentile(away, [100 * LEVEL / 2, 100 * (1 - LEVEL / 2)])
    # A tolerance for rounding: equal systems differ by zero, and all their draws do.
    beyond = int((np.abs(away) >= abs(mean) - 1e-9).sum())
    p = (1 + beyond) / (1 + len(centre))
    return Difference(mean, mean + float(low), mean + float(high), p)


@cache
def _student(freedom: int) -> NDArray[np.float64]:
    """Draw from Student's t: every 200th of many draws in order, for quantiles that are right."""
    generator = np.random.default_rng(_SEED)
    drawn = np.sort(generator.standard_t(freedom, size=200 * DRAWS))[100::200]
    return generator.permutation(drawn)


ALL = "all"
"""What stands for the mean over tasks."""
BASELINES = ("adapters", "task-hypernet", "finetune", "head")
DIFFERING = "not the same in all runs"
"""What stands for the stratum of a cell on which the runs do not agree."""
_STRATA = [*map(str, STRATA), DIFFERING]
_CELL = ["task", "kind", "language", "metric", "examples", "units"]


@dataclass(frozen=True)
class Row:
    """One system's score in the cells of one task and kind, or at one point of a curve.

    Attributes:
        setting, method, task, metric: of what; the task may be `ALL`, which has no metric.
        kinds: of the cells; before a language had labelled examples there may be several.
        stratum: of the cells; empty for all those of the kind.
        by_seed: the mean over cells with each seed (and draw); empty where the method applies to
            none of the cells.
        by_cell, languages: the mean over seeds in each cell, and the cell's language.
        seeds, cells: over how many.
        test_examples: how many the cells have together.
        not_applicable: cells that others have and the method does not apply to.
        against_baseline: how it differs from the baseline, where that can be tested.
        best: whether it is the best of those that have the most cells.
        labelled: on a curve, how many labelled examples a cell has; 0 for the runs it continues.
        draws: of the labelled examples; 0 where there was nothing to draw.
    """

    setting: str
    method: str
    task: str
    metric: str
    kinds: tuple[Kind, ...]
    stratum: str = ""
    by_seed: tuple[float, ...] = ()
    by_cell: tuple[float, ...] = ()
    languages: tuple[str, ...] = ()
    seeds: int = 0
    cells: int = 0
    test_examples: int = 0
    not_applicable: int = 0
    against_baseline: Difference | None = None
    best: bool = False
    labelled: int | None = None
    draws: int = 0

    @property
    def mean(self) -> float | None:
        """The mean over seeds; None where the method applies to none of the cells."""
        return statistics.mean(self.by_seed) if self.by_seed else None

    @property
    def std(self) -> float | None:
        """The sample standard deviation over seeds; None with a single one."""
        return statistics.stdev(self.by_seed) if len(self.by_seed) > 1 else None

    @property
    def examples_a_cell(self) -> int:
        """How many test examples a cell has on average."""
        return round(self.test_examples / max(self.cells, 1))

    def data(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        plain = asdict(self) | {"kind": "; ".join(self.kinds), "mean": self.mean, "std": self.std}
        of, numbers = ["setting", "method", "task", "kind", "stratum", "metric"], ["mean", "std"]
        keys = [*of, *numbers, "seeds", "cells", "test_examples", "not_applicable"]
        data = {key: plain[key] for key in keys}
        against = plain["against_baseline"] or {}
        rounded = {key: round(value, 4 if key == "p" else 3) for key, value in against.items()}
        data["against_baseline"] = rounded or None
        if self.labelled is not None:
            data |= {"examples": self.labelled, "draws": self.draws}
        return {key: round(v, 3) if isinstance(v, float) else v for key, v in data.items()}


def choose_baseline(cells: pd.DataFrame, wanted: str | None) -> str | None:
    """Return the name of the system that the others are tested against.

    Args:
        cells: of all settings.
        wanted: a system's name, or its method where one system alone has it; by default the first
            of `BASELINES` that is there.

    Raises:
        UnknownNameError: there is no such system.
    """
    for name in BASELINES if wanted is None else [wanted]:
        called = cells.loc[(cells["method"] == name) | (cells["trained_as"] == name), "method"]
        names = list(called.unique())
        if name in names or len(names) == 1:
            return name if name in names else str(names[0])
    if wanted is None:
        return None
    raise unknown("method among these runs", wanted, list(cells["method"].unique()))


def summarise(cells: pd.DataFrame, baseline: str | None = None) -> tuple[list[Row], list[str]]:
    """Summarise a setting, by kind, task and system; last the mean over tasks of each kind.

    Each kind is followed by its strata, as far as these are known. Systems are compared in the
    cells that each either scored with every seed or cannot have.

    Args:
        cells: the rows of one setting.
        baseline: the system that the others are tested against, if it is there.

    Returns:
        The rows, and the cells (``pos:isl``) that are left out.
    """
    whole = cells[cells["complete"]]
    scores, cannot = _shared(whole)
    counts = _pivot(whole, _CELL, ["method", "seed"], "counts").loc[scores.index]
    drawn = _draw(counts) if baseline in cannot else None
    nobodys = cannot.all(axis="columns").to_numpy()
    kinds, tasks = (scores.index.get_level_values(level) for level in ("kind", "task"))
    metrics = dict(zip(tasks, scores.index.get_level_values("metric"), strict=True))
    strata = _strata(whole, scores.index)
    rows: list[Row] = []
    for kind, stratum in product(Kind, ("", *_STRATA)):
        within = kinds == str(kind)
        if stratum:
            if set(strata[within]) <= {str(Stratum())}:  # nothing is known
                continue
            within &= strata == stratum
        groups = [[t] for t in whole["task"].unique() if t in tasks[within]]
        percent = [task for (task,) in groups if not is_perplexity(metrics[task])]
        for group in [*groups, percent] if len(percent) > 1 else groups:
            name, metric = (ALL, "") if len(group) > 1 else (group[0], metrics[group[0]])
            every = within & tasks.isin(group)
            compared = []
            for method in whole["method"].unique():
                setting = whole["setting"].iloc[0]
                row = Row(setting, method, name, metric, (kind,), stratum=stratum)
                able = every & ~cannot[method].to_numpy()
                if set(tasks[able]) == set(group):  # a mean over fewer would be of something else
                    row = _scored(row, scores.loc[able, method])
                    both = able & ~cannot.get(baseline, cannot[method]).to_numpy()
                    if drawn is not None and method != baseline and set(tasks[both]) == set(group):
                        against = _against(scores, drawn, both, [method, str(baseline)])
                        row = replace(row, against_baseline=against)
                had = int((every & ~nobodys).sum())
                compared.append(replace(row, not_applicable=had - row.cells))
            rows += mark_best(compared)
    return rows, _left_out(cells, scores.index)


def _strata(cells: pd.DataFrame, index: pd.MultiIndex) -> NDArray[np.str_]:
    """Return the stratum of each cell of an index; `DIFFERING` where runs do not agree on it."""
    cell = ["task", "language"]
    by_cell = cells.groupby(cell)["stratum"]
    strata = by_cell.first().where(by_cell.nunique() == 1, DIFFERING)
    of_index = strata.reindex(index.droplevel([level for level in _CELL if level not in cell]))
    return np.array(of_index, dtype=str)


def _shared(cells: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return cells × (method, seed), and cells × method: whether it does not apply to the cell."""
    scores = _pivot(cells, _CELL, ["method", "seed"])
    named = [level for level in _CELL if level != "units"]  # which a cell without a score lacks
    unable = (~cells["applicable"]).groupby([cells[level] for level in (*named, "method")]).any()
    cannot = unable.unstack("method", fill_value=False).reindex(scores.index.droplevel("units"))
    cannot.index = scores.index
    shared = (scores.notna().T.groupby(level="method").all().T | cannot).all(axis="columns")
    return scores[shared], cannot[shared]


def _draw(counts: pd.DataFrame) -> NDArray[np.float64]:
    """Draw the examples of each cell: (cells, runs, 1 + draws); NaN without the counts of a run."""
    drawn = np.full((*counts.shape, 1 + DRAWS), np.nan)
    for number, of_cell in enumerate(counts.to_numpy()):
        kept = [run for run, count in enumerate(of_cell) if isinstance(count, np.ndarray)]
        if len({of_cell[run].shape for run in kept}) == 1:  # else they are of other examples
            drawn[number, kept] = resample(np.stack(of_cell[kept]), number)
    return drawn


def _against(
    scores: pd.DataFrame, drawn: NDArray[np.float64], both: NDArray[np.bool_], pair: list[str]
) -> Difference | None:
    """Test a pair of systems on the cells and seeds of both; None without their counts."""
    tasks = scores.index[both].get_level_values("task")
    counts = tasks.value_counts()  # tasks weigh alike, and so do the cells of each
    weights = 1 / (len(counts) * counts[tasks].to_numpy())
    first, second = (scores[method].columns for method in pair)
    seeds = [seed for seed in first if seed in second]
    runs = [scores.columns.get_indexer([(method, seed) for method in pair]) for seed in seeds]
    differences = np.array([weights @ (drawn[both, a] - drawn[both, b]) for a, b in runs])
    return None if not runs or np.isnan(differences).any() else difference(differences)


def summarise_curve(
    cells: pd.DataFrame, before: pd.DataFrame | None = None
) -> tuple[list[Row], list[str]]:
    """Summarise a few-shot curve, by task, number of labelled examples (0 first) and method.

    A line is of the same cells from end to end, and the lines of all methods are: of those that
    every method scored with each number of examples that it scored any with. A repeat (a draw with
    a seed) counts where it has all of them.

    Args:
        cells: the rows of one curve.
        before: the rows of the setting that its runs continue. Its scores stand at 0, where every
            seed of the curve has all cells there.

    Returns:
        The rows, and the cells (``pos:isl``) that are left out.
    """
    few = every = cells[cells["few_shot"] & cells["scored"]]
    seeds = few.groupby("method")["seed"].unique()
    if before is not None:  # draws count from 1, so 0 is none
        pairs = zip(before["method"], before["seed"], strict=True)
        known = np.array([seed in seeds.get(method, ()) for method, seed in pairs])
        every = pd.concat([few, before[known & before["scored"]].assign(labelled=0, draw=0)])
    point, cell = ["labelled", "method"], [level for level in _CELL if level != "kind"]
    rows: list[Row] = []
    kept = few.set_index(cell).index[:0]
    for task in few["task"].unique():
        of_task = every[every["task"] == task]
        table = _pivot(of_task, cell, [*point, "draw", "seed"])
        have = table.notna().T.groupby(level=point).any()
        table = table[have.loc[1:].all()]
        kept = kept.append(table.index)
        points = dict(iter(table.dropna(axis="columns").T.groupby(level=point)))
        numbers = sorted({labelled for labelled, _ in points})
        for labelled in numbers if any(numbers) else ():
            compared = []
            for method in few["method"].unique():
                scores = points.get((labelled, method), table.T[:0]).T
                if scores.empty or (labelled == 0 and scores.shape[1] < len(seeds[method])):
                    continue
                mine = of_task[(of_task["method"] == method) & (of_task["labelled"] == labelled)]
                mine = mine[mine["language"].isin(scores.index.get_level_values("language"))]
                kinds = tuple(kind for kind in Kind if str(kind) in set(mine["kind"]))
                row = Row(few["setting"].iloc[0], method, task, mine["metric"].iloc[0], kinds)
                draws = set(scores.columns.get_level_values("draw")) - {0}
                row = replace(row, labelled=int(labelled), draws=len(draws))
                compared.append(_scored(row, scores))
            rows += mark_best(compared)
    return rows, _left_out(few, kept)


def _scored(row: Row, scores: pd.DataFrame) -> Row:
    """Fill a row with scores, cells × repeats."""
    return replace(
        row,
        by_seed=tuple(scores.groupby(level="task").mean().mean()),
        by_cell=tuple(scores.mean(axis="columns")),
        languages=tuple(scores.index.get_level_values("language")),
        seeds=scores.columns.get_level_values("seed").nunique(),
        cells=len(scores),
        test_examples=int(scores.index.get_level_values("examples").to_numpy().sum()),
    )


def mark_best(rows: list[Row]) -> list[Row]:
    """Mark the best of the rows that have the most cells, as it is printed."""
    means = [math.nan if row.mean is None else row.mean for row in rows]
    printed = [round(mean, 1 if abs(round(mean, 1)) < 100 else 0) for mean in means]
    least = min((row.not_applicable for row in rows if row.cells), default=0)
    rivals = [row.cells > 0 and row.not_applicable == least for row in rows]
    if len(rows) < 2 or not any(rivals):
        return rows
    choose = min if is_perplexity(rows[0].metric) else max
    top = choose(compress(printed, rivals))
    ranked = zip(rows, rivals, printed, strict=True)
    return [replace(row, best=rival and mean == top) for row, rival, mean in ranked]


def _pivot(
    cells: pd.DataFrame, index: list[str], columns: list[str], values: str = "score"
) -> pd.DataFrame:
    """Lay values out, cells down and repeats across; where there is no score nothing stands."""
    table = cells.assign(score=cells["score"].where(cells["scored"]))
    return table.set_index([*index, *columns])[values].unstack(columns)


def _left_out(cells: pd.DataFrame, kept: pd.MultiIndex) -> list[str]:
    """Return the cells that are not compared, as ``pos:isl``."""
    compared = set(kept.to_frame().set_index(["task", "language"]).index)
    every = dict.fromkeys(zip(cells["task"], cells["language"], strict=True))
    return [str(Cell(*cell)) for cell in every if cell not in compared]
