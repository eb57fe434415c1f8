"""Errors: what is wrong, all of it, and what was meant."""

from __future__ import annotations

import pytest

import hyperlect.errors as errors
from hyperlect.errors import DataError, HyperlectError, Problems, UnknownNameError, nearest, unknown


def test_every_error_derives_from_one() -> None:
    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, Exception)]
    assert len(classes) >= 6
    assert all(issubclass(c, HyperlectError) for c in classes)


def test_unknown_names_are_key_errors_with_a_plain_message() -> None:
    error = unknown("task", "nre", ["ner", "pos"])
    assert isinstance(error, KeyError)
    assert str(error) == 'Unknown task "nre". Did you mean "ner"? Known: ner, pos.'
    assert str(UnknownNameError("as it is")) == "as it is"


def test_long_lists_of_known_names_are_cut() -> None:
    assert str(unknown("label", "zz", map(str, range(50)))).endswith("38, 39 and 10 more.")
    assert str(unknown("label", "zz", [])).endswith("Known: none.")


def test_the_nearest_name_is_suggested_whatever_its_case() -> None:
    assert nearest("FAO", ["isl", "fao"]) == ' Did you mean "fao"?'
    assert nearest("Learning_Rate", ["LEARNING_RATE"]) == ' Did you mean "LEARNING_RATE"?'
    assert nearest("xyz", ["isl", "fao"]) == ""
    assert nearest("xyz", []) == ""


def test_problems_are_raised_together() -> None:
    problems = Problems()
    problems.raise_if_any(DataError, "nothing is wrong")
    assert not problems
    problems.add("a:1: one")
    problems.add("b:2: other")
    assert problems
    with pytest.raises(DataError) as error:
        problems.raise_if_any(DataError, "These are wrong:")
    assert str(error.value) == "These are wrong:\n  - a:1: one\n  - b:2: other"


def test_twenty_problems_are_shown_and_the_rest_counted() -> None:
    problems = Problems()
    for number in range(25):
        problems.add(f"fault {number}")
    lines = problems.text("Faults:").splitlines()
    assert len(lines) == 22
    assert lines[-2:] == ["  - fault 19", "  … and 5 more"]


def test_a_list_of_faults_inside_of_another_is_indented() -> None:
    inner = Problems()
    inner.add("line 3")
    outer = Problems()
    outer.add(inner.text("file a:"))
    assert outer.text("All:") == "All:\n  - file a:\n    - line 3"
