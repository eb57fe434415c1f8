"""The usual sub-words of languages, and texts that are not in the language they name."""

from __future__ import annotations

import pytest

from hyperlect.data.pieces import KEPT, PieceTable, text_warning

from ..tiny import unigram_tokenizer

LATIN = ["the old cat sees a dog in Oslo and not the river"] * 20
CYRILLIC = ["вода село дом лес мост"] * 20


@pytest.fixture(scope="module")
def tokenizer():
    return unigram_tokenizer()


def table(tokenizer, **texts: str) -> PieceTable:
    rows = {language: [tokenizer(text)["input_ids"]] for language, text in texts.items()}
    return PieceTable.count(rows, tokenizer.all_special_ids)


def test_the_most_frequent_pieces_are_kept_and_special_ones_are_not() -> None:
    rows = {"isl": [[0, 5, 5, 6, 2], [0, 5, 7, 2]], "eng": [range(10, 10 + 2 * KEPT)], "dan": [[0]]}
    counted = PieceTable.count(rows, special=[0, 2])
    assert list(counted.frequent["isl"]) == [5, 6, 7]
    assert counted.covered == {"isl": 1.0, "eng": 0.5}
    assert len(counted.frequent["eng"]) == KEPT


def test_a_language_is_like_itself() -> None:
    counted = PieceTable({"isl": [5, 6], "eng": [7]}, {"isl": 0.5, "eng": 0.25})
    assert counted.likeness([5, 6, 7, 8]) == {"isl": 1.0, "eng": 1.0}
    assert counted.likeness([]) == {"isl": 0.0, "eng": 0.0}


def test_text_in_its_language_gives_no_warning(tokenizer) -> None:
    known = table(tokenizer, eng=LATIN[0], rus=CYRILLIC[0])
    assert text_warning(known, LATIN, "eng", tokenizer) is None
    assert text_warning(known, CYRILLIC, "rus", tokenizer) is None
    assert text_warning(PieceTable(), LATIN, "isl", tokenizer) is None


def test_another_script_is_named_with_its_share(tokenizer) -> None:
    warning = text_warning(PieceTable(), CYRILLIC, "isl", tokenizer)
    assert warning is not None
    assert "Latin" in warning
    assert "100% are Cyrillic" in warning


def test_a_second_script_of_a_language_is_usual_too(tokenizer) -> None:
    assert text_warning(PieceTable(), LATIN, "srp", tokenizer) is None
    assert text_warning(PieceTable(), CYRILLIC, "srp", tokenizer) is None


def test_text_of_another_language_of_the_run_is_noticed(tokenizer) -> None:
    known = table(tokenizer, eng=LATIN[0], dan="xyz qrs tuv " * 5)
    for code in ("dan", "isl"):  # with usual sub-words of its own, and without
        warning = text_warning(known, LATIN, code, tokenizer)
        assert warning is not None
        assert "English (eng, " in warning


def test_little_text_says_nothing(tokenizer) -> None:
    known = table(tokenizer, eng=LATIN[0])
    assert text_warning(known, ["вода"], "isl", tokenizer) is None
    assert text_warning(known, LATIN[:1], "isl", tokenizer) is None
    assert text_warning(known, [], "isl", tokenizer) is None
