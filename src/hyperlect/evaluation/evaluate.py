"""Filling the grid: a score for every cell that has data."""

from __future__ import annotations

import datetime
import math
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from itertools import chain, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from ..data.corpus import read_corpus
from ..data.encoding import encode
from ..data.readers import SPLITS, Split
from ..data.sampling import evenly
from ..data.typology import URIEL, Typology
from ..errors import DataError, HyperlectError, Problems, UnknownNameError, unknown
from ..grid import Cell, Grid, Kind, Stratum
from ..hardware import Precision, choose_device
from ..languages import encoder_languages, languages_in, resolve
from ..model import HyperX
from ..predict import TOKENS_PER_BATCH, forward_rows, label_rows, split_words
from ..recipe import Recipe, load_recipe
from ..recipe.corpora import compare_files, read_corpora
from ..run_folder import RECIPE, TRAINING, read_json
from ..tasks import Task, TaskType
from .metrics import Score, score, score_trees
from .results import CellResult, Expected, Results, write_results
from .trust import Evidence, Trust, anchors, count_pieces, evidence, is_fitted, withheld

if TYPE_CHECKING:
    from datasets import Dataset

MASK_SEED = 20221207
"""The masks of evaluation follow from it and from `tokens_per_batch`, whatever the model, so that
perplexities compare."""
NOTHING_TO_SCORE = "its data holds no span"
"""Why there is no score of spans in data without spans."""
ANCHORED = 100
"""The most examples of a development cell that are scored with its language withheld."""


def subsample(encoded: Dataset, examples: int | None) -> Dataset:
    """Keep at most `examples` examples, evenly spaced, with all their rows.

    Args:
        encoded: the encoded rows of a cell.
        examples: how many; None for all.
    """
    if examples is None:
        return encoded
    owners = np.asarray(encoded["example"])
    distinct = np.unique(owners)
    if len(distinct) <= examples:
        return encoded
    chosen = distinct[evenly(len(distinct), examples)]
    return encoded.select(np.flatnonzero(np.isin(owners, chosen)))


def fill(
    model: HyperX,
    rows: Mapping[Cell, Any],
    tokens_per_batch: int = TOKENS_PER_BATCH,
    precision: Precision = "fp32",
    console: Console | None = None,
    trust: Trust | None = None,
    untrained: bool = False,
) -> list[CellResult]:
    """Score every cell.

    A cell that the model's method does not apply to has no score, and says why. Nor has a cell of
    spans whose data holds none. A language without a vector has for the time what a model with a
    base makes of its features; those from text, of all rows in the language.

    Args:
        model: what to score.
        rows: encoded rows (with labels) by cell.
        tokens_per_batch: sub-words in a forward pass, padding counted.
        precision: of the arithmetic; the parser's scores are always in fp32.
        console: where progress is shown.
        trust: of the run, for the scores to expect of cells without training data.
        untrained: whether each language's vector is withheld while its cell is scored.

    Raises:
        DataError: a cell has no rows, so any score would be invented.
    """
    results = []
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    bar = Progress(*columns, console=console, disable=console is None, transient=True)
    texts: dict[str, list[Any]] = {}
    for cell, encoded in rows.items():
        texts.setdefault(cell.language, []).append(encoded)
    with bar as progress, model.backbone.arithmetic(precision), model.described(texts):
        of_all = progress.add_task("", total=len(rows))
        for cell, encoded in rows.items():
            progress.update(of_all, description=f"evaluating {cell}")
            loaded = list(encoded)  # once out of Arrow: scoring reads each row several times
            with withheld(model, cell.language) if untrained else nullcontext():
                results.append(_result(model, loaded, cell, tokens_per_batch, trust))
            progress.advance(of_all)
    return results


def _result(
    model: HyperX, rows: list[dict[str, Any]], cell: Cell, tokens: int, trust: Trust | None
) -> CellResult:
    if not rows:
        raise DataError(f"{cell} cannot be scored: its data has no rows.")
    nothing = Score(math.nan, 0, "")
    note = model.config.not_applicable(cell) or ""
    scored, promised = (nothing, []) if note else _score(model, rows, cell, tokens)
    gathered = Evidence.of(promised) if promised else None
    expected = None
    if gathered and trust is not None and model.grid.kind(cell) is not Kind.SUPERVISED:
        before = gathered
        if is_fitted(model, cell.language):
            with withheld(model, cell.language):
                before = Evidence.of(_score(model, rows, cell, tokens)[1])
        expected = trust.expect(model.task(cell.task), before)
    if not scored.units:
        note, scored = note or NOTHING_TO_SCORE, nothing
    return CellResult(
        task=cell.task,
        language=cell.language,
        kind=model.grid.kind(cell),
        metric=model.task(cell.task).type.metric,
        score=None if note else scored.value,
        examples=len({row["example"] for row in rows}),
        units=scored.units,
        unit=scored.unit,
        details=scored.details,
        language_source=model.language_source(cell.language),
        note=note,
        promised=round(gathered.promised, 3) if gathered else None,
        expected=expected,
        by_example=scored.examples,
    )


def _score(
    model: HyperX, rows: list[dict[str, Any]], cell: Cell, tokens: int
) -> tuple[Score, list[tuple[float, float]]]:
    """Score a cell; return also what each of its examples promised."""
    task = model.task(cell.task)
    if task.type is TaskType.MLM:
        return _perplexity(model, rows, cell, tokens), []
    answers = label_rows(model, rows, [cell] * len(rows), tokens)
    gold = _gold(task, rows)
    predicted = {example: [task.labels[i] for i in answers[example].labels] for example in gold}
    promised = [answers[example].promised for example in gold]
    if task.type is TaskType.PARSING:
        trees = score_trees(
            [(row["heads"], gold[row["example"]]) for row in rows],
            [(answers[e].heads or [], labels) for e, labels in predicted.items()],
        )
        return trees, promised
    return score(task, list(gold.values()), list(predicted.values())), promised


def _gold(task: Task, rows: Iterable[Mapping[str, Any]]) -> dict[int, list[str]]:
    """Return the labels of each example."""
    gold: dict[int, list[str]] = {}
    for row in rows:  # the windows of a sentence are neighbours
        gold.setdefault(row["example"], []).extend(task.labels[i] for i in row["labels"])
    return gold


def constant_score(task: Task, rows: Iterable[Mapping[str, Any]]) -> float:
    """Return the score of answering with the most frequent label always.

    Args:
        task: with labels, and not of parsing.
        rows: encoded rows of a cell, with labels.
    """
    gold = list(_gold(task, rows).values())
    ((label, _),) = Counter(chain.from_iterable(gold)).most_common(1)
    return score(task, gold, [[label] * len(labels) for labels in gold]).value


def mean_loss(
    model: HyperX,
    rows: Sequence[Mapping[str, Any]],
    cell: Cell,
    tokens: int = TOKENS_PER_BATCH,
    generator: torch.Generator | None = None,
) -> tuple[float, int]:
    """Return the mean loss of a cell's labelled rows over their scored units, and how many.

    Args:
        model: what is scored.
        rows: encoded, with labels.
        cell: their cell.
        tokens: sub-words in a forward pass, padding counted.
        generator: for the masks of masked language modelling.
    """
    total, units = 0.0, 0
    for batch, output in forward_rows(model, rows, [cell] * len(rows), tokens, generator):
        of_task = batch.tasks[cell.task]
        loss = model.head(cell.task).loss(output.scores[cell.task], of_task)
        total += loss.item() * of_task.units
        units += of_task.units
    return total / max(units, 1), units


def _perplexity(model: HyperX, rows: list[dict[str, Any]], cell: Cell, tokens: int) -> Score:
    """exp of the mean negative log-likelihood at masked positions (15 %, the same each time)."""
    generator = torch.Generator().manual_seed(MASK_SEED)
    loss, count = mean_loss(model, rows, cell, tokens, generator)
    return Score(math.exp(min(loss, 700)), count, "masked sub-words")


def evaluate_run(
    run: str | Path,
    cells: Sequence[Cell] | None = None,
    split: Split = "test",
    device: str = "auto",
    console: Console | None = None,
    recipe: Recipe | None = None,
    files: Mapping[Cell, Path] | None = None,
    save: bool = True,
) -> Results:
    """Score a run on every cell of its recipe that has data of a split, and write results.json.

    Args:
        run: a finished run folder.
        cells: only these; results.json is then left as it is.
        split: "test" or "dev"; only test results are written.
        device: "auto" (CUDA, Apple GPU or CPU, in this order), or one of them by name.
        console: where progress is shown.
        recipe: the run's, if its data has moved; by default the one in the folder.
        files: other files to score, by cell, in the format of the recipe's data for the task.
            Nothing else is then scored, and results.json is left as it is.
        save: whether results.json is written otherwise.

    Returns:
        The results.

    Raises:
        RunError: the run is not finished.
        HyperlectError: there is nothing to score, a cell has no data, data is faulty, or one of
            `files` is among the training data.
    """
    run = Path(run)
    if recipe is None:
        recipe = load_recipe(run / RECIPE, check_files=False)  # only the scored ones must exist
    remedy = f"Resume the run, or train it again: hyperlect train --resume {run}"
    training = read_json(run / TRAINING, remedy)
    model = HyperX.from_pretrained(run, device=choose_device(device))
    if files:
        read = {cell: encode_file(recipe, cell, path, model) for cell, path in files.items()}
        rows = {cell: encoded for cell, (_, encoded) in read.items()}
        _compare_with_training(recipe, model, {str(c): data for c, (data, _) in read.items()})
    else:
        chosen = _choose(list(recipe.cells(split)), cells, split)
        corpora = read_corpora(recipe, [split], model.tasks, chosen)
        encoded = corpora.encode(model.tokenizer, model.max_length)
        limit = recipe.evaluation.examples
        rows = {cell: subsample(encoded[split, cell], limit) for cell in chosen}
    settings = recipe.evaluation
    tokens, precision, trust = settings.tokens_per_batch, settings.precision, Trust.read(run)
    scored = fill(model, rows, tokens, precision, console, trust)
    strata = find_strata(recipe, model.grid, {cell.language for cell in rows})
    results = Results(
        name=recipe.name,
        method=recipe.method,
        seed=recipe.training.seed,
        steps=training["steps"],
        backbone=recipe.as_written(recipe.backbone),
        seconds=training["seconds"],
        trained_parameters=training.get("trained_parameters"),
        date=datetime.date.today().isoformat(),
        cells=tuple(c.model_copy(update=strata[c.language]._asdict()) for c in scored),
    )
    if save and cells is None and split == "test" and not files:
        write_results(run, results)
    return results


def _compare_with_training(recipe: Recipe, model: HyperX, files: Mapping[str, Dataset]) -> None:
    """Look for sentences of other files among the training data; warn of some, refuse all.

    Raises:
        DataError: a file is, or is contained in, the training data.
    """
    shared, reason = compare_files(recipe, "train", files, model.tasks)
    if reason:
        unchecked = f"Not all of the run's training data was compared with it. {reason}"
        warnings.warn(unchecked, stacklevel=3)
    problems = Problems()
    for overlap in shared:
        if overlap.refused:
            problems.add(str(overlap))
        else:
            warnings.warn(str(overlap), stacklevel=3)
    problems.raise_if_any(DataError, "The files to score are in the training data:")


def find_strata(recipe: Recipe, grid: Grid, languages: Collection[str]) -> dict[str, Stratum]:
    """Say of each language what it has to build on.

    Where the recipe names no pretraining languages or no families, those of a known encoder and
    the families of URIEL count, as far as it is installed.

    Args:
        recipe: with its encoder and settings of evaluation.
        grid: what was trained.
        languages: their codes.
    """
    settings = recipe.evaluation
    known = encoder_languages(recipe.backbone)
    if settings.encoder_languages is not None:
        known = languages_in(settings.encoder_languages)
    families = {resolve(code): family for code, family in settings.families.items()}
    if not families:  # those of a recipe may be branches, which must not meet families
        with suppress(DataError):  # URIEL is an extra
            table = Typology.read(URIEL, ["family"])
            families = table.families(grid.labelled_languages | {*languages})
    return {
        code: Stratum(
            None if known is None else code in known,
            families[code] in {families.get(other) for other in grid.labelled_languages - {code}}
            if code in families
            else None,
        )
        for code in languages
    }


def measure_trust(
    model: HyperX, train: Mapping[Cell, Any], dev: Mapping[Cell, Any], recipe: Recipe
) -> Trust:
    """Gather what a run's expectations rest on; only vectors are withheld, so it is cheap.

    Args:
        model: trained.
        train: encoded training rows by cell.
        dev: encoded development rows by cell; may be empty.
        recipe: with its settings of evaluation.
    """
    settings = recipe.evaluation
    labelled = {
        cell: subsample(rows, min(settings.examples or ANCHORED, ANCHORED))
        for cell, rows in dev.items()
        if cell.task not in model.grid.text_tasks and not model.config.not_applicable(cell)
    }
    tokens, precision = settings.tokens_per_batch, settings.precision
    scored = fill(model, labelled, tokens, precision, untrained=True)
    return Trust(anchors(scored), count_pieces(train, model.tokenizer))


def expect_untested(
    model: HyperX, recipe: Recipe, trust: Trust, examples: int = 50
) -> dict[Cell, Expected]:
    """Say what score to expect of cells without training and test data.

    The sentences are those that the recipe has in the language for any task, their labels unread.

    Args:
        model: trained.
        recipe: the run's.
        trust: the run's.
        examples: the most sentences of a cell.

    Raises:
        DataError: the recipe's data cannot be read.
    """
    places = [(split, cell) for split in SPLITS for cell in recipe.cells(split)]
    known = model.grid.trained | set(recipe.cells("test"))
    sentences: dict[tuple[Split, Cell], list[Any]] = {}
    expected: dict[Cell, Expected] = {}
    tasks = [task for task in model.tasks.values() if task.type.reads in ("words", "text")]
    languages = dict.fromkeys(cell.language for _, cell in places)
    for task, language in product(tasks, languages):
        cell = Cell(task.name, language)
        if cell in known or model.config.not_applicable(cell):
            continue
        # Sentences in words for a task over words, and texts for one over texts, if there are any.
        of_language = [place for place in places if place[1].language == language]
        as_words = task.type.reads_words
        place = min(of_language, key=lambda p: model.task(p[1].task).type.reads_words != as_words)
        if place not in sentences:
            data = read_corpora(recipe, [place[0]], model.tasks, [place[1]]).examples[place]
            rows = data.select(evenly(len(data), examples))
            inputs = [row["words"] or row["text"] for row in rows]
            sentences[place] = [x for x in inputs if not isinstance(x, str) or split_words(x)]
        if sentences[place]:
            predictions = model.predict(sentences[place], *cell)
            if score := trust.expect(task, evidence(model, predictions)):
                expected[cell] = score
    return expected


def encode_file(recipe: Recipe, cell: Cell, path: Path, model: HyperX) -> tuple[Dataset, Dataset]:
    """Read a labelled file in the format of the recipe's data for its task, and encode it.

    Where that data has several formats, it is that of files with the same ending.

    Returns:
        The examples, and their encoded rows.

    Raises:
        HyperlectError: the recipe reads no files for the task.
        DataError: the file cannot be read, or has labels that the task does not know.
    """
    task = recipe.as_marked(model.task(cell.task))
    examples = read_corpus([recipe.like_file(cell.task, path)[1]], task.type.reads_words)
    rows = encode(examples, task, model.tokenizer, model.max_length)
    if not len(rows):
        raise DataError(f"{path}: nothing is left after encoding: no known sub-word, or no label.")
    return examples, rows


def _choose(available: list[Cell], wanted: Sequence[Cell] | None, split: str) -> list[Cell]:
    """Return the cells to score. Raises if a wanted one has no data, or none has."""
    if not available:
        raise HyperlectError(f"The recipe of this run names no {split} data.")
    if wanted is None:
        return available
    chosen = list(dict.fromkeys(Cell(task, resolve(language)) for task, language in wanted))
    for cell in chosen:
        if cell not in available:
            error = unknown(f"cell with {split} data", str(cell), list(map(str, available)))
            hint = f"Score another file with --test {cell}=FILE."
            raise UnknownNameError(f"{error} {hint}")
    return chosen
