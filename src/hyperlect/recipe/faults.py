"""The faults of one recipe: gathered with their places, and told in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ..errors import HyperlectError, Problems, RecipeError, nearest

Loc = tuple[str | int, ...]
SET = 0  # the "line" of what --set gave


def dotted(loc: Loc) -> str:
    """Write the path of a key as ``--set`` takes it: ``data.0.cells.eng``."""
    return ".".join(str(part) for part in loc)


class Faults:
    """What is wrong with a recipe.

    Attributes:
        places: the line of each key and item, `SET` for what came from ``--set``.
        found: (path, message) pairs.
        broken: the sections that could not be read as they stand; what follows from them only is
            not reported as well. ``data`` and ``tasks`` break one entry at a time.
        unset: the paths of texts that name a variable without a value.
        removed: the paths of faulty values that were taken out; that they are missing is no fault.
    """

    def __init__(self) -> None:
        self.places: dict[Loc, int] = {}
        self.found: list[tuple[Loc, str]] = []
        self.broken: set[Loc] = set()
        self.unset: set[Loc] = set()
        self.removed: set[Loc] = set()

    def add(self, loc: Loc, message: str) -> None:
        """Note that something is wrong at a path."""
        if (loc, message) not in self.found:
            self.found.append((loc, message))

    def override(self, override: str, message: str) -> None:
        """Note that a ``--set`` cannot be carried out."""
        loc = (f"--set {override}",)
        self.places[loc] = SET
        self.add(loc, message)

    def line(self, loc: Loc) -> int | None:
        """Return the line of a path, or of the nearest thing around it."""
        for length in range(len(loc), 0, -1):
            if loc[:length] in self.places:
                return self.places[loc[:length]]
        return self.places.get(()) if not loc else None

    def is_broken(self, *loc: str | int) -> bool:
        """Whether a section, or any entry of it, could not be read."""
        return any(broken[: len(loc)] == loc for broken in self.broken)

    def raise_if_any(
        self, what: str, error: type[HyperlectError] = RecipeError, hint: str = ""
    ) -> None:
        """Raise one error with every fault, in the order of the file.

        Args:
            what: has the faults: ``The recipe mine.yaml``.
            error: what to raise.
            hint: stands below the faults.
        """
        if not self.found:
            return
        problems = Problems()
        for loc, message in sorted(self.found, key=lambda fault: self.line(fault[0]) or 0):
            problems.add(f"{self._place(loc)}{message}")
        count = len(self.found)
        number = "a fault" if count == 1 else f"{count} faults"
        raise error(problems.text(f"{what} has {number}:") + (f"\n{hint}" if hint else ""))

    def _place(self, loc: Loc) -> str:
        line = self.line(loc)
        name = dotted(loc)
        if line == SET and not name.startswith("--set"):
            name = f"--set {name}"
        parts = [f"line {line}" if line else "", name]
        text = ", ".join(part for part in parts if part)
        return f"{text}: " if text else ""


# The places of a recipe whose keys are fixed; "*" stands for any task, language or item.
Sections = Mapping[tuple[str, ...], tuple[str, ...]]


def translate(
    error: ValidationError, data: Any, keys: Sections, faults: Faults
) -> list[tuple[Loc, str]]:
    """Note every fault that pydantic found, in words that do not speak of pydantic.

    Args:
        error: what pydantic raised.
        data: what it read.
        keys: the known keys of each section.
        faults: takes them, and which sections are broken.

    Returns:
        The path of each fault, and its sort as pydantic calls it.
    """
    found = []
    for detail in error.errors(include_url=False):
        kind = detail["type"]
        loc = detail["loc"] if kind == "missing" else _existing(detail["loc"], data)
        found.append((loc, kind))
        faults.broken.add(section_of(loc))
        if loc not in faults.unset and loc not in faults.removed:
            unknown_key = kind in ("extra_forbidden", "unexpected_keyword_argument")
            faults.add(loc, _unknown_key(loc, keys) if unknown_key else _words(detail))
    return found


def _existing(loc: Loc, data: Any) -> Loc:
    """Cut off what pydantic adds to a path (the member of a union), which is in no recipe."""
    for length, part in enumerate(loc):
        inside = data if isinstance(data, dict) else {}
        if isinstance(data, list):
            inside = dict(enumerate(data))
        if part not in inside:
            return loc[:length]
        data = inside[part]
    return loc


def section_of(loc: Loc) -> Loc:
    """Return the section a path lies in: one entry of ``data`` or ``tasks``, or a top-level key."""
    return loc[:2] if loc and loc[0] in ("data", "tasks") else loc[:1]


def keys_at(loc: Loc, keys: Sections) -> tuple[str, ...]:
    """Return the known keys of the section at a path; none where keys are free."""
    for pattern, known in keys.items():
        if len(pattern) == len(loc) and all(
            p in ("*", part) for p, part in zip(pattern, loc, strict=True)
        ):
            return known
    return ()


def _unknown_key(loc: Loc, keys: Sections) -> str:
    known = keys_at(loc[:-1], keys)
    name = str(loc[-1])
    hint = nearest(name, known)
    if not hint:  # perhaps the right key in the wrong section
        elsewhere = [".".join((*section, name)) for section in keys if name in keys[section]]
        hint = f' Did you mean "{elsewhere[0]}"?' if elsewhere else ""
    return f"there is no such key.{hint or ' Known here: ' + ', '.join(known) + '.'}"


def _words(detail: ErrorDetails) -> str:
    """Say in plain words what a value must be."""
    kind, value = detail["type"], detail["input"]
    context: dict[str, Any] = detail.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind in ("literal_error", "enum"):
        known = [part.strip("'") for part in _listed(context["expected"])]
        if len(known) == 1:
            return f"must be {known[0]}, not {_shown(value)}"
        hint = nearest(_USUAL.get(str(value).lower(), str(value)), known)
        return f"{_shown(value)} is none of {', '.join(known)}.{hint}"
    if kind == "string_type" and isinstance(value, bool | int | float):
        return f'{_shown(value)} is read as a {_sort(value)}; for a text write "{value}" in quotes'
    if kind in _PLAIN:
        return _PLAIN[kind].format(value=_shown(value), **context)
    return f"{detail['msg'][:1].lower()}{detail['msg'][1:]}; it is {_shown(value)}"


# What task types and formats are called elsewhere → what they are called here.
_USUAL = {
    "pos": "tagging",
    "ner": "spans",
    "dep": "parsing",
    "topic": "classification",
    "nli": "pairs",
    "iob2": "columns",
    "txt": "text",
}

_PLAIN = {
    "missing": "is missing, and needed",
    "int_parsing": "must be a whole number, not {value}",
    "int_type": "must be a whole number, not {value}",
    "int_from_float": "must be a whole number, not {value}",
    "float_parsing": "must be a number, not {value}",
    "float_type": "must be a number, not {value}",
    "finite_number": "must be a finite number, not {value}",
    "bool_parsing": "must be true or false, not {value}",
    "bool_type": "must be true or false, not {value}",
    "string_type": "must be a text, not {value}",
    "string_pattern_mismatch": "must be made of letters, digits, -, _ and ., not {value}",
    "string_too_short": "must not be empty",
    "greater_than": "must be more than {gt:g}, not {value}",
    "greater_than_equal": "must be at least {ge:g}, not {value}",
    "less_than": "must be less than {lt:g}, not {value}",
    "less_than_equal": "must be at most {le:g}, not {value}",
    "tuple_type": "must be a list, not {value}",
    "list_type": "must be a list, not {value}",
    "dict_type": "must be a block of keys, not {value}",
    "model_type": "must be a block of keys, not {value}",
    "dataclass_type": "must be a block of keys, not {value}",
}


def _listed(expected: str) -> list[str]:
    return expected.replace(" or ", ", ").split(", ")


def _sort(value: object) -> str:
    return "truth value" if isinstance(value, bool) else "number"


def _shown(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a block of keys"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)
