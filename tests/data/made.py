"""Corpora made up in tests, in the form that `read_corpus` gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datasets import Dataset, Features, List, Value

FEATURES = Features(
    {
        "words": List(Value("string")),
        "labels": List(Value("string")),
        "heads": List(Value("int32")),
        "text": Value("string"),
        "pair": Value("string"),
        "label": Value("string"),
        "line": Value("int64"),
        "file": Value("string"),
    }
)


def corpus(rows: Sequence[dict[str, Any]], file: str = "made.txt") -> Dataset:
    empty = {"words": [], "labels": [], "heads": [], "text": "", "pair": None, "label": None}
    empty["file"] = file
    filled = [{**empty, "line": 10 * i + 1, **row} for i, row in enumerate(rows)]
    return Dataset.from_dict({name: [r[name] for r in filled] for name in FEATURES}, FEATURES)


def tagged(*sentences: str, file: str = "made.txt") -> Dataset:
    """Make sentences written as ``Anna/B-PER sees/O``."""
    split = [[pair.rsplit("/", 1) for pair in sentence.split()] for sentence in sentences]
    return corpus(
        [{"words": [w for w, _ in s], "labels": [label for _, label in s]} for s in split], file
    )


def parsed(*sentences: str, file: str = "made.txt") -> Dataset:
    """Make trees written as ``Anna/2/nsubj sees/0/root``."""
    split = [[word.rsplit("/", 2) for word in sentence.split()] for sentence in sentences]
    return corpus(
        [
            {
                "words": [word for word, _, _ in s],
                "labels": [label for _, _, label in s],
                "heads": [int(head) for _, head, _ in s],
            }
            for s in split
        ],
        file,
    )
