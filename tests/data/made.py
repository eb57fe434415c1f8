"""Corpora made up in tests, in the form that `read_corpus` gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datasets import Dataset, Features, List, Value

FEATURES = Features(
    {
        "words": List(Value("string")),
        "labels": List(Value("string")),
        "text": Value("string"),
        "pair": Value("string"),
        "label": Value("string"),
        "line": Value("int64"),
        "file": Value("string"),
    }
)


def corpus(rows: Sequence[dict[str, Any]], file: str = "made.txt") -> Dataset:
    empty = {"words": [], "labels": [], "text": "", "pair": None, "label": None, "file": file}
    filled = [{**empty, "line": 10 * i + 1, **row} for i, row in enumerate(rows)]
    return Dataset.from_dict({name: [r[name] for r in filled] for name in FEATURES}, FEATURES)


def tagged(*sentences: str, file: str = "made.txt") -> Dataset:
    """Make sentences written as ``Anna/B-PER sees/O``."""
    split = [[pair.rsplit("/", 1) for pair in sentence.split()] for sentence in sentences]
    return corpus(
        [{"words": [w for w, _ in s], "labels": [label for _, label in s]} for s in split], file
    )
