"""One YAML file as data: the rules of YAML 1.2, lines, overrides, variables, pydantic in words."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from hyperlect.errors import Problem, RecipeError, RunError
from hyperlect.recipe.document import SET, Document, dump_document, fill_in


@pytest.fixture
def read(tmp_path: Path) -> Any:
    def from_text(text: str, renamed: dict[tuple[str, ...], str] | None = None) -> Document:
        (tmp_path / "some.yaml").write_text(text, encoding="utf-8")
        return Document.read(tmp_path / "some.yaml", renamed=renamed or {})

    return from_text


def problems(document: Document) -> tuple[Problem, ...]:
    with pytest.raises(RecipeError) as error:
        document.raise_if_any()
    return error.value.problems


def places(document: Document) -> list[tuple[int | None, str]]:
    return [(problem.line, problem.key) for problem in problems(document)]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("Yes", "Yes"),
        ("on", "on"),
        ("true", "true"),  # what is a truth value, only the model knows
        ("False", "False"),
        ("1e-3", 0.001),
        ("-1e-3", -0.001),
        ("1e3", 1000.0),
        ("1.5E+2", 150.0),
        ("1:30", "1:30"),
        ("2024-01-02", "2024-01-02"),
        ("1_000", "1_000"),
        ("0o17", 15),
        ("010", "010"),  # a label; pydantic reads it as 10 where a number is meant
        ("0x1f", 31),
        ("-7", -7),
        ("~", None),
        ('"1"', "1"),
        (".inf", math.inf),
    ],
)
def test_plain_scalars_are_read_as_yaml_1_2_does(read: Any, text: str, value: object) -> None:
    data = read(f"key: {text}").data
    assert data == {"key": value}
    assert type(data["key"]) is type(value)


def test_keys_are_the_text_that_is_written(read: Any) -> None:
    data = read("{no: 1, 007: 2, true: 3, null: 4, 1e3: 5}").data
    assert data == {"no": 1, "007": 2, "true": 3, "null": 4, "1e3": 5}


def test_anchors_and_merged_blocks(read: Any) -> None:
    document = read("a: &x {b: 1, c: 2}\nd: {<<: *x, c: 3}\ne: *x\nf: {c: 4, <<: [{c: 5}, *x]}")
    assert document.data == {
        "a": {"b": 1, "c": 2},
        "d": {"b": 1, "c": 3},
        "e": {"b": 1, "c": 2},
        "f": {"b": 1, "c": 4},
    }
    document.raise_if_any()


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("a: 1\nb: 2\na: 3", 3, "a"),
        ("b: 1\na: !!python/name:os.system x", 2, "a"),
        ("a: 1\n? [b, c]\n: 2", 1, ""),
    ],
)
def test_faults_of_the_text_have_their_line(read: Any, text: str, line: int, key: str) -> None:
    assert places(read(text)) == [(line, key)]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: [1\nb: 2", 2),
        ("a: 1\n b: 2", 2),
        ("a: 1\n\tb: 2", 2),
        ("a: *x", 1),
        ("a: \x07", None),
        ("a: &x [*x]", 1),
        ("a: &x {<<: *x}", 1),
    ],
)
def test_what_is_not_yaml_is_refused_at_once(read: Any, text: str, line: int | None) -> None:
    with pytest.raises(RecipeError) as error:
        read(text)
    assert [problem.line for problem in error.value.problems] == [line]


@pytest.mark.parametrize("text", ["", "# nothing\n", "- 1", "word", "7"])
def test_what_is_not_a_block_of_keys_is_refused(read: Any, text: str) -> None:
    with pytest.raises(RecipeError) as error:
        read(text)
    assert len(error.value.problems) == 1


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "toy.yaml").write_bytes(b"a: \xff")
    with pytest.raises(RunError, match=r"UTF-8"):
        Document.read(tmp_path / "toy.yaml", error=RunError)
    with pytest.raises(RecipeError, match=r'Did you mean "toy\.yaml"'):
        Document.read(tmp_path / "toys.yaml")
    with pytest.raises(RecipeError, match="folder"):
        Document.read(tmp_path)


def test_an_error_lists_all_in_the_order_of_the_file(read: Any) -> None:
    document = read("a: 1\nb:\n  - c: 2\nd: 3")
    document.add(("d",), "later")
    document.add(("b", 0, "c"), "deep")
    document.add(("b", 0, "missing", "x"), "around")
    document.add(("b", 0, "c"), "deep")
    document.override("e=1")
    document.add(("e",), "set")
    file = str(document.path)
    assert problems(document) == (
        Problem("set", key="--set e"),
        Problem("deep", file, 3, "b.0.c"),
        Problem("around", file, 3, "b.0.missing.x"),
        Problem("later", file, 4, "d"),
    )


TRICKY = ["no", "1e3", "0o17", "007", "null", "~", "", "1:30", "a: b", "# x", "-", "été", "1_000"]
TRICKY += [
    "y",
    "OFF",
    " a",
    "a ",
    "a #b",
    "{a}",
    "é: [",
    '"',
    "\\",
    "\t",
    "a\nb",
    ".inf",
    "=",
    "<<",
]


def test_dumped_data_is_read_back_by_either_version_of_yaml(read: Any) -> None:
    numbers = [1, 1e-5, 1.5e-7, 1e300, 0.5, -3.0, None]
    data = {"texts": TRICKY, "numbers": numbers, **{text: text for text in TRICKY if text != "<<"}}
    text = dump_document(data)
    assert read(text).data == data
    assert yaml.safe_load(text) == data
    assert yaml.safe_load(dump_document({"a": True})) == {"a": True}


def test_overrides_put_values_in(read: Any) -> None:
    document = read("a: {b: 1}\nc: [{d: 2}, {d: 3}]\ne:")
    for override in ("a.b=[1, 2]", "c.1.d=no", "e.f.g=1e-3", "h=null"):
        document.override(override)
    assert document.data == {
        "a": {"b": [1, 2]},
        "c": [{"d": 2}, {"d": "no"}],
        "e": {"f": {"g": 0.001}},
        "h": None,
    }
    assert document.line(("a", "b", 1)) == SET
    assert document.line(("c", 0)) == 2
    document.raise_if_any()


@pytest.mark.parametrize(
    "override", ["a", "=1", "a..b=1", "c.2.d=1", "c.x=1", "c.-1=1", "a.b.c=1", "a=["]
)
def test_faulty_overrides_are_named(read: Any, override: str) -> None:
    document = read("a: {b: 1}\nc: [{d: 2}, {d: 3}]")
    document.override(override)
    [problem] = problems(document)
    assert problem.line is None
    assert problem.key.startswith(f"--set {override.partition('=')[0]}")


RENAMED = {("a", "old"): "new"}


def test_old_names_are_accepted_with_a_warning_that_names_the_new_one(read: Any) -> None:
    with pytest.warns(UserWarning, match=r"some\.yaml:3, a\.old is called new now"):
        document = read("b: 1\na:\n  old: 5\n", RENAMED)
    assert document.data["a"] == {"new": 5}
    assert document.line(("a", "new")) == 3
    with pytest.warns(UserWarning, match="a.old"):
        both = read("a:\n  old: 5\n  new: 6", RENAMED)
    assert places(both) == [(3, "a.new")]
    read("a: {new: 1}\nold: 2", RENAMED).raise_if_any()


def test_an_override_may_use_an_old_name(read: Any) -> None:
    document = read("a: {}", RENAMED)
    with pytest.warns(UserWarning, match=r"--set a\.old is called new now"):
        document.override("a.old=1")
    assert document.data == {"a": {"new": 1}}
    assert document.line(("a", "new")) == SET
    with pytest.warns(UserWarning, match="a.old"):
        document.override("a={old: 2}")
    assert document.data == {"a": {"new": 2}}


def test_variables() -> None:
    document = Document(
        {"a": "${X}/y", "b": ["${Z:-d:-e}", "$X {X}"], "c": "$${X}", "d": "${EMPTY:-full}", "e": 1}
    )
    document.expand({"X": "x", "EMPTY": ""})
    assert document.data == {
        "a": "x/y",
        "b": ["d:-e", "$X {X}"],
        "c": "${X}",
        "d": "full",
        "e": 1,
    }
    document.raise_if_any()


def test_a_variable_without_a_value_is_one_fault_that_names_its_keys(read: Any) -> None:
    document = read('a: {b: "${NOPE}"}\nc: ["${NOPE}/x"]\nd: "${x y}"\ne: "${open"\nf: "${OK:-}"')
    document.expand({})
    assert places(document) == [(1, "a.b"), (3, "d")]
    assert "a.b, c.0" in problems(document)[0].message
    assert document.unset == {("a", "b"), ("c", 0), ("d",)}
    assert document.data["f"] == ""


def test_some_texts_keep_their_variables_for_later(read: Any) -> None:
    text = 'a: [{root: "${X}/$${y}"}]\nb: "${X}"'
    document = read(text)
    document.expand({"X": "x"}, [("a", "*", "root")])
    assert document.data == {"a": [{"root": "${X}/$${y}"}], "b": "x"}
    assert fill_in(document.data["a"][0]["root"], {"X": "x"}) == "x/${y}"
    document.raise_if_any()
    lacking = read(text)
    lacking.expand({}, [("a", "*", "root")])
    assert lacking.unset == {("a", 0, "root"), ("b",)}
    relaxed = read(text)
    relaxed.expand({}, [("a", "*", "root")], strict=False)
    assert relaxed.unset == {("b",)}
    assert fill_in("${X}/y", {}) == "${X}/y"
