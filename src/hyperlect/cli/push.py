"""hyperlect push."""

from __future__ import annotations

from typing import Annotated

import typer

from ..run_folder import require_run
from . import RunArgument, err, libraries, out, remark


def push(
    run: RunArgument,
    repository: Annotated[str, typer.Argument(metavar="NAMESPACE/NAME")],
    private: bool = False,
    revision: Annotated[str | None, typer.Option(metavar="BRANCH")] = None,
    licence: Annotated[str | None, typer.Option("--license", metavar="ID")] = None,
    dry_run: bool = False,
) -> None:
    """Put a run on the Hugging Face Hub, with a model card.

    Pushed are the weights, model.json, the recipe and the results, in one commit;
    not the encoder, the data, logs, checkpoints or paths of this machine. Log in
    first: hf auth login.

    \b
    Examples:
      hyperlect push runs/mine me/mine --private
      hyperlect push runs/mine me/mine --license cc-by-sa-4.0
      hyperlect push runs/mine me/mine --dry-run

    Args:
        run: The folder that training made, or a model's id on the hub.
        repository: Where on the hub; it is made if there is none.
        private: Make a new repository private.
        revision: The branch to push to. Default: main.
        licence: The licence of the weights for the card, as apache-2.0.
        dry_run: Print the card and the names of the files, and push nothing.
    """
    run = require_run(run, finished=True, recipe=False)
    with libraries():
        from ..export.hub import CARD, public_files, push_to_hub
    if dry_run:
        files = public_files(run, repository, licence)
        typer.echo(bytes(files[CARD]).decode(), nl=False)
        remark(f"Not pushed: {', '.join(files)}")
        return
    with err().status(f"Pushing {run} …"):
        address = push_to_hub(run, repository, private=private, revision=revision, licence=licence)
    out().print(f"Pushed {run}: {address}", markup=False)
    remark(f"Next: hyperlect predict {repository} --task TASK --language LANGUAGE FILE")
