"""The cells of a batch's rows."""

from __future__ import annotations

import pytest

from hyperlect.errors import HyperlectError, UnknownNameError, unknown
from hyperlect.grid import Cell
from hyperlect.rows import row_cells, rows_by_task


def known(*names: str):
    def check(name: str) -> None:
        if name not in names:
            raise unknown("name", name, names)

    return check


CHECKS = known("pos", "ner"), known("eng", "isl")


def test_names_are_for_all_rows_or_one_a_row():
    pos, ner = Cell("pos", "eng"), Cell("ner", "eng")
    assert row_cells("pos", "eng", 3, *CHECKS) == [pos] * 3
    assert row_cells(["pos", "ner", "pos"], "eng", 3, *CHECKS) == [pos, ner, pos]
    assert row_cells(("ner", "pos"), ("eng", "isl"), 2, *CHECKS) == [ner, Cell("pos", "isl")]
    assert row_cells("pos", "eng", 0, *CHECKS) == []


def test_unknown_names_name_every_row_of_them_at_once():
    with pytest.raises(UnknownNameError) as error:
        row_cells(["pos", "pso", "nre", "pso"], ["eng", "isl", "isl", "iss"], 4, *CHECKS)
    said = str(error.value)
    assert 'rows 1, 3: Unknown name "pso". Did you mean "pos"?' in said
    assert 'row 2: Unknown name "nre". Did you mean "ner"?' in said
    assert 'row 3: Unknown name "iss". Did you mean "isl"?' in said


def test_one_unknown_name_for_all_rows_names_none():
    with pytest.raises(UnknownNameError) as error:
        row_cells("pso", "eng", 2, *CHECKS)
    assert str(error.value).startswith('Unknown name "pso"')
    with pytest.raises(UnknownNameError):
        row_cells("pso", "eng", 0, *CHECKS)


@pytest.mark.parametrize("names", [["pos"], ["pos"] * 3, []])
def test_as_many_names_as_rows(names: list[str]):
    with pytest.raises(HyperlectError, match=f"as many names of a task, not {len(names)}"):
        row_cells(names, "eng", 2, *CHECKS)
    with pytest.raises(HyperlectError, match=f"of a language, not {len(names)}"):
        row_cells("pos", ["eng"] * len(names), 2, *CHECKS)


def test_rows_are_listed_by_task_in_order():
    cells = [Cell("ner", "eng"), Cell("pos", "isl"), Cell("ner", "isl"), Cell("ner", "eng")]
    found = rows_by_task(cells)
    assert found == {"ner": [0, 2, 3], "pos": [1]}
    assert list(found) == ["ner", "pos"]
    assert rows_by_task([]) == {}
