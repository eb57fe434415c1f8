"""From sentences to labels: what `HyperX.predict` returns and what evaluation scores."""

from __future__ import annotations

import html
import math
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import regex
import torch

from .data.batching import Batch, collate, mask_rows
from .data.encoding import encode_for_tasks, warn_of_truncated
from .data.examples import MAX_TREE_WORDS
from .data.sampling import by_length
from .errors import DataError, HyperlectError, Problems
from .grid import Cell
from .heads import Answer, ParseScores, iob2_spans
from .languages import name as language_name
from .tasks import OUTSIDE, Task, TaskType

Row = Mapping[str, Any]
Inputs = Iterable[str | Sequence[str]]
TOKENS_PER_BATCH = 4096
TOKENS_ON_CPU = 1024
"""In `predict`, where larger batches were measured to be slower: they leave the cache."""
LEAST_SHARE = 192
"""Sub-words. Of fewer, two threads make one batch as fast as a batch each."""
SHARED = ("language", "language_source", "text", "words", "offsets")
"""What the predictions of several tasks for one input share."""
MASKED = 1000
"""How many rows are masked at a time, padded to the longest of them."""

# A run of letters, marks and digits is a word (with inner apostrophes and hyphens, and with inner
# points, commas and colons between digits). Han characters stand alone, since word boundaries are
# not written there. So does every other sign, with its marks. Invisible characters are not words;
# those that join letters (in Persian, in Indic scripts) stay inside. Flags are two signs; \X looks
# back over all of them at each, which takes quadratic time.
_WORD = regex.compile(
    r"""
    [\p{L}\p{N}--\p{Han}] [\p{L}\p{M}\p{N}\p{Join_Control}\xAD--\p{Han}]*
    (?: (?: ['’\-] | (?<=\p{N})[.,:](?=\p{N}) ) [\p{L}\p{M}\p{N}\p{Join_Control}\xAD--\p{Han}]+ )*
    | \p{Regional_Indicator}{1,2} [\p{GCB=Extend}\p{GCB=SpacingMark}\p{GCB=ZWJ}]*
    | (?= [^\s\p{Cc}\p{Cf}] ) \X
    """,
    regex.V1 | regex.VERBOSE,
)
_WITHOUT_SPACES = regex.compile(r"[\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}]{8,}")
"""Text of a script that is written without spaces and that `split_words` cannot split."""


@dataclass(frozen=True)
class Span:
    """An entity or another span of words.

    Attributes:
        label: its type.
        start, end: its first word, and the word after its last; counted from 0.
        text: as it stands in the sentence.
        start_char, end_char: where it is in the text; in words joined by spaces if words were
            given.
        confidence: the lowest probability of its labels.
    """

    label: str
    start: int
    end: int
    text: str = ""
    start_char: int = 0
    end_char: int = 0
    confidence: float = 1.0


@dataclass(frozen=True)
class Prediction:
    """What the model says about one input.

    Attributes:
        task, language: the cell that was used; the language as an ISO 639-3 code.
        kind: how that cell relates to the training data (a `grid.Kind`).
        language_source: whose vector represented the language, as "own vector"; see
            `HyperX.language_source`.
        text: the input as a text; words are joined by spaces, a pair by a tab.
        words: for word-level tasks.
        offsets: where each word begins and ends in the text.
        labels: one for each word.
        heads: for parsing, the head of each word, counted from 1, and 0 for the root; the labels
            are relations.
        confidences: the probability of each label; for parsing, of head and relation together.
        label: for sentence-level tasks.
        scores: probability of every label, for sentence-level tasks.
        promised: what the probabilities let expect of the score; see `heads.Answer`.
    """

    task: str
    language: str
    kind: str
    language_source: str
    text: str = ""
    words: tuple[str, ...] = ()
    offsets: tuple[tuple[int, int], ...] = ()
    labels: tuple[str, ...] = ()
    heads: tuple[int, ...] = ()
    confidences: tuple[float, ...] = ()
    label: str | None = None
    scores: Mapping[str, float] | None = None
    promised: tuple[float, float] = (0.0, 0.0)

    @property
    def spans(self) -> list[Span]:
        """The entities that IOB2 labels spell; empty for other label sets."""
        spans = []
        for label, start, end in iob2_spans(self.labels):
            begin, stop = self.offsets[start][0], self.offsets[end - 1][1]
            certain = min(self.confidences[start:end])
            spans.append(Span(label, start, end, self.text[begin:stop], begin, stop, certain))
        return spans

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON; numbers are rounded to four decimals."""
        names = ("task", "language", "kind", "language_source", "text")
        about = {name: getattr(self, name) for name in names}
        if self.label is not None:
            scores = {label: round(score, 4) for label, score in (self.scores or {}).items()}
            return {**about, "label": self.label, "scores": scores}
        words = {
            "words": list(self.words),
            "offsets": [list(offset) for offset in self.offsets],
            "labels": list(self.labels),
            "confidences": [round(value, 4) for value in self.confidences],
        }
        if self.heads:
            return {**about, **words, "heads": list(self.heads)}
        spans = [{**vars(span), "confidence": round(span.confidence, 4)} for span in self.spans]
        tags = all(label == OUTSIDE or label[:2] in ("B-", "I-") for label in self.labels)
        return {**about, **words, **({"spans": spans} if tags else {})}

    def _repr_html_(self) -> str:
        """Show the prediction in a notebook."""
        cell = f"{self.task} in {language_name(self.language)} ({self.kind})"
        rows = [(self.text, f"{self.label}")] if self.label is not None else []
        for number, (word, label) in enumerate(zip(self.words, self.labels, strict=True), start=1):
            head = f" ← {self.heads[number - 1]}" if self.heads else ""
            rows.append((f"{number} {word}" if self.heads else word, f"{label}{head}"))
        body = "".join(
            f"<tr><td>{html.escape(text)}</td><td>{html.escape(label)}</td></tr>"
            for text, label in rows
        )
        return f"<table><caption>{html.escape(cell)}</caption>{body}</table>"


def predict(
    model: Any,
    inputs: Inputs,
    task: str | Sequence[str],
    language: str | Sequence[str],
    *,
    tokens_per_batch: int | None = None,
) -> list[Prediction] | list[dict[str, Prediction]]:
    """Predict for a list of inputs, each in any cell, trained or not.

    Inputs of different cells go through the model together, and an input of several cells goes
    through the layers below the lowest adapter once. In a model whose language vectors have a base,
    the features of a language without training come from typology, and from the inputs.

    Args:
        model: a `HyperX`.
        inputs: for word-level tasks raw sentences or lists of words; for classification texts;
            for pairs two texts each.
        task, language: the cell of all inputs; or a task and a language for each input; or several
            tasks for all inputs, with one language. Any language with a code is possible;
            `Prediction.language_source` says what represents one without training.
        tokens_per_batch: the number of sub-words, padding counted, that go through the model at a
            time; 1,024 on a CPU, else 4,096 by default.

    Returns:
        A prediction for each input. With several tasks and one language, the predictions for each
        input by task.

    Raises:
        UnknownNameError: there is no such task or language; names the inputs.
        DataError: inputs have the wrong form; names every one, counted from 0.
        HyperlectError: the task cannot be predicted, or the model's method does not apply to a
            cell.
    """
    if isinstance(inputs, str | bytes) or not isinstance(inputs, Iterable):
        kind = "one text" if isinstance(inputs, str) else f"a {type(inputs).__name__}"
        raise DataError(f"The inputs must be a list of texts or of words, not {kind}.")
    items = list(inputs)
    if tokens_per_batch is None:
        tokens_per_batch = TOKENS_ON_CPU if model.device.type == "cpu" else TOKENS_PER_BATCH
    if not (isinstance(task, list | tuple) and isinstance(language, str)):
        return _predict(model, items, [task], language, tokens_per_batch)[0]
    if not task or not all(isinstance(name, str) for name in task):
        raise HyperlectError(f"task must be a name or a list of names, not {task!r}.")
    tasks = list(dict.fromkeys(task))
    by_task = _predict(model, items, tasks, language, tokens_per_batch)
    return [dict(zip(tasks, of_input, strict=True)) for of_input in zip(*by_task, strict=True)]


def _predict(
    model: Any,
    items: Sequence[Any],
    tasks: Sequence[str | Sequence[str]],
    language: str | Sequence[str],
    tokens_per_batch: int,
) -> list[list[Prediction]]:
    """Predict for the same inputs several times, each time for one task or a task an input."""
    config, count = model.config, len(items)
    asked = [config.cells(task, language, count, each="input") for task in tasks]
    cells = [
        Cell(name, config.language_code(code)) for of_inputs in asked for name, code in of_inputs
    ]
    for name in dict.fromkeys(cell.task for cell in cells):
        if config.task(name).type is TaskType.MLM:
            raise HyperlectError(f'The task "{name}" models raw text; it has no labels to predict.')
    config.require_applicable(cells)
    checked: list[Input] = []
    # Tasks that read the same inputs in the same way share how these are read and split.
    read: dict[tuple[tuple[str, bool], ...], list[Input]] = {}
    alike: dict[tuple[str, tuple[int, ...]], list[tuple[int, Task]]] = {}
    for turn, of_inputs in enumerate(asked):
        of_tasks = [config.task(cell.task) for cell in of_inputs]
        reads = tuple((task.type.reads, task.type is TaskType.PARSING) for task in of_tasks)
        read[reads] = read.get(reads) or check_inputs(items, of_tasks)
        checked += read[reads]
        for task in {task.name: task for task in of_tasks}.values():
            numbers = tuple(n for n, other in enumerate(of_tasks) if other is task)
            alike.setdefault((task.type.reads, numbers), []).append((turn * count, task))
    rows: list[Row] = []
    for (_, numbers), together in alike.items():
        contents = [checked[together[0][0] + number].content for number in numbers]
        tokenizer, longest = model.tokenizer, model.max_length
        encoded = encode_for_tasks(contents, [task for _, task in together], tokenizer, longest)
        for (start, _), of_task in zip(together, encoded, strict=True):
            rows += [{**row, "example": start + numbers[row["example"]]} for row in of_task]
    cut = {row["example"] % count for row in rows if row["truncated"]}
    warn_of_truncated(len(cut), count, model.max_length)
    rows.sort(key=lambda row: row["example"] % count)  # an input's rows go into one batch
    of_rows = [cells[row["example"]] for row in rows]
    texts: dict[str, list[list[Row]]] = {}
    for row, cell in zip(rows, of_rows, strict=True):
        if row["example"] < count:
            texts.setdefault(cell.language, [[]])[0].append(row)
    with model.described(texts):
        answers = label_rows(model, rows, of_rows, tokens_per_batch)
        config = model.config  # inside the block languages have other sources
        about = {
            c: (str(config.grid.kind(c)), config.language_source(c.language)) for c in {*cells}
        }
        predictions = [
            _prediction(config, cell, about[cell], item, answers.get(number, Answer([], [])))
            for number, (cell, item) in enumerate(zip(cells, checked, strict=True))
        ]
    return [predictions[turn * count : (turn + 1) * count] for turn in range(len(tasks))]


def _prediction(
    config: Any, cell: Cell, about: tuple[str, str], item: Input, answer: Answer
) -> Prediction:
    """Put an answer into words; `about` is the kind and the source of the cell."""
    task = config.task(cell.task)
    labels = tuple(task.labels[i] for i in answer.labels)
    make = partial(Prediction, *cell, *about, item.text, promised=answer.promised)
    if task.type.reads_words:
        return make(
            words=tuple(item.content),
            offsets=item.offsets,
            labels=labels,
            heads=tuple(answer.heads or ()),
            confidences=tuple(answer.confidences),
        )
    scores = dict(zip(task.labels, answer.probabilities or (), strict=True))
    return make(label=labels[0], scores=scores, confidences=(scores[labels[0]],))


@dataclass(frozen=True)
class Input:
    """One input in the form that `encode_inputs` takes.

    Attributes:
        content: a list of words for word-level tasks, two texts for pairs, else a text.
        text: the input as a text.
        offsets: where each word begins and ends in it.
    """

    content: Any
    text: str
    offsets: tuple[tuple[int, int], ...] = ()


def joined(predictions: Iterable[Prediction]) -> dict[str, Any]:
    """Return the predictions for one input as plain data: what they share, then each by task."""
    records = [prediction.to_dict() for prediction in predictions]
    shared = {key: records[0][key] for key in SHARED if key in records[0]}
    tasks = {r["task"]: {k: v for k, v in r.items() if k not in shared} for r in records}
    return {**shared, "tasks": tasks}


def check_inputs(items: Sequence[Any], tasks: Sequence[Task]) -> list[Input]:
    """Check the form of inputs.

    Args:
        items: a text or a list of words each; two texts for pairs. For word-level tasks a text is
            split into words; for texts, words are joined by spaces.
        tasks: the task of each.

    Raises:
        DataError: inputs of other forms, or without words; names every one, counted from 0.
    """
    inputs = []
    problems = Problems()
    unsplit = 0
    for number, (item, task) in enumerate(zip(items, tasks, strict=True)):
        try:
            inputs.append(_check_input(item, task))
        except DataError as error:
            problems.add(str(error), key=f"input {number}")
            continue
        words = task.type.reads_words and isinstance(item, str)
        unsplit += bool(words and _WITHOUT_SPACES.search(item))
    problems.raise_if_any(DataError, "Some inputs cannot be used:")
    if unsplit:
        warnings.warn(
            f"{unsplit} of {len(items)} texts are in a script without spaces between words (Thai, "
            "Lao, Khmer, Burmese, Tibetan). Runs of letters are taken for words. Split them with a "
            "tool for the language, and give lists of words.",
            stacklevel=3,
        )
    return inputs


def _check_input(item: object, task: Task) -> Input:
    single = isinstance(item, str | bytes | Mapping) or not isinstance(item, Iterable)
    pieces: list[Any] = [item] if single else list(item)  # type: ignore[call-overload]
    for piece in pieces:
        if not isinstance(piece, str):
            raise DataError(f"{piece!r:.40} ({type(piece).__name__}) is not a text")
        if not piece.isascii() and any("\ud800" <= character <= "\udfff" for character in piece):
            raise DataError("the text holds half of a surrogate pair, which is not a character")
    if task.type.reads == "pair":
        if len(pieces) != 2:
            raise DataError(f'the task "{task.name}" takes two texts at a time')
        return Input(tuple(pieces), "\t".join(pieces))
    if not task.type.reads_words:
        return Input(" ".join(pieces), " ".join(pieces))
    if isinstance(item, str):
        matches = list(_WORD.finditer(item))
        offsets = tuple(match.span() for match in matches)
        words = [match.group() for match in matches]
    else:
        words, ends = pieces, [0]
        for word in words:
            ends.append(ends[-1] + len(word) + 1)
        offsets = tuple((start, end - 1) for start, end in pairwise(ends))
    if not words:
        raise DataError("it holds no word; leave empty lines out")
    if task.type is TaskType.PARSING and len(words) > MAX_TREE_WORDS:
        raise DataError(f"it has {len(words):,} words to parse; the most are {MAX_TREE_WORDS:,}")
    return Input(words, item if isinstance(item, str) else " ".join(words), offsets)


def split_words(text: str) -> list[str]:
    """Split a raw sentence into words and signs by Unicode classes, without a lexicon.

    Scripts without spaces other than Han (Thai, Khmer, …) come out as whole runs: give such
    languages words.
    """
    return [match.group() for match in _WORD.finditer(text)]


def is_too_long_to_parse(item: str | Sequence[str]) -> bool:
    """Whether an input has more words than can be parsed: a text, or a list of words."""
    long = len(item) > MAX_TREE_WORDS  # a word has a character at least
    return long and len(split_words(item) if isinstance(item, str) else item) > MAX_TREE_WORDS


def label_rows(
    model: Any, rows: Sequence[Row], cells: Sequence[Cell], tokens_per_batch: int = TOKENS_PER_BATCH
) -> dict[int, Answer]:
    """Label encoded rows; the windows of a long sentence are joined again.

    Args:
        model: a `HyperX`.
        rows: with the index of their example.
        cells: the cell of each row.
        tokens_per_batch: the number of sub-words, padding counted, of a batch.

    Returns:
        The answer for each example that has a row, by its index.
    """
    missing = Counter(row["example"] for row in rows)
    windows: dict[int, dict[int, Any]] = {}
    answers = {}
    for batch, output in forward_rows(model, rows, cells, tokens_per_batch):
        for name, of_task in batch.tasks.items():
            head = model.head(name)
            # The windows of a sentence to parse share an index.
            indices = dict.fromkeys(batch.indices[row] for row in of_task.rows.tolist())
            split = head.split(output.scores[name], of_task)
            for index, scores in zip(indices, split, strict=True):
                example = rows[index]["example"]
                windows.setdefault(example, {})[index] = scores
                if len(windows[example]) == missing[example]:
                    in_order = [score for _, score in sorted(windows.pop(example).items())]
                    answers[example] = head.decode(in_order, model.tasks[name])
    return answers


def forward_rows(
    model: Any,
    rows: Sequence[Row],
    cells: Sequence[Cell],
    tokens_per_batch: int = TOKENS_PER_BATCH,
    generator: torch.Generator | None = None,
) -> Iterator[tuple[Batch, Any]]:
    """Run encoded rows through the model, longest first, without gradients.

    On a CPU as many batches run at a time as torch has threads (`torch.set_num_threads`), each on
    one of them: threads that share one batch wait for each other at every operation. Few rows are
    shared out so that every thread has a batch.

    Args:
        model, rows, cells, tokens_per_batch: as for `label_rows`.
        generator: for the masks of masked language modelling.

    Yields:
        Each batch (its `indices` index `rows`) with the model's output.

    Raises:
        HyperlectError: scores are NaN.
    """
    lengths = [len(row["input_ids"]) for row in rows]
    # Training and evaluation are modes of the whole model, so one in training runs in one thread.
    training = getattr(model, "training", True) or model.backbone.training
    threads = 1 if training or model.device.type != "cpu" else torch.get_num_threads()
    share = math.ceil(sum(lengths) / threads)
    if threads > 1 and share >= LEAST_SHARE:
        tokens_per_batch = min(tokens_per_batch, share)
    planned = by_length(lengths, tokens_per_batch)
    # Before they are put into batches: which those are depends on the number of threads.
    hide = partial(mask_rows, tasks=model.tasks, tokenizer=model.tokenizer, generator=generator)
    masked: list[Row] = []
    for start in range(0, len(rows), MASKED):
        some = range(start, min(start + MASKED, len(rows)))
        masked += hide([rows[i] for i in some], [cells[i] for i in some])

    def batches() -> Iterator[Batch]:
        for indices in planned:
            indices.sort(key=lambda i: cells[i])  # rows of one cell as one block need no gather
            of_batch = [cells[i] for i in indices]
            chosen = [masked[i] for i in indices]
            batch = collate(chosen, of_batch, model.tasks, model.tokenizer, indices)
            yield batch.to(model.device)

    def run(batch: Batch) -> tuple[Batch, Any]:
        with model.eval_mode():  # left before each yield, so that the caller is not inside
            return batch, model.run(batch)

    with model.cached_weights():
        in_threads = 1 < threads <= len(planned)
        for batch, output in (
            _in_threads(run, batches(), threads) if in_threads else map(run, batches())
        ):
            _check_numbers(output.scores, batch.cells)
            yield batch, output


def _in_threads(
    run: Callable[[Batch], tuple[Batch, Any]], batches: Iterator[Batch], threads: int
) -> Iterator[tuple[Batch, Any]]:
    """Run batches in threads of one processor each, and yield what they return in order."""
    rounded = torch.is_autocast_enabled("cpu")  # of this thread alone
    dtype = torch.get_autocast_dtype("cpu")

    def in_thread(batch: Batch) -> tuple[Batch, Any]:
        with torch.autocast("cpu", dtype, enabled=rounded):
            return run(batch)

    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    torch.set_num_threads(1)
    try:
        running: deque[Future[tuple[Batch, Any]]] = deque()
        for batch in batches:
            running.append(pool.submit(in_thread, batch))
            if len(running) > 2 * threads:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # some of its settings are of all threads


def _check_numbers(scores: Mapping[str, Any], cells: Sequence[Cell]) -> None:
    """Raise where scores are NaN: the highest of them would still be a label."""
    tensors = [s.arcs if isinstance(s, ParseScores) else s for s in scores.values()]
    if any(bool(tensor.isnan().any()) for tensor in tensors):
        listed = ", ".join(sorted({str(cell) for cell in cells}))
        raise HyperlectError(
            f"The scores of {listed} are not numbers (NaN): the model's weights are out of range. "
            "Train it again at a lower training.learning_rate."
        )
