"""Columns of corpora as they lie in memory or on disk."""

from __future__ import annotations

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
