"""Corpora: the examples of one split of one cell, read once and kept as Arrow rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DataError
from .cache import cache_dir, cached, file_digest
from .examples import Example, Source
from .readers import read

if TYPE_CHECKING:
    from datasets import Dataset

# Counts up when a reader comes to read the same file differently, or the rows change.
READER_VERSION = 5


def read_corpus(sources: Sequence[Source], word_level: bool, cache: Path | None = None) -> Dataset:
    """Read one or several sources as one corpus, from the cache if they were read before.

    The cache knows a file by its content: a file that was changed is read again, one that was
    merely touched is not. A data set on the hub is known by id, configuration, revision and
    split, so only one with a revision is sure to be the same tomorrow.

    Args:
        sources: files or splits, in the order in which their examples are wanted.
        word_level: whether examples are words with a label each, or texts.
        cache: folder of the cache; that of :func:`~hyperlect.data.cache.cache_dir` if ``None``.

    Returns:
        Rows with the fields of :class:`~hyperlect.data.examples.Example` (``words``, ``labels``,
        ``heads``, ``text``, ``pair``, ``label``, ``line``) and ``file``, the source's name. Columns
        that do not apply are empty lists, empty texts and ``None``.

    Raises:
        DataError: a source is missing, empty or malformed; the faults of all sources are listed.
        UnreachableError: one lies on the hub, and there is no way to it.
    """
    key = {
        "made by": "hyperlect.data.corpus",
        "version": READER_VERSION,
        "word level": word_level,
        "sources": [
            {**vars(source), "fields": dict(source.fields), "content": _content(source)}
            for source in sources
        ],
    }
    folder = (cache_dir() if cache is None else cache) / "corpora"
    return cached(key, lambda: _build(sources, word_level), folder)


def _content(source: Source) -> object:
    """What stands for the content of a source in the key; ``None`` where it is not at hand."""
    path = Path(source.location)
    try:
        if path.is_file():
            return file_digest(path)
        if path.is_dir():
            files = sorted(file for file in path.rglob("*") if file.is_file())
            return [[str(file.relative_to(path)), file_digest(file)] for file in files]
    except OSError:  # the reader will say what is wrong with it
        return None
    return None


def _build(sources: Sequence[Source], word_level: bool) -> Dataset:
    """Read all sources into one data set; the faults of all of them make one error."""
    read_so_far: list[tuple[Source, list[Example]]] = []
    errors = []
    for source in sources:
        try:
            read_so_far.append((source, read(source, word_level)))
        except DataError as error:
            errors.append(str(error))
    if errors:
        raise DataError("\n".join(errors))
    return _rows(read_so_far)


def _rows(corpora: Sequence[tuple[Source, list[Example]]]) -> Dataset:
    from datasets import Dataset, Features, List, Value

    features = Features(
        {
            "words": List(Value("string")),
            "labels": List(Value("string")),
            "heads": List(Value("int32")),
            "text": Value("string"),
            "pair": Value("string"),
            "label": Value("string"),
            "line": Value("int64"),
            "file": Value("string"),
        }
    )
    columns: dict[str, list[object]] = {
        name: [getattr(example, name) for _, examples in corpora for example in examples]
        for name in features
        if name != "file"
    }
    columns["file"] = [str(source) for source, examples in corpora for _ in examples]
    return Dataset.from_dict(columns, features=features)
