"""The command line: one file a verb, which parses, calls and prints. Here is what they share.

The docstring of a verb is its help, and under ``Args`` that of its arguments and options.
Start it with `hyperlect`, or with `python -m hyperlect.cli` (as for `accelerate launch`).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich import box
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from ..errors import HyperlectError
from ..grid import Cell
from ..languages import name as language_name
from ..languages import resolve

PACKAGE = Path(__file__).parent.parent
verbosity = 0
"""-1 after --quiet, 1 after --verbose."""

LOOK: dict[str, Any] = {
    "box": box.SIMPLE_HEAD,
    "padding": (0, 1, 0, 0),
    "pad_edge": False,
    "show_edge": False,
    "title_justify": "left",
    "caption_justify": "left",
}
"""How tables look."""

Device = Literal["auto", "cpu", "cuda", "mps"]
DeviceOption = Annotated[
    Device, typer.Option(help="Where to compute; auto takes a GPU if there is one.")
]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN")]
RunOption = Annotated[Path | None, typer.Option("--out", metavar="RUN")]
SetOption = Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE")]


def out() -> Console:
    """Return the console for results (stdout)."""
    return Console(highlight=False, soft_wrap=True)


def err() -> Console:
    """Return the console for progress, remarks and errors (stderr)."""
    return Console(stderr=True, highlight=False, soft_wrap=True, quiet=verbosity < 0)


def complain(message: str) -> None:
    """Print an error, however quiet the command line is."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(Text.assemble(("Error: ", "bold red"), message))


def warn(message: str, console: Console | None = None) -> None:
    """Print a warning."""
    (console or err()).print(Text.assemble(("Warning: ", "bold yellow"), message))


def remark(message: str) -> None:
    """Print a remark on stderr."""
    err().print(Text(message, style="dim"))


def grid_table(
    cells: Mapping[Cell, str] | Mapping[Cell, Text],
    headings: Mapping[str, str],
    groups: Iterable[Sequence[str]] = (),
    *,
    title: str = "",
    caption: str = "",
    justify: JustifyMethod = "left",
) -> Table:
    """Lay cells out, one language a row and one task a column.

    Args:
        cells: what to show of each.
        headings: of the columns, by task.
        groups: the languages, with a line between groups; by default those of the cells, sorted.
        title, caption: what stands above and below.
        justify: where in its column the content of a cell stands.
    """
    table = Table(**LOOK, title=title, caption=caption)
    table.add_column("code", no_wrap=True)
    table.add_column("language", min_width=8)
    for heading in headings.values():
        table.add_column(heading, no_wrap=True, justify=justify)
    for group in groups or [sorted({cell.language for cell in cells})]:
        for language in group:
            row = [cells.get(Cell(task, language), "") for task in headings]
            table.add_row(language, language_name(language), *row)
        table.add_section()
    return table


def named_files(option: str, form: str, texts: Iterable[str]) -> dict[str, Path]:
    """Read the values of an option like ``--labels TASK=FILE``: files by name."""
    files: dict[str, Path] = {}
    for text in texts:
        name, equals, file = text.partition("=")
        if not (name and equals and file):
            raise HyperlectError(f'{option} must be {form}, not "{text}".')
        if name in files:
            raise HyperlectError(f"{option} names {name} twice. Join its files.")
        files[name] = Path(file)
    return files


def weights(text: str) -> dict[str, float] | str | None:
    """Read ``--like``: languages, each perhaps with a weight, or ``auto``; None for nothing.

    The weights sum to 1.
    """
    if text in ("", "auto"):
        return text or None
    numbers: dict[str, float] = {}
    for item in filter(None, (item.strip() for item in text.split(","))):
        language, _, number = item.partition("=")
        try:
            weight = float(number or 1)
        except ValueError:
            weight = 0.0
        if not 0 < weight < float("inf"):
            form = "auto, languages, or LANGUAGE=WEIGHT"
            raise HyperlectError(f'--like must be {form}, not "{item}".')
        numbers[resolve(language)] = numbers.get(resolve(language), 0.0) + weight
    total = sum(numbers.values())
    return {language: weight / total for language, weight in numbers.items()}


def quiet_libraries() -> None:
    """Silence the libraries' messages and telemetry; hyperlect's own warnings are shown.

    These variables are set for this process only, and only where the user has not set them. It
    must come before the libraries are imported, since they read them then.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    os.environ.setdefault("DATASETS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

    def show(message: Any, category: Any, filename: str, *_: Any, **options: Any) -> None:
        if Path(filename).is_relative_to(PACKAGE):
            warn(str(message))

    warnings.showwarning = show


@contextmanager
def libraries() -> Iterator[None]:
    """Import the slow libraries while a line says so, and turn their progress bars off.

    Put only imports inside: the line would mix with other progress.
    """
    with err().status("Starting …"):
        import transformers

        transformers.utils.logging.disable_progress_bar()
        yield
