"""The rows of results/speed.json: what was measured, against what, and whether it is enough."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common import machine, quartiles


@dataclass(frozen=True)
class Row:
    """One ratio.

    Attributes:
        measure, against: what was measured, and what with.
        ratio: of the two; the median where there are several runs.
        goal: as in "≤ 1.05" or "≥ 10"; None where there is none.
        runs: how many pairs of neighbouring runs the ratio is the median of.
        extra: whether the row stands after the table of goals.
        details: the quartiles of the ratio, absolute numbers, and what they were measured on.
    """

    measure: str
    against: str
    ratio: float
    goal: str | None
    runs: int
    extra: bool = False
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None where there is none."""
        if self.goal is None:
            return None
        sign, number = self.goal.split()
        return self.ratio <= float(number) if sign == "≤" else self.ratio >= float(number)

    def to_dict(self, where: Mapping[str, Any]) -> dict[str, Any]:
        """Return the row as JSON data; `where` describes the machine."""
        return {
            "measure": self.measure,
            "against": self.against,
            "ratio": significant(self.ratio),
            "goal": self.goal,
            "met": self.met,
            "runs": self.runs,
            "extra": self.extra,
            "details": _rounded(self.details),
            "machine": dict(where),
        }


def timed_row(
    measure: str,
    against: str,
    goal: str | None,
    times: Mapping[str, list[float]],
    pair: tuple[str, str],
    *,
    extra: bool = False,
    **details: Any,
) -> Row:
    """Make a row of the times of two things that were run in turn.

    The ratio is the median of the ratios of neighbouring runs, which a slow spell of the machine
    disturbs least: both runs of a pair lie in it.

    Args:
        measure, against, goal, extra: see `Row`.
        times: the seconds of every run, by name.
        pair: the names of what is measured and of what it is measured against.
        details: what else is to be known.
    """
    first, second = (times[name] for name in pair)
    low, middle, high = quartiles([a / b for a, b in zip(first, second, strict=True)])
    measured = {
        "quartiles": [low, high],
        "milliseconds": {name: 1000 * quartiles(times[name])[1] for name in pair},
        **details,
    }
    return Row(measure, against, middle, goal, len(first), extra, measured)


def in_order(rows: Sequence[Row]) -> list[Row]:
    """Put the rows of the table of goals first, both parts in the order they came in."""
    return sorted(rows, key=lambda row: row.extra)


def write_rows(rows: Sequence[Row], path: Path) -> list[dict[str, Any]]:
    """Write rows as a JSON list, and return it."""
    where = machine()
    data = [row.to_dict(where) for row in in_order(rows)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return data


def significant(value: float, digits: int = 4) -> float:
    """Round to significant digits."""
    return float(f"{value:.{digits}g}")


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return significant(value)
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value
