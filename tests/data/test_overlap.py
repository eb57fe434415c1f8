from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from datasets import Dataset

from hyperlect.data.corpus import read_corpus
from hyperlect.data.examples import Source
from hyperlect.data.overlap import Overlap, overlaps, refuse_overlaps
from hyperlect.errors import DataError

Text = Callable[..., Dataset]


@pytest.fixture
def text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Text:
    """Make a corpus of lines in a file of that name."""
    monkeypatch.chdir(tmp_path)

    def make(name: str, *lines: str, limit: int | None = None) -> Dataset:
        if lines:
            Path(name).write_text("\n".join(lines) + "\n")
        return read_corpus([Source("text", name, limit=limit)], False)

    return make


def test_data_apart_has_no_overlap(text: Text) -> None:
    assert overlaps({"train": text("a.txt", "x")}, {"test": text("b.txt", "y", "z")}) == []


def test_a_part_in_common_is_told_and_not_refused(text: Text) -> None:
    train = {"mlm:fao": text("a.txt", "x", "y", "y", "w"), "mlm:isl": text("c.txt", "y", "z")}
    found = refuse_overlaps(train, {"mlm:fao test": text("b.txt", "v", "y", "z", "y")})
    assert found == [
        Overlap(
            name="mlm:fao test",
            file="b.txt",
            examples=4,
            shared=3,
            train_files={"c.txt": 3, "a.txt": 2},
        )
    ]
    assert str(found[0]) == (
        "mlm:fao test: 3 of 4 examples of b.txt are in the training data: c.txt (3), a.txt (2)"
    )


def test_a_contained_file_is_refused_with_both_named(text: Text) -> None:
    train = {"train": text("big.txt", "x", "y", "z")}
    with pytest.raises(DataError) as caught:
        refuse_overlaps(train, {"test": text("small.txt", "z", "x"), "dev": text("ok.txt", "n")})
    assert "test: 2 of 2 examples of small.txt" in str(caught.value)
    assert "big.txt (2)" in str(caught.value)
    assert "ok.txt" not in str(caught.value)


def test_a_file_contained_in_several_together_is_refused(text: Text) -> None:
    train = {"one": text("a.txt", "x", "u"), "two": text("b.txt", "y", "v")}
    (found,) = overlaps(train, {"test": text("c.txt", "x", "y")})
    assert found.refused
    assert found.train_files == {"a.txt": 1, "b.txt": 1}


def test_a_larger_evaluation_file_is_not_contained(text: Text) -> None:
    (found,) = overlaps({"train": text("a.txt", "x")}, {"test": text("b.txt", "x", "y")})
    assert not found.refused


def test_one_file_on_both_sides_is_refused_whatever_the_limits(text: Text) -> None:
    evaluation = text("a.txt", "x", "y", "z")
    train = text(str(Path("a.txt").resolve()), limit=1)
    (found,) = overlaps({"train": train}, {"test": evaluation})
    assert (found.shared, found.same_file, found.refused) == (1, True, True)
    assert "that file is trained on" in str(found)


def test_each_file_of_a_split_is_looked_at_by_itself(text: Text, tmp_path: Path) -> None:
    train = {"train": text("a.txt", "x", "w")}
    text("in.txt", "x")
    text("out.txt", "y")
    both = read_corpus([Source("text", "in.txt"), Source("text", "out.txt")], False)
    assert [found.file for found in overlaps(train, {"test": both})] == ["in.txt"]


def test_white_space_and_normal_form_and_format_do_not_hide_a_text(text: Text) -> None:
    Path("words.txt").write_text("Cafe\u0301 O\n! O\n\nNew O\nYork O\n")
    words = read_corpus([Source("columns", "words.txt")], True)
    train = {"mlm": text("a.txt", "Caf\u00e9!", "New  York", "more")}
    (found,) = overlaps(train, {"ner": words})
    assert found.refused


def test_multiword_tokens_do_not_hide_a_sentence(text: Text) -> None:
    rows = (("1-2", "zum"), ("1", "zu"), ("2", "dem"), ("3", "Haus"))
    lines = ("\t".join((*row, "_", "NOUN", *"______")) for row in rows)
    Path("tree.conllu").write_text("\n".join(lines) + "\n")
    Path("split.txt").write_text("zu O\ndem O\nHaus O\n")
    words, raw = (read_corpus([Source("conllu", "tree.conllu")], level) for level in (True, False))
    split = read_corpus([Source("columns", "split.txt")], True)
    lines_of_text = text("raw.txt", "zum Haus", "more")
    for train, test in [
        (lines_of_text, words),
        (words, text("test.txt", "zum Haus")),
        (words, split),
        (raw, split),
        (split, raw),
    ]:
        (found,) = overlaps({"train": train}, {"test": test})
        assert found.refused
        assert list(found.train_files.values()) == [1]


def test_the_two_texts_of_a_pair_count_together(tmp_path: Path) -> None:
    fields = {"text": "a", "pair": "b", "label": "gold"}
    for name, rows in {"train": "p\tq\tyes\n", "test": "p\tr\tyes\n", "swap": "p\tq\tno\n"}.items():
        (tmp_path / name).write_text("a\tb\tgold\n" + rows)
    train, test, swap = (
        read_corpus([Source("tsv", str(tmp_path / name), fields)], False)
        for name in ("train", "test", "swap")
    )
    assert overlaps({"train": train}, {"test": test}) == []
    assert overlaps({"train": train}, {"test": swap})[0].refused
