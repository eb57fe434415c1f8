from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from udtools import Validator, udeval

from hyperlect.cli import predict as verb
from hyperlect.cli.__main__ import main
from hyperlect.cli.predict import Block, Form, Layout, Writer, recognise
from hyperlect.data.examples import MAX_TREE_WORDS
from hyperlect.data.readers import Source
from hyperlect.errors import DataError, HyperlectError, Problems
from hyperlect.model import HyperX
from hyperlect.predict import Prediction, check_inputs
from hyperlect.tasks import UPOS, Task, TaskType

from .conftest import TREES, Call

SENTENCES = "Anna sees the river.\n\n  \nthe old dog in Oslo!\n"
NER = Task("ner", TaskType.SPANS, ("O", "B-LOC", "I-LOC", "B-PER", "I-PER"))
POS = Task("pos", TaskType.TAGGING, UPOS)
TOPIC = Task("topic", TaskType.CLASSIFICATION, ("a", "b"))


def cell(task: str, language: str = "eng") -> list[str]:
    return ["--task", task, "--language", language]


def words_of(conll: str) -> list[list[str]]:
    """The words of each sentence in CoNLL format."""
    blocks = conll.strip("\n").split("\n\n")
    return [[line.split("\t")[0] for line in block.split("\n")] for block in blocks]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "input"


def test_raw_sentences_keep_their_lines(call: Call, trained: Path) -> None:
    code, out, err = call("predict", trained, *cell("pos", "fo"), stdin=SENTENCES)
    assert code == 0, err
    lines = out.split("\n")
    assert lines[1:3] == ["", "  "]
    words = [pair.rpartition("/")[0] for pair in lines[3].split()]
    assert words == ["the", "old", "dog", "in", "Oslo", "!"]
    assert lines[4:] == [""]
    assert err.count("pos in Faroese (fao)") == 1
    assert "untouched" in err
    assert "mean of the trained languages" in err


def test_lines_without_a_word_are_kept_as_blank_ones_are(call: Call, trained: Path) -> None:
    text = "\u200b\nAnna\n\ufeff\n"
    code, out, err = call("predict", trained, *cell("pos"), "--input", "raw", stdin=text)
    assert code == 0, err
    assert len(out.split("\n")) == 4
    assert out.split("\n")[0] == "\u200b"


def test_jsonl_has_line_cell_offsets_confidences_and_spans(
    call: Call, trained: Path, file: Path
) -> None:
    file.write_text(SENTENCES)
    code, out, err = call("predict", trained, file, *cell("ner", "English"), "--format", "jsonl")
    assert code == 0, err
    records = [json.loads(line) for line in out.splitlines()]
    assert [(record["line"], record["text"]) for record in records] == [
        (1, "Anna sees the river."),
        (4, "the old dog in Oslo!"),
    ]
    for record in records:
        assert (record["task"], record["language"]) == ("ner", "eng")
        assert record["kind"] == "unseen combination"
        assert record["language_source"] == "own vector"
        cut = [record["text"][start:end] for start, end in record["offsets"]]
        assert record["words"] == cut
        assert len(record["labels"]) == len(record["confidences"]) == len(cut)
        assert all(0 < confidence <= 1 for confidence in record["confidences"])
        for span in record["spans"]:
            assert span["text"] == record["text"][span["start_char"] : span["end_char"]]


def test_texts_and_pairs(call: Call, trained: Path) -> None:
    code, out, err = call("predict", trained, *cell("topic"), stdin="the river\n\nAnna\n")
    assert code == 0, err
    first, blank, second = out.splitlines()
    assert [first.split("  ")[1], blank, second.split("  ")[1]] == ["the river", "", "Anna"]
    assert all(line.split()[0] in ("nature", "people") for line in (first, second))

    code, out, err = call(
        "predict", trained, *cell("nli"), "--format", "jsonl", stdin="the dog\ta cat\n"
    )
    assert code == 0, err
    record = json.loads(out)
    assert record["text"] == "the dog\ta cat"
    assert sum(record["scores"].values()) == pytest.approx(1, abs=1e-3)
    assert record["scores"][record["label"]] == max(record["scores"].values())


def test_long_input_passes_in_chunks(
    call: Call, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "".join(f"the dog {number}\n" for number in range(7))
    command = ("predict", trained, *cell("pos"), "--format", "conll")
    whole = call(*command, stdin=text)
    monkeypatch.setattr(verb, "CHUNK", 3)
    monkeypatch.setattr(verb, "PEEKED", 2)
    assert call(*command, stdin=text).out == whole.out
    assert len(words_of(whole.out)) == 7


# What files look like, and how they are read.

SPACES = "Jose\u0301\nNew York\n10\u00a0000\n\n#\nok\n"
COLUMNS = "% a comment\n1\tNew York\tO\n2\t#\tO\n\n% another\n1\tOslo\tB-LOC\n"
ROWS = (("1-2", "don't"), ("1", "do"), ("2", "n't"), ("2.1", "go"), ("3", "see"))
CONLLU = "# x = 1\n" + "".join("\t".join((*row, *"_" * 8)) + "\n" for row in ROWS) + "\n"
LAYOUTS: dict[str, tuple[str, list[str], list[list[str]]]] = {
    "raw": ("Anna sees.\nthe dog\n", [], [["Anna", "sees", "."], ["the", "dog"]]),
    "words": (SPACES, [], [["Jose\u0301", "New York", "10\u00a0000"], ["#", "ok"]]),
    "columns": (COLUMNS, ["--word", "2", "--comment", "% "], [["New York", "#"], ["Oslo"]]),
    "conllu": (CONLLU, [], [["do", "n't", "see"]]),
    "tsv": ("no\twords\n1\tAnna sees\n", [], [["Anna", "sees"]]),
    "csv": ('n,forms\n1,"Anna ""x"""\n', ["--field", "words=forms"], [["Anna", '"x"']]),
    "jsonl": ('{"words": ["New York"]}\n{"words": "a b"}\n', [], [["New York"], ["a", "b"]]),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_read_as_training_reads_it(
    call: Call, trained: Path, file: Path, layout: str
) -> None:
    text, options, words = LAYOUTS[layout]
    command = [*cell("ner"), "--format", "jsonl", "--input", layout, *options]
    results = [call("predict", trained, *command, stdin=text)]
    results.append(call("predict", trained, *command, stdin=gzip.compress(text.encode())))
    for content in (text.encode(), gzip.compress(text.encode())):
        file.write_bytes(content)
        results.append(call("predict", trained, file, *command))
    for code, out, err in results:
        assert code == 0, err
        assert out == results[0].out
    assert [json.loads(line)["words"] for line in results[0].out.splitlines()] == words


@pytest.mark.skipif(os.name == "nt", reason="there are no such pipes")
def test_a_pipe_is_read_as_a_file_is(call: Call, trained: Path, tmp_path: Path) -> None:
    text, _, words = LAYOUTS["conllu"]
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_text(text))
    writer.start()
    code, out, err = call("predict", trained, pipe, *cell("pos"), "--format", "conll")
    writer.join()
    assert code == 0, err
    assert words_of(out)[0][1:] == words[0]  # after the comment
    assert "Reading CoNLL-U" in err


def test_word_files_give_words_and_line_count_back(call: Call, trained: Path, file: Path) -> None:
    """Decomposed é, words with spaces, a rare sign, a lone "#", -DOCSTART-, Windows line ends."""
    text = (
        "# a comment\n-DOCSTART- O\n\n\nJose\u0301 O\n猫 O\n"
        "\n# O\n\u200bx O\n\n\n# a last comment\n\n"
    )
    file.write_bytes(b"\xef\xbb\xbf" + text.encode().replace(b"\n", b"\r\n"))
    options = ["--format", "conll", "--comment", "# a"]
    code, out, err = call("predict", trained, file, *cell("ner"), *options)
    assert code == 0, err
    before, after = text.split("\n"), out.split("\n")
    assert len(after) == len(before)
    assert [line.replace("\t", " ").split(" ")[0] for line in after] == [
        line.split(" ")[0] for line in before
    ]
    assert after[:4] == before[:4]
    assert after[8].split("\t")[0] == "\u200bx"


def test_a_column_that_counts_the_words_is_refused(call: Call, trained: Path, file: Path) -> None:
    """GermEval numbers its words in the first column."""
    file.write_text("1\tMira\tB-PER\n2\tlacht\tO\n")
    refused = call("predict", trained, file, *cell("ner"), "--format", "conll")
    assert refused.code == 2
    assert f"{file}:1" in refused.err
    options = ["--format", "conll", "--word", "2"]
    code, out, err = call("predict", trained, file, *cell("ner"), *options)
    assert code == 0, err
    assert words_of(out) == [["Mira", "lacht"]]
    assert call("predict", trained, file, *cell("ner"), "--word", "1").code == 0


def test_words_with_the_prefix_of_wikiann_lose_it(call: Call, trained: Path, file: Path) -> None:
    file.write_text("en:Anna O\nen:sees O\n")
    options = ["--format", "conll", "--strip-prefix"]
    code, out, err = call("predict", trained, file, *cell("ner"), *options)
    assert code == 0, err
    assert words_of(out) == [["Anna", "sees"]]


def test_tables_of_texts_and_pairs(call: Call, trained: Path, tmp_path: Path) -> None:
    table = tmp_path / "x.csv"
    table.write_text('id,text\n1,"the river,\nAnna"\n2,Oslo\n')
    code, out, err = call("predict", trained, table, *cell("topic"))
    assert code == 0, err
    assert [line.split("  ")[1] for line in out.splitlines()] == ["the river, Anna", "Oslo"]
    table = tmp_path / "x.tsv"
    table.write_text('a\tb\n"the ""dog"""\tAnna\n')
    options = ["--field", "text=a", "--field", "pair=b", "--input", "tsv", "--quoted"]
    code, out, err = call("predict", trained, table, *cell("nli"), "--format", "jsonl", *options)
    assert code == 0, err
    assert json.loads(out)["text"] == 'the "dog"\tAnna'
    table = tmp_path / "x.jsonl"
    table.write_text('{"text": "Anna sees."}\n')
    code, out, err = call("predict", trained, table, *cell("pos"), "--format", "conll")
    assert code == 0, err
    assert words_of(out) == [["Anna", "sees", "."]]  # a text is split as raw sentences are


@pytest.mark.parametrize(
    ("text", "name", "task", "layout"),
    [
        ("Anna sees.\nthe dog\n", "", NER, "raw"),
        ("Anna\nsees\n\nthe\ndog\n", "", NER, "words"),
        ("Anna\tB-PER\nNew York\tB-LOC\n", "", NER, "columns"),
        ("Anna NNP B-PER\nsees VB O\n\ndogs NN O\n", "", NER, "columns"),
        # words alone, and no blank line: they may as well be sentences
        ("Anna\nsees\n", "", NER, "raw"),
        # scripts without spaces: a sentence is one run of signs
        ("猫在水上。\n\n山大。\n", "", NER, "raw"),
        ("猫\n在\n水\n。\n\n山\n大\n。\n", "", NER, "words"),
        (CONLLU, "", NER, "conllu"),
        ("", "x.conllu", NER, "conllu"),
        ("", "x.conllu.gz", POS, "conllu"),
        # one odd line decides nothing
        ("Anna sees.\na tab\there\nthe dog\n", "", NER, "raw"),
        ("Anna sees O\nthe dog\nin Oslo\n", "", NER, "raw"),
        ("Anna\tO\nsees\nOslo\tO\n", "", NER, "columns"),
        (f"{CONLLU}1 x\n", "", NER, "conllu"),
        ("# O\n7 O\nGent B-LOC\n", "", NER, "columns"),
        ("#a tag\n#another one\n", "", NER, "raw"),
        ("Anna\tsees\nthe\tdog\n", "", TOPIC, "raw"),
        ("text\tlabel\nthe\tdog\n", "x.tsv", TOPIC, "tsv"),
        ('"text","label"\nthe,dog\n', "x.csv", TOPIC, "csv"),
        ("no header\there\n", "x.tsv", TOPIC, "raw"),
        ("{}\n", "x.jsonl", TOPIC, "jsonl"),
        ("{}\n", "x.jsonl.gz", POS, "jsonl"),
    ],
)
def test_the_layout_is_recognised(text: str, name: str, task: Task, layout: Layout) -> None:
    assert recognise(name or "-", text.split("\n")[:-1], task) == layout


def test_the_layout_that_was_recognised_is_said_and_another_can_be_named(
    call: Call, trained: Path
) -> None:
    command = ("predict", trained, *cell("pos"), "--format", "conll")
    guessed = call(*command, stdin="Anna\nsees\n")
    assert "a sentence a line" in guessed.err
    assert words_of(guessed.out) == [["Anna"], ["sees"]]
    told = call(*command, "--input", "words", stdin="Anna\nsees\n")
    assert "--input" not in told.err
    assert words_of(told.out) == [["Anna", "sees"]]


@pytest.mark.skipif(os.name == "nt", reason="there are no such terminals")
def test_where_someone_types_each_line_is_answered_at_once(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import pty

    events: list[object] = []
    read, write = verb.lines, Writer.write

    def read_noted(source: Source, problems: Problems) -> Iterator[tuple[int, str]]:
        for number, line in read(source, problems):
            if source.location == "-":
                events.append(line)
            yield number, line

    def write_noted(self: Writer, block: Block, prediction: Prediction | None) -> None:
        events.append(block.line)
        write(self, block, prediction)

    monkeypatch.setattr(verb, "lines", read_noted)
    monkeypatch.setattr(Writer, "write", write_noted)
    typing, terminal = pty.openpty()
    os.write(typing, b"Anna\nOslo\n\x04")
    with os.fdopen(terminal) as stream:
        monkeypatch.setattr("sys.stdin", stream)
        with pytest.raises(SystemExit) as leaving:
            main(["predict", str(trained), *cell("pos")])
    os.close(typing)
    assert not leaving.value.code
    assert events == ["Anna", 1, "Oslo", 2]
    assert "Ctrl-D" in capsys.readouterr().err


# CoNLL-U in and out

DOCUMENT = f"""# newdoc

{TREES}# sent_id = last
1\tAnna\tAnna\tX\tNE\tA=b\t_\t_\t_\tNER=B-LOC|SpaceAfter=No|sort=sign
2\t.\t.\t_\t_\t_\t_\t_\t_\t_


"""


@pytest.mark.parametrize(
    ("task", "columns", "key"),
    [("pos", [3], ""), ("dep", [6, 7], ""), ("ner", [], "NER"), ("sort", [], "sort")],
)
def test_only_the_predicted_column_of_conllu_changes(
    call: Call, trained: Path, file: Path, task: str, columns: list[int], key: str
) -> None:
    file.write_text(DOCUMENT)
    code, out, err = call("predict", trained, file, *cell(task), "--format", "conllu")
    assert code == 0, err
    before, after = DOCUMENT.split("\n"), out.split("\n")
    assert len(before) == len(after)
    for old, new in zip(before, after, strict=True):
        old_cells, new_cells = old.split("\t"), new.split("\t")
        if not old_cells[0].isdigit():
            assert new == old
            continue
        for column in columns:
            assert new_cells[column] != "_"
            old_cells[column] = new_cells[column]
        if key:
            entries = [e for e in old_cells[9].split("|") if e != "_" and not e.startswith(key)]
            assert new_cells[9].split("|")[:-1] == entries
            assert new_cells[9].split("|")[-1].partition("=")[0] == key
            old_cells[9] = new_cells[9]
        assert new_cells == old_cells


@pytest.mark.parametrize("form", ["text", "conll"])
def test_trees_are_conllu_and_the_official_script_reads_them(
    call: Call, trained: Path, tmp_path: Path, form: str
) -> None:
    gold = tmp_path / "gold.conllu"
    gold.write_text(TREES)
    code, out, err = call("predict", trained, gold, *cell("dep"), "--format", form)
    assert code == 0, err
    predicted = tmp_path / "predicted.conllu"
    predicted.write_text(out)
    loaded = [udeval.load_conllu_file(str(path)) for path in (gold, predicted)]
    assert udeval.evaluate(*loaded)["Words"].f1 == 1
    assert len(out.splitlines()) == len(TREES.splitlines())


def test_trees_of_raw_sentences_and_in_jsonl(call: Call, trained: Path) -> None:
    command = ("predict", trained, *cell("dep"))
    code, out, err = call(*command, stdin="Anna sees.\n\nok\n")
    assert code == 0, err
    lines = out.split("\n")
    assert lines[:2] == ["# sent_id = 1", "# text = Anna sees."]
    words = [line.split("\t")[:6] for line in lines[2:5]]
    assert words == [
        [number, word, *"____"] for number, word in (("1", "Anna"), ("2", "sees"), ("3", "."))
    ]
    assert [line.split("\t")[9] for line in lines[2:5]] == ["_", "SpaceAfter=No", "_"]
    assert lines[5:] == [
        "",
        "# sent_id = 3",
        "# text = ok",
        "1\tok\t_\t_\t_\t_\t0\troot\t_\t_",
        "",
        "",
    ]
    code, out, err = call(*command, "--format", "jsonl", stdin="ok\n")
    record = json.loads(out)
    assert (record["words"], record["heads"], record["labels"]) == (["ok"], [0], ["root"])
    assert "spans" not in record


SEVERAL = ("--task", "pos,ner,dep", "--language", "isl")


def test_several_tasks_fill_their_columns_of_conllu(
    call: Call, trained: Path, tmp_path: Path
) -> None:
    gold, system = tmp_path / "gold.conllu", tmp_path / "system.conllu"
    gold.write_text(TREES)
    code, _, err = call("predict", trained, *SEVERAL, gold, "--out", system)
    assert code == 0, err
    assert [err.count(f"{task} in Icelandic") for task in ("pos", "ner", "dep")] == [1, 1, 1]
    lines = [line.split("\t") for line in system.read_text().split("\n")]
    words = [cells for cells in lines if cells[0].isdigit()]
    assert len(words) == sum(line.partition("\t")[0].isdigit() for line in TREES.split("\n"))
    for task, read in (
        ("pos", lambda cells: cells[3]),
        ("ner", lambda cells: cells[9].rpartition("NER=")[2]),
        ("dep", lambda cells: f"{cells[6]} {cells[7]}"),
    ):
        alone = ("--task", task, "--language", "isl", "--format", "conllu")
        code, out, err = call("predict", trained, *alone, gold)
        assert code == 0, err
        rows = [line.split("\t") for line in out.split("\n")]
        assert [read(cells) for cells in rows if cells[0].isdigit()] == [*map(read, words)]
    scores = udeval.evaluate(udeval.load_conllu_file(gold), udeval.load_conllu_file(system))
    assert scores["Words"].f1 == 1.0


def test_several_tasks_in_jsonl(call: Call, trained: Path) -> None:
    options = ("--format", "jsonl")
    code, out, err = call("predict", trained, *SEVERAL, *options, stdin=SENTENCES)
    assert code == 0, err
    for record in map(json.loads, out.splitlines()):
        assert list(record) == [
            "line", "language", "language_source", "text", "words", "offsets", "tasks",
        ]  # fmt: skip
        assert list(record["tasks"]) == ["pos", "ner", "dep"]
        assert list(record["tasks"]["ner"]) == ["task", "kind", "labels", "confidences", "spans"]
        assert len(record["tasks"]["dep"]["heads"]) == len(record["words"])


def test_options_are_checked_before_the_output_is_emptied(
    call: Call, trained: Path, tmp_path: Path
) -> None:
    target = tmp_path / "out.txt"
    target.write_text("of before")
    options = ("--task", "pos,ner", "--language", "eng", "--format", "conll", "--out", target)
    assert call("predict", trained, *options, stdin="the dog\n").code == 2
    assert target.read_text() == "of before"


@pytest.mark.parametrize("tasks", ["dep", "pos,dep", "dep,pos"])
def test_too_many_words_to_parse_are_named_by_their_line(
    call: Call, trained: Path, tmp_path: Path, tasks: str
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("the dog\n" + "the " * (MAX_TREE_WORDS + 1) + "\n")
    code, _, err = call("predict", trained, "--task", tasks, "--language", "eng", path)
    assert code == 2
    assert f"{path}:2" in err.replace("\n", "")
    model = HyperX.from_pretrained(trained)
    with pytest.raises(DataError) as error:
        model.predict(path.read_text().splitlines(), tasks.split(","), "eng")
    assert [problem.key for problem in error.value.problems] == ["input 1"]


def test_an_empty_cell_of_a_table_is_named_by_its_line(
    call: Call, trained: Path, tmp_path: Path
) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("text\tid\n" + "the dog\t1\n" * 4 + "\u200b\t2\n")
    code, _, err = call("predict", trained, *cell("pos"), path)
    assert code == 2
    assert f"{path}:6" in err.replace("\n", "")


def test_two_tasks_with_one_column_go_into_jsonl_alone() -> None:
    tasks = [POS, Task("coarse", TaskType.TAGGING, UPOS[:3])]
    with pytest.raises(HyperlectError, match="UPOS"):
        Writer("conllu", "raw", tasks, Console(file=io.StringIO()))
    Writer("jsonl", "raw", tasks, Console(file=io.StringIO()))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_precision_can_be_named(call: Call, trained: Path, precision: str) -> None:
    options = (*cell("topic"), "--format", "jsonl", "--precision", precision)
    code, out, err = call("predict", trained, *options, stdin="Anna sees the river.\n")
    assert code == 0, err
    (model,) = [HyperX.from_pretrained(trained)]
    (expected,) = model.predict(["Anna sees the river."], "topic", "eng", precision=precision)
    assert json.loads(out)["scores"] == expected.to_dict()["scores"]


def test_a_file_without_a_blank_line_at_its_end_becomes_whole_conllu(
    call: Call, trained: Path, file: Path
) -> None:
    file.write_text(CONLLU.rstrip("\n"))
    code, out, err = call("predict", trained, file, *cell("pos"), "--format", "conllu")
    assert code == 0, err
    assert out.endswith("\n\n")
    assert len(out.splitlines()) == len(CONLLU.splitlines())


def test_word_files_become_conllu(call: Call, trained: Path, file: Path) -> None:
    file.write_text("-DOCSTART- O\n\n% made up\nAnna O\nsees O\n\n")
    options = ["--format", "conllu", "--comment", "%"]
    code, out, err = call("predict", trained, file, *cell("pos"), *options)
    assert code == 0, err
    lines = out.split("\n")
    metadata = ["# sent_id = 3", "# text = Anna sees"]
    assert lines[:5] == ["# -DOCSTART- O", "", "# % made up", *metadata]
    assert [line.split("\t")[:3] for line in lines[5:7]] == [["1", "Anna", "_"], ["2", "sees", "_"]]
    assert all(line.split("\t")[3] in UPOS for line in lines[5:7])
    assert lines[7:] == ["", ""]


RANGE = TREES.partition("3.1")[0]
"""Words of a sentence, two of which are written as one."""


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (SENTENCES, []),
        ("# sent_id = a\n# text = Anna sees\nAnna O\nsees O\n\nOslo O\n", ["--comment", "# "]),
        (f"# sent_id = a\n{RANGE}4\tOslo" + "\t_" * 8 + "\n\n", []),
    ],
    ids=["raw", "words", "conllu"],
)
def test_the_validator_of_universal_dependencies_accepts_what_is_written(
    text: str, options: list[str], call: Call, trained: Path, tmp_path: Path
) -> None:
    """Tags and then trees, at the level of the format: a tiny model knows no syntax."""
    files = [tmp_path / name for name in ("text", "tags.conllu", "trees.conllu")]
    files[0].write_text(text)
    for before, after, task in ((*files[:2], "pos"), (*files[1:], "dep")):
        arguments = [*cell(task), "--format", "conllu", "--out", after]
        code, _, err = call("predict", trained, before, *arguments, *options * (before == files[0]))
        assert code == 0, err
    state = Validator(level=2, lang="ud", output=None).validate_files([str(files[-1])])
    assert [(error.testid, error.message) for error in state.error_tracker] == []
    assert state.passed()


# How predictions are written

TEXT = "Við Anna  Dam býr í Oslo-by, [sic]."
LABELS = ("O", "B-PER", "I-PER", "O", "O", "B-LOC", "O", "O", "O", "O", "O")


def predicted(item: Any, task: Task, *labels: str) -> Prediction:
    (checked,) = check_inputs([item], [task])
    about = (task.name, "fao", "untouched", "own vector", checked.text)
    return Prediction(
        *about,
        words=tuple(checked.content),
        offsets=checked.offsets,
        labels=labels,
        confidences=(0.5,) * len(labels),
    )


def written(prediction: Prediction, task: Task, form: Form = "text", **console: Any) -> str:
    stream = io.StringIO()
    writer = Writer(form, "raw", [task], Console(file=stream, **console))
    writer.write(Block([(1, prediction.text)], prediction.text, 1), {task.name: prediction})
    return stream.getvalue()


def test_spans_are_marked_in_the_sentence_as_it_stood() -> None:
    raw = written(predicted(TEXT, NER, *LABELS), NER)
    assert raw == "Við [Anna  Dam PER] býr í [Oslo-by LOC], [sic].\n"
    of_words = predicted(["Við", "Anna", "Dam"], NER, *LABELS[:3])
    assert written(of_words, NER) == "Við [Anna Dam PER]\n"


def test_tags_stand_behind_their_words() -> None:
    tagged = predicted("a b", POS, "DET", "NOUN")
    assert written(tagged, POS) == "a/DET b/NOUN\n"
    assert written(tagged, POS, "conll") == "a\tDET\nb\tNOUN\n\n"


def test_a_terminal_gets_colour_and_a_file_gets_none() -> None:
    prediction = predicted(TEXT, NER, *LABELS)
    colours: dict[str, Any] = {"force_terminal": True, "color_system": "standard"}
    assert "\x1b[" in written(prediction, NER, **colours)
    assert "\x1b[" not in written(prediction, NER)


@pytest.mark.parametrize(
    ("labels", "column"),
    [(UPOS, 3), (("_", "Case=Nom|Number=Sing", "Number[psor]=Plur"), 5), (("a", "b"), 9)],
)
def test_tags_go_into_the_column_that_they_belong_to(labels: tuple[str, ...], column: int) -> None:
    task = Task("mine", TaskType.TAGGING, labels)
    line = written(predicted("a", task, labels[1]), task, "conllu").split("\n")[2]
    cells = line.split("\t")
    assert cells[column] == (f"mine={labels[1]}" if column == 9 else labels[1])
    assert cells[2:].count("_") == 7


def test_out_goes_into_a_file(call: Call, trained: Path, file: Path, tmp_path: Path) -> None:
    file.write_text("Anna sees\n")
    command = ("predict", trained, file, *cell("pos"))
    printed = call(*command).out
    code, out, err = call(*command, "--out", tmp_path / "out")
    assert (code, out) == (0, ""), err
    assert (tmp_path / "out").read_text() == printed


def test_the_input_is_never_the_output(
    call: Call, trained: Path, file: Path, tmp_path: Path
) -> None:
    file.write_text("Anna sees\n")
    (file.parent / "link").symlink_to(file)
    for target in (file, file.parent / "link"):
        code, _, err = call("predict", trained, file, *cell("pos"), "--out", target)
        assert code == 2
        assert f"--out {target}" in err
    assert file.read_text() == "Anna sees\n"
    stdin = tmp_path.with_name(f"{tmp_path.name}.stdin")
    code, _, err = call("predict", trained, *cell("pos"), "--out", stdin, stdin="Anna\n")
    assert code == 2
    assert f"--out {stdin}" in err
    assert stdin.read_text() == "Anna\n"


def test_where_the_output_cannot_be_written_its_path_is_named(
    call: Call, trained: Path, tmp_path: Path
) -> None:
    target = tmp_path / "none" / "out"
    code, _, err = call("predict", trained, *cell("pos"), "--out", target, stdin="Anna\n")
    assert code == 2
    assert str(target) in err


# What cannot be read or done


@pytest.mark.parametrize(
    ("task", "stdin", "options", "named"),
    [
        ("nerr", "Anna", [], ['"nerr"', '"ner"']),
        ("ner", "", [], ["stdin"]),
        ("ner", "\n \n", [], ["stdin"]),
        ("ner", b"Anna\n\xff\n", [], ["stdin:2"]),
        ("ner", b"Anna\n\x1f\x8b\n\xff\n\xfe\n", [], ["stdin:3", "stdin:4"]),
        ("nli", "one text\na\tb\ntwo\tand\tthree\n\t\n", [], ["stdin:1", "stdin:3"]),
        ("topic", "Anna", ["--format", "conll"], ["--format text", '"topic"']),
        ("topic", "Anna", ["--format", "conllu"], ["--format text", '"topic"']),
        ("topic", "Anna", ["--input", "words"], ["--input raw", '"topic"']),
        ("pos,ner", "Anna", ["--format", "text"], ["--format text", "conllu", "jsonl"]),
        ("pos,ner", "Anna", ["--format", "conll"], ["--format conll", "conllu", "jsonl"]),
        ("pos,topic", "Anna", [], ["--task", "pos reads words", "topic reads texts"]),
        ("pos,nerr", "Anna", [], ['"nerr"', '"ner"']),
        ("ner", "1\ta" + "\t_" * 8 + "\n3\tb" + "\t_" * 8 + "\n", [], ["stdin:2"]),
        ("ner", "a\tO\nb\n", ["--input", "columns"], ["stdin:2"]),
        ("ner", "a\tO\n", ["--word", "3"], ["stdin:1"]),
        ("ner", "a\tO\n", ["--word", "2", "--input", "conllu"], ["--word", "columns"]),
        ("ner", "a\n", ["--comment", "#", "--input", "raw"], ["--comment", "columns"]),
        ("ner", "a\n", ["--field", "words=x"], ["--field", "jsonl"]),
        ("ner", '{"x": 1}\n', ["--input", "jsonl"], ["stdin:1", '"text"']),
        ("ner", '{"words": ["\\ud800"]}\n', ["--input", "jsonl"], ["stdin:1"]),
        ("ner", "a\n", ["--input", "tsv", "--field", "wrods=a"], ["fields", '"wrods"', '"words"']),
        ("ner", "a\n", ["--format", "xml"], ["--format", "xml"]),
    ],
)
def test_wrong_input(
    call: Call, trained: Path, task: str, stdin: str | bytes, options: list[str], named: list[str]
) -> None:
    result = call("predict", trained, *cell(task), *options, stdin=stdin)
    assert result.code == 2
    assert all(text in result.err for text in named), result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize(
    ("run", "file", "language", "named"),
    [
        ("{trained}", "{project}/a.tvs", "eng", '"a.tsv"'),
        ("{trained}", "{project}", "eng", "{project}"),
        ("{trained}", "Anna sees", "eng", 'echo "Anna sees" | hyperlect predict'),
        ("{trained}", "-", "Icelandish", '"Icelandic" (isl)'),
        ("{project}/tiny.yaml", "-", "eng", "hyperlect train"),
        ("{trained}s", "-", "eng", '"{trained}"'),
    ],
)
def test_wrong_names(
    call: Call, trained: Path, project: Path, run: str, file: str, language: str, named: str
) -> None:
    places = {"trained": trained, "project": project}
    names = (run.format(**places), file.format(**places))
    code, _, err = call("predict", *names, *cell("ner", language), stdin="Anna\n")
    assert code == 2
    assert named.format(**places) in err


@pytest.mark.parametrize(
    ("file", "language"), [("a.tsv", "Icelandish"), ("missing", "isl"), ("bad", "isl")]
)
def test_mistakes_show_before_the_model_is_loaded(
    call: Call, project: Path, file: str, language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verb, "load", lambda *arguments: pytest.fail("it was loaded"))
    (project / "bad").write_bytes(b"\xff\n")
    assert call("predict", "run", project / file, *cell("ner", language)).code == 2


def test_a_closed_standard_input_is_named(
    call: Call, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-m", "hyperlect.cli", "predict", str(trained), *cell("ner")]
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", *command], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "stdin" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_model_without_a_recipe_is_enough(call: Call, run: Path) -> None:
    for path in run.iterdir():
        if path.is_file() and not path.name.startswith("model."):
            path.unlink()
    code, _, err = call("predict", run, *cell("ner"), stdin="Anna\n")
    assert code == 0, err


def test_a_vector_is_fitted_to_the_sentences_in_memory(call: Call, run: Path) -> None:
    before = (run / "model.safetensors").read_bytes()
    text = "Anna sees the river\nthe old dog in Oslo\nthe dog sees Anna\n" * 3
    arguments = ("predict", run, "--task", "pos", "--language", "deu", "--format", "jsonl")
    code, out, err = call(*arguments, "--adapt", stdin=text)
    assert code == 0, err
    assert "fitted" in err
    assert call(*arguments, "--adapt", stdin=text)[1] == out
    assert (run / "model.safetensors").read_bytes() == before
    (source,) = {json.loads(line)["language_source"] for line in out.splitlines()}
    assert "fitted to these sentences" in source or "stays" in err


def test_another_language_can_stand_for_one_without_a_vector(call: Call, run: Path) -> None:
    arguments = ("predict", run, "--task", "pos", "--format", "jsonl")
    outputs = {}
    for language, options in (("eng", ()), ("deu", ("--like", "eng"))):
        code, out, err = call(*arguments, "--language", language, *options, stdin="Anna sees")
        assert code == 0, err
        outputs[language] = json.loads(out)
    assert outputs["deu"]["confidences"] == outputs["eng"]["confidences"]
    assert outputs["deu"]["language_source"] == "mean of eng"
    code, _, err = call(*arguments, "--language", "eng", "--like", "isl", stdin="Anna sees")
    assert code == 2
    assert "--like" in err


# --- the score to expect


def test_the_score_to_expect_is_said_once_on_stderr(call: Call, trained: Path) -> None:
    text = "the old dog in Oslo\n" * 12
    code, out, err = call("predict", trained, *cell("pos", "fo"), stdin=text)
    assert code == 0, err
    assert err.count("Expected accuracy: ") == 1
    assert "12 sentences" in err
    assert "Expected" not in out


@pytest.mark.parametrize(("language", "count"), [("fo", 9), ("eng", 12)])
def test_nothing_is_expected_of_few_sentences_or_of_a_trained_cell(
    call: Call, trained: Path, language: str, count: int
) -> None:
    code, _, err = call("predict", trained, *cell("pos", language), stdin="the dog\n" * count)
    assert code == 0, err
    assert "Expected" not in err


def test_an_onnx_export_predicts_as_its_run(call: Call, trained: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from hyperlect.export.onnx import export_onnx

    export_onnx(HyperX.from_pretrained(trained), None, tmp_path)
    text = "Anna sees the old river\n\nthe dog\n"
    for task in ("pos,dep", "topic"):
        options = ("--task", task, "--language", "fao", "--format", "jsonl")
        of_run = call("predict", trained, *options, "--precision", "fp32", stdin=text)
        of_export = call("predict", tmp_path, *options, stdin=text)
        assert of_export.code == 0
        wanted, got = (
            [json.loads(line) for line in result.out.splitlines()] for result in (of_run, of_export)
        )
        rounded = {"confidences": None, "scores": None}
        assert [one | rounded for one in got] == [one | rounded for one in wanted]
    options = ("--task", "pos", "--language", "fao")
    for refused in (
        ("--like", "eng"),
        ("--adapt",),
        ("--precision", "bf16"),
        ("--device", "cuda"),
    ):
        result = call("predict", tmp_path, *options, *refused, stdin=text)
        assert result.code == 2
        assert "ONNX" in result.err
