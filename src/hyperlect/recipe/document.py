"""A recipe's text → plain data, with the line of every key.

The text is read by the rules of YAML 1.2, not 1.1 as PyYAML does by itself: ``no`` is a word (and
the code of a language), ``1e-3`` a number, a key always the text that stands there. Keys written
twice are refused, and so are numbers that the two versions read differently.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from .faults import Faults, Loc

_TAG = "tag:yaml.org,2002:"
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
_CONSTANTS = {"true": True, "false": False, "null": None, "~": None, "": None}


class _Loader(yaml.SafeLoader):
    """Leaves every plain scalar as text; only ``<<`` (merging) is told apart."""

    yaml_implicit_resolvers = {"<": [(_TAG + "merge", re.compile(r"^<<$"))]}  # noqa: RUF012


def read_document(text: str, faults: Faults) -> Any:
    """Parse YAML text, noting each key's line in ``faults.places`` and what is wrong in `faults`.

    Returns:
        Plain dicts, lists and scalars; None where the text is no YAML at all.
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        return None if node is None else _value(loader, node, (), faults, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        faults.places[()] = mark.line + 1 if mark else 1
        faults.add(
            (), f"this is not valid YAML: {error.problem or error.context}{_hint(text, mark)}"
        )
    except yaml.YAMLError as error:
        faults.add((), f"this is not valid YAML: {error}")
    finally:
        loader.dispose()
    return None


def _hint(text: str, mark: yaml.Mark | None) -> str:
    """Say what is likeliest to be wrong with a line that YAML cannot read."""
    lines = text.splitlines()
    line = lines[mark.line] if mark and mark.line < len(lines) else ""
    return '; inside of {} put values with ${…} in quotes: "${DATA}/x"' if "${" in line else ""


def _value(
    loader: _Loader, node: yaml.Node, loc: Loc, faults: Faults, within: tuple[int, ...]
) -> Any:
    faults.places.setdefault(loc, node.start_mark.line + 1)
    if id(node) in within:
        faults.add(loc, "this alias stands inside of what it repeats; write it out")
        return None
    within = (*within, id(node))
    if isinstance(node, yaml.MappingNode):
        _refuse_twice(node, loc, faults)
        loader.flatten_mapping(node)
        pairs: dict[str, Any] = {}
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                faults.places[(*loc, key.value)] = key.start_mark.line + 1
                pairs[key.value] = _value(loader, value, (*loc, key.value), faults, within)
            else:
                faults.add(loc, "a key must be a word, not a list or a block of keys")
        return pairs
    if isinstance(node, yaml.SequenceNode):
        return [
            _value(loader, item, (*loc, index), faults, within)
            for index, item in enumerate(node.value)
        ]
    if not isinstance(node, yaml.ScalarNode):
        return None
    if node.tag != _TAG + "str":
        faults.add(loc, f"the tag {node.tag.replace(_TAG, '!!')} is not used in recipes; remove it")
    return node.value if node.style else _plain(node.value, loc, faults)


def _refuse_twice(node: yaml.MappingNode, loc: Loc, faults: Faults) -> None:
    lines: dict[str, int] = {}
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            line = key.start_mark.line + 1
            if key.value in lines:
                place = (*loc, key.value)
                faults.add(place, f"written twice, in lines {lines[key.value]} and {line}")
            lines[key.value] = line


def _plain(text: str, loc: Loc, faults: Faults) -> Any:
    """Read an unquoted scalar as the core schema of YAML 1.2 does."""
    if text.lower() in _CONSTANTS:
        return _CONSTANTS[text.lower()]
    if _INTEGER.fullmatch(text):
        digits = text.lstrip("+-")
        if digits.startswith("0") and digits.isdigit() and len(digits) > 1:
            faults.add(
                loc,
                f"{text} begins with 0, which some readers of YAML take for an octal number; "
                f'write {int(text)}, or "{text}" in quotes if it is text',
            )
        return int(text, 0) if digits[:2] in ("0o", "0x") else int(text)
    return float(text.replace(".inf", "inf").replace(".nan", "nan")) if _is_float(text) else text


def _is_float(text: str) -> bool:
    return _FLOAT.fullmatch(text) is not None


class _Dumper(yaml.SafeDumper):
    """Quotes every text that YAML 1.1 or 1.2 would read as something else."""


for _tag, _pattern in (("int", _INTEGER), ("float", _FLOAT)):
    _Dumper.add_implicit_resolver(
        _TAG + _tag, re.compile(f"^(?:{_pattern.pattern})$"), list("-+0123456789.")
    )


def dump_document(data: Any) -> str:
    """Write plain data as YAML that `read_document` reads back, as does any other reader."""
    text: str = yaml.dump(
        data,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=None,
        width=100,
    )
    return text
