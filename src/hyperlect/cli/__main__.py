"""The application: its verbs, and how errors reach the person at the keyboard."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from hyperlect import __version__, cli
from hyperlect.cli.check import check
from hyperlect.cli.convert_checkpoint import convert_checkpoint
from hyperlect.cli.evaluate import evaluate
from hyperlect.cli.experiment import experiment
from hyperlect.cli.predict import predict
from hyperlect.cli.quickstart import quickstart
from hyperlect.cli.report import report
from hyperlect.cli.train import train
from hyperlect.errors import HyperlectError

USER_ERROR, BUG = 2, 1
_OFF = ("", "0", "false", "no")
_OUT_OF_MEMORY = (
    "There is not enough memory. Make batches smaller (--set training.batch_size=8, "
    "--set evaluation.tokens_per_batch=2048), or choose a smaller backbone."
)


class _Brief:
    """Shows flags without a type, since they take no value, and only defaults that are words."""

    def get_params(self, ctx: Any) -> list[Any]:
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for param in params:
            flag = getattr(param, "is_flag", False)
            param.show_default = str(param.default).isalpha() and not flag
            param.metavar = "" if flag else param.metavar
        return params


class _Group(_Brief, TyperGroup):
    pass


class _Command(_Brief, TyperCommand):
    pass


app = typer.Typer(
    name="hyperlect",
    cls=_Group,
    rich_markup_mode="rich",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for verb in (quickstart, train, evaluate, experiment, report, predict, check, convert_checkpoint):
    app.command(cls=_Command, no_args_is_help=verb is not quickstart)(verb)


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
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Show no progress, remarks or warnings.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show the libraries' messages too.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """One network that adapts a frozen encoder to any task in any language.

    Train it on the labelled data you have. Use it for the combinations of task
    and language that have none.

    \b
    Start with:
      hyperlect quickstart          a tour in minutes, on data that comes with it
      hyperlect train RECIPE.yaml   your own data
      hyperlect VERB --help         the options of a verb, with examples
    """
    cli.verbosity = -1 if quiet else int(verbose)
    if not (debug or verbose):
        cli.quiet_libraries()


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 for success, 2 for an error that the user can fix.

    Args:
        arguments: those after the program's name; the process's own by default. ``--debug``,
            ``-q`` and ``-v`` may stand anywhere among them.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    general = ("--debug", "-q", "--quiet", "-v", "--verbose")
    words.sort(key=lambda word: word not in general)
    debug = "--debug" in words or os.environ.get("HYPERLECT_DEBUG", "").lower() not in _OFF
    # torch allocates large blocks anew each time. The gradients of a generator, 75 MB at every
    # step, cost more time for the first touch of their memory than for their arithmetic. In huge
    # pages they do not (docs/performance.md). torch reads this when it first allocates.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    for stream in (sys.stdout, sys.stderr):  # whatever the locale, text goes out as it came in
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        app(words, prog_name="hyperlect")
    except HyperlectError as error:
        _exit(error, str(error), USER_ERROR, debug)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        _exit(error, f"{place}{error.strerror or error}", USER_ERROR, debug)
    except Exception as error:
        # torch has an OutOfMemoryError of its own; torch need not be loaded.
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            _exit(error, _OUT_OF_MEMORY, USER_ERROR, debug)
        hint = "This is a bug of hyperlect. HYPERLECT_DEBUG=1 shows where it happened."
        _exit(error, f"{type(error).__name__}: {error}\n{hint}", BUG, debug)
    raise SystemExit(0)  # not reached: the application exits by itself


def _exit(error: Exception, message: str, code: int, debug: bool) -> NoReturn:
    if debug:
        raise error
    cli.complain(message)
    raise SystemExit(code) from error


if __name__ == "__main__":
    main()
