"""hyperlect report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import HyperlectError, unknown
from ..run_folder import EXPERIMENT, require_run
from . import libraries, out


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN")],
    page: Annotated[Path | None, typer.Option("--out", metavar="PATH")] = None,
    baseline: Annotated[str | None, typer.Option(metavar="METHOD")] = None,
    formats: Annotated[list[str], typer.Option("--format", metavar="NAME")] = [],  # noqa: B006
) -> None:
    """Write one HTML page about a run, or tables and plots that compare several.

    The runs must have been evaluated. Runs that differ only in the seed are one
    system: its scores are means with their spread. The page needs no network.

    \b
    Examples:
      hyperlect report runs/mine
      hyperlect report runs/mine runs/baseline --out comparison.html
      hyperlect report runs/my-experiment --baseline adapters
      hyperlect report runs/a runs/b --format latex --out tables

    Args:
        runs: A run folder, several, or an experiment's; or the id of a model on the hub.
        page: The HTML file to write; for tables of several systems, the folder. Default:
            report.html in the run folder; for several runs, comparison.html in the first; an
            experiment's own folder.
        baseline: Test the others against this one, with three seeds or more.
        formats: html, markdown, csv, latex or json; repeatable. Default: all for an experiment,
            the page for runs.
    """
    is_experiment = len(runs) == 1 and (runs[0] / EXPERIMENT).is_file()
    tables = is_experiment or formats or baseline is not None
    if tables and not is_experiment and len(runs) == 1:
        raise HyperlectError(f"{runs[0]} is a single run; --baseline and --format compare several.")
    if page is not None and (page.is_file() if tables else page.is_dir()):
        wanted = "a folder for the tables" if tables else f"a file: --out {page / 'report.html'}"
        raise HyperlectError(f"{page} is a {'file' if tables else 'folder'}. Name {wanted}")
    folders = runs if is_experiment else [require_run(run) for run in runs]
    if page is None and folders[0] != runs[0]:
        raise HyperlectError(f"{runs[0]} is on the hub. Name the file to write with --out.")
    with libraries():
        from ..report import FORMATS, write_comparison, write_report
    if not tables:
        path = write_report(folders, page)
        out().print(f"Wrote {path}; open it in a browser.", markup=False)
        return
    for name in formats:
        if name not in FORMATS:
            raise unknown("format", name, FORMATS)
    for path in write_comparison(folders, page, formats or FORMATS, baseline):
        out().print(f"Wrote {path}", markup=False)
