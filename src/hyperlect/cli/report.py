"""hyperlect report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import HyperlectError
from .shared import libraries, out, run_folder


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN", help="One run folder, or several.", show_default=False),
    ],
    page: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="The HTML file to write. [dim]default: report.html in the run folder; for "
            "several, comparison.html in the first[/]",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write one HTML page about a run, or about several side by side.

    The runs must have been evaluated. The page needs no network, no other file.

    \b
    Examples:
      hyperlect report runs/mine
      hyperlect report runs/mine runs/baseline --out comparison.html
    """
    if page is not None and page.is_dir():
        raise HyperlectError(f"{page} is a folder. Name a file: --out {page / 'report.html'}")
    folders = [run_folder(run) for run in runs]
    with libraries():
        from ..report import write_report
    written = write_report(folders, page)
    out().print(f"Wrote {written}; open it in a browser.", markup=False)
