"""Everything but weights that makes a model, as data; and what follows from it by name."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from .. import languages as codes
from ..backbone import Backbone, load_backbone
from ..data.typology import URIEL
from ..errors import BackboneError, HyperlectError, Problems, RunError, UnknownNameError, unknown
from ..grid import Cell, Grid
from ..hypernet import UNTRAINED, HypernetConfig
from ..hypernet.config import Source
from ..methods import METHODS, as_method, not_applicable, reads
from ..run_folder import read_json, relative, write_json
from ..tasks import PARSERS, ParserForm, Task, TaskType, task_type
from .features import FeatureSource

FORMAT_VERSION = 1
_ODD_VALUES = (
    ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError,
)  # fmt: skip


@dataclass(frozen=True)
class HyperXConfig:
    """Everything but weights that makes a model.

    Attributes:
        tasks: every task with its labels.
        languages: those with a vector (mad-x: an adapter) of their own, ISO 639-3.
        trained: the cells with training data, from which the kind of any cell follows. Those of a
            run that training started from are included.
        method: "hyperx" or a baseline: "task-hypernet" and "language-hypernet" (conditioned on task
            and layer, or on language and layer), "adapters" (one trained adapter for each task),
            "mad-x" (one for each language, and one for each task stacked on it), "finetune" and
            "factorised" (the encoder itself is trained), "head" (no adapters).
        hypernet: sizes and variants of the hypernetwork and its adapters.
        train_layer_norms: whether the backbone's LayerNorms are trained too.
        head_dropout: dropout before word- and sentence-level heads.
        parser: the form of parsing heads, "mlp" or "direct"; see `heads.ParserHead`.
        tied_decoder: whether `mlm` decodes with the backbone's word embeddings.
        max_length: the longest input in sub-words; longer sentences are split into windows. None
            for the backbone's own limit.
        text_tasks: raw-text tasks of `trained` that are no longer among `tasks`.
        added: the languages whose vector did not come from training with all others, and where it
            comes from.
        changed: the cells with a change of their adapter weights; see `HyperX.change_cell`.
        language_features: where the features of languages come from, if their vectors have a base.

    Languages may come in any usual form and are kept as ISO 639-3. With the method "task-hypernet"
    the language is removed from the hypernetwork's sources, with "language-hypernet" the task.

    Raises:
        ValueError: there is no such method or parser, a name is listed twice or cannot be a
            task's, or the hypernetwork reads a language and none is listed.
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
    added: Mapping[str, str] = field(default_factory=dict)
    changed: tuple[Cell, ...] = ()
    language_features: FeatureSource | None = None

    def __post_init__(self) -> None:
        languages = tuple(codes.resolve(code) for code in self.languages)
        trained = tuple(Cell(task, codes.resolve(code)) for task, code in self.trained)
        object.__setattr__(self, "languages", languages)
        object.__setattr__(self, "trained", trained)
        object.__setattr__(self, "hypernet", as_method(self.method, self.hypernet))
        if problems := "; ".join(self._problems()):
            raise ValueError(problems)

    def _problems(self) -> Iterator[str]:
        if self.method not in METHODS:
            yield f'method must be one of {", ".join(METHODS)}, not "{self.method}"'
        if self.parser not in PARSERS:
            yield f'parser must be one of {", ".join(PARSERS)}, not "{self.parser}"'
        names = [task.name for task in self.tasks]
        for what, listed in (("task", names), ("language", self.languages)):
            for twice in sorted(name for name, count in Counter(listed).items() if count > 1):
                yield f'the {what} "{twice}" is listed twice'
        for name in names:
            # torch keeps the heads under their tasks' names, beside its own attributes. Neither
            # names of files nor cells (task:language) may come apart at a task's name.
            odd = not name.isprintable() or any(sign in name for sign in "./\\:")
            if not name or odd or hasattr(nn.ModuleDict(), name):
                yield f'a task cannot be called "{name}"'
        if self.reads("language") and not self.languages:
            yield "languages is empty, and the hypernetwork reads a language"
        if self.has_base and self.language_features is None:
            yield "hypernet.language_base needs language_features, which say where they come from"
        if self.method == "mad-x" and all(task.type is TaskType.MLM for task in self.tasks):
            yield "mad-x needs a task other than masked language modelling"

    @cached_property
    def task_names(self) -> dict[str, Task]:
        """The tasks by name."""
        return {task.name: task for task in self.tasks}

    @cached_property
    def grid(self) -> Grid:
        """Which cells were trained."""
        text_tasks = [task.name for task in self.tasks if task.type is TaskType.MLM]
        return Grid(self.trained, [*text_tasks, *self.text_tasks])

    @cached_property
    def adapted_tasks(self) -> list[str]:
        """The tasks with a vector or an adapter: all, but with mad-x not `mlm`.

        The language adapters of mad-x model raw text by themselves.
        """
        skipped = self.grid.text_tasks if self.method == "mad-x" else ()
        return [task.name for task in self.tasks if task.name not in skipped]

    @cached_property
    def _rows(self) -> tuple[dict[str, int], dict[str, int], bool, bool]:
        """The rows of tasks and languages, and whether the method reads each; asked constantly."""
        task_rows = {name: row for row, name in enumerate(self.adapted_tasks)}
        language_rows = {code: row for row, code in enumerate(self.languages)}
        return task_rows, language_rows, self.reads("task"), self.reads("language")

    def reads(self, source: Source) -> bool:
        """Whether a cell's weights depend on its task, or on its language."""
        return reads(self.method, self.hypernet, source)

    @property
    def has_base(self) -> bool:
        """Whether language vectors have a base, made from features of the languages."""
        method = METHODS.get(self.method)
        return method is not None and method.chosen_by is None and self.hypernet.has_base

    def factorises(self, task: Task) -> bool:
        """Whether a task's head is generated from latent vectors of the task and the language."""
        ordinary = (TaskType.MLM, TaskType.PARSING)
        return self.method == "factorised" and task.type not in ordinary

    def task(self, name: str) -> Task:
        """Return a task. Raises `UnknownNameError` that lists them."""
        if name not in self.task_names:
            raise unknown("task", name, self.task_names)
        return self.task_names[name]

    def language_code(self, language: str) -> str:
        """Return the ISO 639-3 code of a language. Raises `UnknownNameError` if it is not one."""
        return language if language in self._rows[1] else codes.resolve(language)

    def language_index(self, language: str) -> int:
        """Return the row of a language's vector, `UNTRAINED` if it has none of its own.

        Raises:
            UnknownNameError: it is not a language code at all.
        """
        return self._rows[1].get(self.language_code(language), UNTRAINED)

    def language_source(self, language: str) -> str:
        """Return whose vector represents a language: its own, or which other.

        It is "not used" in models that read no language: most baselines. With mad-x, it says
        whether the language has an adapter of its own.
        """
        trained = self.language_index(language) != UNTRAINED
        if not self._rows[3]:  # asked for every input
            return "not used"
        if source := self.added.get(self.language_code(language)):
            return source
        if self.method == "mad-x":
            return "own adapter" if trained else "no adapter"
        if self.method == "factorised":
            code = self.language_code(language)
            heads = {task.name for task in self.tasks if self.factorises(task)}
            trained = any(c.language == code and c.task in heads for c in self.trained)
        if trained:
            return "own vector"
        if self.has_base and self.hypernet.language_base == "features":
            return "base of average features"
        return "zero vector" if self.untrained_is_zero else "mean of the trained languages"

    @property
    def untrained_is_zero(self) -> bool:
        """Whether a zero row stands for a language without one, and not the mean of all rows."""
        if self.has_base:  # a row that is added to what the features say, or else a mean
            return self.hypernet.language_base == "features"
        return self.method in ("factorised", "mad-x") or self.hypernet.language_dropout > 0

    def index(self, cell: Cell) -> tuple[int, int]:
        """Return the rows of a cell's task and language; cells of equal weights have equal ones.

        Raises:
            UnknownNameError: there is no such task, or no such language.
        """
        task_rows, _, reads_task, reads_language = self._rows
        task = task_rows.get(self.task(cell.task).name, UNTRAINED)
        language = self.language_index(cell.language)
        return task if reads_task else 0, language if reads_language else UNTRAINED

    def not_applicable(self, cell: Cell) -> str | None:
        """Say why this model cannot score a cell; None if it can."""
        cell = Cell(cell.task, self.language_code(cell.language))
        return not_applicable(self.method, self.languages, self.grid, cell)

    def require_applicable(self, cells: Iterable[Cell]) -> None:
        """Raise `HyperlectError` with every cell that this model has nothing for."""
        problems = Problems()
        for cell in dict.fromkeys(cells):
            if reason := self.not_applicable(cell):
                problems.add(reason, key=str(cell))
        problems.raise_if_any(
            HyperlectError,
            f"The method {self.method} does not apply. Train it with raw text in the language, or "
            "use another method:",
        )

    def cells(
        self, task: str | Sequence[str], language: str | Sequence[str], count: int, each: str
    ) -> list[Cell]:
        """Pair tasks and languages, each one name for all rows or one name for each row.

        Args:
            task, language: the names.
            count: the number of rows.
            each: what errors call a row.

        Raises:
            UnknownNameError: a name is not known; every such row is named, counted from 0.
            HyperlectError: there are more or fewer names than rows, or something else than names.
        """
        problems = Problems()
        columns = []
        checks = (("task", task, self.task), ("language", language, self.language_code))
        for what, names, check in checks:
            if isinstance(names, str):
                check(names)
                names = [names] * count
            if not isinstance(names, Sequence) or not all(isinstance(n, str) for n in names):
                raise HyperlectError(f"{what} must be a name or a list of names, not {names!r}.")
            if len(names) != count:
                raise HyperlectError(
                    f"The number of {what} names must be that of the {each}s, {count}, not "
                    f"{len(names)}."
                )
            for name in dict.fromkeys(names):
                try:
                    check(name)
                except UnknownNameError as error:
                    rows = [str(row) for row, other in enumerate(names) if other == name]
                    plural = "s" if len(rows) > 1 else ""
                    problems.add(str(error), key=f"{each}{plural} {', '.join(rows)}")
            columns.append(names)
        problems.raise_if_any(UnknownNameError, f"Some {each}s cannot be used:")
        return [Cell(*names) for names in zip(*columns, strict=True)]

    @property
    def digest(self) -> str:
        """A digest of what gives the weights their meaning: tasks, labels, languages, in order."""
        tasks = [(task.name, task.type, task.labels) for task in self.tasks]
        return hashlib.sha256(json.dumps([tasks, self.languages]).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        # How data is marked (scheme, unlabelled) is a matter of the recipe, not of the model.
        kept = ("name", "type", "labels", "label_map")
        tasks = [{key: getattr(task, key) for key in kept} for task in self.tasks]
        return {**asdict(self), "tasks": tasks, "hypernet": self.hypernet.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> HyperXConfig:
        """Read the output of `to_dict`, of earlier versions too."""
        features = data.get("language_features")
        changes = {
            "tasks": tuple(
                Task(**{**task, "type": task_type(task["type"]), "labels": tuple(task["labels"])})
                for task in data["tasks"]
            ),
            "languages": tuple(data["languages"]),
            "trained": tuple(Cell(*cell) for cell in data["trained"]),
            "hypernet": HypernetConfig.from_dict(data["hypernet"]),
            "text_tasks": tuple(data.get("text_tasks", ())),
            "changed": tuple(Cell(*cell) for cell in data.get("changed", ())),
            "language_features": features and FeatureSource(**features),
        }
        return cls(**{**data, **changes})


class Configured:
    """What a model says of its tasks and languages: it follows from the configuration."""

    config: HyperXConfig

    @property
    def tasks(self) -> dict[str, Task]:
        """The tasks by name."""
        return self.config.task_names

    @property
    def languages(self) -> list[str]:
        """The languages with a vector (mad-x: an adapter) of their own."""
        return list(self.config.languages)

    @property
    def grid(self) -> Grid:
        """Which cells were trained, and so the kind of any cell."""
        return self.config.grid

    def task(self, name: str) -> Task:
        """Return a task of this model. Raises `UnknownNameError` that lists them."""
        return self.config.task(name)

    def language_source(self, language: str) -> str:
        """Return whose vector represents a language; see `HyperXConfig.language_source`."""
        return self.config.language_source(language)


class EncoderReference(NamedTuple):
    """Which encoder a model was trained on.

    Attributes:
        reference, revision: where it is loaded from.
        digest: tells it from another encoder that lies there later; None if it is not known.
    """

    reference: str
    revision: str | None = None
    digest: str | None = None

    def load(self, path: Path) -> Backbone:
        """Load it.

        Args:
            path: the file that names it, for the error if it has moved.

        Raises:
            BackboneError: it cannot be loaded.
        """
        try:
            return load_backbone(self.reference, self.revision)
        except BackboneError as error:
            raise BackboneError(
                f"{error} {path} names it. If it has moved, write its new place there, as the "
                "backbone's reference."
            ) from error

    def require(self, backbone: Backbone, source: object) -> None:
        """Raise `RunError` unless the encoder that was loaded is the one that `source` needs."""
        if self.digest is not None and not backbone.has_digest(self.digest):
            raise RunError(
                f"{source} was trained on another encoder than {self.reference} is now: its shapes "
                "are the same and its values differ. Restore the one it was trained on (on a hub, "
                "an earlier revision), or train again."
            )


def write_config(path: Path, backbone: Backbone, config: HyperXConfig) -> None:
    """Write a model's JSON file: its encoder, and the configuration.

    The encoder's folder and the table of languages are named from the folder of the file, so that
    all can move together.
    """
    reference = backbone.reference
    if Path(reference).is_dir():
        reference = Path(relative(Path(reference).absolute(), path.parent)).as_posix()
    encoder = EncoderReference(reference, backbone.revision, backbone.digest)
    data = {"format_version": FORMAT_VERSION, "backbone": encoder._asdict(), **config.to_dict()}
    features = config.language_features
    if not config.changed:  # as before there were any
        del data["changed"]
    if features is None:
        del data["language_features"]
    elif features.typology not in (None, URIEL):
        file = relative(Path(str(features.typology)).absolute(), path.parent)
        data["language_features"]["typology"] = Path(file).as_posix()
    write_json(path, data, indent=2)


def config_digest(path: Path) -> str:
    """Return a digest of a model's JSON file, but for its encoder and where its typology lies.

    Raises:
        RunError: the file is malformed.
    """
    data = read_json(path)
    data.pop("backbone", None)
    if isinstance(features := data.get("language_features"), dict):
        features.pop("typology", None)
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def read_config(path: Path) -> tuple[EncoderReference, HyperXConfig]:
    """Read a model's JSON file.

    Returns:
        The model's encoder, and its configuration.

    Raises:
        RunError: the file is malformed, or of another format version.
    """
    data = read_json(path, version=FORMAT_VERSION)
    with malformed(path):
        encoder = data.pop("backbone")
        reference = encoder["reference"]
        folder = os.path.normpath(path.parent.absolute() / reference)
        reference = folder if Path(folder).is_dir() else reference
        encoder = EncoderReference(reference, encoder["revision"], encoder.get("digest"))
        features = data.get("language_features")
        if features and features["typology"] not in (None, URIEL):
            file = os.path.normpath(path.parent.absolute() / features["typology"])
            data["language_features"] = {**features, "typology": file}
        return encoder, HyperXConfig.from_dict(data)


@contextmanager
def malformed(path: Path) -> Iterator[None]:
    """Turn what odd values in a JSON file lead to into a `RunError` that names the file."""
    try:
        yield
    except RunError:
        raise
    except _ODD_VALUES as error:
        raise RunError(f"{path} is malformed ({type(error).__name__}: {error}).") from error
