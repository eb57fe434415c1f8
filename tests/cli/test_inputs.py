from __future__ import annotations

from pathlib import Path

import pytest

from hyperlect.cli.inputs import Reading, open_inputs
from hyperlect.tasks import Task, TaskType

NER = Task("ner", TaskType.SPANS, ("O", "B-LOC", "I-LOC"))


def read(folder: Path, text: str, reading: Reading = Reading.AUTO) -> list[list[str]]:
    file = folder / "input"
    file.write_text(text, encoding="utf-8")
    return [list(given.value) for given in open_inputs(str(file), NER, reading).given]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Anna sees.\nthe dog\n", [["Anna", "sees", "."], ["the", "dog"]]),
        ("Anna\nsees\n\nthe\ndog\n", [["Anna", "sees"], ["the", "dog"]]),
        ("Anna\tB-PER\nNew York\tB-LOC\n", [["Anna", "New York"]]),
        ("Anna NNP B-PER\nsees VB O\n\ndogs NN O\n", [["Anna", "sees"], ["dogs"]]),
        # words alone, and no empty line: they may as well be sentences
        ("Anna\nsees\n", [["Anna"], ["sees"]]),
        # scripts without spaces: a sentence is one run of signs
        ("猫在水上。\n\n山大。\n", [["猫", "在", "水", "上", "。"], ["山", "大", "。"]]),
        ("猫\n在\n水\n。\n\n山\n大\n。\n", [["猫", "在", "水", "。"], ["山", "大", "。"]]),
    ],
)
def test_auto_tells_words_from_sentences(
    tmp_path: Path, text: str, sentences: list[list[str]]
) -> None:
    assert read(tmp_path, text) == sentences


def test_the_way_of_reading_can_be_said(tmp_path: Path) -> None:
    assert read(tmp_path, "Anna\nsees\n", Reading.WORDS) == [["Anna", "sees"]]
    assert read(tmp_path, "Anna\n\nsees\n", Reading.RAW) == [["Anna"], ["sees"]]


def test_only_a_line_feed_ends_a_line(tmp_path: Path) -> None:
    assert read(tmp_path, "a\u2028b c\n", Reading.RAW) == [["a", "b", "c"]]


def test_lines_that_were_looked_at_are_not_lost(tmp_path: Path) -> None:
    text = "".join(f"sentence {number}\n" for number in range(250))
    assert [words[1] for words in read(tmp_path, text)] == [str(n) for n in range(250)]
