"""The page that compares the systems of one or several settings."""

from __future__ import annotations

from collections.abc import Sequence

from ..evaluation.results import CellResult, is_perplexity
from ..grid import Kind
from .markup import Html, join, rows, tag
from .scales import scale_of
from .sections import Section, figure, note
from .strips import Strip, strip_panel
from .summary import ALL, Row
from .systems import Setting
from .tables import kinds_list, with_mark
from .written import (
    legend,
    marks,
    missing_text,
    parameters_text,
    score_text,
    seconds_text,
    tables,
)


def setting_sections(
    found: Sequence[tuple[Setting, Sequence[Row]]], baseline: str | None
) -> list[Section]:
    """Make a section for each setting: tables by kind, then every seed's mean by task."""
    return [
        Section(f"s{number}", setting.name, _setting(setting, summary, baseline, number))
        for number, (setting, summary) in enumerate(found, start=1)
    ]


def _setting(setting: Setting, summary: Sequence[Row], baseline: str | None, number: int) -> Html:
    if not summary:
        return note("The systems have no cell in common: nothing can be compared.")
    kinds = [kind for kind in Kind if any(row.kind is kind for row in summary)]
    missing = missing_text(setting.missing)
    return join(
        [
            kinds_list(kinds),
            tag("p", legend(summary, baseline)),
            note(missing) if missing else None,
            *(_table(setting, summary, kind) for kind in kinds),
            tag("div", *_panels(setting, summary, number), class_="panels"),
        ],
        "\n",
    )


def _table(setting: Setting, summary: Sequence[Row], kind: Kind) -> Html:
    table = next(t for t in tables(setting, summary) if t.kind is kind)
    heads = ["Method"]
    heads += [tag("span", task, " ", tag("small", metric)) for task, metric in table.tasks.items()]
    lines = [
        [method, *map(score_html, of), parameters_text(count), seconds_text(seconds)]
        for method, of, count, seconds in table.lines
    ]
    counts = {row.task: row.cells + row.left_out for row in summary if row.kind is kind}
    over = ", ".join(f"{task} {count}" for task, count in counts.items() if task != ALL)
    caption = tag("caption", with_mark(kind), " ", tag("small", f"cells: {over}"))
    head = tag("thead", rows([[*heads, "Trained", "Training"]], header=True))
    body = tag("table", caption, head, tag("tbody", rows(lines)), class_="data compare")
    return tag("div", body, class_="scroll", tabindex=0, role="region", aria_label=str(kind))


def score_html(row: Row | None) -> Html:
    """Write a score as a cell of a table; what its marks mean stands in its title."""
    if row is None:
        return tag("span", "–", class_="none")
    said = None
    if row.against is not None:
        difference = row.against
        said = (
            f"{difference.mean:+.1f} points against the baseline, "
            f"95 % {difference.low:+.1f} to {difference.high:+.1f}, p = {difference.p:.3f}"
        )
    text = score_text(row) + marks(row)
    return tag("b", text, title=said) if row.best else tag("span", text, title=said)


def _panels(setting: Setting, summary: Sequence[Row], number: int) -> list[Html]:
    """Draw the mean of every seed, a panel a task."""
    figures = []
    for index, task in enumerate(dict.fromkeys(row.task for row in summary)):
        of_task = [row for row in summary if row.task == task and row.mean is not None]
        seeds = [(row, _seeds(row)) for row in of_task]
        if not seeds:
            continue
        scale = scale_of([c for _, cells in seeds for c in cells], is_perplexity(of_task[0].metric))
        strips = [Strip(row.kind, cells, row.mean, row.method) for row, cells in seeds]
        drawing = strip_panel(strips, scale, f"setting{number}-{index}", task, "seed")
        name = "mean over tasks" if task == ALL else task
        figures.append(figure(f"{setting.name}: {name}", of_task[0].metric, drawing))
    return figures


def _seeds(row: Row) -> list[CellResult]:
    """Each seed's mean as a dot of a strip."""
    return [
        CellResult(
            task=row.task, language="", kind=row.kind, metric=row.metric, score=score, examples=0
        )
        for score in row.by_seed
    ]
