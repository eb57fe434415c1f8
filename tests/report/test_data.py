from __future__ import annotations

import json
from pathlib import Path

import pytest

from hyperlect.errors import RunError
from hyperlect.report.data import read_run

from .runs import CELLS, write_results, write_run


def test_reads_all_of_a_run(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "whole"))
    assert [c.score for c in run.results.cells] == [values[-1] for values in CELLS]
    assert list(run.results.tasks) == ["pos", "ner", "mlm"]
    assert run.curves is not None
    assert run.curves.losses["pos"][:2] == [(10, 0.3), (20, 0.15)]
    assert (run.curves.selection, run.curves.best_step) == ([(600, 60.0), (1200, 59.0)], 600)
    assert run.embeddings is not None
    assert run.embeddings.vectors.shape == (3, 3)
    assert run.versions == {"torch": "2.0"}


def test_files_beside_the_results_may_be_missing(tmp_path: Path) -> None:
    run = read_run(write_results(tmp_path / "bare"))
    assert (run.curves, run.embeddings, run.recipe, run.versions) == (None, None, None, None)


def test_missing_results_name_the_file_and_the_command(tmp_path: Path) -> None:
    with pytest.raises(RunError) as caught:
        read_run(tmp_path)
    assert str(tmp_path / "results.json") in str(caught.value)
    assert f"hyperlect evaluate {tmp_path}" in str(caught.value)
    with pytest.raises(RunError, match="not a run folder"):
        read_run(tmp_path / "nowhere")


def test_empty_results_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no cells"):
        read_run(write_results(tmp_path / "empty", []))


def test_a_log_cut_off_in_its_last_line_is_read(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "cut")
    log = folder / "metrics.jsonl"
    log.write_text(log.read_text() + '{"event": "train", "st')
    curves = read_run(folder).curves
    assert curves is not None
    assert len(curves.losses["pos"]) == 120


def test_a_broken_line_within_the_log_is_named(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "broken")
    log = folder / "metrics.jsonl"
    lines = log.read_text().splitlines()
    lines[4] = "nonsense"
    log.write_text("\n".join(lines))
    with pytest.raises(RunError, match=r"metrics\.jsonl:5"):
        read_run(folder)


def test_steps_logged_again_after_a_resume_count_once(tmp_path: Path) -> None:
    folder = write_results(tmp_path / "resumed")
    events = [
        {"event": "train", "step": s, "loss": {"pos": v}} for s, v in [(1, 3), (2, 2), (2, 1)]
    ]
    events += [{"event": "train", "step": 3, "loss": {"pos": float("nan")}}]
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, events)))
    curves = read_run(folder).curves
    assert curves is not None
    assert curves.losses == {"pos": [(1, 3.0), (2, 1.0)]}


@pytest.mark.parametrize(
    "content",
    [
        "{}",
        "not JSON",
        '{"languages": ["eng"], "vectors": [[1, 2], [3, 4]]}',
        '{"languages": ["eng", "deu"], "vectors": [[1, 2], [3]]}',
        '{"languages": ["eng"], "vectors": [[NaN]]}',
    ],
)
def test_malformed_embeddings_are_refused(tmp_path: Path, content: str) -> None:
    folder = write_results(tmp_path / "odd")
    (folder / "embeddings.json").write_text(content)
    with pytest.raises(RunError, match=r"embeddings\.json"):
        read_run(folder)
