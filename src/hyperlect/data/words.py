"""Splitting raw sentences into words."""

from __future__ import annotations

import regex

# A run of letters, marks and digits is a word (with inner apostrophes and hyphens, and with inner
# points, commas and colons between digits); Han characters stand alone, for there the bounds of
# words are not written; so does every other sign, with the marks on it. Invisible characters are
# no words of their own; those that join letters (in Persian, in Indic scripts) stay inside.
_WORD = regex.compile(
    r"""
    [\p{L}\p{N}--\p{Han}] [\p{L}\p{M}\p{N}\p{Join_Control}\xAD--\p{Han}]*
    (?: (?: ['’\-] | (?<=\p{N})[.,:](?=\p{N}) ) [\p{L}\p{M}\p{N}\p{Join_Control}\xAD--\p{Han}]+ )*
    | (?= [^\s\p{Cc}\p{Cf}] ) \X
    """,
    regex.V1 | regex.VERBOSE,
)


def split_words(text: str) -> list[str]:
    """Split a raw sentence into words and signs by Unicode classes, without a lexicon.

    Scripts that write no spaces other than Han (Thai, Khmer, …) come out as whole runs: give such
    languages words.
    """
    return [match.group() for match in _WORD.finditer(text)]
