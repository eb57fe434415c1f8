"""Few-shot curves: the same run with more and more labelled examples, drawn several times."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from ..recipe.sections import Positive, Section

SECTION = "few_shot"
"""The section of a recipe in which a curve decides what the fields of `Point` are."""


def _distinct(values: tuple[int, ...]) -> tuple[int, ...]:
    twice = [str(value) for value in dict.fromkeys(values) if values.count(value) > 1]
    if twice:
        raise ValueError(f"has {', '.join(twice)} more than once")
    return values


Numbers = Annotated[tuple[Positive, ...], Field(min_length=1), AfterValidator(_distinct)]


@dataclass(frozen=True)
class Point:
    """One run's place on a curve.

    Attributes:
        examples: how many labelled examples each few-shot cell has.
        draw: which draw of them.
    """

    examples: int
    draw: int

    @property
    def place(self) -> str:
        """The folders of the run between its method's and its seed's."""
        return f"examples-{self.examples}/draw-{self.draw}"

    @property
    def settings(self) -> dict[str, int]:
        """What it sets in the recipe."""
        return {f"{SECTION}.{key}": value for key, value in vars(self).items()}


class CurveSection(Section):
    """The points of a curve: each number of examples, drawn so many times."""

    examples: Numbers
    """How many labelled examples each cell of ``few_shot.cells`` gets, one number a point."""
    draws: Numbers = (1,)
    """The draws to repeat each with; the spread of a curve is over them."""

    def points(self) -> Iterator[Point]:
        """Yield the places of the curve's runs."""
        for examples in self.examples:
            for draw in self.draws:
                yield Point(examples, draw)


def decided(settings: dict[str, Any]) -> list[str]:
    """Return the keys among what is set that a curve decides, alone or in the whole block."""
    keys = [field.name for field in fields(Point)]
    block = settings.get(SECTION)
    inside = isinstance(block, dict) and not block.keys().isdisjoint(keys)
    dotted = [f"{SECTION}.{key}" for key in keys]
    return [key for key in settings if key in dotted or (key == SECTION and inside)]
