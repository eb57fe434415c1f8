"""The usual sub-words of each language of a run, and whether a text looks like the one it names."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import regex

from ..languages import name
from .subwords import Subwords

KEPT = 1000
"""Sub-words kept of each language: some 6 kB as JSON."""
FEWEST_TOKENS = 100
"""With fewer sub-words or letters nothing is said of a text."""
CLEARLY = 1.2
"""How much better a text must fit another language of the run than its own."""
FAIRLY = 0.3
"""And how well at least."""
NEARLY_ALL = 0.8
"""How well a text fits a language of the run if it is in that language. In the corpora of
`benchmarks/trust.py`, texts of other languages stay below, but for Croatian against Serbian."""

# CLDR's codes of mixtures of scripts → the scripts in Unicode's names.
_MIXED = {"Hans": ("Han",), "Hant": ("Han",), "Kore": ("Hang", "Han"),
          "Jpan": ("Hira", "Kana", "Han")}  # fmt: skip
# Languages that are written in a second script too.
_SECOND = {"srp": "Latn", "azj": "Cyrl", "uzn": "Cyrl", "pan": "Arab", "kmr": "Arab",
           "san": "Latn", "kaz": "Latn", "tat": "Latn"}  # fmt: skip


@dataclass(frozen=True)
class PieceTable:
    """The most frequent sub-words of languages that a run was trained on.

    Attributes:
        frequent: language → the ids of its most frequent sub-words, most frequent first.
        covered: language → the share of its own sub-words that those are.
    """

    frequent: Mapping[str, Sequence[int]] = field(default_factory=dict)
    covered: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def count(
        cls, rows: Mapping[str, Iterable[Sequence[int]]], special: Iterable[int]
    ) -> PieceTable:
        """Count the sub-words of each language's rows, special ones left out."""
        frequent, covered, left_out = {}, {}, set(special)
        for language, of_language in rows.items():
            counts = Counter(p for row in of_language for p in row if p not in left_out)
            if counts:
                kept = dict(counts.most_common(KEPT))
                frequent[language] = list(kept)
                covered[language] = round(sum(kept.values()) / counts.total(), 4)
        return cls(frequent, covered)

    def likeness(self, pieces: Sequence[int]) -> dict[str, float]:
        """Return how well sub-words fit each language: about 1 for a text in the language itself.

        It is the share of them that is frequent in the language, over the same share of its own.
        """
        counts = Counter(pieces)
        shares = {}
        for language, frequent in self.frequent.items():
            common = sum(counts[piece] for piece in frequent)
            shares[language] = common / max(1, len(pieces)) / self.covered[language]
        return shares


def text_warning(
    table: PieceTable, sentences: Sequence[str], language: str, tokenizer: Any
) -> str | None:
    """Say why sentences seem to be in another language or script than their code says.

    Args:
        table: of the run; may be empty.
        sentences: raw text.
        language: its ISO 639-3 code.
        tokenizer: that of the run's encoder.

    Returns:
        One sentence with the evidence; None where there is none, or too little text.
    """
    if warning := _script_warning("".join(sentences), language):
        return warning
    subwords = Subwords(tokenizer, 512)
    windows = chain.from_iterable(subwords.lines(sentences))
    pieces = [p for window in windows for p in window.input_ids if p not in subwords.special]
    likeness = table.likeness(pieces)
    itself = likeness.pop(language, None)
    if len(pieces) < FEWEST_TOKENS or not likeness:
        return None
    other = max(likeness, key=lambda code: likeness[code])
    if likeness[other] < (NEARLY_ALL if itself is None else max(CLEARLY * itself, FAIRLY)):
        return None
    looks = f"By its sub-words the text looks like {name(other)} ({other}, {likeness[other]:.0%})"
    if itself is None:
        return f"{looks}."
    return f"{looks}, not like {name(language)} ({language}, {itself:.0%})."


def _script_warning(text: str, language: str) -> str | None:
    from langcodes import Language

    usual = Language.get(language).maximize()
    letters = regex.findall(r"\p{L}", text[:100_000])
    if not usual.script or len(letters) < FEWEST_TOKENS:
        return None
    scripts = (*_MIXED.get(usual.script, (usual.script,)), *_SECOND.get(language, "").split())
    try:
        pattern = regex.compile("|".join(rf"\p{{Script={script}}}" for script in scripts))
    except regex.error:  # a code that Unicode does not have
        return None
    inside = sum(pattern.match(letter) is not None for letter in letters)
    if inside >= len(letters) / 2:
        return None
    others = Counter(unicodedata.name(letter, "?").split()[0].capitalize() for letter in letters)
    ((most, count),) = others.most_common(1)
    expected, other = inside / len(letters), count / len(letters)
    shares = f"{expected:.0%} of the letters are ({other:.0%} are {most})"
    return f"{name(language)} is usually written in {usual.script_name()} script, and {shares}."
