"""Write docs/recipes.md from the recipe's own documentation: `python docs/build.py`."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from hyperlect.recipe import Recipe
from hyperlect.recipe.document import sections_of
from hyperlect.recipe.recipe import RECOMMENDED

HEADINGS = {
    "": "The recipe",
    "hypernet": "hypernet",
    "tasks.*": "tasks: one entry a task",
    "data.*": "data: a list of blocks",
    "data.*.limit": "data: limit",
    "data.*.cells.*": "data: cells, one entry a language",
    "language_features": "language_features",
    "few_shot": "few_shot",
    "training": "training",
    "evaluation": "evaluation",
}
SECTIONS = {".".join(place): section for place, section in sections_of(Recipe).items()}
INTRODUCTION = """\
# Recipes

<!-- Made by docs/build.py from the code; do not edit. -->

A recipe is one YAML file that says what is trained, on what, and how. It is validated as a whole
before anything is loaded. An unknown key is an error that suggests the nearest name, and all
mistakes are reported at once. `hyperlect check RECIPE` also reads the data and shows the grid.

- [concepts.md](concepts.md) explains the words. [data.md](data.md) has an example for every kind of
  data, and says what languages are called. [settings.md](settings.md) says which values to begin
  with, and [new-language.md](new-language.md) how to continue from a finished run.
- A key without a default here is required. `{}` as the default of a section stands for the defaults
  of its keys.
- `${VAR}` and `${VAR:-default}` stand for environment variables. Inside braces or brackets, quote
  such a text: `{train: "${VAR}/train.conllu"}`.
- File names are relative to the block's `root`. `root` is relative to the recipe's folder.
- Languages are ISO 639-3 codes; ISO 639-1 codes, BCP 47 tags and English names work too. The file
  is read as YAML 1.2, where the bare word `no` is text, so Norwegian needs no quotes.
- Any value can be changed on the command line: `--set training.steps=200`.

The `fields` of each format:

| format | fields |
|---|---|
| `conllu` | `{label: upos}`: any column, `misc:KEY` or `feats:KEY` |
| `columns` | `{word: 1, label: 2}`: numbers of columns, from 1 |
| tables (`tsv`, `csv`, `jsonl`, `hub`) | `{text: …, label: …}`, `{words: …, labels: …}` |
| `text` | none: one text a line |

Pairs of texts also have `pair`. For tasks of type `parsing`, `head` (`heads` in tables) says where
the heads are: words counted from 1, 0 for the root. In `conllu`, trees need no fields.
"""


def documentation() -> dict[str, str]:
    """Return every key of a recipe (``training.steps``, ``data.*.format``) with its meaning."""
    return {
        f"{place}.{name}".strip("."): " ".join(text.split())
        for place, kind in SECTIONS.items()
        for name, text in described(kind).items()
    }


def described(kind: Any) -> dict[str, str]:
    """Return the fields of a section with their meanings."""
    if issubclass(kind, BaseModel):
        return {name: field.description or "" for name, field in kind.model_fields.items()}
    listing = inspect.cleandoc(kind.__doc__ or "").partition("Attributes:\n")[2]
    listing = listing.partition("\n\n")[0]
    return dict(re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", listing, re.MULTILINE))


def section(prefix: str, title: str, keys: dict[str, str]) -> list[str]:
    """Lay out the keys directly under a prefix as a table."""
    lines = [f"\n## {title}\n", "| key | default | meaning |", "|---|---|---|"]
    for key, meaning in keys.items():
        place, _, name = key.rpartition(".")
        if place == prefix:
            default = default_of(SECTIONS[prefix], name)
            shown = "" if default is None else f"`{default}`"
            if name in RECOMMENDED.get(prefix, {}):
                meaning = f"{meaning} Version 1: {shown}."
                shown = f"`{as_yaml(RECOMMENDED[prefix][name])}`"
            # The meanings are docstrings of Python, whose None is null in a recipe.
            meaning = re.sub(r"\bNone\b", "null", meaning).replace("|", "\\|")
            lines.append(f"| `{name}` | {shown} | {meaning} |")
    return lines


def default_of(kind: Any, name: str) -> str | None:
    """Write the default of a section's field as a recipe would; None for a required one."""
    if not issubclass(kind, BaseModel):
        return as_yaml(getattr(kind(), name))
    field = kind.model_fields[name]
    return None if field.is_required() else as_yaml(field.default)


def as_yaml(value: Any) -> str:
    """Write a value as it would stand in a recipe: null, false, 1e-4, [task, language]."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, float) and 0 < value < 1e-3:
        digits, power = f"{value:e}".split("e")
        return f"{float(digits):g}e{int(power)}"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(as_yaml, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {as_yaml(one)}' for key, one in value.items())}}}"
    if isinstance(value, str):
        return value or '""'
    # A whole section has the defaults of its own table.
    return str(value) if isinstance(value, int | float) else "{}"


def page() -> str:
    """Return the whole page."""
    keys = documentation()
    lines = [INTRODUCTION.rstrip()]
    for prefix, title in HEADINGS.items():
        lines += section(prefix, title, keys)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (Path(__file__).parent / "recipes.md").write_text(page(), encoding="utf-8")
