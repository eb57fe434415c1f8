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
    text = (run / "report.html").read_text()
    assert str(run.parent.parent) not in text  # nothing of this machine is in it
    page = tmp_path / "two.html"
    assert call("report", run, run, "--out", page).code == 0
    assert "<html" in page.read_text()


def test_out_must_be_a_file(call: Call, run: Path, tmp_path: Path) -> None:
    code, _, err = call("report", run, "--out", tmp_path)
    assert code == 2
    assert str(tmp_path) in err


def test_a_page_that_cannot_be_written_is_named(call: Call, run: Path, tmp_path: Path) -> None:
    assert call("evaluate", run).code == 0
    (tmp_path / "file").write_text("")
    for page in (tmp_path / "file" / "report.html", tmp_path / "none" / "report.html"):
        code, _, err = call("report", run, "--out", page)
        assert "Traceback" not in err
        if code:
            assert code == 2
            assert str(page) in err
        else:
            assert page.is_file()


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
    ("arguments", "named"),
    [
        (("--format", "latx"), '"latex"'),
        (("--baseline", "adapter"), '"adapter"'),
        (("--out", "{page}"), "{page}"),
    ],
)
def test_wrong_names(call: Call, tmp_path: Path, arguments: tuple[str, str], named: str) -> None:
    folder, page = tmp_path / "made", tmp_path / "page.html"
    page.write_text("")
    add(folder, "mixed", "hyperx", 1, {("pos", "eng"): [1, 0]})
    code, _, err = call("report", folder, *(text.format(page=page) for text in arguments))
    assert code == 2
    assert named.format(page=page) in err


def test_a_single_run_is_not_compared(call: Call, tmp_path: Path) -> None:
    folder = tmp_path / "made"
    add(folder, "mixed", "hyperx", 1, {("pos", "eng"): [1, 0]})
    run = folder / "mixed/hyperx/seed-1"
    code, _, err = call("report", run, "--baseline", "adapters")
    assert code == 2
    assert str(run) in err
    assert "--baseline" in err
