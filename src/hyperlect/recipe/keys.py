"""Every key that a recipe may have, and what it is documented to mean."""

from __future__ import annotations

import inspect
import re
from typing import Any

from pydantic import BaseModel

from ..hypernet.config import HypernetConfig
from .few_shot import FewShotSection
from .sections import (
    CellFiles,
    DataBlock,
    EvaluationSection,
    LimitSection,
    Section,
    TaskSection,
    TrainingSection,
)

# Where in a recipe each section stands; "*" is any task, item or language.
NESTED: dict[tuple[str, ...], type[Section] | type[HypernetConfig]] = {
    ("hypernet",): HypernetConfig,
    ("tasks", "*"): TaskSection,
    ("data", "*"): DataBlock,
    ("data", "*", "limit"): LimitSection,
    ("data", "*", "cells", "*"): CellFiles,
    ("few_shot",): FewShotSection,
    ("training",): TrainingSection,
    ("evaluation",): EvaluationSection,
}


def described(section: type[Any]) -> dict[str, str]:
    """Return what each field of a section is documented to mean."""
    if issubclass(section, BaseModel):
        fields = section.model_fields
        return {name: " ".join((f.description or "").split()) for name, f in fields.items()}
    listed = inspect.cleandoc(section.__doc__ or "").partition("Attributes:\n")[2]
    entries = re.findall(r"^    ([\w, ]+): (.*(?:\n {8}.*)*)", listed, re.MULTILINE)
    return {name: " ".join(text.split()) for names, text in entries for name in names.split(", ")}


def documentation() -> dict[str, str]:
    """Return every key of a recipe (``training.steps``, ``data.*.format``) with its meaning."""
    from .recipe import Recipe

    sections = {(): Recipe, **NESTED}
    return {
        ".".join((*place, name)): text
        for place, section in sections.items()
        for name, text in described(section).items()
    }
