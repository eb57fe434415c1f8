"""What a method costs in parameters, for any number of tasks and languages.

`count` is of all but heads, `head_size` of a task's head; neither holds the encoder's LayerNorms,
where a recipe trains them too. Nothing is made: it is arithmetic on configurations.

In the formulas h is the hidden size, L the number of layers with adapters, b the bottleneck, e the
size of an embedding, p that of the projected source embedding, T tasks, N languages, E the
parameters of the encoder; an adapter, with a LayerNorm after it, has A = 2hb + b + 3h.
"""

from __future__ import annotations

from dataclasses import dataclass

from .heads.factorised import INNER, LATENT
from .heads.parser import ARC_SIZE, RELATION_SIZE
from .hypernet.config import HypernetConfig
from .methods import Method, as_method
from .tasks import ParserForm, Task, TaskType

FORMULAS: dict[Method, str] = {
    "hyperx": "(p + 1)·A + (T + N + L)·e + 3·e·(3·e + 1) + p·(3·e + 1)",
    "task-hypernet": "(p + 1)·A + (T + L)·e + 2·e·(2·e + 1) + p·(2·e + 1)",
    "language-hypernet": "(p + 1)·A + (N + L)·e + 2·e·(2·e + 1) + p·(2·e + 1)",
    "adapters": "T·L·A",
    "mad-x": "(T + N)·L·A",
    "finetune": "E",
    "factorised": "E + 200·(T + N) + 240800",
    "head": "0",
}
"""What is trained, by method, at the default variant and with one model for all tasks. With mad-x,
T counts the tasks other than `mlm`."""

STORED: dict[Method, str] = {**FORMULAS, "factorised": "E + 100·(T + N) + 240800"}
"""What has to be kept. Of the latent vectors of factorised, prediction reads the means alone."""

APART: dict[Method, str] = {
    "hyperx": "T·[(p + 1)·A + (1 + N + L)·e + 3·e·(3·e + 1) + p·(3·e + 1)]",
    "task-hypernet": "T·[(p + 1)·A + (1 + L)·e + 2·e·(2·e + 1) + p·(2·e + 1)]",
    "language-hypernet": "T·[(p + 1)·A + (N + L)·e + 2·e·(2·e + 1) + p·(2·e + 1)]",
    "adapters": "T·L·A",
    "mad-x": "(T + N)·L·A",
    "finetune": "T·E",
    "factorised": "T·[E + 100·(1 + N) + 240800]",
    "head": "0",
}
"""What has to be kept where every task is trained by itself: a model for each. Of mad-x one set of
language adapters serves them all."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of an encoder.

    Attributes:
        hidden: h.
        layers: how many of its layers have adapters, L.
        encoder: its parameters, or those of the layers that are trained, E.
    """

    hidden: int
    layers: int
    encoder: int


@dataclass(frozen=True)
class Count:
    """Parameters of all tasks and languages, without heads.

    Attributes:
        trained: those that training changes.
        stored: those of them that have to be kept beside the frozen encoder to serve every cell;
            where the encoder itself is trained, in its place.
        per_language, per_task: what one more adds to `stored`.
    """

    trained: int
    stored: int
    per_language: int
    per_task: int


def adapter_size(config: HypernetConfig, hidden: int) -> int:
    """Return the number of weights of one adapter, A, as a generator writes them.

    An ordinary LayerNorm is no generated weight, so it does not count here.
    """
    norms = (config.norm_before, config.norm_after).count("generated")
    return 2 * hidden * config.bottleneck + config.bottleneck + hidden + 2 * hidden * norms


def count(
    method: Method,
    config: HypernetConfig,
    sizes: Sizes,
    tasks: int,
    languages: int,
    *,
    apart: bool = False,
) -> Count:
    """Count the parameters of a method.

    Args:
        method: its name.
        config: sizes and variants of the hypernetwork and its adapters.
        sizes: of the encoder.
        tasks: T; with mad-x, without `mlm`.
        languages: N, those with a vector or an adapter of their own.
        apart: whether every task is trained by itself, as in single-task settings, so that T models
            have to be kept. Of mad-x one set of language adapters serves them all.
    """

    def total(tasks: int, languages: int, keep: bool) -> int:
        if apart and method != "mad-x":
            return tasks * _model(method, config, sizes, 1, languages, keep)
        return _model(method, config, sizes, tasks, languages, keep)

    stored = total(tasks, languages, True)
    return Count(
        trained=total(tasks, languages, False),
        stored=stored,
        per_language=total(tasks, languages + 1, True) - stored,
        per_task=total(tasks + 1, languages, True) - stored,
    )


def head_size(
    task: Task,
    hidden: int,
    vocabulary: int,
    *,
    method: Method = "hyperx",
    parser: ParserForm = "mlp",
    tied: bool = True,
) -> int:
    """Count the parameters of a task's head, all of which are trained and stored.

    Args:
        task: with its labels.
        hidden: h.
        vocabulary: the encoder's, which `mlm` predicts.
        method: with factorised, classifiers are made by a head, which is larger.
        parser: the form of parsing heads.
        tied: whether `mlm` decodes with the encoder's word embeddings.
    """
    labels = len(task.labels)
    if task.type is TaskType.MLM:
        return (hidden + 3) * hidden + vocabulary * (1 if tied else hidden + 1)
    if task.type is TaskType.PARSING:
        direct = parser == "direct"
        arc, relation = (hidden, hidden) if direct else (ARC_SIZE, RELATION_SIZE)
        perceptrons = 0 if direct else 2 * (arc + relation) * (hidden + 1)
        return perceptrons + (arc + 1) * arc + labels * (relation + 1) ** 2
    return labels * (hidden + 1) * (INNER + 1 if method == "factorised" else 1)


def _model(
    method: Method, config: HypernetConfig, sizes: Sizes, tasks: int, languages: int, keep: bool
) -> int:
    """Count one model: what is trained, or with `keep` only what prediction reads."""
    match method:
        case "head":
            return 0
        case "finetune":
            return sizes.encoder
        case "factorised":
            latents = (tasks + languages) * LATENT * (1 if keep else 2)  # means, and variances
            return sizes.encoder + latents + (2 * LATENT + 1) * INNER + (INNER + 1) * INNER
        case "adapters":
            return tasks * sizes.layers * _ordinary(config, sizes.hidden)
        case "mad-x":
            return (tasks + languages) * sizes.layers * _ordinary(config, sizes.hidden)
        case _:
            return _hypernet(as_method(method, config), sizes, tasks, languages)


def _ordinary(config: HypernetConfig, hidden: int) -> int:
    """One adapter that is trained directly: its LayerNorms are its own, of either kind."""
    norms = sum(kind != "none" for kind in (config.norm_before, config.norm_after))
    return 2 * hidden * config.bottleneck + config.bottleneck + hidden + 2 * hidden * norms


def _hypernet(config: HypernetConfig, sizes: Sizes, tasks: int, languages: int) -> int:
    counts = {"task": tasks, "language": languages, "layer": sizes.layers}
    source = sum(counts[name] * config.size_of(name) for name in config.sources)
    if config.projection is not None:
        inner = config.source_hidden or config.concatenated
        source += (config.concatenated + 1) * inner + (inner + 1) * config.projection
    generators = 1 if "layer" in config.sources else sizes.layers
    ordinary = (config.norm_before, config.norm_after).count("ordinary")
    written = (config.source_size + 1) * adapter_size(config, sizes.hidden)
    return source + generators * (written + 2 * sizes.hidden * ordinary)
