"""The section of the page about a few-shot curve."""

from __future__ import annotations

from collections.abc import Sequence

from .few_shot import Curve, PointRow
from .few_shot_plot import draw_curve
from .few_shot_written import CurveTable, curve_legend, curve_tables, missing_runs
from .markup import Html, join, rows, tag
from .sections import Section, figure, note
from .settings import score_html
from .written import missing_text


def curve_sections(found: Sequence[tuple[Curve, Sequence[PointRow]]]) -> list[Section]:
    """Make a section for each curve: a plot and a table for each task."""
    return [
        Section(f"c{number}", curve.name, _curve(curve, summary, f"c{number}"))
        for number, (curve, summary) in enumerate(found, start=1)
    ]


def _curve(curve: Curve, summary: Sequence[PointRow], prefix: str) -> Html:
    tables = list(curve_tables(curve, summary))
    missing = missing_text(missing_runs(curve))
    figures = [
        figure(table.task, table.metric, draw_curve(table, f"{prefix}-{index}"))
        for index, table in enumerate(tables)
    ]
    return join(
        [
            tag("p", curve_legend(curve, summary)),
            note(missing) if missing else None,
            tag("div", *figures, class_="panels"),
            *(_table(table) for table in tables),
        ],
        "\n",
    )


def _table(table: CurveTable) -> Html:
    heads = ["Method", *(f"{number:,}" for number in table.examples)]
    lines = [[method, *map(score_html, of)] for method, of in table.lines]
    over = tag("small", f"{table.metric} by labelled examples; cells: {table.cells}")
    caption = tag("caption", table.task, " ", over)
    head = tag("thead", rows([heads], header=True))
    body = tag("table", caption, head, tag("tbody", rows(lines)), class_="data curve")
    return tag("div", body, class_="scroll", tabindex=0, role="region", aria_label=table.task)
