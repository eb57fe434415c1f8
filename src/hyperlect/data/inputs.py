"""What is predicted for: the forms that inputs may have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..errors import DataError, Problems
from ..tasks import Task, TaskType
from .words import split_words


def checked_inputs(inputs: Sequence[Any], tasks: Sequence[Task]) -> list[Any]:
    """Check the form of inputs, and give them as `encoding.encode_inputs` takes them.

    Args:
        inputs: a text or a list of words each; two texts for pairs.
        tasks: the task of each.

    Returns:
        A list of words for word-level tasks (a text is split), two texts for pairs, and else a
        text (words are joined by spaces).

    Raises:
        DataError: inputs of other forms, or without words; names every one, counted from 0.
    """
    given = []
    problems = Problems()
    for number, (item, task) in enumerate(zip(inputs, tasks, strict=True)):
        try:
            given.append(_checked(item, task))
        except DataError as error:
            problems.add(f"input {number}: {error}")
    problems.raise_if_any(DataError, "Some inputs cannot be used:")
    return given


def _checked(item: object, task: Task) -> Any:
    single = isinstance(item, str | bytes | Mapping) or not isinstance(item, Iterable)
    parts: list[Any] = [item] if single else list(item)  # type: ignore[call-overload]
    for part in parts:
        if not isinstance(part, str):
            raise DataError(f"{part!r:.40} ({type(part).__name__}) is not a text")
    if task.type is TaskType.PAIRS:
        if len(parts) != 2:
            raise DataError(f'the task "{task.name}" takes two texts at a time')
        return tuple(parts)
    if not task.type.reads_words:
        return " ".join(parts)
    words = split_words(item) if isinstance(item, str) else parts
    if not words:
        raise DataError("it holds no word; leave empty lines out")
    return words
