"""hyperlect export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ..run_folder import RESULTS, local_run
from . import err, libraries, out
from .predict import load


def export(
    run: Annotated[str, typer.Argument(metavar="RUN")],
    folder: Annotated[Path, typer.Argument(metavar="DIR")],
    form: Annotated[str, typer.Option("--format", metavar="FORMAT")],
    task: Annotated[str | None, typer.Option(metavar="TASK")] = None,
    language: Annotated[str | None, typer.Option(metavar="LANGUAGE")] = None,
    encoder: Annotated[bool, typer.Option("--encoder")] = False,
    quantize: Annotated[Literal["int8"] | None, typer.Option()] = None,
) -> None:
    """Write one cell of a run in a format that other libraries load.

    The cell may be any: trained, an unseen combination, or in an unseen language.
    If a format cannot hold the model exactly, the export is refused, and the error
    says why.

    \b
    Examples:
      hyperlect export runs/mine out/ner-gle --task ner --language gle --format adapters
      hyperlect export runs/mine out/ner-gle --task ner --language gle --format adapters --encoder

    Args:
        run: A run folder, or the hub id of a saved model.
        folder: The folder to make.
        form: adapters (AdapterHub); of generated LoRA, peft or merged (transformers).
        task: The task of the cell.
        language: Its code or name, as gle or Irish.
        encoder: Write the encoder and its tokenizer too, into DIR/encoder.
        quantize: Store weights in 8 bits, where the format allows it.
    """
    local = local_run(Path(run))
    model = load(str(local), "cpu")
    with libraries():
        from ..evaluation.results import read_results
        from ..export import export as write
    with err().status("Exporting …"):
        results = read_results(local) if (local / RESULTS).is_file() else None
        exported = write(
            model, form, folder, task, language, encoder=encoder, quantize=quantize, results=results
        )
    console = out()
    console.print(f"{folder} holds {exported.what}; {exported.score}.", markup=False)
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            console.print(f"  {file.relative_to(folder)}", markup=False)
    console.print(f"\nLoad it:\n\n{exported.usage}", markup=False)
