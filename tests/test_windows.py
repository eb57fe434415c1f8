"""What only POSIX systems have is not needed to import the package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "src" / "hyperlect"
LIKE_WINDOWS = """
import importlib, os, signal, sys

names = sys.argv[1:]
for name in names:  # with all libraries, which ask what system this is
    importlib.import_module(name)
for name in [name for name in sys.modules if name.split(".")[0] == "hyperlect"]:
    del sys.modules[name]
for name in ("fcntl", "grp", "pwd", "resource", "termios", "tty", "pty", "syslog"):
    sys.modules[name] = None  # importing it is an ImportError
kept = {"SIGABRT", "SIGFPE", "SIGILL", "SIGINT", "SIGSEGV", "SIGTERM", "SIG_DFL", "SIG_IGN"}
lacking = [(signal, name) for name in dir(signal) if name.startswith("SIG") and name not in kept]
for name in ("alarm", "setitimer", "pthread_kill", "pthread_sigmask", "sigwait", "pause"):
    lacking.append((signal, name))
for name in (
    "fork", "forkpty", "getpgid", "getsid", "getuid", "geteuid", "getgid", "killpg", "mkfifo",
    "sched_getaffinity", "sched_setaffinity", "setpgid", "setsid", "uname", "wait3", "wait4",
    "getloadavg", "nice", "chown", "chroot", "statvfs",
):
    lacking.append((os, name))
for module, name in lacking:
    if hasattr(module, name):
        delattr(module, name)
for name in names:
    importlib.import_module(name)
    print(name)
"""


def test_every_module_can_be_imported_without_what_windows_lacks() -> None:
    paths = [path for path in sorted(PACKAGE.rglob("*.py")) if path.name != "__main__.py"]
    modules = [("hyperlect", *path.relative_to(PACKAGE).with_suffix("").parts) for path in paths]
    names = [".".join(module).removesuffix(".__init__") for module in modules]
    done = subprocess.run(
        [sys.executable, "-c", LIKE_WINDOWS, *names], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == names
