"""The settings of the service, and the data that goes in and comes out."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, PositiveFloat, PositiveInt, SecretStr

from ..grid import Kind
from ..hardware import Arithmetic

EXAMPLE: list[JsonValue] = [
    {"text": "Anna býr í Reykjavík.", "task": "ner", "language": "isl"},
    {"words": ["Ali", "geldi", "."], "task": ["pos", "ner"], "language": "tr"},
]
"""The items of a request."""


class Settings(BaseModel):
    """How a model is served.

    Attributes:
        items: the most items of a request, each counted once for every task.
        characters: the most characters of an item.
        request_bytes: the most bytes of a request.
        timeout: how many seconds a request may take.
        gather: for how many milliseconds a request waits for others to share its batch.
        batch_tokens: the most sub-words of a batch; by default 1,024, on a GPU 16,384.
        queue_tokens: the most sub-words that wait; by default 8 batches.
        cache_bytes: how much memory adapter weights may take; by default a quarter of what is free,
            4 GiB at most.
        precision: of the arithmetic. "auto" is "bf16" where the hardware is fast in it, else
            "fp32".
        token: what clients must send as ``Authorization: Bearer …``; None for no check.
        origins: web sites whose pages may call the service from a browser (CORS).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    items: PositiveInt = 64
    characters: PositiveInt = 10_000
    request_bytes: PositiveInt = 2**20
    timeout: PositiveFloat = 30.0
    gather: Annotated[float, Field(ge=0)] = 5.0
    batch_tokens: PositiveInt | None = None
    queue_tokens: PositiveInt | None = None
    cache_bytes: Annotated[int, Field(ge=0)] | None = None
    precision: Arithmetic = "auto"
    token: Annotated[SecretStr, Field(min_length=1)] | None = None
    origins: tuple[str, ...] = ()


class Schema(BaseModel):
    """What goes in or comes out; its fields are described by the texts below them."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class Item(Schema):
    """One text, or one sentence in words, and what is asked of it."""

    model_config = ConfigDict(extra="forbid")

    text: str | None = None
    """A raw text. For tasks over words it is split into words and signs."""
    words: list[str] | None = None
    """In place of a text: the words of a sentence."""
    pair: str | None = None
    """The second text, for tasks over pairs of texts."""
    task: Annotated[str | list[str], Field(examples=["ner"])]
    """A task of the model, or several."""
    language: Annotated[str, Field(max_length=100, examples=["isl"])]
    """ISO 639-3 or 639-1 code, BCP 47 tag or English name, trained or not."""


class PredictRequest(Schema):
    """Items of any tasks and languages, in any order."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"items": EXAMPLE}]})

    items: Annotated[list[Item], Field(min_length=1)]


class SpanAnswer(Schema):
    """An entity or another span of words."""

    label: str
    start: int
    """Its first word, counted from 0."""
    end: int
    """The word after its last."""
    text: str
    start_char: int
    """Where it begins in the text, in code points."""
    end_char: int
    confidence: float
    """The lowest probability of its labels."""


class Expectation(Schema):
    """The score to expect of a cell without training data, in percent.

    The range from `low` to `high` should hold the true score in four of five languages.
    """

    metric: str
    score: float
    low: float
    high: float
    source: Literal["evaluation", "request"]
    """From which sentences: the run's test data, or those of this request."""


class PredictionAnswer(Schema):
    """What the model says about one item for one task; what does not apply is left out."""

    task: str
    language: str
    """ISO 639-3 code."""
    kind: Kind
    """How the cell relates to the training data."""
    language_source: str
    """Whose vector represents the language."""
    expected: Expectation | None = None
    text: str
    words: list[str] | None = None
    offsets: list[tuple[int, int]] | None = None
    """Where each word is in the text."""
    labels: list[str] | None = None
    """One for each word."""
    confidences: list[float] | None = None
    heads: list[int] | None = None
    """Of trees: the head of each word, counted from 1; 0 for the root."""
    spans: list[SpanAnswer] | None = None
    """Of entities."""
    label: str | None = None
    """Of whole texts."""
    scores: dict[str, float] | None = None
    """The probability of every label of a text."""


class ItemAnswer(Schema):
    """The predictions for one item, in the order of its tasks."""

    predictions: list[PredictionAnswer]


class PredictAnswer(Schema):
    """One answer for each item, in their order."""

    items: list[ItemAnswer]


class TaskAnswer(Schema):
    """A task of the model."""

    name: str
    type: str
    metric: str
    labels: tuple[str, ...]


class CellAnswer(Schema):
    """A cell, with the score that it had on test data and the one to expect, in percent."""

    task: str
    language: str
    kind: Kind
    score: float | None = None
    examples: int | None = None
    expected: Expectation | None = None


class GridAnswer(Schema):
    """Tasks × languages, as far as anything was trained or measured."""

    name: str
    method: str
    backbone: str
    tasks: list[TaskAnswer]
    languages: list[str]
    kinds: dict[str, str]
    """What each kind of cell means."""
    cells: list[CellAnswer]


class LanguageAnswer(Schema):
    """A language that can be asked for."""

    code: str
    """ISO 639-3 code."""
    name: str
    """In English."""
    autonym: str
    """In the language itself, where that is known."""
    direction: Literal["ltr", "rtl"]
    language_source: str
    """Whose vector represents it."""
    kinds: dict[str, Kind]
    """The kind of its cell, by task."""


class LanguagesAnswer(Schema):
    """The languages of the run, and on request all others."""

    languages: list[LanguageAnswer]


class Fault(Schema):
    """One thing that is wrong with a request."""

    pointer: str
    """Where, as a JSON pointer."""
    detail: str


class Problem(Schema):
    """An error, as RFC 9457 describes it."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[Fault] | None = None
    """Everything that is wrong with the request."""
