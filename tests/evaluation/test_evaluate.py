"""Filling the grid: every word scored once, every number with the right kind; and whole runs."""

from __future__ import annotations

import importlib
import io
import json
import math
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from rich.console import Console
from torch.nn import functional as F

from hyperlect.data.encoding import encode
from hyperlect.data.typology import Typology
from hyperlect.errors import DataError, HyperlectError, RunError, UnknownNameError
from hyperlect.evaluation import (
    CellResult,
    Trust,
    evaluate_run,
    expect_untested,
    fill,
    read_results,
    subsample,
)
from hyperlect.evaluation.evaluate import MASK_SEED, constant_score, find_strata
from hyperlect.evaluation.results import read_examples
from hyperlect.grid import Cell, Grid, Stratum
from hyperlect.hardware import Precision
from hyperlect.hypernet import HypernetConfig
from hyperlect.model import HyperX, HyperXConfig
from hyperlect.predict import forward_rows
from hyperlect.recipe import load_recipe
from hyperlect.tasks import Task, TaskType

from ..data.made import corpus, parsed, tagged
from ..project import COUNTS, TAGS, train, write_project
from ..tiny import tiny_backbone

SMALL = HypernetConfig(bottleneck=4, projection=6, embedding=5)
TASKS = (
    Task("pos", TaskType.TAGGING, ("DET", "NOUN", "VERB")),
    Task("ner", TaskType.SPANS, ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")),
    Task("topic", TaskType.CLASSIFICATION, ("animals", "people")),
    Task("mlm", TaskType.MLM),
    Task("dep", TaskType.PARSING, ("det", "obj", "root")),
)
TRAINED = (Cell("pos", "eng"), Cell("pos", "isl"), Cell("ner", "eng"), Cell("mlm", "fao"))
LONG = " ".join(f"{word}/{tag}" for word, tag in [("the", "DET"), ("cat", "NOUN")] * 50)


@pytest.fixture(scope="module")
def model() -> HyperX:
    torch.manual_seed(0)
    config = HyperXConfig(TASKS, ("eng", "fao", "isl"), TRAINED, hypernet=SMALL)
    model = HyperX(tiny_backbone(), config)
    for parameter in model.heads.parameters():  # so that predictions vary
        torch.nn.init.normal_(parameter, std=0.5)
    return model.eval()


def rows(model: HyperX, task: str, data: Dataset) -> Dataset:
    return encode(data, model.task(task), model.tokenizer, model.backbone.max_length)


def only(model: HyperX, cell: str, data: Dataset, **options: int) -> CellResult:
    parsed = Cell.parse(cell)
    (result,) = fill(model, {parsed: rows(model, parsed.task, data)}, **options)
    return result


# --- cells


def test_every_word_of_a_long_sentence_is_scored_once(model: HyperX) -> None:
    data = tagged("the/DET dog/NOUN sees/VERB", LONG, "a/DET river/NOUN")
    assert len(rows(model, "pos", data)) == 4  # the long one has several windows
    result = only(model, "pos:eng", data)
    assert (result.units, result.unit, result.examples) == (105, "words", 3)
    labels = [p.labels for p in model.predict(data["words"], "pos", "eng")]
    right = sum(
        a == b
        for gold, predicted in zip(data["labels"], labels, strict=True)
        for a, b in zip(gold, predicted, strict=True)
    )
    assert result.score == pytest.approx(100 * right / 105)


def test_the_score_of_a_constant_answer(model: HyperX) -> None:
    words = rows(model, "pos", tagged("the/DET cat/NOUN", "dog/NOUN sees/VERB a/DET dog/NOUN"))
    assert constant_score(model.task("pos"), words) == pytest.approx(100 * 3 / 6)
    spans = rows(model, "ner", tagged("the/O cat/O", "Anna/B-PER sees/O"))
    assert constant_score(model.task("ner"), spans) == 0


def test_scores_do_not_depend_on_the_batches(model: HyperX) -> None:
    data = tagged(*(f"the/DET {'cat/NOUN ' * n}sees/VERB" for n in range(1, 12)))
    alone, together = (only(model, "pos:eng", data, tokens_per_batch=n) for n in (1, 4096))
    assert alone == together


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)]
)
def test_the_encoder_computes_in_the_chosen_precision(
    model: HyperX, precision: Precision, dtype: torch.dtype
) -> None:
    data = rows(model, "pos", tagged("the/DET dog/NOUN sees/VERB", LONG, "a/DET river/NOUN"))
    seen = set()
    linear = next(m for m in model.backbone.encoder.modules() if isinstance(m, torch.nn.Linear))
    watch = linear.register_forward_hook(lambda *call: seen.add(call[-1].dtype))
    cell = Cell("pos", "eng")
    (exact,), (result,) = (fill(model, {cell: data}, precision=p) for p in ("fp32", precision))
    seen.clear()
    (again,) = fill(model, {cell: data}, precision=precision)
    watch.remove()
    assert seen == {dtype}
    assert again == result
    assert result.score == pytest.approx(exact.score, abs=5)
    assert all(parameter.dtype is torch.float32 for parameter in model.parameters())


def test_the_windows_of_a_sentence_are_decoded_as_one_sequence(model: HyperX) -> None:
    """A span may go on into the next window, and no window begins with a stray I-."""
    data = tagged(" ".join(["Anna/B-PER"] + ["Anna/I-PER"] * 80))
    result = only(model, "ner:eng", data)
    assert (result.units, result.unit) == (1, "spans")
    (prediction,) = model.predict(data["words"], "ner", "eng")
    assert len(prediction.labels) == 81
    for before, after in zip(("O", *prediction.labels), prediction.labels, strict=False):
        assert not after.startswith("I-") or before[2:] == after[2:]


@pytest.mark.parametrize(
    ("cell", "kind", "source"),
    [
        ("pos:eng", "supervised", "own vector"),
        ("ner:isl", "unseen combination", "own vector"),
        ("pos:fao", "unseen language, text only", "own vector"),
        ("pos:dan", "unseen language, untouched", "mean of the trained languages"),
    ],
)
def test_each_result_names_its_kind_and_whose_vector_was_used(
    model: HyperX, cell: str, kind: str, source: str
) -> None:
    word = "the/DET" if cell.startswith("pos") else "Oslo/B-LOC"
    result = only(model, cell, tagged(word))
    assert f"{result.task}:{result.language}" == cell
    assert (result.kind, result.language_source) == (kind, source)
    assert result.metric == model.task(result.task).type.metric


def test_texts_are_scored(model: HyperX) -> None:
    texts = ["the cat", "Anna sees Oslo", "a dog and a cat", "not Anna"]
    labels = ["animals", "people", "animals", "people"]
    data = corpus([{"text": t, "label": label} for t, label in zip(texts, labels, strict=True)])
    result = only(model, "topic:eng", data)
    predicted = [p.label for p in model.predict(texts, "topic", "eng")]
    right = sum(a == b for a, b in zip(labels, predicted, strict=True))
    assert result.score == 100 * right / 4
    assert (result.examples, result.units, result.unit) == (4, 4, "texts")


def test_perplexity_equals_a_plain_computation(model: HyperX) -> None:
    data = corpus([{"text": text} for text in ("the cat sees a dog", "Oslo and the old river")])
    result = only(model, "mlm:fao", data)
    encoded = list(rows(model, "mlm", data))
    generator = torch.Generator().manual_seed(MASK_SEED)
    surprise = []
    cells = [Cell("mlm", "fao")] * len(encoded)
    for batch, _ in forward_rows(model, encoded, cells, generator=generator):
        with torch.no_grad():  # all positions, then the masked ones by hand
            logits = model(
                batch.input_ids, batch.attention_mask, token_type_ids=batch.token_type_ids,
                task="mlm", language="fao",
            ).logits  # fmt: skip
        chances = logits.softmax(dim=-1)
        of_task, width = batch.tasks["mlm"], batch.input_ids.shape[1]
        places = [divmod(position, width) for position in of_task.positions.tolist()]
        for (row, column), label in zip(places, of_task.labels.tolist(), strict=True):
            assert encoded[batch.indices[row]]["input_ids"][column] == label
            surprise.append(-math.log(chances[row, column, label].item()))
    expected = math.exp(sum(surprise) / len(surprise))
    assert result.score == pytest.approx(expected, rel=1e-4)
    assert (result.units, result.unit) == (len(surprise), "masked sub-words")
    assert result.metric == "perplexity"


def test_masks_do_not_depend_on_how_rows_are_put_into_batches(model: HyperX) -> None:
    texts = ["the cat sees a dog", "Oslo", "the old river and the cat see a dog", "not Anna"] * 5
    encoded = list(rows(model, "mlm", corpus([{"text": text} for text in texts])))
    seen = []
    for tokens in (8, 40, 4096):
        generator = torch.Generator().manual_seed(MASK_SEED)
        cells = [Cell("mlm", "fao")] * len(encoded)
        ids = {}
        for batch, _ in forward_rows(model, encoded, cells, tokens, generator):
            for row, index in enumerate(batch.indices):
                ids[index] = batch.input_ids[row][batch.attention_mask[row] > 0].tolist()
        seen.append([ids[index] for index in range(len(encoded))])
    assert seen[0] == seen[1] == seen[2]
    assert seen[0] != [row["input_ids"] for row in encoded]


def test_equal_guesses_have_the_perplexity_of_the_vocabulary(model: HyperX) -> None:
    data = corpus([{"text": "the cat sees a dog"}] * 3)
    size = model.backbone.vocabulary
    plain = F.cross_entropy(torch.zeros(1, size), torch.tensor([3])).exp().item()
    assert plain == pytest.approx(size)
    head = model.heads["mlm"]
    kept = {name: p.detach().clone() for name, p in head.named_parameters()}
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
    assert only(model, "mlm:fao", data).score == pytest.approx(size, rel=1e-4)
    head.load_state_dict(kept)


def test_masks_are_the_same_each_time(model: HyperX) -> None:
    data = corpus([{"text": "the old cat and the dog sees a river in Oslo"}] * 5)
    assert only(model, "mlm:fao", data) == only(model, "mlm:fao", data)


def test_a_cell_without_rows_is_refused(model: HyperX) -> None:
    empty = rows(model, "pos", tagged("the/DET")).select([])
    with pytest.raises(DataError, match="pos:eng"):
        fill(model, {Cell("pos", "eng"): empty})


def test_an_unknown_task_is_refused(model: HyperX) -> None:
    with pytest.raises(UnknownNameError, match='"nre"'):
        fill(model, {Cell("nre", "eng"): rows(model, "pos", tagged("the/DET"))})


def test_results_come_in_the_order_of_the_cells(model: HyperX) -> None:
    data = rows(model, "pos", tagged("the/DET cat/NOUN"))
    cells = [Cell("pos", "isl"), Cell("pos", "dan"), Cell("pos", "eng")]
    results = fill(model, dict.fromkeys(cells, data))
    assert [Cell(r.task, r.language) for r in results] == cells


def test_scoring_keeps_the_mode_of_the_model(model: HyperX) -> None:
    model.train()
    only(model, "pos:eng", tagged("the/DET"))
    assert model.training
    model.eval()
    only(model, "pos:eng", tagged("the/DET"))
    assert not model.training
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


def test_spans_are_counted_over_all_sentences(model: HyperX) -> None:
    data = tagged("Anna/B-PER in/O Oslo/B-LOC", "the/O cat/O")
    result = only(model, "ner:eng", data)
    spans = Counter(
        (index, span.label, span.start, span.end)
        for index, prediction in enumerate(model.predict(data["words"], "ner", "eng"))
        for span in prediction.spans
    )
    right = sum(span in {(0, "PER", 0, 1), (0, "LOC", 2, 3)} for span in spans)
    expected = 200 * right / (spans.total() + 2)
    assert result.score == pytest.approx(expected)


def test_every_word_of_every_tree_is_scored(model: HyperX) -> None:
    long = " ".join(f"cat/{i}/{'obj' if i else 'root'}" for i in range(150))
    data = parsed("the/2/det:x dog/0/root sees/2/obj", long, "Oslo/0/root")
    result = only(model, "dep:eng", data)
    assert (result.metric, result.units, result.unit) == ("LAS", 154, "words")
    assert result.examples == 3
    trees = model.predict(data["words"], "dep", "eng")
    heads, both = 0, 0
    for gold, labels, tree in zip(data["heads"], data["labels"], trees, strict=True):
        for i, head in enumerate(gold):
            heads += head == tree.heads[i]
            both += head == tree.heads[i] and labels[i].split(":")[0] == tree.labels[i]
    assert result.details["UAS"] == pytest.approx(100 * heads / 154)
    assert result.score == pytest.approx(100 * both / 154)
    assert heads > both > 0


def test_data_without_spans_has_no_score_of_spans(model: HyperX) -> None:
    """A score of 0 would lower every mean, however good the model is."""
    nothing = tagged("the/O cat/O", "a/O river/O")
    result = only(model, "ner:eng", nothing)
    assert (result.score, result.examples, result.units) == (None, 2, 0)
    assert "no span" in result.note
    assert result.by_example == ()
    some = only(model, "ner:eng", tagged("the/O cat/B-PER", "a/O river/O"))
    assert (some.score is not None, some.units, some.note) == (True, 1, "")


def test_words_without_a_label_are_not_scored(model: HyperX) -> None:
    """They are still context. A sentence without any labelled word is no example."""
    task = Task("pos", TaskType.TAGGING, model.task("pos").labels, unlabelled="ignore")
    words = [["the", "cat", "sees"], ["old", "dog"], ["a", "river"]]
    data = corpus(
        [
            {"words": words[0], "labels": ["DET", "", "VERB"]},
            {"words": words[1], "labels": ["", ""]},
            {"words": words[2], "labels": ["DET", "NOUN"]},
        ]
    )
    with pytest.warns(UserWarning, match="3 of 7 words"):
        encoded = encode(data, task, model.tokenizer, 64)
    (result,) = fill(model, {Cell("pos", "eng"): encoded})
    assert (result.examples, result.units, result.unit) == (2, 4, "words")
    labels = [prediction.labels for prediction in model.predict(words, "pos", "eng")]
    right = sum(
        gold == predicted
        for sentence, of_sentence in zip(data["labels"], labels, strict=True)
        for gold, predicted in zip(sentence, of_sentence, strict=True)
        if gold
    )
    assert result.score == pytest.approx(100 * right / 4)


# --- a few examples of a cell

# Examples 2, 5 and 9 have two windows each; 0 and 7 have no rows.
OWNERS = [1, 2, 2, 3, 4, 5, 5, 6, 8, 9, 9, 10]
ROWS = Dataset.from_dict({"example": OWNERS, "row": list(range(len(OWNERS)))})


def test_a_subsample_is_evenly_spaced_and_keeps_all_rows_of_an_example() -> None:
    assert subsample(ROWS, 3)["example"][:] == [1, 4, 8]
    assert subsample(ROWS, 4)["example"][:] == [1, 3, 5, 5, 8]
    assert subsample(ROWS, 8)["example"][:] == [1, 2, 2, 3, 4, 5, 5, 6, 8, 9, 9]


def test_a_small_cell_stays_whole() -> None:
    assert subsample(ROWS, None) is ROWS
    assert subsample(ROWS, 9) is ROWS


# --- runs

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
    "dep:eng": "supervised",
    "dep:isl": "unseen combination",
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    recipe = write_project(folder, ("pos", "ner", "topic", "nli", "mlm", "dep"), {"steps": 60})
    return train(recipe, folder / "run")


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of a run that a test may change, beside it: its recipe has relative paths."""
    return Path(shutil.copytree(trained, trained.parent / tmp_path.name))


def test_every_cell_with_test_data_is_scored_by_kind(run: Path) -> None:
    results = evaluate_run(run)
    cells = results.cells
    assert {f"{c.task}:{c.language}": c.kind for c in cells} == TEST_CELLS
    assert {c.examples for c in cells if c.task == "pos"} == {COUNTS["test"]}
    by_name = {f"{c.task}:{c.language}": c for c in cells}
    assert by_name["pos:eng"].score > 80  # it has learnt something
    about = (results.name, results.method, results.seed, results.steps)
    assert about == ("tiny", "hyperx", 1, 60)
    assert results.seconds is not None
    assert results.seconds > 0
    assert results.backbone.endswith("backbone")


def test_every_word_of_the_file_is_counted(run: Path, trained: Path) -> None:
    lines = (trained.parent / "pos.eng.test").read_text().splitlines()
    words = sum(1 for line in lines if line)
    (cell,) = evaluate_run(run, [Cell("pos", "eng")]).cells
    assert cell.units == words


def test_results_and_counts_of_examples_are_kept_in_the_run_folder(run: Path) -> None:
    results = evaluate_run(run)
    assert read_results(run).model_dump() == results.model_dump()
    counts = read_examples(run)
    scored = {Cell(c.task, c.language): c for c in results.cells if c.task != "mlm"}
    assert counts.keys() == scored.keys()
    for cell, (right, total) in counts.items():
        assert len(total) == scored[cell].examples
        assert 100 * right.sum() / total.sum() == pytest.approx(scored[cell].score)
    summary = json.loads((run / "training.json").read_text())
    assert results.trained_parameters == summary["trained_parameters"] > 1000


def test_chosen_cells_and_other_splits_do_not_change_kept_results(run: Path) -> None:
    evaluate_run(run, [Cell("pos", "eng")])
    evaluate_run(run, split="dev")
    assert not (run / "results.json").exists()


def test_the_dev_split_has_the_cells_and_scores_of_training(run: Path) -> None:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    (in_training,) = (line["scores"] for line in lines if line["event"] == "dev")
    cells = evaluate_run(run, split="dev").cells
    scores = {f"{c.task}:{c.language}": c.score for c in cells}
    assert scores == pytest.approx(in_training, abs=0.001)


def test_chosen_cells_are_scored_once_and_in_their_order(run: Path) -> None:
    asked = [Cell("pos", "isl"), Cell("pos", "en"), Cell("pos", "eng"), Cell("pos", "isl")]
    cells = evaluate_run(run, asked).cells
    assert [c.language for c in cells] == ["isl", "eng"]


def test_a_chosen_cell_has_the_same_score_as_among_all(run: Path) -> None:
    every = {(c.task, c.language): c for c in evaluate_run(run).cells}
    for cell in (Cell("ner", "isl"), Cell("mlm", "fao")):
        (one,) = evaluate_run(run, [cell]).cells
        assert one == every[cell]


def test_a_cell_without_data_is_refused_with_a_list_of_those_that_have_some(run: Path) -> None:
    with pytest.raises(UnknownNameError, match=r'"nli:fao".*pos:eng') as error:
        evaluate_run(run, [Cell("pos", "eng"), Cell("nli", "fao")])
    assert "ner:isl" in str(error.value)
    with pytest.raises(UnknownNameError, match=r'"nre:eng".*"ner:eng"'):
        evaluate_run(run, [Cell("nre", "eng")])
    with pytest.raises(UnknownNameError, match='"enlgish"'):
        evaluate_run(run, [Cell("pos", "enlgish")])
    with pytest.raises(UnknownNameError, match="dev data"):
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


def test_labels_that_training_did_not_know_are_named(run: Path, tmp_path: Path) -> None:
    project = write_project(tmp_path / "project", ("pos",))
    other = train(project, tmp_path / "other")
    for language in ("eng", "dan"):
        (project.parent / f"pos.{language}.test").write_text("the\tDET\ncat\tNOWN\n")
    with pytest.raises(DataError, match="NOWN") as error:
        evaluate_run(other)
    places = {(Path(p.file).name, p.line) for p in error.value.problems if p.file}
    assert places == {("pos.eng.test", 1), ("pos.dan.test", 1)}
    assert 'Did you mean "NOUN"' in str(error.value)
    assert all(tag in str(error.value) for tag in set(TAGS.values()))


def test_an_unfinished_run_is_refused_with_the_command_that_resumes_it(run: Path) -> None:
    (run / "training.json").unlink()
    (run / "model.json").unlink()
    with pytest.raises(RunError, match=f"hyperlect train --resume {run}"):
        evaluate_run(run)


def test_a_recipe_without_test_data_is_refused(tmp_path: Path) -> None:
    project = write_project(tmp_path / "project", ("pos",))
    project.write_text(project.read_text().replace("      test: pos", "      x-test: pos"))
    lines = [line for line in project.read_text().splitlines() if "x-test" not in line]
    kept = "\n".join(lines).replace("    fao:\n", "").replace("    dan:\n", "")
    project.write_text(kept + "\n")
    run = train(project, tmp_path / "run", "training.steps=3")
    with pytest.raises(HyperlectError, match="no test data"):
        evaluate_run(run)


def test_the_recipe_decides_the_precision_of_scoring(
    run: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On dev files in training, and on test files after it."""
    precisions: list[Precision] = []
    module = importlib.import_module("hyperlect.evaluation.evaluate")
    trainer = importlib.import_module("hyperlect.training.trainer")

    def note(*arguments: Any, **options: Any) -> Any:
        precisions.append(arguments[3])
        return fill(*arguments, **options)

    for place in (module, trainer):
        monkeypatch.setattr(place, "fill", note)
    evaluate_run(run)
    assert set(precisions) == {"fp32"}
    precisions.clear()
    changes = ("evaluation.precision=bf16", "training.steps=4")
    lowered = train(trained.parent / "recipe.yaml", tmp_path / "lowered", *changes)
    on_dev = len(precisions)
    evaluate_run(lowered)
    assert 0 < on_dev < len(precisions)
    assert set(precisions) == {"bf16"}


def test_the_recipe_limits_the_examples_of_a_cell(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On dev files in training, and on test files after it."""
    counts: list[set[int]] = []
    trainer = importlib.import_module("hyperlect.training.trainer")

    def note(*arguments: Any) -> Any:
        results = fill(*arguments)
        counts.append({result.examples for result in results})
        return results

    monkeypatch.setattr(trainer, "fill", note)
    changes = ("evaluation.examples=3", "training.steps=4", "training.evaluate_every=2")
    limited = train(trained.parent / "recipe.yaml", tmp_path / "limited", *changes)
    assert counts == [{3}, {3}]
    results = evaluate_run(limited, [Cell("pos", "eng"), Cell("dep", "eng"), Cell("mlm", "fao")])
    assert {result.examples for result in results.cells} == {3}


@pytest.mark.parametrize("as_test_file", [True, False])
@pytest.mark.parametrize(
    ("cell", "changes", "change"),
    [
        ("pos:eng", "tasks.pos.label_map={SUBSTANTIVE: NOUN}", (r"\tNOUN", r"\tSUBSTANTIVE")),
        ("ner:eng", "tasks.ner.scheme=bioes", (r"\tB-(\w+)\n(?!\S+\tI-)", r"\tS-\1\n")),
    ],
)
def test_data_may_be_marked_otherwise_than_in_training(
    run: Path, trained: Path, cell: str, changes: str, change: tuple[str, str], as_test_file: bool
) -> None:
    """The recipe says how, for its own test data and for other files."""
    task, language = Cell.parse(cell)
    test = trained.parent / f"{task}.{language}.test"
    other = trained.parent / f"{task}.{language}.other"
    other.write_text(re.sub(*change, test.read_text()))
    (expected,) = evaluate_run(run, [Cell.parse(cell)]).cells
    if as_test_file:
        recipe = load_recipe(trained.parent / "recipe.yaml", [changes])
        (marked,) = evaluate_run(run, files={Cell.parse(cell): other}, recipe=recipe).cells
    else:
        number = list(load_recipe(trained.parent / "recipe.yaml").tasks).index(task)
        place = f"data.{number}.cells.{language}.test={other.name}"
        recipe = load_recipe(trained.parent / "recipe.yaml", [changes, place])
        (marked,) = evaluate_run(run, [Cell.parse(cell)], recipe=recipe).cells
    assert (marked.score, marked.units) == (expected.score, expected.units)


def test_other_files_can_be_scored(run: Path, trained: Path, tmp_path: Path) -> None:
    """In the format of the recipe's data for the task; the kept results do not change."""
    file = tmp_path / "other.txt"
    file.write_text("the\tDET\ncat\tNOUN\n\nAnna\tPROPN\n")
    files = {Cell("pos", "dan"): file, Cell("ner", "isl"): trained.parent / "ner.eng.test"}
    pos, ner = evaluate_run(run, files=files).cells
    assert (pos.task, pos.language, pos.examples, pos.units) == ("pos", "dan", 2, 3)
    assert str(pos.kind) == "unseen language, untouched"
    (of_recipe,) = evaluate_run(run, [Cell("ner", "eng")]).cells
    assert (ner.examples, ner.units) == (of_recipe.examples, of_recipe.units)
    assert not (run / "results.json").exists()
    file.write_text("the\tNOWN\n")
    with pytest.raises(DataError, match="NOWN"):
        evaluate_run(run, files=files)
    with pytest.raises(DataError, match=r"absent\.txt"):
        evaluate_run(run, files={Cell("pos", "dan"): tmp_path / "absent.txt"})
    with pytest.raises(UnknownNameError, match='"poss"'):
        evaluate_run(run, files={Cell("poss", "dan"): file})


def test_other_files_are_looked_for_among_the_training_data(
    run: Path, trained: Path, tmp_path: Path
) -> None:
    train = (trained.parent / "pos.eng.train").read_text()
    file = tmp_path / "other.txt"
    file.write_text(train)
    with pytest.raises(DataError, match=r"pos:dan.*other\.txt.*pos\.eng\.train"):
        evaluate_run(run, files={Cell("pos", "dan"): file})
    file.write_text(train.split("\n\n")[0] + "\n\nunlikely\tADJ\nwords\tNOUN\n")
    with pytest.warns(UserWarning, match=r"1 of 2 .*other\.txt"):
        evaluate_run(run, files={Cell("pos", "dan"): file})
    recipe = load_recipe(run / "recipe.yaml", [f"folder={tmp_path}"], check_files=False)
    with pytest.warns(UserWarning, match="Not all"):
        evaluate_run(run, files={Cell("pos", "dan"): file}, recipe=recipe)


def test_a_file_without_a_label_is_named(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "other.txt"
    file.write_text("the\t_\ncat\t_\n")
    recipe = load_recipe(run / "recipe.yaml", ["tasks.pos.unlabelled=ignore"], check_files=False)
    with pytest.raises(DataError, match=r"other\.txt"):
        evaluate_run(run, files={Cell("pos", "dan"): file}, recipe=recipe)


def test_strata_follow_from_the_recipe(run: Path) -> None:
    """Nothing is known of the backbone, and the recipe comes before URIEL."""
    families = {"eng": "A", "isl": "B", "fo": "B", "dan": "C"}
    recipe = load_recipe(
        run / "recipe.yaml",
        [
            "evaluation.encoder_languages=[mbert, fo]",
            f"evaluation.families={json.dumps(families)}",
        ],
        check_files=False,
    )
    results = evaluate_run(run, recipe=recipe, device="cpu")
    assert {cell.language: cell.stratum for cell in results.cells} == {
        "eng": Stratum(True, False),  # the only language of its family
        "isl": Stratum(True, False),
        "fao": Stratum(True, True),  # Icelandic has labels
        "dan": Stratum(True, False),
    }
    assert read_results(run).cells == tuple(
        cell.model_copy(update={"by_example": ()}) for cell in results.cells
    )


def test_strata_of_a_known_encoder_and_of_uriel(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load_recipe(run / "recipe.yaml", check_files=False)
    known = recipe.model_copy(update={"backbone": "builtin:e5-small"})
    table = Typology(
        "uriel",
        ("eng", "isl", "fao"),
        {"family": ("F_X",)},
        {"family": np.array([[1], [1], [0]])},
    )
    codes = {"eng", "fao", "dan"}
    grid = Grid([Cell("pos", "eng"), Cell("pos", "isl"), Cell("mlm", "dan")], ["mlm"])

    def read(source: str, blocks: Any) -> Typology:
        assert (source, blocks) == ("uriel", ["family"])
        return table

    monkeypatch.setattr(Typology, "read", read)
    assert find_strata(known, grid, codes) == {
        "eng": Stratum(True, True),
        "fao": Stratum(False, None),  # of a family that the table does not know
        "dan": Stratum(True, None),
    }

    def missing(source: str, blocks: Any) -> Typology:
        raise DataError("URIEL is not installed.")

    monkeypatch.setattr(Typology, "read", missing)
    assert find_strata(recipe, grid, {"eng"}) == {"eng": Stratum()}


def test_progress_is_shown_on_the_console(run: Path) -> None:
    shown = io.StringIO()
    evaluate_run(run, [Cell("pos", "eng")], console=Console(file=shown, force_terminal=True))
    assert "pos:eng" in shown.getvalue()


def test_a_summary_of_training_that_is_cut_off_is_refused(run: Path) -> None:
    (run / "training.json").write_text('{"steps": 6')
    with pytest.raises(RunError, match=r"training\.json"):
        evaluate_run(run)


# --- cells without test data


@pytest.mark.filterwarnings("ignore:.*sub-words.*cut off")
def test_cells_without_test_data_are_expected_from_other_tasks_sentences(trained: Path) -> None:
    """Of each language that has sentences of any task, raw text included; labels are not read."""
    recipe = load_recipe(trained / "recipe.yaml")
    model, trust = HyperX.from_pretrained(trained), Trust.read(trained)
    expected = expect_untested(model, recipe, trust, examples=24)
    # In Danish there are too few; a cell with test data has a score instead.
    assert set(expected) == {Cell("topic", "isl"), Cell("topic", "fao")}
    for score in expected.values():
        assert 0 <= score.low <= score.score <= score.high <= 100
    assert expect_untested(model, recipe, trust, examples=9) == {}
