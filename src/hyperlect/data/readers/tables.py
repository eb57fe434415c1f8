"""Tables with named columns: TSV, CSV, JSON lines and data sets of the Hugging Face Hub."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import compress
from typing import Any

from ...errors import Problems, UnreachableError, counted, nearest
from ..examples import NO_LABEL, Example, Line, Source, check_fields, lines, read_heads

Record = tuple[int, Mapping[str, object]]
"""The line (or row) where a record begins, and its values by column."""
Records = Callable[[Source, Problems], Iterator[Record]]

_NUMERIC = ("label", "labels", "heads")
"""Roles whose values may be numbers."""
_LONGEST_CELL = 2**31 - 1  # a C long on every system
_BETWEEN = re.compile(r"[\s,]*")
_SEPARATORS = {"\t": "tabs (format: tsv)", ",": "commas (format: csv)", ";": "semicolons"}
_QUOTED = " If cells stand in quotation marks, write quoting: minimal."
_SEPARATED = " Are its columns separated by {}? Save it with tabs or commas."


def read_records(
    records: Records, source: Source, word_level: bool, problems: Problems
) -> Iterator[Example | None]:
    """Make the example of each record; None for one that is left out since it has no label.

    ``source.fields`` says which column holds what; without one for labels the examples are
    unlabelled, without one for heads they are no trees.
    """
    roles = ("words", "labels", "heads") if word_level else ("text", "pair", "label")
    check_fields(source, roles, problems, roles[:1])
    make = _words_example if word_level else _text_example
    for line, record in records(source, problems) if not problems else ():
        values = {role: record[str(column)] for role, column in source.fields.items()}
        try:
            yield make(values, line, source)
        except UnicodeEncodeError:
            problems.add("half of a surrogate pair (\\ud800 to \\udfff) stands alone", line)
        except ValueError as error:
            problems.add(str(error), line)


def missing_columns(source: Source, present: Collection[str]) -> str:
    """Say which columns are missing and which there are; an empty text if none is missing."""
    wanted = dict.fromkeys(map(str, source.fields.values()))
    missing = [column for column in wanted if column not in present]
    if not missing:
        return ""
    header, named = ", ".join(present), " and ".join(f'"{column}"' for column in missing)
    hint = _QUOTED if header.startswith('"') else nearest(missing[0], present)
    for sign, name in _SEPARATORS.items() if len(present) == 1 else ():
        if sign in header:
            hint = _SEPARATED.format(name)
    return f"no column {named}.{hint} Columns present: {header or 'none'}"


def _words_example(values: Mapping[str, object], line: int, source: Source) -> Example | None:
    # What a person cannot fix (a data set on the hub) is not refused for an empty text or label.
    strict, ignore = source.format != "hub", source.unlabelled == "ignore"
    words = _strings("words", values["words"])
    blank = [number for number, word in enumerate(words, start=1) if not word.strip()]
    if strict and blank:
        raise ValueError(f"word {blank[0]} is empty")
    strings: dict[str, tuple[str, ...]] = {"labels": (), "heads": ()}
    for role in [role for role in strings if role in values]:
        strings[role] = _strings(role, values[role] or [None] * len(words))
        if len(strings[role]) != len(words):
            count = counted(len(strings[role]), role[:-1])
            raise ValueError(f"{counted(len(words), 'word')} and {count}")
    labels = tuple("" if ignore and label == "_" else label for label in strings["labels"])
    if strict and not ignore and "" in labels:
        raise ValueError(f"the label of word {labels.index('') + 1} is empty{NO_LABEL}")
    if "" in labels and not (ignore and any(labels)):
        return None
    heads, wrong = read_heads(strings["heads"], words)
    if wrong:
        raise ValueError("; ".join(message for _, message in wrong))
    return Example(words, labels, heads, line=line)


def _text_example(values: Mapping[str, object], line: int, source: Source) -> Example | None:
    texts = {
        role: " ".join(_strings(role, value)) if isinstance(value, list) else _string(role, value)
        for role, value in values.items()
    }
    label, strict = texts.get("label"), source.format != "hub"
    if label in ("", "_") if source.unlabelled == "ignore" else label == "" and not strict:
        return None
    for role in ("label", "text", "pair"):
        if strict and label is not None and not texts.get(role, "-").strip():
            raise ValueError(f"the {role} is empty{NO_LABEL if role == 'label' else ''}")
    return Example(text=texts["text"], pair=texts.get("pair"), label=label, line=line)


def _strings(role: str, value: object) -> tuple[str, ...]:
    """The strings of a list; a text is split at white space."""
    items = value.split() if isinstance(value, str) else value
    if not isinstance(items, list):
        raise ValueError(f"the {role} must be a list, not {value!r:.40}")
    return tuple(_string(role, item) for item in items)


def _string(role: str, value: object) -> str:
    """A text; of a label or head also a whole number or a truth value; an empty text for none."""
    if value is None or value != value:  # a missing number is NaN
        return ""
    if isinstance(value, str):
        value.encode()  # an error where half of a surrogate pair stands alone
        return value.strip() if role in _NUMERIC else value
    if role in _NUMERIC and isinstance(value, int | float) and value % 1 == 0:
        return str(value).lower() if isinstance(value, bool) else str(int(value))
    number = " or a whole number" if role in _NUMERIC else ""
    raise ValueError(f"the {role} must be a text{number}, not {value!r:.40}")


def table_rows(source: Source, problems: Problems) -> Iterator[tuple[int, list[str]]]:
    """Go through the rows of a table that are not blank, each with the line where it begins."""
    of_row: list[Line] = []

    def text() -> Iterator[str]:
        for numbered in lines(source, problems):
            of_row.append(numbered)
            yield f"{numbered[1]}\n"

    reader = csv.reader(
        text(),
        delimiter="\t" if source.format == "tsv" else ",",
        quoting=csv.QUOTE_NONE if source.quotes_are_text else csv.QUOTE_MINIMAL,
        strict=True,
    )
    begun = False
    while True:
        of_row.clear()
        # The limit is one of the whole process, so it is put back after every row.
        limit = csv.field_size_limit(_LONGEST_CELL)
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            last = of_row[-1][1]
            hints = [_SEPARATED.format(n) for sign, n in _SEPARATORS.items() if f'"{sign}"' in last]
            message = f"the quotation marks are wrong ({error}).{''.join(hints)}"
            problems.add(message, of_row[0][0])
            if not begun:  # without a header there is nothing to say of the rows
                return
            continue
        finally:
            csv.field_size_limit(limit)
        if any(map(str.strip, row)):
            begun = True
            yield of_row[0][0], row


def table_records(source: Source, problems: Problems) -> Iterator[Record]:
    """Read tab-separated or comma-separated values with a header line.

    In csv, and in tsv where ``source.quoting`` is ``minimal``, quoted cells may hold separators
    and line ends; else a quotation mark is part of the text. Blank lines are left out.
    """
    header: list[str] = []
    for line, row in table_rows(source, problems):
        if header and len(row) == len(header):
            yield line, dict(zip(header, row, strict=True))
        elif header:
            quoted = any(cell[:1] == '"' or cell[-1:] == '"' for cell in row)
            count = f"{counted(len(row), 'column')}, and the header has {len(header)}"
            problems.add(f"{count}.{_QUOTED}" if quoted and source.quotes_are_text else count, line)
        else:
            header = [cell.strip() for cell in row]
            twice = [name for name in source.fields.values() if header.count(str(name)) > 1]
            missing = missing_columns(source, header)
            if missing or twice:
                problems.add(missing or f'several columns are named "{twice[0]}"', line)
                return


def json_records(source: Source, problems: Problems) -> Iterator[Record]:
    """Read JSON lines: one object a line; or a file that is one JSON array of objects.

    Words and labels are lists, or texts that are split at white space. Blank lines are left out.
    """
    numbered = lines(source, problems)
    first = True
    for number, text in numbered:
        if not text.strip():
            continue
        array, first = first and text.lstrip().startswith("["), False
        if array:
            text = "\n".join([text, *(line for _, line in numbered)])
        try:
            for line, value in _elements(text, number) if array else [(number, json.loads(text))]:
                if not isinstance(value, dict):
                    problems.add("this is not a JSON object. Write one object a line", line)
                elif missing := missing_columns(source, value):
                    problems.add(missing, line)
                else:
                    yield line, value
        except json.JSONDecodeError as error:
            place = number + error.lineno - 1
            problems.add(f"this is not JSON ({error.msg}, column {error.colno})", place)
        except (ValueError, RecursionError) as error:
            problems.add(f"this is not JSON ({error})", number)


def _elements(text: str, line: int) -> Iterator[tuple[int, object]]:
    """The elements of a JSON array that begins in a line."""
    decoder = json.JSONDecoder()
    end = text.index("[") + 1
    while not text.startswith("]", begin := _BETWEEN.match(text, end).end()):  # type: ignore[union-attr]
        line += text.count("\n", end, begin)
        value, end = decoder.raw_decode(text, begin)
        yield line, value
        line += text.count("\n", begin, end)
    if rest := text[begin + 1 :].lstrip():
        raise json.JSONDecodeError("Extra data after the array", text, len(text) - len(rest))


# Data sets that load by script only, which `datasets` has given up, and where the data is now.
_MOVED = {
    "wikiann": "unimelb-nlp/wikiann",
    "universal_dependencies": "commul/universal_dependencies",
}

# Multiword tokens, which stand beside their words in treebanks there, have this part of speech in
# the column upos, and this head.
_UPOS, _NO_UPOS, _NO_HEAD = "upos", "_", "None"

_NO_LABEL = (-1, -100)
"""Numbers that stand for no label: of withheld test labels, and of what a loss leaves out."""


def hub_records(source: Source, problems: Problems) -> Iterator[Record]:
    """Read one split of a data set on the hub, or of a folder that ``load_dataset`` can read.

    Class numbers (``ClassLabel``) become the names of the classes; lists may be the words and
    labels of word-level data. Rows are counted from 1. Some treebanks there have the multiword
    tokens beside their words. As words these are left out, whatever the labels are: their part of
    speech, in the column ``upos``, is "_", and their head, where heads are read, "None".

    Rows without a label, or with words without one, are left out (None comes in their place):
    annotators did not agree, or labels are withheld (-1 or -100). Where ``source.unlabelled`` is
    ``ignore``, only words that have none are left without.
    """
    dataset = _load(source, problems)
    if dataset is None:
        return
    if missing := missing_columns(source, dataset.column_names):
        problems.add(missing)
        return
    columns = {role: str(column) for role, column in source.fields.items()}
    word_level = "words" in columns
    marks = {columns.get("heads", ""): _NO_HEAD, _UPOS: _NO_UPOS} if word_level else {}
    wanted = {*columns.values(), *marks} & {*dataset.column_names}
    features = {c: getattr(dataset.features[c], "feature", dataset.features[c]) for c in wanted}
    names = {column: getattr(feature, "names", None) for column, feature in features.items()}
    label = columns.get("labels" if word_level else "label")
    for number, row in enumerate(dataset.select_columns(sorted(wanted)), start=1):
        record = {c: _named(value, names[c], c == label) for c, value in row.items()}
        for column, mark in marks.items():
            record = _without(mark, record.get(column), record)
        yield number, record


def _load(source: Source, problems: Problems) -> Any:
    """Load the split; ``None`` (and a problem) where that fails.

    Raises:
        UnreachableError: the hub cannot be reached, so that other splits would fail as well.
    """
    import datasets

    bars_were_off = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        loaded = datasets.load_dataset(
            source.location, name=source.config, revision=source.revision, split=source.split
        )
    except ConnectionError as error:
        raise UnreachableError(
            f"{source} cannot be read: {error}. Is there a network? Other data sets were not tried."
        ) from error
    # load_dataset passes on whatever its file readers and the network raise.
    except Exception as error:
        moved = _MOVED.get(str(source.location))
        hint = f' The data set has moved to "{moved}".' if moved else ""
        problems.add(f"it could not be loaded: {type(error).__name__}: {error}{hint}")
        return None
    finally:
        if not bars_were_off:
            datasets.enable_progress_bars()
    if isinstance(loaded, dict):
        problems.add(f"name a split; the data set has {', '.join(loaded)}")
        return None
    return loaded


def _named(value: Any, names: list[str] | None, is_label: bool) -> Any:
    """Put names in the place of class numbers, and None in the place of those for no label."""
    if isinstance(value, list):
        return [_named(item, names, is_label) for item in value]
    if names is not None and value is not None:
        return names[value] if 0 <= value < len(names) else None
    return None if is_label and value in _NO_LABEL else value


def _without(mark: str, marks: Any, record: dict[str, Any]) -> dict[str, Any]:
    """Leave out the words that have a mark, and what goes with each.

    A record that is not whole is left as it is, so that what is wrong with it is reported.
    """
    if not isinstance(marks, list) or mark not in marks:
        return record
    if not all(isinstance(value, list) and len(value) == len(marks) for value in record.values()):
        return record
    kept = [item != mark for item in marks]
    return {column: list(compress(value, kept)) for column, value in record.items()}
