"""The sample corpus that ships: what its page promises of every file."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import pytest

from hyperlect.data.readers import Source, read
from hyperlect.heads import iob2_spans
from hyperlect.languages import resolve

FOLDER = Path(str(resources.files("hyperlect") / "data" / "sample"))
SENTENCES = {"train": 40, "test": 20}
# The universal part-of-speech tags (https://universaldependencies.org/u/pos/) but X.
UPOS = {
    "ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM", "PART", "PRON", "PROPN",
    "PUNCT", "SCONJ", "SYM", "VERB",
}  # fmt: skip
ENTITIES = {"PER", "ORG", "LOC"}
FILES = sorted(FOLDER.glob("*.tsv"))
LANGUAGES = sorted({path.name.split(".")[0] for path in FILES})


@dataclass
class Sentence:
    name: str
    text: str
    words: list[str]
    tags: list[str]
    entities: list[str]


def sentences(path: Path) -> Iterator[Sentence]:
    """Parse a file without the package's readers."""
    for part in path.read_text(encoding="utf-8").rstrip("\n").split("\n\n"):
        name, text, *lines = part.split("\n")
        columns = [line.split("\t") for line in lines]
        assert all(len(row) == 3 for row in columns), (path.name, name)
        assert name.startswith("# sent_id = "), (path.name, name)
        assert text.startswith("# text = "), (path.name, name)
        words, tags, entities = (list(column) for column in zip(*columns, strict=True))
        yield Sentence(name.split(" = ")[1], text.split(" = ", 1)[1], words, tags, entities)


def each_file() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def test_there_are_two_files_of_each_of_at_least_twelve_languages() -> None:
    assert len(LANGUAGES) >= 12
    assert {path.name for path in FILES} == {f"{c}.{s}.tsv" for c in LANGUAGES for s in SENTENCES}
    assert [resolve(code) for code in LANGUAGES] == LANGUAGES


@each_file()
def test_a_file_has_the_promised_number_of_sentences(path: Path) -> None:
    split = path.name.split(".")[1]
    found = list(sentences(path))
    assert len(found) == SENTENCES[split]
    code = path.name.split(".")[0]
    assert [s.name for s in found] == [f"{code}-{split}-{i:02d}" for i in range(1, len(found) + 1)]


@each_file()
def test_tags_are_universal_and_entities_valid(path: Path) -> None:
    for sentence in sentences(path):
        assert set(sentence.tags) <= UPOS, sentence.name
        before = "O"
        for tag in sentence.entities:
            assert re.fullmatch("O|[BI]-(PER|ORG|LOC)", tag), (sentence.name, tag)
            assert not tag.startswith("I-") or before[2:] == tag[2:], sentence.name
            before = tag


@each_file()
def test_entities_hold_a_name(path: Path) -> None:
    """Punctuation is tagged as such, and no entity is made of it alone."""
    for sentence in sentences(path):
        for word, tag in zip(sentence.words, sentence.tags, strict=True):
            is_sign = all(unicodedata.category(c)[0] == "P" for c in word)
            assert (tag == "PUNCT") == is_sign or tag == "SYM", (sentence.name, word, tag)
        for _, start, end in iob2_spans(sentence.entities):
            assert set(sentence.tags[start:end]) - {"PUNCT"}, sentence.name


@each_file()
def test_forms_spell_the_text(path: Path) -> None:
    for sentence in sentences(path):
        assert "".join(sentence.words) == "".join(sentence.text.split()), sentence.name
        assert all(word and not re.search(r"\s", word) for word in sentence.words), sentence.name


@each_file()
def test_files_are_in_nfc_and_hold_nothing_invisible(path: Path) -> None:
    text = path.read_bytes().decode("utf-8")
    assert unicodedata.is_normalized("NFC", text)
    assert text.endswith("\n")
    odd = {c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Co", "Cn")} - {"\n", "\t"}
    assert not odd


@each_file()
def test_each_kind_of_entity_occurs_several_times(path: Path) -> None:
    counts = Counter(label for s in sentences(path) for label, _, _ in iob2_spans(s.entities))
    assert counts.keys() == ENTITIES
    assert min(counts.values()) >= 5


@pytest.mark.parametrize("code", LANGUAGES)
def test_no_sentence_occurs_twice_in_a_language(code: str) -> None:
    texts = Counter(
        unicodedata.normalize("NFKC", "".join(sentence.words)).casefold()
        for split in SENTENCES
        for sentence in sentences(FOLDER / f"{code}.{split}.tsv")
    )
    assert [text for text, count in texts.items() if count > 1] == []
    assert len(texts) == sum(SENTENCES.values())


@each_file()
@pytest.mark.parametrize(("column", "name"), [(2, "tags"), (3, "entities")])
def test_the_reader_of_column_files_reads_them(path: Path, column: int, name: str) -> None:
    source = Source("columns", str(path), fields={"word": 1, "label": column}, comment="# ")
    examples = read(source, word_level=True)
    expected = list(sentences(path))
    assert [list(example.words) for example in examples] == [s.words for s in expected]
    assert [list(example.labels) for example in examples] == [getattr(s, name) for s in expected]


def test_the_table_of_its_page_has_the_right_numbers() -> None:
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| [^|]+ \| `(\w{3})` \|[^|]+\|[^|]+\|(.+)\|$", page, re.MULTILINE)
    told = {code: [re.findall(r"\d+", cell) for cell in cells.split("|")] for code, cells in rows}
    assert sorted(told) == LANGUAGES
    for code, cells in told.items():
        found = []
        for split in SENTENCES:
            read_again = list(sentences(FOLDER / f"{code}.{split}.tsv"))
            spans = Counter(label for one in read_again for label, _, _ in iob2_spans(one.entities))
            found += [
                [str(len(read_again))],
                [str(sum(len(one.words) for one in read_again))],
                [str(spans[label]) for label in ("PER", "ORG", "LOC")],
            ]
        assert cells == found, code
