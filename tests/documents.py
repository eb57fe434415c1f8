"""The examples of the documents, and the files that they name, each in its format."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hyperlect.data.readers import SPLITS, Source
from hyperlect.recipe import Recipe, load_recipe
from hyperlect.tasks import TaskType

from .project import ENTITIES, RELATIONS, TAGS, sentence, topic

DOCS = Path(__file__).parents[1] / "docs"
COUNTS = {"train": 12, "dev": 4, "test": 6}


def blocks(page: str, language: str) -> list[tuple[str, str]]:
    """The fenced blocks of a page in one language, each with the heading above it."""
    text = (DOCS / page).read_text(encoding="utf-8")
    fenced = rf"^```{language}\n(?P<block>.*?)^```$|^```.*?^```$|^#+ (?P<heading>.*?)$"
    heading, pairs = "", []
    for match in re.finditer(fenced, text, re.DOTALL | re.MULTILINE):
        heading = match["heading"] or heading
        if match["block"]:
            pairs.append((heading, match["block"]))
    return pairs


def joined(*parts: str) -> str:
    """One recipe of several parts, each of which has ``tasks:`` and then ``data:``."""
    tasks, data = zip(
        *(part.removeprefix("tasks:\n").split("data:\n") for part in parts), strict=True
    )
    return f"format_version: 1\nname: example\ntasks:\n{''.join(tasks)}data:\n{''.join(data)}"


def write_example(text: str, path: Path, *overrides: str) -> Recipe:
    """Write a recipe and every file that it names, and load it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    write_files(load_recipe(path, overrides, check_files=False))
    return load_recipe(path, overrides)


def write_files(recipe: Recipe) -> None:
    """Write the files of a recipe; what is on the hub is not written."""
    for split in SPLITS:
        for cell, sources in recipe.cells(split).items():
            for source in sources:
                if source.format != "hub":
                    path = Path(source.location)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    chance = random.Random(f"{cell} {path.name}")
                    sentences = [sentence(chance) for _ in range(COUNTS[split])]
                    lines = _lines(source, recipe.tasks[cell.task].type, sentences)
                    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def run_python(*parts: str) -> dict[str, Any]:
    """Run blocks of Python one after the other, and return the names that they leave."""
    names: dict[str, Any] = {}
    for part in parts:
        exec(compile(part, "example", "exec"), names)
    return names


def _lines(source: Source, task: TaskType, sentences: list[list[str]]) -> Iterator[str]:
    match source.format:
        case "text":
            yield from map(" ".join, sentences)
        case "conllu":
            for words in sentences:
                yield from (f"# text = {' '.join(words)}", *_tree(words), "")
        case "columns":
            for words in sentences:
                if source.comment:
                    yield f"{source.comment}text = {' '.join(words)}"
                yield from (*_columns(source, task, words), "")
        case "tsv":
            yield "\t".join(map(str, source.fields.values()))
            for words in sentences:
                yield "\t".join(_record(source, words).values())
        case "jsonl":
            yield from (json.dumps(_record(source, words)) for words in sentences)


def _tree(words: list[str]) -> Iterator[str]:
    for number, word in enumerate(words, start=1):
        tree = f"1\t{RELATIONS[TAGS[word]]}:x" if number > 1 else "0\troot"
        yield f"{number}\t{word}\t_\t{TAGS[word]}\t_\t_\t{tree}\t_\t_"


def _columns(source: Source, task: TaskType, words: list[str]) -> Iterator[str]:
    word_column, label_column = int(source.fields["word"]), int(source.fields["label"])
    for number, word in enumerate(words, start=1):
        row = [str(number)] * max(word_column, label_column)
        row[word_column - 1] = word
        row[label_column - 1] = ENTITIES.get(word, "O") if task is TaskType.SPANS else TAGS[word]
        yield "\t".join(row)


def _record(source: Source, words: list[str]) -> Mapping[str, str]:
    values = {"text": " ".join(words), "pair": " ".join(reversed(words)), "label": topic(words)}
    return {str(column): values[role] for role, column in source.fields.items()}
