"""The application: its verbs, and how errors reach the person at the keyboard."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from .. import __version__
from ..errors import HyperlectError
from .check import check
from .convert_checkpoint import convert_checkpoint
from .evaluate import evaluate
from .experiment import experiment
from .predict import predict
from .quickstart import quickstart
from .report import report
from .shared import complain, quiet
from .train import train

USER_ERROR, BUG = 2, 1
_OFF = ("", "0", "false", "no")

app = typer.Typer(
    name="hyperlect",
    rich_markup_mode="rich",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for verb in (quickstart, train, evaluate, experiment, report, predict, check, convert_checkpoint):
    app.command(no_args_is_help=verb is not quickstart)(verb)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hyperlect {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[
        bool,
        typer.Option("--debug", help="Show where an error comes from (also: HYPERLECT_DEBUG=1)."),
    ] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Say which this is."),
    ] = False,
) -> None:
    """One network that writes the adapters of a frozen encoder for any language.

    It is trained on whatever labelled data there is, and used for the
    combinations of task and language that have none.

    \b
    Begin with:
      hyperlect quickstart          all of it in minutes, on data that ships with it
      hyperlect train RECIPE.yaml   your own data
      hyperlect VERB --help         what a verb takes, with examples
    """
    quiet(debug)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and leave: 0 for success, 2 for what the person can mend.

    Args:
        arguments: those after the program's name; the process's own by default. ``--debug`` may
            stand anywhere among them.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    given.sort(key=lambda argument: argument != "--debug")
    debug = "--debug" in given or os.environ.get("HYPERLECT_DEBUG", "").lower() not in _OFF
    for stream in (sys.stdout, sys.stderr):  # whatever the locale, text goes out as it came in
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8")
    try:
        app(given, prog_name="hyperlect")
    except HyperlectError as error:
        _leave(error, str(error), USER_ERROR, debug)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        _leave(error, f"{place}{error.strerror or error}", USER_ERROR, debug)
    except MemoryError as error:
        _leave(error, _OUT_OF_MEMORY, USER_ERROR, debug)
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":  # torch's; torch may not be loaded
            _leave(error, _OUT_OF_MEMORY, USER_ERROR, debug)
        summary = f"{type(error).__name__}: {error}"
        hint = "This is a fault of hyperlect, not yours. HYPERLECT_DEBUG=1 shows where it arose."
        _leave(error, f"{summary}\n{hint}", BUG, debug)
    raise SystemExit(0)  # not reached: the application leaves by itself


_OUT_OF_MEMORY = (
    "There is not enough memory. Make batches smaller (--set training.batch_size=8, "
    "--set evaluation.tokens_per_batch=2048), or take a smaller backbone."
)


def _leave(error: Exception, message: str, code: int, debug: bool) -> NoReturn:
    if debug:
        raise error
    complain(message)
    raise SystemExit(code) from error
