"""What a model knows by name: its tasks, its languages, and the kinds of their cells."""

from __future__ import annotations

from collections.abc import Iterable

from .. import languages as codes
from ..errors import HyperlectError, Problems, unknown
from ..grid import Cell, Grid
from ..hypernet import UNTRAINED
from ..methods import not_applicable, reads
from ..tasks import Task, TaskType
from .config import HyperXConfig
from .generation import Index
from .scoring import generated_from_latents


class Inventory:
    """The tasks and languages of a configuration.

    Attributes:
        config: the configuration; tasks, languages and method are read from it once.
        tasks: by name.
        languages: those that have a vector (mad-x: an adapter) of their own, in the order of the
            vectors.
        adapted_tasks: those that have a vector, or an adapter: with mad-x all but `mlm`.
        grid: which cells were trained.
    """

    def __init__(self, config: HyperXConfig) -> None:
        self.config = config
        self.tasks: dict[str, Task] = {task.name: task for task in config.tasks}
        self.languages: list[str] = list(config.languages)
        text_tasks = [t.name for t in config.tasks if t.type is TaskType.MLM]
        self.grid = Grid(config.trained, [*text_tasks, *config.text_tasks])
        # The language adapters of mad-x model raw text by themselves.
        without = text_tasks if config.method == "mad-x" else ()
        self.adapted_tasks: list[str] = [name for name in self.tasks if name not in without]
        self._task_rows = {name: row for row, name in enumerate(self.adapted_tasks)}
        self._language_rows = {code: row for row, code in enumerate(self.languages)}
        # Asked for every row of every batch.
        self._reads = {
            source: reads(config.method, config.hypernet, source) for source in ("task", "language")
        }

    def task(self, name: str) -> Task:
        """Return a task of this model. Raises `UnknownNameError` that lists them."""
        if name not in self.tasks:
            raise unknown("task", name, self.tasks)
        return self.tasks[name]

    def language_code(self, language: str) -> str:
        """Return the ISO 639-3 code of a language. Raises `UnknownNameError` if it is none."""
        return language if language in self._language_rows else codes.resolve(language)

    def language_index(self, language: str) -> int:
        """Return the row of a language's vector, `UNTRAINED` where it has none of its own.

        Raises:
            UnknownNameError: it is not a language code at all.
        """
        return self._language_rows.get(self.language_code(language), UNTRAINED)

    def language_source(self, language: str) -> str:
        """Say whose vector stands for a language: its own, or which other.

        "not used" in models that read no language: most baselines. With mad-x, whether the
        language has an adapter of its own.
        """
        own = self.language_index(language) != UNTRAINED
        if not self.reads_language:
            return "not used"
        if self.config.method == "mad-x":
            return "own adapter" if own else "no adapter"
        if self.config.method == "factorised":
            return "own vector" if own and self._has_latent(language) else "zero vector"
        if own:
            return "own vector"
        dropped = self.config.hypernet.language_dropout > 0
        return "zero vector" if dropped else "mean of the trained languages"

    def _has_latent(self, language: str) -> bool:
        """Whether a language's latent vector was trained; the others stay at zero."""
        code = self.language_code(language)
        return any(
            cell.language == code and generated_from_latents(self.tasks[cell.task], self.config)
            for cell in self.grid.trained
            if cell.task in self.tasks
        )

    @property
    def reads_language(self) -> bool:
        """Whether a cell's weights depend on its language."""
        return self._reads["language"]

    def index(self, cell: Cell) -> Index:
        """Return the rows of a cell's task and language; cells of equal weights have equal ones.

        Raises:
            UnknownNameError: no such task, or no such language.
        """
        task = self._task_rows.get(self.task(cell.task).name, UNTRAINED)
        language = self.language_index(cell.language)
        return task if self._reads["task"] else 0, language if self.reads_language else UNTRAINED

    def not_applicable(self, cell: Cell) -> str | None:
        """Say why this model cannot have a score for a cell; None where it can."""
        cell = Cell(cell.task, self.language_code(cell.language))
        return not_applicable(self.config.method, self._language_rows, self.grid, cell)

    def require_applicable(self, cells: Iterable[Cell]) -> None:
        """Raise `HyperlectError` with every cell that this model has nothing for."""
        problems = Problems()
        for cell in dict.fromkeys(cells):
            if reason := self.not_applicable(cell):
                problems.add(f"{cell}: {reason}")
        problems.raise_if_any(
            HyperlectError,
            f"The method {self.config.method} does not apply. Train it with raw text in the "
            "language, or use another method:",
        )
