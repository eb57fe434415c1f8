"""A hub without a network: the client's cache, laid out by hand."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from huggingface_hub import constants

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def put_on_hub(
    hub_id: str, folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, ref: str = "main"
) -> Path:
    """Make the files of `folder` what the hub's client finds under `hub_id`.

    Returns:
        The folder that the client will answer with.
    """
    repository = cache / f"models--{hub_id.replace('/', '--')}"
    snapshot = repository / "snapshots" / COMMIT
    shutil.copytree(folder, snapshot)
    (repository / "refs").mkdir()
    (repository / "refs" / ref).write_text(COMMIT)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    return snapshot
