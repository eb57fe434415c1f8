"""The errors that users see, and the collector that reports many problems at once.

Every error raised on purpose derives from :class:`HyperlectError`. The command line prints its
message without a traceback. A message says what is wrong, where, and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, and where.

    Attributes:
        message: what is wrong and what to do.
        file: the file or data set it is in.
        line: the line (or row) in it, counted from 1.
        key: the key of a recipe, as ``training.steps``.
    """

    message: str
    file: str = ""
    line: int | None = None
    key: str = ""

    def __str__(self) -> str:
        place = self.file
        if self.line is not None:
            place = f"{self.file}:{self.line}" if self.file else f"line {self.line}"
        where = ", ".join(filter(None, (place, self.key)))
        return f"{where}: {self.message}" if where else self.message


class HyperlectError(Exception):
    """Anything that the person at the keyboard can fix.

    Attributes:
        problems: every single problem, for programs; empty where the message is all there is.
        more: how many problems beyond these were counted and not kept.
    """

    problems: tuple[Problem, ...] = ()
    more: int = 0


class RecipeError(HyperlectError):
    """A recipe that cannot be run as it stands."""


class DataError(HyperlectError):
    """Input data that is malformed, missing, or must not be used together."""


class UnreachableError(HyperlectError):
    """The hub cannot be reached. It is not a problem of the data, so it is not collected."""


class BackboneError(HyperlectError):
    """An encoder that cannot be found, loaded or adapted."""


class RunError(HyperlectError):
    """A run folder or weights file that is incomplete, of another version, or does not fit."""


class UnknownNameError(HyperlectError, KeyError):
    """A task, language, label or option that does not exist where it was looked up."""

    def __str__(self) -> str:  # KeyError would print the repr of the message
        return str(self.args[0])


class Interrupted(HyperlectError):
    """Training was stopped from outside after its state was saved."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean "x"?`` for the known name closest to `name`, or an empty string."""
    lowered = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)
    return f' Did you mean "{lowered[close[0]]}"?' if close else ""


def unknown(what: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """Make the error for a `name` that is not among the `known` ones of its sort (`what`)."""
    known = list(known)
    hint = f"{nearest(name, known)} Known: {listed(known)}."
    return UnknownNameError(f'Unknown {what} "{name}".{hint}')


def listed(things: Iterable[Any], shown: int = 40) -> str:
    """List things with commas, at most `shown` of them; ``none`` without any."""
    names = list(map(str, things))
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return (", ".join(names[:shown]) or "none") + more


def counted(number: int, noun: str) -> str:
    """Write a number of things: ``1 cell``, ``2,000 cells``."""
    plural = f"{noun[:-1]}ies" if noun.endswith(("ry", "ty")) else f"{noun}s"
    plural = f"{noun}es" if noun.endswith("ss") else plural
    return f"{number:,} {noun if number == 1 else plural}"


class Problems:
    """Collects problems, so that a person sees all of them at once.

    Args:
        file: what the problems are in, unless `add` names another file.
        shown: how many are listed; the rest are counted.
        kept: how many are kept for programs, so that a huge file of nonsense fills no memory.
    """

    def __init__(self, file: str = "", shown: int = 20, kept: int = 10_000) -> None:
        self.file = file
        self.shown = shown
        self.kept = kept
        self._more = 0
        self._found: dict[Problem, None] = {}

    @property
    def items(self) -> list[Problem]:
        """The problems, in the order in which they were noted."""
        return list(self._found)

    def add(
        self, message: str, line: int | None = None, key: str = "", file: str | None = None
    ) -> None:
        """Note one problem; the same one twice counts once.

        Half of a surrogate pair in its message, which cannot be printed, is written out.
        """
        message = message.encode("utf-8", "backslashreplace").decode()
        problem = Problem(message, self.file if file is None else file, line, key)
        if len(self._found) < self.kept:
            self._found[problem] = None
        else:
            self._more += problem not in self._found

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Note the problems of a `DataError` that ends the block, or the error if it has none."""
        try:
            yield
        except DataError as error:
            self._found |= dict.fromkeys(error.problems or (Problem(str(error)),))
            self._more += error.more

    def __bool__(self) -> bool:
        return bool(self._found)

    def text(self, heading: str) -> str:
        """Lay the problems out under a heading, one a line; their own lines are indented."""
        shown = (str(problem).replace("\n", "\n  ") for problem in self.items[: self.shown])
        lines = [heading, *(f"  - {text}" for text in shown)]
        if hidden := max(0, len(self._found) - self.shown) + self._more:
            lines.append(f"  … and {hidden:,} more")
        return "\n".join(lines)

    def raise_if_any(self, error: type[HyperlectError], heading: str) -> None:
        """Raise one `error` with every problem so far, if there is any."""
        if self._found:
            raised = error(self.text(heading))
            raised.problems, raised.more = tuple(self._found), self._more
            raise raised
