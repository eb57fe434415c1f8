"""ONNX graphs: what onnxruntime computes is what torch computes."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hyperlect.data.batching import Batch, collate
from hyperlect.data.encoding import encode_inputs
from hyperlect.errors import HyperlectError, RunError, UnknownNameError
from hyperlect.grid import Cell
from hyperlect.model import HyperX
from hyperlect.run_folder import ONNX, ONNX_GRAPH
from hyperlect.tasks import Task, TaskType
from tests.documents import blocks, run_python
from tests.export.models import lora_model
from tests.model.models import MLM, NER, POS, TOPIC, tiny_model
from tests.tiny import FAMILY_NAMES, WORDS, saved_backbone

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from hyperlect.export.onnx import OnnxModel, export_onnx, require_packages

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
            # The random parser has scores above 100, which must agree in five digits.
            largest = wanted[wanted.isfinite()].abs().max()
            torch.testing.assert_close(got, wanted, atol=max(1e-4, 1e-5 * largest), rtol=0)


CELLS = [Cell(task.name, language) for task in TASKS for language in LANGUAGES]


@pytest.fixture(scope="module")
def bert() -> HyperX:
    model = tiny_model("bert", tasks=(*TASKS, MLM), trained=(Cell("pos", "isl"),))
    for tensor in model.change_cell("pos", "isl").values():
        tensor.data += 0.05
    return model


@pytest.fixture(scope="module")
def whole(bert: HyperX, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the whole model; tests must not change it."""
    folder = tmp_path_factory.mktemp("whole")
    export_onnx(bert, None, folder)
    return folder


@pytest.mark.parametrize("cells", [CELLS, [Cell("topic", "isl")], [*CELLS[3:5], *CELLS[12:16]]])
def test_the_whole_model_runs_rows_of_many_cells(
    cells: list[Cell], bert: HyperX, whole: Path
) -> None:
    exported = OnnxModel(whole, threads=1)
    assert exported.max_length == bert.max_length
    assert_equal(bert, exported, cells)


@pytest.mark.slow
@pytest.mark.parametrize("family", [name for name in FAMILY_NAMES if name != "bert"])
def test_every_family_has_its_graph(family: str, tmp_path: Path) -> None:
    model = tiny_model(family, tasks=(POS, TOPIC, DEP), trained=())
    export_onnx(model, None, tmp_path)
    cells = [cell for cell in CELLS if cell.task in model.tasks]
    assert_equal(model, OnnxModel(tmp_path), cells)


@pytest.mark.parametrize("task", [POS, DEP], ids=lambda task: task.name)
def test_one_cell_has_its_adapter_as_constants(task: Task, bert: HyperX, tmp_path: Path) -> None:
    cell = Cell(task.name, "isl")
    export_onnx(bert, cell, tmp_path)
    exported = OnnxModel(tmp_path, threads=1)
    assert not {"task", "language"} & {node.name for node in exported.session.get_inputs()}
    assert_equal(bert, exported, [cell])
    for other in (Cell(task.name, "tur"), Cell("ner", "isl")):
        with pytest.raises(HyperlectError, match=str(cell)):
            exported.run(batch(bert, [other]))


def test_predictions_are_those_of_torch(bert: HyperX, whole: Path) -> None:
    """Also in one call for many cells, of long sentences, and with what describes them."""
    exported = OnnxModel(whole)
    texts = ["Anna sees the cat", "a dog " * 40, "the old river in Oslo"] * 4
    tasks = [*["pos", "ner", "dep", "topic"] * 3]
    languages = [*["eng"] * 4, *["fao"] * 4, *["isl"] * 4]
    expected = bert.predict(texts, tasks, languages)
    actual = exported.predict(texts, tasks, languages)
    for wanted, got in zip(expected, actual, strict=True):
        exact = {"confidences": (), "scores": None, "promised": ()}
        assert replace(got, **exact) == replace(wanted, **exact)
        assert got.confidences == pytest.approx(wanted.confidences, abs=1e-4)


@pytest.mark.parametrize("method", ["mad-x", "factorised", "head"])
def test_every_method_has_its_graph(method: str, tmp_path: Path) -> None:
    """With no vector for one language; those that read no language need not know it."""
    tasks = (POS, TOPIC, MLM)
    trained = tuple(Cell("mlm", language) for language in LANGUAGES[:3])
    model = tiny_model(method=method, tasks=tasks, trained=trained)
    export_onnx(model, None, tmp_path)
    languages = LANGUAGES[:3] if method == "mad-x" else LANGUAGES
    cells = [Cell(task, language) for task in ("pos", "topic") for language in languages]
    assert_equal(model, OnnxModel(tmp_path), cells)


@pytest.mark.parametrize("cell", [None, Cell("pos", "isl")])
def test_generated_lora_has_its_graph(cell: Cell | None, tmp_path: Path) -> None:
    model = lora_model(tmp_path)
    export_onnx(model, cell, tmp_path / "onnx")
    cells = [cell] if cell else [Cell("pos", "isl"), Cell("topic", "fao"), Cell("dep", "eng")]
    assert_equal(model, OnnxModel(tmp_path / "onnx"), cells)


def test_lora_that_rows_cannot_share_is_refused(tmp_path: Path) -> None:
    model = lora_model(tmp_path, "deberta-v2")
    assert not model.hooks.mixes_cells
    with pytest.raises(HyperlectError, match="one cell"):
        export_onnx(model, None, tmp_path / "onnx")
    assert not (tmp_path / "onnx").exists()


def test_int8_is_smaller_and_close(bert: HyperX, whole: Path, tmp_path: Path) -> None:
    export_onnx(bert, None, tmp_path, quantize="int8")
    assert json.loads((tmp_path / ONNX).read_text())["precision"] == "int8"
    assert (tmp_path / ONNX_GRAPH).stat().st_size < (whole / ONNX_GRAPH).stat().st_size
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in whole.iterdir()}
    rows = batch(bert, [Cell("pos", "isl"), Cell("pos", "fao")])
    full, rounded = (OnnxModel(folder).run(rows).scores["pos"] for folder in (whole, tmp_path))
    assert not rounded.equal(full)
    assert (rounded - full).abs().max() < 0.03 * full.abs().max()


def test_a_graph_names_no_path_of_the_machine(whole: Path) -> None:
    assert str(Path(__file__).parents[2]).encode() not in (whole / ONNX_GRAPH).read_bytes()


def test_what_cannot_be_exported(bert: HyperX, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    with pytest.raises(HyperlectError, match="mlm"):
        export_onnx(bert, Cell("mlm", "isl"), folder)
    with pytest.raises(UnknownNameError, match="srl"):
        export_onnx(bert, Cell("srl", "isl"), folder)
    with pytest.raises(UnknownNameError, match="islandic"):
        export_onnx(bert, Cell("pos", "islandic"), folder)
    with pytest.raises(HyperlectError, match=r"\[onnx\]"):
        require_packages("onnx", "no_such_package")
    assert not folder.exists()


def test_a_graph_of_other_bytes_is_refused(bert: HyperX, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    export_onnx(bert, Cell("pos", "isl"), folder)
    graph = folder / ONNX_GRAPH
    whole = graph.read_bytes()
    graph.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    with pytest.raises(RunError, match=str(graph)):
        OnnxModel(folder)
    about = json.loads((folder / ONNX).read_text())
    del about["sha256"]  # as version 0.1 wrote it
    (folder / ONNX).write_text(json.dumps(about))
    graph.write_bytes(whole)
    assert OnnxModel(folder).tasks


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="missing"):
        OnnxModel(tmp_path)
    (tmp_path / ONNX).write_text('{"format_version": 99}')
    with pytest.raises(RunError, match="99"):
        OnnxModel(tmp_path)
    (tmp_path / ONNX).write_text('{"format_version": 1}')
    with pytest.raises(RunError, match="malformed"):
        OnnxModel(tmp_path)


def test_examples_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one does with onnxruntime alone what the first does."""
    monkeypatch.chdir(tmp_path)
    model = tiny_model(saved_backbone(tmp_path / "encoder"))
    model.save_pretrained("runs/mine")
    names = run_python(*(block for _, block in blocks("onnx.md", "python")))
    (prediction,) = model.predict([names["words"]], task="pos", language="isl")
    assert tuple(names["tags"]) == prediction.labels
