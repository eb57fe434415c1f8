"""The errors that users see, and how many faults are gathered into one of them.

Every error raised on purpose derives from :class:`HyperlectError`; the command line prints its
message without a traceback. A message says what is wrong, where, and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class HyperlectError(Exception):
    """Anything that the person at the keyboard can mend."""


class RecipeError(HyperlectError):
    """A recipe that cannot be run as it stands."""


class DataError(HyperlectError):
    """Input data that is malformed, missing, or must not be used together."""


class UnreachableError(HyperlectError):
    """The hub cannot be reached: no fault of the data, nor one to gather with others like it."""


class BackboneError(HyperlectError):
    """An encoder that cannot be found, loaded or adapted."""


class RunError(HyperlectError):
    """A run folder or weights file that is incomplete, of another version, or does not fit."""


class UnknownNameError(HyperlectError, KeyError):
    """A task, language, label or option that does not exist where it was looked for."""

    def __str__(self) -> str:  # KeyError would print the repr of the message
        return str(self.args[0])


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean "x"?`` for the known name closest to `name`, or an empty string."""
    lowered = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)
    return f' Did you mean "{lowered[close[0]]}"?' if close else ""


def unknown(what: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """Make the error for a `name` that is not among the `known` ones of its sort (`what`)."""
    known = list(known)
    hint = nearest(name, known)
    return UnknownNameError(f'Unknown {what} "{name}".{hint} Known: {listed(known)}.')


def listed(names: Sequence[str], shown: int = 40) -> str:
    """List names with commas, the first ones alone where they are many; ``none`` without any."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return (", ".join(names[:shown]) or "none") + more


class Problems:
    """Gathers faults so that a person sees all of them at once rather than one a run.

    At most `shown` are listed; the rest are counted.
    """

    def __init__(self, shown: int = 20) -> None:
        self.shown = shown
        self.messages: list[str] = []

    def add(self, message: str) -> None:
        """Note one fault."""
        self.messages.append(message)

    def __bool__(self) -> bool:
        return bool(self.messages)

    def text(self, heading: str) -> str:
        """Lay the faults out under a heading, one a line; further lines of one are indented."""
        shown = (message.replace("\n", "\n  ") for message in self.messages[: self.shown])
        lines = [heading, *(f"  - {message}" for message in shown)]
        hidden = len(self.messages) - self.shown
        if hidden > 0:
            lines.append(f"  … and {hidden} more")
        return "\n".join(lines)

    def raise_if_any(self, error: type[HyperlectError], heading: str) -> None:
        """Raise one `error` holding every fault noted so far, if there is any."""
        if self.messages:
            raise error(self.text(heading))
