"""The cache: whatever takes time to make from data is made once and kept as Arrow files.

An entry is found by its key, which must hold everything that the entry depends on; entries are
never changed, so there is nothing to invalidate. The folder may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from ..errors import HyperlectError

if TYPE_CHECKING:
    from datasets import Dataset

ENVIRONMENT_VARIABLE = "HYPERLECT_CACHE"
_ROWS = "data-00000-of-00001.arrow"
"""The file of an entry that holds its rows, as `datasets` names it."""


def cache_dir() -> Path:
    """Return the cache folder: ``$HYPERLECT_CACHE``, or the user's cache folder of the system."""
    chosen = os.environ.get(ENVIRONMENT_VARIABLE)
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("hyperlect"))


def cached(key: object, build: Callable[[], Dataset], folder: Path) -> Dataset:
    """Load the data set that `key` names, building and keeping it at the first time.

    Several processes may ask for one key at once: each entry is written aside and moved into
    place as a whole, and whoever comes second takes what is there. An entry that cannot be loaded
    (a disk that was full, a file that was deleted) is built again.

    Args:
        key: all that the result depends on, as JSON values (mappings in any order).
        build: makes the data set.
        folder: where entries are kept; made if need be.

    Returns:
        The data set, mapped from disk.

    Raises:
        HyperlectError: the folder cannot be written.
    """
    text = json.dumps(key, sort_keys=True, ensure_ascii=False)
    entry = folder / hashlib.sha256(text.encode()).hexdigest()[:32]
    found = _load(entry)
    if found is not None:
        return found
    dataset = build()
    try:
        _keep(dataset, entry)
    except OSError as error:
        raise HyperlectError(
            f"The cache folder {folder} cannot be written ({error}). Make room there, or name "
            f"another folder in the environment variable {ENVIRONMENT_VARIABLE}."
        ) from error
    found = _load(entry)
    if found is None:
        raise HyperlectError(f"The cache entry {entry} cannot be read back. Delete it.")
    return found


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's content, for use in a key."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def quiet() -> Iterator[None]:
    """Keep ``datasets`` from drawing progress bars, and leave its setting as it was after."""
    import datasets

    were_disabled = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not were_disabled:
            datasets.enable_progress_bars()


def _load(entry: Path) -> Dataset | None:
    """Load an entry; ``None`` if there is none or it is damaged."""
    if not entry.is_dir():
        return None
    import datasets

    try:
        # one file, mapped as it is: load_from_disk reads two more, at three times the cost
        return datasets.Dataset.from_file(str(entry / _ROWS))
    except (OSError, ValueError, LookupError):  # what Arrow raises derives from these
        return None


def _keep(dataset: Dataset, entry: Path) -> None:
    entry.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".making-", dir=entry.parent) as scratch:
        made = Path(scratch) / "entry"
        with quiet():
            # An empty data set written without a number of shards cannot be loaded.
            dataset.save_to_disk(str(made), num_shards=1)
        try:
            made.rename(entry)
        except OSError:
            if _load(entry) is not None:  # another process was quicker
                return
            with suppress(OSError):
                entry.rename(Path(scratch) / "damaged")
            if entry.exists():
                shutil.rmtree(entry, ignore_errors=True)
            made.rename(entry)
