"""Claims: a file beside a run folder that says who is at work on it.

Two runners may share a folder, on one machine or over a network. A claim is stale when the
processes that it names are gone, where that can be known, or when nobody has renewed it for long.
"""

from __future__ import annotations

import json
import os
import platform
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock

from ..run_folder import read_json_or_empty, write_text

RENEW_EVERY = 15.0
"""Seconds between renewals."""
STALE_AFTER = 120.0
"""Seconds without a renewal after which whoever claimed a run on another machine is gone."""


@dataclass
class Claim:
    """A claim that this process holds.

    Attributes:
        path: the claim's file.
        token: tells this claim from any other.
        worker: the process that does the work, which may outlive this one.
    """

    path: Path
    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    worker: int | None = None

    def _text(self) -> str:
        pids = {"pid": os.getpid(), "worker": self.worker}
        began = {f"{name} began": _began(pid) for name, pid in pids.items() if pid is not None}
        return json.dumps({"host": host(), **pids, **began, "token": self.token}) + "\n"

    def work(self, worker: int) -> None:
        """Say which process does the work."""
        self.worker = worker
        if not self._is_lost():
            write_text(self.path, self._text())

    def renew(self) -> bool:
        """Say that the work goes on. False where another has taken the claim in the meantime."""
        if self._is_lost():
            return False
        with suppress(OSError):  # a file server may be out of reach for a while
            try:
                os.utime(self.path)
            except FileNotFoundError:
                write_text(self.path, self._text())
        return True

    def release(self) -> None:
        """Give the run free."""
        if not self._is_lost():
            self.path.unlink(missing_ok=True)

    def _is_lost(self) -> bool:
        """Whether another's claim is there; one that cannot be read proves nothing."""
        return read_json_or_empty(self.path).get("token", self.token) != self.token


def claim(folder: Path) -> Claim | None:
    """Claim a run for this process; None where another is at work on it.

    Args:
        folder: the run folder, which need not exist.
    """
    made = Claim(claim_path(folder))
    made.path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with made.path.open("x", encoding="utf-8") as file:
            file.write(made._text())
    except FileExistsError:
        if not is_stale(made.path):
            return None
        # Of several who find it stale the first to have the lock takes it, and the others see so.
        with FileLock(made.path.with_name(f".{made.path.name}.taken")):
            if not is_stale(made.path):
                return None
            write_text(made.path, made._text())
    return made


def is_claimed(folder: Path) -> bool:
    """Whether someone is at work on a run."""
    path = claim_path(folder)
    return path.exists() and not is_stale(path)


def claim_path(folder: Path) -> Path:
    """Return where the claim of a run folder lies."""
    return folder.with_name(f"{folder.name}.lock")


def is_stale(path: Path) -> bool:
    """Whether those who made a claim are gone."""
    who = read_json_or_empty(path)
    if who.get("host") == host():
        return not any(_is_alive(who.get(n), who.get(f"{n} began")) for n in ("pid", "worker"))
    try:
        renewed = path.stat().st_mtime
    except FileNotFoundError:
        return False  # given free just now; whoever asks again will see
    return _now(path.parent) - renewed > STALE_AFTER


def host() -> str:
    """Return a name for what numbers this process: the machine since it started, or a container."""
    try:
        space = Path("/proc/self/ns/pid").readlink()
        booted = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:  # no Linux
        return platform.node()
    return f"{platform.node()} {booted} {space}"


def _is_alive(pid: object, began: object) -> bool:
    """Whether a process is alive, and still the one that began at that time: numbers come again."""
    if not isinstance(pid, int):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    stat = _stat(pid)
    return not stat or (stat[0] != "Z" and began in (None, stat[19]))  # Z: ended, not waited for


def _began(pid: int) -> str | None:
    """Return when a process began, in ticks since the machine did; None where that is not told."""
    stat = _stat(pid)
    return stat[19] if stat else None


def _stat(pid: int) -> list[str]:
    """Return what Linux tells of a process from its state on (proc_pid_stat, fields 3 to the end).

    Empty on other systems, and where there is no such process.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def _now(folder: Path) -> float:
    """Return the time by the clock that dates files there, which may be another machine's."""
    probe = folder / f".clock.{uuid.uuid4().hex}"
    probe.touch()
    try:
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)
