"""Tiny experiments on disk: a backbone, data of several tasks and languages, and a recipe.

What is to be learnt is easy: each word always has the same tag. The cells are of every kind:

    pos  eng isl supervised, fao (raw text only) and dan (untouched) unseen
    ner  eng supervised, isl an unseen combination
    dep  eng supervised, isl an unseen combination
    topic eng, nli eng supervised
    mlm  fao
"""

from __future__ import annotations

import io
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from threading import Event, Thread
from typing import Any

import yaml
from rich.console import Console

from hyperlect.data.readers import SPLITS
from hyperlect.recipe import Recipe, load_recipe
from hyperlect.run_folder import locked
from hyperlect.training import resume, start

from .tiny import save_tiny

TAGS = {
    "the": "DET", "a": "DET", "cat": "NOUN", "dog": "NOUN", "river": "NOUN", "sees": "VERB",
    "old": "ADJ", "Anna": "PROPN", "Oslo": "PROPN", "in": "ADP", "and": "CCONJ", "not": "PART",
}  # fmt: skip
ENTITIES = {"Anna": "B-PER", "Oslo": "B-LOC"}
RELATIONS = {
    "DET": "det", "NOUN": "obj", "VERB": "conj", "ADJ": "amod", "PROPN": "nsubj", "ADP": "case",
    "CCONJ": "cc", "PART": "advmod",
}  # fmt: skip
WORDS = tuple(TAGS)
LONG = 70
"""Words of the longest sentence of every word file: more than the tiny encoders take at once."""

CELLS = {
    "pos": {"eng": "train dev test", "isl": "train test", "fao": "test", "dan": "test"},
    "ner": {"eng": "train dev test", "isl": "test"},
    "dep": {"eng": "train dev test", "isl": "test"},
    "topic": {"eng": "train dev test"},
    "nli": {"eng": "train test"},
    "mlm": {"fao": "train dev test"},
}
TYPES = {
    "pos": "tagging",
    "ner": "spans",
    "dep": "parsing",
    "topic": "classification",
    "nli": "pairs",
    "mlm": "mlm",
}
FIELDS = {"topic": ("text", "label"), "nli": ("text", "pair", "label")}
COUNTS = {"train": 24, "dev": 6, "test": 8}
TRAINING = {
    "steps": 12, "batch_size": 4, "learning_rate": 0.01, "warmup": 2, "log_every": 3,
}  # fmt: skip
HYPERNET = {"bottleneck": 4, "projection": 6, "embedding": 5}


def write_project(
    folder: Path,
    tasks: Sequence[str] = ("pos", "ner", "mlm"),
    training: dict[str, Any] | None = None,
    family: str = "bert",
    **keys: Any,
) -> Path:
    """Write everything, and return the recipe's path.

    Args:
        folder: made if need be.
        tasks: some of `CELLS`.
        training: in place of some of `TRAINING`.
        family: of the backbone.
        keys: further keys of the recipe, or in place of those written here.
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_tiny(folder / "backbone", family)
    for task in tasks:
        for language, splits in CELLS[task].items():
            for split in splits.split():
                write_data(folder, task, language, split)
    recipe = {
        "format_version": 1,
        "name": "tiny",
        "backbone": "backbone",
        "max_length": 32,
        "hypernet": HYPERNET,
        "tasks": {task: {"type": TYPES[task]} for task in tasks},
        "data": [block(task) for task in tasks],
        "training": TRAINING | (training or {}),
        **keys,
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


def block(task: str) -> dict[str, Any]:
    kind = {"mlm": "text", "dep": "conllu", "topic": "tsv", "nli": "tsv"}.get(task, "columns")
    cells = {
        language: {split: f"{task}.{language}.{split}" for split in splits.split()}
        for language, splits in CELLS[task].items()
    }
    fields = {name: name for name in FIELDS.get(task, ())}
    return {"task": task, "format": kind, "fields": fields, "cells": cells}


def sentence(source: random.Random) -> list[str]:
    return [source.choice(WORDS) for _ in range(source.randint(5, 9))]


def write_data(folder: Path, task: str, language: str, split: str) -> None:
    source = random.Random(f"{task}{language}{split}")
    sentences = [sentence(source) for _ in range(COUNTS[split])]
    if task not in ("topic", "nli"):  # which would be cut, with a warning
        sentences[-1] = [source.choice(WORDS) for _ in range(LONG)]
    if TYPES[task] in ("tagging", "spans"):
        labels = TAGS if task == "pos" else ENTITIES
        lines = [
            "".join(f"{word}\t{labels.get(word, 'O')}\n" for word in words) for words in sentences
        ]
        text = "\n".join(lines)
    elif task == "dep":
        text = "".join(map(treebank, sentences))
    elif task == "mlm":
        text = "".join(f"{' '.join(words)}\n" for words in sentences)
    elif task == "topic":
        rows = [f"{' '.join(words)}\t{topic(words)}\n" for words in sentences]
        text = "text\tlabel\n" + "".join(rows)
    else:
        others = [sentence(source) for _ in sentences]
        rows = [
            f"{' '.join(a)}\t{' '.join(b)}\t{'same' if a[0] == b[0] else 'other'}\n"
            for a, b in zip(sentences, others, strict=True)
        ]
        rows.append(f"{' '.join(others[0])}\t{' '.join(others[0])}\tsame\n")
        text = "text\tpair\tlabel\n" + "".join(rows)
    (folder / f"{task}.{language}.{split}").write_text(text, encoding="utf-8")


def treebank(words: Sequence[str]) -> str:
    """A sentence as CoNLL-U: every word hangs on the first, in a relation that says which it is."""
    rows = [f"1\t{words[0]}\t_\t_\t_\t_\t0\troot\t_\t_"]
    for number, word in enumerate(words[1:], start=2):
        rows.append(f"{number}\t{word}\t_\t_\t_\t_\t1\t{RELATIONS[TAGS[word]]}:x\t_\t_")
    return "\n".join(rows) + "\n\n"


def topic(words: Sequence[str]) -> str:
    return "animals" if {"cat", "dog"} & set(words) else "people"


def touch_files(recipe: Recipe, folder: Path) -> None:
    """Make an empty file inside a folder wherever a recipe names one there."""
    for split in SPLITS:
        for source in chain(*recipe.cells(split).values()):
            file = Path(source.location)
            if source.format != "hub" and file.is_relative_to(folder):
                file.parent.mkdir(parents=True, exist_ok=True)
                file.touch()


def train(recipe: Path | Recipe, run: Path, *overrides: str) -> Path:
    """Train on the CPU without a word."""
    loaded = load_recipe(recipe, overrides) if isinstance(recipe, Path) else recipe
    return start(loaded, run, device="cpu", console=silent())


def go_on(run: Path) -> Path:
    """Resume on the CPU without a word."""
    return resume(run, device="cpu", console=silent())


def silent() -> Console:
    return Console(file=io.StringIO(), width=200)


@contextmanager
def held(run: Path) -> Iterator[None]:
    """Hold a run folder as another process would: in this thread, locks may be nested."""
    is_held, is_over = Event(), Event()

    def hold() -> None:
        with locked(run):
            is_held.set()
            is_over.wait()

    thread = Thread(target=hold)
    thread.start()
    assert is_held.wait(60)
    try:
        yield
    finally:
        is_over.set()
        thread.join()
