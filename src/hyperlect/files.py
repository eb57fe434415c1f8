"""Writing files whole, and reading what may not be."""

from __future__ import annotations

import json
import uuid
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write a text file so that readers find all of it or what was there before.

    Several processes, on several machines, may write the same file: the last one's stays.
    """
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def write_json(path: Path, data: object, indent: int = 1) -> None:
    """Write plain data as a JSON file, as `write_whole` does."""
    write_whole(path, json.dumps(data, ensure_ascii=False, indent=indent) + "\n")


def read_object(path: Path) -> dict[str, object]:
    """Read a JSON object; an empty one where the file is gone, half written or something else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
