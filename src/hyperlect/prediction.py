"""From sentences to labels: what `HyperX.predict` gives and what evaluation scores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import regex
import torch
from torch import Tensor

from . import languages as codes
from .data.batching import Batch, by_length, collate
from .data.encoding import encode_inputs
from .errors import DataError, HyperlectError
from .grid import Cell
from .heads import decode_spans
from .tasks import OUTSIDE, Task, TaskType

if TYPE_CHECKING:
    from .model import HyperX, HyperXOutput

Row = Mapping[str, Any]
TOKENS_PER_BATCH = 4096

# A run of letters, marks and digits is a word (with inner apostrophes and hyphens, and with inner
# points, commas and colons between digits); Han characters stand alone, for there the bounds of
# words are not written; so does every other sign, with the marks on it. Invisible characters are
# no words of their own; those that join letters (in Persian, in Indic scripts) stay inside.
_WORD = regex.compile(
    r"""
    [\p{L}\p{N}--\p{Han}] [\p{L}\p{M}\p{N}\p{Join_Control}\xAD--\p{Han}]*
    (?: (?: ['’\-] | (?<=\p{N})[.,:](?=\p{N}) ) [\p{L}\p{M}\p{N}\p{Join_Control}\xAD--\p{Han}]+ )*
    | (?= [^\s\p{Cc}\p{Cf}] ) \X
    """,
    regex.V1 | regex.VERBOSE,
)


@dataclass(frozen=True)
class Span:
    """An entity: words `start` up to, not including, `end`."""

    label: str
    start: int
    end: int


@dataclass(frozen=True)
class Prediction:
    """What the model says of one input.

    Attributes:
        task, language: the cell that was used; the language as an ISO 639-3 code.
        kind: how that cell relates to the training data (a `grid.Kind`).
        language_source: "own vector", "mean of the trained languages", or "not used" by a model
            that reads no language.
        words: for word-level tasks, as they were given.
        labels: one a word.
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

    @property
    def spans(self) -> list[Span]:
        """The entities that IOB2 labels spell; empty for other label sets."""
        return list(iob2_spans(self.labels))


def split_words(text: str) -> list[str]:
    """Split a raw sentence into words and signs by Unicode classes, without a lexicon.

    Scripts that write no spaces other than Han (Thai, Khmer, …) come out as whole runs: give such
    languages words.
    """
    return [match.group() for match in _WORD.finditer(text)]


def predict(
    model: HyperX,
    inputs: Iterable[str | Sequence[str]],
    task: str,
    language: str,
    *,
    tokens_per_batch: int = TOKENS_PER_BATCH,
) -> list[Prediction]:
    """Predict for a list of inputs in one cell, trained or not.

    Args:
        model: a trained model.
        inputs: for word-level tasks raw sentences or lists of words; for classification texts;
            for pairs two texts each.
        task, language: the cell; any language with a code may be asked for. One without
            training uses the mean of the trained language vectors, and the predictions say so.
        tokens_per_batch: how many sub-words, padding counted, go through the model at a time.

    Raises:
        UnknownNameError: no such task or language.
        HyperlectError: the task cannot be predicted, or an input has the wrong form.
    """
    spec = model.task(task)
    if spec.type is TaskType.MLM:
        raise HyperlectError(f'The task "{task}" models raw text; it has no labels to predict.')
    if isinstance(inputs, str):
        raise DataError("The inputs are one text. Give a list of them, even of a single one.")
    code = language if language in model.languages else codes.resolve(language)
    given = [_as_given(item, spec) for item in inputs]
    rows = encode_inputs(given, spec, model.tokenizer, model.max_length)
    found = label_rows(model, rows, spec, code, tokens_per_batch)
    cell = (str(model.grid.kind(Cell(task, code))), model.language_source(code))
    predictions = []
    for index, item in enumerate(given):
        if spec.type.reads_words:
            labels = tuple(spec.labels[i] for i in found.labels.get(index, []))
            words = tuple(item)
            predictions.append(Prediction(task, code, *cell, words=words, labels=labels))
        else:
            text = item if isinstance(item, str) else "\t".join(item)
            chances = dict(zip(spec.labels, found.probabilities[index], strict=True))
            label = spec.labels[found.labels[index][0]]
            predictions.append(
                Prediction(task, code, *cell, text=text, label=label, scores=chances)
            )
    return predictions


@dataclass
class Labelled:
    """Predicted label indices by example.

    Attributes:
        labels: one index a word, in order; a single one for sentence-level tasks.
        probabilities: of every label, for sentence-level tasks.
    """

    labels: dict[int, list[int]]
    probabilities: dict[int, list[float]]


def label_rows(
    model: HyperX,
    rows: Sequence[Row],
    task: Task,
    language: str,
    tokens_per_batch: int = TOKENS_PER_BATCH,
) -> Labelled:
    """Label encoded rows of one cell; the windows of a long sentence are put together again."""
    pieces: dict[int, Tensor] = {}
    for batch, output in forward_rows(model, rows, task, language, tokens_per_batch):
        logits = output.logits.float().cpu()
        if batch.positions is None:
            pieces |= dict(zip(batch.rows, logits[:, None], strict=True))
        else:
            counts = batch.positions.sum(dim=1).tolist()
            pieces |= dict(zip(batch.rows, torch.split(logits, counts), strict=True))
    sentences: dict[int, list[Tensor]] = {}
    for index, row in enumerate(rows):
        sentences.setdefault(row["example"], []).append(pieces[index])
    labels, probabilities = {}, {}
    for example, parts in sentences.items():
        logits = torch.cat(parts)
        if task.type is TaskType.SPANS:
            labels[example] = decode_spans(logits, task.labels)
        else:
            labels[example] = logits.argmax(dim=-1).tolist()
        if not task.type.reads_words:
            probabilities[example] = logits[0].softmax(dim=-1).tolist()
    return Labelled(labels, probabilities)


def forward_rows(
    model: HyperX,
    rows: Sequence[Row],
    task: Task,
    language: str,
    tokens_per_batch: int = TOKENS_PER_BATCH,
    generator: torch.Generator | None = None,
) -> Iterator[tuple[Batch, HyperXOutput]]:
    """Run encoded rows of one cell through the model, longest first, without gradients.

    Args:
        model, rows, task, language, tokens_per_batch: what to run.
        generator: for the masks of masked language modelling.

    Yields:
        Each batch (its `rows` index `rows`) with the model's output.
    """
    lengths = [len(row["input_ids"]) for row in rows]
    for indices in by_length(lengths, tokens_per_batch):
        batch = collate([rows[i] for i in indices], task, model.tokenizer, language, generator)
        batch.rows = indices
        batch = batch.to(model.device)
        with model.eval_mode():  # left before each yield, so that the caller is not in it
            output = model(
                batch.input_ids,
                batch.attention_mask,
                token_type_ids=batch.token_type_ids,
                task=task.name,
                language=language,
                positions=batch.positions,
            )
        yield batch, output


def _as_given(item: str | Sequence[str], task: Task) -> Any:
    """Check the form of one input; words for word-level tasks, a text or two texts otherwise."""
    if task.type.reads_words:
        words = split_words(item) if isinstance(item, str) else list(item)
        if not words:
            raise DataError("An input holds no word. Leave empty lines out.")
        return words
    if task.type is TaskType.PAIRS:
        if isinstance(item, str) or len(item) != 2:
            raise DataError(f'The task "{task.name}" takes two texts at a time.')
        return tuple(item)
    return item if isinstance(item, str) else " ".join(item)


def iob2_spans(labels: Sequence[str]) -> Iterator[Span]:
    """Read IOB2 labels as spans, strictly: a span begins with ``B-``."""
    start = None
    for index, label in enumerate([*labels, OUTSIDE]):
        inside = start is not None and label == f"I-{labels[start][2:]}"
        if start is not None and not inside:
            yield Span(labels[start][2:], start, index)
            start = None
        if label.startswith("B-"):
            start = index
