"""Write docs/recipes.md from the recipe's own documentation: `python docs/build.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hyperlect.hypernet import HypernetConfig
from hyperlect.recipe import EvaluationSection, FewShotSection, TrainingSection, documentation
from hyperlect.recipe.recipe import Recipe

HEADINGS = {
    "": ("The recipe", None),
    "hypernet": ("hypernet", HypernetConfig()),
    "tasks.*": ("tasks: one entry a task", None),
    "data.*": ("data: a list of blocks", None),
    "data.*.limit": ("data: limit", None),
    "data.*.cells.*": ("data: cells, one entry a language", None),
    "few_shot": ("few_shot", FewShotSection.model_construct()),
    "training": ("training", TrainingSection()),
    "evaluation": ("evaluation", EvaluationSection()),
}
INTRODUCTION = """\
# Recipes

<!-- Made by docs/build.py from the code; do not edit. -->

A recipe is one YAML file that says what is trained, on what, and how. It is validated whole
before anything is loaded: unknown keys are refused with the nearest name, and all faults are
reported at once. `hyperlect check RECIPE` reads the data too and prints the grid.

- `${VAR}` and `${VAR:-default}` stand for environment variables.
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


def section(prefix: str, title: str, defaults: Any, keys: dict[str, str]) -> list[str]:
    """Lay out the keys directly under a prefix as a table."""
    lines = [f"\n## {title}\n", "| key | default | meaning |", "|---|---|---|"]
    for key, meaning in keys.items():
        place, _, name = key.rpartition(".")
        if place == prefix:
            default = getattr(defaults, name, "") if defaults else ""
            if prefix == "" and name in Recipe.model_fields:
                field = Recipe.model_fields[name]
                plain = isinstance(field.default, str | int) and not field.is_required()
                default = field.default if plain else ""
            shown = f"`{default}`" if default not in ("", ()) else ""
            lines.append(f"| `{name}` | {shown} | {meaning.replace('|', chr(92) + '|')} |")
    return lines


def page() -> str:
    """Return the whole page."""
    keys = documentation()
    lines = [INTRODUCTION.rstrip()]
    for prefix, (title, defaults) in HEADINGS.items():
        lines += section(prefix, title, defaults, keys)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (Path(__file__).parent / "recipes.md").write_text(page(), encoding="utf-8")
