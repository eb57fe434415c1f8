"""hyperlect serve, in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import Call

httpx = pytest.importorskip("httpx")
pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM")
def test_serve_listens_answers_and_ends(trained: Path) -> None:
    command = [sys.executable, "-m", "hyperlect.cli", "-v", "serve", str(trained), "--port", "0"]
    environment = {**os.environ, "HYPERLECT_TOKEN": "secret\n", "COLUMNS": "300"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        url = next(m[0] for line in lines if (m := re.search(r"http://[\d.:]+", line)))
        item = {"text": "Anna sees Oslo", "task": ["ner", "nli"][:1], "language": "fo"}
        assert httpx.get(f"{url}/v1/grid").status_code == 401
        headers = {"authorization": "Bearer secret"}
        answer = httpx.post(f"{url}/v1/predict", json={"items": [item]}, headers=headers)
        assert answer.status_code == 200, answer.text
        (prediction,) = answer.json()["items"][0]["predictions"]
        assert prediction["words"] == ["Anna", "sees", "Oslo"]
        process.send_signal(signal.SIGTERM)
        messages = process.stderr.read()
        assert process.wait(60) == -signal.SIGTERM  # passed on when all is finished
    assert "Shutting down" in messages  # of -v


def test_an_empty_token_does_not_open_the_service(
    call: Call, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYPERLECT_TOKEN", "\n")
    code, _, err = call("serve", trained)
    assert code == 2
    assert "HYPERLECT_TOKEN" in err


def test_a_run_that_is_none_is_named(call: Call, tmp_path: Path) -> None:
    code, _, err = call("serve", tmp_path / "none")
    assert code == 2
    assert "none" in err
