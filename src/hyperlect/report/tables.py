"""Comparisons as tables, and the tables as text: Markdown, LaTeX, CSV, JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import cache
from itertools import groupby
from typing import NamedTuple

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from ..errors import counted, listed
from ..evaluation.results import CellResult, is_perplexity
from ..grid import STRATA_MEANING, Kind
from ..languages import name
from .compare import ALL, Row, summarise, summarise_curve
from .data import Systems
from .plots import counts_text, figure_text

_LATEX: dict[str, str | int | None] = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"},
    **{"−": "$-$", "–": "--", "±": r"$\pm$", "†": r"\dag{}", "<": "$<$", ">": "$>$"},
}


class Table(NamedTuple):
    """One kind of cell of a setting, or one task of a curve.

    Attributes:
        title, note: the kind or the task, and over what the means are.
        kind: of the cells; None on a curve, along which it changes.
        frame: systems × columns of rows (or texts); missing where a system has none.
        strata: tables of the same columns for the strata of the kind, if it has several.
    """

    title: str
    note: str
    kind: Kind | None
    frame: pd.DataFrame
    strata: tuple[Table, ...] = ()


class Chapter(NamedTuple):
    """What is written of one setting or curve: rows, tables of them, and what stands in them."""

    name: str
    rows: list[Row]
    tables: list[Table]
    legend: str
    missing: str

    @property
    def every_table(self) -> list[Table]:
        """The tables, each followed by those of its strata."""
        return [each for table in self.tables for each in (table, *table.strata)]


def chapters_of(systems: Systems, baseline: str | None = None) -> list[Chapter]:
    """Compare the systems of every setting, and then those of every curve."""
    by_setting = dict(iter(systems.cells.groupby("setting", sort=False)))
    chapters = []
    for setting, cells in by_setting.items():
        curve, after = bool(cells["labelled"].notna().any()), systems.after.get(setting, "")
        before = by_setting.get(after)
        summary = summarise_curve(cells, before) if curve else summarise(cells, baseline)
        rows, left_out = summary
        tables = _tables(rows, _costs(cells), curve)
        facts = {"rows": rows, "left_out": left_out, "curve": curve}
        legend = render("legend.txt", **facts, baseline=baseline, after=after)
        missing = "; ".join(systems.missing.get(setting, []))
        missing = f"No results yet: {missing}." if missing else ""
        chapters.append(Chapter(setting, rows, tables, " ".join(legend.split()), missing))
    return chapters


def render(template: str, **content: object) -> str:
    """Fill a template; what goes into HTML is escaped."""
    return _environment().get_template(template).render(**content)


@cache
def _environment() -> Environment:
    """Return the templates, each of which is compiled once."""
    environment = Environment(
        loader=PackageLoader(__package__),
        autoescape=select_autoescape(),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    helpers = (name, counted, listed, figure_text, score_text, marks, is_perplexity, cell_text)
    environment.filters |= {helper.__name__: helper for helper in helpers}
    environment.globals |= {"strata_meaning": STRATA_MEANING}
    environment.filters |= {"counts": counts_text, "number": _number}
    environment.tests["perplexity"] = lambda metric, wanted: is_perplexity(metric) == wanted
    return environment


def _number(number: float | None) -> str:
    return "–" if number is None else f"{number:,.0f}"


def cell_text(cell: CellResult, digits: int = 1) -> str:
    """Write a cell's score as `figure_text` does; n/a where the method does not apply to it."""
    return figure_text(cell.score, digits) if cell.applicable else "n/a"


def _tables(rows: Sequence[Row], costs: pd.DataFrame, curve: bool) -> list[Table]:
    """Lay rows out, systems down: a table for each kind of a setting, for each task of a curve."""
    tables = []
    for _, of_table in groupby(rows, key=lambda row: row.task if curve else row.kinds):
        whole, *strata = (list(g) for _, g in groupby(of_table, key=lambda row: row.stratum))
        first, frame = whole[0], _frame(whole, costs.index, curve)
        if curve:
            note = f"{first.metric} by labelled examples; cells: {first.cells}"
            tables.append(Table(first.task, note, None, frame))
            continue
        kind, note = first.kinds[0], _counts(whole)
        divided: list[Table] = []
        for of_stratum in strata:
            title = f"{kind}: {of_stratum[0].stratum}"
            of_kind = _frame(of_stratum, costs.index).reindex(columns=frame.columns)
            divided.append(Table(title, _counts(of_stratum), kind, of_kind))
        if len(strata) == 1 and _counts(strata[0]) == note:  # it is the whole kind
            note, divided = f"{note}; {strata[0][0].stratum}", []
        tables.append(Table(str(kind), note, kind, frame.join(costs), tuple(divided)))
    return tables


def _frame(rows: Sequence[Row], systems: pd.Index, curve: bool = False) -> pd.DataFrame:
    """Lay rows out, systems down; across stand tasks, or numbers of labelled examples."""
    columns: dict[str, dict[str, Row]] = {}
    for row in rows:
        head = f"{row.labelled:,}" if curve else f"{row.task} {row.metric}".strip()
        columns.setdefault(head, {})[row.method] = row
    return pd.DataFrame(columns, index=systems, dtype=object)


def _counts(rows: Sequence[Row]) -> str:
    counts = {row.task: row.cells + row.not_applicable for row in rows if row.task != ALL}
    return f"cells: {', '.join(f'{task} {count}' for task, count in counts.items())}"


def _costs(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the trained parameters of each system, and its mean time over seeds, as texts."""
    runs = cells[cells["complete"]].drop_duplicates(["method", "seed", "part"])
    seeds = runs.groupby(["method", "seed"], sort=False)[["parameters", "seconds"]]
    totals = seeds.agg(lambda values: values.sum(skipna=False)).groupby("method", sort=False)
    sizes = totals["parameters"].agg(lambda values: _unit(values.iloc[0] / 1e6, ".2f", "M"))
    times = totals["seconds"].agg(lambda v: _unit(v.mean(skipna=False) / 60, ".1f", "min"))
    return pd.DataFrame({"parameters": sizes, "time": times})


def _unit(number: float, digits: str, unit: str) -> str:
    return "–" if math.isnan(number) else f"{number:{digits}} {unit}"


def score_text(value: object) -> str:
    """Write what stands in a table: a row as ``61.3 ± 0.8``, n/a where the method does not apply.

    Texts stay as they are; for nothing stands a dash.
    """
    if not isinstance(value, Row):
        return value if isinstance(value, str) else "–"
    if value.mean is None:
        return "n/a"
    return figure_text(value.mean) + ("" if value.std is None else f" ± {figure_text(value.std)}")


def marks(value: object) -> str:
    """The marks behind a score: an asterisk for hardly chance, a dagger for fewer cells."""
    if not isinstance(value, Row) or value.mean is None:
        return ""
    star = "*" if value.against_baseline and value.against_baseline.significant else ""
    return star + ("†" if value.not_applicable else "")


def as_markdown(title: str, chapters: Sequence[Chapter]) -> str:
    """Write GitHub tables."""
    texts = [f"# {title}"]
    for chapter in chapters:
        texts.append(f"## {chapter.name}")
        for table in chapter.every_table:
            frame = _texts(table, {"*": r"\*", "|": r"\|"}, "**{}**")
            rule = ["---", *["--:"] * table.frame.shape[1]]
            lines = [frame.columns, rule, *frame.to_numpy()]
            body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
            texts += [f"### {table.title} ({table.note})", body]
        texts += [text for text in (chapter.legend, chapter.missing) if text]
    return "\n\n".join(texts) + "\n"


def as_latex(chapters: Sequence[Chapter]) -> str:
    """Write tables for LaTeX with the package booktabs."""
    texts = ["% needs \\usepackage{booktabs}\n"]
    for chapter in chapters:
        for table in chapter.every_table:
            caption = f"{chapter.name}: {table.title} ({table.note}). {chapter.legend}"
            style = _texts(table, _LATEX, r"\textbf{{{}}}").style.hide(axis="index")
            options = {"hrules": True, "position_float": "centering"}
            options["column_format"] = "l" + "r" * table.frame.shape[1]
            options["caption"] = caption.translate(str.maketrans(_LATEX))
            texts.append(style.to_latex(**options))
    return "\n".join(texts)


def _texts(table: Table, escapes: dict[str, str | int | None], bold: str) -> pd.DataFrame:
    """Return a table as texts, the names of the systems first."""
    characters = str.maketrans(escapes)

    def text(value: object) -> str:
        score = score_text(value).translate(characters)
        best = isinstance(value, Row) and value.best
        return (bold.format(score) if best else score) + marks(value).translate(characters)

    frame = table.frame.rename_axis("method").reset_index()
    return frame.map(text).rename(columns=text)


def as_json(chapters: Sequence[Chapter]) -> str:
    """Write all rows as a JSON list."""
    rows = [row.data() for chapter in chapters for row in chapter.rows]
    return json.dumps(rows, ensure_ascii=False, indent=1) + "\n"


def as_csv(cells: pd.DataFrame) -> str:
    """Write every score of every run, a line each, those of curves last."""
    about = ["task", "kind", "language", "known_to_encoder", "related", "metric"]
    heads = ["setting", "method", "seed", *about, "score", "examples"]
    points = cells[["labelled", "draw"]].astype("Int64")
    points.columns = ["few_shot_examples", "few_shot_draw"]
    table = cells[heads].join(points)
    return str(table.to_csv(index=False, float_format="%.3f", lineterminator="\n"))
