"""A language for a trained run, as a new run beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from ..data.corpus import read_corpus
from ..data.examples import Source
from ..data.pieces import text_warning
from ..errors import DataError, HyperlectError, Problems, counted, listed
from ..evaluation import Trust, evaluate_run, evidence
from ..evaluation.evaluate import encode_file
from ..evaluation.trust import MOST_UNKNOWN
from ..grid import Cell
from ..hardware import choose_device, versions
from ..languages import resolve
from ..model import HyperX, HyperXConfig
from ..predict import is_too_long_to_parse, split_words
from ..recipe import Recipe, load_recipe
from ..recipe.corpora import compare_files
from ..recipe.schema import CellFiles, DataBlock, LimitSection
from ..run_folder import (
    ADDED,
    RECIPE,
    TRAINING,
    TRUST,
    VERSIONS,
    empty,
    locked,
    read_json,
    read_json_or_empty,
    require_run,
    require_unused,
    write_json,
    write_text,
)
from ..tasks import TaskType
from ..training.run import save_model, start
from .adapt import Adaptation, Rows, Settings, Trained, adapt, unlabelled_rows
from .neighbours import weigh_neighbours

FEWEST_SENTENCES = 5
"""From fewer raw sentences nothing can be learnt."""
AUTO = "auto"
LOOKED_AT = 100
"""Of how many sentences the score without training is estimated."""
RAW_TEXT = "raw-text"
"""The task of raw sentences in a run that has no task of raw text."""

Files = Mapping[str, str | Path]
Like = Mapping[str, float] | str | None


@dataclass(frozen=True)
class Added:
    """A language that was added to a run.

    Attributes:
        language: its ISO 639-3 code.
        run: the folder of the new run.
        source: where its vector comes from, as `HyperX.language_source` says it.
        expected: the score to expect of each task, with its range, without the sentences' labels
            and before the vector is fitted (`Trust.expect`); empty without sentences.
        adaptation: what became of the vector; None if it was not fitted to sentences.
        dev: the scores of the old run's development cells before and after, where they may differ.
        notes: what the person who added it should know.
    """

    language: str
    run: Path
    source: str
    expected: Mapping[str, str] = field(default_factory=dict)
    adaptation: Adaptation | None = None
    dev: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    notes: Sequence[str] = ()


def add_language(
    run: str | Path,
    language: str,
    target: str | Path,
    *,
    text: str | Path | None = None,
    labels: Files | None = None,
    like: Like = None,
    trained: Trained | Literal["all"] | None = None,
    settings: Settings | None = None,
    device: str = "auto",
    console: Console | None = None,
) -> Added:
    """Add a language to a run, and save the whole as a new run. The old one does not change.

    Args:
        run: a finished run.
        language: the code or name of a language that it has no vector for.
        target: the folder to make.
        text: raw sentences, one a line.
        labels: labelled sentences by task, in the format of the run's data for the task.
        like: weights of other languages, whose mean the vector starts from; "auto" weighs the
            nearest ones. None for what stands for an untrained language, or "auto" if there is
            neither text nor labels.
        trained: what is fitted to the sentences, see `Settings`; or "all": everything that training
            trains, on the sentences together with the run's training data.
        settings: how it is fitted; with "all" only its seed is used.
        device: "auto" (CUDA, Apple GPU or CPU, in this order), or one of them by name.
        console: where progress is shown.

    Raises:
        UnknownNameError: there is no such language or task.
        RunError: the run is not finished, or the target exists.
        HyperlectError: the run has the language already, or its method reads no language.
        DataError: a file cannot be used, or labelled sentences are among the run's test data.
    """
    target, labels = Path(target), labels or {}
    run = require_run(Path(run), finished=True, recipe=bool(labels) or trained == "all")
    require_unused(target)
    code = resolve(language)
    model = HyperX.from_pretrained(run, device=choose_device(device))
    if code in model.languages:
        hint = "To train it further, name the run as start_from in a recipe."
        raise HyperlectError(f"{run} has {code} already ({model.language_source(code)}). {hint}")
    notes: list[str] = []
    has_recipe = (run / RECIPE).is_file()
    recipe = load_recipe(run / RECIPE, check_files=False) if has_recipe else None
    if trained == "all" and not (labels or (text and recipe and recipe.text_tasks)):
        data = "labels; or raw text, if the run has a task of type mlm"
        raise HyperlectError(f"To train everything, give {data}.")
    labelled, sentences = _labelled(model, recipe, code, labels, notes) if recipe else ({}, [])
    raw: Rows = {}
    if text is not None:
        sentences = _read_text(text, notes)
        raw = unlabelled_rows(model, sentences)
        if not raw:
            what = "Raw sentences teach by tags, and the run has no task of type tagging"
            raise HyperlectError(f"{what}. Give labels, or other languages.")
    if recipe is not None:
        recipe = _with_data(recipe, code, labels, text)
    if like is None and not sentences:
        like = AUTO
    source, weights = give_vector(model, code, like, raw, labelled)
    expected = _look(model, code, Trust.read(run), sentences[:LOOKED_AT], notes)
    settings = settings or Settings()
    if trained != "all":
        settings = replace(settings, trained=trained or settings.trained)
    adaptation, dev = None, dict[str, tuple[float, float]]()
    if trained == "all":
        assert recipe is not None
        start(_replayed(recipe, run, target.name, settings.seed), target, device, console)
        dev = _dev_scores(run, target, device)
        source = "own vector"
    elif any(labelled.values()) or any(raw.values()):
        adaptation = adapt(model, code, labelled, raw, settings)
        if adaptation.steps:
            source = f"{source}, fitted to {_sentences(adaptation, labelled)}"
            model.config = _with_cells(model, code, source, labelled, raw)
    added = Added(code, target, source, expected, adaptation, dev, notes)
    record = asdict(added) | {
        "from": run.name,
        "like": weights,
        "text": None if text is None else Path(text).name,
        "labels": {task: Path(path).name for task, path in labels.items()},
        "trained": trained,
        "settings": None if trained == "all" else asdict(settings),
    }
    del record["run"]  # its own folder
    earlier = read_json_or_empty(run / ADDED).get("languages", [])
    if trained == "all":
        write_json(target / ADDED, {"languages": [*earlier, record]})
    else:
        _save(run, target, model, recipe, {"languages": [*earlier, record]})
    return added


def give_vector(
    model: HyperX, language: str, like: Like, raw: Rows, labelled: Rows | None = None
) -> tuple[str, dict[str, float]]:
    """Give a language the vector that fitting starts from.

    Args:
        model: it has no vector for the language.
        language: its code.
        like: as in `add_language`.
        raw, labelled: its encoded sentences, which tell what it is like.

    Returns:
        Where the vector comes from, and the weights of other languages that were mixed.

    Raises:
        UnknownNameError: a language of `like` has no vector.
        HyperlectError: nothing is known that neighbours could be chosen by; or weights are not
            above 0.
    """
    if model.features is not None and like in (None, AUTO):
        texts = [*raw.values(), *(labelled or {}).values()]
        features, known = model.read_features(language, texts)
        if known:
            model.add_language(language, {}, known, features)
            return known, {}
    weights: dict[str, float] = {}
    if like == AUTO:
        weights = weigh_neighbours(model, language, raw)
    elif isinstance(like, str):
        raise HyperlectError(f'like must be weights by language or "{AUTO}", not "{like}".')
    elif like:
        if not all(0 < weight < math.inf for weight in like.values()):
            raise HyperlectError("The weights of like must be above 0 and finite.")
        total = sum(like.values())
        weights = {code: weight / total for code, weight in like.items()}
    source = model.language_source(language)
    if weights:
        source = f"mean of {listed(sorted(weights, key=lambda code: -weights[code]), shown=3)}"
    model.add_language(language, weights, source)
    return source, weights


def _labelled(
    model: HyperX, recipe: Recipe, code: str, labels: Files, notes: list[str]
) -> tuple[Rows, list[Any]]:
    """Read and encode labelled sentences; refuse those that the run is tested on.

    Returns:
        Their rows by task, and their words or texts.
    """
    examples, rows, contents = {}, {}, list[Any]()
    for task, path in labels.items():
        cell = Cell(task, code)
        column = "words" if model.task(task).type.reads_words else "text"
        examples[f"{cell} labels"], encoded = encode_file(recipe, cell, Path(path), model)
        rows[task] = list(encoded)
        contents += list(examples[f"{cell} labels"][column])
    tested = [cell for cell in recipe.cells("test") if cell.language == code]
    if not (labels and tested):
        return rows, contents
    shared, reason = compare_files(recipe, "test", examples, model.tasks, tested)
    if reason:
        notes.append(f"It was not checked whether the labels are test data of the run. {reason}")
    problems = Problems()
    for overlap in shared:
        problems.add(str(overlap))
    problems.raise_if_any(DataError, "Labelled sentences are test data of the run:")
    return rows, contents


def _read_text(path: str | Path, notes: list[str]) -> list[str]:
    """Read raw sentences; each counts once.

    Raises:
        DataError: the file cannot be read, or holds too few sentences.
    """
    texts = read_corpus([Source("text", str(path))], False)["text"]
    lines = [text for text in texts if split_words(text)]
    sentences = list(dict.fromkeys(lines))
    if repeated := len(lines) - len(sentences):
        notes.append(f"{path}: {counted(repeated, 'line')} repeated. Each sentence counts once.")
    if len(sentences) < FEWEST_SENTENCES:
        few = counted(len(sentences), "different sentence")
        raise DataError(f"{path} holds {few}. Give at least {FEWEST_SENTENCES}, better 200.")
    return sentences


def _look(
    model: HyperX, code: str, trust: Trust, sentences: Sequence[Any], notes: list[str]
) -> dict[str, str]:
    """Say what to expect of each task, and note if the sentences look like another language's."""
    texts = [each if isinstance(each, str) else " ".join(each) for each in sentences]
    if warning := text_warning(trust.pieces, texts, code, model.tokenizer):
        notes.append(warning)
    expected, unknown = {}, 0.0
    for name, task in model.tasks.items():
        if not sentences or task.type.reads not in ("words", "text"):
            continue
        parses = task.type is TaskType.PARSING
        usable = [s for s in sentences if not (parses and is_too_long_to_parse(s))]
        if usable:
            gathered = evidence(model, model.predict(usable, name, code))
            unknown = max(unknown, gathered.unknown)
            if score := trust.expect(task, gathered):
                expected[name] = f"{task.type.metric} {score}"
    if unknown > MOST_UNKNOWN:
        notes.append(
            f"The encoder does not know {unknown:.0%} of the sub-words. "
            "Do not rely on predictions in this language."
        )
    return expected


def _sentences(adaptation: Adaptation, labelled: Rows) -> str:
    """Say how many sentences there were: of labelled ones by task, of raw ones in all."""
    counts = adaptation.sentences
    if any(labelled.values()):
        of_tasks = (f"{counted(n, 'labelled sentence')} ({task})" for task, n in counts.items())
        return ", ".join(of_tasks)
    return counted(max(counts.values()), "raw sentence")


def _with_cells(model: HyperX, code: str, source: str, labelled: Rows, raw: Rows) -> HyperXConfig:
    """Return the configuration with the cells that were trained."""
    config = model.config
    tasks, text_tasks = list(labelled), config.text_tasks
    if any(raw.values()):
        known = sorted(config.grid.text_tasks)
        tasks += known[:1] or [RAW_TEXT]
        text_tasks = text_tasks if known else (RAW_TEXT,)
    trained = (*config.trained, *(Cell(task, code) for task in tasks))
    added = {**config.added, code: source}
    return replace(config, trained=trained, text_tasks=text_tasks, added=added)


def _with_data(recipe: Recipe, code: str, labels: Files, text: str | Path | None) -> Recipe:
    """Add the language's files to a recipe, so that later test data is compared with them."""
    blocks = list(recipe.data)
    for task, path in labels.items():
        like, _ = recipe.like_file(task, Path(path))
        cells = {code: CellFiles(train=(str(Path(path).absolute()),))}
        changes = {"cells": cells, "root": None, "limit": LimitSection()}
        blocks.append(like.model_copy(update=changes))
    if text is not None and recipe.text_tasks:
        cells = {code: CellFiles(train=(str(Path(text).absolute()),))}
        blocks.append(DataBlock(task=recipe.text_tasks[0], format="text", cells=cells))
    return recipe.model_copy(update={"data": tuple(blocks)})


def _replayed(recipe: Recipe, run: Path, name: str, seed: int) -> Recipe:
    """Return a recipe that continues from a run: a quarter of its steps, a third of its rates."""
    before = recipe.training
    changes = {
        "steps": max(1, before.steps // 4),
        "warmup": before.warmup // 4,
        "learning_rate": before.learning_rate / 3,
        "learning_rates": {name: rate / 3 for name, rate in before.learning_rates.items()},
        "evaluate_every": None,
        "seed": seed,
    }
    training = before.model_copy(update=changes)
    start_from = {"name": name, "start_from": str(run.absolute()), "training": training}
    return recipe.model_copy(update=start_from)


def _dev_scores(run: Path, target: Path, device: str) -> dict[str, tuple[float, float]]:
    """Score two runs on the development data of the first."""
    recipe = load_recipe(run / RECIPE, check_files=False)
    if not recipe.cells("dev"):
        return {}
    results = [evaluate_run(r, None, "dev", device, recipe=recipe).cells for r in (run, target)]
    before, after = ({str(cell.cell): cell.score for cell in cells} for cells in results)
    pairs = {cell: (score, after[cell]) for cell, score in before.items()}
    return {c: (old, new) for c, (old, new) in pairs.items() if old is not None and new is not None}


def _save(
    run: Path, target: Path, model: HyperX, recipe: Recipe | None, added: Mapping[str, Any]
) -> None:
    """Write the new run. Nothing is left of it if that fails."""
    with locked(target):
        require_unused(target)  # another process may have been first
        try:
            if recipe is not None:
                write_text(target / RECIPE, recipe.dump(target))
            write_json(target / VERSIONS, versions(model.device.type, "fp32"))
            write_json(target / ADDED, added)
            if (run / TRUST).is_file():
                write_json(target / TRUST, read_json(run / TRUST), indent=None)
            save_model(target, model)
            if (run / TRAINING).is_file():  # a converted or saved model has none
                write_json(target / TRAINING, read_json(run / TRAINING))
        except BaseException:
            empty(target)
            raise
