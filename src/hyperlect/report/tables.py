"""The tables of the page: averages, the grid as a heat map, every cell, and runs side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..evaluation.results import Average, CellResult, Results, is_perplexity
from ..grid import Kind
from ..languages import name
from .comparison import Group
from .data import Run
from .marks import mark
from .markup import Html, join, rows, tag
from .scales import LEVELS, Scale, cell_figure, count_of, figure_text

_TASKS_ON_PHONE = 5  # columns beyond which the grid scrolls sideways on a narrow screen


def with_mark(kind: Kind) -> Html:
    """A kind's mark and name."""
    return tag("span", mark(kind), tag("span", kind.value), class_="kind")


def kinds_list(kinds: Sequence[Kind]) -> Html:
    """What each kind means, with its mark."""
    pairs = (
        tag("div", tag("dt", with_mark(kind)), tag("dd", kind.meaning + ".")) for kind in kinds
    )
    return tag("dl", *pairs, class_="kinds")


def averages_table(results: Results) -> Html:
    """Kinds down, each with its meaning, and tasks across; each mean with its number of cells."""
    found = {(average.task, average.kind): average for average in results.averages}
    width = len(results.tasks)
    heads = [
        tag("th", task, tag("small", metric), scope="col") for task, metric in results.tasks.items()
    ]
    bodies = []
    for kind in results.kinds:
        meaning = tag("span", kind.meaning, class_="meaning")
        title = tag("th", with_mark(kind), ": ", meaning, colspan=width, scope="rowgroup")
        means = (_mean(found.get((task, kind))) for task in results.tasks)
        bodies.append(tag("tbody", tag("tr", title), tag("tr", *means)))
    caption = tag("caption", "Mean score of each task over the cells of each kind", class_="vh")
    head = tag("thead", tag("tr", *heads))
    table = tag("table", caption, head, *bodies, class_="averages", style=f"--tasks:{width}")
    return tag("div", table, class_="scroll")


def _mean(average: Average | None) -> Html:
    if average is None:
        return tag("td", tag("span", "–", class_="none"), tag("small", "no cells"))
    without = average.not_applicable
    figure = tag("b", "n/a" if without and not average.cells else figure_text(average.mean))
    counts = count_of(average.cells, "cell") + (f", {without:,} n/a" if without else "")
    return tag("td", figure, tag("small", counts))


def colour_key(scale: Scale, tasks: Sequence[str]) -> Html:
    """The colours of a scale from worse to better, its ends, and the tasks that it serves."""
    worse, better = (scale.high, scale.low) if scale.perplexity else (scale.low, scale.high)
    steps = (tag("i", class_=f"{scale.letter}{level}") for level in range(LEVELS))
    what = "perplexity, lower is better" if scale.perplexity else "percent"
    return tag(
        "div",
        tag("span", f"{worse:g}"),
        tag("span", *steps, class_="ramp", aria_hidden="true"),
        tag("span", f"{better:g}"),
        tag("span", f"{', '.join(tasks)}: {what}", class_="what"),
        class_="key",
    )


def grid_tables(
    groups: Mapping[str, Sequence[str]], results: Results, scales: Mapping[bool, Scale]
) -> Html:
    """The grid as a heat map: one table a group of languages, languages down, tasks across."""
    cells = {(cell.task, cell.language): cell for cell in results.cells}
    tables = []
    for heading, languages in groups.items():
        heads = [tag("th", tag("span", "Language", class_="vh"), scope="col", class_="name")]
        heads += [tag("th", task, scope="col") for task in results.tasks]
        body = []
        for code in languages:
            line = [tag("th", name(code), " ", tag("small", code), scope="row", class_="name")]
            line += [_grid_cell(cells.get((task, code)), scales) for task in results.tasks]
            body.append(tag("tr", *line))
        caption = tag("caption", heading, " ", tag("small", count_of(len(languages), "language")))
        head = tag("thead", tag("tr", *heads))
        tables.append(tag("table", caption, head, tag("tbody", join(body, "\n")), class_="heat"))
    width = len(results.tasks)
    classes = "grid scroll" if width > _TASKS_ON_PHONE else "grid"
    return tag("div", *tables, class_=classes, style=f"--tasks:{width}")


def _grid_cell(cell: CellResult | None, scales: Mapping[bool, Scale]) -> Html:
    if cell is None:
        return tag("td", tag("span", "not scored", class_="vh"), class_="empty")
    figure = cell_figure(cell)
    said = f"{cell.task} in {name(cell.language)}: {cell.metric} {figure}, {cell.kind}, "
    said += count_of(cell.examples, "example") + (f"; {cell.note}" if cell.note else "")
    colour = scales[is_perplexity(cell.metric)].colour_class(cell.value) if cell.scored else "empty"
    kind = tag("span", f", {cell.kind}", class_="vh")
    return tag("td", mark(cell.kind), figure, kind, class_=colour, title=said)


def cells_table(results: Results) -> Html:
    """Every cell with everything known of its score."""
    heads = ("Task", "Language", "Code", "Score", "Kind", "Metric", "Examples", "Units")
    more = any(cell.details or cell.language_source or cell.note for cell in results.cells)
    lines = []
    for cell in results.cells:
        units = "–" if cell.units is None else f"{cell.units:,} {cell.unit}".strip()
        line: list[str] = [cell.task, name(cell.language), tag("code", cell.language)]
        line += [cell_figure(cell, 2), with_mark(cell.kind), cell.metric]
        line += [f"{cell.examples:,}", units]
        if more:
            said = [f"{key} {figure_text(value, 2)}" for key, value in cell.details.items()]
            said += [f"language embedding: {cell.language_source}"] * bool(cell.language_source)
            said += [f"n/a: {cell.note}"] * bool(cell.note)
            line.append("; ".join(said))
        lines.append(line)
    head = rows([heads + (("Also",) if more else ())], header=True)
    table = tag("table", tag("thead", head), tag("tbody", rows(lines)), class_="data cells")
    return tag(
        "div", table, class_="scroll", tabindex=0, role="region", aria_label="Table of every cell"
    )


def runs_table(runs: Sequence[Run], names: Sequence[str]) -> Html:
    """What sets the runs apart: method, backbone, steps, seed."""
    lines = []
    for run, label in zip(runs, names, strict=True):
        facts = run.results
        line = [label, facts.method, facts.backbone, _optional(facts.steps), _optional(facts.seed)]
        lines.append(line)
    head = rows([("Run", "Method", "Backbone", "Steps", "Seed")], header=True)
    table = tag("table", tag("thead", head), tag("tbody", rows(lines)), class_="data runs")
    return tag("div", table, class_="scroll", tabindex=0, role="region", aria_label="The runs")


def comparison_table(groups: Sequence[Group], names: Sequence[str]) -> Html:
    """Averages of all runs over their shared cells, one body a task."""
    heads = ["Kind of cell", "Cells", *names]
    bodies = []
    for task, metric in dict.fromkeys((group.task, group.metric) for group in groups):
        title = tag("th", task, " ", tag("small", metric), colspan=len(heads), scope="rowgroup")
        lines: list[list[str]] = []
        for group in groups:
            if (group.task, group.metric) == (task, metric):
                means = [figure_text(mean) for mean in group.means]
                lines.append([with_mark(group.kind), str(len(group.cells[0])), *means])
        bodies.append(tag("tbody", tag("tr", title, class_="group"), rows(lines)))
    table = tag("table", tag("thead", rows([heads], header=True)), *bodies, class_="data compare")
    return tag(
        "div", table, class_="scroll", tabindex=0, role="region", aria_label="Averages of all runs"
    )


def _optional(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"
