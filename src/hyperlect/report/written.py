"""Comparisons outside the page: as JSON, CSV, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..evaluation.results import CellResult
from ..grid import Kind
from .few_shot import Curve
from .scales import counts_text, figure_text
from .summary import ALL, Row
from .systems import Setting

_LATEX = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%$#_{}"},
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "\\": r"\textbackslash{}",
        "−": "$-$",
        "–": "--",
        "±": r"$\pm$",
    }
)


@dataclass(frozen=True)
class Table:
    """One kind of cell of one setting: systems down, tasks across.

    Attributes:
        setting, kind: of what.
        tasks: the columns, with their metrics; `ALL` last where there are several.
        lines: a method, its rows by task (None where there is none), trained parameters, seconds.
    """

    setting: str
    kind: Kind
    tasks: dict[str, str]
    lines: list[tuple[str, list[Row | None], int | None, float | None]]

    @property
    def columns(self) -> list[str]:
        """The heads of the columns of scores."""
        return [f"{task} {metric}".strip() for task, metric in self.tasks.items()]


Written = tuple[str, str, bool]
"""A text, the marks behind it, and whether it is the best."""


@dataclass(frozen=True)
class Sheet:
    """A table as it is written: its title, the heads of its columns, and its lines."""

    title: str
    heads: list[str]
    lines: list[list[Written]]


@dataclass(frozen=True)
class Chapter:
    """What is written of one setting.

    Attributes:
        title: its name.
        sheets: its tables.
        legend: what stands in them.
        missing: what has no results yet.
    """

    title: str
    sheets: list[Sheet]
    legend: str
    missing: list[str]


def tables(setting: Setting, rows: Sequence[Row]) -> Iterator[Table]:
    """Lay the rows of a setting out, a table for each kind."""
    for kind in Kind:
        own = {(row.task, row.method): row for row in rows if row.kind is kind}
        tasks = {row.task: row.metric for row in own.values()}
        tasks = dict(sorted(tasks.items(), key=lambda item: item[0] == ALL))
        if own:
            lines = [
                (s.method, [own.get((task, s.method)) for task in tasks], s.parameters, s.seconds)
                for s in setting.systems
            ]
            yield Table(setting.name, kind, tasks, lines)


def score_text(row: Row | None) -> str:
    """Write a mean and its spread: ``61.3 ± 0.8``; n/a where the method does not apply."""
    if row is None:
        return ""
    if row.mean is None:
        return "n/a"
    spread = "" if row.std is None else f" ± {figure_text(row.std)}"
    return f"{figure_text(row.mean)}{spread}"


def marks(row: Row | None) -> str:
    """The marks behind a score: an asterisk for hardly chance, a dagger for fewer cells."""
    if row is None or row.mean is None:
        return ""
    star = "*" if row.against is not None and row.against.significant else ""
    return star + ("†" if row.left_out else "")


def written(row: Row | None) -> Written:
    """Write a score with its marks."""
    return score_text(row), marks(row), bool(row and row.best)


def parameters_text(count: int | None) -> str:
    """Write a number of parameters in millions."""
    return "–" if count is None else f"{count / 1e6:.2f} M"


def seconds_text(seconds: float | None) -> str:
    """Write a time of training in minutes."""
    return "–" if seconds is None else f"{seconds / 60:.1f} min"


def legend(rows: Sequence[Row], baseline: str | None) -> str:
    """Say what stands in a table: spread, marks, what is bold."""
    seeds = [row.seeds for row in rows if row.seeds]
    many = counts_text(seeds, "seed") if seeds else "no seeds"
    text = f"Means over cells and {many}, ± the standard deviation over seeds; bold is best."
    examples = {round(row.test_examples / row.cells) for row in rows if row.cells}
    text += f" {counts_text(examples, 'test example')} a cell on average." if examples else ""
    if any("*" in marks(row) for row in rows):
        text += f" *: differs from {baseline} (paired bootstrap over examples and the seeds of "
        text += "both, p < 0.05)."
    if any("†" in marks(row) for row in rows):
        text += " †: over fewer cells, since the method does not apply to the others; not compared."
    return text


def missing_text(missing: Sequence[str]) -> str | None:
    """Say what has no results yet; None where everything has."""
    return f"Not there yet: {'; '.join(missing)}." if missing else None


def as_json(rows: Sequence[Row]) -> str:
    """Write all rows as a JSON list."""
    return json.dumps([row.data() for row in rows], ensure_ascii=False, indent=1) + "\n"


def as_csv(settings: Sequence[Setting], curves: Sequence[Curve]) -> str:
    """Write every score of every run, a line each."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    heads = ["setting", "method", "seed", "task", "kind", "language", "metric", "score", "examples"]
    writer.writerow([*heads, "few_shot_examples", "few_shot_draw"])
    for setting in settings:
        for system in setting.systems:
            for seed, cells in system.seeds.items():
                run = (setting.name, system.method, seed)
                writer.writerows([*run, *line, "", ""] for line in _cells(cells.values()))
    for curve in curves:
        for (method, point, seed), found in curve.cells.items():
            run, place = (curve.name, method, seed), (point.examples, point.draw)
            writer.writerows([*run, *line, *place] for line in _cells(found))
    return text.getvalue()


def _cells(cells: Iterable[CellResult]) -> Iterator[list[object]]:
    for cell in cells:
        score = "" if cell.score is None else f"{cell.score:.3f}"
        place = [cell.task, str(cell.kind), cell.language, cell.metric]
        yield [*place, score, cell.examples]


def chapter_of(setting: Setting, rows: Sequence[Row], baseline: str | None) -> Chapter:
    """Put the tables of a setting together."""
    sheets = [
        Sheet(
            str(table.kind),
            ["method", *table.columns, "parameters", "time"],
            [
                [
                    (method, "", False),
                    *map(written, of),
                    (parameters_text(count), "", False),
                    (seconds_text(seconds), "", False),
                ]
                for method, of, count, seconds in table.lines
            ],
        )
        for table in tables(setting, rows)
    ]
    return Chapter(setting.name, sheets, legend(rows, baseline), setting.missing)


def as_markdown(chapters: Sequence[Chapter]) -> str:
    """Write GitHub tables."""
    parts = []
    for chapter in chapters:
        parts.append(f"## {chapter.title}")
        for sheet in chapter.sheets:
            lines = [sheet.heads, ["---", *["--:"] * (len(sheet.heads) - 1)]]
            lines += [[_markdown(*cell) for cell in line] for line in sheet.lines]
            body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
            parts.append(f"### {sheet.title}\n\n{body}")
        parts.append(chapter.legend)
        if missing := missing_text(chapter.missing):
            parts.append(missing)
    return "\n\n".join(parts) + "\n"


def as_latex(chapters: Sequence[Chapter]) -> str:
    """Write tables for LaTeX with the package booktabs."""
    parts = ["% needs \\usepackage{booktabs}"]
    for chapter in chapters:
        for sheet in chapter.sheets:
            lines = [[_latex(*cell) for cell in line] for line in sheet.lines]
            body = "\n".join(f"{' & '.join(line)} \\\\" for line in lines)
            head = " & ".join(_tex(text) for text in sheet.heads)
            caption = _tex(f"{chapter.title}: {sheet.title}. {chapter.legend}")
            parts.append(
                "\\begin{table}\n\\centering\n"
                f"\\begin{{tabular}}{{l{'r' * (len(sheet.heads) - 1)}}}\n\\toprule\n{head} \\\\\n"
                f"\\midrule\n{body}\n\\bottomrule\n\\end{{tabular}}\n"
                f"\\caption{{{caption}}}\n\\end{{table}}"
            )
    return "\n\n".join(parts) + "\n"


def _markdown(text: str, behind: str, best: bool) -> str:
    return (f"**{text}**" if best else text) + behind.replace("*", "\\*")


def _latex(text: str, behind: str, best: bool) -> str:
    return (rf"\textbf{{{_tex(text)}}}" if best else _tex(text)) + _tex(behind)


def _tex(text: str) -> str:
    return text.translate(_LATEX).replace("†", r"\dag{}")
