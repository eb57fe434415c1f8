"""Exporting a cell, or a whole model: the table of formats, and what all of them share.

A format is a row of `FORMATS` and a function that writes into an empty folder. The function raises
`HyperlectError` with the reason where the format cannot carry the model exactly.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from .. import __version__
from ..backbone.loading import BUILTIN
from ..errors import HyperlectError, RunError, counted, unknown
from ..evaluation.results import Results
from ..grid import Cell
from ..languages import name as language_name
from ..model import HyperX
from ..run_folder import write_text, writing
from .adapters import adapters_usage, export_adapters
from .merged import export_merged, merged_usage
from .onnx import export_onnx, onnx_usage
from .peft import export_peft, peft_usage

ENCODER = "encoder"
"""The folder of the encoder, inside the exported one."""


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        reader: what loads it.
        write: writes a cell of a model into an empty folder. The cell may be None if `whole`; a
            keyword ``quantize`` may come if `quantizes`.
        usage: writes the Python that loads it, in which ``FOLDER`` and ``ENCODER`` stand for the
            paths of the two.
        holds_encoder: whether the encoder's weights are inside.
        whole: whether it can hold all cells at once.
        quantizes: whether it can be quantized.
    """

    reader: str
    write: Callable[..., None]
    usage: Callable[[HyperX, Cell | None], str]
    holds_encoder: bool = False
    whole: bool = False
    quantizes: bool = False


FORMATS: dict[str, Format] = {
    "adapters": Format("the library adapters", export_adapters, adapters_usage),
    "peft": Format("the library peft", export_peft, peft_usage),
    "merged": Format("transformers", export_merged, merged_usage, holds_encoder=True),
    "onnx": Format(
        "onnxruntime", export_onnx, onnx_usage, holds_encoder=True, whole=True, quantizes=True
    ),
}
"""The formats by name."""


class Exported(NamedTuple):
    """What was exported.

    Attributes:
        what: the cell with its kind, or the tasks and languages.
        score: of the cell.
        usage: the Python that loads it.
    """

    what: str
    score: str
    usage: str


def export(
    model: HyperX,
    format: str,
    folder: str | Path,
    task: str | None = None,
    language: str | None = None,
    *,
    encoder: bool = False,
    quantize: Literal["int8"] | None = None,
    results: Results | None = None,
) -> Exported:
    """Write one cell of a model, or all of it, into a new folder that other software loads.

    The folder is written beside its place and then renamed: it is there whole, or not at all.

    Args:
        model: a trained model.
        format: one of `FORMATS`.
        folder: must not exist, or be empty.
        task, language: the cell, trained or not; neither of them for the whole model.
        encoder: whether to write the encoder and its tokenizer too, as a transformers folder
            inside the exported one.
        quantize: to what precision, for formats that can be quantized.
        results: of the run, for the score of the cell.

    Raises:
        UnknownNameError: there is no such format, task or language.
        HyperlectError: the format cannot carry the model; the message says why. Or a cell or a
            package is missing.
        RunError: the folder holds something, or cannot be written.
    """
    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    chosen, folder = FORMATS[format], Path(folder)
    cell = _cell(model, format, task, language)
    if quantize and not chosen.quantizes:
        raise HyperlectError(f"The format {format} cannot be quantized.")
    if model.config.train_layer_norms and not (chosen.holds_encoder or encoder):
        raise HyperlectError(
            f"The format {format} does not hold the encoder, whose LayerNorms were trained. Write "
            "the trained encoder too: --encoder, or encoder=True."
        )
    options: dict[str, Any] = {"quantize": quantize} if quantize else {}
    # What stands for a language that was not trained is in place only inside the block.
    with model.described({cell.language: ()} if cell else {}), _new_folder(folder) as partial:
        chosen.write(model, cell, partial, **options)
        if encoder and not chosen.holds_encoder:
            model.backbone.save_pretrained(partial / ENCODER)
        exported = _describe(model, chosen, cell, results)
        if quantize:
            exported = exported._replace(score=f"{exported.score}, before it was quantized")
        write_text(partial / "README.md", _readme(model, chosen, cell, exported, encoder))
    place = folder / ENCODER if encoder else model.backbone.encoder.name_or_path
    usage = exported.usage.replace("FOLDER", str(folder)).replace("ENCODER", str(place))
    return exported._replace(usage=usage)


def _cell(model: HyperX, format: str, task: str | None, language: str | None) -> Cell | None:
    if task is None and language is None and FORMATS[format].whole:
        return None
    if task is None or language is None:
        raise HyperlectError(f"The format {format} needs a cell. Name a task and a language.")
    cell = Cell(model.task(task).name, model.config.language_code(language))
    model.config.require_applicable([cell])
    return cell


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """Give a folder beside `folder` to write into, and rename it at the end of the block."""
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise RunError(f"{folder} exists already. Remove it, or name another folder.")
    folder = folder.absolute()
    partial = folder.with_name(f"{folder.name}.{uuid.uuid4().hex}.partial")
    with writing(folder):
        try:
            partial.mkdir(parents=True)
            yield partial
            if folder.is_dir():
                folder.rmdir()
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _describe(
    model: HyperX, chosen: Format, cell: Cell | None, results: Results | None
) -> Exported:
    usage = chosen.usage(model, cell)
    if cell is None:
        return Exported(f"{', '.join(model.tasks)} in any language", "scored by cell", usage)
    kind = model.grid.kind(cell)
    what = f"{cell.task} in {language_name(cell.language)} ({cell.language}), {kind}"
    scores = [r for r in results.cells if r.cell == cell and r.scored] if results else []
    score = "not scored"
    if scores:
        examples = counted(scores[0].examples, "example")
        score = f"{scores[0].metric} {scores[0].value:.1f} of {examples}, in one run"
    return Exported(what, score, usage)


def _readme(
    model: HyperX, chosen: Format, cell: Cell | None, exported: Exported, encoder: bool
) -> str:
    reference = model.backbone.reference
    place = f"FOLDER/{ENCODER}"
    if not encoder:  # the path of a machine means nothing elsewhere
        on_hub = not (reference.startswith(BUILTIN) or Path(reference).exists())
        place = reference if on_hub else "ENCODER"
    source = model.language_source(cell.language) if cell else "any"
    facts = {
        "Score": exported.score,
        "Language vector": source,
        "Method": model.config.method,
        "Encoder": reference if place == reference else Path(reference).name,
        "Revision of the encoder": model.backbone.revision,
        "Written by": f"hyperlect {__version__}",
    }
    listed = "\n".join(f"- {name}: {fact}" for name, fact in facts.items() if fact)
    usage = exported.usage.replace("ENCODER", place)
    names = "FOLDER is this folder"
    if "ENCODER" in usage:
        names += ", ENCODER that of the encoder, which `hyperlect export … --encoder` writes"
    return (
        f"# {exported.what}\n\nFor {chosen.reader}.\n\n{listed}\n\n{names}:\n\n"
        f"```python\n{usage}\n```\n"
    )
