from __future__ import annotations

import json
from pathlib import Path

import pytest
from udtools import udeval

from hyperlect.cli import inputs

from .conftest import TREES, Call

SENTENCES = "Anna sees the river.\n\n  \nthe old dog in Oslo!\n"


def test_raw_sentences_from_stdin(call: Call, trained: Path) -> None:
    code, out, err = call("predict", trained, "--task", "pos", "--language", "fo", stdin=SENTENCES)
    assert code == 0, err
    lines = out.splitlines()
    assert len(lines) == 2
    words = [pair.rpartition("/")[0] for pair in lines[1].split()]
    assert words == ["the", "old", "dog", "in", "Oslo", "!"]
    assert err.count("pos in Faroese (fao)") == 1
    assert "untouched" in err
    assert "mean of the trained languages" in err


def test_jsonl_tells_the_cell_in_every_line(call: Call, trained: Path, tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text(SENTENCES)
    options = ["--task", "ner", "--language", "English", "--format", "jsonl"]
    code, out, err = call("predict", trained, file, *options)
    assert code == 0, err
    records = [json.loads(line) for line in out.splitlines()]
    assert [record["text"] for record in records] == [
        "Anna sees the river.",
        "the old dog in Oslo!",
    ]
    for record in records:
        assert record["cell"] == "ner:eng"
        assert record["kind"] == "unseen combination"
        assert record["language_source"] == "own vector"
        assert len(record["words"]) == len(record["labels"])
        for span in record["spans"]:
            assert span["text"] in record["text"]


def test_conll_gives_the_words_back_unchanged(call: Call, trained: Path, tmp_path: Path) -> None:
    file = tmp_path / "words.tsv"
    # decomposed é, a word with a space, a rare sign, a lone "#", and Windows line ends
    words = [["Jose\u0301", "New York", "猫"], ["#", "\u200bx"]]
    text = "\n\n".join("\n".join(f"{w}\tO" for w in sentence) for sentence in words)
    file.write_bytes(b"\xef\xbb\xbf# a comment\n" + text.encode().replace(b"\n", b"\r\n"))
    options = ["--task", "ner", "--language", "isl", "--format", "conll"]
    code, out, err = call("predict", trained, file, *options)
    assert code == 0, err
    head, *lines = out.split("\n")
    assert head == "# cell = ner:isl (supervised; language vector: own vector)"
    sentences = "\n".join(lines).strip("\n").split("\n\n")
    assert [[line.split("\t")[0] for line in s.split("\n")] for s in sentences] == words


def test_conllu_files_need_no_labels(call: Call, trained: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.conllu"
    rows = ["1-2\tdont", "1\tdo", "2\tnot", "2.1\tgo", "3\tsee"]
    file.write_text(
        "# text = dont see\n" + "".join(f"{row}{chr(9)}_" + "\t_" * 7 + "\n" for row in rows)
    )
    options = ["--task", "pos", "--language", "eng", "--format", "conll"]
    code, out, err = call("predict", trained, file, *options)
    assert code == 0, err
    assert [line.split("\t")[0] for line in out.splitlines()[1:] if line] == ["do", "not", "see"]


def test_texts_and_pairs(call: Call, trained: Path) -> None:
    code, out, err = call(
        "predict", trained, "--task", "topic", "--language", "eng", stdin="the river\n\nAnna\n"
    )
    assert code == 0, err
    assert [line.split("  ")[1] for line in out.splitlines()] == ["the river", "Anna"]
    assert all(line.split()[0] in ("nature", "people") for line in out.splitlines())

    options = ["--task", "nli", "--language", "eng", "--format", "jsonl"]
    code, out, err = call("predict", trained, *options, stdin="the dog\ta cat\n")
    assert code == 0, err
    record = json.loads(out)
    assert record["texts"] == ["the dog", "a cat"]
    assert sum(record["scores"].values()) == pytest.approx(1, abs=1e-3)
    assert record["scores"][record["label"]] == max(record["scores"].values())


def test_long_input_passes_in_chunks(
    call: Call, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "".join(f"the dog {number}\n" for number in range(7))
    options = ["--task", "pos", "--language", "eng", "--format", "conll"]
    whole = call("predict", trained, *options, stdin=text)
    monkeypatch.setattr(inputs, "CHUNK", 3)
    assert call("predict", trained, *options, stdin=text).out == whole.out
    assert whole.out.count("# cell") == 1


@pytest.mark.parametrize(
    ("task", "stdin", "options", "said"),
    [
        ("nerr", "Anna", [], 'Unknown task "nerr". Did you mean "ner"?'),
        ("ner", "", [], "stdin holds nothing to predict for"),
        ("ner", b"Anna\n\xff\n", [], "stdin:2: this line is not UTF-8"),
        ("nli", "one text\n", [], "stdin:1: write two texts with one tab"),
        ("topic", "Anna", ["--format", "conll"], "--format conll is for labels on words"),
        ("topic", "Anna", ["--input", "words"], "use --input raw"),
        ("ner", "1\ta" + "\t_" * 8 + "\n", [], "CoNLL-U is read from a file"),
    ],
)
def test_wrong_input(
    call: Call, trained: Path, task: str, stdin: str | bytes, options: list[str], said: str
) -> None:
    result = call("predict", trained, "--task", task, "--language", "eng", *options, stdin=stdin)
    assert result.code == 2
    assert said in result.err


@pytest.mark.parametrize(
    ("run", "file", "language", "said"),
    [
        ("{trained}", "{project}/a.tvs", "eng", 'Did you mean "a.tsv"?'),
        ("{trained}", "{project}", "eng", "is a folder"),
        ("{trained}", "Anna sees", "eng", 'echo "Anna sees" | hyperlect predict'),
        ("{trained}", "-", "Icelandish", 'Did you mean "Icelandic" (isl)?'),
        ("{project}/tiny.yaml", "-", "eng", "is a recipe"),
        ("{trained}s", "-", "eng", 'Did you mean "{trained}"?'),
    ],
)
def test_wrong_names(
    call: Call, trained: Path, project: Path, run: str, file: str, language: str, said: str
) -> None:
    places = {"trained": trained, "project": project}
    names = (run.format(**places), file.format(**places))
    code, _, err = call("predict", *names, "--task", "ner", "--language", language)
    assert code == 2
    assert said.format(**places) in err


def test_a_model_without_a_recipe_is_enough(call: Call, run: Path) -> None:
    for path in run.iterdir():
        if path.is_file() and not path.name.startswith("model."):
            path.unlink()
    code, _, err = call("predict", run, "--task", "ner", "--language", "eng", stdin="Anna\n")
    assert code == 0, err


DEP = ["--task", "dep", "--language", "eng"]


@pytest.mark.parametrize("form", ["text", "conll"])
def test_trees_are_conllu_and_the_rest_of_a_file_stays(
    call: Call, trained: Path, tmp_path: Path, form: str
) -> None:
    file = tmp_path / "gold.conllu"
    file.write_text("# a comment alone\n\n" + TREES)
    code, out, err = call("predict", trained, file, *DEP, "--format", form)
    assert code == 0, err
    out = out.removeprefix("# cell = dep:eng (supervised; language vector: own vector)\n")
    given, found = TREES.splitlines(), out.splitlines()
    assert len(given) == len(found)
    for before, after in zip(given, found, strict=True):
        old, new = before.split("\t"), after.split("\t")
        if old[0].isdigit():
            assert new[6].isdigit()
            old[6:8] = new[6:8]
        assert new == old
    loaded = []
    for name, text in (("gold", TREES), ("found", out)):  # what the official script scores
        (tmp_path / name).write_text(text)
        loaded.append(udeval.load_conllu_file(str(tmp_path / name)))
    assert udeval.evaluate(*loaded)["Words"].f1 == 1


def test_trees_of_raw_sentences_and_in_jsonl(call: Call, trained: Path) -> None:
    code, out, err = call("predict", trained, *DEP, stdin="Anna sees.\n\nok\n")
    assert code == 0, err
    lines = out.split("\n")
    assert [line.split("\t")[:6] for line in lines[:3]] == [
        [number, word, *"____"] for number, word in (("1", "Anna"), ("2", "sees"), ("3", "."))
    ]
    assert lines[3:] == ["", "1\tok\t_\t_\t_\t_\t0\troot\t_\t_", "", ""]
    code, out, err = call("predict", trained, *DEP, "--format", "jsonl", stdin="ok\n")
    record = json.loads(out)
    assert (record["words"], record["heads"], record["labels"]) == (["ok"], [0], ["root"])
    assert "spans" not in record
