"""hyperlect convert-checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import RunOption, SetOption, libraries, out, remark


def convert_checkpoint(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT")],
    backbone: Annotated[str | None, typer.Option(metavar="ID|FOLDER")] = None,
    revision: Annotated[str | None, typer.Option(metavar="REVISION")] = None,
    arguments: Annotated[Path | None, typer.Option(metavar="FILE")] = None,
    overrides: SetOption = [],  # noqa: B006
    run: RunOption = None,
) -> None:
    """Turn a checkpoint of the authors' released code into a run.

    Arguments that are not given have that code's defaults. Its own files of them
    are pickles, which can run code, and are never read. Weights must fit exactly,
    and the encoder in them must be the backbone, except for trained LayerNorms.

    \b
    Examples:
      hyperlect convert-checkpoint outputs/checkpoint-5000 --arguments a.json
      hyperlect convert-checkpoint old --arguments a.yaml --set adapter_dim=128
      hyperlect convert-checkpoint old --arguments a.yaml --backbone models/bert

    Args:
        checkpoint: The folder that the released code wrote, with TASK_model/pytorch_model.bin.
        backbone: The encoder it was trained on. Default: model_name_or_path.
        revision: The encoder's branch, tag or commit on the hub.
        arguments: The arguments it was trained with, by their names there, as JSON or YAML.
        overrides: One such argument, as adapter_dim=256; repeatable.
        run: The run folder to make. Default: runs/ and the checkpoint's name.
    """
    run = run or Path("runs") / checkpoint.resolve().name
    with libraries():
        from ..released import convert_checkpoint as convert
    result = convert(checkpoint, run, backbone, revision, arguments, overrides)
    for path in result.unread:
        remark(f"{path} is a pickle and was not read.")
    for key, value in result.assumed.items():
        assumed = f"{str(value).lower()} was assumed"
        remark(f"{key} was not given: {assumed}. The weights cannot show an error here.")
    config, console = result.model.config, out()
    norms = " and the encoder's trained LayerNorms" if config.train_layer_norms else ""
    tasks, languages = (", ".join(names) for names in (result.model.tasks, config.languages))
    console.print(f"{run} holds adapters and heads{norms}: {tasks} in {languages}.", markup=False)
    options = f"--task {result.task} --language {config.languages[0]} sentences.txt"
    commands = f"  hyperlect check {run}\n  hyperlect predict {run} {options}"
    console.print(f"\nNext:\n{commands}", markup=False)
