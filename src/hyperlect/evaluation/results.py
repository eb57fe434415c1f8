"""Results: a score for each cell, always with its kind, and averages by kind."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, computed_field

from ..errors import Problems, RunError
from ..grid import STRATA, Cell, Kind, Stratum
from ..run_folder import EXAMPLES, RESULTS, read_json, write_json
from ..tasks import TaskType

EXAMPLES_VERSION = 1


class Expected(BaseModel):
    """What score a cell would have by the model's own confidence; see `evaluation.trust`.

    Attributes:
        score: in percent.
        low, high: the range that holds four of five such cells.
    """

    model_config = ConfigDict(frozen=True)

    score: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.score:.0f} ({self.range})"

    @property
    def range(self) -> str:
        """The range in whole points."""
        return f"{self.low:.0f}–{self.high:.0f}"


class CellResult(BaseModel):
    """The result of one cell; `score` is a percentage, or a perplexity.

    Attributes:
        task, language, kind, metric: what was measured, and the kind of the cell.
        score: None if the method does not apply to the cell, or its data holds nothing to score.
        examples: the number of sentences or texts.
        units, unit: what the score counts: words, spans, texts, masked sub-words.
        details: other scores.
        language_source: whose vector represented the language.
        note: why there is no score.
        promised: the score by the model's own probabilities, without labels.
        expected: what that says of the score. None for cells with training data, for few examples,
            and for tasks without a fitted relation.
        by_example: numerator and denominator of each example, as in `metrics.Score`. They are kept
            in a file of their own.
        known_to_encoder: whether the encoder was pretrained on the language, as in `grid.Stratum`.
        related: whether another language of its family has labels in training.
    """

    model_config = ConfigDict(frozen=True)

    task: str
    language: str
    kind: Kind
    metric: str
    score: float | None
    examples: int
    units: int | None = None
    unit: str = ""
    details: dict[str, float] = {}
    language_source: str = ""
    note: str = ""
    promised: float | None = None
    expected: Expected | None = None
    known_to_encoder: bool | None = None
    related: bool | None = None
    by_example: Sequence[tuple[int, int]] = Field(default=(), exclude=True, repr=False)

    @property
    def cell(self) -> Cell:
        """Its cell."""
        return Cell(self.task, self.language)

    @property
    def stratum(self) -> Stratum:
        """What its language has to build on."""
        return Stratum(self.known_to_encoder, self.related)

    @property
    def scored(self) -> bool:
        """Whether there is a number that can be compared and plotted."""
        return self.score is not None and math.isfinite(self.score)

    @property
    def as_expected(self) -> bool:
        """Whether the score lies in the range that was expected."""
        return bool(self.expected and self.expected.low <= self.value <= self.expected.high)

    @property
    def applicable(self) -> bool:
        """Whether the run's method could have a score here."""
        return self.scored or not self.note

    @property
    def value(self) -> float:
        """The score, NaN if there is none."""
        return math.nan if self.score is None else self.score


class Average(BaseModel):
    """The unweighted mean over the cells of one task and kind, or of one stratum of these.

    Attributes:
        task, kind, metric: of the cells.
        mean: over those with a score; None if none has one.
        cells: how many have one.
        not_applicable: how many have none, since the method does not apply to them.
        stratum: of the cells; empty for the mean over all.
        strata: the means of its strata, as far as these are known.
    """

    model_config = ConfigDict(frozen=True)

    task: str
    kind: Kind
    metric: str
    mean: float | None
    cells: int
    not_applicable: int = 0
    stratum: str = ""
    strata: tuple[Average, ...] = ()

    @classmethod
    def of(cls, cells: Sequence[CellResult], stratum: str = "") -> Average:
        """Average cells of one task and kind."""
        scores = [cell.score for cell in cells if cell.score is not None]
        about = cells[0].model_dump(include={"task", "kind", "metric"})
        mean = sum(scores) / len(scores) if scores else None
        lacking = len(cells) - len(scores)
        return cls(**about, mean=mean, cells=len(scores), not_applicable=lacking, stratum=stratum)


class Results(BaseModel):
    """The content of results.json: the scores of a run, and what was trained.

    Attributes:
        name, method, backbone, seed, steps: of the recipe.
        seconds: of training.
        trained_parameters: how many.
        date: of the evaluation, ISO 8601.
        cells: the results.
    """

    model_config = ConfigDict(frozen=True)

    format_version: Literal[1] = 1
    name: str
    method: str
    seed: int | None = None
    steps: int | None = None
    backbone: str
    seconds: float | None = None
    trained_parameters: int | None = None
    date: str | None = None
    cells: Annotated[tuple[CellResult, ...], Field(min_length=1)]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def averages(self) -> list[Average]:
        """The averages of the cells by task and kind."""
        return averages(self.cells)

    @property
    def tasks(self) -> dict[str, str]:
        """Task → metric, in the order of the results, perplexities last."""
        metrics = {cell.task: cell.metric for cell in self.cells}
        return dict(sorted(metrics.items(), key=lambda item: is_perplexity(item[1])))

    @property
    def kinds(self) -> list[Kind]:
        """The kinds that occur, from the best known cells to the least known."""
        return [kind for kind in Kind if any(cell.kind is kind for cell in self.cells)]


def is_perplexity(metric: str) -> bool:
    """Whether a metric is a perplexity: not a percentage, and better when lower."""
    return metric == TaskType.MLM.metric


def averages(cells: Iterable[CellResult]) -> list[Average]:
    """Average scores by task and kind, each with its strata, in the order of tasks and `Kind`."""
    cells = list(cells)
    result = []
    for task, kind in product(dict.fromkeys(cell.task for cell in cells), Kind):
        if group := [cell for cell in cells if (cell.task, cell.kind) == (task, kind)]:
            divided = {s: [cell for cell in group if cell.stratum == s] for s in STRATA}
            strata = tuple(Average.of(of, str(s)) for s, of in divided.items() if of)
            if strata[0].stratum == str(Stratum()):  # nothing is known of any cell
                strata = ()
            result.append(Average.of(group).model_copy(update={"strata": strata}))
    return result


def selection_score(cells: Iterable[CellResult]) -> float | None:
    """Return the number by which a checkpoint is chosen: higher is better.

    It is the mean over tasks of the mean over each task's cells. Perplexities do not add up with
    percentages: they count, negated, only if there is nothing else. Cells without a score do not
    count.

    Returns:
        None if there is no score.
    """
    scored = [cell for cell in cells if cell.score is not None]
    percent = [cell for cell in scored if not is_perplexity(cell.metric)]
    by_task: dict[str, list[float]] = defaultdict(list)
    for cell in percent or scored:
        by_task[cell.task].append(cell.value if percent else -cell.value)
    means = [sum(scores) / len(scores) for scores in by_task.values()]
    return sum(means) / len(means) if means else None


def selection_text(score: float) -> str:
    """Write the result of `selection_score` with its name."""
    return f"perplexity {-score:.2f}" if score < 0 else f"average {score:.2f}"


def write_results(folder: Path, results: Results) -> None:
    """Write results.json into a run folder, and examples.json beside it.

    The latter holds two lists of counts for each cell, as `Score.examples` has them, for tests of
    whether two runs differ by chance. Cells without such counts (perplexities, and cells that a
    method does not apply to) are left out.
    """
    cells = {
        str(result.cell): [list(column) for column in zip(*result.by_example, strict=True)]
        for result in results.cells
        if result.by_example
    }
    data = {"format_version": EXAMPLES_VERSION, "cells": cells}
    write_json(folder / EXAMPLES, data, indent=None)
    # Last: it says that the run is done.
    write_json(folder / RESULTS, results.model_dump(mode="json"))


def read_examples(folder: Path) -> dict[Cell, NDArray[np.int64]]:
    """Read a run's examples.json.

    Returns:
        By cell (2, examples): numerators and denominators. Empty if the run has no such file.

    Raises:
        RunError: it is malformed, or of another version.
    """
    path, remedy = folder / EXAMPLES, "Evaluate the run again."
    if not path.is_file():
        return {}
    data = read_json(path, remedy, version=EXAMPLES_VERSION)
    try:
        cells = {
            Cell(*name.rsplit(":", 1)): np.asarray(counts, dtype=np.int64)
            for name, counts in data["cells"].items()
        }
        if any(counts.ndim != 2 or len(counts) != 2 for counts in cells.values()):
            raise ValueError("a cell must have two lists of counts")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{path} is malformed ({error!r}). {remedy}") from None
    return cells


def read_results(folder: Path) -> Results:
    """Read a run's results.json.

    Raises:
        RunError: there is none, or it is malformed; all problems are named at once.
    """
    path, remedy = folder / RESULTS, f"Make it with: hyperlect evaluate {folder}"
    if not path.is_file():
        raise RunError(f"{path} does not exist: this run has no scores yet. {remedy}")
    try:
        return Results.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        problems = Problems(str(path))
        for detail in error.errors():
            problems.add(detail["msg"], key=".".join(map(str, detail["loc"])))
        problems.raise_if_any(RunError, f"{path} cannot be read. {remedy}")
        raise
