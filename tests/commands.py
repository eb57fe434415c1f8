"""hyperlect's commands, each in a process of its own.

Ray is only ever used so: what it leaves behind in a process that called it may end that process
later, once it cannot reach its cluster.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress

import psutil

SECONDS = 120
COMMAND = """
import sys
from hyperlect.cli.__main__ import main

try:
    main(sys.argv[1:])
finally:
    ray = sys.modules.get("ray")
    assert ray is None or not ray.is_initialized()
"""


def start(*arguments: object) -> subprocess.Popen[str]:
    """Start a command that computes with one thread. Its output and messages are one stream.

    It fails if it leaves Ray running.
    """
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # Ray's workers give way to every other process, by default.
        env={**os.environ, "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"},
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for the end of a command. Returns its exit code, and what it printed."""
    output, _ = process.communicate(timeout=2 * SECONDS)
    return process.returncode, output


def children(process: subprocess.Popen[str], name: str) -> list[psutil.Process]:
    """Return the processes under a command that have a name in their command line."""
    named = []
    for child in psutil.Process(process.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it has ended since
            if name in " ".join(child.cmdline()):
                named.append(child)
    return named


def until(condition: Callable[[], object], process: subprocess.Popen[str] | None = None) -> None:
    """Wait until something holds, that a process may be at work on."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        assert process is None or process.poll() is None, finish(process)
        time.sleep(0.02)
