"""Cells and their kinds."""

from __future__ import annotations

import pytest

from hyperlect.errors import HyperlectError
from hyperlect.grid import STRATA, Cell, Grid, Kind, Stratum

TRAINED = [
    Cell("pos", "eng"),
    Cell("ner", "eng"),
    Cell("ner", "isl"),
    Cell("mlm", "fao"),
    Cell("mlm", "eng"),
]


@pytest.mark.parametrize(
    ("cell", "kind"),
    [
        ("pos:eng", Kind.SUPERVISED),
        ("ner:isl", Kind.SUPERVISED),
        ("pos:isl", Kind.UNSEEN_COMBINATION),
        ("pos:fao", Kind.TEXT_ONLY),
        ("ner:fao", Kind.TEXT_ONLY),
        ("pos:dan", Kind.UNTOUCHED),
        ("mlm:fao", Kind.SUPERVISED),
        ("mlm:isl", Kind.UNSEEN_COMBINATION),
        ("mlm:dan", Kind.UNTOUCHED),
    ],
)
def test_the_kind_of_a_cell_follows_from_what_was_trained(cell: str, kind: Kind) -> None:
    assert Grid(TRAINED, ["mlm"]).kind(Cell.parse(cell)) is kind


def test_raw_text_does_not_make_a_language_a_labelled_one() -> None:
    grid = Grid(TRAINED, ["mlm"])
    assert grid.labelled_languages == {"eng", "isl"}
    assert grid.text_languages == {"fao", "eng"}
    assert grid.languages == ["eng", "fao", "isl"]
    assert Grid(TRAINED).labelled_languages == {"eng", "fao", "isl"}


def test_cells_are_written_and_read_alike() -> None:
    assert str(Cell("ner", "fao")) == "ner:fao"
    assert Cell.parse("ner:fao") == Cell("ner", "fao")
    assert Grid([("ner", "fao")]).kind(Cell("ner", "fao")) is Kind.SUPERVISED  # type: ignore[list-item]


@pytest.mark.parametrize("text", ["ner", "ner:", ":fao", "", ":", "ner:fao:x"])
def test_what_is_no_cell_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(HyperlectError, match="Write task:language, as in ner:fao"):
        Cell.parse(text)


def test_every_kind_is_explained() -> None:
    assert len({kind.meaning for kind in Kind}) == len(Kind) == 4


def test_an_empty_grid_has_untouched_cells_alone() -> None:
    grid = Grid([])
    assert grid.languages == []
    assert grid.kind(Cell("pos", "eng")) is Kind.UNTOUCHED


def test_strata_go_from_the_best_provided_languages_to_the_unknown_ones() -> None:
    assert len({*map(str, STRATA)}) == len(STRATA) == 9
    assert str(STRATA[0]) == str(Stratum(True, True)) == "known to the encoder, related"
    assert str(Stratum(related=False)) == "unrelated"
    assert str(STRATA[-1]) == str(Stratum()) == "not known"
