from __future__ import annotations

from pathlib import Path

from hyperlect.grid import Kind
from hyperlect.report import write_report
from hyperlect.report.comparison import comparable, labels
from hyperlect.report.data import read_run

from .runs import CELLS, cell, write_results


def test_only_cells_scored_alike_are_compared(tmp_path: Path) -> None:
    first = [cell(*values) for values in CELLS]
    second = [cell(task, lang, kind, m, s - 5) for task, lang, kind, m, s in CELLS]
    second[1]["kind"] = str(Kind.SUPERVISED)  # trained in one run, not in the other
    second[4]["examples"] = 12  # scored on other data
    del second[5]  # not scored
    runs = [
        read_run(write_results(tmp_path / "one", first)),
        read_run(write_results(tmp_path / "two", second)),
    ]
    groups, left_out = comparable(runs)
    assert left_out == 3
    assert [(g.task, g.kind, g.means) for g in groups] == [
        ("pos", Kind.SUPERVISED, [93.21, 88.21]),
        ("pos", Kind.TEXT_ONLY, [70.25, 65.25]),
        ("pos", Kind.UNTOUCHED, [61.0, 56.0]),
        ("mlm", Kind.SUPERVISED, [12.5, 7.5]),
        ("mlm", Kind.UNTOUCHED, [84.0, 79.0]),
    ]
    page = write_report([run.folder for run in runs]).read_text(encoding="utf-8")
    assert "3 cells for which that is not so are left out" in page


def test_runs_with_nothing_in_common_say_so(tmp_path: Path) -> None:
    folders = [
        write_results(tmp_path / "one", [cell(*CELLS[0])]),
        write_results(tmp_path / "two", [cell(*CELLS[1])]),
    ]
    assert comparable([read_run(folder) for folder in folders]) == ([], 2)
    assert "no cell in common" in write_report(folders).read_text(encoding="utf-8")


def test_runs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    folders = [tmp_path / "a" / "x", tmp_path / "b" / "y", tmp_path / "c" / "z"]
    names = ["same", "same", "other"]
    runs = [read_run(write_results(f, name=n)) for f, n in zip(folders, names, strict=True)]
    assert labels(runs) == ["same (x)", "same (y)", "other"]
    twin = read_run(write_results(tmp_path / "d" / "x", name="same"))
    assert labels([runs[0], twin]) == [f"same ({runs[0].folder})", f"same ({twin.folder})"]
