"""The plots of the page: scores by kind, learning and few-shot curves, differences of adapters.

They are matplotlib figures, sized in CSS pixels, as SVG that lives in the page: in its fonts, its
colours and its dark scheme. The colours below are stand-ins that become the page's custom
properties, so that one drawing serves light pages, dark pages and paper.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.markers import MarkerStyle
from matplotlib.path import Path as Outline
from matplotlib.ticker import LogLocator, MaxNLocator, MultipleLocator, PercentFormatter
from matplotlib.transforms import blended_transform_factory
from numpy.typing import NDArray

from ..errors import counted
from ..evaluation.results import CellResult, is_perplexity
from ..grid import Kind
from .compare import Row
from .data import SELECTION, Curves, Differences

LEVELS = 17
"""Of colour; the style sheet has a class for each, from worse to better."""
_ROUND = [step * 10.0**decade for decade in range(16) for step in (1, 2, 5)]


@dataclass(frozen=True)
class Scale:
    """A range of scores; `perplexity` makes it logarithmic with the low end the better one."""

    low: float
    high: float
    perplexity: bool = False

    @classmethod
    def around(cls, scores: Iterable[float], perplexity: bool = False) -> Scale:
        """Return the scale that holds all `scores`, with round ends."""
        finite = [score for score in scores if math.isfinite(score)]
        if perplexity:
            least, most = max(min(finite, default=1), 1), max(max(finite, default=100), 2)
            low = max(value for value in _ROUND if value <= least * (1 + 1e-9))
            high = min((value for value in _ROUND if value >= most * (1 - 1e-9)), default=most)
            return cls(low, high if high > low else low * 10, perplexity=True)
        high = max(math.ceil(max(finite, default=100) / 10) * 10, 20)
        return cls(min(math.floor(min(finite, default=0) / 10) * 10, high - 20), high)

    def place(self, score: float) -> float:
        """Where a score lies, from 0 at the worse end to 1 at the better one."""
        if self.perplexity:
            return math.log(self.high / max(score, self.low)) / math.log(self.high / self.low)
        return (score - self.low) / (self.high - self.low)

    def colour_class(self, score: float) -> str:
        """The CSS class of a score's colour: ``q`` for percentages, ``p`` for perplexities."""
        level = min(max(int(self.place(score) * LEVELS), 0), LEVELS - 1)
        return f"{'p' if self.perplexity else 'q'}{level}"

    def set_axis(self, axes: Axes) -> None:
        """Make it the horizontal axis of a plot, with a handful of round numbers."""
        if self.perplexity:
            axes.set_xscale("log", subs=[])
            steps = (1, 2, 5) if self.high / self.low < 200 else (1,)
            axes.xaxis.set_major_locator(LogLocator(subs=steps, numticks=99))
            axes.xaxis.set_major_formatter("{x:g}")
        else:
            axes.xaxis.set_major_locator(MultipleLocator(10 if self.high - self.low <= 50 else 20))
        axes.set_xlim(self.low, self.high)


def figure_text(score: float | None, digits: int = 1) -> str:
    """Write a score with `digits` decimals, one less from 100 on; a dash where there is none."""
    if score is None or math.isnan(score):
        return "–"
    if math.isinf(score):
        return "∞" if score > 0 else "−∞"
    if score >= 1e5:
        return f"{score:.1e}".replace("e+0", "e").replace("e+", "e")
    decimals = digits if abs(round(score, digits)) < 100 else digits - 1
    return f"{score:.{decimals}f}".replace("-", "−")


def counts_text(counts: Iterable[int], noun: str) -> str:
    """Write one number of things, or the least and the most: ``1 seed``, ``1 to 3 seeds``."""
    numbers = sorted(counts) or [0]
    least = "" if numbers[0] == numbers[-1] else f"{numbers[0]:,} to "
    return least + counted(numbers[-1], noun)


_STYLE = Path(__file__).with_name("plots.mplstyle")
STYLE = matplotlib.rc_params_from_file(_STYLE, use_default_template=False)
INK, MUTED, RULE, PAPER, ACCENT, WARM = (f"#0{n}0{n}0{n}" for n in range(1, 7))
LINES = [f"#1{n}1{n}1{n}" for n in range(1, 9)]
_NAMES = ("ink", "muted", "rule", "paper", "accent", "warm", *(f"line-{n}" for n in range(1, 9)))
_PROPERTIES = dict(zip((INK, MUTED, RULE, PAPER, ACCENT, WARM, *LINES), _NAMES, strict=True))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_WEDGES = dict(zip(Kind, ((0, 360), (90, 270), (0, 90), None), strict=True))
"""Which part of its disc is full, in degrees: the kinds are told apart without colour."""
_WIDTH = 340


@matplotlib.rc_context(STYLE)
def draw_scores(rows: Sequence[Row], prefix: str, scale: Scale | None = None) -> Markup:
    """Draw scores by kind, a panel each: dots, a mark for their mean, and its figure.

    A dot is a seed, or a cell where no system has several seeds.

    Args:
        rows: of one task, each with a score, in the order of kinds; of one run also of strata.
        prefix: put before every id, since several drawings share one page.
        scale: of the scores, for one run, of which the lowest and the highest language are named;
            without, systems are named, and their scores have a scale of their own.
    """
    dot = "seed" if any(row.seeds > 1 for row in rows) else "cell"
    dots = {row: row.by_seed if dot == "seed" else row.by_cell for row in rows}
    perplexity = is_perplexity(rows[0].metric)
    axis = scale or Scale.around((x for scores in dots.values() for x in scores), perplexity)
    kinds = [list(of_kind) for _, of_kind in groupby(rows, key=lambda row: row.kinds[0])]
    if scale:  # a single stratum is the whole kind
        kinds = [of_kind if len(of_kind) > 2 else of_kind[:1] for of_kind in kinds]
    lines = sum(map(len, kinds))
    figure = empty_figure(_WIDTH, 22 * lines + 27 * len(kinds) + 16)
    sizes = [len(of_kind) for of_kind in kinds]
    panels = figure.subplots(len(kinds), sharex=True, squeeze=False, height_ratios=sizes)
    for axes, of_kind in zip(panels[:, 0], kinds, strict=True):
        kind = of_kind[0].kinds[0]
        counts = counts_text([len(dots[row]) for row in of_kind if not row.stratum], dot)
        axes.set_title(" ")  # room for a title from the edge of the figure on, above the names too
        place = blended_transform_factory(figure.transFigure, axes.transAxes)
        title: dict[str, Any] = {"size": 11.5, "textcoords": "offset points", "in_layout": False}
        axes.annotate(f"{kind.mark} {kind} · {counts}", (0, 1), (0, 4), place, **title)
        names = [_tick(row, single=scale is not None) for row in of_kind]
        axes.set(ylim=(len(of_kind) - 0.5, -0.5))
        axes.set_yticks(range(len(of_kind)), names)
        axes.grid()
        axis.set_axis(axes)
        means = np.array([row.mean for row in of_kind], dtype=float)
        draw_mark(axes, means, np.arange(len(of_kind)), 6, kind, INK)
        for y, row in enumerate(of_kind):
            look = {"color": WARM if perplexity else ACCENT, "alpha": 0.32, "linewidths": 0}
            axes.scatter(dots[row], [y] * len(dots[row]), s=30, **look)
            at: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center"}
            axes.text(1.05, y, figure_text(row.mean), size=13, weight="bold", **at)
            named = sorted(zip(row.by_cell, row.languages, strict=True))
            apart = abs(axis.place(named[0][0]) - axis.place(named[-1][0])) > 0.1
            for score, code in (named[0], named[-1]) if scale and apart else ():
                below: dict[str, Any] = {"textcoords": "offset points", "ha": "center"}
                axes.annotate(code, (score, y), (0, -12), size=9.5, color=MUTED, **below)
    texts = (
        f"{'' if scale else f'{row.method}, '}{row.kinds[0]}{row.stratum and ', '}{row.stratum}: "
        f"mean {figure_text(row.mean)} over {counted(len(dots[row]), dot)}"
        for of_kind in kinds
        for row in of_kind
    )
    return to_svg(figure, prefix, f"{rows[0].task}: scores by kind", f"{'; '.join(texts)}.")


def _tick(row: Row, single: bool) -> str:
    """Name a line of scores: the system, or of a single one the stratum."""
    if single:
        return f"{row.stratum.replace(' to the encoder', '')} ({row.cells})" if row.stratum else ""
    return row.method if len(row.method) < 23 else f"{row.method[:21]}…"


@matplotlib.rc_context(STYLE)
def draw_expected(cells: Sequence[CellResult], prefix: str, scale: Scale) -> Markup:
    """Draw what came true over what was expected, each cell with its range; on the line is right.

    Args:
        cells: of one task, each with a score and an expectation.
        prefix: put before every id.
        scale: of the scores, for both axes.
    """
    figure = empty_figure(_WIDTH, _WIDTH)
    axes = figure.subplots()
    axes.grid()
    expected = np.array([[c.expected.score, c.expected.low, c.expected.high, c.value]
                         for c in cells if c.expected])  # fmt: skip
    middle, low, high, score = expected.T
    axes.plot([scale.low, scale.high], [scale.low, scale.high], color=MUTED, linewidth=1)
    axes.hlines(score, low, high, color=ACCENT, linewidth=1, alpha=0.4)
    for kind in Kind:
        of_kind = np.array([cell.kind is kind for cell in cells])
        if of_kind.any():
            draw_mark(axes, middle[of_kind], score[of_kind], 4, kind, ACCENT)
    scale.set_axis(axes)
    axes.set_ylim(axes.get_xlim())
    axes.yaxis.set_major_locator(axes.xaxis.get_major_locator())
    axes.set(xlabel="expected, and its range", ylabel="true")
    inside = sum(cell.as_expected for cell in cells)
    text = f"{inside} of {counted(len(cells), 'cell')} lie in their range; the expected score is "
    text += f"{figure_text(np.abs(middle - score).mean())} points off on average."
    return to_svg(figure, prefix, f"{cells[0].task}: expected and true scores", text)


@matplotlib.rc_context(STYLE)
def draw_training(curves: Curves, title: str, prefix: str) -> Markup:
    """Draw values over the steps of training, long curves as means in a band of their extremes."""
    points = curves.points[title]
    table = pd.DataFrame({"step": points.keys(), "value": points.values()}, dtype=float)
    shown = min(len(table), 120)
    neighbours = table.groupby(np.arange(len(table)) * shown // len(table))
    steps, band = neighbours["step"].mean(), neighbours["value"].agg(["mean", "min", "max"])
    figure, axes = _plot(190)
    if shown < len(table):
        axes.fill_between(steps, band["min"], band["max"], color=ACCENT, alpha=0.18, linewidth=0)
    marker = "o" if shown <= 40 else ""
    axes.plot(steps, band["mean"], color=ACCENT, linewidth=1.6, marker=marker, markersize=3.2)
    first, last = min(points), max(points)
    axes.set_xlim(0, max(last, 1))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    text = f"{points[first]:.3g} at step {first}, {points[last]:.3g} at step {last}"
    step = curves.best_step
    if title == SELECTION and step is not None and step in points:
        best = points[step]
        ring: dict[str, Any] = {"facecolors": "none", "edgecolors": INK, "clip_on": False}
        axes.scatter([step], [best], s=70, linewidths=1.3, zorder=5, **ring)
        axes.set_title(f"best {best:.1f}, step {step:,}", loc="right", weight="bold")
        text += f"; best {best:.3g} at step {step}"
    return to_svg(figure, prefix, title, f"{text}.")


@matplotlib.rc_context(STYLE)
def draw_few_shot(rows: Sequence[Row], methods: Sequence[str], prefix: str) -> Markup:
    """Draw scores against labelled examples, a line a system, whiskers for the spread.

    Without labelled examples stands a hollow mark, apart from the logarithmic axis.

    Args:
        rows: of one task of a curve.
        methods: all systems of the curve, which keep their colours in every task.
        prefix: put before every id.
    """
    lines = {m: of_m for m in methods if (of_m := [row for row in rows if row.method == m])}
    columns = max(1, int(_WIDTH / (36 + 6.4 * max(map(len, lines)))))
    figure, axes = _plot(250 + 17 * math.ceil(len(lines) / columns), "labelled examples")
    numbers = sorted({row.labelled or 0 for row in rows})
    first = next(filter(None, numbers), 1)
    axes.set_xscale("symlog", linthresh=first, linscale=0.36)  # logarithmic, but with a 0
    most = math.inf if is_perplexity(rows[0].metric) else 100
    for method, of_method in lines.items():
        number = list(methods).index(method)
        points = [(row.labelled or 0, row.mean, row.std or 0) for row in of_method]
        x, y, spread = np.array(points, dtype=float).T
        whiskers = np.minimum([spread, spread], [y, most - y])
        aside = (number - (len(methods) - 1) / 2) * 0.02  # beside the marks of others, not on them
        labelled = x > 0
        x = np.where(labelled, x * 10**aside, first * aside / 0.4)
        shape = _MARKERS[number % len(_MARKERS)]
        colour = LINES[number % len(LINES)]
        look: dict[str, Any] = {"color": colour, "marker": shape, "markersize": 5}
        hollow: dict[str, Any] = {"markerfacecolor": PAPER, "linestyle": ":", "linewidth": 1}
        axes.errorbar(x, y, whiskers, elinewidth=0.8, zorder=1, **hollow, **look)
        axes.plot(x[labelled], y[labelled], linewidth=1.6, label=method, **look)
    apart = (numbers[-1] / first) ** (1 / 12)
    ticks = numbers[:1]
    for n in numbers:  # as far as there is room
        if n > ticks[-1] * apart:
            ticks.append(n)
    axes.set_xticks(ticks, [f"{n:,}" for n in ticks])
    axes.set_xlim(numbers[0] * 0.6 or -0.5 * first, numbers[-1] * 1.6)
    figure.legend(loc="outside upper left", ncols=columns)
    title = f"{rows[0].task}, {rows[0].metric}, against the number of labelled examples"
    texts = (
        f"{m}: {', '.join(f'{figure_text(row.mean)} with {row.labelled}' for row in of_m)}"
        for m, of_m in lines.items()
    )
    return to_svg(figure, prefix, title, f"{'; '.join(texts)}.")


@matplotlib.rc_context(STYLE)
def draw_differences(differences: Differences, task: str, prefix: str) -> Markup:
    """Draw how far the adapters of a task's cells are from others, layer by layer.

    The vertical axis is the same for all tasks, and starts at 0.
    """
    series = differences.of_task(task)
    figure, axes = _plot(230, "layer, from the input")
    for number, (other, (low, middle, high)) in enumerate(series.items()):
        layers = np.arange(1, len(middle) + 1)
        axes.fill_between(layers, low, high, color=LINES[number], alpha=0.16, linewidth=0)
        look: dict[str, Any] = {"marker": _MARKERS[number], "markersize": 4.5, "linewidth": 1.6}
        axes.plot(layers, middle, color=LINES[number], label=other.removeprefix("the "), **look)
    axes.set(xlim=(0.7, len(layers) + 0.3), ylim=(0, differences.largest))
    axes.xaxis.set_major_locator(MaxNLocator(12, integer=True))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    figure.legend(loc="outside upper left", ncols=len(series), fontsize=10)
    means = (f"{name} {spread[1].mean():.0%}" for name, spread in series.items())
    return to_svg(figure, prefix, f"{task}: differences by layer", f"{', '.join(means)}.")


def empty_figure(width: float, height: float) -> Figure:
    """Return an empty figure in pixels."""
    return Figure(figsize=(width / 72, height / 72), dpi=72, layout="constrained")


def _plot(height: float, x_label: str = "") -> tuple[Figure, Axes]:
    """Return a figure with one plot of values, which has a handful of round numbers upwards."""
    figure = empty_figure(_WIDTH, height)
    axes = figure.subplots()
    axes.grid(axis="y")
    axes.set_xlabel(x_label)
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    return figure, axes


def draw_mark(
    axes: Axes, x: NDArray[Any], y: NDArray[Any], radius: float, kind: Kind, colour: str
) -> None:
    """Draw the mark of a kind at points."""
    size = (2 * radius) ** 2  # matplotlib measures markers by the area of the square around them
    axes.scatter(x, y, size, facecolors=PAPER, edgecolors=colour, linewidths=1.3, zorder=4)
    if wedge := _WEDGES[kind]:
        marker = MarkerStyle(Outline.wedge(*wedge))
        axes.scatter(x, y, size, marker=marker, color=colour, linewidths=0, zorder=5)


def to_svg(figure: Figure, prefix: str, title: str, text: str) -> Markup:
    """Render a figure for inlining; what the page has itself is left out.

    Args:
        figure: what to render.
        prefix: put before every id.
        title, text: what the drawing shows, for those who do not see it.
    """
    drawing = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": prefix}):
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(drawing, format="svg", metadata=nothing)
    needless = r"^.*?<svg[^>]*>|</svg>|<!--.*?-->|<(metadata|style|clipPath)\b.*?</\1>"
    body = re.sub(needless, "", drawing.getvalue(), flags=re.DOTALL)
    body = re.sub(r">\s+<", "><", body).strip()
    body = re.sub(r"<[^>]+>", lambda tag: _fitted(tag[0], prefix), body)
    width, height = (round(side * 72) for side in figure.get_size_inches())
    return Markup(
        '<svg role="img" aria-labelledby="{0}-title {0}-desc" viewBox="0 0 {1} {2}" '
        'style="max-width:{3:.0f}px"><title id="{0}-title">{4}</title>'
        '<desc id="{0}-desc">{5}</desc>{6}</svg>'
    ).format(prefix, width, height, width * 1.15, title, text, Markup(body))


def _fitted(tag: str, prefix: str) -> str:
    """Fit a tag to the page; text between tags is never touched."""
    needless = r' clip-path="[^"]*"|(?<=^<g) id="[^"]*"| transform="rotate\(-0[^"]*"|xlink:'
    tag = re.sub(rf"{needless}|(?<=\.\d\d)\d+", "", tag)
    tag = re.sub(r' id="| href="#', rf"\g<0>{prefix}-", tag).replace("\n", " ")
    for stand_in, variable in _PROPERTIES.items():
        tag = tag.replace(stand_in, f"var(--{variable})")
    return tag
