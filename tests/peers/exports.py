"""Exports of tiny models of every family, with what hyperlect computes from the same inputs.

Run it where hyperlect is installed: python -m tests.peers.exports FOLDER. The tests beside this
file load them where the other library is installed (`make peers`).

A case is a folder with the export in `out`, and `expected.safetensors`: the inputs, and the outputs
that the Python of the export's own page must come to.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.utils import logging

from hyperlect.export import export
from hyperlect.grid import Cell
from hyperlect.model import HyperX
from hyperlect.run_folder import save_tensors
from hyperlect.tasks import Task, TaskType
from tests.hypernet import twin
from tests.model.models import MLM, NER, POS, TOPIC, padded, tiny_model

FAMILIES = ("bert", "xlm-roberta", "roberta", "deberta-v2", "modernbert", "distilbert")
DEP = Task("dep", TaskType.PARSING, ("nsubj", "obj", "root"))
TASKS = (POS, NER, TOPIC, DEP, MLM)
TRAINED = (Cell("pos", "eng"), Cell("ner", "isl"), Cell("mlm", "tur"))
# Of each sub-word, its word; and where words begin and the last one ends, then padding.
WORDS = torch.tensor([[0, 1, 2, 2, 2, 3, 4, 4, 4, -1], [0, 1, 1, 2, 3, 3, -1, -1, -1, -1]])
SENTENCE = ["Anna", "sees", "áþ", "river", "!"]
STARTS = torch.tensor([[1, 2, 5, 6, 9, 0, 0, 0, 0, 0], [1, 3, 4, 6, 0, 0, 0, 0, 0, 0]])


def cases() -> Iterator[tuple[str, HyperX, Cell]]:
    """Yield the name of a case, a model, and a cell of it."""

    def model(family: str, **settings: Any) -> HyperX:
        return tiny_model(family, tasks=TASKS, trained=TRAINED, **settings)

    for family in FAMILIES:
        parser = model(family, parser="direct")
        yield f"{family}, direct parser", parser, Cell("dep", "isl")
        trained = model(family)
        for cell in (
            ("ner", "isl"),
            ("pos", "deu"),
            ("topic", "tur"),
            ("dep", "eng"),
            ("mlm", "tur"),
        ):
            yield f"{family}, {' '.join(cell)}", trained, Cell(*cell)
        yield f"{family}, mad-x", model(family, method="mad-x"), Cell("ner", "tur")
        yield f"{family}, mad-x topic", model(family, method="mad-x"), Cell("topic", "tur")
        yield f"{family}, top layer", model(family, hypernet={"top_layers": 1}), Cell("pos", "eng")
        norms = model(family, train_layer_norms=True)
        for _, parameter in norms.backbone.layer_norms():
            parameter.data += 0.1
        yield f"{family}, trained LayerNorms", norms, Cell("pos", "eng")
    for family in ("bert", "deberta-v2", "distilbert"):
        changes = {"insertion": "layer"}
        yield f"{family}, after layer", model(family, hypernet=changes), Cell("pos", "eng")
    for variant, changes in twin.VARIANTS.items():
        if "norm_eps" not in changes:
            yield f"bert, {variant}", model("bert", hypernet=changes), Cell("pos", "isl")
    changes = {"insertion": "layer"}
    yield (
        "bert, mad-x after layer",
        model("bert", method="mad-x", hypernet=changes),
        Cell("pos", "tur"),
    )
    changes = {"norm_eps": 0.5, "post_norm": "none"}
    yield "bert, another epsilon without norms", model("bert", hypernet=changes), Cell("pos", "isl")
    changes = {"skip_last_layer": True}
    yield "bert, last layer skipped", model("bert", hypernet=changes), Cell("pos", "isl")
    for method in ("adapters", "task-hypernet", "language-hypernet"):
        yield f"bert, {method}", model("bert", method=method), Cell("pos", "isl")


@torch.no_grad()
def outputs(name: str, model: HyperX, cell: Cell, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return what the page of the export must come to: hidden states, and scores if it can."""
    words = WORDS if cell.task == "dep" else None
    output = model(**inputs, task=cell.task, language=cell.language, words=words)
    pieces = model.tokenizer(SENTENCE, is_split_into_words=True)
    tensors = {"hidden": output.last_hidden_state, "word_starts": STARTS}
    tensors |= {f"pieces.{key}": torch.tensor(value) for key, value in pieces.items()}
    if name == "bert, direct parser":  # the library has no equal of the others
        scores = output.scores["dep"]
        tensors |= {"arcs": scores.arcs, "relations": scores.relations[:]}
    elif cell.task in ("pos", "ner", "topic"):
        tensors["logits"] = output.logits
    return tensors


def main(folder: Path) -> None:
    """Write every case."""
    logging.disable_progress_bar()
    for name, model, cell in cases():
        ids, mask = padded(model.backbone)
        inputs = {"input_ids": ids, "attention_mask": mask}
        if name.startswith("bert"):
            inputs["token_type_ids"] = (torch.arange(ids.shape[1]) > 4).long().expand_as(ids)
        place = folder / name.replace(", ", "/").replace(" ", "-")
        export(model, "adapters", place / "out", *cell, encoder=True)
        tensors = {f"inputs.{key}": value for key, value in inputs.items()}
        tensors |= outputs(name, model, cell, inputs)
        save_tensors(tensors, place / "expected.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
