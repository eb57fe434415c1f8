"""The sections that say everything about one run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..evaluation.results import CellResult, is_perplexity
from ..grid import Kind
from ..languages import name
from .data import Run
from .language_map import draw_map, project
from .learning_curves import panels
from .markup import Html, join, rows, tag
from .scales import Scale, count_of
from .strips import Strip, strip_panel
from .tables import (
    averages_table,
    cells_table,
    colour_key,
    grid_tables,
    with_mark,
)

_METHODS = {
    "hyperx": "Hyper-X: adapters written for task, language and layer",
    "task-hypernet": "hypernetwork conditioned on task and layer only",
    "language-hypernet": "hypernetwork conditioned on language and layer only",
    "adapters": "one trained adapter a task",
    "finetune": "the encoder itself trained, no adapters",
    "factorised": "the encoder trained, heads made from a task and a language",
    "mad-x": "MAD-X: a trained adapter a language, and one a task stacked on it",
    "head": "frozen backbone, heads only, no adapters",
}
_NAMED_ON_MAP = 80  # languages up to which the wide map has room for names instead of codes
_FEWEST_ON_MAP = 3


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading and a place to link to."""

    id: str
    title: str
    content: Html

    def render(self, level: int) -> Html:
        """Return the section with a heading of `level`."""
        heading = tag(f"h{level}", self.title, id=f"{self.id}-heading")
        return tag(
            "section", heading, self.content, id=self.id, aria_labelledby=f"{self.id}-heading"
        )


def figure(title: str, small: str, *drawings: Html) -> Html:
    """A drawing with its caption above it."""
    caption = tag("figcaption", title, *([" ", tag("small", small)] if small else []))
    return tag("figure", caption, *drawings)


def note(text: str) -> Html:
    """One line that says why something is not there."""
    return tag("p", text, class_="note")


def facts(run: Run) -> Html:
    """Method, backbone, steps, seed, date and size of the grid as a list."""
    results = run.results
    method, cells = results.method, results.cells
    sizes = (
        count_of(len(cells), "cell"),
        count_of(len(results.tasks), "task"),
        count_of(len({cell.language for cell in cells}), "language"),
    )
    said: dict[str, str | None] = {
        "method": join([method, tag("small", _METHODS[method]) if method in _METHODS else None]),
        "backbone": results.backbone,
        "steps": None if results.steps is None else f"{results.steps:,}",
        "seed": None if results.seed is None else str(results.seed),
        "date": results.date,
        "scored": ", ".join(sizes),
    }
    pairs = (tag("div", tag("dt", k), tag("dd", v)) for k, v in said.items() if v is not None)
    return tag("dl", *pairs, class_="facts")


def run_sections(run: Run, scales: Mapping[bool, Scale], prefix: str) -> list[Section]:
    """Everything about one run; `prefix` keeps its ids apart from another run's."""
    return [
        Section(f"{prefix}-averages", "Averages by kind", _averages(run, scales, prefix)),
        Section(f"{prefix}-grid", "The grid", _grid(run, scales)),
        Section(f"{prefix}-learning", "Learning curves", _learning(run, prefix)),
        Section(f"{prefix}-map", "Map of the languages", _map(run, prefix)),
        Section(f"{prefix}-how", "How it was run", _how(run)),
    ]


def _averages(run: Run, scales: Mapping[bool, Scale], prefix: str) -> Html:
    results = run.results
    means = {(average.task, average.kind): average.mean for average in results.averages}
    figures = []
    for index, (task, metric) in enumerate(results.tasks.items()):
        strips = []
        for kind in results.kinds:
            of_kind = [cell for cell in results.cells if (cell.task, cell.kind) == (task, kind)]
            cells = [cell for cell in of_kind if cell.applicable]
            if cells:
                strips.append(Strip(kind, cells, means.get((task, kind))))
        if not strips:
            continue
        drawing = strip_panel(strips, scales[is_perplexity(metric)], f"{prefix}-strip{index}", task)
        figures.append(figure(task, metric, drawing))
    explained = "Each dot is one cell, each mark the mean of its kind. The languages of the lowest "
    explained += "and the highest score are named by their codes."
    return join(
        [
            averages_table(results),
            tag("p", explained),
            tag("div", *figures, class_="panels"),
        ]
    )


def _grid(run: Run, scales: Mapping[bool, Scale]) -> Html:
    results = run.results
    keys = []
    for perplexity, scale in scales.items():
        tasks = [task for task, m in results.tasks.items() if is_perplexity(m) == perplexity]
        keys += [colour_key(scale, tasks)] if tasks else []
    kinds = (with_mark(kind) for kind in results.kinds)
    summary = tag("summary", f"Every cell as a table ({count_of(len(results.cells), 'cell')})")
    return join(
        [
            tag("p", "Every cell has its score and the mark of its kind: ", join(kinds, "; "), "."),
            tag("div", *keys, class_="keys"),
            grid_tables(language_groups(run), results, scales),
            tag("details", summary, cells_table(results)),
        ]
    )


def language_groups(run: Run) -> dict[str, list[str]]:
    """Sort the languages by what training had of them, and by name within that."""
    groups: dict[str, list[str]] = {
        "Labelled data in training": [],
        "Raw text only in training": [],
        "Raw text in training": [],
        "No data in training": [],
    }
    cells: dict[str, list[CellResult]] = {}
    for cell in run.results.cells:
        cells.setdefault(cell.language, []).append(cell)
    for code in sorted(cells, key=name):
        groups[_training_data(run, code, cells[code])].append(code)
    return {heading: languages for heading, languages in groups.items() if languages}


def _training_data(run: Run, code: str, cells: list[CellResult]) -> str:
    kinds = {cell.kind for cell in cells}
    if Kind.UNTOUCHED in kinds:
        return "No data in training"
    if Kind.TEXT_ONLY in kinds:
        return "Raw text only in training"
    sort = run.embeddings.kinds.get(code) if run.embeddings else None
    if sort == "text only":
        return "Raw text only in training"
    # A language scored by perplexity alone may have had labels that this evaluation left out.
    if all(cell.kind is Kind.SUPERVISED and is_perplexity(cell.metric) for cell in cells):
        return "Labelled data in training" if sort == "labelled" else "Raw text in training"
    return "Labelled data in training"


def _learning(run: Run, prefix: str) -> Html:
    if run.curves is None:
        return note("The run folder has no metrics.jsonl, so there are no learning curves.")
    drawn = panels(run.curves, prefix)
    if not drawn:
        return note("metrics.jsonl has no steps of training yet, so there are no learning curves.")
    text = "Over the steps of training. Long curves show means of neighbouring steps, in a band "
    text += "from their lowest to their highest value."
    figures = (figure(title, "", drawing) for title, drawing in drawn)
    return join([tag("p", text), tag("div", *figures, class_="panels")])


def _map(run: Run, prefix: str) -> Html:
    embeddings = run.embeddings
    if embeddings is None:
        return note("The run folder has no embeddings.json, so there is no map of languages.")
    number = len(embeddings.languages)
    if number < _FEWEST_ON_MAP:
        return note(f"A map needs {_FEWEST_ON_MAP} languages or more; this run has {number}.")
    projection = project(embeddings.vectors)
    named = name if number <= _NAMED_ON_MAP else str
    both = sum(projection.explained)
    text = f"The {number} trained language embeddings on their first two principal components, "
    text += f"which hold {both:.0%} of the variance. Languages far apart here are far apart; those "
    text += "close together may still differ in the other components. A full disc is a language "
    text += "with labelled data, a quarter one with raw text only; the cross is the mean of all."
    wide = draw_map(embeddings, projection, 1000, named, f"{prefix}-map-wide", "wide")
    narrow = draw_map(embeddings, projection, 350, str, f"{prefix}-map-narrow", "narrow")
    return join([tag("p", text), tag("figure", wide, narrow, class_="map")])


def _how(run: Run) -> Html:
    if run.versions is None:
        versions = note("The run folder has no versions.json.")
    else:
        lines = rows(run.versions.items())
        caption = tag("caption", "Versions")
        versions = tag("table", caption, tag("tbody", lines), class_="data versions")
    if run.recipe is None:
        recipe = note("The run folder has no recipe.yaml.")
    else:
        summary = tag("summary", "The recipe, with every default filled in")
        pre = tag("pre", tag("code", run.recipe), tabindex=0)
        recipe = tag("details", summary, pre)
    return join([versions, recipe])
