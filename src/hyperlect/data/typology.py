"""Features of languages from typology: URIEL, or a table of the user's own.

URIEL (Littell et al. 2017, "URIEL and lang2vec", EACL) describes 7,970 languages: syntax, phonology
and sound inventory (observed, or else predicted from relatives and neighbours), the families and
branches that each belongs to, and where it is spoken (nearness to 299 points on Earth). Its files
come with the packages lang2vec and urielplus, which are never imported: lang2vec 1.1.2 fails to
import without pkg_resources. Features of scripts come with urielplus. The data is under CC BY-SA
4.0.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import DataError, Problems, UnknownNameError, nearest
from ..languages import macrolanguage, resolve, same_language
from .examples import Source
from .readers.tables import table_rows

URIEL = "uriel"
LICENCE = "CC BY-SA 4.0 (URIEL, Littell et al. 2017)"
BLOCKS = ("syntax", "phonology", "inventory", "family", "geography", "script")
"""The groups of URIEL's columns, in the order of a vector."""

_GRAMMAR = {"syntax": "S_", "phonology": "P_", "inventory": "INV_"}
"""The groups that share a file, and how the names of their columns begin."""
_FILES = {
    "family": "family_features",
    "geography": "geocoord_features",
    "script": "script_features",
}
_FOLDERS = (("lang2vec", "data"), ("urielplus", "database/original_uriel"))

Array = NDArray[Any]


@dataclass(frozen=True)
class Typology:
    """Features of languages, a row for each.

    Attributes:
        source: "uriel", or the file.
        codes: the languages of the rows, as the source has them.
        names: the names of the columns of each group.
        tables: the values of each group, (languages, columns), NaN where one is missing.
        licence: of the data; empty where it is not known.
    """

    source: str
    codes: tuple[str, ...]
    names: Mapping[str, tuple[str, ...]]
    tables: Mapping[str, Array]
    licence: str = ""

    @classmethod
    def read(cls, source: str | Path, blocks: Collection[str] = BLOCKS) -> Typology:
        """Read a table; URIEL is kept in memory after the first time.

        Args:
            source: "uriel", or a CSV file: the code of each language in the first column, numbers
                in the others, whose names stand in the first line. An empty cell is a missing
                value.
            blocks: the groups of URIEL's columns to read, where the installed files have them.

        Raises:
            DataError: URIEL is not installed, or the file is missing or malformed; every problem
                with its line.
        """
        if str(source) == URIEL:
            return _read_uriel(tuple(block for block in BLOCKS if block in blocks))
        return _read_csv(Path(source))

    @property
    def columns(self) -> dict[str, int]:
        """The number of columns of each group, in the order of a vector."""
        return {block: len(names) for block, names in self.names.items()}

    @property
    def digest(self) -> str:
        """A digest of the columns' names, in order."""
        names = [name for block in self.names.values() for name in block]
        return hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]

    def vector(self, code: str) -> Tensor:
        """Return the features of a language, (columns,), float32; NaN where one is missing.

        A row under another code of the same language counts (``cmn`` for ``zho``, or a code that
        ISO 639-3 has retired). Of several, the one with the most known values is taken.

        Raises:
            UnknownNameError: it is no language, or the table lacks it; a similar code is suggested.
        """
        row = self._known_row(code)
        values = [table[row].astype(np.float32) for table in self.tables.values()]
        return torch.from_numpy(np.concatenate(values))

    def _known_row(self, code: str) -> int:
        row = self._row(code)
        if row is None:
            hint = nearest(code, self.codes)
            what = f'{self.source} has no features of the language "{resolve(code)}"'
            raise UnknownNameError(f"{what}.{hint} Name another one, or a CSV file that has it.")
        return row

    def __contains__(self, code: str) -> bool:
        return self._row(code) is not None

    def _row(self, code: str) -> int | None:
        code = resolve(code)
        names = [other for other in same_language(code) if other in self._rows]
        rows = [self._rows[other] for other in names or self._current.get(code, [])]

        def known(row: int) -> int:
            return sum(int(np.isfinite(table[row]).sum()) for table in self.tables.values())

        return max(rows, key=known, default=None)

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {code: row for row, code in enumerate(self.codes)}

    @cached_property
    def _current(self) -> dict[str, list[str]]:
        """Codes that ISO 639-3 has now → those that the table has for the same languages."""
        current: dict[str, list[str]] = {}
        for old in self.codes:
            try:
                current.setdefault(resolve(old), []).append(old)
            except UnknownNameError:  # split up, or no language
                continue
        return current

    @cached_property
    def _centres(self) -> dict[str, tuple[Array, Array]]:
        """The mean of each group's columns; and for a user's columns, their standard deviations."""
        statistics: dict[str, tuple[Array, Array]] = {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of columns without any value
            for block, table in self.tables.items():
                mean = np.asarray(np.nanmean(table, axis=0, dtype=np.float32))
                deviation = np.nanstd(table, axis=0) if self.source != URIEL else np.ones(1)
                statistics[block] = mean, np.where(deviation == 0, 1.0, deviation)
        return statistics

    def families(self, codes: Iterable[str]) -> dict[str, str]:
        """Return the family of each language: the largest group of relatives that it belongs to.

        A language in no group has the family of its macro-language (``nor`` for ``nob``). Those
        whose family the table does not have, isolates among them, are left out.
        """
        groups, names = self.tables["family"] == 1, self.names["family"]
        sizes = groups.sum(axis=0)
        families = {}
        for code in codes:
            rows = [self._row(language) for language in (code, macrolanguage(code))]
            sized = [sizes * groups[row] for row in rows if row is not None and groups[row].any()]
            if sized:
                families[code] = names[int(sized[0].argmax())].removeprefix("F_")
        return families

    def similarity(self, code: str, others: Iterable[str]) -> dict[str, float]:
        """Compare a language with others: the mean over the groups of columns of their cosines.

        The mean of the whole table is subtracted from each column first, so that what most
        languages share does not make two alike. Columns of a user's file may have different units,
        so they are also divided by their standard deviations. What either language lacks does not
        count.

        Args:
            code: the language.
            others: those to compare it with.

        Returns:
            Values from -1 to 1 by code, as the codes were written; 1 for the language itself.

        Raises:
            UnknownNameError: one is no language, or the table lacks it.
        """
        others = list(others)
        row, *rows = [self._known_row(name) for name in (code, *others)]
        total, counts = np.zeros(len(rows)), np.zeros(len(rows))
        for block, table in self.tables.items():
            mean, deviation = self._centres[block]
            a = (table[row] - mean) / deviation
            b = (table[rows] - mean) / deviation
            both = np.isfinite(a) & np.isfinite(b)
            a, b = np.where(both, a, 0.0), np.where(both, b, 0.0)
            lengths = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
            comparable = lengths > 0
            total[comparable] += (a * b).sum(axis=1)[comparable] / lengths[comparable]
            counts += comparable
        means = total / np.maximum(counts, 1)
        return {other: float(mean) for other, mean in zip(others, means, strict=True)}

    def nearest(self, code: str, among: Iterable[str], count: int) -> list[tuple[str, float]]:
        """Return the most similar languages and how similar they are, most similar first.

        Args:
            code: the language, which is not among the result.
            among: those to choose from; those that the table lacks are left out.
            count: how many.

        Raises:
            UnknownNameError: one is no language, or the table lacks `code`.
        """
        itself = same_language(resolve(code))
        others = [name for name in among if name in self and name not in itself]
        ranked = sorted(self.similarity(code, others).items(), key=lambda pair: -pair[1])
        return ranked[:count]


@lru_cache(maxsize=4)
def _read_uriel(blocks: tuple[str, ...]) -> Typology:
    """Read the .npz files of whichever packages are installed; lang2vec's where both are."""
    files: dict[str, Path] = {}
    for package, folder in _FOLDERS:
        # As a distribution: a module of that name would first be sought beside our own command,
        # where lang2vec puts its script lang2vec.py.
        try:
            place = metadata.distribution(package).locate_file(f"{package}/{folder}")
        except metadata.PackageNotFoundError:
            continue
        for path in Path(str(place)).glob("*.npz"):
            files.setdefault(path.stem, path)
    if not files.keys() >= {"features", "family_features", "geocoord_features"}:
        hint = 'Install them in your clone: pip install -e ".[typology]" -c constraints.txt'
        raise DataError(f"The features of URIEL are not installed. {hint}. Or name a CSV file.")
    with np.load(files["features"], allow_pickle=False) as data:
        codes = tuple(map(str, data["langs"]))
        columns = tuple(map(str, data["feats"]))
        observed = data["data"]
    known = observed >= 0  # -1 stands for a missing value
    sums = np.where(known, observed, 0).sum(axis=2, dtype=np.float32)
    counts = known.sum(axis=2)
    values = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan).astype(np.float32)
    if "feature_predictions" in files:
        values = np.where(counts > 0, values, _aligned(files["feature_predictions"], codes)[1])
    names: dict[str, tuple[str, ...]] = {}
    tables: dict[str, Array] = {}
    for block in blocks:
        if block in _GRAMMAR:
            places = [i for i, name in enumerate(columns) if name.startswith(_GRAMMAR[block])]
            names[block] = tuple(columns[i] for i in places)
            tables[block] = values[:, places]
        elif _FILES[block] in files:
            names[block], tables[block] = _aligned(files[_FILES[block]], codes)
    return Typology(URIEL, codes, names, tables, LICENCE)


def _aligned(path: Path, codes: tuple[str, ...]) -> tuple[tuple[str, ...], Array]:
    """Read the columns' names and the values of a file, its rows in the order of `codes`.

    The families, which are all 0 or 1, are kept as bytes: they would take 118 MB otherwise.
    """
    with np.load(path, allow_pickle=False) as data:
        rows = {str(code): row for row, code in enumerate(data["langs"])}
        names = tuple(map(str, data["feats"]))
        values = data["data"][:, :, 0]
    if missing := [code for code in codes if code not in rows]:
        raise DataError(f"{path} lacks the language {missing[0]}. Install the package again.")
    order = [rows[code] for code in codes]
    if path.stem == _FILES["family"]:
        return names, values.astype(np.int8)[order]
    values = np.where(values < 0, np.nan, values).astype(np.float32)
    return names, values[order]


def _read_csv(path: Path) -> Typology:
    problems = Problems(str(path))
    numbered = list(table_rows(Source("csv", str(path)), problems))
    head = [name.strip() for name in numbered[0][1]] if numbered else []
    names = head[1:]
    if not problems and (not names or len(numbered) < 2):
        problems.add("must have a line of names, a line for each language, and two columns or more")
    for name in dict.fromkeys(names):
        if not name or names.count(name) > 1:
            problems.add(f'the column "{name}" must have a name of its own', numbered[0][0])
    lines: dict[str, int] = {}
    rows: list[list[float]] = []
    for line, cells in numbered[1:]:
        try:
            code = resolve(cells[0].strip())
        except UnknownNameError as error:
            problems.add(str(error), line)
            continue
        if code in lines:
            problems.add(f"{code} is on line {lines[code]} already", line)
        lines.setdefault(code, line)
        if len(cells) != len(head):
            problems.add(f"must have {len(head)} cells, as the first line, not {len(cells)}", line)
            continue
        row = []
        for name, cell in zip(names, cells[1:], strict=True):
            try:
                value = float(cell.strip() or "nan")
            except ValueError:
                value = math.nan
            if cell.strip() and not math.isfinite(value):
                problems.add(f'"{cell}" is not a number', line, name)
            row.append(value)
        rows.append(row)
    problems.raise_if_any(DataError, "The table of languages cannot be used:")
    values = np.array(rows, dtype=np.float32)
    return Typology(str(path), tuple(lines), {"table": tuple(names)}, {"table": values})
