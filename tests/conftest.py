"""Settings of every test: no hub, and a cache of the session's own.

Tests marked ``backbone`` use the machine's own cache, since setting up the built-in backbone
takes long.
"""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def pytest_collection_finish() -> None:
    """Keep what was imported out of garbage collections, which are half of some tests' time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hyperlect-cache")


@pytest.fixture(autouse=True)
def _own_cache(
    request: pytest.FixtureRequest, session_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if request.node.get_closest_marker("backbone") is None:
        monkeypatch.setenv("HYPERLECT_CACHE", str(session_cache))
