"""What a step costs that trains one more language on raw text: its vector, its adapter, or all."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch

from hyperlect.backbone import Backbone
from hyperlect.data.batching import Batch, collate, mask_rows
from hyperlect.grid import Cell
from hyperlect.methods import METHODS
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
    chance, tasks = torch.Generator().manual_seed(1), {MLM.name: MLM}
    tokenizer = bench.backbone.tokenizer
    masked_batches = []
    for rows in like_length(bench.sample, bench.sentences, STEPS):
        cells = [new_language(bench)] * len(rows)
        masked = mask_rows(rows, cells, tasks, tokenizer, chance)
        masked_batches.append(collate(masked, cells, tasks, tokenizer).to(bench.device))
    return masked_batches


def model(bench: Bench, method: str, trained: str) -> HyperX:
    """Make a random model with the new language, of which only a part is trained.

    Hyper-X has a vector for every language, of which raw text in one moves that one; of the
    adapters of mad-x only the new one exists.
    """
    cell = new_language(bench)
    languages = (cell.language,) if method == "mad-x" else tuple(bench.languages)
    torch.manual_seed(1)
    config = HyperXConfig((TASKS["pos"], MLM), languages, (cell,), method, SMALL)
    new = HyperX(_encoder(bench, method), config).to(bench.device)
    for name, parameter in new.own_parameters().items():
        parameter.requires_grad_(name.startswith(trained))
    return new


def _encoder(bench: Bench, method: str) -> Backbone:
    """An encoder that is trained must not share its tensors with the others."""
    if not METHODS[method].trains_encoder:
        return twin_of(bench.backbone)
    tokenizer = bench.backbone.tokenizer
    return copy.deepcopy(bench.backbone, {id(tokenizer): tokenizer})


def parameters(model: HyperX, method: str) -> int:
    """Count what is trained for one language; a table of vectors has a row for each."""
    trained = [p for p in model.own_parameters().values() if p.requires_grad]
    total = sum(p.numel() for p in trained)
    alone = method == "hyperx" and len(trained) == 1
    return total // len(model.languages) if alone else total


def measure(bench: Bench) -> Iterator[Row]:
    """Time one step of each, and the generation that is all there is without training."""
    models = {name: model(bench, *how) for name, how in TRAINED.items()}
    drawn = batches(bench)
    runs = {name: Step(bench, one, drawn) for name, one in models.items()}
    plain = models["its vector alone (hyperx)"]

    def generate() -> None:
        with torch.no_grad():
            plain.generate([Cell("pos", "isl")])

    times = bench.times({**runs, GENERATED: generate}, warmup=1)
    for name in runs:
        times[name] = [seconds / len(drawn) for seconds in times[name]]
    trained = {name: parameters(models[name], method) for name, (method, _) in TRAINED.items()}
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
