"""How `predict` writes: for reading, as CoNLL columns, or as JSON lines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from ..grid import Kind
from ..languages import name
from ..tasks import Task, TaskType
from .inputs import Given

if TYPE_CHECKING:
    from ..prediction import Prediction

COLOURS = ("green", "cyan", "magenta", "yellow", "blue", "red")


class Form(StrEnum):
    """How predictions are written."""

    TEXT = "text"
    CONLL = "conll"
    JSONL = "jsonl"


def about(prediction: Prediction) -> str:
    """Say what sort of cell predictions come from, and whose vector stands for the language."""
    cell = f"{prediction.task}:{prediction.language}"
    return f"{cell} ({prediction.kind}; language vector: {prediction.language_source})"


def explained(prediction: Prediction) -> str:
    """Say the same to someone who does not know the words yet."""
    language = f"{name(prediction.language)} ({prediction.language})"
    meaning = Kind(prediction.kind).meaning
    vector = f"language vector: {prediction.language_source}"
    return f"{prediction.task} in {language}: {prediction.kind} ({meaning}); {vector}."


@dataclass(frozen=True)
class Writer:
    """Writes predictions of one task in one form; in colour where people read them."""

    form: Form
    task: Task
    console: Console

    def head(self, prediction: Prediction) -> None:
        """Write what stands before the first prediction."""
        if self.form is Form.CONLL:
            self._plain(f"# cell = {about(prediction)}")

    @property
    def _trees(self) -> bool:
        return self.task.type is TaskType.PARSING

    def write(self, prediction: Prediction, given: Given) -> None:
        """Write one prediction."""
        if self.form is Form.JSONL:
            self._plain(json.dumps(record(prediction, given), ensure_ascii=False))
        elif self._trees:
            self._plain(conllu(prediction, given))
        elif self.form is Form.CONLL:
            self._plain(conll(prediction))
        elif self.console.is_terminal:
            self.console.print(self._readable(prediction, given))
        else:
            self._plain(self._readable(prediction, given).plain)

    def flush(self) -> None:
        """Let everything written so far be seen."""
        self.console.file.flush()

    def _plain(self, line: str) -> None:
        self.console.file.write(f"{line}\n")  # rich would widen tabs and drop control characters

    def _readable(self, prediction: Prediction, given: Given) -> Text:
        match self.task.type:
            case TaskType.SPANS:
                return spans_text(prediction, given)
            case TaskType.TAGGING:
                return tags_text(prediction, self.task.labels)
        label = str(prediction.label)
        chance = (prediction.scores or {})[label]
        return Text.assemble((f"{label} {chance:.2f}", "bold green"), "  ", given.text)


def spans_text(prediction: Prediction, given: Given) -> Text:
    """Mark entities in the sentence: ``[Jógvan PER] býr í [Tórshavn LOC].``"""
    surface, places = _surface(given)
    made, at = Text(), 0
    kinds = list(dict.fromkeys(sorted(span.label for span in prediction.spans)))
    for span in prediction.spans:
        start, end = places[span.start][0], places[span.end - 1][1]
        style = f"bold {COLOURS[kinds.index(span.label) % len(COLOURS)]}"
        made.append(surface[at:start]).append(f"[{surface[start:end]} {span.label}]", style)
        at = end
    return made.append(surface[at:])


def tags_text(prediction: Prediction, labels: Sequence[str]) -> Text:
    """Put each word's tag behind it: ``Jógvan/PROPN býr/VERB í/ADP Tórshavn/PROPN ./PUNCT``."""
    made = Text()
    for word, label in zip(prediction.words, prediction.labels, strict=True):
        colour = COLOURS[labels.index(label) % len(COLOURS)]
        made.append(" " if made else "").append(word).append(f"/{label}", colour)
    return made


def conll(prediction: Prediction) -> str:
    """Write a word and its label a line, with an empty line at the end."""
    pairs = zip(prediction.words, prediction.labels, strict=True)
    return "".join(f"{word}\t{label}\n" for word, label in pairs)


def conllu(prediction: Prediction, given: Given) -> str:
    """Write a tree as CoNLL-U, with an empty line at the end.

    Of a sentence that came as CoNLL-U, everything but heads and relations stays as it was.
    """
    words = enumerate(prediction.words, start=1)
    lines = given.lines or [f"{number}\t{word}" + 8 * "\t_" for number, word in words]
    trees = iter(zip(prediction.heads, prediction.labels, strict=True))
    written = []
    for line in lines:
        cells = line.split("\t")
        if cells[0].isdigit():
            cells[6:8] = map(str, next(trees))
        written.append("\t".join(cells) + "\n")
    return "".join(written)


def record(prediction: Prediction, given: Given) -> dict[str, Any]:
    """Return a prediction as plain data.

    Spans count words from 0, the end not included; heads count them from 1, and 0 is the root.
    """
    cell = {
        "cell": f"{prediction.task}:{prediction.language}",
        "kind": prediction.kind,
        "language_source": prediction.language_source,
    }
    if prediction.label is not None:
        scores = {label: round(score, 4) for label, score in (prediction.scores or {}).items()}
        texts = {"texts": given.value} if isinstance(given.value, tuple) else {"text": given.text}
        return {**cell, **texts, "label": prediction.label, "scores": scores}
    raw = {"text": given.text} if given.text else {}
    found = {"words": prediction.words, "labels": prediction.labels}
    if prediction.heads:
        return {**cell, **raw, **found, "heads": prediction.heads}
    surface, places = _surface(given)
    spans = [
        {
            "label": span.label,
            "start": span.start,
            "end": span.end,
            "text": surface[places[span.start][0] : places[span.end - 1][1]],
        }
        for span in prediction.spans
    ]
    return {**cell, **raw, **found, "spans": spans}


def _surface(given: Given) -> tuple[str, list[tuple[int, int]]]:
    """Return the sentence as it stood, and where each word begins and ends in it."""
    surface = given.text or " ".join(given.value)
    places, at = [], 0
    for word in given.value:
        start = surface.index(word, at)
        at = start + len(word)
        places.append((start, at))
    return surface, places
