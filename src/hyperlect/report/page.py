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
from .data import ADDED, Run, Systems, gather_runs, read_run, read_systems, run_names
from .language_map import PERMUTATIONS, describe_languages, draw_map, nearest
from .plots import LEVELS, Scale
from .tables import Chapter, as_csv, as_json, as_latex, as_markdown, chapters_of, render

FILES: dict[str, tuple[str, Callable[[Systems, list[Chapter]], str]]] = {
    "html": ("report.html", lambda s, chapters: _render(s.name, runs=[], chapters=chapters)),
    "markdown": ("report.md", lambda systems, chapters: as_markdown(systems.name, chapters)),
    "csv": ("cells.csv", lambda systems, _: as_csv(systems.cells)),
    "latex": ("tables.tex", lambda _, chapters: as_latex(chapters)),
    "json": ("summary.json", lambda _, chapters: as_json(chapters)),
}
"""The name of each format's file, and what writes its text."""
FORMATS = tuple(FILES)


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
    perplexity = cells["metric"].map(is_perplexity)
    scales = {of: Scale.around(cells.loc[perplexity == of, "score"], of) for of in (False, True)}
    out = out or folders[0] / (REPORT if len(folders) == 1 else "comparison.html")
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
    paths = []
    for format_ in dict.fromkeys(formats):
        file, as_text = FILES[format_]
        paths.append((out or folders[0]) / file)
        write_text(paths[-1], as_text(systems, chapters))
    return paths


def _render(title: str, **content: object) -> str:
    """Return a whole page."""
    functions = (language_groups, describe_languages, draw_map, nearest)
    content |= {function.__name__: function for function in functions}
    content |= {"levels": LEVELS, "strata": [*map(str, STRATA)], "permutations": PERMUTATIONS}
    return render("page.html", title=title, plots=plots, added=ADDED, **content)


def language_groups(run: Run) -> dict[str, list[str]]:
    """Sort the languages by what training had of them, and by name within that."""
    cells: dict[str, list[CellResult]] = {}
    for cell in run.results.cells:
        cells.setdefault(cell.language, []).append(cell)
    groups: dict[str, list[str]] = {
        "Labelled data in training": [],
        "Raw text only in training": [],
        "Raw text in training": [],
        "No data in training": [],
    }
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
