"""A run: the folder that training a recipe makes, and everything that goes into it."""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.state import AcceleratorState
from rich.console import Console

from ..backbone import load_backbone
from ..errors import Problems, RunError, listed
from ..evaluation import measure_trust
from ..hardware import Precision, choose_device, fast_precision, version_changes
from ..methods import own_languages
from ..model import HyperX, HyperXConfig
from ..model.features import FeatureSource
from ..model.warm_start import Start, warm_start
from ..recipe import Recipe, load_recipe
from ..recipe.corpora import Corpora, read_corpora
from ..recipe.load import earlier_recipes
from ..run_folder import (
    EMBEDDINGS,
    METRICS,
    RECIPE,
    TENSORBOARD,
    TRAINING,
    TRUST,
    VERSIONS,
    checkpoints,
    is_run,
    is_trained,
    locked,
    read_events,
    read_json_or_empty,
    require_run,
    require_unused,
    write_json,
    write_text,
    writing,
)
from .checkpoint import State, renewed
from .monitor import say
from .processes import losing_a_process
from .schedule import seed_everything
from .trainer import Trainer

_NO_CHANGE = (
    "Hardware and libraries are the same. On a GPU, only training.deterministic gives equal bits."
)
OVERLAP = "Evaluation data is among the training data"
UNCHECKED = "This data is not available, so it was not checked whether it holds evaluation data"


def make_accelerator(device: str) -> Accelerator:
    """Choose a device and join the other processes, if a launcher started several.

    Raises:
        HyperlectError: the device asked for is not available.
    """
    device = choose_device(device)
    # It keeps its first device for the whole process; a later run may want another.
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(cpu=device == "cpu")


def choose_precision(precision: str, device: str) -> Precision:
    """Resolve "auto" to bf16 on a GPU that computes with it, else fp32.

    On a CPU it depends on the model: with AVX512_BF16 or AMX, bf16 saves more than a third of a
    step; without, it costs time. So "auto" never chooses it there.
    """
    if precision == "auto":
        return fast_precision(device) if device == "cuda" else "fp32"
    return precision  # type: ignore[return-value]


def start(
    recipe: Recipe, run: str | Path, device: str = "auto", console: Console | None = None
) -> Path:
    """Train a recipe into a new run folder.

    Args:
        recipe: what to train.
        run: the folder to make; it must not exist yet, or be empty.
        device: "auto" (CUDA, Apple GPU or CPU, in this order), or one of them by name.
        console: where to show progress.

    Returns:
        The run folder.

    Raises:
        RunError: the folder is not empty, or another process is working on it.
        Interrupted: training was stopped; the run can be resumed.
    """
    run = Path(run)
    require_unused(run)
    return _train(recipe, run, device, console or Console(stderr=True), resume=False)


def resume(
    run: str | Path,
    device: str = "auto",
    console: Console | None = None,
    recipe: Recipe | None = None,
) -> Path:
    """Continue an interrupted run; to the same numbers as if it had never stopped.

    Args:
        run: the run folder.
        device, console: as for `start`.
        recipe: the run's, if its data has moved; by default the one in the folder.

    Raises:
        RunError: there is nothing to resume, the data has changed, or another process is working
            on the run.
    """
    run = require_run(Path(run))
    if not checkpoints(run) and (is_trained(run) or not is_run(run)):
        raise RunError(f"{run} holds no checkpoint. Start it again: hyperlect train {run / RECIPE}")
    recipe = recipe or load_recipe(run / RECIPE)
    return _train(recipe, run, device, console or Console(stderr=True), resume=True)


def _train(recipe: Recipe, run: Path, device: str, console: Console, resume: bool) -> Path:
    accelerator = make_accelerator(device)
    is_main = accelerator.is_main_process
    with losing_a_process(run), ExitStack() as end:
        accelerator.wait_for_everyone()  # no process makes the folder before all have looked at it
        if is_main:  # for all
            end.enter_context(locked(run))
        begins = not checkpoints(run)
        accelerator.wait_for_everyone()
        if begins and is_main:  # perhaps once more, after an early death
            with writing(run):
                for path in (run / METRICS, *run.glob("*.partial")):
                    path.unlink(missing_ok=True)
                shutil.rmtree(run / TENSORBOARD, ignore_errors=True)
        trainer, notes = _prepare(recipe, run, accelerator, console, begins)
        if resume and begins:
            notes.append(f"{run} holds no checkpoint yet, so training starts over")
        if not begins:
            notes += trainer.resume()
        finished = trainer.state.finished
        if is_main:
            _begin(trainer, notes)
        state, warnings = trainer.train(), trainer.warnings()
        if is_main:
            _finish(run, trainer, state, warnings)
            seconds = f"{state.step} steps in {state.seconds:.0f} seconds of training"
            say(run, console, "This run was finished before." if finished else seconds)
    return run


def _prepare(
    recipe: Recipe, run: Path, accelerator: Accelerator, console: Console, begins: bool
) -> tuple[Trainer, list[str]]:
    """Load everything that a recipe names; return its trainer, and what to say of it.

    Args:
        recipe, run, accelerator, console: of the trainer.
        begins: whether at the first step; otherwise a checkpoint has all that is set for it.
    """
    precision = choose_precision(recipe.training.precision, accelerator.device.type)
    start, corpora = read_start(recipe)
    backbone = load_backbone(recipe.backbone, recipe.revision)
    seed_everything(recipe.training.seed, "initial weights")
    model = HyperX(backbone, model_config(recipe, corpora, start))
    notes: list[str] = []
    if begins:
        notes += [f"{OVERLAP}: {overlap}" for overlap in corpora.overlaps]
        notes += [f"{UNCHECKED}: {name}" for name in corpora.unchecked]
        notes += warm_start(model, start) if start else []
    # All splits, so that every problem of the data shows now.
    rows = corpora.encode(model.tokenizer, model.max_length)
    train, dev = (
        {cell: encoded for (name, cell), encoded in rows.items() if name == split}
        for split in ("train", "dev")
    )
    if begins and model.features is not None:
        model.to(accelerator.device)
        texts: dict[str, list[Any]] = {}
        for cell, encoded in train.items():
            texts.setdefault(cell.language, []).append(encoded)
        model.set_features(texts, known=start.config.languages if start else ())
        notes += feature_notes(model)
    return Trainer(model, train, dev, recipe, run, accelerator, console, precision), notes


def rerun(
    run: str | Path, steps: int, console: Console | None = None, recipe: Recipe | None = None
) -> int:
    """Train the first steps of a run again, and compare with what it recorded.

    Compared are the digests of the initial weights and of those after each step, the losses, and
    the norms of the gradients: all to the last bit. Nothing is written.

    Args:
        run: the run folder.
        steps: at most how many; a run records the first `TRACED`.
        console: where progress is shown.
        recipe: the run's, if its data has moved; by default the one in the folder.

    Returns:
        How many steps were compared.

    Raises:
        RunError: the run recorded no steps; or something differs: names every difference, and
            what of hardware, libraries and data is not as it was.
    """
    run = require_run(Path(run))
    by_step: dict[int, Any] = {}
    for _, event in read_events(run / METRICS):
        if event.get("event") in ("start", "trace") and event["step"] <= steps:
            by_step.setdefault(event["step"], event)  # the first of each step
    last = max(by_step, default=0)
    if 0 not in by_step or not last:
        raise RunError(f"{run} has recorded no steps to compare with; new runs do.")
    before = by_step[0]["versions"]
    accelerator = make_accelerator(before["device"].partition(":")[0])
    recipe = recipe or load_recipe(run / RECIPE)
    trainer, _ = _prepare(recipe, run, accelerator, console or Console(quiet=True), begins=True)
    by_step[0]["fingerprint"] = renewed(by_step[0]["fingerprint"], trainer.model.backbone)
    problems = Problems()
    for now in trainer.replay(last):
        for key, value in by_step[now["step"]].items():
            if key != "versions" and json.dumps(value) != json.dumps(now[key]):
                problems.add(_difference(key, value, now[key]), key=f"step {now['step']}")
    changes = version_changes(before, trainer.versions)
    reasons = f"This may come from {'; '.join(changes)}." if changes else _NO_CHANGE
    heading = f"The first {last} steps of {run} are not as they were. {reasons}"
    problems.raise_if_any(RunError, heading)
    return last


def _difference(key: str, before: Any, now: Any) -> str:
    """Say how what was recorded of a step differs from what it is now."""
    if key == "norm":
        return f"the norm of the gradient is {now!r}, and was {before!r}"
    if key == "losses":
        tasks = [task for task in sorted({*before, *now}) if before.get(task) != now.get(task)]
        return "; ".join(f"loss of {t}: {now.get(t)}, and was {before.get(t)}" for t in tasks)
    if key == "fingerprint":
        return f"changed: {listed([name for name in now if now[name] != before.get(name)])}"
    return f"the {key} differ"


def feature_notes(model: HyperX) -> list[str]:
    """Say where the features of a model's languages come from, and which languages have none."""
    table = None if model.features is None else model.features.typology
    if table is None:
        return []
    licence = f", {table.licence}" if table.licence else ""
    lacking = [code for code in model.languages if code not in table]
    means = f"; averages stand for {', '.join(lacking)}, which it lacks" if lacking else ""
    return [f"features of languages: {table.source}{licence}{means}"]


def _begin(trainer: Trainer, notes: list[str]) -> None:
    """Write what is known before the first step, and say what is trained."""
    run, recipe, accelerator = trainer.run, trainer.recipe, trainer.accelerator
    device = accelerator.device.type
    if not trainer.state.finished:  # otherwise nothing is computed any more
        if changes := version_changes(read_json_or_empty(run / VERSIONS), trainer.versions):
            notes.append(
                f"resumed with other hardware or libraries than before: {', '.join(changes)}. "
                "Scores may differ slightly from those of a run without a break."
            )
        write_json(run / VERSIONS, trainer.versions)
    write_text(run / RECIPE, recipe.dump(run))  # from now on it can be resumed
    parameters = sum(parameter.numel() for parameter in trainer.parameters.values())
    cells = f"{len(trainer.rows)} cells, {parameters:,} trained parameters"
    count = accelerator.num_processes
    place = device if count == 1 else f"{device}, {count} processes"
    notes.append(f"{recipe.method} on {place}: {cells}")
    if len(trainer.phases) > 1:
        notes += [f"steps {p.start + 1} to {p.end}: {p.name}" for p in trainer.phases]
    for note in notes:
        say(run, trainer.console, note)


def _finish(run: Path, trainer: Trainer, state: State, warnings: list[str]) -> None:
    """Write the trained model, what the report needs, and last the file that says it is whole."""
    model = trainer.model
    save_model(run, model)
    if not (run / TRUST).is_file():
        measure_trust(model, trainer.rows, trainer.dev, trainer.recipe).write(run)
    trained = model.own_parameters().values()
    summary = {
        "steps": state.step,
        "seconds": round(state.seconds, 2),
        "seconds_saving": round(state.saving, 2),
        "best": state.best,
        "examples": state.examples,
        "warnings": warnings,
        "trained_parameters": sum(p.numel() for p in trained if p.requires_grad),
    }
    for warning in warnings:
        say(run, trainer.console, f"warning: {warning}")
    write_json(run / TRAINING, summary)


def save_model(run: Path, model: HyperX) -> None:
    """Write the trained model, and the language vectors for the report."""
    model.save_pretrained(run)
    names, vectors = model.language_vectors()
    if names:
        labelled = model.grid.labelled_languages
        kinds = {name: "labelled" if name in labelled else "text only" for name in names}
        data = {"languages": names, "vectors": vectors.tolist(), "kinds": kinds}
        write_json(run / EMBEDDINGS, data)


def read_start(recipe: Recipe) -> tuple[Start | None, Corpora]:
    """Read the data of a recipe, and the configuration of the run that it starts from, if any.

    A task without a list of labels has those of that run: a few examples need not show them all.

    Raises:
        RunError: there is no such run, or it is not finished.
        DataError: the data cannot be read.
    """
    if recipe.start_from is None:
        return None, read_corpora(recipe)
    start = Start.read(recipe.start_from)
    known = {
        name: task
        for name, task in start.config.task_names.items()
        if (section := recipe.tasks.get(name))
        and section.type is task.type
        and section.labels is None
    }
    earlier, source = earlier_recipes(recipe)
    corpora = read_corpora(recipe, tasks=known, earlier=earlier)
    if source is not None:  # a model without a recipe, perhaps from a hub
        corpora.unchecked.append(f"everything that {source} was trained on")
    return start, corpora


def model_config(recipe: Recipe, corpora: Corpora, start: Start | None = None) -> HyperXConfig:
    """Return the configuration of the model that a recipe describes.

    Args:
        recipe, corpora: with its data.
        start: the run that it starts from, whose languages and cells the model has too.

    Raises:
        RunError: that run does not fit, or no cell is left to select by.
        DataError: the typology of the recipe cannot be read.
    """
    grid = recipe.grid()
    section, features = recipe.language_features, None
    if section is not None and recipe.has_base:
        features = FeatureSource.read(recipe.typology(), section.text, section.layer)
    config = HyperXConfig(
        tasks=tuple(corpora.tasks.values()),
        languages=tuple(own_languages(recipe.method, grid)),
        trained=tuple(sorted(grid.trained)),
        method=recipe.method,
        hypernet=recipe.hypernet_config(),
        train_layer_norms=recipe.training.train_layer_norms,
        head_dropout=recipe.training.head_dropout,
        parser=recipe.parser,
        max_length=recipe.max_length,
        language_features=features,
    )
    if start is None:
        return config
    start.require_fit((recipe.backbone, recipe.revision), config)
    extended = start.extended(config)
    if not recipe.selection_cells(extended.grid) and any(recipe.cells("dev")):
        raise RunError(
            f"training.select_by: counting the cells that {recipe.start_from} was trained on, no "
            f'cell of kind "{recipe.training.select_by}" has dev files.'
        )
    return extended
