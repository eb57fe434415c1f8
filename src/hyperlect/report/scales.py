"""From scores to places, colours and figures.

Percentages of all tasks and runs share one scale, so that a colour means the same wherever it
stands; perplexities have a logarithmic one of their own, on which lower is better.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import matplotlib

from ..evaluation.results import CellResult, is_perplexity

LEVELS = 17
_ROUND = (1.0, 2.0, 5.0)


@dataclass(frozen=True)
class Scale:
    """A range of scores; `perplexity` makes it logarithmic with the low end the better one."""

    low: float
    high: float
    perplexity: bool = False

    def place(self, score: float) -> float:
        """Where a score lies between the ends, 0 at `low` and 1 at `high`, kept within them."""
        if self.perplexity:
            share = math.log(max(score, self.low) / self.low) / math.log(self.high / self.low)
        else:
            share = (score - self.low) / (self.high - self.low)
        return min(max(share, 0.0), 1.0)

    def colour_class(self, score: float) -> str:
        """The CSS class of a score's colour: ``q`` for percentages, ``p`` for perplexities."""
        share = 1 - self.place(score) if self.perplexity else self.place(score)
        return f"{self.letter}{min(int(share * LEVELS), LEVELS - 1)}"

    @property
    def letter(self) -> str:
        """The first letter of the colour classes."""
        return "p" if self.perplexity else "q"

    def ticks(self) -> list[float]:
        """A handful of round numbers from end to end."""
        if self.perplexity:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            steps = _ROUND if self.high / self.low < 200 else _ROUND[:1]
            found = [step * 10.0**decade for decade in decades for step in steps]
            return [tick for tick in found if self.low <= tick <= self.high]
        step = 10 if self.high - self.low <= 50 else 20
        first = math.ceil(self.low / step) * step
        return [float(tick) for tick in range(first, int(self.high) + 1, step)]


def scale_of(cells: Iterable[CellResult], perplexity: bool) -> Scale:
    """The scale that holds the scores of all `cells` of its sort, with round ends."""
    scores = [c.value for c in cells if c.scored and is_perplexity(c.metric) == perplexity]
    if perplexity:
        low, high = (min(scores), max(scores)) if scores else (1.0, 100.0)
        low, high = _round_down(max(low, 1.0)), _round_up(max(high, 2.0))
        return Scale(low, high if high > low else low * 10, perplexity=True)
    low = math.floor(min(scores, default=0) / 10) * 10
    high = math.ceil(max(scores, default=100) / 10) * 10
    return Scale(float(min(low, high - 20)), float(high))


def _round_down(value: float) -> float:
    decade = 10.0 ** math.floor(math.log10(value))
    return max(step * decade for step in _ROUND if step * decade <= value * (1 + 1e-9))


def _round_up(value: float) -> float:
    decade = 10.0 ** math.floor(math.log10(value))
    return min(s * decade for s in (*_ROUND, 10.0) if s * decade >= value * (1 - 1e-9))


def figure_text(score: float | None, digits: int = 1) -> str:
    """Write a score with `digits` decimals, one less from 100 on; a dash where there is none."""
    if score is None or math.isnan(score):
        return "–"
    if math.isinf(score):
        return "∞" if score > 0 else "−∞"
    if score >= 1e5:
        exponent = math.floor(math.log10(score))
        return f"{score / 10**exponent:.1f}e{exponent}"
    decimals = digits if abs(round(score, digits)) < 100 else digits - 1
    return f"{score:.{decimals}f}".replace("-", "−")


def cell_figure(cell: CellResult, digits: int = 1) -> str:
    """Write a cell's score as `figure_text` does; n/a where the method does not apply to it."""
    return figure_text(cell.score, digits) if cell.applicable else "n/a"


def colour_rules() -> str:
    """The CSS of all colour classes, for light pages (and paper) and for dark ones."""
    light, dark = [], []
    for letter, name in (("q", "YlGnBu"), ("p", "YlOrBr")):
        for level in range(LEVELS):
            share = level / (LEVELS - 1)
            light.append(_rule(letter, level, name, 0.02 + 0.58 * share))
            dark.append(_rule(letter, level, name, 0.98 - 0.80 * share))
    inner = "\n".join(dark)
    return "\n".join(light) + f"\n@media screen and (prefers-color-scheme: dark) {{\n{inner}\n}}"


def _rule(letter: str, level: int, colormap: str, share: float) -> str:
    red, green, blue, _ = matplotlib.colormaps[colormap](share)
    ink = "#000" if luminance(red, green, blue) > 0.179 else "#fff"
    shade = matplotlib.colors.to_hex((red, green, blue))
    return f".{letter}{level} {{ background: {shade}; color: {ink}; }}"


def luminance(red: float, green: float, blue: float) -> float:
    """Relative luminance of an sRGB colour (each 0 to 1), as WCAG 2 defines it.

    Above 0.179 black text has the greater contrast, below it white text.
    """

    def linear(part: float) -> float:
        return part / 12.92 if part <= 0.04045 else float(((part + 0.055) / 1.055) ** 2.4)

    return 0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue)


def count_of(number: int, noun: str) -> str:
    """Write a number of things: ``1 cell``, ``2 cells``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def counts_text(counts: Iterable[int], noun: str) -> str:
    """Write one number of things, or the least and the most: ``1 seed``, ``1 to 3 seeds``."""
    found = set(counts)
    least, most = min(found), max(found)
    return count_of(most, noun) if least == most else f"{least:,} to {count_of(most, noun)}"
