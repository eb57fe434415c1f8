"""From sentences to labels: what `HyperX.predict` gives and what evaluation scores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .data.batching import Batch, collate
from .data.encoding import encode_inputs
from .data.inputs import checked_inputs
from .data.lengths import by_length
from .errors import DataError, HyperlectError
from .grid import Cell
from .heads import Span, decode_spans, iob2_spans
from .rows import row_cells, rows_by_task
from .tasks import TaskType

if TYPE_CHECKING:
    from .model import HyperX, HyperXOutput

Row = Mapping[str, Any]
TOKENS_PER_BATCH = 4096


@dataclass(frozen=True)
class Prediction:
    """What the model says of one input.

    Attributes:
        task, language: the cell that was used; the language as an ISO 639-3 code.
        kind: how that cell relates to the training data (a `grid.Kind`).
        language_source: whose vector stood for the language, as "own vector"; see
            `HyperX.language_source`.
        words: for word-level tasks, as they were given.
        labels: one a word.
        heads: for parsing, the head of each word, counted from 1, and 0 for the root; the labels
            are relations.
        text: for sentence-level tasks, as it was given (a pair joined by a tab).
        label: for sentence-level tasks.
        scores: probability of every label, for sentence-level tasks.
    """

    task: str
    language: str
    kind: str
    language_source: str
    words: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    text: str = ""
    label: str | None = None
    scores: Mapping[str, float] | None = None
    heads: tuple[int, ...] = ()

    @property
    def spans(self) -> list[Span]:
        """The entities that IOB2 labels spell; empty for other label sets."""
        return list(iob2_spans(self.labels))


def predict(
    model: HyperX,
    inputs: Iterable[str | Sequence[str]],
    task: str | Sequence[str],
    language: str | Sequence[str],
    *,
    tokens_per_batch: int = TOKENS_PER_BATCH,
) -> list[Prediction]:
    """Predict for a list of inputs, each in any cell, trained or not.

    Inputs of different cells go through the model together.

    Args:
        model: a trained model.
        inputs: for word-level tasks raw sentences or lists of words; for classification texts;
            for pairs two texts each.
        task, language: the cell of all inputs, or one name an input; any language with a code may
            be asked for. What stands for one without training, `Prediction.language_source` says.
        tokens_per_batch: how many sub-words, padding counted, go through the model at a time.

    Raises:
        UnknownNameError: no such task or language; names the inputs.
        DataError: inputs have the wrong form; names every one, counted from 0.
        HyperlectError: the task cannot be predicted, or the model's method does not apply to a
            cell.
    """
    if isinstance(inputs, str):
        raise DataError("The inputs are one text. Give a list of them, even of a single one.")
    inputs = list(inputs)
    cells = [
        Cell(name, model.language_code(given))
        for name, given in row_cells(
            task, language, len(inputs), model.task, model.language_index, each="input"
        )
    ]
    for name in dict.fromkeys(cell.task for cell in cells):
        if model.task(name).type is TaskType.MLM:
            raise HyperlectError(f'The task "{name}" models raw text; it has no labels to predict.')
    model.require_applicable(cells)
    given = checked_inputs(inputs, [model.task(cell.task) for cell in cells])
    rows: list[Row] = []
    for name, own in rows_by_task(cells).items():
        own_inputs = [given[index] for index in own]
        encoded = encode_inputs(own_inputs, model.task(name), model.tokenizer, model.max_length)
        rows += [{**row, "example": own[row["example"]]} for row in encoded]
    found = label_rows(model, rows, [cells[row["example"]] for row in rows], tokens_per_batch)
    return [
        _prediction(model, cell, item, found, index)
        for index, (cell, item) in enumerate(zip(cells, given, strict=True))
    ]


def _prediction(model: HyperX, cell: Cell, item: Any, found: Labelled, index: int) -> Prediction:
    """Say what was found for one input."""
    spec = model.task(cell.task)
    about = (*cell, str(model.grid.kind(cell)), model.language_source(cell.language))
    if spec.type.reads_words:
        labels = tuple(spec.labels[i] for i in found.labels.get(index, []))
        heads = tuple(found.heads.get(index, []))
        return Prediction(*about, words=tuple(item), labels=labels, heads=heads)
    text = item if isinstance(item, str) else "\t".join(item)
    chances = dict(zip(spec.labels, found.probabilities[index], strict=True))
    label = spec.labels[found.labels[index][0]]
    return Prediction(*about, text=text, label=label, scores=chances)


@dataclass
class Labelled:
    """Predicted label indices by example.

    Attributes:
        labels: one index a word, in order; a single one for sentence-level tasks.
        probabilities: of every label, for sentence-level tasks.
        heads: one a word, counted from 1, 0 for the root; for parsing.
    """

    labels: dict[int, list[int]] = field(default_factory=dict)
    probabilities: dict[int, list[float]] = field(default_factory=dict)
    heads: dict[int, list[int]] = field(default_factory=dict)


def label_rows(
    model: HyperX,
    rows: Sequence[Row],
    cells: Sequence[Cell],
    tokens_per_batch: int = TOKENS_PER_BATCH,
) -> Labelled:
    """Label encoded rows; the windows of a long sentence are put together again.

    Args:
        model: what labels them.
        rows: with the index of their example.
        cells: the cell of each row.
        tokens_per_batch: as for `predict`.
    """
    found = Labelled()
    pieces: dict[int, Tensor] = {}
    for batch, output in forward_rows(model, rows, cells, tokens_per_batch):
        for name, own in rows_by_task(batch.cells).items():
            if name in output.parses:
                trees = output.parses[name].decode(model.task(name).labels)
                sentences = dict.fromkeys(batch.rows[row] for row in own)
                for row, (heads, relations) in zip(sentences, trees, strict=True):
                    example = rows[row]["example"]
                    found.heads[example], found.labels[example] = heads, relations
                continue
            logits = output.task_logits[name].float().cpu()
            counts = [1] * len(own)
            if model.task(name).type.reads_words:
                counts = batch.positions[own].sum(dim=1).tolist()
            split = torch.split(logits, counts)
            pieces |= {batch.rows[row]: part for row, part in zip(own, split, strict=True)}
    examples: dict[int, list[int]] = {}
    for index in sorted(pieces):
        examples.setdefault(rows[index]["example"], []).append(index)
    for example, indices in examples.items():
        logits, task = torch.cat([pieces[i] for i in indices]), model.task(cells[indices[0]].task)
        if task.type is TaskType.SPANS:
            found.labels[example] = decode_spans(logits, task.labels)
        else:
            found.labels[example] = logits.argmax(dim=-1).tolist()
        if not task.type.reads_words:
            found.probabilities[example] = logits[0].softmax(dim=-1).tolist()
    return found


def forward_rows(
    model: HyperX,
    rows: Sequence[Row],
    cells: Sequence[Cell],
    tokens_per_batch: int = TOKENS_PER_BATCH,
    generator: torch.Generator | None = None,
) -> Iterator[tuple[Batch, HyperXOutput]]:
    """Run encoded rows through the model, longest first, without gradients.

    Args:
        model, rows, cells, tokens_per_batch: as for `label_rows`.
        generator: for the masks of masked language modelling.

    Yields:
        Each batch (its `rows` index `rows`) with the model's output.

    Raises:
        HyperlectError: scores are NaN.
    """
    lengths = [len(row["input_ids"]) for row in rows]
    for indices in by_length(lengths, tokens_per_batch):
        own = [cells[i] for i in indices]
        batch = collate(
            [rows[i] for i in indices], own, model.tasks, model.tokenizer, generator, indices
        ).to(model.device)
        with model.eval_mode():  # left before each yield, so that the caller is not in it
            output = model(
                batch.input_ids,
                batch.attention_mask,
                token_type_ids=batch.token_type_ids,
                task=batch.tasks,
                language=batch.languages,
                positions=batch.positions,
                words=batch.words,
            )
        _check_numbers(output, own)
        yield batch, output


def _check_numbers(output: HyperXOutput, cells: Sequence[Cell]) -> None:
    """Raise where scores are no numbers: the best of them would still be a label."""
    arcs = [scores.arcs for scores in output.parses.values()]
    if any(bool(scores.isnan().any()) for scores in [*output.task_logits.values(), *arcs]):
        named = ", ".join(sorted({str(cell) for cell in cells}))
        raise HyperlectError(
            f"The scores of {named} are not numbers (NaN): the model's weights are out of range. "
            "Train it again at a lower training.learning_rate."
        )
