"""What lies in a run folder, what state it is in, and how files are written and read there.

A run is the folder that training a recipe makes. Every file of it is named here once. Files are
written whole or not at all, even if the power fails: beside their place first, forced onto the
disk, then renamed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import uuid
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import Problems, RunError, listed, nearest

if TYPE_CHECKING:
    from torch import Tensor

    Tensors = Mapping[str, Tensor]

RECIPE = "recipe.yaml"
MODEL, WEIGHTS = "model.json", "model.safetensors"
VERSIONS = "versions.json"
METRICS, LOG, TENSORBOARD = "metrics.jsonl", "log.txt", "tensorboard"
CHECKPOINT = "checkpoint"
"""The folder of the last checkpoints; each is a file, named by its step."""
TRAINING = "training.json"
"""Written last by training, so it says that the weights are there."""
EMBEDDINGS = "embeddings.json"
ADDED = "added.json"
"""The languages that were added after training, and how."""
TRUST = "trust.json"
"""What the expected scores of cells without test data rest on."""
EXAMPLES, RESULTS = "examples.json", "results.json"
REPORT = "report.html"
ONNX, ONNX_GRAPH = "onnx.json", "model.onnx"
"""Not of a run: what an export for onnxruntime holds, and its graph."""
ORIGIN = "converted.json"
"""Where a converted model came from."""
ERROR = "error.txt"
"""In the folder of a run of an experiment that failed: its output."""
LOCK = ".lock"
EXPERIMENT = "experiment.json"
"""Not of a run: the manifest of an experiment's folder."""
MOVED = "If the data of the run has moved, name its folder now: --set folder=…"
"""For errors about missing data."""

CHECKSUMS = "crc32"
"""In a weights file: the checksums of its tensors, as JSON."""

PUBLIC = (MODEL, WEIGHTS, RECIPE, RESULTS, TRUST, TRAINING, VERSIONS)
"""What of a run goes to the hub, and comes back from there."""


class RunState(StrEnum):
    """How far a run is, read off its folder."""

    MISSING = "missing"
    """There is nothing to continue."""
    INTERRUPTED = "training"
    """There is a checkpoint to resume from."""
    TRAINED = "trained"
    """The weights are there; there are no test results yet."""
    DONE = "done"
    """The results are there, with or without the weights."""
    FAILED = "failed"
    """It ended with an error, kept in error.txt."""


def run_state(folder: Path) -> RunState:
    """Return how far a run folder is."""
    if "cells" in read_json_or_empty(folder / RESULTS):
        return RunState.DONE
    if (folder / ERROR).is_file():
        return RunState.FAILED
    if is_trained(folder):
        return RunState.TRAINED
    return RunState.INTERRUPTED if checkpoints(folder) else RunState.MISSING


def is_trained(folder: Path) -> bool:
    """Whether a run folder holds its weights, and training came to its end."""
    return all((folder / name).is_file() for name in (WEIGHTS, TRAINING))


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a single run that was trained here, finished or not."""
    return all((folder / name).is_file() for name in (RECIPE, VERSIONS))


def checkpoints(run: Path) -> list[Path]:
    """Return the checkpoints of a run, the newest first. Reading tells whether one is whole."""
    files = sorted((run / CHECKPOINT).glob("[0-9]*.safetensors"), reverse=True)
    # Version 0.1 kept one as a folder; a crash between two renames left it under a second name.
    folders = (run / CHECKPOINT, run / f"{CHECKPOINT}.old")
    return files + [folder for folder in folders if (folder / "state.json").is_file()]


def local_run(path: Path) -> Path:
    """Return a path as it is; for the id of a model on the hub, where it was downloaded to.

    Raises:
        RunError: there is no such model on the hub, or it cannot be reached.
    """
    # Where its parent is a folder, a misspelt run is meant.
    if path.parent.is_dir() or not is_hub_id(path.as_posix()):
        return path
    return locate(path.as_posix(), None, (MODEL, WEIGHTS), PUBLIC)


def require_run(path: Path, *, finished: bool = False, recipe: bool = True) -> Path:
    """Return a run folder; that of a model's id on the hub is downloaded.

    Args:
        path: what the user named.
        finished: whether it must hold a trained model.
        recipe: whether it must hold its recipe, which a converted checkpoint lacks.

    Raises:
        RunError: it is something else; the message says what.
    """
    path = local_run(path)
    if (path / RECIPE).is_file():
        if finished and not (path / WEIGHTS).is_file():
            raise RunError(f"{path} is not finished. Resume it: hyperlect train --resume {path}")
        return path
    if (path / MODEL).is_file():
        if not recipe:
            return path
        raise RunError(
            f"{path} holds a model without a recipe: it was converted or saved, not trained here. "
            "Use it with `hyperlect predict` and `hyperlect check`; other commands need the "
            "recipe, which names the data."
        )
    if path.is_file():
        hint = f"Train it first: hyperlect train {path}" if is_yaml(path) else "Name a run folder."
        raise RunError(f"{path} is a {'recipe' if is_yaml(path) else 'file'}. {hint}")
    near = path if path.is_dir() else path.parent
    if not near.is_dir() or near == Path():
        near = Path("runs")
    runs = sorted(str(file.parent) for file in near.glob(f"*/{RECIPE}"))
    known = f"Runs there: {listed(runs, 10)}." if runs else "`hyperlect train RECIPE` makes one."
    what = f"{path} is not a run folder" if path.is_dir() else f"There is no run folder {path}"
    raise RunError(f"{what}.{nearest(str(path), runs) or f' {known}'}")


def require_unused(run: Path) -> None:
    """Raise `RunError` if a run folder to be made is a file, or holds something already."""
    if run.is_file() or (run.is_dir() and not all(map(is_beginning, run.iterdir()))):
        unfinished = is_run(run) and not is_trained(run)
        hint = f"Resume it with --resume {run}" if unfinished else "Remove it"
        raise RunError(f"{run} exists already. {hint}, or name another folder with --out.")


def is_beginning(path: Path) -> bool:
    """Whether a file may be left by a process that was killed before it wrote the recipe."""
    return path.name in (LOCK, VERSIONS) or path.suffix == ".partial"


def is_yaml(path: Path) -> bool:
    """Whether a path has the ending of a YAML file."""
    return path.suffix in (".yaml", ".yml")


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Hold a run folder for this process. A new one that is still empty afterwards is removed.

    Blocks may be nested: an experiment holds what it trains.

    Raises:
        RunError: another process, or thread, holds it.
    """
    from filelock import FileLock, Timeout

    is_new = not run.exists()
    with writing(run):
        make_folder(run)
        lock = FileLock(run.absolute() / LOCK, timeout=0, is_singleton=True)
        try:
            lock.acquire()
        except Timeout:
            raise RunError(f"Another process works on {run}. Wait for it, or stop it.") from None
    try:
        yield
    finally:
        outermost = lock.lock_counter == 1
        if outermost:
            # While it is held: another process could hold the file already that is removed then.
            with suppress(OSError):  # Windows removes no open file
                (run / LOCK).unlink()
        lock.release()
        if outermost and is_new and not any(run.iterdir()):  # nothing was written before an error
            run.rmdir()


def empty(run: Path) -> None:
    """Remove all that a run folder holds, but the lock held on it.

    Raises:
        RunError: something cannot be removed.
    """
    with writing(run):
        for path in run.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != LOCK:
                path.unlink()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failure to write into a `RunError` that names the path."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise RunError(f"{path} cannot be written: {reason}.") from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path to write to, and move the file from there to `path` at the end of the block.

    Its folder is made. Readers see the old content or the new one, never a part; so do those that
    come after a power cut.

    Raises:
        RunError: it cannot be written.
    """
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    with writing(path):
        make_folder(path.parent)
        try:
            yield partial
            sync(partial)
            partial.replace(path)
            sync(path.parent)
        finally:
            partial.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make a folder, with its parents, that outlasts a power cut."""
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        sync(folder.parent)


def sync(path: Path) -> None:
    """Force a file, or the names that a folder holds, from the memory of the system onto the disk.

    Raises:
        OSError: a file cannot be written, perhaps since the disk is full.
    """
    is_folder = path.is_dir()
    with suppress(OSError) if is_folder else nullcontext():  # Windows and some systems cannot
        descriptor = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all. Raises `RunError` if it cannot be written."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, data: object, indent: int | None = 1) -> None:
    """Write plain data as JSON, as `write_text` does."""
    write_text(path, json.dumps(data, ensure_ascii=False, indent=indent) + "\n")


def read_json(path: Path, remedy: str = "", version: int | None = None) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: the file.
        remedy: what to do if it cannot be read.
        version: the ``format_version`` it must have, which is taken out of the result.

    Raises:
        RunError: it is missing, malformed, or of another version.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(data, dict):
            raise ValueError("it is not a JSON object")
    except FileNotFoundError:
        raise RunError(f"{path} is missing. {remedy}".strip()) from None
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path} is malformed ({error}). {remedy}".strip()) from None
    if version is not None and (written := data.pop("format_version", None)) != version:
        newer = isinstance(written, int) and written > version
        hint = " A newer version wrote it: pip install --upgrade hyperlect" if newer else ""
        expected = f"this version of hyperlect reads {version}.{hint}"
        raise RunError(f"{path} has format_version {written}; {expected}")
    return data


def read_json_or_empty(path: Path) -> dict[str, Any]:
    """Read a JSON object; an empty one where the file is missing, cut off or something else."""
    try:
        return read_json(path)
    except (RunError, OSError):
        return {}


def read_events(
    path: Path, problems: Problems | None = None, tail: int | None = None
) -> Iterator[tuple[int, Any]]:
    """Yield the events of a log of training, each a JSON object with its step, and their lines.

    A last line that was cut off is passed over, since a crash or a look at a running training may
    show half of one.

    Args:
        path: of metrics.jsonl; it may be missing.
        problems: where other lines that hold no event are noted; else they are passed over, too.
        tail: how many bytes of its end are read, without `problems`; None for all.
    """
    lines = []
    if path.is_file():
        with path.open("rb") as file:
            file.seek(0 if tail is None else max(0, path.stat().st_size - tail))
            lines = file.read().splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            event = None
        if isinstance(event, dict) and isinstance(event.get("step"), int):
            yield number, event
        elif problems is not None and number < len(lines):
            problems.add("not an event of training. Remove the line.", number)


def save_tensors(tensors: Tensors, path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors to a safetensors file, whole or not at all; with some texts about them.

    A checksum of every tensor, and one of the texts, is written too. Equal tensors and texts give
    equal bytes.

    Raises:
        RunError: it cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    plain = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    texts = dict(metadata or {})
    texts[CHECKSUMS] = json.dumps(_checksums(plain, texts), sort_keys=True)
    with replacing(path) as partial:
        partial.touch()
        mode = partial.stat().st_mode
        try:
            save_file(plain, partial, texts)
        except SafetensorError as error:
            raise OSError(str(error)) from error
        with partial.open("r+b") as file:  # safetensors writes the texts in any order
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size))
            file.seek(8)
            options: Any = {"sort_keys": True, "separators": (",", ":"), "ensure_ascii": False}
            file.write(json.dumps(header, **options).encode().ljust(size))
        partial.chmod(mode)  # safetensors makes its files readable by their owner alone


def tensors_digest(tensors: Tensors) -> str:
    """Return the SHA-256 of tensors, with their names, types and shapes."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"/{name}/{tensor.dtype}/{tuple(tensor.shape)}/".encode())
        flat = tensor.detach().cpu().contiguous().view(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _checksums(tensors: Tensors, texts: Mapping[str, str]) -> dict[str, str]:
    """Return the CRC-32 of each tensor with its type and shape, and (without a name) of the texts.

    It finds damage of any sort, many times faster than a cryptographic digest. It is no seal.
    """
    import torch

    sums = {"": zlib.crc32(json.dumps(sorted(texts.items())).encode())}
    for name, tensor in tensors.items():
        form = zlib.crc32(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        sums[name] = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, form)
    return {name: f"{value:08x}" for name, value in sums.items()}


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file, as `load_tensors_and_metadata` does."""
    return load_tensors_and_metadata(path)[0]


def load_tensors_and_metadata(
    path: Path, checked: bool = False
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file, with the texts that `save_tensors` kept in it.

    Args:
        path: the file.
        checked: whether it must have checksums, which files of version 0.1 and of others lack.

    Raises:
        RunError: it is missing or cut off; or a tensor does not have the checksum that it was
            written with. Every one is named.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()  # not a mapping: it cannot be iterated over
            tensors, texts = {name: file.get_tensor(name) for name in names}, file.metadata() or {}
        written = json.loads(texts.pop(CHECKSUMS, "{}"))
        if not isinstance(written, dict):
            raise ValueError("its checksums are not a JSON object")
    except FileNotFoundError:
        raise RunError(f"{path} is missing.") from None
    # An unknown type of numbers is a KeyError.
    except (SafetensorError, ValueError, KeyError) as error:
        raise RunError(f"{path} is damaged: {error}. Copy it again.") from None
    problems = Problems(str(path))
    sums = _checksums(tensors, texts) if written or checked else {}
    for name in sorted(sums.keys() | written.keys()):
        if sums.get(name) != written.get(name):
            problems.add(f"{name or 'its metadata'} has another checksum")
    heading = f"{path} is damaged, or was changed after it was written. Copy it again:"
    problems.raise_if_any(RunError, heading)
    return tensors, texts


def load_exactly(target: Tensors, state: Tensors, file: str | Path = "") -> None:
    """Copy `state`, which is what `file` holds, into `target` in place; into shares, theirs.

    Raises:
        RunError: names are missing or unexpected, shapes differ, or there are whole numbers in
            place of others; every one is named.
    """
    import torch

    problems = Problems(str(file))
    for name in sorted(target.keys() - state.keys()):
        problems.add(f"{name} is missing")
    for name in sorted(state.keys() - target.keys()):
        problems.add(f"{name} is unexpected")
    for name in sorted(target.keys() & state.keys()):
        if target[name].shape != state[name].shape:
            shapes = f"{tuple(state[name].shape)}, not {tuple(target[name].shape)}"
            problems.add(f"{name} has the shape {shapes}")
        elif target[name].is_floating_point() != state[name].is_floating_point():
            problems.add(f"{name} has the type {state[name].dtype}, not {target[name].dtype}")
    problems.raise_if_any(RunError, "The tensors do not fit the model:")
    with torch.no_grad():
        for name, tensor in target.items():
            value: Any = state[name]
            share: Any = tensor
            if hasattr(share, "device_mesh") and not hasattr(value, "device_mesh"):
                from torch.distributed.tensor import distribute_tensor

                value = value.to(share.device)  # every process has the whole: nothing is sent
                layout = share.device_mesh, share.placements
                value = distribute_tensor(value, *layout, src_data_rank=None)
            tensor.copy_(value)


def locate(
    source: str | Path, revision: str | None, names: Sequence[str], more: Sequence[str] = ()
) -> Path:
    """Return the folder that holds the files of a saved model, downloaded if need be.

    Args:
        source: a folder, or a hub id (owner/name) where there is no such folder.
        revision: a branch, tag or commit on the hub.
        names: the files that must be there.
        more: files that are downloaded too, where they are on the hub.

    Raises:
        RunError: there is neither, or a file is missing.
    """
    folder = expanded(source)
    if not folder.exists() and is_hub_id(str(source)):
        folder = _download(str(source), revision, [*names, *more])
    for name in names:
        if not (folder / name).is_file():
            hint = "Name a folder that `hyperlect train` made."
            raise RunError(f"{source} holds no trained model: {name} is missing. {hint}")
    return folder


def expanded(path: str | Path) -> Path:
    """Return a path with ``~`` filled in; as it is where there is no such user."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 (pathlib's raises without a user)


def relative(path: str | Path, folder: str | Path) -> str:
    """Return a path relative to a folder; absolute where the two are on different drives."""
    folder = Path(folder).absolute()
    return os.path.relpath(path, folder) if Path(path).drive == folder.drive else str(path)


def is_hub_id(source: str) -> bool:
    """Whether a text has the form of a hub id, owner/name. A folder may have such a name too."""
    return re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", source) is not None


def hub_is_reachable(hub_id: str) -> bool:
    """Whether the hub answers, about this model or at all; asked once, without retries.

    The hub's client retries for half a minute for every file, even if the files are in its cache.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        HfApi().model_info(hub_id, timeout=5)
    except HfHubHTTPError:
        return True  # it answers that there is no such model, or no access
    except Exception:  # offline mode, or any error of the transport, which has no common class
        return False
    return True


def _download(hub_id: str, revision: str | None, names: Sequence[str]) -> Path:
    from huggingface_hub import snapshot_download

    reachable = hub_is_reachable(hub_id)
    options: Any = {"allow_patterns": list(names), "local_files_only": not reachable}
    try:
        return Path(snapshot_download(hub_id, revision=revision, **options))
    except (OSError, ValueError) as error:  # the base classes of what the hub's client raises
        reason = str(error).strip().split("\n")[0]
        if not reachable:
            reason = "The hub cannot be reached, and its local cache does not hold this model."
        raise RunError(f'There is no folder "{hub_id}". {reason}') from error
