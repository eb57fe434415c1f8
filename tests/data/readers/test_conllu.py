from __future__ import annotations

import conllu
import pytest

from hyperlect.data.readers import Example, Source, read
from hyperlect.data.readers.conllu import conllu_sentences
from hyperlect.errors import Problems

from ..conftest import Write, places, problems


def row(identifier: str, form: str, upos: str = "NOUN", **more: str) -> str:
    cells = [identifier, form, "_", upos, "_", "_", "_", "_", "_", "_"]
    for column, value in more.items():
        cells[{"lemma": 2, "xpos": 4, "feats": 5, "head": 6, "deprel": 7, "misc": 9}[column]] = (
            value
        )
    return "\t".join(cells)


def file(*rows: str) -> str:
    return "\n".join(rows) + "\n"


ODD = file(
    "# newdoc id = one",
    "# sent_id = 1",
    "# text = Vamos ao  mar!",
    row("1", "Vamos", "VERB", misc="NER=O|Gloss=we_go"),
    row("2-3", "ao", "_"),
    row("2", "a", "ADP", misc="NER=O"),
    row("3", "o", "DET", feats="Case=Nom|Number=Sing", misc="NER=O"),
    row("3.1", "grande", "ADJ"),
    row("4", "mar", "NOUN", misc="NER=B-LOC|SpaceAfter=No"),
    row("5", "!", "PUNCT", misc="NER=O"),
    "",
    "",
    "# a comment alone is no sentence",
    "",
    "# sent_id = 2",
    row("0.1", "empty", "_"),
    row("1", "_", "PUNCT", misc="NER=O"),
    row("2", "hai nghìn", "NUM", misc="NER=O"),
)


def test_words_are_the_syntactic_words(write: Write) -> None:
    first, second = read(Source("conllu", write(ODD)), True)
    assert first == Example(
        words=("Vamos", "a", "o", "mar", "!"),
        labels=("VERB", "ADP", "DET", "NOUN", "PUNCT"),
        text="Vamos ao  mar!",
        line=4,
    )
    assert second == Example(("_", "hai nghìn"), ("PUNCT", "NUM"), text="_ hai nghìn", line=17)


def test_the_library_reads_the_same_words(write: Write) -> None:
    theirs = [
        [(token["form"], token["upos"]) for token in sentence if isinstance(token["id"], int)]
        for sentence in conllu.parse(ODD)
        if sentence
    ]
    ours = read(Source("conllu", write(ODD)), True)
    assert [list(zip(e.words, e.labels, strict=True)) for e in ours] == theirs


def test_windows_line_ends_and_a_byte_order_mark(write: Write) -> None:
    plain = read(Source("conllu", write(ODD, "a")), True)
    assert read(Source("conllu", write("\ufeff" + ODD.replace("\n", "\r\n"), "b")), True) == plain


def test_label_from_misc_and_feats(write: Write) -> None:
    path = write(ODD)
    entities = read(Source("conllu", path, {"label": "misc:NER"}), True)
    assert entities[0].labels == ("O", "O", "O", "B-LOC", "O")
    cases = read(Source("conllu", path, {"label": "feats:Case"}), True)
    assert cases[0].labels == ("_", "_", "Nom", "_", "_")
    whole = read(Source("conllu", path, {"label": "feats"}), True)
    assert whole[0].labels == ("_", "_", "Case=Nom|Number=Sing", "_", "_")


def test_as_text_the_comment_counts_and_else_the_surface(write: Write) -> None:
    first, second = read(Source("conllu", write(ODD)), False)
    assert first == Example(("Vamos", "a", "o", "mar", "!"), text="Vamos ao  mar!", line=4)
    assert second.text == "_ hai nghìn"
    bare = "\n".join(line for line in ODD.splitlines() if not line.startswith("# text"))
    for word_level in (False, True):
        assert read(Source("conllu", write(bare)), word_level)[0].text == "Vamos ao mar!"


def test_as_text_no_label_is_needed(write: Write) -> None:
    path = write(file(row("1", "word", "_")))
    assert read(Source("conllu", path), False)[0].text == "word"


def test_all_problems_are_named_with_their_lines(write: Write) -> None:
    path = write(
        file(
            row("1", "a"),  # 1
            row("3", "b"),  # 2: out of order
            "4\tc\tNOUN",  # 3: too few columns
            row("5", "d", "_"),  # 4: no label
            row("6", ""),  # 5: no form
            row("x", "e"),  # 6: no ID
            row("9.1", "f"),  # 7: an empty node out of order
            row("5-6", "g"),  # 8: a range out of order
            row("7-9", "h"),  # 9: a range that reaches too far
            row("7", "i"),  # 10
            "1 a a NOUN _ _ 0 root _ _",  # 11: no tabs
            "",
            row("2", "begins at two"),  # 13
            row("2", "twice"),  # 14
        )
    )
    assert places(Source("conllu", path), True) == [2, 3, 4, 5, 6, 7, 8, 11, 9, 13, 14]
    assert "tabs" in problems(Source("conllu", path), True)[7].message


def test_a_missing_blank_line_is_guessed_at(write: Write) -> None:
    (problem,) = problems(Source("conllu", write(file(row("1", "a"), row("1", "b")))), True)
    assert problem.line == 2
    assert "blank line" in problem.message


def test_a_missing_misc_entry_is_an_empty_label(write: Write) -> None:
    path = write(file(row("1", "a", misc="NER=O"), row("2", "b", misc="Gloss=b")))
    (problem,) = problems(Source("conllu", path, {"label": "misc:NER"}), True)
    assert problem.line == 2
    assert "misc:NER" in problem.message


def test_words_without_a_label_may_be_ignored(write: Write) -> None:
    path = write(file(row("1", "a", xpos="N"), row("2", "b"), row("3", "c", xpos="V")))
    source = Source("conllu", path, {"label": "xpos"}, unlabelled="ignore")
    assert read(source, True)[0].labels == ("N", "", "V")
    entries = Source("conllu", path, {"label": "misc:NER"}, unlabelled="ignore")
    assert read(entries, True)[0].labels == ("", "", "")


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ({"label": "pos"}, "fields.label"),
        ({"label": "misc:"}, "fields.label"),
        ({"label": "upos:X"}, "fields.label"),
        ({"head": "misc:"}, "fields.head"),
        ({"word": "form"}, "fields"),
    ],
)
def test_wrong_fields(write: Write, fields: dict[str, str], key: str) -> None:
    assert places(Source("conllu", write(ODD), fields), True)[0] == key


def test_conllu_plus_is_sent_to_the_columns_reader(write: Write) -> None:
    path = write("# global.columns = FORM UPOS NER\nword\tNOUN\tO\n")
    (problem,) = problems(Source("conllu", path), True)
    assert problem.line == 1
    assert "format: columns" in problem.message


def test_sentences_come_with_their_lines(write: Write) -> None:
    problems_of_file = Problems()
    blocks = list(conllu_sentences(Source("conllu", write(ODD)), True, problems_of_file))
    assert not problems_of_file
    assert [example for example, _ in blocks if example] == read(Source("conllu", write(ODD)), True)
    numbered = [line for _, lines in blocks for line in lines]
    assert numbered == list(enumerate(ODD.split("\n")[:-1], start=1))


TREES = {"label": "deprel", "head": "head"}
TREE = file(
    "# text = Vamos ao mar",
    row("1", "Vamos", head="0", deprel="root"),
    row("2-3", "ao"),
    row("2", "a", head="4", deprel="case"),
    row("3", "o", head="4", deprel="det"),
    row("3.1", "grande"),
    row("4", "mar", head="1", deprel="obl:arg"),
    "",
    row("1", "Ja", head="0", deprel="root"),
)


def test_heads_are_read_where_they_are_asked_for(write: Write) -> None:
    path = write(TREE)
    relations = ("root", "case", "det", "obl:arg")
    assert read(Source("conllu", path, TREES), True) == [
        Example(("Vamos", "a", "o", "mar"), relations, (0, 4, 4, 1), "Vamos ao mar", line=2),
        Example(("Ja",), ("root",), (0,), "Ja", line=9),
    ]
    assert read(Source("conllu", path, {"label": "deprel"}), True)[0].heads == ()
    as_text = read(Source("conllu", path, TREES), False)[0]
    assert (as_text.labels, as_text.heads, as_text.text) == ((), (), "Vamos ao mar")


def test_heads_may_stand_elsewhere(write: Write) -> None:
    path = write(file(row("1", "a", misc="Head=2"), row("2", "b", misc="Head=0")))
    (example,) = read(Source("conllu", path, {"label": "upos", "head": "misc:Head"}), True)
    assert example.heads == (2, 0)


def test_what_is_no_tree_is_named_with_its_lines(write: Write) -> None:
    path = write(
        file(
            row("1", "a", head="3", deprel="obj"),  # 1
            row("2-3", "bc"),
            row("2", "b", head="_", deprel="obj"),  # 3
            row("3", "c", head="1", deprel="_"),  # 4
            row("4", "d", head="0", deprel="root"),
            row("5", "e", head="0", deprel="root"),  # 6
            "",
            row("1", "f", head="2", deprel="obj"),
            row("2", "g", head="3", deprel="obj"),  # 9
            "",
            row("1", "its words are not all there", head="4", deprel="obj"),
            "2\tb",  # 12
        )
    )
    lines = places(Source("conllu", path, TREES), True)
    assert sorted(map(int, filter(None, lines))) == [1, 3, 4, 6, 9, 12]
