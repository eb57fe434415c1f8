"""How long an experiment may work: the whole of it, or a slice of so many minutes."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ..errors import HyperlectError

_UNITS = {"h": 3600, "m": 60, "s": 1}
_SPAN = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
MARGIN = 30.0
"""Seconds kept for saving at the end of a slice; a tenth of it where that is less."""


def seconds(text: str) -> int:
    """Read a span of time: ``600`` (seconds), ``10m``, ``1h30m``.

    Raises:
        HyperlectError: it is none, or nought.
    """
    if text.isdigit():
        found = int(text)
    else:
        match = _SPAN.fullmatch(text.strip().lower())
        parts = match.groups() if match else (None,)
        found = sum(int(n) * size for n, size in zip(parts, _UNITS.values(), strict=False) if n)
    if found <= 0:
        raise HyperlectError(f'"{text}" is no span of time; write 10m, 1h30m, or 600 for seconds.')
    return found


def shown(span: float) -> str:
    """Write a span of seconds for people: ``45 s``, ``12 min``, ``1 h 20 min``."""
    if span < 60:
        return f"{span:.0f} s"
    minutes = round(span / 60)
    hours, rest = divmod(minutes, 60)
    return f"{minutes} min" if not hours else f"{hours} h {rest} min"


@dataclass
class Slice:
    """A slice of time.

    Args:
        length: its seconds; None for as long as it takes.
        now: the clock.
        began: when it began by that clock; now, where it is not given.

    Attributes:
        margin: seconds before the end at which trainings are asked to save and stop. Nothing new
            is started in as long a time before that: it would hardly have begun.
    """

    length: float | None = None
    now: Callable[[], float] = time.monotonic
    began: float | None = None
    margin: float = field(init=False)

    def __post_init__(self) -> None:
        if self.began is None:
            self.began = self.now()
        self.margin = min(MARGIN, (self.length or 0) / 10)

    @property
    def left(self) -> float:
        """The seconds until the end."""
        if self.length is None or self.began is None:
            return float("inf")
        return self.began + self.length - self.now()

    @property
    def may_start(self) -> bool:
        """Whether it is worth the while to start something."""
        return self.left > 2 * self.margin

    @property
    def must_stop(self) -> bool:
        """Whether it is time to save and stop."""
        return self.left <= self.margin

    @property
    def is_over(self) -> bool:
        """Whether the time is up, saved or not."""
        return self.left <= 0
