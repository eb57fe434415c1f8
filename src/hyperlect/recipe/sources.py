"""Where the data of a block is read from."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ..data.examples import Source, Split
from .sections import CellFiles, DataBlock


def make_source(
    block: DataBlock,
    files: CellFiles,
    split: Split,
    name: str,
    defaults: Mapping[str, str | int] = MappingProxyType({}),
) -> Source:
    """Make the source of one file, or of one split on the hub.

    Args:
        block, files, split, name: where it is written.
        defaults: columns of what the block's fields leave open.
    """
    hub = block.format == "hub"
    return Source(
        format=block.format,
        location=str(block.dataset) if hub else name,
        fields={**defaults, **block.fields},
        comment=block.comment,
        config=(files.config or block.config) if hub else None,
        revision=block.revision,
        split=name if hub else None,
        limit=getattr(block.limit, split),
    )
