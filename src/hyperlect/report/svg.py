"""matplotlib figures as SVG that lives in the page: its fonts, its colours, its dark scheme.

Figures are sized in CSS pixels. The colours below are stand-ins that become the page's custom
properties, so that one drawing serves light pages, dark pages and paper.
"""

from __future__ import annotations

import io
import re
from typing import Any, Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .markup import Html, tag

INK, MUTED, RULE, PAPER, ACCENT, WARM = (f"#0{n}0{n}0{n}" for n in range(1, 7))
LINES = tuple(f"#1{n}1{n}1{n}" for n in range(1, 9))
"""The colours of lines that stand in one plot; markers of different shapes tell them apart too."""
_PROPERTIES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    RULE: "var(--rule)",
    PAPER: "var(--paper)",
    ACCENT: "var(--accent)",
    WARM: "var(--warm)",
    **{stand_in: f"var(--line-{n})" for n, stand_in in enumerate(LINES, start=1)},
}
_POINTS_PER_INCH = 72  # matplotlib writes SVG in points; one point is shown as one CSS pixel

# What matplotlib writes and the page does without: the page has its own fonts, nothing here is
# clipped, and every byte counts on a phone.
_NEEDLESS = re.compile(
    r"<!--.*?-->|<(metadata|style|clipPath)\b.*?</\1>|<defs>\s*</defs>",
    re.S,
)
_IN_TAGS = [
    (re.compile(r' clip-path="[^"]*"| transform="rotate\(-0 [^"]*"'), ""),
    (re.compile(r'^<g id="[^"]*"'), "<g"),
    (re.compile(r" ?font-family: [^;\"]*;?"), ""),
    (re.compile(r"font: (?:(\d+) )?([\d.]+px) [^;\"]*"), r"font-weight: \1; font-size: \2"),
    (re.compile(r"(\.\d\d)\d+"), r"\1"),
    (re.compile(r"xlink:href"), "href"),
    (re.compile(r" ?\n"), " "),
]


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """A bare figure whose coordinates are pixels from the upper left corner."""
    figure = Figure(figsize=(width / _POINTS_PER_INCH, height / _POINTS_PER_INCH))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.axis("off")
    return figure, axes


def write(
    axes: Axes,
    at: tuple[float, float],
    text: str,
    size: float = 11,
    colour: str = INK,
    align: Literal["left", "center", "right"] = "left",
    **options: Any,
) -> None:
    """Put text into a canvas, centred on the height of `at`, with no character read as TeX."""
    options = {"verticalalignment": "center", "parse_math": False, **options}
    axes.text(*at, text, fontsize=size, color=colour, horizontalalignment=align, **options)


def to_svg(figure: Figure, prefix: str, description: str, class_: str | None = None) -> Html:
    """Render a figure for inlining.

    Args:
        figure: what to render.
        prefix: put before every id, since several drawings share one page.
        description: what the drawing shows, for those who do not see it.
        class_: the element's CSS class.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": prefix}):
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    body = text[text.index(">", text.index("<svg")) + 1 : text.rindex("</svg>")]
    body = _NEEDLESS.sub("", body)
    body = re.sub(r"<[^>]+>", lambda found: _clean(found.group(), prefix), body)
    width, height = (round(side * _POINTS_PER_INCH) for side in figure.get_size_inches())
    return tag(
        "svg",
        tag("title", description, id=f"{prefix}-title"),
        Html(re.sub(r"\s*\n\s*", "\n", body)),
        viewBox=f"0 0 {width} {height}",
        role="img",
        aria_labelledby=f"{prefix}-title",
        class_=class_,
        style=f"max-width:{width * 1.15:.0f}px",
    )


def _clean(element: str, prefix: str) -> str:
    """Fit one tag to the page; text between tags is never touched."""
    for pattern, replacement in _IN_TAGS:
        element = pattern.sub(replacement, element)
    element = re.sub(r' (id|href)="(#?)', rf' \1="\2{prefix}-', element)
    for stand_in, prop in _PROPERTIES.items():
        element = element.replace(stand_in, prop)
    return element
