"""What a step costs that trains one more language on raw text: its vector, its adapter, or all."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch

from hyperlect.backbone import Backbone
from hyperlect.data.batching import Batch, collate
from hyperlect.grid import Cell
from hyperlect.methods import TUNING
from hyperlect.model import HyperX, HyperXConfig
from hyperlect.tasks import Task, TaskType

from .bench import SMALL, TASKS, Bench, Step, like_length, twin_of
from .rows import Row, timed_row
from .steps import shape, sizes

MLM = Task("mlm", TaskType.MLM)
STEPS = 4
"""Steps of one run, on batches of different lengths."""
ADAPTER = "its adapter alone (mad-x)"
# What is trained: the method, and how the names of the trained parameters begin. Heads are there
# already, and stay as they are.
TRAINED = {
    "its vector alone (hyperx)": ("hyperx", "adapters.source.embeddings.language"),
    ADAPTER: ("mad-x", "adapters.languages."),
    "the whole hypernetwork (hyperx)": ("hyperx", "adapters."),
    "the whole encoder (finetune)": ("finetune", "backbone."),
}
GENERATED = "nothing: one generation of its weights, with the mean vector (hyperx)"


def new_language(bench: Bench) -> Cell:
    """Return the cell of raw text in the language that comes last."""
    return Cell(MLM.name, bench.languages[-1])


def batches(bench: Bench) -> list[Batch]:
    """Make batches of raw text in the new language, each with its masks."""
    cell, chance = new_language(bench), torch.Generator().manual_seed(1)
    return [
        collate(rows, [cell] * len(rows), {MLM.name: MLM}, bench.backbone.tokenizer, chance).to(
            bench.device
        )
        for rows in like_length(bench.sample, bench.sentences, STEPS)
    ]


def model(bench: Bench, method: str, trained: str) -> HyperX:
    """Make a random model with the new language, of which only a part is trained.

    Hyper-X has a vector for every language, of which raw text in one moves that one; of the
    adapters of mad-x only the new one is made.
    """
    cell = new_language(bench)
    languages = (cell.language,) if method == "mad-x" else tuple(bench.languages)
    torch.manual_seed(1)
    config = HyperXConfig((TASKS["pos"], MLM), languages, (cell,), method, SMALL)
    made = HyperX(_encoder(bench, method), config).to(bench.device)
    for name, parameter in made.own_parameters().items():
        parameter.requires_grad_(name.startswith(trained))
    return made


def _encoder(bench: Bench, method: str) -> Backbone:
    """An encoder that is trained must not share its tensors with the others."""
    if method not in TUNING:
        return twin_of(bench.backbone)
    tokenizer = bench.backbone.tokenizer
    return copy.deepcopy(bench.backbone, {id(tokenizer): tokenizer})


def parameters(made: HyperX, method: str) -> int:
    """Count what is trained for one language; a table of vectors has a row for each."""
    found = [p for p in made.own_parameters().values() if p.requires_grad]
    total = sum(p.numel() for p in found)
    alone = method == "hyperx" and len(found) == 1
    return total // len(made.languages) if alone else total


def measure(bench: Bench) -> Iterator[Row]:
    """Time one step of each, and the generation that is all there is without training."""
    made = {name: model(bench, *how) for name, how in TRAINED.items()}
    drawn = batches(bench)
    runs = {name: Step(bench, one, drawn) for name, one in made.items()}
    plain = made["its vector alone (hyperx)"]

    def generate() -> None:
        with torch.no_grad(), bench.autocast():
            plain.generate([Cell("pos", "isl")])

    times = bench.times({**runs, GENERATED: generate}, warmup=1)
    for name in runs:
        times[name] = [seconds / len(drawn) for seconds in times[name]]
    trained = {name: parameters(made[name], method) for name, (method, _) in TRAINED.items()}
    for name in (*TRAINED, GENERATED):
        yield timed_row(
            name,
            f"a step that trains {ADAPTER}",
            None,
            times,
            (name, ADAPTER),
            extra=True,
            trained_parameters=trained.get(name, 0),
            sizes=sizes(SMALL),
            **shape(drawn),
            one_run="a generation" if name == GENERATED else f"a step, mean of {len(drawn)}",
        )
