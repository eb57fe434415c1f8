"""What a method costs in parameters, for any number of tasks and languages.

Counts are of what is trained beside ordinary heads, which are the same for all methods, and the
encoder's LayerNorms, where they are trained. All of it has to be stored as well.

With the sizes of DESIGN: h hidden, L layers with adapters, b bottleneck, e embedding, p projected
source embedding, T tasks, N languages, E parameters of the encoder; one adapter has
A = 2hb + b + 3h (with a LayerNorm after it).
"""

from __future__ import annotations

from dataclasses import dataclass

from .heads.factorised import INNER, LATENT
from .hypernet.config import HypernetConfig
from .methods import Method, as_method

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
"""By method, at the default variant. With mad-x, T counts the tasks other than `mlm`. One encoder
serves all tasks with finetune and factorised; trained a task at a time there are T. The heads of
factorised are not ordinary: each has 401 numbers for one of theirs."""


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
    """Trained parameters, which are stored too.

    Attributes:
        total: of all tasks and languages.
        another_task, another_language: what one more adds.
    """

    total: int
    another_task: int
    another_language: int


def adapter_size(config: HypernetConfig, hidden: int) -> int:
    """Return the number of weights of one adapter, A, as a generator writes them.

    An ordinary LayerNorm is no generated weight, so it does not count here.
    """
    norms = (config.norm_before, config.norm_after).count("generated")
    return 2 * hidden * config.bottleneck + config.bottleneck + hidden + 2 * hidden * norms


def count(
    method: Method, config: HypernetConfig, sizes: Sizes, tasks: int, languages: int
) -> Count:
    """Count the parameters of a method.

    Args:
        method: its name.
        config: sizes and variants of the hypernetwork and its adapters.
        sizes: of the encoder.
        tasks: T; with mad-x, without `mlm`.
        languages: N, those with a vector or an adapter of their own.
    """

    def total(tasks: int, languages: int) -> int:
        match method:
            case "head":
                return 0
            case "finetune":
                return sizes.encoder
            case "factorised":
                trunk = (2 * LATENT + 1) * INNER + (INNER + 1) * INNER
                return sizes.encoder + 2 * LATENT * (tasks + languages) + trunk
            case "adapters":
                return tasks * sizes.layers * _ordinary(config, sizes.hidden)
            case "mad-x":
                return (tasks + languages) * sizes.layers * _ordinary(config, sizes.hidden)
            case _:
                return _hypernet(as_method(method, config), sizes, tasks, languages)

    now = total(tasks, languages)
    return Count(now, total(tasks + 1, languages) - now, total(tasks, languages + 1) - now)


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
