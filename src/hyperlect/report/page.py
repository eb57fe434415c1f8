"""The page: sections put together from tables and drawings, and written to one file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from string import Template

from ..errors import RunError
from .comparison import labels
from .data import Run, read_run
from .marks import symbols
from .markup import Html, join, tag
from .scales import Scale, colour_rules, scale_of
from .sections import facts, run_sections
from .side_by_side import comparison_sections


def write_report(runs: Sequence[Path], out: Path | None = None) -> Path:
    """Write one self-contained HTML page about a run, or about several and how they compare.

    Args:
        runs: run folders, each with a `results.json`.
        out: the file to write. By default `report.html` in the run folder; of several runs
            `comparison.html` in the first one's, which leaves its own report alone.

    Returns:
        The path of the page.

    Raises:
        RunError: a folder that is no run or has no results, or a file of it that is malformed.
    """
    if not runs:
        raise RunError("There is no run to report. Name at least one run folder.")
    read = [read_run(Path(folder)) for folder in runs]
    if out is None:
        out = read[0].folder / ("report.html" if len(read) == 1 else "comparison.html")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(render(read), encoding="utf-8")
    return out


def render(runs: Sequence[Run]) -> str:
    """Return the page about `runs` as text."""
    cells = [cell for run in runs for cell in run.results.cells]
    scales = {perplexity: scale_of(cells, perplexity) for perplexity in (False, True)}
    if len(runs) == 1:
        title, body = runs[0].results.name, _one(runs[0], scales)
    else:
        title, body = f"Comparison of {len(runs)} runs", _several(runs, scales)
    return page(title, body)


def page(title: str, body: Html) -> str:
    """Return a whole page."""
    files = resources.files(__package__)
    style = (files / "style.css").read_text(encoding="utf-8")
    return Template((files / "page.html").read_text(encoding="utf-8")).substitute(
        title=tag("title", f"{title}: hyperlect report"),
        style=f"{style}\n{colour_rules()}",
        symbols=symbols(),
        header=tag("header", tag("p", "hyperlect report", class_="brand"), tag("h1", title)),
        body=body,
    )


def _one(run: Run, scales: Mapping[bool, Scale]) -> Html:
    sections = run_sections(run, scales, "r1")
    contents = contents_list([(section.id, section.title) for section in sections])
    return join([facts(run), contents, *(section.render(2) for section in sections)], "\n")


def _several(runs: Sequence[Run], scales: Mapping[bool, Scale]) -> Html:
    names = labels(runs)
    sections = comparison_sections(runs, names, scales)
    parts = [section.render(2) for section in sections]
    links = [(section.id, section.title) for section in sections]
    for number, (run, label) in enumerate(zip(runs, names, strict=True), start=1):
        id_ = f"r{number}"
        links.append((id_, label))
        heading = tag("h2", label, id=f"{id_}-heading")
        inner = [section.render(3) for section in run_sections(run, scales, id_)]
        parts.append(
            tag("article", heading, facts(run), *inner, id=id_, aria_labelledby=f"{id_}-heading")
        )
    return join([contents_list(links), *parts], "\n")


def contents_list(links: Sequence[tuple[str, str]]) -> Html:
    """Return links to the parts of a page."""
    items = (tag("li", tag("a", title, href=f"#{id_}")) for id_, title in links)
    return tag("nav", tag("ul", *items), aria_label="Contents")
