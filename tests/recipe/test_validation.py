"""What pydantic finds wrong, in plain words and with the key that has to change."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, ConfigDict, Field

from hyperlect.recipe.document import Document, dotted, matches, sections_of

from .test_document import places, problems


@pytest.fixture
def read(tmp_path: Path) -> Any:
    def from_text(text: str) -> Document:
        (tmp_path / "some.yaml").write_text(text, encoding="utf-8")
        return Document.read(tmp_path / "some.yaml")

    return from_text


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    size: Annotated[int, Field(ge=1)] = 1
    text: str = ""
    rate: float = 0.0
    names: tuple[str, ...] = ()
    learning_rate: float | None = None
    on: bool = False


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: Annotated[str, Field(min_length=1, pattern="^[a-z]+$")]
    items: tuple[Inner, ...] = ()
    table: dict[str, Inner] = {}
    inner: Inner = Inner()


def test_sound_data_becomes_a_model(read: Any) -> None:
    document = read("name: x\nitems: [{size: 3, on: true}]\ntable: {no: {text: True}}")
    assert document.validate(Outer) == Outer(
        name="x", items=(Inner(size=3, on=True),), table={"no": Inner(text="True")}
    )
    document.raise_if_any()


def test_all_faults_are_noted_and_sound_values_are_kept(read: Any) -> None:
    document = read(
        "name: x\nitems:\n  - {size: 0, text: a}\n  - {size: 2}\ntable:\n  b: {names: [c, 1]}\n"
        "inner: {sise: 4, rate: 0.5}"
    )
    model = document.validate(Outer, {("items", "*"): {}})
    assert model == Outer(
        name="x",
        items=(Inner(text="a"), Inner(size=2)),
        table={"b": Inner()},
        inner=Inner(rate=0.5),
    )
    assert places(document) == [(3, "items.0.size"), (6, "table.b.names.1"), (7, "inner.sise")]
    assert document.broken == {("items", 0), ("table", "b"), ("inner",)}
    assert document.is_broken("items")
    assert not document.is_broken("items", 1)
    assert not document.is_broken("name")


def test_numbers_with_a_leading_zero_are_numbers_where_one_is_meant(read: Any) -> None:
    document = read("name: x\ninner: {size: 010, rate: 00.5, text: 007, names: [01, 02]}")
    model = document.validate(Outer)
    assert model is not None
    assert model.inner == Inner(size=10, rate=0.5, text="007", names=("01", "02"))
    document.raise_if_any()


def test_a_list_with_a_faulty_entry_is_left_out(read: Any) -> None:
    document = read("name: x\nitems:\n  - {size: 1}\n  - nothing")
    assert document.validate(Outer) == Outer(name="x")
    assert places(document) == [(4, "items.1")]


def test_what_is_required_needs_a_stand_in(read: Any) -> None:
    document = read("inner: {size: 2}")
    assert document.validate(Outer) is None
    assert places(document) == [(None, "name")]
    document = read("name:\ninner: {size: 2}")
    assert document.validate(Outer, {("name",): "x"}) == Outer(name="x", inner=Inner(size=2))
    assert places(document) == [(1, "name")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{sise: 1}", 'Did you mean "size"?'),
        ("{lr: 1}", 'Did you mean "learning_rate"?'),
        ("{qqq: 1}", "Known here: size, text, rate, names, learning_rate, on."),
        ("{table: 1}", 'Did you mean "table"?'),
        ("{sep: ';'}", "csv has commas, tsv has tabs"),
        ("{size: many}", 'must be a whole number, not "many"'),
        ("{size: 1.5}", "must be a whole number"),
        ("{size: []}", "must be a whole number, not a list"),
        ("{size: 0}", "must be greater than or equal to 1, not 0"),
        ("{size: }", "is empty; write a value, or remove the key"),
        ("{rate: x}", 'must be a number, not "x"'),
        ("{names: a}", 'must be a list, not "a"'),
        ("{names: {a: 1}}", "must be a list, not a block of keys"),
        ("x", 'must be a block of keys, not "x"'),
        ("{text: 1e5}", "is read as a number; if it is text, write it in quotes"),
        ("{size: true}", 'must be a whole number, not "true"'),
        ("{rate: False}", 'must be a number, not "False"'),
        ("{on: perhaps}", 'must be true or false, not "perhaps"'),
        ("{text: [a]}", "must be text, not a list"),
    ],
)
def test_faults_are_told_in_plain_words(read: Any, text: str, words: str) -> None:
    document = read(f"name: x\ninner: {text}")
    document.validate(Outer)
    [problem] = problems(document)
    assert problem.key.startswith("inner")
    assert words in problem.message


@pytest.mark.parametrize(
    ("text", "words"),
    [('""', "must not be empty"), ("A!", "must be made of letters"), (None, "is required")],
)
def test_faults_of_texts(read: Any, text: str | None, words: str) -> None:
    document = read("inner: {}" if text is None else f"name: {text}")
    document.validate(Outer)
    [problem] = problems(document)
    assert problem.key == "name"
    assert words in problem.message


def test_sections_have_their_places() -> None:
    places_of = {("items", "*"): Inner, ("table", "*"): Inner, ("inner",): Inner}
    assert sections_of(Outer) == {(): Outer, **places_of}
    assert matches(("items", 3), *places_of)
    assert not matches(("items", 3, "size"), *places_of)
    assert dotted(("items", 3, "size")) == "items.3.size"
