"""The examples of docs/extending.md work: a task type, an encoder family, a reader, a method."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForMaskedLM

from hyperlect import HyperX
from hyperlect.backbone import load_backbone
from hyperlect.backbone.families import FAMILIES
from hyperlect.data.readers import READERS, Example, Source, read
from hyperlect.errors import DataError
from hyperlect.evaluation import evaluate_run
from hyperlect.evaluation.metrics import METRICS
from hyperlect.grid import Cell
from hyperlect.heads import HEADS
from hyperlect.hypernet import HypernetConfig
from hyperlect.methods import METHODS
from hyperlect.model import HyperXConfig
from hyperlect.recipe import load_recipe
from hyperlect.tasks import TASK_TYPES, Task, TaskType

from .documents import blocks, run_python
from .project import HYPERNET, train, write_project
from .tiny import HEADS as ATTENTION_HEADS
from .tiny import HIDDEN, LAYERS, POSITIONS, save_tiny, tiny_backbone, tiny_tokenizer

EXAMPLES = dict(blocks("extending.md", "python"))


@pytest.fixture(autouse=True)
def _restored_tables() -> Iterator[None]:
    """Take the rows out again that an example adds."""
    tables: list[dict[Any, Any]] = [TASK_TYPES, HEADS, METRICS, FAMILIES, READERS, METHODS]
    before = [dict(table) for table in tables]
    yield
    for table, rows in zip(tables, before, strict=True):
        table.clear()
        table.update(rows)


def test_a_task_type_is_trained_scored_saved_and_predicted_with(tmp_path: Path) -> None:
    names = run_python(EXAMPLES["A task type"])
    save_tiny(tmp_path / "encoder")
    texts = [f"the {word} cat sees Oslo\t{label}" for word, label in STARS for _ in range(3)]
    for split in ("train", "test"):
        lines = [f"{split} {text}" for text in texts]
        (tmp_path / f"{split}.tsv").write_text("\n".join(["text\tlabel", *lines]), encoding="utf-8")
    (tmp_path / "recipe.yaml").write_text(RATING, encoding="utf-8")
    run = train(tmp_path / "recipe.yaml", tmp_path / "run")
    (result,) = evaluate_run(run, device="cpu").cells
    assert (result.metric, result.unit, result.units) == ("accuracy within one", "texts", 9)
    model = HyperX.from_pretrained(run)
    assert isinstance(model.head("stars"), names["RatingHead"])
    (prediction,) = model.predict(["the old cat"], "stars", "isl")
    assert prediction.label in model.task("stars").labels
    assert prediction.scores is not None
    assert sum(prediction.scores.values()) == pytest.approx(1, abs=1e-4)
    before = names["RatingHead"](HIDDEN, 3)
    assert not torch.equal(before.cuts, model.head("stars").cuts)


def test_the_metric_of_the_example_forgives_one_step() -> None:
    run_python(EXAMPLES["A task type"])
    task = Task("stars", TASK_TYPES["rating"], ("bad", "fair", "good"))
    gold, predicted = [["bad"], ["bad"], ["good"]], [["fair"], ["good"], ["good"]]
    score = METRICS[task.type.metric](task, gold, predicted)
    assert score.value == pytest.approx(200 / 3)
    assert list(score.examples) == [(1, 1), (0, 1), (1, 1)]


def test_a_family_is_loaded_and_adapted_and_left_as_it_was(tmp_path: Path) -> None:
    run_python(EXAMPLES["An encoder family"])
    tokenizer = tiny_tokenizer("roberta")
    config = AutoConfig.for_model(
        "camembert",
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        hidden_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=ATTENTION_HEADS,
        intermediate_size=2 * HIDDEN,
        max_position_embeddings=POSITIONS + tokenizer.pad_token_id + 1,
        type_vocab_size=1,
    )
    AutoModelForMaskedLM.from_config(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    backbone = load_backbone(str(tmp_path))
    assert (backbone.family.title, backbone.max_length) == ("CamemBERT", POSITIONS)
    assert backbone.mlm_start is not None
    ids = torch.tensor([tokenizer("the cat sees Oslo")["input_ids"]])
    mask = torch.ones_like(ids)
    with torch.no_grad():
        plain, _ = backbone(ids, mask)
        model = HyperX(backbone, pos_and_ner("hyperx")).eval()
        adapted = model(ids, mask, task="pos", language="isl").last_hidden_state
        assert not torch.equal(adapted, plain)
        assert torch.equal(backbone(ids, mask)[0], plain)


def test_a_reader_reads_and_collects_problems_and_serves_recipes(tmp_path: Path) -> None:
    run_python(EXAMPLES["A data format"])
    path = tmp_path / "a.txt"
    path.write_text("the/DET cat/NOUN\n\nand//CCONJ\n", encoding="utf-8")
    assert read(Source("slashed", str(path)), word_level=True) == [
        Example(("the", "cat"), ("DET", "NOUN"), line=1),
        Example(("and/",), ("CCONJ",), line=3),
    ]
    assert read(Source("slashed", str(path)), word_level=False)[0].text == "the cat"
    faulty = tmp_path / "b.txt"
    faulty.write_text("the/DET cat\ncat/NOUN\n/DET\n", encoding="utf-8")
    with pytest.raises(DataError) as error:
        read(Source("slashed", str(faulty)), word_level=True)
    assert [(p.file, p.line) for p in error.value.problems] == [(str(faulty), 1), (str(faulty), 3)]
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(SLASHED, encoding="utf-8")
    assert [source.format for source in load_recipe(recipe).cells("train")[Cell("pos", "isl")]] == [
        "slashed"
    ]


def test_a_method_is_trained_and_writes_what_its_row_says(tmp_path: Path) -> None:
    run_python(EXAMPLES["A method"])
    path = write_project(tmp_path, ("pos", "ner"), {"steps": 2, "warmup": 0})
    run = train(path, tmp_path / "run", "method=language-adapters")
    model = HyperX.from_pretrained(run)
    icelandic = model.adapter_weights("pos", "isl")
    assert torch.equal(icelandic.down_weight, model.adapter_weights("ner", "isl").down_weight)
    english = model.adapter_weights("pos", "eng")
    assert not torch.equal(icelandic.down_weight, english.down_weight)
    unseen = model.adapter_weights("pos", "dan").down_weight
    assert torch.allclose(unseen, (icelandic.down_weight + english.down_weight) / 2)
    (prediction,) = model.predict(["the old cat"], "pos", "dan")
    assert prediction.language_source == "mean of the trained languages"
    assert prediction.words == ("the", "old", "cat")


def test_a_row_that_was_taken_out_is_unknown_again() -> None:
    """Guards the other tests: none of them leaves a row behind."""
    assert "language-adapters" not in METHODS
    with pytest.raises(ValueError, match="method must be one of"):
        HyperX(tiny_backbone(), pos_and_ner("language-adapters"))


STARS = (("old", "good"), ("not", "fair"), ("a", "bad"))
RATING = """\
format_version: 1
name: stars
backbone: encoder
hypernet: {bottleneck: 4, projection: 6, embedding: 5}
tasks: {stars: {type: rating, labels: [bad, fair, good]}}
data:
  - task: stars
    format: tsv
    fields: {text: text, label: label}
    cells: {eng: {train: train.tsv, test: test.tsv}}
training: {steps: 2, batch_size: 4, learning_rate: 1e-2}
"""
SLASHED = """\
format_version: 1
name: slashed
tasks: {pos: {type: tagging, labels: upos}}
data: [{task: pos, format: slashed, cells: {isl: {train: a.txt}}}]
"""


def pos_and_ner(method: str) -> HyperXConfig:
    return HyperXConfig(
        tasks=(
            Task("pos", TaskType.TAGGING, ("DET", "NOUN")),
            Task("ner", TaskType.SPANS, ("O", "B-LOC", "I-LOC")),
        ),
        languages=("eng", "isl"),
        trained=(Cell("pos", "eng"), Cell("ner", "eng"), Cell("pos", "isl")),
        method=method,
        hypernet=HypernetConfig(**HYPERNET),
    )
