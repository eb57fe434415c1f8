"""Writing how the systems of an experiment, or of some runs, compare."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import RunError, unknown
from ..experiment import read_experiment
from .data import read_run
from .markup import join
from .page import contents_list, page
from .settings import setting_sections
from .summary import summarise
from .systems import Setting, of_runs, read_settings
from .written import as_csv, as_json, as_latex, as_markdown

FORMATS = ("html", "markdown", "csv", "latex", "json")
FILES = dict(
    zip(
        FORMATS,
        ("report.html", "report.md", "cells.csv", "tables.tex", "summary.json"),
        strict=True,
    )
)
BASELINES = ("adapters", "task-hypernet", "finetune", "head")


def write_comparison(
    folders: Sequence[Path],
    out: Path | None = None,
    formats: Sequence[str] = FORMATS,
    baseline: str | None = None,
) -> list[Path]:
    """Write tables and plots of an experiment's finished runs, or of single runs.

    Args:
        folders: an experiment's folder, or run folders.
        out: the folder to write to; by default the experiment's own, or the first run's.
        formats: which of `FORMATS`.
        baseline: the method that the others are tested against; by default the first of
            `BASELINES` that is there.

    Returns:
        The files written.

    Raises:
        RunError: nothing has results yet, or a file of a run is malformed.
        UnknownNameError: there is no such baseline.
    """
    folder, title = folders[0], "Comparison"
    if len(folders) == 1:
        settings, title = read_settings(folder), read_experiment(folder).name
    else:
        settings = [of_runs([read_run(run) for run in folders])]
    if not settings:
        raise RunError(f"No run of {folder} has results yet. Go on with: hyperlect experiment")
    chosen = _baseline(settings, baseline)
    found = [(setting, summarise(setting, chosen)) for setting in settings]
    rows = [row for _, summary in found for row in summary]
    out = out or folder
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for name in formats:
        match name:
            case "html":
                sections = setting_sections(found, chosen)
                links = contents_list([(section.id, section.title) for section in sections])
                text = page(title, join([links, *(s.render(2) for s in sections)], "\n"))
            case "markdown":
                text = f"# {title}\n\n" + as_markdown(found, chosen)
            case "csv":
                text = as_csv(settings)
            case "latex":
                text = as_latex(found, chosen)
            case _:
                text = as_json(rows)
        path = out / FILES[name]
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return written


def _baseline(settings: Sequence[Setting], wanted: str | None) -> str | None:
    methods = list(dict.fromkeys(s.method for setting in settings for s in setting.systems))
    if wanted is None:
        return next((method for method in BASELINES if method in methods), None)
    if wanted not in methods:
        raise unknown("method among these runs", wanted, methods)
    return wanted
