"""Claims: a file beside a run folder that says who is at work on it.

Two runners may share a folder, on one machine or over a network. A claim is stale when the
processes that it names are gone, where that can be known, or when nobody has renewed it for long.
"""

from __future__ import annotations

import json
import os
import platform
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

RENEW_EVERY = 15.0
"""Seconds between renewals."""
STALE_AFTER = 120.0
"""Seconds without a renewal after which whoever claimed a run on another machine is gone."""
SETTLE = 0.2
"""Seconds after which it is seen who of several took a stale claim."""


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
        who = {"host": host(), "pid": os.getpid(), "worker": self.worker, "token": self.token}
        return json.dumps(who) + "\n"

    def work(self, worker: int) -> None:
        """Say which process does the work."""
        self.worker = worker
        self._replace()

    def renew(self) -> bool:
        """Say that the work goes on. False where another has taken the claim in the meantime."""
        held = self._is_ours()
        if held:
            os.utime(self.path)
        return held

    def release(self) -> None:
        """Give the run free."""
        if self._is_ours():
            self.path.unlink(missing_ok=True)

    def _is_ours(self) -> bool:
        return _read(self.path).get("token") == self.token

    def _replace(self) -> None:
        partial = self.path.with_name(f"{self.path.name}.{self.token}")
        partial.write_text(self._text(), encoding="utf-8")
        partial.replace(self.path)


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
        # Of several who find it stale the last to write has it, and sees that.
        made._replace()
        time.sleep(SETTLE)
        return made if made._is_ours() else None
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
    who = _read(path)
    if who.get("host") == host():
        return not any(_is_alive(who.get(key)) for key in ("pid", "worker"))
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


def _is_alive(pid: object) -> bool:
    if not isinstance(pid, int):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    """Whether a process has ended and only waits to be asked how (Linux)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] == "Z"


def _now(folder: Path) -> float:
    """Return the time by the clock that dates files there, which may be another machine's."""
    probe = folder / f".clock.{uuid.uuid4().hex}"
    probe.touch()
    try:
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, object]:
    """Read a claim; an empty one where it is gone or only half written."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}
