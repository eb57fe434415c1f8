"""What is served: one model, its grid and languages, without HTTP."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..data.subwords import plain_backend, unknown_share
from ..errors import HyperlectError
from ..evaluation import Evidence, Trust, read_results
from ..evaluation.results import Expected
from ..evaluation.trust import MOST_UNKNOWN, is_fitted
from ..grid import Cell, Kind
from ..hardware import free_memory
from ..hypernet import UNTRAINED
from ..languages import autonym, common, is_right_to_left, name
from ..model import HyperX
from ..predict import TOKENS_ON_CPU, Prediction, check_inputs
from ..run_folder import RESULTS
from ..tasks import TaskType
from . import schemas
from .batching import Entry, Refused

GPU_BATCH_TOKENS = 16_384
MOST_CACHE = 2**32
MOST_FAULTS = 20
INVALID = (422, "validation", "The request is not valid.")
"""Status, label and detail of a request that cannot be answered as it stands."""


class Service:
    """One model with what its run says about it.

    Args:
        model: in evaluation mode.
        settings: limits and precision.
        run: its folder, for scores and expectations; None for none.
        name: what it is called where its results do not say.

    Raises:
        RunError: a file of the run is malformed.
    """

    def __init__(
        self,
        model: HyperX,
        settings: schemas.Settings,
        run: Path | None = None,
        name: str = "model",
    ) -> None:
        self.model, self.settings = model, settings
        # While the model predicts, it may describe languages by their sentences, in its own.
        self.config = model.config
        self.trust = Trust.read(run) if run else Trust()
        results = read_results(run) if run and (run / RESULTS).is_file() else None
        self.scores = {result.cell: result for result in results.cells} if results else {}
        self.tasks = [t for t in model.tasks.values() if t.type is not TaskType.MLM]
        self.name = results.name if results else name
        self._backend = plain_backend(model.tokenizer)
        default = TOKENS_ON_CPU if model.device.type == "cpu" else GPU_BATCH_TOKENS
        self.batch_tokens = settings.batch_tokens or default
        self.queue_tokens = settings.queue_tokens or 8 * self.batch_tokens

    @contextmanager
    def warm(self) -> Iterator[None]:
        """Keep adapter weights for the time of the block, and run the model once.

        Raises:
            Exception: what the model raises; it would fail every request.
        """
        limit = self.settings.cache_bytes
        if limit is None:
            limit = min(free_memory(self.model.device.type) // 4, MOST_CACHE)
        with self.model.cached_weights(limit):
            for task in self.tasks[:1]:
                cells = [cell for cell in self.model.grid.trained if cell.task == task.name]
                if cells:
                    value: Any = ("a", "a") if task.type.reads == "pair" else "a"
                    (answer,) = self.answer([Entry(value, *min(cells), 3)])
                    if isinstance(answer, Exception):
                        raise answer
            yield

    # --- predictions

    def entries(self, items: Sequence[schemas.Item]) -> list[list[Entry]]:
        """Check the items of a request, and count their sub-words.

        Returns:
            The entries of each item, one for each of its tasks.

        Raises:
            Refused: names everything that is wrong, the first `MOST_FAULTS`.
        """
        faults: list[schemas.Fault] = []
        entries = []
        total = sum(1 if isinstance(item.task, str) else len(item.task) for item in items)
        if total > self.settings.items:
            detail = f"There are {total} items, each counted once for every task; send at most "
            fault = schemas.Fault(pointer="/items", detail=f"{detail}{self.settings.items}.")
            raise Refused(*INVALID, faults=[fault])
        for number, item in enumerate(items):
            try:
                entries.append(self._entries(item))
            except _Faulty as error:
                pointer, detail = error.args
                faults.append(schemas.Fault(pointer=f"/items/{number}{pointer}", detail=detail))
                if len(faults) == MOST_FAULTS:
                    break
        if faults:
            raise Refused(*INVALID, faults=faults)
        return entries

    def _entries(self, item: schemas.Item) -> list[Entry]:
        value = self._value(item)
        config = self.config
        with _at("/language"):
            language = config.language_code(item.language)
        names = [item.task] if isinstance(item.task, str) else item.task
        if not names:
            raise _Faulty("/task", "Name a task.")
        entries = []
        for task_name in names:
            with _at("/task"):
                task = config.task(task_name)
                if task.type is TaskType.MLM:
                    raise HyperlectError(f'The task "{task_name}" has no labels to predict.')
                config.require_applicable([Cell(task_name, language)])
            if (task.type.reads == "pair") != (item.pair is not None):
                needs = "needs two texts: give text and pair"
                takes = needs if task.type.reads == "pair" else "takes one text, without a pair"
                raise _Faulty("/pair", f'The task "{task_name}" {takes}.')
            with _at("/words" if item.words is not None else "/text"):
                (checked,) = check_inputs([value], [task])
            pieces = [checked.content] if isinstance(checked.content, str) else [*checked.content]
            # Special ones are counted too, and a text is not cut.
            encoded = self._backend.encode(pieces, is_pretokenized=True, add_special_tokens=True)
            entries.append(Entry(value, task_name, language, len(encoded.ids)))
        return entries

    def _value(self, item: schemas.Item) -> Any:
        """Return an item's content in the form that `predict` takes."""
        if (item.text is None) == (item.words is None):
            raise _Faulty("", "Give either text or words.")
        if item.pair is not None and item.text is None:
            raise _Faulty("/pair", "A pair is two texts: give text beside it.")
        texts = [item.text or "", item.pair or "", *(item.words or ())]
        if (length := sum(map(len, texts))) > self.settings.characters:
            most = self.settings.characters
            raise _Faulty("", f"It has {length} characters; send at most {most}.")
        if item.words is not None:
            return item.words
        return item.text if item.pair is None else (item.text, item.pair)

    def answer(self, entries: Sequence[Entry]) -> list[Prediction | Exception]:
        """Predict for the entries of many requests together.

        Where a batch fails, each entry is predicted alone, so that only the faulty one fails.
        """
        # What is read off the sentences themselves must not depend on other clients' sentences.
        index, reads = self.model.config.language_index, self.model.features is not None
        alone = {n for n, e in enumerate(entries) if reads and index(e.language) == UNTRAINED}
        together = [place for place in range(len(entries)) if place not in alone]
        answers: dict[int, Prediction | Exception] = {}
        with self.model.backbone.arithmetic(self.settings.precision):
            try:
                predictions = self._predict([entries[place] for place in together])
                answers.update(zip(together, predictions, strict=True))
            except Exception:
                alone.update(together)
            for place in alone:
                try:
                    (answers[place],) = self._predict([entries[place]])
                except Exception as error:
                    answers[place] = error
        return [answers[place] for place in range(len(entries))]

    def _predict(self, entries: Sequence[Entry]) -> list[Prediction]:
        if not entries:
            return []
        values, tasks, languages, _ = map(list, zip(*entries, strict=True))
        return self.model.predict(values, tasks, languages, tokens_per_batch=self.batch_tokens)

    def expectations(self, predictions: Sequence[Prediction]) -> dict[Cell, schemas.Expectation]:
        """Say what score to expect of cells without training data.

        It is that of the run's evaluation, else what these predictions let expect, if enough of
        them are of the cell and the encoder knows nearly all of their sub-words.
        """
        by_cell: dict[Cell, list[Prediction]] = {}
        for prediction in predictions:
            by_cell.setdefault(Cell(prediction.task, prediction.language), []).append(prediction)
        expected = {}
        for cell, of_cell in by_cell.items():
            result = self.scores.get(cell)
            if result and result.expected:
                expected[cell] = _expectation(result.expected, result.metric, "evaluation")
            elif of_cell[0].kind != Kind.SUPERVISED and not is_fitted(self.model, cell.language):
                task = self.model.task(cell.task)
                evidence = Evidence.of([prediction.promised for prediction in of_cell])
                score = self.trust.expect(task, evidence)
                if score and self._unknown(of_cell) <= MOST_UNKNOWN:
                    expected[cell] = _expectation(score, task.type.metric, "request")
        return expected

    def _unknown(self, predictions: Sequence[Prediction]) -> float:
        """Return the share of sub-words that the encoder does not know."""
        pieces = [list(prediction.words) or [prediction.text] for prediction in predictions]
        encoded = [self._backend.encode(each, is_pretokenized=True).ids for each in pieces]
        return unknown_share(encoded, self.model.tokenizer)

    # --- what can be asked for

    def grid(self) -> schemas.GridAnswer:
        """Return the tasks, and every cell whose language was trained or tested."""
        config, grid = self.config, self.config.grid
        tested = {cell.language for cell in self.scores}
        languages = sorted({*config.languages, *grid.languages, *tested}, key=name)
        cells = []
        for task in self.tasks:
            for language in languages:
                cell = Cell(task.name, language)
                if config.not_applicable(cell):
                    continue
                answer = schemas.CellAnswer(task=task.name, language=language, kind=grid.kind(cell))
                if result := self.scores.get(cell):
                    answer.score, answer.examples = result.score, result.examples
                    if score := result.expected:
                        answer.expected = _expectation(score, result.metric, "evaluation")
                cells.append(answer)
        tasks = [
            schemas.TaskAnswer(name=t.name, type=t.type, metric=t.type.metric, labels=t.labels)
            for t in self.tasks
        ]
        return schemas.GridAnswer(
            name=self.name,
            method=config.method,
            backbone=self.model.backbone.reference,
            tasks=tasks,
            languages=languages,
            kinds={kind: kind.meaning for kind in Kind},
            cells=cells,
        )

    def languages(self, every: bool = False) -> list[schemas.LanguageAnswer]:
        """Return the languages of the grid by their English names; with `every`, all common ones.

        Any other language with a code can be asked for too.
        """
        codes = {*self.grid().languages, *(common() if every else ())}
        return [
            schemas.LanguageAnswer(
                code=code,
                name=name(code),
                autonym=autonym(code),
                direction="rtl" if is_right_to_left(code) else "ltr",
                language_source=self.config.language_source(code),
                kinds={t.name: self.config.grid.kind(Cell(t.name, code)) for t in self.tasks},
            )
            for code in sorted(codes, key=name)
        ]


def _expectation(score: Expected, metric: str, source: Any) -> schemas.Expectation:
    return schemas.Expectation(**score.model_dump(), metric=metric, source=source)


class _Faulty(Exception):
    """A fault of one item: a pointer that leads to it from there, and what is wrong."""


@contextmanager
def _at(pointer: str) -> Iterator[None]:
    """Turn an error of the user's into a fault at a place of the item."""
    try:
        yield
    except HyperlectError as error:
        details = "; ".join(problem.message for problem in error.problems)
        raise _Faulty(pointer, details or str(error)) from None
