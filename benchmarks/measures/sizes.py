"""Parameters of every method, counted on models without memory (torch's meta device)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import torch
from transformers import BertConfig, BertModel

from hyperlect.backbone import Backbone
from hyperlect.hypernet import HypernetConfig
from hyperlect.model import HyperX, HyperXConfig
from hyperlect.tasks import Task, TaskType

TASKS = (1, 4)
LANGUAGES = (1, 10, 100, 1_000, 7_000)
UNREAD = ("heads.", "latents.log_variances.")
"""What is not counted as stored: heads come on top; prediction needs the means of latents alone."""


@dataclass(frozen=True)
class Setting:
    """An encoder of twelve BERT layers without a pooler, and the adapters in it.

    The layers of XLM-R are the same as BERT's; its vocabulary, positions and types are not.
    """

    hidden: int
    vocabulary: int
    hypernet: HypernetConfig
    positions: int = 512
    types: int = 2

    @property
    def backbone(self) -> Backbone:
        """The encoder, without memory."""
        config = BertConfig(
            vocab_size=self.vocabulary,
            hidden_size=self.hidden,
            intermediate_size=4 * self.hidden,
            max_position_embeddings=self.positions,
            type_vocab_size=self.types,
            num_attention_heads=12,
            num_hidden_layers=12,
        )
        with torch.device("meta"):
            return Backbone(BertModel(config, add_pooling_layer=False))

    @cached_property
    def encoder(self) -> int:
        """The number of the encoder's parameters, E."""
        return sum(parameter.numel() for parameter in self.backbone.parameters())


SETTINGS = {
    "mBERT": Setting(768, 119_547, HypernetConfig()),
    "XLM-R base": Setting(768, 250_002, HypernetConfig(), positions=514, types=1),
    "builtin:e5-small": Setting(384, 250_037, HypernetConfig(bottleneck=64, projection=32)),
}


def model(setting: Setting, method: str, tasks: Sequence[Task], languages: Sequence[str]) -> HyperX:
    """Build a model without memory."""
    config = HyperXConfig(tuple(tasks), tuple(languages), method=method, hypernet=setting.hypernet)
    with torch.device("meta"):
        return HyperX(setting.backbone, config)


@dataclass(frozen=True)
class Count:
    """Parameters of all tasks and languages, without heads.

    Attributes:
        trained: those that training changes.
        stored: those of them that have to be kept beside the frozen encoder to serve every cell;
            where the encoder itself is trained, in its place.
    """

    trained: int
    stored: int

    def __add__(self, other: Count) -> Count:
        return Count(self.trained + other.trained, self.stored + other.stored)

    def __sub__(self, other: Count) -> Count:
        return self + -1 * other

    def __rmul__(self, factor: int) -> Count:
        return Count(factor * self.trained, factor * self.stored)


@cache
def _built(setting: Setting, method: str, tasks: int, languages: int) -> Count:
    named = [Task(f"task{number}", TaskType.TAGGING, ("A",)) for number in range(tasks)]
    codes = ("deu", "eng", "fra")[:languages]
    parameters = model(setting, method, named, codes).own_parameters()
    trained = sum(p.numel() for name, p in parameters.items() if not name.startswith("heads."))
    stored = sum(p.numel() for name, p in parameters.items() if not name.startswith(UNREAD))
    return Count(trained, stored)


def per_language(setting: Setting, method: str) -> Count:
    """Return what one more language adds."""
    return _built(setting, method, 1, 2) - _built(setting, method, 1, 1)


def per_task(setting: Setting, method: str) -> Count:
    """Return what one more task adds, apart from its head."""
    return _built(setting, method, 2, 1) - _built(setting, method, 1, 1)


def count(setting: Setting, method: str, tasks: int, languages: int) -> Count:
    """Count one model; every count is linear in tasks and in languages."""
    first = _built(setting, method, 1, 1)
    of_tasks = (tasks - 1) * per_task(setting, method)
    return first + of_tasks + (languages - 1) * per_language(setting, method)


def stored_apart(setting: Setting, method: str, tasks: int, languages: int) -> int:
    """Count what has to be stored where every task is trained by itself: a model for each.

    Of mad-x one set of language adapters serves them all.
    """
    if method == "mad-x":
        return count(setting, method, tasks, languages).stored
    return tasks * count(setting, method, 1, languages).stored


def title(encoder: str) -> str:
    """Return the encoder with the sizes of its adapters."""
    config = SETTINGS[encoder].hypernet
    return f"{encoder}, b = {config.bottleneck}, p = {config.projection}"
