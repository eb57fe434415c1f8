"""Plain text: one text a line."""

from __future__ import annotations

from collections.abc import Iterator

from ..examples import Example, Source
from .faults import Faults, lines


def read_text(source: Source, word_level: bool, faults: Faults) -> Iterator[Example]:
    """Read a file with one text a line; blank lines are passed over.

    For word-level tasks a line is split at white space, and the words have no labels.
    """
    if source.fields:
        faults.whole("fields: plain text has no columns; leave fields out")
        return
    for number, line in lines(faults):
        text = line.strip()
        if not text:
            continue
        if word_level:
            yield Example(words=tuple(text.split()), line=number)
        else:
            yield Example(text=text, line=number)
