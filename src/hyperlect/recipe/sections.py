"""The sections of a recipe. A field is documented here once; `keys` lists them all."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

from ..data.examples import Format
from ..errors import HyperlectError, nearest
from ..grid import Cell
from ..hypernet.config import HypernetConfig
from ..precision import Precision
from ..tasks import INVENTORIES, OUTSIDE, TaskType, inventory

SELECTIONS = ("supervised", "unseen combination", "unseen language", "all")

Part = Literal["languages", "source", "generator", "adapters", "latents", "heads", "backbone"]
Positive = Annotated[int, Field(ge=1)]
Text = Annotated[str, Field(min_length=1)]


class Section(BaseModel):
    """What all sections share: unknown keys are faults, and nothing changes after loading."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_value_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        # pydantic would quietly take true for 1
        field = cls.model_fields[str(info.field_name)]
        if isinstance(value, bool) and field.annotation is not bool:
            raise ValueError(f"is {str(value).lower()}, which does not fit here")
        return value


def _no_truth_value_for_a_number(value: Any) -> Any:
    """Refuse of plain data for `HypernetConfig`, which is no section, what a section refuses."""
    switches = {field.name for field in fields(HypernetConfig) if field.type == "bool"}
    for key, item in value.items() if isinstance(value, dict) else ():
        if isinstance(item, bool) and key not in switches:
            raise ValueError(f"{key} is {str(item).lower()}, which does not fit here")
    return value


Hypernet = Annotated[HypernetConfig, BeforeValidator(_no_truth_value_for_a_number)]


def _one_or_many(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _selection(value: Any) -> Any:
    """Accept the name of a selection, or a list of cells."""
    if isinstance(value, str) and value in SELECTIONS:
        return value
    return cells_listed(value, f"{', '.join(SELECTIONS)}, or ", SELECTIONS)


def cells_listed(value: Any, instead: str = "", known: tuple[str, ...] = ()) -> Any:
    """Accept one cell or a list of them; `instead` tells what else may stand there."""
    form = f"must be {instead}a list of cells such as [ner:fao, pos:fao]"
    cells = _one_or_many(value)
    if not isinstance(cells, list) or value in ("", []):
        raise ValueError(form)
    for cell in cells:
        try:
            Cell.parse(cell if isinstance(cell, str) else "")
        except HyperlectError:
            raise ValueError(f'{form}, not "{cell}".{nearest(str(cell), known)}') from None
    return cells


def _label_names(value: Any) -> Any:
    if isinstance(value, str):
        if value.lower() not in INVENTORIES:
            raise ValueError(f'must be a list of labels, upos or deprel, not "{value}"')
        return INVENTORIES[value.lower()]
    return value


def _column(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError("must be a column's name or number")
    return value


class TaskSection(Section):
    """One task."""

    type: TaskType
    """What is predicted: tagging, spans, parsing, classification, pairs or mlm."""
    labels: Annotated[tuple[Text, ...], BeforeValidator(_label_names)] | None = None
    """The label inventory; for spans the entity types (LOC, not B-LOC); upos stands for the 17
    universal parts of speech, deprel for the 37 universal relations. Without it, the labels found
    in the training data."""
    label_map: dict[str, Text] = {}
    """Labels in the data → labels of the task. For spans: entity types, of which O drops one. For
    parsing, relations not named here lose their subtypes (nsubj:pass → nsubj), as LAS does."""
    share: Annotated[float, Field(gt=0, lt=1)] | None = None
    """A fixed share of the training steps; of the examples where batches are mixed. Tasks without
    one share the rest by their amount of data and the temperature."""

    def inventory(self) -> tuple[str, ...] | None:
        """Return the labels as the head numbers them; None where the data decides."""
        if self.labels is None:
            return () if self.type is TaskType.MLM else None
        if self.type is TaskType.SPANS:
            return inventory(self.type, [OUTSIDE, *(f"B-{label}" for label in self.labels)])
        return self.labels


class LimitSection(Section):
    """How much of each file, or of each split on the hub, is read, from its beginning."""

    train: Positive | None = None
    """At most this many examples of each training file."""
    dev: Positive | None = None
    """At most this many examples of each development file."""
    test: Positive | None = None
    """At most this many examples of each test file."""


Names = Annotated[tuple[Text, ...], BeforeValidator(_one_or_many)]


class CellFiles(Section):
    """The data of one language: files, or the names of splits on the hub; several are joined."""

    train: Names = ()
    """What is trained on."""
    dev: Names = ()
    """What picks the checkpoint that is kept."""
    test: Names = ()
    """What is scored in the end."""
    config: Text | None = None
    """On the hub: the configuration of this language, in place of the block's."""


class DataBlock(Section):
    """Data of one task and one format."""

    task: Text
    """The task that the data is for."""
    format: Format
    """How it is written: conllu, columns, tsv, csv, jsonl, text or hub."""
    fields: dict[str, Annotated[str | int, BeforeValidator(_column)]] = {}
    """Which column holds what, as {label: upos}, {word: 1, label: 2} or {text: sentence}. For
    parsing also the heads: {word: 2, head: 7, label: 8}; conllu knows where they are."""
    comment: str = ""
    """Lines of a column file that begin with this are comments; no other format has any."""
    root: Text | None = None
    """The folder that file names start from; by itself it starts from the recipe's folder."""
    dataset: Text | None = None
    """On the hub: the data set's id."""
    config: Text | None = None
    """On the hub: the configuration; {language} in it stands for the language as written."""
    revision: Text | None = None
    """On the hub: a branch, tag or commit."""
    limit: LimitSection = LimitSection()
    """At most how many examples are read of each file."""
    cells: dict[str, CellFiles]
    """Language → its train, dev and test files."""


class TrainingSection(Section):
    """How the model is trained."""

    steps: Positive = 1000
    """The number of optimiser steps."""
    batching: Literal["single", "mixed"] = "single"
    """What a batch holds: examples of a single cell, as published, or mixed ones of any cells."""
    batch_size: Positive = 32
    """Examples in a batch."""
    tokens: Positive | None = None
    """In place of a number of examples: at most this many sub-words in a batch, padding counted."""
    accumulate: Positive = 1
    """Batches whose gradients are summed for one step."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    """The peak learning rate of AdamW."""
    learning_rates: dict[Part, Annotated[float, Field(gt=0)]] = {}
    """Peak rates of parts that have one of their own: source (all that makes the source embedding),
    languages (of that the language vectors), generator, adapters (of a method that trains them
    directly), heads, latents (of the heads of factorised what turns tasks and languages into
    them), backbone."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """AdamW's weight decay."""
    warmup: Annotated[int, Field(ge=0)] = 0
    """Steps over which the learning rate rises from zero."""
    decay: Literal["linear", "constant"] = "linear"
    """What the learning rate does after that: fall to zero at the last step, or stay."""
    clip: Annotated[float, Field(gt=0)] | None = 1.0
    """The gradient norm to clip at; null for no clipping."""
    temperature: Annotated[float, Field(ge=1)] = 5.0
    """Cells are drawn in proportion to n^(1/temperature), n their number of batches; of examples
    where batches are mixed."""
    seed: Annotated[int, Field(ge=0)] = 1
    """The seed of everything random."""
    evaluate_every: Positive | None = None
    """Steps between evaluations on the dev files; null for one at the end."""
    patience: Positive | None = None
    """Stop after this many evaluations without improvement; null to train all steps."""
    select_by: str | tuple[str, ...] = "supervised"
    """Which cells' dev scores pick the checkpoint that is kept: supervised, unseen combination,
    unseen language, all, or a list of cells (ner:fao)."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """The arithmetic of training (but for the parser's scores); auto is bf16 on a GPU that has it,
    else fp32. On a CPU bf16 saves time where the processor has AVX512_BF16 or AMX. Evaluation has
    one of its own."""
    train_layer_norms: bool = False
    """Whether the backbone's LayerNorms are trained too, as in the authors' released code."""
    backbone_dropout: bool = False
    """Whether the frozen backbone's own dropout is on while training."""
    checkpoint_activations: bool = False
    """Whether activations are computed again in the backward pass rather than kept: less memory,
    about a third more time."""
    compile: bool = False
    """Whether the encoder goes through torch.compile: minutes at first, faster steps on GPUs.
    Where it does not work, training says so and goes on without."""
    head_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Dropout before the heads of word- and sentence-level tasks."""
    save_every: Positive | None = None
    """Steps between checkpoints to resume from; null for one at each evaluation,
    or every 500 steps."""
    log_every: Positive = 10
    """Steps between lines of the training log."""

    _check_selection = field_validator("select_by", mode="before")(_selection)


class EvaluationSection(Section):
    """How the grid is scored."""

    tokens_per_batch: Positive = 4096
    """Sub-words in a batch, padding counted."""
    precision: Precision = "fp32"
    """The arithmetic of evaluation, on the dev files too (but for the parser's scores): fp32, or
    bf16, which saves time where it does in training and moves scores a little."""
    examples: Positive | None = None
    """At most this many examples of each cell, evenly spread over its data; null for all."""
