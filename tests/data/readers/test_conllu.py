from __future__ import annotations

import conllu
import pytest

from hyperlect.data.examples import Example, Source
from hyperlect.data.readers import read
from hyperlect.errors import DataError

from .conftest import Write


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


def test_all_faults_are_named_with_their_lines(write: Write) -> None:
    path = write(
        file(
            row("1", "a"),  # 1
            row("3", "b"),  # 2
            "4\tc\tNOUN",  # 3
            row("5", "d", "_"),  # 4
            row("6", ""),  # 5
            row("x", "e"),  # 6
            row("9.1", "f"),  # 7
            row("5-6", "g"),  # 8
            row("7-9", "h"),  # 9
            row("7", "i"),  # 10
            "1 a a NOUN _ _ 0 root _ _",  # 11
            "",
            row("2", "begins at two"),  # 13
            row("2", "twice"),  # 14
        )
    )
    with pytest.raises(DataError) as caught:
        read(Source("conllu", path), True)
    assert str(caught.value).splitlines()[1:] == [
        f"  - {path}:2: ID 3 where 2 should follow",
        f"  - {path}:3: 3 columns instead of 10",
        f'  - {path}:4: word 5 ("d") has no upos',
        f"  - {path}:5: word 6 has no form",
        f'  - {path}:6: "x" is no ID (write 4, 4-5 or 4.1)',
        f"  - {path}:7: empty node 9.1 after word 6",
        f"  - {path}:8: multiword range 5-6 after word 6",
        f"  - {path}:11: 1 column instead of 10; columns are parted by tabs",
        f"  - {path}:9: this range reaches to word 9, and the sentence ends with word 1",
        f"  - {path}:13: ID 2 where 1 should follow",
        f"  - {path}:14: ID 2 where 3 should follow",
    ]


def test_a_missing_misc_entry_is_an_empty_label(write: Write) -> None:
    path = write(file(row("1", "a", misc="NER=O"), row("2", "b", misc="Gloss=b")))
    with pytest.raises(DataError, match=r':2: word 2 \("b"\) has no misc:NER'):
        read(Source("conllu", path, {"label": "misc:NER"}), True)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"label": "pos"}, 'there is no column "pos"; the columns are id, form'),
        ({"label": "misc:"}, 'write the label as a column, "misc:KEY"'),
        ({"label": "upos:X"}, 'write the label as a column, "misc:KEY"'),
        ({"word": "form"}, '"word" cannot be chosen'),
    ],
)
def test_wrong_fields(write: Write, fields: dict[str, str], message: str) -> None:
    with pytest.raises(DataError) as caught:
        read(Source("conllu", write(ODD), fields), True)
    assert message in str(caught.value)


def test_conllu_plus_is_sent_to_the_columns_reader(write: Write) -> None:
    path = write("# global.columns = FORM UPOS NER\nword\tNOUN\tO\n")
    with pytest.raises(DataError, match=r":1: this is CoNLL-U Plus .*format: columns"):
        read(Source("conllu", path), True)


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
    with pytest.raises(DataError, match='write the head as a column, "misc:KEY"'):
        read(Source("conllu", path, {"head": "misc:"}), True)


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
    with pytest.raises(DataError) as caught:
        read(Source("conllu", path, TREES), True)
    assert sorted(line.partition(":")[2] for line in str(caught.value).splitlines()[1:]) == [
        "12: 2 columns instead of 10",
        "1: words 1 and 3 head each other in a circle",
        '3: word 2 ("b") has no head',
        '4: word 3 ("c") has no deprel',
        "6: words 4 and 5 have the head 0; a tree has one root",
        "8: no word has the head 0: the tree has no root",
        '9: word 2 ("g") has the head 3, and the sentence ends with word 2',
    ]
