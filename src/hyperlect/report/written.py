"""Comparisons outside the page: as JSON, CSV, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ..grid import Kind
from .scales import figure_text
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


def parameters_text(count: int | None) -> str:
    """Write a number of parameters in millions."""
    return "–" if count is None else f"{count / 1e6:.2f} M"


def seconds_text(seconds: float | None) -> str:
    """Write a time of training in minutes."""
    return "–" if seconds is None else f"{seconds / 60:.1f} min"


def legend(rows: Sequence[Row], baseline: str | None) -> str:
    """Say what stands in a table: spread, marks, what is bold."""
    seeds = sorted({row.seeds for row in rows if row.seeds})
    many = " to ".join(str(n) for n in dict.fromkeys((seeds[0], seeds[-1]))) if seeds else "no"
    text = f"Means over cells and {many} seeds, ± the standard deviation over seeds; bold is best."
    if any("*" in marks(row) for row in rows):
        text += f" *: differs from {baseline} (paired bootstrap over examples and seeds, p < 0.05)."
    if any("†" in marks(row) for row in rows):
        text += " †: over fewer cells, since the method does not apply to the others; not compared."
    return text


def as_json(rows: Sequence[Row]) -> str:
    """Write all rows as a JSON list."""
    return json.dumps([row.data() for row in rows], ensure_ascii=False, indent=1) + "\n"


def as_csv(settings: Sequence[Setting]) -> str:
    """Write every score of every run, a line each."""
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(
        ["setting", "method", "seed", "task", "kind", "language", "metric", "score", "examples"]
    )
    for setting in settings:
        for system in setting.systems:
            for seed, cells in system.seeds.items():
                for cell in cells.values():
                    score = "" if cell.score is None else f"{cell.score:.3f}"
                    place = [setting.name, system.method, seed, cell.task, str(cell.kind)]
                    writer.writerow([*place, cell.language, cell.metric, score, cell.examples])
    return written.getvalue()


def as_markdown(found: Sequence[tuple[Setting, Sequence[Row]]], baseline: str | None) -> str:
    """Write GitHub tables."""
    parts = []
    for setting, rows in found:
        parts.append(f"## {setting.name}")
        for table in tables(setting, rows):
            heads = ["method", *table.columns, "trained", "training"]
            lines = [heads, ["---", *["--:"] * (len(heads) - 1)]]
            lines += _lines(table, _markdown)
            body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
            parts.append(f"### {table.kind}\n\n{body}")
        parts.append(legend(rows, baseline))
        if setting.missing:
            parts.append(f"Not there yet: {'; '.join(setting.missing)}.")
    return "\n\n".join(parts) + "\n"


def as_latex(found: Sequence[tuple[Setting, Sequence[Row]]], baseline: str | None) -> str:
    """Write tables for LaTeX with the package booktabs."""
    parts = ["% needs \\usepackage{booktabs}"]
    for setting, rows in found:
        for table in tables(setting, rows):
            heads = ["method", *table.columns, "trained", "training"]
            lines = _lines(table, _latex)
            body = "\n".join(f"{' & '.join(line)} \\\\" for line in lines)
            head = " & ".join(_tex(text) for text in heads)
            caption = _tex(f"{setting.name}: {table.kind}. {legend(rows, baseline)}")
            parts.append(
                "\\begin{table}\n\\centering\n"
                f"\\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}\n\\toprule\n{head} \\\\\n"
                f"\\midrule\n{body}\n\\bottomrule\n\\end{{tabular}}\n"
                f"\\caption{{{caption}}}\n\\end{{table}}"
            )
    return "\n\n".join(parts) + "\n"


def _lines(table: Table, written: Callable[[str, str, bool], str]) -> list[list[str]]:
    """Write each line with a function of a text, the marks behind it, and whether it is best."""
    return [
        [
            written(method, "", False),
            *(written(score_text(row), marks(row), bool(row and row.best)) for row in rows),
            written(parameters_text(count), "", False),
            written(seconds_text(seconds), "", False),
        ]
        for method, rows, count, seconds in table.lines
    ]


def _markdown(text: str, behind: str, best: bool) -> str:
    return (f"**{text}**" if best else text) + behind.replace("*", "\\*")


def _latex(text: str, behind: str, best: bool) -> str:
    return (rf"\textbf{{{_tex(text)}}}" if best else _tex(text)) + _tex(behind)


def _tex(text: str) -> str:
    return text.translate(_LATEX).replace("†", r"\dag{}")
