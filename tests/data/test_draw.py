"""Drawing a few examples."""

from __future__ import annotations

from pathlib import Path

from datasets import Dataset

from hyperlect.data.corpus import read_corpus
from hyperlect.data.draw import draw
from hyperlect.data.encoding import encode
from hyperlect.data.examples import Source
from hyperlect.tasks import Task, TaskType

from ..tiny import tiny_tokenizer

NUMBERS = Dataset.from_dict({"text": [str(number) for number in range(40)]})


def test_a_draw_is_the_beginning_of_one_random_order() -> None:
    whole = draw(NUMBERS, 40, "1 of pos:eng")["text"]
    assert sorted(whole, key=int) == NUMBERS["text"][:]
    assert whole[:] != NUMBERS["text"][:]
    for count in (0, 5, 10, 20):
        assert draw(NUMBERS, count, "1 of pos:eng")["text"][:] == whole[:count]
    assert whole[:5] == ["36", "5", "38", "6", "20"]  # today as at any other time


def test_every_name_has_an_order_of_its_own() -> None:
    names = [f"{number} of {cell}" for number in (1, 2, 3) for cell in ("pos:eng", "pos:isl")]
    assert len({tuple(draw(NUMBERS, 40, name)["text"]) for name in names}) == len(names)


def test_the_cache_of_encoded_data_tells_draws_apart(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("".join(f"the cat sees {number}\n" for number in range(9)))
    read = read_corpus([Source("text", str(file))], word_level=False, cache=tmp_path / "cache")
    task, tokenizer = Task("mlm", TaskType.MLM), tiny_tokenizer("bert")
    encoded = [
        encode(examples, task, tokenizer, 32, tmp_path / "cache")["input_ids"][:]
        for examples in (read, draw(read, 4, "1"), draw(read, 4, "2"), draw(read, 3, "1"))
    ]
    assert [len(rows) for rows in encoded] == [9, 4, 4, 3]
    assert encoded[1][:3] == encoded[3]
    assert encoded[1] != encoded[2]
    assert draw(read, 2, "1")["line"][:] != [1, 2]  # the place in the file is known still
