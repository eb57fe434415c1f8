"""Text → data: the rules of YAML 1.2, lines, variables."""

from __future__ import annotations

import math

import pytest
import yaml

from hyperlect.recipe.document import dump_document, read_document
from hyperlect.recipe.faults import Faults
from hyperlect.recipe.outside import expand


def read(text: str) -> object:
    faults = Faults()
    data = read_document(text, faults)
    assert faults.found == []
    return data


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("Yes", "Yes"),
        ("on", "on"),
        ("true", True),
        ("1e-3", 0.001),
        ("1.5E+2", 150.0),
        ("1:30", "1:30"),
        ("2024-01-02", "2024-01-02"),
        ("0o17", 15),
        ("0x1f", 31),
        ("-7", -7),
        ("~", None),
        ('"1"', "1"),
        (".inf", math.inf),
    ],
)
def test_plain_scalars_are_read_as_yaml_1_2_does(text: str, value: object) -> None:
    read_value = read(f"key: {text}")
    assert read_value == {"key": value}


def test_keys_are_the_text_that_stands_there() -> None:
    assert read("{no: 1, 007: 2, true: 3, null: 4}") == {"no": 1, "007": 2, "true": 3, "null": 4}


def test_anchors_and_merged_blocks() -> None:
    assert read("a: &x {b: 1, c: 2}\nd: {<<: *x, c: 3}\ne: *x") == {
        "a": {"b": 1, "c": 2},
        "d": {"b": 1, "c": 3},
        "e": {"b": 1, "c": 2},
    }


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\nb: 2\na: 3", 3, "written twice, in lines 1 and 3"),
        ("a:\n  b: 010", 2, "010 begins with 0"),
        ("a: &x [*x]", 1, "alias"),
        ("a: !!python/name:os.system x", 1, "tag"),
        ("a: [1\nb: 2", 2, "not valid YAML"),
        ("a: 1\n? [b, c]\n: 2", 1, "a key must be a word"),
    ],
)
def test_faults_have_their_line(text: str, line: int, words: str) -> None:
    faults = Faults()
    read_document(text, faults)
    [(loc, message)] = faults.found
    assert words in message
    assert faults.line(loc) == line


TRICKY = ["no", "1e3", "0o17", "007", "null", "~", "", "1:30", "a: b", "# x", "-", "été", "1_000"]


def test_dumped_texts_are_read_back_by_either_version_of_yaml() -> None:
    data = {"texts": TRICKY, "numbers": [1, 1e-5, 0.5, True, None], **{t: t for t in TRICKY}}
    text = dump_document(data)
    assert read(text) == data
    assert yaml.safe_load(text) == data


def test_variables() -> None:
    faults = Faults()
    data = {"a": "${X}/y", "b": ["${Z:-d:-e}", "$X {X}"], "c": "$${X}", "d": "${EMPTY:-full}"}
    expanded = expand(data, {"X": "x", "EMPTY": ""}, faults)
    assert expanded == {"a": "x/y", "b": ["d:-e", "$X {X}"], "c": "${X}", "d": "full"}
    assert faults.found == []


def test_an_unset_variable_is_one_fault_that_names_its_keys() -> None:
    faults = Faults()
    expand({"a": {"b": "${NOPE}"}, "c": ["${NOPE}/x"], "d": "${x y}"}, {}, faults)
    malformed, unset = sorted(faults.found, key=lambda fault: len(fault[1]))
    assert "NOPE is not set (named by a.b, c.0)" in unset[1]
    assert malformed == (("d",), '"${x y}" is no variable; write ${NAME} or ${NAME:-default}')
