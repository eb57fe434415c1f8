"""The picture of all rows that have a goal: where each ratio lies, and where it may lie.

Ratios with a goal near one, and those whose goal is a multiple or a fraction, have two axes. On one
axis the former would all look alike, or the latter would not fit.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

INK, MUTED, RULE, ALLOWED = "#1b2733", "#66727f", "#c9d1d9", "#d9ecdf"
MET, MISSED = "#1a6b8f", "#c2410c"
WIDTH, LEFT, RIGHT = 9.6, 4.7, 1.5  # inches, as all below
ROW, HEAD, GAP, FOOT = 0.5, 0.62, 0.42, 0.16
TITLES = ("Goals near 1", "Goals far from 1")
Rows = Sequence[Mapping[str, Any]]


def draw(rows: Rows, path: Path) -> None:
    """Draw the rows of results that have a goal, one a line."""
    rows = [row for row in rows if row["goal"]]
    about_one = [row for row in rows if 0.9 <= goal(row) <= 1.5]
    others = [row for row in rows if row not in about_one]
    panels = [(t, p) for t, p in zip(TITLES, (about_one, others), strict=True) if p]
    height = sum(HEAD + ROW * len(panel) for _, panel in panels) + GAP * len(panels) + FOOT
    figure = Figure(figsize=(WIDTH, height), facecolor="white")
    top = height
    for title, panel in panels:
        tall = ROW * len(panel)
        bottom = top - HEAD - tall
        place = (LEFT / WIDTH, bottom / height, (WIDTH - LEFT - RIGHT) / WIDTH, tall / height)
        _panel(figure.add_axes(place), title, panel, logarithmic=panel is others)
        top = bottom - GAP
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=160, metadata={"Software": None})


def goal(row: Mapping[str, Any]) -> float:
    """Return the number of a row's goal."""
    return float(row["goal"].split()[1])


def bounds(row: Mapping[str, Any], low: float, high: float) -> tuple[float, float]:
    """Return where a ratio may lie: from one end of the axis to the goal."""
    return (low, goal(row)) if row["goal"].startswith("≤") else (goal(row), high)


def _panel(axes: Axes, title: str, rows: Rows, logarithmic: bool) -> None:
    ends = _scale(axes, rows, logarithmic)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks([])
    axes.tick_params(axis="x", which="both", length=0, labelsize=8.5, labelcolor=MUTED)
    axes.grid(axis="x", which="major", color=RULE, linewidth=0.5, zorder=0)
    axes.axvline(1, color=INK, linewidth=1, zorder=1)
    for spine in axes.spines.values():
        spine.set_visible(False)
    transform = axes.get_yaxis_transform()
    shown = {"transform": transform, "va": "center", "parse_math": False}
    axes.text(-0.03, -0.8, title, fontsize=10, color=INK, weight="bold", ha="right", **shown)
    for x, text in ((1.05, "ratio"), (1.23, "goal")):
        axes.text(x, -0.8, text, fontsize=8.5, color=MUTED, **shown)
    for place, row in enumerate(rows):
        _row(axes, place, row, ends)


def _scale(axes: Axes, rows: Rows, logarithmic: bool) -> tuple[float, float]:
    values = [x for r in rows for x in (r["ratio"], goal(r), *r["details"].get("quartiles", ()))]
    if logarithmic:
        low, high = min(*values, 1) / 1.5, max(*values, 1) * 1.5
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        low, high = min(*values, 0.9) - 0.05, max(*values, 1.2) + 0.05
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlim(low, high)
    return low, high


def _row(axes: Axes, place: int, row: Mapping[str, Any], ends: tuple[float, float]) -> None:
    start, end = bounds(row, *ends)
    axes.barh(place, end - start, left=start, height=0.62, color=ALLOWED, zorder=0.5)
    colour = MET if row["met"] else MISSED
    quartiles = row["details"].get("quartiles")
    if quartiles:
        axes.plot(quartiles, [place, place], color=colour, linewidth=2.4, zorder=2)
    marker = "o" if row["met"] else "D"
    axes.plot(row["ratio"], place, marker, color=colour, markersize=6.5, zorder=3)
    transform = axes.get_yaxis_transform()
    measure = textwrap.shorten(row["measure"], 70, placeholder=" …")
    against = textwrap.shorten(row["against"], 84, placeholder=" …")
    shown = {"transform": transform, "va": "center", "parse_math": False}
    axes.text(-0.03, place - 0.18, measure, fontsize=9, color=INK, ha="right", **shown)
    axes.text(-0.03, place + 0.2, f"to {against}", fontsize=7.2, color=MUTED, ha="right", **shown)
    text = f"{row['ratio']:.1f}" if row["ratio"] >= 10 else f"{row['ratio']:.2f}"
    axes.text(1.05, place, text, fontsize=9.5, color=colour, weight="bold", **shown)
    axes.text(1.23, place, row["goal"], fontsize=9, color=MUTED, **shown)
