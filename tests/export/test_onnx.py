"""ONNX graphs: what onnxruntime computes is what torch computes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from hyperlect.data.batching import Batch, collate
from hyperlect.data.encoding import encode_inputs
from hyperlect.grid import Cell
from hyperlect.model import HyperX
from hyperlect.tasks import Task, TaskType
from tests.model.models import NER, POS, TOPIC, tiny_model
from tests.tiny import FAMILY_NAMES, WORDS

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from hyperlect.export.onnx import OnnxModel, export_onnx

DEP = Task("dep", TaskType.PARSING, ("det", "obj", "root"))
NLI = Task("nli", TaskType.PAIRS, ("same", "other"))
TASKS = (POS, NER, TOPIC, DEP, NLI)
LANGUAGES = ("eng", "isl", "tur", "fao")  # without a vector: fao
LENGTHS = (1, 2, 70, 3, 12, 1, 5)  # 70 words are several windows


def batch(model: HyperX, cells: list[Cell]) -> Batch:
    """Sentences of skewed lengths, one of each length a cell; those of a pair have two."""
    source = random.Random(5)
    rows, of_rows = [], []
    for cell in cells:
        task = model.task(cell.task)
        inputs = [[source.choice(WORDS) for _ in range(length)] for length in LENGTHS]
        values = inputs
        if not task.type.reads_words:
            texts = [" ".join(words[:20]) for words in inputs]
            values = list(zip(texts, texts[::-1], strict=True)) if task is NLI else texts
        encoded = encode_inputs(values, task, model.tokenizer, model.max_length)
        rows += encoded
        of_rows += [cell] * len(encoded)
    return collate(rows, of_rows, model.tasks, model.tokenizer)


def assert_equal(model: HyperX, exported: OnnxModel, cells: list[Cell]) -> None:
    rows = batch(model, cells)
    with torch.no_grad():
        expected = model.run(rows).scores
    actual = exported.run(rows).scores
    assert actual.keys() == expected.keys() == {cell.task for cell in cells}
    for name, scores in expected.items():
        if name == "dep":
            real = scores.real
            assert actual[name].real.equal(real)
            pairs = [(scores.arcs, actual[name].arcs)]
            pairs += [(scores.relations[:].detach()[real], actual[name].relations.scores[real])]
        else:
            pairs = [(scores, actual[name])]
        for wanted, got in pairs:
            torch.testing.assert_close(got, wanted, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_the_whole_model_runs_rows_of_many_cells(family: str, tmp_path: Path) -> None:
    model = tiny_model(family, tasks=TASKS, trained=())
    export_onnx(model, None, tmp_path)
    exported = OnnxModel(tmp_path, threads=1)
    assert exported.max_length == model.max_length
    cells = [Cell(task.name, language) for task in TASKS for language in LANGUAGES]
    assert_equal(model, exported, cells)
    assert_equal(model, exported, [Cell("topic", "isl")])
    assert_equal(model, exported, [Cell("dep", "fao"), Cell("ner", "tur")])
