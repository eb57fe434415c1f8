"""A run: the folder that training a recipe makes, and everything that goes into it."""

from __future__ import annotations

import json
import platform
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from rich.console import Console

from ..backbone import load_backbone
from ..devices import choose_device
from ..errors import RunError
from ..grid import Cell
from ..methods import own_languages
from ..model import HyperX, HyperXConfig
from ..model.warm_start import Start, warm_start
from ..preparation import Corpora, Key, read_corpora
from ..recipe import Recipe, load_recipe
from .checkpoint import has_checkpoint
from .monitor import say
from .schedule import seed_everything
from .trainer import State, Trainer

RECIPE, VERSIONS, EMBEDDINGS, TRAINING = (
    "recipe.yaml",
    "versions.json",
    "embeddings.json",
    "training.json",
)


UNCHECKED = "Whether evaluation data was trained on earlier was not checked, for want of the data"


def start(recipe: Recipe, run: Path, device: str = "auto", console: Console | None = None) -> Path:
    """Train a recipe into a new run folder.

    Args:
        recipe: what to train.
        run: the folder to make; it must not exist yet, or be empty.
        device: "auto" (CUDA, Apple GPU or CPU, in this order), or one of them by name.
        console: where to show progress.

    Returns:
        The run folder.

    Raises:
        RunError: the folder is in use.
        Interrupted: training was stopped; the run can be resumed.
    """
    if run.is_file():
        raise RunError(f"{run} is a file. Name a folder that does not exist yet with --out.")
    if run.exists() and any(run.iterdir()):
        how = f"resume it with --resume {run}" if has_checkpoint(run) else "remove it"
        raise RunError(f"The run folder {run} is in use: {how}, or name another with --out.")
    return _train(recipe, run, device, console or Console(stderr=True), resume=False)


def resume(run: Path, device: str = "auto", console: Console | None = None) -> Path:
    """Go on with an interrupted run; to the same numbers as if it had never stopped.

    Raises:
        RunError: there is nothing to resume.
    """
    if not (run / RECIPE).is_file():
        raise RunError(f"{run} is not a run folder: it holds no {RECIPE}.")
    if not has_checkpoint(run):
        raise RunError(f"{run} holds no checkpoint. Start anew: hyperlect train {run / RECIPE}")
    recipe = load_recipe(run / RECIPE)
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
        selection=frozenset(recipe.selection_cells()),
        shares={name: task.share for name, task in recipe.tasks.items() if task.share},
        run=run,
        accelerator=accelerator,
        console=console,
        tokens_per_batch=recipe.evaluation.tokens_per_batch,
    )
    if accelerator.is_main_process:
        run.mkdir(parents=True, exist_ok=True)
        (run / RECIPE).write_text(recipe.dump(), encoding="utf-8")
        _write_json(run / VERSIONS, versions(accelerator))
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
    if resume:
        trainer.resume()
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
    return start, read_corpora(recipe, tasks=known, earlier=_recipes_before(recipe))


def _recipes_before(recipe: Recipe) -> list[Recipe]:
    """Return the recipes of the runs that a recipe goes on from, one after the other."""
    found: list[Recipe] = []
    start = recipe.start_from
    while start and (path := Path(start) / RECIPE).is_file():
        found.append(load_recipe(path, check_files=False))
        start = found[-1].start_from
    return found


def model_config(recipe: Recipe, corpora: Corpora, start: Start | None = None) -> HyperXConfig:
    """Return the configuration of the model that a recipe describes.

    Args:
        recipe, corpora: with its data.
        start: the run that it starts from, whose languages and cells the model has too.

    Raises:
        RunError: that run does not fit.
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
    return start.extended(config)


def make_accelerator(device: str, precision: str) -> Accelerator:
    """Choose device and precision; "auto" takes bf16 where the GPU computes with it.

    On a CPU it depends on the model: with AVX512_BF16 or AMX, bf16 saves more than a third of a
    step, without it costs time. So "auto" never takes it there.

    Raises:
        HyperlectError: the device asked for is not there.
    """
    device = choose_device(device)
    bf16 = precision == "bf16" or (
        precision == "auto" and device == "cuda" and torch.cuda.is_bf16_supported()
    )
    # It keeps its first device and precision for the whole process; a later run may want others.
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(cpu=device == "cpu", mixed_precision="bf16" if bf16 else "no")


def versions(accelerator: Accelerator) -> dict[str, str]:
    """Return what a result depends on besides the recipe."""
    packages = ("hyperlect", "torch", "transformers", "accelerate", "datasets", "tokenizers")
    found = {name: metadata.version(name) for name in packages}
    device = accelerator.device.type
    name = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or device
    return {
        **found,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": f"{device}: {name}",
        "processes": str(accelerator.num_processes),
        "threads": str(torch.get_num_threads()),
        "precision": accelerator.mixed_precision,
    }


def _finish(run: Path, model: HyperX, state: State) -> None:
    """Write the trained model and what the report needs."""
    model.save_pretrained(run)
    done = {
        "steps": state.step,
        "seconds": round(state.seconds, 2),
        "best": state.best,
        "trained_parameters": sum(p.numel() for p in model.own_parameters().values()),
    }
    _write_json(run / TRAINING, done)
    names, vectors = model.language_vectors()
    if names:
        labelled = model.grid.labelled_languages
        kinds = {name: "labelled" if name in labelled else "text only" for name in names}
        data = {"languages": names, "vectors": vectors.tolist(), "kinds": kinds}
        _write_json(run / EMBEDDINGS, data)


def _split(rows: dict[Key, object], split: str) -> dict[Cell, object]:
    return {cell: encoded for (name, cell), encoded in rows.items() if name == split}


def _write_json(path: Path, data: object) -> None:
    path.write_text(json.dumps(data, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
