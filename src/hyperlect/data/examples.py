"""What the readers hand on: sources of data, and the examples read from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Format = Literal["conllu", "columns", "tsv", "csv", "jsonl", "text", "hub"]
Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = ("train", "dev", "test")


@dataclass(frozen=True)
class Source:
    """One place that examples are read from: a file, or a split of a data set on the hub.

    Attributes:
        format: which reader reads it.
        location: the file's path, or the data set's id on the hub.
        fields: which column holds what. ``conllu``: ``{"label": "upos"}`` (any column's name, or
            ``misc:KEY``). ``columns``: ``{"word": 1, "label": 2}``, counted from 1. Tables and
            the hub: ``{"text": name, "pair": name, "label": name}`` or, for words,
            ``{"words": name, "labels": name}``. Heads of words are read where ``head`` (in tables
            and on the hub ``heads``) says from which column.
        comment: lines of a column file that start with this are comments; none where empty.
        config, revision, split: of a hub data set.
        limit: read at most this many examples.
    """

    format: Format
    location: str
    fields: Mapping[str, str | int] = field(default_factory=dict)
    comment: str = ""
    config: str | None = None
    revision: str | None = None
    split: str | None = None
    limit: int | None = None

    def __str__(self) -> str:
        parts = [self.location, self.config, self.split]
        return "/".join(part for part in parts if part) if self.format == "hub" else self.location


@dataclass(frozen=True, slots=True)
class Example:
    """One sentence, text or pair of texts as it was read.

    Attributes:
        words: the words, for word-level tasks (original spelling); from CoNLL-U for all tasks.
        labels: one label a word, as it stands in the data.
        heads: the head of each word, counted from 1, and 0 for the root; a tree. Empty where the
            source does not name a column for them.
        text: the text, for sentence-level and raw-text tasks; from CoNLL-U for all tasks.
        pair: the second text of a pair.
        label: the label of the text or pair.
        line: where the example begins in its file, counted from 1 (row number on the hub).
    """

    words: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    heads: tuple[int, ...] = ()
    text: str = ""
    pair: str | None = None
    label: str | None = None
    line: int = 0
