"""Corpora: the examples of one split of one cell, read once and kept in a cache as Arrow rows.

An entry of the cache is found by its key, which must hold everything that the entry depends on;
entries are never changed, so there is nothing to invalidate. The folder may be deleted any time.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import DataError, HyperlectError, Problems, RunError
from ..run_folder import expanded, replacing
from .readers import Source, read_batches

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset
    from numpy.typing import NDArray

ENVIRONMENT_VARIABLE = "HYPERLECT_CACHE"

# Counts up when a reader comes to read the same file differently, or the rows change.
READER_VERSION = 7

_REMARKS = b"hyperlect remarks"
"""Where an entry keeps what was remarked on while it was built."""


def read_corpus(sources: Sequence[Source], word_level: bool, cache: Path | None = None) -> Dataset:
    """Read one or several sources as one corpus, from the cache if they were read before.

    The cache knows a file by its content: a file that was changed is read again, one that was
    merely touched is not. A data set on the hub is known by id, configuration, revision and
    split, so only one with a revision is sure to be the same tomorrow. Pipes and streams are not
    kept. Warnings of the readers are repeated when a corpus comes from the cache.

    Args:
        sources: files or splits, in the order in which their examples are wanted.
        word_level: whether examples are words with a label each, or texts.
        cache: folder of the cache; that of `cache_dir` if ``None``.

    Returns:
        Rows with the fields of :class:`~hyperlect.data.readers.Example` (``words``, ``labels``,
        ``heads``, ``text``, ``pair``, ``label``, ``line``) and ``file``, the source's name. Columns
        that do not apply are empty lists, empty texts and ``None``.

    Raises:
        DataError: a source is missing, empty or malformed; the problems of all sources are listed.
        UnreachableError: one lies on the hub, which cannot be reached.
    """
    contents = [_content(source) for source in sources]
    if None in contents:
        return _build(sources, word_level)
    key = {
        "made by": "hyperlect.data.corpus",
        "version": READER_VERSION,
        "word level": word_level,
        "sources": [
            {**vars(source), "fields": dict(source.fields), "content": content}
            for source, content in zip(sources, contents, strict=True)
        ],
    }
    folder = (cache_dir() if cache is None else cache) / "corpora"
    return cached(key, lambda: _build(sources, word_level), folder)


def draw(examples: Dataset, count: int, name: str) -> Dataset:
    """Draw some examples at random, without replacement.

    Every name puts the examples into a random order of its own, of which the first are taken; so
    the first ten hold the first five. The order is that of hashes, which no version of a library
    and no seed changes.

    Args:
        examples: rows as `read_corpus` gives them.
        count: how many; at most as many as there are.
        name: of the draw.
    """
    from datasets import Dataset

    def place(index: int) -> bytes:
        return hashlib.blake2b(f"{name}: {index}".encode()).digest()

    chosen = sorted(range(len(examples)), key=place)[:count]
    return Dataset.from_dict(examples[chosen], features=examples.features)


def cache_dir() -> Path:
    """Return the cache folder: ``$HYPERLECT_CACHE``, or the user's cache folder of the system."""
    chosen = os.environ.get(ENVIRONMENT_VARIABLE)
    return expanded(chosen) if chosen else Path(platformdirs.user_cache_dir("hyperlect"))


def cached(key: object, build: Callable[[], Dataset], folder: Path) -> Dataset:
    """Load the data set that `key` names, building and keeping it the first time.

    Several processes may ask for one key at once: an entry is one file, which is written beside
    its place and moved there whole. An entry that cannot be loaded (a disk that was full) is
    built again. What `build` warns of is kept too, and said whenever the entry is loaded.

    Args:
        key: all that the result depends on, as JSON values (mappings in any order).
        build: makes the data set.
        folder: where entries are kept; made if need be.

    Returns:
        The data set, mapped from disk.

    Raises:
        HyperlectError: the folder cannot be written.
    """
    text = json.dumps(key, sort_keys=True, ensure_ascii=False)
    path = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.arrow"
    if (kept := _load(path)) is not None:
        return kept
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        built = build()
    _keep(built, path, [str(w.message) for w in caught if w.category is UserWarning])
    kept = _load(path)
    return built if kept is None else kept


def arrow_column(dataset: Dataset, name: str) -> Any:
    """Return one column as a chunked Arrow array, without copying it.

    ``datasets`` would copy and fingerprint the table's description to select a column, which for
    the few hundred corpora of a recipe takes most of the time of a second start.

    Args:
        dataset: any data set; one whose rows were selected is gathered first.
        name: the column.
    """
    if dataset._indices is not None:
        dataset = dataset.flatten_indices()
    return dataset.data.column(name)


def list_lengths(dataset: Dataset, name: str) -> NDArray[np.int64]:
    """Return how long each list of a column is, without reading the lists."""
    lengths: NDArray[np.int64] = pc.list_value_length(arrow_column(dataset, name)).to_numpy()
    return lengths


def places(examples: Dataset, rows: Any) -> list[tuple[str, int]]:
    """Return the file and line of some examples, given an array of their indices."""
    files, lines = (arrow_column(examples, name).take(pa.array(rows)) for name in ("file", "line"))
    return list(zip(files.to_pylist(), lines.to_pylist(), strict=True))


def content_digest(dataset: Dataset, columns: Iterable[str] | None = None) -> str:
    """Return a digest of the content of a data set, wherever and in whatever pieces it lies.

    Args:
        dataset: any data set.
        columns: those that count; all by default.
    """
    digest = hashlib.sha256()
    for name in sorted(columns or dataset.column_names):
        table = pa.table({name: arrow_column(dataset, name).combine_chunks()})
        with pa.ipc.new_stream(sink := pa.BufferOutputStream(), table.schema) as stream:
            stream.write_table(table)
        digest.update(sink.getvalue())
    return digest.hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's content, for use in a key."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _content(source: Source) -> object:
    """What stands for a source's content in the key; ``None`` for what cannot be read twice."""
    path = Path(str(source.location))
    try:
        if path.is_file() and isinstance(source.location, str):
            return file_digest(path)
        if path.is_dir():
            files = sorted(file for file in path.rglob("*") if file.is_file())
            return [[str(file.relative_to(path)), file_digest(file)] for file in files]
    except OSError:  # the reader will say what is wrong with it
        return None
    return [] if source.format == "hub" else None


def _build(sources: Sequence[Source], word_level: bool) -> Dataset:
    """Read all sources into one data set; the problems of all of them make one error."""
    from datasets import Dataset, Features, List, Value, concatenate_datasets

    types = {
        **{name: List(Value("string")) for name in ("words", "labels")},
        "heads": List(Value("int32")),
        **{name: Value("string") for name in ("text", "pair", "label")},
        "line": Value("int64"),
    }
    features = Features({**types, "file": Value("string")})
    batches = [Dataset.from_dict({name: [] for name in features}, features=features)]
    problems = Problems()
    for source in sources:
        with problems.collecting():
            for examples in read_batches(source, word_level):
                columns = {name: [getattr(e, name) for e in examples] for name in types}
                columns["file"] = [str(source)] * len(examples)
                batches.append(Dataset.from_dict(columns, features=features))
    problems.raise_if_any(DataError, "The data cannot be read:")
    return concatenate_datasets(batches)


def _load(path: Path) -> Dataset | None:
    """Load an entry, and repeat its remarks; ``None`` if there is none or it is damaged."""
    if not path.is_file():
        return None
    from datasets import Dataset
    from datasets.table import MemoryMappedTable

    try:
        table = MemoryMappedTable.from_file(str(path))
    except (OSError, ValueError, LookupError):  # what Arrow raises derives from these
        return None
    for remark in json.loads((table.schema.metadata or {}).get(_REMARKS, b"[]")):
        warnings.warn(remark, stacklevel=4)
    # With a fingerprint at hand, datasets need not make one, which takes longer than the rest.
    return Dataset(table, fingerprint=path.stem)


def _keep(dataset: Dataset, path: Path, remarks: Sequence[str]) -> None:
    features = dataset.features.arrow_schema.metadata
    metadata = {**features, _REMARKS: json.dumps(remarks).encode()}
    table = dataset.with_format("arrow")[:].replace_schema_metadata(metadata)
    try:
        with (
            replacing(path) as partial,
            pa.OSFile(str(partial), "wb") as file,
            pa.ipc.new_stream(file, table.schema) as stream,
        ):
            stream.write_table(table)
    except RunError as error:
        if _load(path) is not None:  # another process was quicker, and its entry is in use
            return
        what = f"The cache folder {path.parent} cannot be written ({error.__cause__})"
        hint = f"or name another one in the environment variable {ENVIRONMENT_VARIABLE}"
        raise HyperlectError(f"{what}. Free some space there, {hint}.") from error
