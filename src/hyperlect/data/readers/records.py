"""From a record (named columns → values) to an example; shared by the tables and the hub."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import compress

from ...errors import nearest
from ..examples import Example, Source
from .faults import Faults, counted
from .trees import read_heads

WORD_ROLES = {"words": True, "labels": False, "heads": False}  # role → whether it must be given
TEXT_ROLES = {"text": True, "pair": False, "label": False}

# What treebanks on the hub give multiword tokens for a head; they stand beside their words there.
_NO_HEAD = "None"

_HINTS = {True: "{words: tokens, labels: tags}", False: "{text: sentence, label: topic}"}


def columns_by_role(source: Source, word_level: bool, faults: Faults) -> dict[str, str]:
    """Check ``source.fields`` of a table: role (``text``, ``label`` …) → the column's name.

    Without ``label`` or ``labels`` the examples are unlabelled; without ``heads``, no trees.
    """
    roles = WORD_ROLES if word_level else TEXT_ROLES
    for role in source.fields:
        if role not in roles:
            level = "word" if word_level else "sentence"
            faults.whole(
                f'fields: "{role}" is nothing that {level}-level data has.'
                f"{nearest(role, roles)} There is: {', '.join(roles)}"
            )
    for role, needed in roles.items():
        if needed and role not in source.fields:
            faults.whole(
                f"fields do not say which column holds the {role}; write something like "
                f"fields: {_HINTS[word_level]}"
            )
    return {role: str(column) for role, column in source.fields.items()}


def missing_columns(wanted: Iterable[str], present: Iterable[str]) -> str:
    """Say which columns are missing and which there are; an empty string if none is missing."""
    present = list(present)
    missing = [column for column in dict.fromkeys(wanted) if column not in present]
    if not missing:
        return ""
    named = ", ".join(f'"{column}"' for column in missing)
    listed = ", ".join(present) or "none"
    hint = nearest(missing[0], present)
    return f"no column{'s' if len(missing) > 1 else ''} {named}.{hint} Columns present: {listed}"


def example(
    record: Mapping[str, object],
    columns: Mapping[str, str],
    word_level: bool,
    line: int,
    faults: Faults,
) -> Example | None:
    """Make the example of one record.

    Returns:
        ``None`` where something is wrong with the record (it is noted in `faults`), and where it
        is blank: unlabelled and without a text, or without words.
    """
    values = {role: record[column] for role, column in columns.items()}
    # What a person cannot mend (a data set on the hub) is not refused for an empty text.
    strict = faults.source.format != "hub"
    try:
        if word_level:
            return _words_example(values, line, strict)
        return _text_example(values, line, strict)
    except ValueError as error:
        faults.at(line, str(error))
        return None


def _words_example(values: Mapping[str, object], line: int, strict: bool) -> Example | None:
    words = _strings("words", values["words"])
    if strict and not all(word.strip() for word in words):
        raise ValueError(f"word {[bool(word.strip()) for word in words].index(False) + 1} is empty")
    labels = _one_a_word("labels", values, words)
    if not all(labels):
        raise ValueError(f"the label of word {labels.index('') + 1} is empty")
    written = _one_a_word("heads", values, words)
    if not strict and _NO_HEAD in written:
        kept = [head != _NO_HEAD for head in written]
        words, labels, written = (tuple(compress(row, kept)) for row in (words, labels, written))
    heads, wrong = read_heads(written, words)
    if wrong:
        raise ValueError("; ".join(message for _, message in wrong))
    return Example(words, labels, heads, line=line) if words else None


def _one_a_word(role: str, values: Mapping[str, object], words: tuple[str, ...]) -> tuple[str, ...]:
    """The labels or heads; none where the source has none."""
    found = _strings(role, values[role]) if role in values else ()
    if role in values and len(words) != len(found):
        raise ValueError(f"{counted(len(words), 'word')} and {counted(len(found), role[:-1])}")
    return found


def _text_example(values: Mapping[str, object], line: int, strict: bool) -> Example | None:
    text = _text("text", values["text"])
    pair = _text("pair", values["pair"]) if "pair" in values else None
    if "label" not in values:
        return Example(text=text, pair=pair, line=line) if text.strip() else None
    label = _label(values["label"])
    if not label:
        raise ValueError("the label is empty")
    if strict and not text.strip():
        raise ValueError("the text is empty")
    if strict and pair is not None and not pair.strip():
        raise ValueError("the pair (second text) is empty")
    return Example(text=text, pair=pair, label=label, line=line)


def _text(role: str, value: object) -> str:
    """A text; a list of words is joined by spaces."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return " ".join(_strings(role, value))
    raise ValueError(f"the {role} is {_kind(value)}, not a text")


def _strings(role: str, value: object) -> tuple[str, ...]:
    """A list of strings, or of one string what white space parts."""
    if isinstance(value, str):
        return tuple(value.split())
    if not isinstance(value, list):
        raise ValueError(f"the {role} are {_kind(value)}, not a list")
    if role in ("labels", "heads"):
        return tuple(_label(item, role[:-1]) for item in value)
    for item in value:
        if not isinstance(item, str):
            raise ValueError(f"the {role} hold {_kind(item)}, not only texts")
    return tuple(value)


def _label(value: object, role: str = "label") -> str:
    """A label or a head: a text, a whole number or a truth value; an empty string for none."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    raise ValueError(f"the {role} is {_kind(value)}, not a text or a whole number")


def _kind(value: object) -> str:
    if value is None:
        return "missing"
    kinds = {dict: "an object", list: "a list", float: "a fraction", int: "a number"}
    return kinds.get(type(value), f"a {type(value).__name__}")
