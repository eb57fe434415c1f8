"""The application: its verbs, and how errors reach the person at the keyboard."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import typer

from hyperlect import __version__, cli
from hyperlect.cli.add_language import add_language
from hyperlect.cli.check import check
from hyperlect.cli.convert_checkpoint import convert_checkpoint
from hyperlect.cli.evaluate import evaluate
from hyperlect.cli.experiment import experiment
from hyperlect.cli.export import export
from hyperlect.cli.predict import predict
from hyperlect.cli.push import push
from hyperlect.cli.quickstart import quickstart
from hyperlect.cli.report import report
from hyperlect.cli.serve import serve
from hyperlect.cli.train import train
from hyperlect.errors import HyperlectError, Interrupted

VERBS = (
    *(quickstart, train, evaluate, experiment, report, predict, serve),
    *(add_language, push, check, convert_checkpoint, export),
)
"""In the order of the help."""
HELP = ["-h", "--help"]
USER_ERROR, BUG, INTERRUPTED = 2, 1, 130
_OFF = ("", "0", "false", "no")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hyperlect {__version__}")
        raise typer.Exit


def _options(
    debug: bool = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v")] = False,
    version: Annotated[bool, typer.Option(callback=_show_version, is_eager=True)] = False,
) -> None:
    """One network that adapts a frozen encoder to any task in any language.

    Train it on the labelled data you have. Use it for the combinations of task
    and language that have none.

    \b
    Start with:
      hyperlect quickstart          a tour in minutes, on data that comes with it
      hyperlect train RECIPE.yaml   your own data
      hyperlect VERB --help         the options of a verb, with examples

    Args:
        debug: Show where an error comes from (also: HYPERLECT_DEBUG=1).
        quiet: Show no progress, remarks or warnings.
        verbose: Show the libraries' messages too.
        version: Show the version.
    """
    cli.verbosity = -1 if quiet else int(verbose)
    if not (debug or verbose):
        cli.quiet_libraries()


def _application() -> Any:
    """Make the application. The help of options is that of the arguments in docstrings.

    Flags are shown without a type, since they take no value, and have no opposite (--no-…).
    Defaults are shown where they are words.
    """
    application = typer.Typer(no_args_is_help=True, context_settings={"help_option_names": HELP})
    application.callback()(_options)
    for verb in VERBS:
        application.command(no_args_is_help=verb is not quickstart)(verb)
    group: Any = typer.main.get_command(application)
    for command in (group, *group.commands.values()):
        command.help, _, arguments = command.help.partition("\nArgs:\n")
        helps = dict(re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", arguments, re.MULTILINE))
        context = typer.Context(command, help_option_names=HELP)
        for param in command.get_params(context):
            text = " ".join(helps.get(param.name, param.help or "").split())
            param.help = re.sub(r"(Default: .*)", r"[dim]\1[/]", text)
            flag = getattr(param, "is_flag", False)
            param.show_default = str(param.default).isalpha() and not flag
            param.metavar = "" if flag else param.metavar
            param.secondary_opts = []
    return group


app = _application()


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit.

    The exit code is 0 for success, 1 for a bug, 2 for an error that the user can fix, 130 for an
    interruption. ``hyperlect experiment`` has codes of its own.

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
    except Interrupted as stop:
        cli.remark(str(stop))
        raise SystemExit(INTERRUPTED) from stop
    except Exception as error:
        if debug:
            raise
        raise SystemExit(_explain(error)) from error
    raise SystemExit(0)  # not reached: the application exits by itself


def _explain(error: Exception) -> int:
    """Print what an error means to the person at the keyboard. Returns the exit code."""
    # torch, which need not be loaded, has an error of its own for GPUs, and a RuntimeError on CPUs.
    exhausted = type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)
    if exhausted or isinstance(error, MemoryError):
        smaller = "training.batch_size and evaluation.tokens_per_batch of a recipe"
        hint = f"Make batches smaller ({smaller}), or choose a smaller encoder."
        cli.complain(f"There is not enough memory. {hint}")
    elif isinstance(error, HyperlectError):
        cli.complain(str(error))
    elif isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        cli.complain(f"{place}{error.strerror or error}")
    else:
        hint = "This is a bug of hyperlect. HYPERLECT_DEBUG=1 shows where it happened."
        cli.complain(f"{type(error).__name__}: {error}\n{hint}")
        return BUG
    return USER_ERROR


if __name__ == "__main__":
    main()
