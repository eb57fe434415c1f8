"""The bench that all measures work on: device, encoder, models, sentences and whole steps."""

from __future__ import annotations

import contextlib
import copy
import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from common import interleaved

from hyperlect.backbone import Backbone, load_backbone
from hyperlect.data.batching import Batch, collate
from hyperlect.grid import Cell
from hyperlect.hardware import Precision, arithmetic
from hyperlect.hypernet import HypernetConfig
from hyperlect.model import HyperX, HyperXConfig
from hyperlect.recipe import Recipe, load_recipe
from hyperlect.recipe.corpora import Corpora, read_corpora
from hyperlect.recipe.recipe import RECOMMENDED
from hyperlect.tasks import UPOS, Task, TaskType
from hyperlect.training.trainer import batch_losses, task_weights

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "src" / "hyperlect" / "data" / "sample"
REAL, SAMPLE = ROOT / "recipes" / "mixed-small.yaml", FOLDER / "quickstart.yaml"
DATA_VARIABLE = "HYPERLECT_DATA"

TOPICS = ("geography", "health", "politics", "science", "sports", "travel")
TASKS = {
    "pos": Task("pos", TaskType.TAGGING, UPOS),
    "ner": Task("ner", TaskType.SPANS, ("O", *(f"{p}-{t}" for t in ("LOC", "PER") for p in "BI"))),
    "topic": Task("topic", TaskType.CLASSIFICATION, TOPICS),
}
SMALL = HypernetConfig(bottleneck=64, projection=32)
BASE = HypernetConfig()
DEFAULT = HypernetConfig(**RECOMMENDED["hypernet"])
RowData = Mapping[str, Any]


@dataclass
class Bench:
    """What measures share.

    Args:
        device: where everything runs.
        repetitions: timed runs of each thing; measures whose runs are long make fewer.
        sentences: of a batch; the published number, and the default of recipes.
    """

    device: torch.device
    repetitions: int
    sentences: int = 32

    @property
    def cuda(self) -> bool:
        """Whether there is a GPU to measure on."""
        return self.device.type == "cuda"

    @property
    def real(self) -> bool:
        """Whether the corpora of the real recipe are at hand."""
        return bool(os.environ.get(DATA_VARIABLE))

    def sync(self) -> None:
        """Wait until the device has done all it was told."""
        if self.cuda:
            torch.cuda.synchronize()

    @property
    def precision(self) -> Precision:
        """That of training by default: bf16 on a GPU that has it, else fp32."""
        return "bf16" if self.cuda and torch.cuda.is_bf16_supported() else "fp32"

    def times(
        self,
        runs: Mapping[str, Callable[[], object]],
        repetitions: int | None = None,
        warmup: int = 2,
    ) -> dict[str, list[float]]:
        """Time several things in turn."""
        return interleaved(runs, repetitions or self.repetitions, warmup, self.sync)

    @functools.cached_property
    def backbone(self) -> Backbone:
        """The encoder whose weights all models share."""
        return load_backbone("builtin:e5-small").eval().to(self.device)

    @functools.cached_property
    def languages(self) -> list[str]:
        """The languages of the shipped corpus."""
        return sorted(path.name.partition(".")[0] for path in FOLDER.glob("*.test.tsv"))

    @functools.cached_property
    def corpora(self) -> Corpora:
        """The shipped corpus."""
        return read_corpora(load_recipe(SAMPLE))

    @functools.cached_property
    def sample(self) -> list[RowData]:
        """The sentences of the shipped corpus, all languages, encoded with tags of `pos`."""
        length = self.length(load_recipe(SAMPLE))
        encoded = self.corpora.encode(self.backbone.tokenizer, length)
        return [row for (_, cell), rows in encoded.items() if cell.task == "pos" for row in rows]

    @functools.cached_property
    def texts(self) -> list[list[str]]:
        """The same sentences as words."""
        examples = self.corpora.examples.items()
        return [row["words"] for (_, cell), rows in examples if cell.task == "pos" for row in rows]

    def recipe(self) -> tuple[Recipe, str]:
        """Return the recipe of real corpora, or where they are not there the sample's; and which.

        Batches hold as many sentences as the recipe says.
        """
        path = REAL if self.real else SAMPLE
        note = "" if self.real else f" ({DATA_VARIABLE} is not set)"
        return load_recipe(path), f"{path.relative_to(ROOT)}{note}"

    def length(self, recipe: Recipe) -> int:
        """Return the longest row that a recipe makes for the encoder, in sub-words."""
        return min(recipe.max_length, self.backbone.max_length)

    def model(
        self,
        method: str = "hyperx",
        hypernet: HypernetConfig = SMALL,
        languages: Sequence[str] = ("eng", "fin", "rus", "tur"),
        tasks: Sequence[str] = ("pos",),
        backbone: Backbone | None = None,
    ) -> HyperX:
        """Make a random model. The encoder's modules are its own, their tensors shared by all."""
        torch.manual_seed(1)
        cells = tuple(Cell(task, language) for task in tasks for language in languages)
        chosen = tuple(TASKS[task] for task in tasks)
        config = HyperXConfig(chosen, tuple(languages), cells, method, hypernet)
        return HyperX(twin_of(backbone or self.backbone), config).to(self.device)

    def batch(self, rows: Sequence[RowData], cells: Sequence[Cell]) -> Batch:
        """Make a batch of sentences, each as if it were of its cell, with labels."""
        labelled = [as_cell(row, cell) for row, cell in zip(rows, cells, strict=True)]
        return collate(labelled, cells, TASKS, self.backbone.tokenizer).to(self.device)

    def batches(self, cells: Sequence[Cell], size: int | None = None) -> list[Batch]:
        """Make a batch of one cell for each cell, of sentences of like length."""
        groups = like_length(self.sample, size or self.sentences, len(cells))
        return [
            self.batch(rows, [cell] * len(rows)) for rows, cell in zip(groups, cells, strict=True)
        ]


class Step:
    """Whole training steps, as the trainer takes them, one a batch.

    Args:
        keep: whether copies of the frozen weights in bf16 are kept, as in training. If not,
            autocast makes them in every pass.
        precision: that of the bench by default.
    """

    def __init__(
        self,
        bench: Bench,
        model: HyperX,
        batches: Sequence[Batch],
        keep: bool = True,
        precision: Precision | None = None,
    ) -> None:
        self.bench, self.model, self.batches, self.keep = bench, model.train(), batches, keep
        self.precision = precision or bench.precision
        model.backbone.eval()
        self.parameters = [p for p in model.own_parameters().values() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-3, weight_decay=0, fused=True)

    def __call__(self) -> None:
        for batch in self.batches:
            self.backward(batch)
            self.finish()

    def backward(self, batch: Batch) -> None:
        """Run one batch forward and backward."""
        with self.arithmetic():
            weights = task_weights([batch], list(self.model.tasks))
            _, loss = batch_losses(self.model, batch, weights)
            loss.backward()

    def arithmetic(self) -> contextlib.AbstractContextManager[None]:
        """Compute in the precision of the bench inside the block."""
        if self.keep:
            return self.model.backbone.arithmetic(self.precision)
        return arithmetic(self.bench.device.type, self.precision)

    def finish(self) -> None:
        """Clip, step, and drop the gradients."""
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def forward(bench: Bench, model: HyperX, batch: Batch) -> None:
    """Run a batch through a model without gradients, as prediction does."""
    with model.eval_mode(), model.backbone.arithmetic(bench.precision):
        model.run(batch)


def twin_of(backbone: Backbone) -> Backbone:
    """Copy an encoder's modules, so that hooks in one copy act on it alone, but not its tensors."""
    shared = {id(tensor): tensor for tensor in (*backbone.parameters(), *backbone.buffers())}
    return copy.deepcopy(backbone, {**shared, id(backbone.tokenizer): backbone.tokenizer})


def like_length(rows: Sequence[RowData], size: int, count: int) -> list[list[RowData]]:
    """Cut rows into groups of about equal length, and take some groups spread over all lengths.

    So batches come out as the length-grouping batcher makes them.
    """
    ordered = sorted(rows, key=lambda row: len(row["input_ids"]))
    groups = [ordered[start : start + size] for start in range(0, len(ordered) - size + 1, size)]
    return [groups[(2 * index + 1) * len(groups) // (2 * count)] for index in range(count)]


def as_cell(row: RowData, cell: Cell) -> RowData:
    """Give a tagged sentence labels that a task can have; what they are, timing does not see."""
    if cell.task == "topic":
        return {**row, "positions": [], "labels": [0]}
    return {**row, "labels": [label % len(TASKS[cell.task].labels) for label in row["labels"]]}


def random_cells(languages: Sequence[str], count: int) -> Iterator[Cell]:
    """Draw distinct cells at random, the same ones every time."""
    every = [Cell(task, language) for task in TASKS for language in languages]
    order = torch.randperm(len(every), generator=torch.Generator().manual_seed(1)).tolist()
    return (every[index] for index in order[:count])
