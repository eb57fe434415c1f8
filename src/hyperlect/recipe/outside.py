"""What comes into a recipe from outside: ``--set key=value`` and environment variables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .document import read_document
from .faults import SET, Faults, Loc, dotted

_VARIABLE = re.compile(r"(?P<escape>\$)?\$\{(?P<inside>[^}]*)(?P<end>\})?")
_INSIDE = re.compile(r"(?P<name>[A-Za-z_]\w*)(?::-(?P<default>.*))?", re.DOTALL)


def apply_override(data: Any, override: str, faults: Faults) -> None:
    """Put one ``key.path=value`` of ``--set`` into the data; list items are counted from 0."""
    path, equals, text = override.partition("=")
    keys = path.strip().split(".")
    if not (equals and all(keys)):
        faults.override(override, "write key.path=value, as in training.steps=200")
        return
    values = Faults()
    value = read_document(text, values)
    for _, message in values.found:
        faults.override(override, message)
    loc: Loc = ()
    for key in keys[:-1]:
        at = _key(data, key)
        if at is not None:
            data[at] = {} if data[at] is None else data[at]
            data, loc = data[at], (*loc, at)
        else:
            faults.override(override, _no_item(data, key, loc))
            return
    at = _key(data, keys[-1])
    if at is None:
        faults.override(override, _no_item(data, keys[-1], loc))
        return
    data[at] = value
    loc = (*loc, at)
    for below in [place for place in faults.places if place[: len(loc)] == loc]:
        del faults.places[below]
    faults.places[loc] = SET


def _key(data: Any, key: str) -> str | int | None:
    """Return the key or index to go down by; None where there is nothing of that name."""
    if isinstance(data, dict):
        data.setdefault(key, None)
        return key
    if isinstance(data, list) and key.isdigit() and int(key) < len(data):
        return int(key)
    return None


def _no_item(data: Any, key: str, loc: Loc) -> str:
    if isinstance(data, list):
        return f'{dotted(loc)} is a list of {len(data)}, counted from 0; it has no item "{key}"'
    return f"{dotted(loc)} is no block of keys"


def expand(data: Any, environment: Mapping[str, str], faults: Faults) -> Any:
    """Replace ``${VAR}`` and ``${VAR:-default}`` in every text; ``$${`` stands for ``${`` itself.

    An unset variable is noted once, with all the keys that name it, and its places in
    ``faults.unset``.
    """
    unset: dict[str, list[Loc]] = {}

    def walk(value: Any, loc: Loc) -> Any:
        if isinstance(value, dict):
            return {key: walk(item, (*loc, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [walk(item, (*loc, index)) for index, item in enumerate(value)]
        return _VARIABLE.sub(lambda m: fill(m, loc), value) if isinstance(value, str) else value

    def fill(match: re.Match[str], loc: Loc) -> str:
        if match["escape"]:
            return match[0][1:]
        inside = _INSIDE.fullmatch(match["inside"]) if match["end"] else None
        if inside is None:
            faults.add(loc, f'"{match[0]}" is no variable; write ${{NAME}} or ${{NAME:-default}}')
            faults.unset.add(loc)
            return match[0]
        found = environment.get(inside["name"])
        if found:
            return found
        if inside["default"] is not None:
            return inside["default"]
        unset.setdefault(inside["name"], []).append(loc)
        faults.unset.add(loc)
        return match[0]

    result = walk(data, ())
    for name, locs in unset.items():
        where = ", ".join(dotted(loc) for loc in dict.fromkeys(locs))
        state = "empty" if name in environment else "not set"
        faults.add(
            locs[0],
            f"the environment variable {name} is {state} (named by {where}); "
            f"run `export {name}=…`, or write ${{{name}:-default}}",
        )
    return result
