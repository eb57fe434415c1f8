"""Columns of corpora as they lie in memory or on disk."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datasets import Dataset


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


def content_digest(dataset: Dataset) -> str:
    """Return a digest of all that a data set holds, wherever and in whatever pieces it lies."""
    import pyarrow as pa

    digest = hashlib.sha256()
    for name in sorted(dataset.column_names):
        column = arrow_column(dataset, name)
        table = pa.table({name: column.combine_chunks()})
        with pa.ipc.new_stream(sink := pa.BufferOutputStream(), table.schema) as stream:
            stream.write_table(table)
        digest.update(sink.getvalue())
    return digest.hexdigest()
