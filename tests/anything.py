"""What must hold for any bytes at all: they are read, and come back when written, or are refused.

`TARGETS` has a function for each sort of input. `tests/test_anything.py` tries them with bytes that
hypothesis makes, `benchmarks/fuzz.py` with those that a coverage-guided fuzzer makes. They raise
`AssertionError`, or whatever else the package should not raise.
"""

from __future__ import annotations

import csv
import io
import json
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

from hyperlect.data.encoding import ROOT_WORD, encode_for_tasks
from hyperlect.data.readers import (
    Example,
    Line,
    Source,
    column_sentences,
    conllu_sentences,
    read,
)
from hyperlect.data.subwords import Subwords, Window
from hyperlect.errors import DataError, HyperlectError, Problems, RecipeError
from hyperlect.predict import check_inputs
from hyperlect.recipe import load_recipe
from hyperlect.tasks import Task, TaskType

from .tiny import byte_tokenizer, llama_tokenizer, unigram_tokenizer, wordpiece_tokenizer

TAGS = Task("pos", TaskType.TAGGING, ("A", "B"))
TREES = Task("dep", TaskType.PARSING, ("root", "obj"))
TEXTS = Task("topic", TaskType.CLASSIFICATION, ("A", "B"))
PAIRS = Task("nli", TaskType.PAIRS, ("A", "B"))
RAW = Task("mlm", TaskType.MLM)
SHORTEST, LONGEST = 8, 40
"""Windows in sub-words."""


@cache
def folder() -> Path:
    """A folder of this process, in memory where the system has a place for that."""
    memory = Path("/dev/shm")
    place = memory if memory.is_dir() else None
    return Path(tempfile.mkdtemp(prefix="hyperlect-anything-", dir=place))


def check_error(error: HyperlectError, file: str, lines: int) -> None:
    """Check that an error names its file, a line that exists, and can be printed."""
    str(error).encode()
    assert error.problems
    for problem in error.problems:
        assert problem.file == file or problem.key.startswith("--set")
        assert problem.line is None or 1 <= problem.line <= lines + 1
        assert problem.message


def examples_of(content: bytes, **options: Any) -> tuple[Source, list[Example] | None]:
    """Read a file as `Source` and `word_level` say; None where it is refused, as it should be."""
    word_level = options.pop("word_level")
    path = folder() / "data"
    path.write_bytes(content)
    source = Source(location=str(path), **options)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            examples = read(source, word_level)
    except DataError as error:
        packed = content.startswith(b"\x1f\x8b")
        count = content.count(b"\n") + content.count(b"\r")
        check_error(error, str(path), 10**9 if packed else count)
        return source, None
    for example in examples:
        texts = [*example.words, *example.labels, example.text, example.pair, example.label]
        "".join(text or "" for text in texts).encode()
        assert len(example.labels) in (0, len(example.words))
        assert len(example.heads) in (0, len(example.words))
        assert all(0 <= head <= len(example.words) for head in example.heads)
    return source, examples


def without_lines(examples: Sequence[Example]) -> list[tuple[Any, ...]]:
    return [(e.words, e.labels, e.heads, e.text, e.pair, e.label) for e in examples]


def block_file(
    content: bytes,
    sentences: Callable[..., Any],
    **options: Any,
) -> None:
    """Check a format of sentences in lines: what is kept of the lines is the file."""
    source, examples = examples_of(content, **options)
    if examples is None:
        return
    blocks = list(sentences(source, options["word_level"], Problems()))
    kept: list[Line] = list(chain.from_iterable(lines for _, lines in blocks))
    assert [number for number, _ in kept] == list(range(1, len(kept) + 1))
    written = "".join(f"{line}\n" for _, line in kept).encode()
    if not content.startswith(b"\x1f\x8b"):
        plain = content.removeprefix(b"\xef\xbb\xbf")
        ends = bytes.maketrans(b"\r", b"\n")
        assert written.replace(b"\n", b"") == plain.translate(ends).replace(b"\n", b"") or (
            written.translate(ends).replace(b"\n", b"") == plain.translate(ends).replace(b"\n", b"")
        )
    assert examples_of(written, **options)[1] == examples


def conllu(data: bytes) -> None:
    """CoNLL-U, as tags, trees, features or raw text."""
    fields: Any = [
        {},
        {"label": "deprel", "head": "head"},
        {"label": "misc:NER"},
        {"label": "feats:Case"},
        {"label": "xpos", "head": "head"},
    ]
    choice, content = data[:1] or b"\0", data[1:]
    options = {
        "format": "conllu",
        "fields": fields[choice[0] % len(fields)],
        "word_level": bool(choice[0] & 64),
        "unlabelled": "ignore" if choice[0] & 128 else "error",
    }
    block_file(content, conllu_sentences, **options)


def columns(data: bytes) -> None:
    """Columns of words and labels, with every option."""
    choice, content = (data[:1] or b"\0")[0], data[1:]
    fields: Any = [{}, {"word": 2, "label": 1}, {"word": 2, "head": 3, "label": 4}, {"word": 1}]
    options = {
        "format": "columns",
        "fields": fields[choice % 4],
        "comment": "# " if choice & 4 else "",
        "separator": ("", "\t")[choice >> 3 & 1],
        "strip_prefix": bool(choice & 16),
        "word_level": bool(choice & 64),
        "unlabelled": "ignore" if choice & 128 else "error",
    }
    block_file(content, column_sentences, **options)


def tables(data: bytes) -> None:
    """TSV, CSV, JSON lines and plain text: examples that are written are read again."""
    choice, content = (data[:1] or b"\0")[0], data[1:]
    form = ("tsv", "csv", "jsonl", "text")[choice % 4]
    word_level = bool(choice & 4)
    roles = ("words", "labels", "heads") if word_level else ("text", "label", "pair")
    fields = {role: role[0] for role in roles[: 1 + (choice >> 3) % 3]}
    options = {
        "format": form,
        "fields": {} if form == "text" else fields,
        "quoting": "minimal" if choice & 32 else "none",
        "word_level": word_level,
        "unlabelled": "ignore" if choice & 128 else "error",
    }
    _, examples = examples_of(content, **options)
    if examples is None or (word_level and form != "jsonl"):
        return
    written = _written(form, examples, fields, options["quoting"] == "none").encode()
    again = examples_of(written, **options)[1]
    assert again is not None
    assert without_lines(again) == without_lines(examples)


def _written(form: str, examples: Sequence[Example], fields: Mapping[str, str], plain: bool) -> str:
    """Write examples in a format."""
    if form == "text":  # a CR in the first line would be taken for the end of every line
        return "".join(["\n", *(f"{example.text}\n" for example in examples)])
    rows = [{c: getattr(example, role) for role, c in fields.items()} for example in examples]
    if form == "jsonl":
        return "".join(f"{json.dumps(row)}\n" for row in rows)
    if form == "tsv" and plain:
        lines = ["\t".join(fields.values()), *("\t".join(row.values()) for row in rows)]
        return "".join(f"{line}\n" for line in lines)
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter="\t" if form == "tsv" else ",", lineterminator="\n")
    writer.writerows([list(fields.values()), *(list(row.values()) for row in rows)])
    return stream.getvalue()


RECIPE = """format_version: 1
name: r
tasks: {pos: {type: tagging, labels: [A, B]}}
data:
  - {task: pos, format: conllu, cells: {eng: {train: a, dev: b}}}
"""


def recipe(data: bytes) -> None:
    """A recipe, or (after "=") what --set changes in one: what is loaded is written and loaded."""
    path = folder() / "recipe.yaml"
    overrides = []
    if data.startswith(b"="):
        overrides = data[1:].decode("utf-8", "replace").splitlines()[:3]
        data = RECIPE.encode()
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            loaded = load_recipe(path, overrides, check_files=False)
            loaded.notes(512)
        except RecipeError as error:
            str(error).encode()
            if error.problems:
                check_error(error, str(path), len(data) + 1)
            return
        path.write_text(loaded.dump(), encoding="utf-8")
        again = load_recipe(path, check_files=False)
    assert again == loaded


@cache
def _client() -> Any:
    from fastapi.testclient import TestClient

    from hyperlect.serving.app import create_app
    from hyperlect.serving.schemas import Settings

    from .test_predict import random_model

    client = TestClient(create_app(random_model(), Settings(gather=0)))
    client.__enter__()
    return client


def requests(data: bytes) -> None:
    """The body of a request to the service: an answer for each item, or a problem."""
    from hyperlect.serving.schemas import PredictAnswer, Problem

    response = _client().post(
        "/v1/predict", content=data, headers={"Content-Type": "application/json"}
    )
    if response.status_code == 200:
        answer = PredictAnswer.model_validate(response.json())
        assert len(answer.items) == len(json.loads(data)["items"])
        for item in answer.items:
            for prediction in item.predictions:
                pieces = zip(prediction.words or (), prediction.offsets or (), strict=True)
                assert all(prediction.text[a:b] == word for word, (a, b) in pieces)
    else:
        assert response.status_code in (400, 413, 422), response.text
        assert Problem.model_validate(response.json()).detail


@cache
def _tokenizers() -> list[Any]:
    return [wordpiece_tokenizer(), unigram_tokenizer(), byte_tokenizer(), llama_tokenizer()]


@cache
def _subwords(tokenizer: int, max_length: int) -> Subwords:
    return Subwords(_tokenizers()[tokenizer], max_length)


def windows(data: bytes) -> None:
    """Sub-words and windows: every word is in one window, and none is longer than allowed."""
    choice, length, content = *(data[:2] or b"\0").ljust(2, b"\0"), data[2:]
    text = content.decode("utf-8", "replace")
    number = choice % 4
    tokenizer = _tokenizers()[number]
    max_length = SHORTEST + length % (LONGEST - SHORTEST)
    subwords = _subwords(number, max_length)
    sentences = [line.split(" ") for line in text.split("\n")]
    if choice & 4:  # raw sentences, split here
        for line in text.split("\n"):
            try:
                (item,) = check_inputs([line], [TAGS])
            except DataError:
                continue
            spans = [line[begin:end] for begin, end in item.offsets]
            assert spans == list(item.content)
            assert all(item.content)
        return
    for sentence, of_sentence in zip(sentences, subwords.words(sentences), strict=True):
        _check_windows(of_sentence, max_length, len(tokenizer))
        assert list(chain.from_iterable(w.words for w in of_sentence)) == list(range(len(sentence)))
        for window in of_sentence:
            assert len(window.positions) == len(window.words) == len(window.sizes)
            assert all(size > 0 for size in window.sizes)
    lines = text.split("\n")
    whole = subwords.texts(lines), subwords.pairs(list(zip(lines, lines[::-1], strict=True)))
    for of_texts in (*whole, subwords.lines(lines)):
        assert len(of_texts) == len(lines)
        for of_text in of_texts:
            _check_windows(of_text, max_length, len(tokenizer))
    assert all(len(of_text) == 1 for of_texts in whole for of_text in of_texts)
    tags, trees = encode_for_tasks(sentences, [TAGS, TREES], tokenizer, max_length)
    for example, sentence in enumerate(sentences):
        rows = [row for row in tags if row["example"] == example]
        assert sum(len(row["positions"]) for row in rows) == len(sentence)
        (tree,) = (row for row in trees if row["example"] == example)
        numbers = [word for word in tree["words"] if word > ROOT_WORD]
        assert list(dict.fromkeys(numbers)) == list(range(1, len(sentence) + 1))
        assert numbers == sorted(numbers)
        assert sum(tree["windows"]) == len(tree["input_ids"]) == len(tree["words"])


def _check_windows(windows: Sequence[Window], max_length: int, vocabulary: int) -> None:
    for window in windows:
        assert len(window.input_ids) == len(window.token_type_ids) <= max_length
        assert all(0 <= token < vocabulary for token in window.input_ids)
        assert all(0 <= position < len(window.input_ids) for position in window.positions)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "conllu": conllu,
    "columns": columns,
    "tables": tables,
    "recipe": recipe,
    "requests": requests,
    "windows": windows,
}
"""What is tried with any bytes, by name."""


def assert_holds(target: str, data: bytes) -> None:
    """Try some bytes. Raises what the package should not raise, or `AssertionError`."""
    TARGETS[target](data)


TREE = """# text = a b
1-2 ab _ _ _ _ _ _ _ _
1 a a DET x Case=Nom 2 det _ NER=O
2 b b NOUN x Case=Nom 0 root _ NER=B-X|SpaceAfter=No
2.1 c _ _ _ _ _ _ _ _
"""
WHOLE = """format_version: 1
name: r
folder: ${HOME:-.}
backbone: builtin:e5-small
method: hyperx
hypernet: {bottleneck: 8, language_base: features, sources: [task, language]}
language_features: {text: 20}
tasks:
  pos: {type: tagging, labels: upos, share: 0.3}
  ner: {type: spans, labels: [PER, LOC], label_map: {GPE: LOC, "*": O}, scheme: iob1}
  dep: {type: parsing, labels: &deprel [root, obj]}
  topic: {type: classification, labels: [1, true], unlabelled: ignore}
  nli: {type: pairs}
  mlm: {type: mlm}
few_shot: {cells: [ner:isl], examples: 5}
training: {steps: 20, warmup: 2, select_by: [pos:eng], learning_rates: {heads: 1e-3}}
evaluation: {examples: 10}
data:
- {task: pos, format: conllu, root: x, cells: {eng: {train: [a, b], dev: c, test: d}}}
- {task: ner, format: columns, comment: "# ", fields: {word: 1, label: 2}, cells: {is: {train: e}}}
- {task: dep, format: conllu, limit: {train: 9}, cells: {zh-Hant: {train: f, test: g}}}
- {task: nli, format: tsv, fields: {text: t, pair: p, label: l}, cells: {fo: {train: h}}}
- {task: topic, format: hub, dataset: a/b, config: "{language}", fields: {text: t, label: l},
   cells: {dan: {train: train}}}
- {task: mlm, format: text, cells: {swe: {train: i}}}
"""
SEEDS: dict[str, list[bytes]] = {
    "conllu": [
        bytes([choice]) + TREE.replace(" ", "\t").encode() + b"\n"
        for choice in (64, 65, 66, 67, 193)
    ],
    "columns": [
        b"\x40a O\nb B-X\n\n-DOCSTART- O\n\nc O\n",
        b"\x45# x\nO\ta\n\nO\tb\n",
        b"\x421 a 0 root\n2 b 1 obj\n",
        b"\x50en:a O\nen:b O\n",
    ],
    "tables": [
        b"\x08t\tl\na b\tA\n",
        b'\x11t,l,p\n"a, ""b""\nc",A,d\n',
        b'\x0a{"t": "a", "l": 1}\n{"t": "b", "l": true}\n',
        b'\x16[{"w": ["a", "b"], "l": ["x", "y"], "h": [0, 1]}]',
        b"\x03a\nb\n",
        b"\x20t\tl\n\"a\tb\"\tA\n",
    ],
    "recipe": [
        WHOLE.encode(),
        *(b"=training.steps=3", b"=data.0.cells.isl={train: c}", b"=name=[a]"),
    ],
    "requests": [
        b'{"items": [{"text": "Anna sees Oslo.", "task": "ner", "language": "isl"}]}',
        b'{"items": [{"words": ["a", "b"], "task": ["pos", "dep"], "language": "zh-Hant"}]}',
        b'{"items": [{"text": "a", "pair": "b", "task": "nli", "language": "fo"}]}',
    ],
    "windows": [bytes([kind, 4]) + "the cat sees 猫\nAnna's old <mask> [SEP]".encode()
                for kind in range(5)],
}  # fmt: skip
"""Sound inputs of each target, to begin with."""
