from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from hyperlect import HyperX
from hyperlect.errors import RunError
from hyperlect.report.data import (
    ADDED,
    SELECTION,
    Differences,
    gather_runs,
    read_run,
    read_systems,
    run_names,
)

from .experiments import add, list_run
from .runs import CELLS, cell, write_results, write_run, write_weights

GOOD, HALF = [1] * 40, [1, 0] * 20
POS, NER = ("pos", "eng"), ("ner", "eng")


def test_reads_all_of_a_run(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "whole"))
    assert [c.score for c in run.results.cells] == [values[-1] for values in CELLS]
    assert list(run.results.tasks) == ["pos", "ner", "mlm"]
    assert run.curves is not None
    assert list(run.curves.points) == ["pos, training loss", "ner, training loss", SELECTION]
    assert list(run.curves.points["pos, training loss"].items())[:2] == [(10, 0.3), (20, 0.15)]
    assert (run.curves.points[SELECTION], run.curves.best_step) == ({600: 60.0, 1200: 59.0}, 600)
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
    with pytest.raises(RunError) as caught:
        read_run(tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in str(caught.value)


def test_empty_results_are_refused(tmp_path: Path) -> None:
    folder = write_results(tmp_path / "empty", [])
    with pytest.raises(RunError) as caught:
        read_run(folder)
    assert str(folder / "results.json") in str(caught.value)


def test_a_log_cut_off_in_its_last_line_is_read(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "cut")
    log = folder / "metrics.jsonl"
    log.write_text(log.read_text() + '{"event": "train", "st')
    curves = read_run(folder).curves
    assert curves is not None
    assert len(curves.points["pos, training loss"]) == 120


def test_broken_lines_within_the_log_are_named(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "broken")
    log = folder / "metrics.jsonl"
    lines = log.read_text().splitlines()
    lines[4] = "nonsense"
    lines[7] = '{"event": "train", "step": 80}'
    log.write_text("\n".join(lines))
    with pytest.raises(RunError) as caught:
        read_run(folder)
    assert [(p.file, p.line) for p in caught.value.problems] == [(str(log), 5), (str(log), 8)]


def test_steps_logged_again_after_a_resume_count_once(tmp_path: Path) -> None:
    folder = write_results(tmp_path / "resumed")
    events = [
        {"event": "train", "step": s, "loss": {"pos": v}} for s, v in [(1, 3), (2, 2), (2, 1)]
    ]
    events += [{"event": "train", "step": 3, "loss": {"pos": float("nan")}}]
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, events)))
    curves = read_run(folder).curves
    assert curves is not None
    assert curves.points == {"pos, training loss": {1: 3.0, 2: 1.0}}


@pytest.mark.parametrize(
    "content",
    [
        "{}",
        "not JSON",
        "[1]",
        '{"languages": ["eng"], "vectors": [[1, 2], [3, 4]]}',
        '{"languages": ["eng", "deu"], "vectors": [[1, 2], [3]]}',
        '{"languages": ["eng"], "vectors": [[NaN]]}',
    ],
)
def test_malformed_embeddings_are_refused(tmp_path: Path, content: str) -> None:
    folder = write_results(tmp_path / "odd")
    (folder / "embeddings.json").write_text(content)
    with pytest.raises(RunError) as caught:
        read_run(folder)
    assert str(folder / "embeddings.json") in str(caught.value)


@pytest.mark.parametrize("kind", ["bottleneck", "lora"])
@pytest.mark.parametrize("sources", [("task", "language", "layer"), ("task", "language")])
def test_differences_are_those_of_the_adapter_weights(
    sources: tuple[str, ...], kind: str, tmp_path: Path
) -> None:
    run, encoder = write_results(tmp_path / "run"), tmp_path / "encoder"
    folder = write_weights(run, encoder, sources=sources, adapter=kind)
    differences = read_run(folder).differences
    assert differences is not None
    assert (differences.tasks, differences.languages) == (
        ["pos", "ner", "topic", "mlm"],
        ["eng", "isl", "tur"],
    )
    model = HyperX.from_pretrained(folder)

    def apart(cell: tuple[str, str], other: tuple[str, str]) -> list[float]:
        one, two = (
            torch.cat([tensor.flatten(1) for _, tensor in model.adapter_weights(*c).items()], 1)
            for c in (cell, other)
        )
        return ((one - two).norm(dim=1) / two.norm(dim=1)).tolist()

    across = differences.across_languages[1, :, 0, 2]
    assert across == pytest.approx(apart(("ner", "eng"), ("ner", "tur")), rel=1e-4)
    across = differences.across_tasks[1, :, 0, 2]
    assert across == pytest.approx(apart(("pos", "isl"), ("topic", "isl")), rel=1e-4)
    between = [apart((task, "isl"), (task, "tur")) for task in differences.tasks]
    assert differences.between("isl", "tur") == pytest.approx(np.mean(between), rel=1e-4)
    assert differences.between("isl", "fao") is None


def test_differences_are_summed_up_by_what_differs() -> None:
    """Of the languages a, b and c, a and b are near each other."""
    line = np.array([0.0, 0.1, 1.0])
    apart = np.abs(line[:, None] - line)
    across_languages = np.stack([apart, 2 * apart])[:, None]  # two tasks, one layer
    across_tasks = np.broadcast_to([[0.0, 0.5], [0.7, 0.0]], (3, 1, 2, 2))
    differences = Differences(["pos", "ner"], list("abc"), across_languages, across_tasks)
    series = differences.of_task("pos")
    assert {name: spread[1, 0] for name, spread in series.items()} == pytest.approx(
        {"the nearest language": 0.1, "another language": 0.9, "another task": 0.5}
    )
    assert differences.of_task("ner")["another task"][:, 0] == pytest.approx([0.7] * 3)
    assert differences.means["another language"] == pytest.approx((0.9 + 1.8) / 2)
    assert differences.largest >= 1.9


def test_a_method_without_tasks_differs_by_language_alone(tmp_path: Path) -> None:
    folder = write_results(tmp_path / "run")
    write_weights(folder, tmp_path / "encoder", "language-hypernet")
    differences = read_run(folder).differences
    assert differences is not None
    assert list(differences.of_task("all tasks")) == ["the nearest language", "another language"]


def test_damaged_weights_are_named(tmp_path: Path) -> None:
    folder = write_weights(write_results(tmp_path / "run"), tmp_path / "encoder")
    (folder / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(RunError) as caught:
        read_run(folder)
    assert str(folder / "model.safetensors") in str(caught.value)


def test_what_a_model_says_of_its_languages_is_read(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    model = {"added": {"isl": "20 labelled sentences", "fao": "typology"}}
    (folder / "model.json").write_text(json.dumps(model))
    embeddings = read_run(folder).embeddings
    assert embeddings is not None
    assert embeddings.kinds == {"eng": "labelled", "deu": "labelled", "isl": ADDED}
    assert not embeddings.from_typology
    model["language_features"] = {"typology": "uriel", "text": ""}
    (folder / "model.json").write_text(json.dumps(model))
    embeddings = read_run(folder).embeddings
    assert embeddings is not None
    assert embeddings.from_typology


def test_versions_are_one_level_deep(tmp_path: Path) -> None:
    folder = write_results(tmp_path / "run")
    versions = {"torch": "2.0", "threads": 2, "cuda": None, "hyperlect": {"commit": "ab"}}
    (folder / "versions.json").write_text(json.dumps(versions))
    assert read_run(folder).versions == {"torch": "2.0", "threads": "2", "hyperlect.commit": "ab"}


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("train: /place/a/x.txt\ntest: /place/b/y.txt\n", "train: …/a/x.txt\ntest: …/b/y.txt\n"),
        ("train: '/place/of mine/x.txt'\n", "train: '…/x.txt'\n"),
        ("files: [/one/data/x, /two/data/y]\n", "files: […/x, …/y]\n"),
        ("train: ${HYPERLECT_DATA}/ud/x.conllu\n", "train: ${HYPERLECT_DATA}/ud/x.conllu\n"),
        ("hub: https://example.org/a/b\n", "hub: https://example.org/a/b\n"),
    ],
)
def test_a_recipe_shows_no_folder_of_a_machine(tmp_path: Path, written: str, shown: str) -> None:
    folder = write_results(tmp_path / "run")
    (folder / "recipe.yaml").write_text(written, encoding="utf-8")
    assert read_run(folder).recipe == shown


def systems_of(folders: list[Path]) -> dict[str, set[int]]:
    """Return the names of the systems that runs make, with their seeds."""
    cells = gather_runs(folders).cells
    names = cells["method"].unique()
    return {name: set(cells.loc[cells["method"] == name, "seed"]) for name in names}


def test_runs_are_gathered_by_name_and_method(tmp_path: Path) -> None:
    about = [("a", "hyperx", 1), ("a", "hyperx", 2), ("a", "adapters", 1), ("b", "hyperx", 1)]
    runs = [
        write_results(tmp_path / str(number), name=name, method=method, seed=seed)
        for number, (name, method, seed) in enumerate(about)
    ]
    assert systems_of(runs[:3]) == {"hyperx": {1, 2}, "adapters": {1}}
    assert list(systems_of(runs)) == ["a (hyperx)", "a (adapters)", "b (hyperx)"]


def test_runs_of_other_recipes_are_other_systems(tmp_path: Path) -> None:
    """Though name, method and seed are the same."""
    recipes = {"a": "seed: 1\n  steps: 5", "b": "seed: 1\n  steps: 9", "c": "seed: 2\n  steps: 5"}
    for folder, training in recipes.items():
        write_results(tmp_path / folder, name="mine", seed=int(training[6]))
        (tmp_path / folder / "recipe.yaml").write_text(f"name: mine\ntraining:\n  {training}\n")
    assert systems_of([tmp_path / name for name in "abc"]) == {"mine (a)": {1, 2}, "mine (b)": {1}}


def test_the_same_seed_twice_makes_two_systems(tmp_path: Path) -> None:
    cells = [{**cell(*CELLS[0]), "score": score} for score in (50.0, 60.0)]
    runs = [
        write_results(tmp_path / name, [one], name="mine")
        for name, one in zip("ab", cells, strict=True)
    ]
    table = gather_runs(runs).cells
    assert table[["method", "score"]].to_numpy().tolist() == [["mine (a)", 50], ["mine (b)", 60]]


def test_runs_that_do_not_know_their_seeds_are_of_different_ones(tmp_path: Path) -> None:
    runs = [write_results(tmp_path / name, name="mine", seed=None) for name in "abc"]
    ((_, seeds),) = systems_of(runs).items()
    assert len(seeds) == 3


def test_runs_can_be_kept_apart(tmp_path: Path) -> None:
    runs = [write_results(tmp_path / name, name="mine", seed=n) for n, name in enumerate("ab")]
    cells = gather_runs(runs, by_seed=False).cells
    assert list(cells["method"].unique()) == ["mine (a)", "mine (b)"]


def test_runs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    folders = [tmp_path / "a" / "x", tmp_path / "b" / "y", tmp_path / "c" / "z"]
    names = ["same", "same", "other"]
    runs = [
        (folder, read_run(write_results(folder, name=name)).results)
        for folder, name in zip(folders, names, strict=True)
    ]
    assert run_names(runs) == ["same (x)", "same (y)", "other"]
    twin = (tmp_path / "d" / "x", runs[0][1])
    assert run_names([runs[0], twin]) == [f"same ({folders[0]})", f"same ({twin[0]})"]


def test_a_system_without_a_whole_seed_waits(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    for method in ("hyperx", "adapters"):
        add(folder, "single", method, 1, {POS: GOOD}, piece="pos")
        add(folder, "single", method, 2, {NER: HALF}, piece="ner")
    add(folder, "single", "adapters", 1, {NER: HALF}, piece="ner")
    cells = read_systems(folder).cells
    assert set(cells["method"]) == {"adapters"}
    assert set(cells.loc[cells["complete"], "seed"]) == {1}


def test_runs_without_results_are_listed(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    add(folder, "single", "hyperx", 1, {POS: GOOD}, piece="pos")
    list_run(folder, "single", "hyperx", 1, piece="ner")
    list_run(folder, "few", "hyperx", 1, point=(5, 1), after="single")
    list_run(folder, "few", "hyperx", 1, point=(5, 2), after="single")
    systems = read_systems(folder)
    assert systems.missing == {"single": ["hyperx ner, seed 1"], "few": ["hyperx, 2 runs"]}
    assert systems.after == {"few": "single"}


def test_damaged_results_of_one_run_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    add(folder, "mixed", "hyperx", 1, {POS: GOOD})
    add(folder, "mixed", "hyperx", 2, {POS: GOOD})
    path = folder / "mixed" / "hyperx" / "seed-2" / "examples.json"
    path.write_text("[]")
    with pytest.raises(RunError) as caught:
        read_systems(folder)
    assert str(path) in str(caught.value)
