"""What `check` reads of a run folder: each file, and how well they fit each other."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import torch

from ..errors import HyperlectError, RunError
from ..evaluation import read_results
from ..grid import Cell
from ..model import HyperX
from ..recipe import load_recipe
from ..released import ORIGIN
from ..training.checkpoint import has_checkpoint, load_checkpoint

Reader = Callable[[Path], str]


def read_all(run: Path) -> Iterator[tuple[str, str | Exception]]:
    """Read the files of a run one after the other.

    Yields:
        What was read, and a summary of it; an empty one where it is not there and need not be;
        or what is wrong with it.
    """
    for name, read in _READERS.items():
        try:
            yield name, read(run)
        except (HyperlectError, OSError, ValueError, LookupError, TypeError) as error:
            plain = isinstance(error, HyperlectError | OSError)
            yield name, error if plain else RunError(f"{type(error).__name__}: {error}")


def _recipe(run: Path) -> str:
    if _is_model_alone(run):
        return ""
    recipe = load_recipe(run / "recipe.yaml", check_files=False)
    trained = recipe.grid().trained
    if (run / "model.json").is_file():
        model = json.loads((run / "model.json").read_text(encoding="utf-8"))
        before = {Cell(*cell) for cell in model["trained"]}
        # a run that another was started from has cells of its own
        differing = trained - before if recipe.start_from else trained ^ before
        if differing:
            listed = ", ".join(sorted(map(str, differing)))
            raise RunError(f"its training cells are not those of model.json: {listed}")
    return f"{recipe.name}, method {recipe.method}, {_counted(trained, 'cell')} trained"


def _model(run: Path) -> str:
    if not (run / "model.safetensors").is_file() and has_checkpoint(run):
        raise RunError(f"not written yet; go on with: hyperlect train --resume {run}")
    model = HyperX.from_pretrained(run)
    weights = sum(parameter.numel() for parameter in model.own_parameters().values())
    tasks, languages = _counted(model.tasks, "task"), _counted(model.languages, "language")
    return f"{weights:,} weights, {tasks}, {languages}"


def _versions(run: Path) -> str:
    if _is_model_alone(run):
        return ""
    versions = json.loads((run / "versions.json").read_text(encoding="utf-8"))
    return ", ".join(f"{name} {versions[name]}" for name in ("hyperlect", "torch", "transformers"))


def _training(run: Path) -> str:
    path = run / "training.json"
    if not path.is_file():
        return ""
    training = json.loads(path.read_text(encoding="utf-8"))
    return f"{training['steps']:,} steps in {training['seconds']:,.0f} s"


def _metrics(run: Path) -> str:
    path = run / "metrics.jsonl"
    if not path.is_file():
        return ""
    lines = path.read_text(encoding="utf-8").splitlines()
    return _counted([json.loads(line)["event"] for line in lines], "event")


def _embeddings(run: Path) -> str:
    path = run / "embeddings.json"
    if not path.is_file():
        return ""
    data = json.loads(path.read_text(encoding="utf-8"))
    sizes = {len(vector) for vector in data["vectors"]}
    if len(data["vectors"]) != len(data["languages"]) or len(sizes) != 1:
        raise RunError("there must be one vector a language, all of one size")
    return f"{_counted(data['languages'], 'vector')} of {sizes.pop()}"


def _checkpoint(run: Path) -> str:
    if not has_checkpoint(run):
        return ""
    if not (run / "model.json").is_file():
        return "of a run that is not finished"
    model = HyperX.from_pretrained(run)
    parameters = {n: p for n, p in model.own_parameters().items() if p.requires_grad}
    state, _ = load_checkpoint(run, parameters, torch.optim.AdamW(parameters.values()))
    return f"of step {state['step']:,}"


def _results(run: Path) -> str:
    if not (run / "results.json").is_file():
        return ""
    return f"scores of {_counted(read_results(run).cells, 'cell')}"


def _report(run: Path) -> str:
    path = run / "report.html"
    return f"{path.stat().st_size / 1000:,.0f} kB" if path.is_file() else ""


def _origin(run: Path) -> str:
    path = run / ORIGIN
    if not path.is_file():
        return ""
    origin = json.loads(path.read_text(encoding="utf-8"))
    return f"{_counted(origin['files'], 'file')} of {origin['checkpoint']}"


def _is_model_alone(run: Path) -> bool:
    """Whether nothing was trained here: a converted checkpoint, or a model that was saved."""
    return not any((run / name).is_file() for name in ("recipe.yaml", "versions.json"))


def _counted(things: Collection[object], noun: str) -> str:
    number = len(things)
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


_READERS: dict[str, Reader] = {
    "recipe.yaml": _recipe,
    "model.json, model.safetensors": _model,
    "versions.json": _versions,
    ORIGIN: _origin,
    "training.json": _training,
    "metrics.jsonl": _metrics,
    "embeddings.json": _embeddings,
    "checkpoint": _checkpoint,
    "results.json": _results,
    "report.html": _report,
}
