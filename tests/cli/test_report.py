from __future__ import annotations

from pathlib import Path

import pytest

from ..report.experiments import add
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


def test_an_experiment_in_every_format(call: Call, tmp_path: Path) -> None:
    folder = tmp_path / "made"
    for method, right in (("hyperx", [1, 1, 1, 0]), ("adapters", [1, 0, 0, 0])):
        for seed in (1, 2):
            add(folder, "mixed", method, seed, {("pos", "eng"): right})
    code, out, err = call("report", folder)
    assert code == 0, err
    assert len(out.splitlines()) == 5
    assert "| hyperx | **75.0 ± 0.0** |" in (folder / "report.md").read_text(encoding="utf-8")
    code, out, err = call("report", folder, "--format", "csv", "--out", tmp_path / "tables")
    assert code == 0, err
    assert [path.name for path in (tmp_path / "tables").iterdir()] == ["cells.csv"]


def test_runs_as_tables(call: Call, tmp_path: Path) -> None:
    folder = tmp_path / "made"
    for method in ("hyperx", "adapters"):
        add(folder, "mixed", method, 1, {("pos", "eng"): [1, 1, 0, 0]})
    runs = [folder / "mixed" / method / "seed-1" for method in ("hyperx", "adapters")]
    out = tmp_path / "tables"
    code, _, err = call("report", *runs, "--format", "markdown", "--out", out)
    assert code == 0, err
    assert "50.0" in (out / "report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--format", "latx"), 'Did you mean "latex"?'),
        (("--baseline", "adapter"), "Unknown method among these runs"),
    ],
)
def test_wrong_names(call: Call, tmp_path: Path, arguments: tuple[str, str], said: str) -> None:
    folder = tmp_path / "made"
    add(folder, "mixed", "hyperx", 1, {("pos", "eng"): [1, 0]})
    code, _, err = call("report", folder, *arguments)
    assert code == 2
    assert said in err


def test_a_single_run_is_not_compared(call: Call, tmp_path: Path) -> None:
    folder = tmp_path / "made"
    add(folder, "mixed", "hyperx", 1, {("pos", "eng"): [1, 0]})
    code, _, err = call("report", folder / "mixed/hyperx/seed-1", "--baseline", "adapters")
    assert code == 2
    assert "is a single run" in err
