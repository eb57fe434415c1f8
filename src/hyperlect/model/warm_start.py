"""Beginning with the trained weights of another run, in place of random ones.

Both models must be made alike: the same encoder, method and sizes. Then a tensor of the new model
is that of the run of the same name. Where a tensor has a row for each task or language, rows are
matched by the names of these, whatever their order. The languages of the run are all kept, so the
new model is as good in them as further training leaves it; tasks that it does not have are left.

What the run does not have is new. A new language begins where `Inventory.language_source` says it
stood before: at the mean of the vectors of the run, or at zero where the run was trained with
`language_dropout`. All else, as a new task's vector and head, begins as it does in any new model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import Problems, RunError
from ..run_folder import load_tensors, locate
from ..tasks import Task, TaskType
from .config import Encoder, HyperXConfig, read_config
from .hyperx import CONFIG_FILE, WEIGHTS_FILE, HyperX
from .inventory import Inventory

_LANGUAGE_VECTORS = "adapters.source.embeddings.language"
# Tensors with a row for each task or language, by how their names begin.
_ROWS = {
    "adapters.source.embeddings.task": "task",
    _LANGUAGE_VECTORS: "language",
    "adapters.weights.": "task",
    "adapters.tasks.weights.": "task",
    "adapters.languages.weights.": "language",
    "latents.means.task": "task",
    "latents.log_variances.task": "task",
    "latents.means.language": "language",
    "latents.log_variances.language": "language",
}

# What a hypernetwork begins with, or is trained with, need not be as it was.
_FREE = ("initial_std", "embedding_std", "language_std", "language_dropout", "start")


@dataclass(frozen=True)
class Start:
    """A run to begin with.

    Attributes:
        source: where it is: a folder or a hub id.
        encoder: its encoder.
        config: of its model.
    """

    source: str
    encoder: Encoder
    config: HyperXConfig

    @classmethod
    def read(cls, source: str) -> Start:
        """Read what a run was made of; not yet its weights.

        Raises:
            RunError: there is no such run, or it is not finished.
        """
        encoder, config = read_config(locate(source, None, (CONFIG_FILE,)) / CONFIG_FILE)
        return cls(source, encoder, config)

    def require_fit(self, backbone: tuple[str, str | None], config: HyperXConfig) -> None:
        """Check that a model made of these can begin with the weights of the run.

        Raises:
            RunError: it cannot; all that differs is named.
        """
        problems = Problems()
        for fault in self._faults(backbone, config):
            problems.add(fault)
        problems.raise_if_any(RunError, f"Training cannot start from {self.source}:")

    def extended(self, config: HyperXConfig) -> HyperXConfig:
        """Add what the run knows already: its languages, and the cells that it was trained on.

        The kind of a cell so follows from all training that the model has had.
        """
        old, names = self.config, {task.name for task in config.tasks}
        text = [task.name for task in old.tasks if task.type is TaskType.MLM]
        return replace(
            config,
            languages=tuple(sorted({*old.languages, *config.languages})),
            trained=tuple(sorted({*old.trained, *config.trained})),
            text_tasks=tuple(sorted({*text, *old.text_tasks} - names)),
        )

    def _faults(self, backbone: tuple[str, str | None], config: HyperXConfig) -> Iterator[str]:
        old = self.config
        own = (self.encoder.reference, self.encoder.revision)
        if backbone != own:
            yield f"its backbone is {_reference(own)}, here it is {_reference(backbone)}"
        yield from _differing(old, config, ("method",), "its ")
        free = () if config.method == old.method else ("sources",)  # the method decides on these
        names = [n for n in vars(old.hypernet) if n not in (*_FREE, *free)]
        yield from _differing(old.hypernet, config.hypernet, names, "its hypernet.")
        if old.train_layer_norms and not config.train_layer_norms:
            yield "it has trained LayerNorms; set training.train_layer_norms: true"
        before = {task.name: task for task in old.tasks}
        shared = [task for task in config.tasks if task.name in before]
        for task in shared:
            yield from _differing(before[task.name], task, ("type",), f"its task {task.name}: ")
            if before[task.name].labels != task.labels:
                labels = _labels(before[task.name], task)
                yield f"the labels of the task {task.name} are others: {labels}"
        types = {task.type for task in shared}
        if TaskType.PARSING in types:
            yield from _differing(old, config, ("parser",), "its ")
        if TaskType.MLM in types:
            yield from _differing(old, config, ("tied_decoder",), "its ")


def _differing(
    old: object, new: object, names: tuple[str, ...] | list[str], what: str
) -> Iterator[str]:
    for name in names:
        was, now = getattr(old, name), getattr(new, name)
        if was != now:
            yield f"{what}{name} is {_shown(was)}, here it is {_shown(now)}"


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _reference(backbone: tuple[str, str | None]) -> str:
    return "@".join(part for part in backbone if part)


def _labels(old: Task, new: Task) -> str:
    """Say how the labels of a task differ, and what to do."""
    was, now = _as_written(old), _as_written(new)
    parts = [
        f"{what} {', '.join(labels)}"
        for what, labels in (
            ("without", [label for label in was if label not in now]),
            ("with", [label for label in now if label not in was]),
        )
        if labels
    ]
    how = " and ".join(parts) or "in another order"
    return f"{how}; write labels: [{', '.join(was)}]"


def _as_written(task: Task) -> list[str]:
    """Return the labels as a recipe lists them: of spans, the entity types."""
    if task.type is TaskType.SPANS:
        return [label[2:] for label in task.labels if label.startswith("B-")]
    return list(task.labels)


@torch.no_grad()
def warm_start(model: HyperX, start: Start) -> list[str]:
    """Give a new model the weights of a run wherever the run has them.

    Args:
        model: as it was made, on the CPU; its language rows and heads may be more or fewer.
        start: the run.

    Returns:
        What was taken over and what is new, with the names of the tensors, a line each.

    Raises:
        RunError: the run does not fit; everything that does not is named.
    """
    start.require_fit((model.backbone.reference, model.backbone.revision), model.config)
    start.encoder.require(model.backbone.digest, start.source)
    state = load_tensors(locate(start.source, None, (CONFIG_FILE, WEIGHTS_FILE)) / WEIGHTS_FILE)
    old, parameters = Inventory(start.config), model.own_parameters()
    problems, values, new = Problems(), dict[str, Tensor](), dict[str, list[str]]()
    for name, parameter in parameters.items():
        owner = _new_owner(name, old, model)
        if name in state:
            value = _matched(name, parameter, state[name], old, model, new)
            if value.shape == parameter.shape:
                values[name] = value
            else:
                shapes = f"{tuple(state[name].shape)}, which does not fit {tuple(parameter.shape)}"
                problems.add(f"{name} has the shape {shapes}")
        elif owner:
            new.setdefault(owner, []).append(name)
        else:
            problems.add(f"{name} is missing")
    for name in sorted(state.keys() - parameters.keys()):
        if not _head_of(name) or _head_of(name) in model.tasks:
            problems.add(f"{name} is unexpected")
    problems.raise_if_any(RunError, f"The weights of {start.source} do not fit the model:")
    for name, value in values.items():
        parameters[name].copy_(value)
    left = [name for name in old.tasks if name not in model.tasks]
    return [
        f"started from {start.source}: {len(values)} of {len(parameters)} tensors",
        *(f"new: {owner} ({', '.join(names)})" for owner, names in new.items()),
        *([f"left behind, so not in this run: the task {', '.join(left)}"] if left else []),
    ]


def _head_of(name: str) -> str:
    """Return the task whose head a tensor belongs to; empty where it is of no head."""
    return name.split(".")[1] if name.startswith("heads.") else ""


def _new_owner(name: str, old: Inventory, model: HyperX) -> str:
    """Say what a tensor that a run does not have belongs to; empty where it should have had it."""
    task = _head_of(name)
    if task and task not in old.tasks:
        return _as_new("task", task)
    norms = {f"backbone.encoder.{norm}" for norm, _ in model.backbone.layer_norms()}
    if name in norms and not old.config.train_layer_norms:
        return "LayerNorms, as the backbone has them"
    return ""


def _as_new(kind: str, owner: str) -> str:
    return f"the {kind} {owner}, as in a new model"


def _matched(
    name: str, own: Tensor, state: Tensor, old: Inventory, model: HyperX, new: dict[str, list[str]]
) -> Tensor:
    """Return what a tensor begins with: the run's own, row by row where rows have names.

    What is new is noted in `new`. Where shapes do not fit, the run's tensor comes back as it is.
    """
    kind = next((kind for beginning, kind in _ROWS.items() if name.startswith(beginning)), None)
    if kind is None:
        return state
    before, after = (list(m.adapted_tasks if kind == "task" else m.languages) for m in (old, model))
    if state.shape[1:] != own.shape[1:] or (len(state), len(own)) != (len(before), len(after)):
        return state
    value = own.clone()
    for row, owner in enumerate(after):
        if owner in before:
            value[row] = state[before.index(owner)]
        elif name == _LANGUAGE_VECTORS:
            value[row] = 0.0 if old.config.hypernet.language_dropout else state.mean(dim=0)
            begins = f"the language {owner}, at the {old.language_source(owner)}"
            new.setdefault(begins, []).append(name)
        else:
            new.setdefault(_as_new(kind, owner), []).append(name)
    return value
