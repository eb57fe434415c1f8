"""hyperlect report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import HyperlectError, unknown
from .shared import libraries, out, run_folder

_RECORD = "experiment.json"


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN", help="A run folder, several, or an experiment's.", show_default=False
        ),
    ],
    page: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="PATH",
            help="The HTML file to write; with tables of several systems, the folder. "
            "[dim]default: report.html in the run folder; for several runs, comparison.html in "
            "the first; an experiment's own folder[/]",
            show_default=False,
        ),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            "--baseline",
            metavar="METHOD",
            help="Test the others against this one (paired bootstrap).",
            show_default=False,
        ),
    ] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            metavar="NAME",
            help="html, markdown, csv, latex or json; may be repeated. [dim]default: all for an "
            "experiment, the page for runs[/]",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write one HTML page about a run, or tables and plots of how several compare.

    The runs must have been evaluated. Runs that differ only in the seed are one
    system: its scores are means with their spread. The page needs no network.

    \b
    Examples:
      hyperlect report runs/mine
      hyperlect report runs/mine runs/baseline --out comparison.html
      hyperlect report runs/my-experiment --baseline adapters
      hyperlect report runs/a runs/b --format latex --out tables
    """
    experiment = len(runs) == 1 and (runs[0] / _RECORD).is_file()
    if not experiment and not formats and baseline is None:
        _page(runs, page)
        return
    if not experiment and len(runs) == 1:
        raise HyperlectError(
            f"{runs[0]} is a single run: --baseline and --format compare several, or an experiment."
        )
    if page is not None and page.is_file():
        raise HyperlectError(f"{page} is a file. Name a folder for the tables with --out.")
    folders = runs if experiment else [run_folder(run) for run in runs]
    with libraries():
        from ..report import FORMATS, write_comparison
    for name in formats or ():
        if name not in FORMATS:
            raise unknown("format", name, FORMATS)
    for written in write_comparison(folders, page, formats or FORMATS, baseline):
        out().print(f"Wrote {written}", markup=False)


def _page(runs: list[Path], page: Path | None) -> None:
    """Write the page about one run, or several one after the other."""
    if page is not None and page.is_dir():
        raise HyperlectError(f"{page} is a folder. Name a file: --out {page / 'report.html'}")
    folders = [run_folder(run) for run in runs]
    with libraries():
        from ..report import write_report
    written = write_report(folders, page)
    out().print(f"Wrote {written}; open it in a browser.", markup=False)
