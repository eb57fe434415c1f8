"""How long a recipe takes to its first optimiser step, and how much less at the second start."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from hyperlect.data.corpus import ENVIRONMENT_VARIABLE, cache_dir

from .bench import REAL, ROOT, SAMPLE, Bench
from .rows import Row, timed_row

DRIVER = Path(__file__).with_name("first_step.py")
NAMES = ("second start", "first start")


def seconds(recipe: Path, cache: Path, run: Path) -> float:
    """Start a process that trains a recipe, and time it until its first step is done."""
    command = [sys.executable, str(DRIVER), "train", str(recipe), "--out", str(run)]
    environment = {**os.environ, ENVIRONMENT_VARIABLE: str(cache)}
    began = time.perf_counter()
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    taken = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{recipe} did not come to its first step:\n{done.stderr}")
    shutil.rmtree(run, ignore_errors=True)
    return taken


def both(recipe: Path, keep_backbone: bool) -> dict[str, float]:
    """Time a first and a second start with a cache folder of their own."""
    with tempfile.TemporaryDirectory() as scratch:
        cache, run = Path(scratch) / "cache", Path(scratch) / "run"
        cache.mkdir()
        if keep_backbone:
            (cache / "backbones").symlink_to(cache_dir() / "backbones")
        first = seconds(recipe, cache, run)
        return {"first start": first, "second start": seconds(recipe, cache, run)}


def starts(recipe: Path, repetitions: int, keep_backbone: bool) -> Row:
    """Compare second starts with first ones, each pair with an empty cache folder at first."""
    pairs = [both(recipe, keep_backbone) for _ in range(repetitions)]
    times = {name: [pair[name] for pair in pairs] for name in NAMES}
    note = " (only its data are new)" if keep_backbone else ""
    return timed_row(
        "second start of a recipe, to the first step",
        "first start" + note,
        None if keep_backbone else "≤ 0.2",
        times,
        NAMES,
        extra=keep_backbone,
        recipe=str(recipe.relative_to(ROOT)),
    )


def measure(bench: Bench) -> Iterator[Row]:
    """Measure every row of this module."""
    recipe = REAL if bench.real else SAMPLE
    bench.backbone  # noqa: B018  (so that it lies in the cache)
    repetitions = max(1, bench.repetitions // 10)
    yield starts(recipe, repetitions, keep_backbone=False)
    yield starts(recipe, repetitions, keep_backbone=True)
