"""hyperlect predict."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import HyperlectError
from ..languages import resolve
from .inputs import Inputs, Reading, check_file, open_inputs
from .outputs import Form, Writer, explained
from .shared import Device, DeviceOption, libraries, out, remark, run_folder

if TYPE_CHECKING:
    from ..model import HyperX


def predict(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="The folder that training made, or a model's id on the hub.",
            show_default=False,
        ),
    ],
    task: Annotated[str, typer.Option(help="A task of the run, as ner.", show_default=False)],
    language: Annotated[
        str,
        typer.Option(help="Any language, trained or not: fao, fo or Faroese.", show_default=False),
    ],
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="What to read. [dim]default: stdin[/]", show_default=False
        ),
    ] = "-",
    form: Annotated[
        Form,
        typer.Option(
            "--format",
            help="text is for reading, conll has word and label on a line, jsonl an object a "
            "sentence. Trees are CoNLL-U in both text and conll.",
        ),
    ] = Form.TEXT,
    reading: Annotated[
        Reading,
        typer.Option(
            "--input",
            help="raw: a sentence a line. words: a word a line, an empty line after each "
            "sentence. conllu: CoNLL-U. auto tells them apart, and says what it took.",
        ),
    ] = Reading.AUTO,
    device: DeviceOption = Device.AUTO,
) -> None:
    """Label sentences with one task in one language.

    Raw sentences are split into words and signs. Of word files the first column
    is read, and lines that begin with "# " are comments. Tasks over whole texts
    read a text a line; tasks over pairs two texts a line, with a tab between.
    Empty lines are skipped.

    \b
    Examples:
      hyperlect predict runs/mine --task ner --language fao text.txt
      hyperlect predict runs/mine --task ner --language Faroese   (type, or pipe)
      hyperlect predict runs/mine --task pos --language fo w.tsv --format conll
    """
    check_file(file)
    resolve(language)  # a misspelt one is told before the model is loaded
    model = load(run, device)
    inputs = open_inputs(file, model.task(task), reading)
    if form is Form.CONLL and not model.task(task).type.reads_words:
        raise HyperlectError(
            f'--format conll is for labels on words; "{task}" labels texts. Use text or jsonl.'
        )
    if inputs.remark:
        remark(inputs.remark)
    label(model, inputs, Writer(form, model.task(task), out()), language)


def load(run: str, device: Device) -> HyperX:
    """Load a model from a run folder or the hub."""
    path = Path(run)
    on_hub = run.count("/") == 1 and not path.parent.is_dir()
    if not on_hub and not (path / "model.json").is_file():
        run_folder(path, finished=True)
    with libraries():
        from ..hardware import choose_device
        from ..model import HyperX
    return HyperX.from_pretrained(run, device=choose_device(device))


def label(model: HyperX, inputs: Inputs, writer: Writer, language: str) -> None:
    """Predict chunk by chunk, so that files of any size pass through."""
    told = False
    for chunk in inputs.chunks():
        predictions = model.predict([given.value for given in chunk], writer.task.name, language)
        if not told:
            remark(explained(predictions[0]))
            writer.head(predictions[0])
            told = True
        for given, prediction in zip(chunk, predictions, strict=True):
            writer.write(prediction, given)
        writer.flush()
    if not told:
        raise HyperlectError(f"{inputs.name} holds nothing to predict for.")
