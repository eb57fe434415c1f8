"""Tables with named columns: TSV, CSV and JSON lines."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator

from ..examples import Example, Source
from .faults import Faults, counted, lines
from .records import columns_by_role, example, missing_columns

Row = tuple[int, list[str]]


def read_tsv(source: Source, word_level: bool, faults: Faults) -> Iterator[Example]:
    """Read tab-separated values with a header line.

    There is no quoting: a quotation mark is part of the text. Blank lines are passed over.
    """
    rows = ((number, line.split("\t")) for number, line in lines(faults) if line.strip())
    return _read_table(rows, word_level, faults)


def read_csv(source: Source, word_level: bool, faults: Faults) -> Iterator[Example]:
    """Read comma-separated values with a header line; quoted cells may hold commas and lines."""
    return _read_table(_csv_rows(faults), word_level, faults)


def read_jsonl(source: Source, word_level: bool, faults: Faults) -> Iterator[Example]:
    """Read JSON lines: one object a line. Blank lines are passed over.

    Words and labels are lists, or texts that are split at white space.
    """
    columns = columns_by_role(source, word_level, faults)
    if faults:
        return
    for number, line in lines(faults):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            if "\\u" in line:
                json.dumps(record, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            faults.at(number, "half of a surrogate pair (\\ud800 to \\udfff) stands alone")
        except json.JSONDecodeError as error:
            faults.at(number, f"this is not JSON ({error.msg}, column {error.colno})")
        except (ValueError, RecursionError) as error:
            faults.at(number, f"this is not JSON ({error})")
        else:
            if not isinstance(record, dict):
                faults.at(number, "this is not a JSON object; write one object a line")
            elif missing := missing_columns(columns.values(), record):
                faults.at(number, missing)
            elif made := example(record, columns, word_level, number, faults):
                yield made


def _csv_rows(faults: Faults) -> Iterator[Row]:
    """The rows of a CSV file, each with the line where it begins."""
    begin = end = 0

    def text() -> Iterator[str]:
        nonlocal end
        for number, line in lines(faults):
            end = number
            yield line + "\n"

    reader = csv.reader(text(), strict=True)
    while True:
        begin = end + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            faults.at(begin, f"this is not CSV ({error})")
            continue
        if row:
            yield begin, row


def _read_table(rows: Iterable[Row], word_level: bool, faults: Faults) -> Iterator[Example]:
    """Make examples of rows, the first of which is the header."""
    columns = columns_by_role(faults.source, word_level, faults)
    if faults:
        return
    header: list[str] = []
    for number, cells in rows:
        if not header:
            header = [cell.strip() for cell in cells]
            if missing := missing_columns(columns.values(), header):
                faults.at(number, missing)
            for name in dict.fromkeys(columns.values()):
                if header.count(name) > 1:
                    faults.at(number, f'{header.count(name)} columns are named "{name}"')
            if faults:
                return
        elif len(cells) != len(header):
            faults.at(number, f"{counted(len(cells), 'column')}, and the header has {len(header)}")
        elif made := example(
            dict(zip(header, cells, strict=True)), columns, word_level, number, faults
        ):
            yield made
