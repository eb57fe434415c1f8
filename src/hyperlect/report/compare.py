"""Writing how the systems of an experiment, or of some runs, compare."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import RunError, unknown
from ..experiment import read_experiment
from .data import read_run
from .few_shot import Curve, read_curves, summarise_curve
from .few_shot_page import curve_sections
from .few_shot_written import curve_chapter
from .markup import join
from .page import contents_list, page
from .settings import setting_sections
from .summary import Row, summarise
from .systems import Setting, of_runs, read_settings
from .written import as_csv, as_json, as_latex, as_markdown, chapter_of

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
        baseline: the method that the others are tested against, or a system's name where several
            have the same method; by default the first of `BASELINES` that is there once.

    Returns:
        The files written.

    Raises:
        RunError: nothing has results yet, or a file of a run is malformed.
        UnknownNameError: there is no such baseline.
    """
    folder, title = folders[0], "Comparison"
    curves: list[Curve] = []
    if len(folders) == 1:
        settings, title = read_settings(folder), read_experiment(folder).name
        curves = read_curves(folder, settings)
    else:
        settings = [of_runs([read_run(run) for run in folders])]
    if not (settings or curves):
        raise RunError(f"No run of {folder} has results yet. Go on with: hyperlect experiment")
    chosen = _baseline(settings, baseline)
    texts = _texts(title, settings, curves, chosen)
    out = out or folder
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for name in formats:
        path = out / FILES[name]
        path.write_text(texts[name](), encoding="utf-8")
        written.append(path)
    return written


def _texts(
    title: str, settings: Sequence[Setting], curves: Sequence[Curve], baseline: str | None
) -> dict[str, Callable[[], str]]:
    """Return what writes each format."""
    found = [(setting, summarise(setting, baseline)) for setting in settings]
    drawn = [(curve, summarise_curve(curve)) for curve in curves]
    chapters = [chapter_of(setting, rows, baseline) for setting, rows in found]
    chapters += [curve_chapter(curve, rows) for curve, rows in drawn]
    rows: list[Row] = [row for _, of in found for row in of]
    rows += [row for _, of_curve in drawn for row in of_curve]

    def html() -> str:
        sections = setting_sections(found, baseline) + curve_sections(drawn)
        links = contents_list([(section.id, section.title) for section in sections])
        return page(title, join([links, *(s.render(2) for s in sections)], "\n"))

    return {
        "html": html,
        "markdown": lambda: f"# {title}\n\n{as_markdown(chapters)}",
        "csv": lambda: as_csv(settings, curves),
        "latex": lambda: as_latex(chapters),
        "json": lambda: as_json(rows),
    }


def _baseline(settings: Sequence[Setting], wanted: str | None) -> str | None:
    """Return the name of the system that the others are tested against."""
    systems = [system for setting in settings for system in setting.systems]
    names = list(dict.fromkeys(system.method for system in systems))
    for method in BASELINES if wanted is None else [wanted]:
        found = list(dict.fromkeys(s.method for s in systems if s.called(method)))
        if method in found or len(found) == 1:
            return method if method in found else found[0]
    if wanted is None:
        return None
    raise unknown("method among these runs", wanted, names)
