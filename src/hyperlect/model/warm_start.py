"""Starting with the trained weights of another run, in place of random ones.

Both models must be built alike: the same encoder, method and sizes. Then each tensor of the new
model is that of the run with the same name. Where a tensor has a row for each task or language,
rows are matched by name, whatever their order. All languages of the run are kept, so the new model
is as good in them as further training leaves it; tasks that it does not have are dropped.

Everything else is new. A new language starts where `HyperXConfig.language_source` says it was
before: at the mean of the run's vectors, or at zero if the run was trained with `language_dropout`.
A new task's vector and head start as in any new model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import Problems, RunError
from ..run_folder import MODEL, WEIGHTS, load_exactly, load_tensors, locate
from ..tasks import TaskType
from .config import EncoderReference, HyperXConfig, read_config
from .hyperx import LANGUAGE_ROWS, HyperX

_LANGUAGE_VECTORS = "adapters.source.embeddings.language"
_TASK_VECTORS = "adapters.source.embeddings.task"
# Tensors with a row for each task or language, by the start of their names.
_ROWS = {
    **dict.fromkeys(LANGUAGE_ROWS, "language"),
    _TASK_VECTORS: "task",
    "adapters.weights.": "task",
    "adapters.base.weights.": "task",
    "adapters.tasks.weights.": "task",
    "latents.means.task": "task",
    "latents.log_variances.task": "task",
}

# Fields of the hypernetwork that only initialisation and training read.
_FREE = (
    "initial_std", "embedding_std", "language_std", "language_dropout", "base_dropout", "start",
)  # fmt: skip


@dataclass(frozen=True)
class Start:
    """A run to start from.

    Attributes:
        source: where it is: a folder or a hub id.
        encoder: its encoder.
        config: of its model.
    """

    source: str
    encoder: EncoderReference
    config: HyperXConfig

    @classmethod
    def read(cls, source: str) -> Start:
        """Read the configuration of a run, not yet its weights.

        Raises:
            RunError: there is no such run, or it is not finished.
        """
        encoder, config = read_config(locate(source, None, (MODEL,)) / MODEL)
        return cls(source, encoder, config)

    def require_fit(self, backbone: tuple[str, str | None], config: HyperXConfig) -> None:
        """Check that a model of this backbone and configuration can start with the run's weights.

        Raises:
            RunError: it cannot; every difference is named.
        """
        problems = Problems()
        for difference in self._differences(backbone, config):
            problems.add(difference)
        problems.raise_if_any(RunError, f"Training cannot start from {self.source}:")

    def extended(self, config: HyperXConfig) -> HyperXConfig:
        """Add the run's languages, and the cells that it was trained on.

        The kind of a cell then follows from all training that the model has had.
        """
        old, names = self.config, {task.name for task in config.tasks}
        text = [task.name for task in old.tasks if task.type is TaskType.MLM]
        return replace(
            config,
            languages=tuple(sorted({*old.languages, *config.languages})),
            trained=tuple(sorted({*old.trained, *config.trained})),
            text_tasks=tuple(sorted({*text, *old.text_tasks} - names)),
            added={c: s for c, s in old.added.items() if c not in config.languages},
            changed=tuple(cell for cell in old.changed if cell.task in names),
        )

    def _differences(self, backbone: tuple[str, str | None], config: HyperXConfig) -> Iterator[str]:
        old, encoder = self.config, (self.encoder.reference, self.encoder.revision)
        if backbone != encoder:
            old_name, new_name = ("@".join(filter(None, names)) for names in (encoder, backbone))
            yield f"its backbone is {old_name}, here it is {new_name}"
        yield from _differing(old, config, ["method"], "its ")
        fixed = () if config.method == old.method else ("sources",)  # the method decides on these
        names = [name for name in vars(old.hypernet) if name not in (*_FREE, *fixed)]
        yield from _differing(old.hypernet, config.hypernet, names, "its hypernet.")
        if config.has_base:
            yield from _differing(old, config, ["language_features"], "its ")
        if old.train_layer_norms and not config.train_layer_norms:
            yield "its LayerNorms are trained; set training.train_layer_norms: true"
        before = old.task_names
        shared = [task for task in config.tasks if task.name in before]
        for task in shared:
            yield from _differing(before[task.name], task, ["type"], f"its task {task.name}: ")
            if before[task.name].labels != task.labels:
                labels = ", ".join(before[task.name].listed_labels)
                yield f"the labels of {task.name} differ; write labels: [{labels}]"
        types = {task.type for task in shared}
        if TaskType.PARSING in types:
            yield from _differing(old, config, ["parser"], "its ")
        if TaskType.MLM in types:
            yield from _differing(old, config, ["tied_decoder"], "its ")


def _differing(old: object, new: object, names: Sequence[str], what: str) -> Iterator[str]:
    for name in names:
        before, now = getattr(old, name), getattr(new, name)
        if before != now:
            texts = [", ".join(map(str, v)) if isinstance(v, tuple) else v for v in (before, now)]
            yield f"{what}{name} is {texts[0]}, here it is {texts[1]}"


@torch.no_grad()
def warm_start(model: HyperX, start: Start) -> list[str]:
    """Give a new model the weights of a run wherever the run has them.

    Args:
        model: new, on the CPU; it may have more or fewer languages and heads.
        start: the run.

    Returns:
        What was copied and what is new, with the names of the tensors, a line each.

    Raises:
        RunError: the run does not fit; everything that does not is named.
    """
    start.require_fit((model.backbone.reference, model.backbone.revision), model.config)
    start.encoder.require(model.backbone, start.source)
    state = load_tensors(locate(start.source, None, (MODEL, WEIGHTS)) / WEIGHTS)
    old, parameters = start.config, model.own_parameters()
    dropped = [name for name in old.task_names if name not in model.tasks]
    values = {name: tensor for name, tensor in state.items() if _task_of(name) not in dropped}
    copied, new = 0, dict[str, list[str]]()
    for name, parameter in parameters.items():
        if name in values:
            values[name] = _matched(name, parameter, values[name], old, model.config, new)
            copied += 1
        elif owner := _new_owner(name, old, model):
            values[name] = parameter
            new.setdefault(owner, []).append(name)
    load_exactly(parameters, values, start.source)
    return [
        f"started from {start.source}: {copied} of {len(parameters)} tensors",
        *(f"new: {owner} ({', '.join(names)})" for owner, names in new.items()),
        *([f"not kept in this run: the task {', '.join(dropped)}"] if dropped else []),
    ]


def _task_of(name: str) -> str:
    """Return the task whose head or cell a tensor belongs to; empty if it belongs to none."""
    if name.startswith("changes."):
        return name.split(".")[1].partition("-")[2]
    return name.split(".")[1] if name.startswith("heads.") else ""


def _new_owner(name: str, old: HyperXConfig, model: HyperX) -> str:
    """Say what a tensor that a run lacks belongs to; empty if the run should have it."""
    task = _task_of(name)
    if task and task not in old.task_names:
        return f"the task {task}, as in a new model"
    norms = {f"backbone.encoder.{norm}" for norm, _ in model.backbone.layer_norms()}
    if name in norms and not old.train_layer_norms:
        return "LayerNorms, as the backbone has them"
    return ""


def _matched(
    name: str,
    parameter: Tensor,
    state: Tensor,
    old: HyperXConfig,
    config: HyperXConfig,
    new: dict[str, list[str]],
) -> Tensor:
    """Return the first value of a tensor: the run's, row by row where rows have names.

    New rows are noted in `new`. If shapes do not fit, the run's tensor is returned as it is.
    """
    kind = next((kind for prefix, kind in _ROWS.items() if name.startswith(prefix)), None)
    if kind is None:
        return state
    before, after = (
        list(c.adapted_tasks if kind == "task" else c.languages) for c in (old, config)
    )
    lengths = (len(state), len(parameter)) == (len(before), len(after))
    if state.shape[1:] != parameter.shape[1:] or not lengths:
        return state
    value = parameter.clone()
    for row, owner in enumerate(after):
        if owner in before:
            value[row] = state[before.index(owner)]
        elif name.startswith("adapters.source.base."):
            continue  # `HyperX.set_features` comes later
        elif name == _LANGUAGE_VECTORS:
            value[row] = 0.0 if old.untrained_is_zero else state.mean(dim=0)
            start = f"the language {owner}, at the {old.language_source(owner)}"
            new.setdefault(start, []).append(name)
        else:
            new.setdefault(f"the {kind} {owner}, as in a new model", []).append(name)
    return value
