"""The frame of a plot: its area in a canvas, rules across it, and figures beside and below."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from .svg import MUTED, RULE, write


@dataclass(frozen=True)
class Frame:
    """The area of a plot.

    Attributes:
        left, right, top, bottom: its edges in pixels.
        ticks: round values from the bottom to the top.
    """

    left: float
    right: float
    top: float
    bottom: float
    ticks: tuple[float, ...]

    def y(self, value: float) -> float:
        """Return the height of a value in pixels."""
        low, high = self.ticks[0], self.ticks[-1]
        return self.bottom - (value - low) / (high - low) * (self.bottom - self.top)

    def draw(self, axes: Axes) -> None:
        """Draw a rule at each tick, with its figure to the left."""
        for tick in self.ticks:
            y = self.y(tick)
            axes.plot([self.left, self.right], [y, y], color=RULE, linewidth=0.8, zorder=1)
            write(axes, (self.left - 6, y), f"{tick:g}", 10, MUTED, "right")

    def below(self, axes: Axes, x: float, text: str) -> None:
        """Write what stands at a place of the horizontal axis."""
        write(axes, (x, self.bottom + 13), text, 10, MUTED, "center")


def ticks_of(values: Iterable[float], most: int = 4) -> tuple[float, ...]:
    """Return round values, about as far apart as `most` steps would be, around all `values`."""
    found = list(values)
    return tuple(MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]).tick_values(min(found), max(found)))
