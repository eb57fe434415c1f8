"""Real corpora are read whole, and come back byte for byte where the format keeps all.

They lie in the folder of the variable HYPERLECT_DATA, whose manifest.json counts what is in them.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from hyperlect.cli.predict import Block, Writer
from hyperlect.data.readers import Example, Source, column_sentences, conllu_sentences, read
from hyperlect.errors import Problems
from hyperlect.predict import Prediction
from hyperlect.tasks import UPOS, Task, TaskType

DATA = Path(os.environ.get("HYPERLECT_DATA", "no such folder"))
LEFT_OUT = {"fao", "hsb", "wol", "grn", "gug", "pcm"}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (DATA / "manifest.json").is_file(), reason="HYPERLECT_DATA names no folder of corpora"
    ),
]


def corpora(*names: str) -> Iterator[tuple[dict[str, Any], list[Path]]]:
    """Go through the parts of corpora: what the manifest says of each, and its files."""
    for entry in json.loads((DATA / "manifest.json").read_text(encoding="utf-8"))["entries"]:
        if entry["corpus"].startswith(names) and entry["iso639_3"] not in LEFT_OUT:
            for part in entry["splits"].values():
                files = part.get("files") or [part["file"]]
                yield part, [DATA / file for file in files]


def check(sources: list[Source], part: dict[str, Any], words: bool = True) -> None:
    """Check that sources have as many examples and words as the manifest says."""
    examples = [example for source in sources for example in read(source, words)]
    assert len(examples) == part["sentences"], sources[0]
    if words:
        assert sum(len(example.words) for example in examples) == part["tokens"], sources[0]
        assert all(len(example.labels) == len(example.words) for example in examples)


def same_lines(path: Path, sentences: Any, source: Source) -> None:
    kept = [line for _, block in sentences(source, True, Problems()) for _, line in block]
    assert "\n".join(kept).encode().rstrip(b"\n") == path.read_bytes().rstrip(b"\n"), path


def test_treebanks() -> None:
    fields = {"head": "head", "label": "deprel"}
    for part, (path,) in corpora("Universal Dependencies"):
        check([Source("conllu", str(path))], part)
        check([Source("conllu", str(path), fields)], part)
        same_lines(path, conllu_sentences, Source("conllu", str(path)))


def as_predicted(task: str, example: Example) -> Prediction:
    """What a model would say that is always right."""
    return Prediction(
        *(task, "eng", "supervised", "own vector", example.text, example.words),
        labels=example.labels,
        heads=example.heads,
    )


def test_predictions_that_are_right_write_the_treebank_itself() -> None:
    tags, trees = Task("pos", TaskType.TAGGING, UPOS), Task("dep", TaskType.PARSING, ("root",))
    for _, (path,) in corpora("Universal Dependencies"):
        source = Source("conllu", str(path), {"head": "head", "label": "deprel"})
        parsed = conllu_sentences(source, True, Problems())
        tagged = conllu_sentences(Source("conllu", str(path)), True, Problems())
        stream = io.StringIO()
        writer = Writer("conllu", "conllu", [tags, trees], Console(file=stream))
        for (tag, lines), (tree, _) in zip(tagged, parsed, strict=True):
            predictions = {}
            if tag and tree:
                predictions = {"pos": as_predicted("pos", tag), "dep": as_predicted("dep", tree)}
            writer.write(Block(lines, None, 0), predictions)
        assert stream.getvalue().rstrip("\n").encode() == path.read_bytes().rstrip(b"\n"), path


COLUMNS: dict[str, dict[str, Any]] = {
    "Universal NER": {"fields": {"word": 2, "label": 3}, "comment": "# "},
    "MasakhaNER": {},
    "MasakhaPOS": {},
    "Turku NER": {},
    "KazNERD": {},
    "NYTK-NerKor": {"fields": {"word": 1, "label": 6}, "comment": "# "},
}


@pytest.mark.parametrize("corpus", COLUMNS)
def test_columns(corpus: str) -> None:
    for part, paths in corpora(corpus):
        sources = [Source("columns", str(path), **COLUMNS[corpus]) for path in paths]
        lines = [line for path in paths for line in path.read_text(encoding="utf-8").split("\n")]
        # The manifest counts these as words and sentences, and takes the word "#" for a comment.
        starts = sum(line.startswith("-DOCSTART-") for line in lines)
        signs = sum(line.startswith("# ") for line in lines if not sources[0].comment)
        check(
            sources,
            {"sentences": part["sentences"] - starts, "tokens": part["tokens"] - starts + signs},
        )
        for path, source in zip(paths, sources, strict=True):
            same_lines(path, column_sentences, source)


@pytest.mark.parametrize("corpus", ["SIB-200", "AmericasNLI", "myXNLI"])
def test_tables(corpus: str) -> None:
    for part, (path,) in corpora(corpus):
        code = path.parent.name
        fields = {"text": f"sentence1_{code}", "pair": f"sentence2_{code}", "label": "label"}
        if corpus == "AmericasNLI":
            fields = {"text": "premise", "pair": "hypothesis", "label": "label"}
        elif corpus == "SIB-200":
            fields = {"text": "text", "label": "category"}
        check([Source("tsv", str(path), fields)], part, words=False)


def test_texts() -> None:
    for part, (path,) in corpora("UDHR", "Common Voice", "Bible"):
        check([Source("text", str(path))], part, words=False)
