from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hyperlect.data.readers import Source, read
from hyperlect.errors import DataError, Problem

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a text (or bytes) to a file of a folder of the test's own; return its path."""

    def write_file(content: str | bytes, name: str = "data.file") -> str:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return write_file


def problems(source: Source, word_level: bool = False) -> tuple[Problem, ...]:
    """Read what cannot be read, and return what is wrong with it."""
    with pytest.raises(DataError) as error:
        read(source, word_level)
    assert error.value.problems
    return error.value.problems


def places(source: Source, word_level: bool = False) -> list[int | str | None]:
    """Return the lines (or else keys) of all problems of a source, which are all in its file."""
    every = problems(source, word_level)
    assert {problem.file for problem in every} == {str(source)}
    return [problem.key or problem.line for problem in every]
