"""What readers share: noting a fault with its place, and going through a file line by line."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path

from ...errors import Problems, nearest
from ..examples import Source


class Faults(Problems):
    """The faults of one source, each with the line or row where it is.

    Attributes:
        source: what is read.
        unlabelled: how many rows were left out since they have no label, which is no fault where
            nobody can mend it.
    """

    def __init__(self, source: Source) -> None:
        super().__init__()
        self.source = source
        self.unlabelled = 0

    def at(self, line: int, message: str) -> None:
        """Note a fault of one line of the file, or one row of a data set on the hub."""
        place = f", row {line}" if self.source.format == "hub" else f":{line}"
        self.add(f"{self.source}{place}: {message}")

    def whole(self, message: str) -> None:
        """Note a fault of the source as a whole."""
        self.add(f"{self.source}: {message}")


def counted(number: int, noun: str) -> str:
    """Write a number of things: ``1 column``, ``2 columns``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def lines(faults: Faults) -> Iterator[tuple[int, str]]:
    """Go through the lines of the source's file.

    Lines end with LF or CR LF and with nothing else (a NEL or a line separator is part of the
    text); a byte order mark at the head is dropped. Missing files and lines that are not UTF-8
    are noted in `faults`; the latter are left out.

    Yields:
        The line's number, counted from 1, and the line without its end.
    """
    path = Path(faults.source.location)
    if not path.is_file():
        faults.whole(_why_no_file(path))
        return
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                if number == 1:
                    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                        faults.whole("the file is UTF-16; save it as UTF-8")
                        return
                    raw = raw.removeprefix(codecs.BOM_UTF8)
                raw = raw.removesuffix(b"\n").removesuffix(b"\r")
                try:
                    yield number, raw.decode("utf-8")
                except UnicodeDecodeError as error:
                    faults.at(
                        number,
                        f"byte {error.start + 1} of the line (0x{raw[error.start]:02x}) is not "
                        "UTF-8; save the file as UTF-8",
                    )
    except OSError as error:
        faults.whole(f"the file cannot be read ({error.strerror})")


def _why_no_file(path: Path) -> str:
    if path.is_dir():
        return "this is a folder; name a file in it"
    if not path.parent.is_dir():
        return f"there is no such file (nor a folder {path.parent})"
    beside = (entry.name for entry in path.parent.iterdir())
    return f"there is no such file.{nearest(path.name, beside)}"
