"""The picture of stored parameters against the number of languages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from .plot import INK, MET, MISSED, MUTED, RULE
from .sizes import LANGUAGES, Setting, count, stored_apart, title

TASKS = 4
SHOWN = ("mBERT", "builtin:e5-small")
# Method, whether there is a model for each task, label, colour, line.
LINES: tuple[tuple[str, bool, str, str, str], ...] = (
    ("hyperx", False, "hyperx", MET, "-"),
    ("task-hypernet", False, "task-hypernet", "#6a51a3", "--"),
    ("adapters", False, "adapters", "#3a7d44", "-"),
    ("mad-x", False, "mad-x", MISSED, "-"),
    ("finetune", False, "finetune", MUTED, "-"),
    ("finetune", True, f"{TASKS} × finetune", MUTED, ":"),
)
GAP = 0.2
"""The least distance of two labels, in powers of ten."""


def draw(settings: Mapping[str, Setting], path: Path) -> None:
    """Draw a panel for each of two encoders, both on one scale."""
    figure = Figure(figsize=(10.6, 4.3), facecolor="white")
    panels = figure.subplots(1, len(SHOWN), sharey=True)
    for axes, encoder in zip(panels, SHOWN, strict=True):
        _panel(axes, settings[encoder])
        axes.set_title(title(encoder), fontsize=10, color=INK, loc="left")
    panels[0].set_ylabel("parameters to store, millions", color=INK, fontsize=9)
    figure.subplots_adjust(left=0.08, right=0.88, wspace=0.36, bottom=0.12, top=0.92)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130, metadata={"Software": None})


def _panel(axes: Axes, setting: Setting) -> None:
    languages = np.unique(np.geomspace(LANGUAGES[0], LANGUAGES[-1], 60).round().astype(int))
    ends = {}
    for method, apart, label, colour, line in LINES:
        stored = [
            (stored_apart(*cell) if apart else count(*cell).stored) / 1e6
            for cell in ((setting, method, TASKS, int(n)) for n in languages)
        ]
        axes.loglog(languages, stored, line, color=colour, linewidth=1.8)
        ends[label] = stored[-1]
    colours = {label: colour for _, _, label, colour, _ in LINES}
    for label, place in spread(ends).items():
        shown = {"color": colours[label], "fontsize": 9, "va": "center"}
        axes.text(languages[-1] * 1.2, place, label, **shown)
    axes.set_xlim(LANGUAGES[0], LANGUAGES[-1])
    axes.set_ylim(1, 1e5)
    axes.set_xticks(LANGUAGES, [f"{n:,}" for n in LANGUAGES])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.tick_params(labelsize=8.5, labelcolor=MUTED, length=0, labelleft=True)
    axes.set_xlabel(f"languages N ({TASKS} tasks)", color=INK, fontsize=9)
    axes.grid(color=RULE, linewidth=0.5)
    for spine in axes.spines.values():
        spine.set_visible(False)


def spread(ends: Mapping[str, float]) -> dict[str, float]:
    """Return where labels stand beside the ends of their lines: in order, and apart.

    Lines that lie too close share the room around their middle.
    """
    groups: list[tuple[list[str], float]] = []  # labels from the lowest, and their middle
    for label, end in sorted(ends.items(), key=lambda item: item[1]):
        labels, middle = [label], float(np.log10(end))
        while groups and middle - groups[-1][1] < GAP * (len(labels) + len(groups[-1][0])) / 2:
            below, other = groups.pop()
            middle = (middle * len(labels) + other * len(below)) / (len(labels) + len(below))
            labels = below + labels
        groups.append((labels, middle))
    return {
        label: float(10 ** (middle + GAP * (rank - (len(labels) - 1) / 2)))
        for labels, middle in groups
        for rank, label in enumerate(labels)
    }
