"""Data blocks with languages and file names resolved."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.examples import SPLITS, Source, Split
from ..errors import UnknownNameError
from ..grid import Cell
from ..languages import resolve
from .faults import Faults, Loc
from .sections import CellFiles, DataBlock
from .sources import make_source


@dataclass(frozen=True)
class PlacedBlock:
    """A data block with names resolved, and where and how it was written.

    Attributes:
        index: its place in the recipe, counted from 0.
        section: the block with ISO 639-3 codes and absolute file names.
        keys: language code → the key as written.
        root: the folder its file names start from, where it names one.
    """

    index: int
    section: DataBlock
    keys: Mapping[str, str]
    root: Path | None

    @property
    def loc(self) -> Loc:
        """The block's path."""
        return ("data", self.index)

    def files(self) -> Iterator[tuple[Loc, Split, Cell, Source]]:
        """Go through every file (or split on the hub) with its path in the recipe."""
        for language, files in self.section.cells.items():
            cell = Cell(self.section.task, language)
            for split in SPLITS:
                for number, name in enumerate(getattr(files, split)):
                    loc = (*self.loc, "cells", self.keys[language], split, number)
                    yield loc, split, cell, make_source(self.section, files, split, name)


def place(block: DataBlock, index: int, folder: Path, faults: Faults) -> PlacedBlock:
    """Resolve a block's languages and file names, remembering how they were written."""
    hub = block.format == "hub"
    root = folder / Path(block.root or "").expanduser()
    cells: dict[str, CellFiles] = {}
    keys: dict[str, str] = {}
    for key, files in block.cells.items():
        loc = ("data", index, "cells", key)
        try:
            language = resolve(key)
        except UnknownNameError as error:
            faults.add(loc, str(error))
            faults.broken.add(("data", index))
            continue
        if language in cells:
            faults.add(loc, f'"{keys[language]}" is the same language ({language}); join the two')
            continue
        keys[language] = key
        cells[language] = files if hub else _absolute(files, root)
        if hub and block.config and not files.config:
            config = block.config.replace("{language}", key)
            cells[language] = files.model_copy(update={"config": config})
    changes: dict[str, Any] = {"cells": cells, "root": None}
    if block.config and "{language}" in block.config:
        changes["config"] = None
    section = block.model_copy(update=changes)
    return PlacedBlock(index, section, keys, root if block.root and not hub else None)


def _absolute(files: CellFiles, root: Path) -> CellFiles:
    return files.model_copy(
        update={
            split: tuple(
                os.path.normpath(root / Path(name).expanduser()) for name in getattr(files, split)
            )
            for split in SPLITS
        }
    )
