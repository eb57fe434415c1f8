"""Evaluating a run folder."""

from __future__ import annotations

import importlib
import io
import json
import shutil
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from rich.console import Console

from hyperlect.errors import DataError, HyperlectError, RunError, UnknownNameError
from hyperlect.evaluation import evaluate_run, read_results
from hyperlect.grid import Cell
from hyperlect.precision import Precision, arithmetic

from ..project import COUNTS, TAGS, train, write_project

TEST_CELLS = {
    "pos:eng": "supervised",
    "pos:isl": "supervised",
    "pos:fao": "unseen language, text only",
    "pos:dan": "unseen language, untouched",
    "ner:eng": "supervised",
    "ner:isl": "unseen combination",
    "topic:eng": "supervised",
    "nli:eng": "supervised",
    "mlm:fao": "supervised",
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    recipe = write_project(folder, ("pos", "ner", "topic", "nli", "mlm"), {"steps": 60})
    return train(recipe, folder / "run")


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A run of the test's own; its data lies where the recipe says."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def test_every_cell_with_test_data_is_scored_by_kind(run: Path) -> None:
    results = evaluate_run(run)
    cells = results.cells
    assert {f"{c.task}:{c.language}": c.kind for c in cells} == TEST_CELLS
    assert {c.examples for c in cells if c.task == "pos"} == {COUNTS["test"]}
    by_name = {f"{c.task}:{c.language}": c for c in cells}
    assert by_name["pos:eng"].score > 80  # it has learnt something
    found = (results.name, results.method, results.seed, results.steps)
    assert found == ("tiny", "hyperx", 1, 60)
    assert results.seconds is not None
    assert results.seconds > 0
    assert results.backbone.endswith("backbone")


def test_every_word_of_the_file_is_counted(run: Path, trained: Path) -> None:
    lines = (trained.parent / "pos.eng.test").read_text().splitlines()
    words = sum(1 for line in lines if line)
    (cell,) = evaluate_run(run, [Cell("pos", "eng")]).cells
    assert cell.units == words


def test_results_are_kept_in_the_run_folder(run: Path) -> None:
    results = evaluate_run(run)
    assert read_results(run).data() == results.data()


def test_chosen_cells_and_other_splits_leave_the_kept_results_alone(run: Path) -> None:
    evaluate_run(run, [Cell("pos", "eng")])
    evaluate_run(run, split="dev")
    assert not (run / "results.json").exists()


def test_the_dev_split_has_the_cells_and_scores_of_training(run: Path) -> None:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    (told,) = (line["scores"] for line in lines if line["event"] == "dev")
    cells = evaluate_run(run, split="dev").cells
    found = {f"{c.task}:{c.language}": c.score for c in cells}
    assert found == pytest.approx(told, abs=0.001)


def test_cells_are_scored_in_the_order_asked_for_and_once(run: Path) -> None:
    asked = [Cell("pos", "isl"), Cell("pos", "en"), Cell("pos", "eng"), Cell("pos", "isl")]
    cells = evaluate_run(run, asked).cells
    assert [c.language for c in cells] == ["isl", "eng"]


def test_a_chosen_cell_has_the_score_it_has_among_all(run: Path) -> None:
    every = {(c.task, c.language): c for c in evaluate_run(run).cells}
    for cell in (Cell("ner", "isl"), Cell("mlm", "fao")):
        (one,) = evaluate_run(run, [cell]).cells
        assert one == every[cell]


def test_a_cell_without_data_is_an_error_that_lists_those_with(run: Path) -> None:
    with pytest.raises(UnknownNameError, match=r'cell with test data "nli:fao".*pos:eng') as error:
        evaluate_run(run, [Cell("pos", "eng"), Cell("nli", "fao")])
    assert "ner:isl" in str(error.value)
    with pytest.raises(UnknownNameError, match=r'"nre:eng"\. Did you mean "ner:eng"'):
        evaluate_run(run, [Cell("nre", "eng")])
    with pytest.raises(UnknownNameError, match='Unknown language "enlgish"'):
        evaluate_run(run, [Cell("pos", "enlgish")])
    with pytest.raises(UnknownNameError, match="cell with dev data"):
        evaluate_run(run, [Cell("pos", "isl")], split="dev")


def test_only_the_files_of_the_chosen_cells_are_needed(run: Path, tmp_path: Path) -> None:
    project = write_project(tmp_path / "project", ("pos",))
    recipe = (run / "recipe.yaml").read_text()
    other = train(project, tmp_path / "other")
    for path in project.parent.glob("pos.*.train"):
        path.unlink()
    (project.parent / "pos.isl.test").unlink()
    assert evaluate_run(other, [Cell("pos", "eng")]).cells[0].examples == COUNTS["test"]
    with pytest.raises(DataError, match=r"pos\.isl\.test"):
        evaluate_run(other)
    assert not (other / "results.json").exists()
    assert (run / "recipe.yaml").read_text() == recipe


def test_labels_that_training_did_not_know_are_told_of(run: Path, tmp_path: Path) -> None:
    project = write_project(tmp_path / "project", ("pos",))
    other = train(project, tmp_path / "other")
    for language in ("eng", "dan"):
        (project.parent / f"pos.{language}.test").write_text("the\tDET\ncat\tNOWN\n")
    with pytest.raises(DataError, match="NOWN") as error:
        evaluate_run(other)
    assert "pos.eng.test:1" in str(error.value)
    assert "pos.dan.test:1" in str(error.value)
    assert 'Did you mean "NOUN"' in str(error.value)
    assert all(tag in str(error.value) for tag in set(TAGS.values()))


def test_a_run_that_is_not_finished_says_how_to_go_on(run: Path) -> None:
    (run / "training.json").unlink()
    (run / "model.json").unlink()
    with pytest.raises(RunError, match=f"not finished. Go on with: hyperlect train --resume {run}"):
        evaluate_run(run)


def test_a_recipe_without_test_data_has_nothing_to_score(tmp_path: Path) -> None:
    project = write_project(tmp_path / "project", ("pos",))
    project.write_text(project.read_text().replace("      test: pos", "      x-test: pos"))
    lines = [line for line in project.read_text().splitlines() if "x-test" not in line]
    kept = "\n".join(lines).replace("    fao:\n", "").replace("    dan:\n", "")
    project.write_text(kept + "\n")
    run = train(project, tmp_path / "run", "training.steps=3")
    with pytest.raises(HyperlectError, match="names no test data"):
        evaluate_run(run)


def test_the_recipe_says_in_which_precision_cells_are_scored(
    run: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the dev files during training, and on the test files after it."""
    seen: list[str] = []

    def noted(device: str, precision: Precision) -> AbstractContextManager[None]:
        seen.append(precision)
        return arithmetic(device, precision)

    fill = importlib.import_module("hyperlect.evaluation.fill")  # the name is the function's too
    monkeypatch.setattr(fill, "arithmetic", noted)
    evaluate_run(run)
    assert set(seen) == {"fp32"}
    seen.clear()
    changes = ("evaluation.precision=bf16", "training.steps=4")
    lowered = train(trained.parent / "recipe.yaml", tmp_path / "lowered", *changes)
    on_dev = len(seen)
    evaluate_run(lowered)
    assert 0 < on_dev < len(seen)
    assert set(seen) == {"bf16"}


def test_progress_is_shown_where_there_is_a_console(run: Path) -> None:
    shown = io.StringIO()
    evaluate_run(run, [Cell("pos", "eng")], console=Console(file=shown, force_terminal=True))
    assert "pos:eng" in shown.getvalue()


def test_a_cut_off_record_of_training_is_told(run: Path) -> None:
    (run / "training.json").write_text('{"steps": 6')
    with pytest.raises(RunError, match=r"training\.json is malformed"):
        evaluate_run(run)
