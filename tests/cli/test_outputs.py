from __future__ import annotations

import io

from rich.console import Console

from hyperlect.cli.inputs import Given
from hyperlect.cli.outputs import Form, Writer, conll, record, spans_text, tags_text
from hyperlect.grid import Kind
from hyperlect.prediction import Prediction
from hyperlect.tasks import Task, TaskType

TEXT = "Við Anna  Dam býr í Oslo-by, [sic]."
WORDS = ("Við", "Anna", "Dam", "býr", "í", "Oslo-by", ",", "[", "sic", "]", ".")
LABELS = ("O", "B-PER", "I-PER", "O", "O", "B-LOC", "O", "O", "O", "O", "O")
NER = Task("ner", TaskType.SPANS, ("O", "B-LOC", "I-LOC", "B-PER", "I-PER"))
MADE = Prediction("ner", "fao", str(Kind.UNTOUCHED), "own vector", words=WORDS, labels=LABELS)


def test_spans_are_marked_in_the_sentence_as_it_stood() -> None:
    marked = spans_text(MADE, Given(list(WORDS), TEXT)).plain
    assert marked == "Við [Anna  Dam PER] býr í [Oslo-by LOC], [sic]."


def test_words_without_a_text_are_joined_by_spaces() -> None:
    marked = spans_text(MADE, Given(list(WORDS))).plain
    assert marked == "Við [Anna Dam PER] býr í [Oslo-by LOC] , [ sic ] ."


def test_tags_stand_behind_their_words() -> None:
    made = Prediction("pos", "fao", "", "", words=("a", "b"), labels=("DET", "NOUN"))
    assert tags_text(made, ("DET", "NOUN")).plain == "a/DET b/NOUN"
    assert conll(made) == "a\tDET\nb\tNOUN\n"


def test_spans_in_a_record_have_their_text() -> None:
    made = record(MADE, Given(list(WORDS), TEXT))
    assert made["spans"] == [
        {"label": "PER", "start": 1, "end": 3, "text": "Anna  Dam"},
        {"label": "LOC", "start": 5, "end": 6, "text": "Oslo-by"},
    ]
    assert made["cell"] == "ner:fao"


def test_a_terminal_gets_colour_and_a_file_gets_none() -> None:
    written = []
    for terminal in (True, False):
        console = Console(file=io.StringIO(), force_terminal=terminal, color_system="standard")
        Writer(Form.TEXT, NER, console).write(MADE, Given(list(WORDS), TEXT))
        written.append(console.file.getvalue())  # type: ignore[attr-defined]
    assert "\x1b[" in written[0]
    assert written[1] == "Við [Anna  Dam PER] býr í [Oslo-by LOC], [sic].\n"
