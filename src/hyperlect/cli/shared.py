"""What the verbs share: consoles, options, quiet libraries, and finding a run folder."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TextIO

import typer
from rich.console import Console
from rich.text import Text

from ..errors import RunError, nearest

PACKAGE = Path(__file__).parent.parent


class Device(StrEnum):
    """Where to compute."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"


DeviceOption = Annotated[
    Device, typer.Option(help="Where to compute; auto takes a GPU if there is one.")
]
RunArgument = Annotated[
    Path,
    typer.Argument(metavar="RUN", help="The folder that training made.", show_default=False),
]


def out() -> Console:
    """Return the console for results (stdout)."""
    return Console(highlight=False, soft_wrap=True)


def err() -> Console:
    """Return the console for progress, remarks and errors (stderr)."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def complain(message: str) -> None:
    """Print an error."""
    err().print(Text.assemble(("Error: ", "bold red"), message))


def warn(message: str, console: Console | None = None) -> None:
    """Print a warning."""
    (console or err()).print(Text.assemble(("Warning: ", "bold yellow"), message))


def remark(message: str) -> None:
    """Print something in passing, on stderr."""
    err().print(Text(message, style="dim"))


def quiet(debug: bool = False) -> None:
    """Silence the libraries' chatter and telemetry; what hyperlect itself warns of is shown.

    Must come before the libraries are imported: they read the environment then.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    os.environ.setdefault("DATASETS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if Path(filename).is_relative_to(PACKAGE):
            warn(str(message))

    if not debug:
        warnings.showwarning = show


@contextmanager
def libraries() -> Iterator[None]:
    """Import the slow libraries while a line says so, and turn their progress bars off.

    Only imports belong inside: the line would run into what other things show of their progress.
    """
    with err().status("Starting …"):
        import transformers

        transformers.utils.logging.disable_progress_bar()
        yield


def run_folder(path: Path, finished: bool = False, trained: bool = True) -> Path:
    """Return a run folder. Raises `RunError` that says what the path is instead.

    Args:
        path: what was named.
        finished: whether it must hold a trained model.
        trained: whether it must have its recipe, which a converted checkpoint has not.
    """
    if (path / "recipe.yaml").is_file():
        if finished and not (path / "model.safetensors").is_file():
            raise RunError(f"{path} is not finished. Go on: hyperlect train --resume {path}")
        return path
    if (path / "model.json").is_file():
        if not trained:
            return path
        raise RunError(
            f"{path} holds a model without a recipe: it was converted or saved, not trained here. "
            "`hyperlect predict` and `hyperlect check` take it; the other verbs need the recipe, "
            "which names the data, of a run that `hyperlect train` made."
        )
    if path.is_file() and path.suffix in (".yaml", ".yml"):
        raise RunError(f"{path} is a recipe. Train it first: hyperlect train {path}")
    if path.is_file():
        raise RunError(f"{path} is a file. Name the run folder that `hyperlect train` made.")
    runs = [str(recipe.parent) for recipe in _near(path).glob("*/recipe.yaml")]
    listed = f" Runs there: {', '.join(sorted(runs)[:10])}." if runs else ""
    what = f"{path} is no run folder" if path.is_dir() else f"There is no run folder {path}"
    hint = nearest(str(path), runs) or listed or " `hyperlect train RECIPE` makes one."
    raise RunError(f"{what}.{hint}")


def _near(path: Path) -> Path:
    """Return where runs may lie that were meant: inside, beside, or in runs/."""
    if path.is_dir():
        return path
    return path.parent if path.parent != Path() and path.parent.is_dir() else Path("runs")
