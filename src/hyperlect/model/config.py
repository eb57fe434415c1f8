"""What makes a model besides its weights, as data."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from .. import languages as codes
from ..backbone import Backbone, load_backbone
from ..errors import BackboneError, RunError
from ..grid import Cell
from ..hypernet import HypernetConfig
from ..methods import METHODS, as_method, reads
from ..run_folder import write_json
from ..tasks import PARSERS, ParserForm, Task, TaskType

FORMAT_VERSION = 1


@dataclass(frozen=True)
class HyperXConfig:
    """Everything but weights that makes a model.

    Attributes:
        tasks: every task with its labels.
        languages: those that have a vector (with mad-x: an adapter) of their own, ISO 639-3.
        trained: the cells with training data, from which the kind of any cell follows; those of a
            run that training started from too.
        text_tasks: raw-text tasks of `trained` that are no longer among `tasks`.
        method: "hyperx"; or a baseline: "task-hypernet" or "language-hypernet" (conditioned on task
            and layer, or on language and layer only),
            "adapters" (one trained adapter a task), "mad-x" (one trained adapter a language, and
            one a task stacked on it), "head" (no adapters at all).
        hypernet: sizes and variants of the hypernetwork and its adapters.
        train_layer_norms: whether the backbone's LayerNorms are trained too.
        head_dropout: dropout before word- and sentence-level heads.
        parser: the form of parsing heads, "mlp" or "direct"; see `heads.ParserHead`.
        tied_decoder: whether `mlm` decodes with the backbone's word embeddings.
        max_length: the longest input in sub-words; longer sentences are split into windows. None
            for the backbone's own limit.

    Languages may be given in any usual form; they are kept as ISO 639-3. With the method
    "task-hypernet" the language is taken out of the hypernetwork's sources, with
    "language-hypernet" the task.

    Raises:
        ValueError: there is no such method or parser, a name is listed twice or cannot be a
            task's, or the hypernetwork reads a language and there is none.
        UnknownNameError: a language is not one.
    """

    tasks: tuple[Task, ...]
    languages: tuple[str, ...]
    trained: tuple[Cell, ...] = ()
    method: str = "hyperx"
    hypernet: HypernetConfig = field(default_factory=HypernetConfig)
    train_layer_norms: bool = False
    head_dropout: float = 0.1
    parser: ParserForm = "mlp"
    tied_decoder: bool = True
    max_length: int | None = None
    text_tasks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        languages = tuple(codes.resolve(code) for code in self.languages)
        trained = tuple(Cell(task, codes.resolve(code)) for task, code in self.trained)
        object.__setattr__(self, "languages", languages)
        object.__setattr__(self, "trained", trained)
        object.__setattr__(self, "hypernet", as_method(self.method, self.hypernet))
        faults = list(self._faults())
        if faults:
            raise ValueError("; ".join(faults))

    def _faults(self) -> Iterator[str]:
        if self.method not in METHODS:
            yield f'method must be one of {", ".join(METHODS)}, not "{self.method}"'
        if self.parser not in PARSERS:
            yield f'parser must be one of {", ".join(PARSERS)}, not "{self.parser}"'
        names = [task.name for task in self.tasks]
        for what, listed in (("task", names), ("language", self.languages)):
            for twice in sorted(name for name, count in Counter(listed).items() if count > 1):
                yield f'the {what} "{twice}" is listed twice'
        for name in names:
            # torch keeps the heads under their tasks' names, beside its own attributes.
            if not name or "." in name or hasattr(nn.ModuleDict(), name):
                yield f'a task cannot be called "{name}"'
        if reads(self.method, self.hypernet, "language") and not self.languages:
            yield "languages is empty, and the hypernetwork reads a language"
        if self.method == "mad-x" and all(task.type is TaskType.MLM for task in self.tasks):
            yield "mad-x needs a task besides masked language modelling"

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {**asdict(self), "hypernet": self.hypernet.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> HyperXConfig:
        """Read what `to_dict` wrote."""
        tasks = tuple(
            Task(t["name"], TaskType(t["type"]), tuple(t["labels"]), t["label_map"])
            for t in data["tasks"]
        )
        plain = {
            "languages": tuple(data["languages"]),
            "trained": tuple(Cell(*cell) for cell in data["trained"]),
            "hypernet": HypernetConfig(**data["hypernet"]),
            "text_tasks": tuple(data.get("text_tasks", ())),
        }
        return cls(**{**data, **plain, "tasks": tasks})


class Encoder(NamedTuple):
    """Which encoder a model was trained on.

    Attributes:
        reference, revision: what it is loaded from.
        digest: tells it from another that is there later; None where it is not known.
    """

    reference: str
    revision: str | None = None
    digest: str | None = None

    @classmethod
    def of(cls, backbone: Backbone) -> Encoder:
        """Return how a backbone is found, and known, again."""
        return cls(backbone.reference, backbone.revision, backbone.digest)

    def load(self, written: Path) -> Backbone:
        """Load it.

        Args:
            written: the file that names it, for the error where it has gone.

        Raises:
            BackboneError: it cannot be loaded.
        """
        try:
            return load_backbone(self.reference, self.revision)
        except BackboneError as error:
            raise BackboneError(
                f"{error} {written} names it: if it lies elsewhere by now, write its new place "
                "there, as the backbone's reference."
            ) from error

    def require(self, digest: str, source: object) -> None:
        """Raise `RunError` unless the encoder that was loaded is the one that `source` needs."""
        if self.digest is not None and digest != self.digest:
            raise RunError(
                f"{source} was trained on another encoder than {self.reference} is now: weights of "
                "the same shapes, with other values. Bring back the one it was trained on (on a "
                "hub an earlier revision), or train again."
            )


def write_config(path: Path, encoder: Encoder, config: HyperXConfig) -> None:
    """Write a model's JSON file: its encoder, and the configuration."""
    data = {
        "format_version": FORMAT_VERSION,
        "backbone": encoder._asdict(),
        **config.to_dict(),
    }
    write_json(path, data, indent=2)


def read_config(path: Path) -> tuple[Encoder, HyperXConfig]:
    """Read a model's JSON file.

    Returns:
        The model's encoder, and its configuration.

    Raises:
        RunError: the file is malformed, or of another format version.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        version = data.pop("format_version", None)
        if version != FORMAT_VERSION:
            raise RunError(
                f"{path} has format_version {version}; this hyperlect reads {FORMAT_VERSION}."
            )
        written = data.pop("backbone")
        encoder = Encoder(written["reference"], written["revision"], written.get("digest"))
        return encoder, HyperXConfig.from_dict(data)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        kind = type(error).__name__
        raise RunError(f"{path} is malformed ({kind}: {error}).") from error
