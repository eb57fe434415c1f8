"""Write docs/recipes.md from the recipe's own documentation: `python docs/build.py`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from hyperlect.recipe import documentation
from hyperlect.recipe.keys import NESTED
from hyperlect.recipe.recipe import Recipe

HEADINGS = {
    "": "The recipe",
    "hypernet": "hypernet",
    "tasks.*": "tasks: one entry a task",
    "data.*": "data: a list of blocks",
    "data.*.limit": "data: limit",
    "data.*.cells.*": "data: cells, one entry a language",
    "few_shot": "few_shot",
    "training": "training",
    "evaluation": "evaluation",
}
SECTIONS: dict[str, Any] = {"": Recipe, **{".".join(place): kind for place, kind in NESTED.items()}}
INTRODUCTION = """\
# Recipes

<!-- Made by docs/build.py from the code; do not edit. -->

A recipe is one YAML file that says what is trained, on what, and how. It is validated whole
before anything is loaded: unknown keys are refused with the nearest name, and all faults are
reported at once. `hyperlect check RECIPE` reads the data too and prints the grid.

- [data.md](data.md) has an example for every sort of data, and says what languages are called;
  [new-language.md](new-language.md) shows how to go on from a finished run.
- A key without a default here must be written. `{}` as that of a whole section stands for the
  defaults of its keys.
- `${VAR}` and `${VAR:-default}` stand for environment variables. Within braces or brackets such a
  text must stand in quotes: `{train: "${VAR}/train.conllu"}`.
- File names are relative to the block's `root`, and that to the recipe's folder.
- Languages are ISO 639-3 codes; ISO 639-1 codes, BCP 47 tags and English names are understood.
  The file is read as YAML 1.2, where the bare word `no` is text: Norwegian needs no quotes.
- Any value can be changed on the command line: `--set training.steps=200`.

Formats of data and their `fields`: `conllu` ({label: upos}, any column or misc:KEY), `columns`
({word: 1, label: 2}), `tsv`, `csv`, `jsonl` and `hub` ({text: …, pair: …, label: …}, or
{words: …, labels: …}), `text` (one text a line). For tasks of type `parsing` a field `head`
(`heads` in tables and on the hub) says where the heads are: words counted from 1, 0 for the root.
In `conllu` they and the relations are found without it.
"""


def section(prefix: str, title: str, keys: dict[str, str]) -> list[str]:
    """Lay out the keys directly under a prefix as a table."""
    lines = [f"\n## {title}\n", "| key | default | meaning |", "|---|---|---|"]
    for key, meaning in keys.items():
        place, _, name = key.rpartition(".")
        if place == prefix:
            default = default_of(SECTIONS[prefix], name)
            shown = "" if default is None else f"`{default}`"
            # The meanings are docstrings of Python, whose None is null in a recipe.
            meaning = re.sub(r"\bNone\b", "null", meaning).replace("|", "\\|")
            lines.append(f"| `{name}` | {shown} | {meaning} |")
    return lines


def default_of(kind: Any, name: str) -> str | None:
    """Write the default of a section's field as a recipe would; None where there is none."""
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
    if isinstance(value, tuple):
        return f"[{', '.join(map(as_yaml, value))}]"
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
