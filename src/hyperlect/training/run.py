"""A run: the folder that training a recipe makes, and everything that goes into it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rich.console import Console

from ..backbone import load_backbone
from ..errors import RunError
from ..grid import Cell
from ..methods import own_languages
from ..model import HyperX, HyperXConfig
from ..model.inventory import Inventory
from ..model.warm_start import Start, warm_start
from ..preparation import Corpora, Key, read_corpora
from ..recipe import Recipe, load_recipe
from ..run_folder import read_json_or_empty, write_json, write_text
from .checkpoint import has_checkpoint
from .hardware import changes, make_accelerator, versions
from .monitor import say
from .schedule import seed_everything
from .state import State
from .trainer import Trainer

RECIPE, VERSIONS, EMBEDDINGS, TRAINING = (
    "recipe.yaml",
    "versions.json",
    "embeddings.json",
    "training.json",
)


UNCHECKED = "Whether evaluation data was trained on earlier was not checked, for want of the data"


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
        RunError: there is something in the folder.
        Interrupted: training was stopped; the run can be resumed.
    """
    run = Path(run)
    if run.is_file():
        raise RunError(f"{run} is a file. Name a folder that does not exist yet with --out.")
    if run.exists() and any(run.iterdir()):
        raise RunError(_taken(run))
    return _train(recipe, run, device, console or Console(stderr=True), resume=False)


def _taken(run: Path) -> str:
    """Say why training cannot begin in a folder, and what to do."""
    if (run / TRAINING).is_file():
        return f"{run} holds a finished run: remove it, or name another folder with --out."
    if has_checkpoint(run):
        return f"{run} holds a run: resume it with --resume {run}, or name another with --out."
    return f"The folder {run} is not empty: remove it, or name another with --out."


def resume(
    run: str | Path,
    device: str = "auto",
    console: Console | None = None,
    recipe: Recipe | None = None,
) -> Path:
    """Go on with an interrupted run; to the same numbers as if it had never stopped.

    Args:
        run: the run folder.
        device, console: as for `start`.
        recipe: the run's, where its data lies elsewhere by now; by default the one that it holds.

    Raises:
        RunError: there is nothing to resume, or the data has changed.
    """
    run = Path(run)
    if not (run / RECIPE).is_file():
        raise RunError(f"{run} is not a run folder: it holds no {RECIPE}.")
    if not has_checkpoint(run):
        raise RunError(f"{run} holds no checkpoint. Start anew: hyperlect train {run / RECIPE}")
    recipe = recipe or load_recipe(run / RECIPE)
    return _train(recipe, run, device, console or Console(stderr=True), resume=True)


def _train(recipe: Recipe, run: Path, device: str, console: Console, resume: bool) -> Path:
    accelerator = make_accelerator(device, recipe.training.precision)
    accelerator.wait_for_everyone()  # no process makes the folder before all have looked at it
    start, corpora = read_start(recipe)
    backbone = load_backbone(recipe.backbone, recipe.revision)
    if accelerator.device.type == "cpu" and accelerator.mixed_precision == "bf16":
        backbone.attend_plainly()
    seed_everything(recipe.training.seed, "initial weights")
    model = HyperX(backbone, model_config(recipe, corpora, start))
    started = warm_start(model, start) if start and not resume else []
    # All splits, so that what is wrong with any of them shows now.
    rows = corpora.encode(model.tokenizer, model.max_length)
    trainer = Trainer(
        model,
        rows=_split(rows, "train"),
        dev=_split(rows, "dev"),
        settings=recipe.training,
        selection=frozenset(recipe.selection_cells(model.grid)),
        shares={name: task.share for name, task in recipe.tasks.items() if task.share},
        run=run,
        accelerator=accelerator,
        console=console,
        evaluation=recipe.evaluation,
    )
    if resume:
        trainer.resume()
    if accelerator.is_main_process:
        run.mkdir(parents=True, exist_ok=True)
        write_text(run / RECIPE, recipe.dump())
        if not trainer.state.finished:  # or else nothing is computed any more
            now = versions(accelerator)
            if resume and (changed := changes(read_json_or_empty(run / VERSIONS), now)):
                say(run, console, changed)
            write_json(run / VERSIONS, now)
        for overlap in corpora.overlaps if not resume else ():
            say(run, console, f"Evaluation data is among the training data: {overlap}")
        for name in corpora.unchecked if not resume else ():
            say(run, console, f"{UNCHECKED}: {name}")
        trained = sum(parameter.numel() for parameter in trainer.parameters.values())
        cells = f"{len(trainer.rows)} cells, {trained:,} trained parameters"
        say(run, console, f"{recipe.method} on {accelerator.device.type}: {cells}")
        for phase in trainer.phases if len(trainer.phases) > 1 else ():
            say(run, console, f"steps {phase.start + 1} to {phase.end}: {phase.name}")
        for line in started:
            say(run, console, line)
    state = trainer.train()
    if accelerator.is_main_process:
        _finish(run, model, state)
        say(run, console, f"{state.step} steps in {state.seconds:.0f} seconds of training")
    return run


def read_start(recipe: Recipe) -> tuple[Start | None, Corpora]:
    """Read the data of a recipe, and what the run was made of that it starts from, if any.

    A task without a list of labels has those of the run: a few examples need not show them all.

    Raises:
        RunError: there is no such run, or it is not finished.
        DataError: the data cannot be read.
    """
    if recipe.start_from is None:
        return None, read_corpora(recipe)
    start = Start.read(recipe.start_from)
    sections = recipe.tasks
    known = {
        task.name: replace(task, label_map=sections[task.name].label_map)
        for task in start.config.tasks
        if task.name in sections
        and sections[task.name].type is task.type
        and sections[task.name].labels is None
    }
    earlier, unknown = _recipes_before(recipe)
    corpora = read_corpora(recipe, tasks=known, earlier=earlier)
    if unknown is not None:
        corpora.unchecked.append(f"all that {unknown} was trained on")
    return start, corpora


def _recipes_before(recipe: Recipe) -> tuple[list[Recipe], str | None]:
    """Return the recipes of the runs that a recipe goes on from, one after the other.

    Also the run that they end at where that is a model without a recipe, from a hub perhaps.
    """
    found: list[Recipe] = []
    start = recipe.start_from
    while start and (path := Path(start) / RECIPE).is_file():
        found.append(load_recipe(path, check_files=False))
        start = found[-1].start_from
    return found, start


def model_config(recipe: Recipe, corpora: Corpora, start: Start | None = None) -> HyperXConfig:
    """Return the configuration of the model that a recipe describes.

    Args:
        recipe, corpora: with its data.
        start: the run that it starts from, whose languages and cells the model has too.

    Raises:
        RunError: that run does not fit, or no cell is left to select by.
    """
    grid = recipe.grid()
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
    )
    if start is None:
        return config
    start.require_fit((recipe.backbone, recipe.revision), config)
    extended = start.extended(config)
    if not recipe.selection_cells(Inventory(extended).grid) and any(recipe.cells("dev")):
        raise RunError(
            f'training.select_by: no cell of kind "{recipe.training.select_by}" has dev files to '
            f"select by, with all that {recipe.start_from} was trained on."
        )
    return extended


def _finish(run: Path, model: HyperX, state: State) -> None:
    """Write the trained model, what the report needs, and last what says that all is there."""
    model.save_pretrained(run)
    names, vectors = model.language_vectors()
    if names:
        labelled = model.grid.labelled_languages
        kinds = {name: "labelled" if name in labelled else "text only" for name in names}
        data = {"languages": names, "vectors": vectors.tolist(), "kinds": kinds}
        write_json(run / EMBEDDINGS, data)
    done = {
        "steps": state.step,
        "seconds": round(state.seconds, 2),
        "best": state.best,
        "trained_parameters": sum(p.numel() for p in model.own_parameters().values()),
    }
    write_json(run / TRAINING, done)


def _split(rows: dict[Key, object], split: str) -> dict[Cell, object]:
    return {cell: encoded for (name, cell), encoded in rows.items() if name == split}
