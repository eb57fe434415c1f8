from __future__ import annotations

from pathlib import Path

from .conftest import Call


def test_report_of_an_evaluated_run(call: Call, run: Path, tmp_path: Path) -> None:
    refused = call("report", run)
    assert refused.code == 2
    assert f"hyperlect evaluate {run}" in refused.err

    assert call("evaluate", run).code == 0
    code, out, err = call("report", run)
    assert code == 0, err
    assert str(run / "report.html") in out
    page = tmp_path / "two.html"
    assert call("report", run, run, "--out", page).code == 0
    assert "<html" in page.read_text()


def test_out_must_be_a_file(call: Call, run: Path, tmp_path: Path) -> None:
    code, _, err = call("report", run, "--out", tmp_path)
    assert code == 2
    assert "is a folder" in err
