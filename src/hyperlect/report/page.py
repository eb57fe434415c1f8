"""The page, and the files beside it: what is compared, put into templates and written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import RunError
from ..evaluation.results import CellResult, is_perplexity
from ..grid import STRATA, Kind
from ..languages import name
from ..run_folder import REPORT, write_text
from . import plots
from .compare import choose_baseline, summarise
from .data import ADDED, Run, gather_runs, read_run, read_systems, run_names
from .language_map import PERMUTATIONS, describe_languages, draw_map
from .plots import LEVELS, Scale
from .tables import as_csv, as_json, as_latex, as_markdown, chapters_of, render

FILES = {
    "html": "report.html",
    "markdown": "report.md",
    "csv": "cells.csv",
    "latex": "tables.tex",
    "json": "summary.json",
}
FORMATS = tuple(FILES)
_GROUPS = (
    "Labelled data in training",
    "Raw text only in training",
    "Raw text in training",
    "No data in training",
)


def write_report(runs: Sequence[Path], out: Path | None = None) -> Path:
    """Write one self-contained HTML page about a run, or about several and how they compare.

    Args:
        runs: run folders, each with results.
        out: the file to write. By default `report.html` in the run folder; of several runs
            `comparison.html` in the first one's, which leaves its own report alone.

    Returns:
        The path of the page.

    Raises:
        RunError: a folder is no run or has no results, a file of it is malformed, or the page
            cannot be written.
    """
    folders = list(dict.fromkeys(map(Path, runs)))
    if not folders:
        raise RunError("There is no run to report. Name at least one run folder.")
    runs_read = [read_run(folder) for folder in folders]
    names = run_names([(run.folder, run.results) for run in runs_read])
    title = names[0] if len(folders) == 1 else f"Comparison of {len(folders)} runs"
    systems = gather_runs(folders, by_seed=False)
    cells = systems.cells
    chapters = chapters_of(systems) if len(folders) > 1 else []
    views = [
        {"name": run_name, "run": run, "rows": summarise(cells[cells["method"] == run_name])[0]}
        for run_name, run in zip(names, runs_read, strict=True)
    ]
    scores: dict[bool, list[float]] = {False: [], True: []}
    for cell in (cell for run in runs_read for cell in run.results.cells):
        scores[is_perplexity(cell.metric)].append(cell.value)
    out = out or folders[0] / (REPORT if len(folders) == 1 else "comparison.html")
    scales = {of: Scale.around(values, of) for of, values in scores.items()}
    write_text(out, _render(title, runs=views, chapters=chapters, scales=scales))
    return out


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
        baseline: what the others are tested against, as `choose_baseline` takes it.

    Returns:
        The files written.

    Raises:
        RunError: nothing has results yet, a file of a run is malformed, or a file cannot be
            written.
        UnknownNameError: there is no such baseline.
    """
    folders = list(dict.fromkeys(folders))
    systems = read_systems(folders[0]) if len(folders) == 1 else gather_runs(folders)
    if systems.cells.empty:
        raise RunError(f"No run of {folders[0]} has results yet. Run it: hyperlect experiment")
    chapters = chapters_of(systems, choose_baseline(systems.cells, baseline))
    texts: dict[str, Callable[[], str]] = {
        "html": lambda: _render(systems.name, runs=[], chapters=chapters),
        "markdown": lambda: as_markdown(systems.name, chapters),
        "csv": lambda: as_csv(systems.cells),
        "latex": lambda: as_latex(chapters),
        "json": lambda: as_json(chapters),
    }
    paths = {name: (out or folders[0]) / FILES[name] for name in formats}
    for format_, path in paths.items():
        write_text(path, texts[format_]())
    return list(paths.values())


def _render(title: str, **content: object) -> str:
    """Return a whole page."""
    helpers = {
        "plots": plots,
        "levels": LEVELS,
        "strata": [*map(str, STRATA)],
        "language_groups": language_groups,
        "describe_languages": describe_languages,
        "draw_map": draw_map,
        "permutations": PERMUTATIONS,
        "added": ADDED,
    }
    return render("page.html", title=title, **helpers, **content)


def language_groups(run: Run) -> dict[str, list[str]]:
    """Sort the languages by what training had of them, and by name within that."""
    cells: dict[str, list[CellResult]] = {}
    for cell in run.results.cells:
        cells.setdefault(cell.language, []).append(cell)
    groups: dict[str, list[str]] = {heading: [] for heading in _GROUPS}
    for code in sorted(cells, key=name):
        kinds = {cell.kind for cell in cells[code]}
        sort = run.embeddings.kinds.get(code) if run.embeddings else None
        labelled, text_only, text, untouched = groups.values()
        perplexity = all(is_perplexity(cell.metric) for cell in cells[code])
        if Kind.UNTOUCHED in kinds:
            group = untouched
        elif Kind.TEXT_ONLY in kinds or sort == "text only":
            group = text_only
        elif perplexity and kinds == {Kind.SUPERVISED} and sort != "labelled":
            group = text  # though it may have had labels that this evaluation left out
        else:
            group = labelled
        group.append(code)
    return {heading: languages for heading, languages in groups.items() if languages}
