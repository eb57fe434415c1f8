"""The sections of a recipe. Every key is documented here, once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainValidator,
    Tag,
)
from pydantic_core import PydanticCustomError

from ..data.readers import READERS, Quoting
from ..errors import HyperlectError
from ..grid import Cell
from ..hardware import Precision
from ..languages import languages_in, resolve
from ..methods import METHODS
from ..tasks import LABEL_SETS, TASK_TYPES, Scheme, TaskType, Unlabelled

Value = TypeVar("Value")


def _distinct(values: tuple[Value, ...]) -> tuple[Value, ...]:
    """Return the values of a list. Raises `ValueError` where there are none, or one twice."""
    if not values:
        raise ValueError("must not be empty")
    twice = [str(value) for value in dict.fromkeys(values) if values.count(value) > 1]
    if twice:
        raise ValueError(f"lists {', '.join(twice)} twice; list each value once")
    return values


def _one_or_many(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _checked(read: Callable[[str], str]) -> AfterValidator:
    """Make a validator of a function that raises `HyperlectError`."""

    def validator(text: str) -> str:
        try:
            return read(text)
        except HyperlectError as error:
            raise ValueError(str(error)) from None

    return AfterValidator(validator)


def _cell(text: str) -> str:
    task, language = Cell.parse(text)
    return str(Cell(task, resolve(language)))


def _label_names(value: Any) -> Any:
    if isinstance(value, str) and value.lower() not in LABEL_SETS:
        raise ValueError(f'must be a list of labels, upos or deprel, not "{value}"')
    return LABEL_SETS[value.lower()] if isinstance(value, str) else value


def _column(value: Any) -> Any:
    if not isinstance(value, int | str):
        raise ValueError("must be a column's name or number")
    return value


def _selection(value: Any) -> str:
    return "[cells]" if isinstance(value, list | tuple) or ":" in str(value) else "[kind]"


def _name_in(table: Mapping[str, Any]) -> Callable[[Any], str]:
    """Make a validator of the names in a table; it fails as that of a `Literal` would."""

    def validator(value: Any) -> str:
        if isinstance(value, str) and value in table:
            return value
        *others, last = map(repr, table)
        expected = {"expected": f"{', '.join(others)} or {last}"}
        raise PydanticCustomError("literal_error", "Input should be {expected}", expected)

    return validator


Part = Literal[
    "languages", "base", "source", "generator", "adapters", "latents", "heads", "backbone"
]  # fmt: skip
Selection = Literal["supervised", "unseen combination", "unseen language", "all"]
Positive = Annotated[int, Field(ge=1)]
Whole = Annotated[int, Field(ge=0)]
Rate = Annotated[float, Field(gt=0)]
Text = Annotated[str, Field(min_length=1)]
MethodName = Annotated[str, PlainValidator(_name_in(METHODS))]
Label = Annotated[Text, BeforeValidator(lambda text: str(text) if isinstance(text, int) else text)]
Names = Annotated[tuple[Text, ...], BeforeValidator(_one_or_many)]
Language = Annotated[str, _checked(lambda text: resolve(text) and text)]
Distinct = Annotated[tuple[Value, ...], AfterValidator(_distinct)]
CellNames = Annotated[Distinct[Annotated[str, _checked(_cell)]], BeforeValidator(_one_or_many)]

LanguageNames = Annotated[
    Distinct[Annotated[str, _checked(lambda text: languages_in([text]) and text)]],
    BeforeValidator(_one_or_many),
]


class Section(BaseModel):
    """What all sections share: unknown keys are faults, and nothing changes after loading."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


class TaskSection(Section):
    """One task."""

    type: Annotated[TaskType, PlainValidator(lambda name: TASK_TYPES[_name_in(TASK_TYPES)(name)])]
    """What is predicted: tagging, spans, parsing, classification, pairs or mlm."""
    labels: Annotated[Distinct[Label], BeforeValidator(_label_names)] | None = None
    """The label set, in which true and 1 are text; for spans the entity types (LOC, not B-LOC).
    upos stands for the 17 universal parts of speech, deprel for the 37 universal relations. Without
    it, the labels in the training data."""
    label_map: dict[str, Label] = {}
    """Labels in the data → labels of the task. For spans: entity types or whole tags, with O to
    drop one; the key "*" is every other type. For parsing, relations that are not named here lose
    their subtypes (nsubj:pass → nsubj), as LAS does."""
    scheme: Scheme = "iob2"
    """How the data marks spans: iob2 (every span begins with B-), iob1 (B- only between two spans
    of a type), io (entity types alone, or all with I-), or bioes (S- for single words, E- for last
    ones)."""
    unlabelled: Unlabelled = "error"
    """What a word or text without a label (empty, or _) is: error, or ignore to leave it untrained
    and unscored."""
    share: Annotated[float, Field(gt=0, lt=1)] | None = None
    """A fixed share of the training steps; of the examples where batches are mixed. Tasks without
    one share the rest by their amount of data and the temperature."""


class LimitSection(Section):
    """How much of each file, or of each split on the hub, is read, from its beginning."""

    train: Positive | None = None
    """At most this many examples of each training file."""
    dev: Positive | None = None
    """At most this many examples of each development file."""
    test: Positive | None = None
    """At most this many examples of each test file."""


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
    format: Annotated[str, PlainValidator(_name_in(READERS))]
    """How it is written: conllu, columns, tsv, csv, jsonl, text or hub."""
    fields: dict[str, Annotated[int | str, BeforeValidator(_column)]] = {}
    """Which column holds what, as {label: upos}, {word: 1, label: 2} or {text: sentence}. For
    parsing also the heads: {word: 2, head: 7, label: 8}; conllu knows where they are."""
    comment: str = ""
    """Lines of a column file that begin with this are comments; no other format has any."""
    quoting: Quoting = "none"
    """What a quotation mark in a tsv file is: none for text, or minimal where cells may be quoted,
    as pandas writes them."""
    strip_prefix: bool = False
    """Whether every word of a column file begins with a language code to strip, as in the files of
    WikiANN (en:Oslo)."""
    root: Text | None = None
    """The folder that file names start from; by itself it starts from that of the recipe."""
    dataset: Text | None = None
    """On the hub: the data set's id; or a folder that is laid out like one."""
    config: Text | None = None
    """On the hub: the configuration; {language} in it stands for the language as written."""
    revision: Text | None = None
    """On the hub: a branch, tag or commit."""
    limit: LimitSection = LimitSection()
    """At most how many examples are read of each file."""
    cells: dict[Language, CellFiles]
    """Language → its train, dev and test files."""


class FewShotSection(Section):
    """Little training data for some cells."""

    cells: CellNames
    """The cells meant (pos:mlt). They need train files, of which only some examples are used."""
    examples: Whole
    """How many of each, drawn at random; 0 for none, which leaves the cells unseen."""
    draw: Positive = 1
    """Which draw. Each number puts a cell's examples into an order of its own, the same for all
    methods and seeds, and the first ones are used: so 5 are among the 10 of the same draw."""
    alone: bool = False
    """Whether these cells are all that is trained on; the train files of others are left out."""

    def count(self, cell: Cell) -> int | None:
        """Return how many training examples a cell may have; None for all there are."""
        if str(cell) in self.cells:
            return self.examples
        return 0 if self.alone else None


class LanguageFeaturesSection(Section):
    """Features of languages, from which hypernet.language_base makes their vectors."""

    typology: Text | None = None
    """uriel (Littell et al. 2017: syntax, phonology, sound inventory, family, geography, and script
    where urielplus is installed; CC BY-SA 4.0; it needs the extra typology), or a CSV file: the
    code of each language in the first column, numbers in the others, names in the first line.
    A model stays with the kind of table that it was trained with."""
    text: Positive | None = None
    """At most how many lines of each language are read: of all its training data, and of a language
    without training those that are to be labelled. The feature is the mean of the encoder's
    states."""
    layer: Whole = 2
    """The layer of the encoder whose output is read of text; 0 for the embeddings."""


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
    learning_rate: Rate = 1e-4
    """The peak learning rate of AdamW."""
    learning_rates: dict[Part, Rate] = {}
    """Peak rates for single parts: source (everything that makes the source embedding), languages
    (the language vectors in it), base (the map from features to language vectors), generator,
    adapters (those that are trained directly: all of a method without a generator, and those of
    hypernet.task_base), heads, latents (with factorised: the network that generates the heads),
    backbone."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """AdamW's weight decay."""
    weight_decays: dict[Part, Annotated[float, Field(ge=0)]] = {}
    """Weight decays of parts that have one of their own, as in learning_rates."""
    warmup: Whole = 0
    """Steps over which the learning rate rises from zero. The default of version 2 is at most
    a tenth of the steps."""
    decay: Literal["linear", "constant"] = "linear"
    """What the learning rate does after that: fall to zero at the last step, or stay."""
    clip: Rate | None = 1.0
    """The gradient norm to clip at; null for no clipping."""
    temperature: Annotated[float, Field(ge=1)] = 5.0
    """Cells are drawn in proportion to n^(1/temperature), n their number of batches; of examples
    where batches are mixed."""
    seed: Whole = 1
    """The seed of everything random."""
    evaluate_every: Positive | None = None
    """Steps between evaluations on the dev files; null for one at the end."""
    patience: Positive | None = None
    """Stop after this many evaluations without improvement; null to train all steps."""
    select_by: Annotated[
        Annotated[Selection, Tag("[kind]")] | Annotated[CellNames, Tag("[cells]")],
        Discriminator(_selection),
    ] = "supervised"
    """Which cells' dev scores pick the checkpoint that is kept: supervised, unseen combination,
    unseen language, all, or a list of cells (ner:fao)."""
    precision: Literal["auto", Precision] = "auto"
    """The arithmetic of training (but for the parser's scores): fp32, tf32 (matrix products of an
    NVIDIA GPU are rounded, the rest is fp32), bf16, or auto, which is bf16 on a GPU that has it,
    else fp32. On a CPU bf16 saves time where the processor has AVX512_BF16 or AMX. Evaluation has
    one of its own."""
    train_layer_norms: bool = False
    """Whether the backbone's LayerNorms are trained too, as in the authors' released code."""
    backbone_dropout: bool = False
    """Whether the frozen backbone's own dropout is on while training."""
    checkpoint_activations: bool = False
    """Whether activations are computed again in the backward pass rather than kept. This saves
    memory, and a step takes 1.5 to 2 times as long."""
    shard: bool = False
    """Whether the processes of one training divide the hypernetwork: each keeps a share of its
    weights, gradients and moments (FSDP). One process trains as without."""
    compile: bool = False
    """Whether the encoder goes through torch.compile: minutes at first, faster steps on GPUs.
    Where it does not work, training says so and continues without."""
    head_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Dropout before the heads of word- and sentence-level tasks."""
    save_every: Positive | None = None
    """Steps between checkpoints to resume from; null for one at each evaluation,
    or every 500 steps."""
    keep_checkpoints: Positive = 2
    """How many of the last checkpoints are kept; the one before serves if the newest is damaged."""
    not_finite: Literal["stop", "skip"] = "stop"
    """What a step does whose loss or gradient is not finite: stop the training, or leave the
    weights as they are; skipped steps are counted."""
    deterministic: bool = False
    """Whether only operations are used that give equal bits each time, on equal hardware and with
    equal versions. On a CPU they all do; on a GPU this takes time."""
    log_every: Positive = 10
    """Steps between lines of the training log."""


class EvaluationSection(Section):
    """How the grid is scored."""

    tokens_per_batch: Positive = 4096
    """Sub-words in a batch, padding counted."""
    precision: Precision = "fp32"
    """The arithmetic of evaluation, on the dev files too (but for the parser's scores): fp32, or
    tf32 or bf16, which save time where they do in training and move scores a little."""
    examples: Positive | None = None
    """At most this many examples of each cell, evenly spread over its data; null for all."""
    encoder_languages: LanguageNames | None = None
    """The languages that the encoder was pretrained on, by which results are shown in strata: the
    lists xlm-r (its 100) and mbert (its 104), languages, or both. Without it, the list of a known
    encoder: XLM-R, multilingual e5 and mDeBERTa, multilingual BERT and DistilBERT."""
    families: dict[Language, Text] = {}
    """Language → its family, or branch (only equality counts), by which results are shown in
    strata. Of languages that are not named it is then not known. Without any, the families of
    URIEL, where the extra typology is installed."""
