"""hyperlect convert-checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .shared import libraries, out, remark


def convert_checkpoint(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="CHECKPOINT",
            help="The folder that the released code wrote, with TASK_model/pytorch_model.bin.",
            show_default=False,
        ),
    ],
    backbone: Annotated[
        str | None,
        typer.Option(
            metavar="ID|FOLDER",
            help="The encoder it was trained on. [dim]default: model_name_or_path[/]",
            show_default=False,
        ),
    ] = None,
    revision: Annotated[
        str | None,
        typer.Option(help="The encoder's branch, tag or commit on the hub.", show_default=False),
    ] = None,
    arguments: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The arguments it was trained with, by their names there, as JSON or YAML.",
            show_default=False,
        ),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="One such argument, as adapter_dim=256; may be repeated.",
            show_default=False,
        ),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="RUN",
            help="The run folder to make. [dim]default: runs/ and the checkpoint's name[/]",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Turn a checkpoint of the authors' released code into a run.

    Arguments that are not given have that code's defaults. Its own files of them
    are pickles, which can run code, and are never read. Weights must fit exactly,
    and the encoder in them must be the backbone, but for trained LayerNorms.

    \b
    Examples:
      hyperlect convert-checkpoint outputs/checkpoint-5000 --arguments a.json
      hyperlect convert-checkpoint old --arguments a.yaml --set adapter_dim=128
      hyperlect convert-checkpoint old --arguments a.yaml --backbone models/bert
    """
    run = run or Path("runs") / checkpoint.resolve().name
    with libraries():
        from ..released import convert_checkpoint as convert
    done = convert(checkpoint, run, backbone, revision, arguments, changes or ())
    for path in done.unread:
        remark(f"{path} is a pickle and was not read.")
    for key, value in done.assumed.items():
        taken = str(value).lower()
        remark(
            f"{key} was not given: taken as {taken}. Were that wrong, weights would not show it."
        )
    config, console = done.model.config, out()
    norms = " and the encoder's trained LayerNorms" if config.train_layer_norms else ""
    tasks, languages = (", ".join(names) for names in (done.model.tasks, config.languages))
    console.print(f"{run} holds adapters and heads{norms}: {tasks} in {languages}.", markup=False)
    console.print("\nNext:")
    console.print(f"  hyperlect check {run}", markup=False)
    options = f"--task {done.task} --language {config.languages[0]} sentences.txt"
    console.print(f"  hyperlect predict {run} {options}", markup=False)
