"""ONNX: one cell or the whole model as a graph, and predicting with it in onnxruntime.

A folder holds the graph, the tokenizer and `onnx.json`, which names inputs, outputs, tasks, labels
and languages. The encoder, the adapters' weights (of the whole model: the hypernetwork) and the
heads are in the graph. So the folder predicts without torch's weights.

Inputs, all int64:

    input_ids, attention_mask       (row, subword), token_type_ids where the tokenizer makes them
    task, language                  (row,), of the whole model: numbers that `onnx.json` lists
    subwords, slots                 (subword of a word,), with a parsing task; see `WordIndex`
    sizes                           (sentence, word), likewise

Outputs are fp32: `logits.TASK`, (row, subword, label) of a task over words, (row, label) of one
over texts. A parsing task has `arcs.TASK`, (sentence, word, head), and `relations.TASK`, (sentence,
word, head, label). Head 0 is the root.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from ..data.batching import Batch, TaskRows, WordIndex
from ..data.corpus import file_digest
from ..data.encoding import makes_types
from ..errors import HyperlectError, RunError
from ..grid import Cell
from ..heads import HEADS, Encoded, Head, HeadOptions, ParseScores
from ..heads.parsing import PairScores, PairTable
from ..hypernet import UNTRAINED, RowGroups
from ..model import HyperX, HyperXConfig
from ..model.config import Configured, malformed
from ..model.hyperx import HyperXOutput, add_changes
from ..predict import Inputs, predict
from ..run_folder import ONNX, ONNX_GRAPH, read_json, write_json
from ..tasks import Task, TaskType

FORMAT_VERSION = 1
OPSET = 18
LARGEST_FILE = 2**31 - 2**24
"""A graph with more bytes of weights has them in a file of their own, `model.onnx.data`."""

Quantization = Literal["int8"]
_WORDS = {"subwords": ["word_subword"], "slots": ["word_subword"], "sizes": ["sentence", "word"]}


class _Graph(nn.Module):
    """The forward pass that is exported."""

    def __init__(self, model: HyperX, cell: Cell | None) -> None:
        super().__init__()
        self.model = model
        self.tasks = _exported_tasks(model.config, cell)
        self.cell = None if cell is None else model.config.index(cell)
        self.reads_cells = model.config.reads("task") or model.config.reads("language")
        self.weights = None
        if cell is not None and model.adapters is not None:
            self.weights = model.adapter_weights(*cell).unbind()

    def axes(self) -> dict[str, list[str]]:
        """Return the axes of each input."""
        axes = {"input_ids": ["row", "subword"], "attention_mask": ["row", "subword"]}
        if makes_types(self.model.tokenizer):
            axes["token_type_ids"] = ["row", "subword"]
        if self.cell is None and self.reads_cells:
            axes |= {"task": ["row"], "language": ["row"]}
        if any(task.type is TaskType.PARSING for task in self.tasks):
            axes |= _WORDS
        return axes

    def outputs(self) -> dict[str, dict[str, Any]]:
        """Return the axes and the labels of each output."""
        described: dict[str, dict[str, Any]] = {}
        for task in self.tasks:
            if task.type is TaskType.PARSING:
                axes = ["sentence", "word", "head"]
                described[f"arcs.{task.name}"] = {"axes": axes}
                relations = {"axes": [*axes, "label"], "labels": task.labels}
                described[f"relations.{task.name}"] = relations
            else:
                axes = ["row", "subword", "label"] if task.type.reads_words else ["row", "label"]
                described[f"logits.{task.name}"] = {"axes": axes, "labels": task.labels}
        return described

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor | None = None,
        task: Tensor | None = None,
        language: Tensor | None = None,
        subwords: Tensor | None = None,
        slots: Tensor | None = None,
        sizes: Tensor | None = None,
    ) -> list[Tensor]:
        model = self.model
        rows = torch.arange(input_ids.shape[0])
        active: Any = nullcontext()
        if self.cell is not None:
            owners = torch.zeros_like(rows)
            cells = [torch.tensor([index]) for index in self.cell]
            if self.weights is not None:
                active = model.hooks.active(self.weights)
        elif task is not None and language is not None:
            # Each distinct cell's weights are generated once.
            count = len(model.languages) + 1
            keys, owners = torch.unique(task * count + language - UNTRAINED, return_inverse=True)
            cells = [keys // count, keys % count + UNTRAINED]
            if model.adapters is not None:
                groups = RowGroups(rows[:, None], owners, None)
                weights: Any = model.adapters(*cells)
                weights = add_changes(weights, cells[0], cells[1], model.cell_changes)
                active = model.hooks.active(weights.unbind(1), groups)
        with active:
            hidden, _ = model.backbone(input_ids, attention_mask, token_type_ids)
        latents = None if model.latents is None else (model.latents(*cells), owners)
        encoded = Encoded(hidden, attention_mask, model.backbone.word_embeddings, latents)
        outputs = []
        for each in self.tasks:
            words = None
            if subwords is not None and slots is not None and sizes is not None:
                words = WordIndex(subwords, slots, sizes, ())
            scores = model.head(each.name).read(encoded, TaskRows(rows, words=words))
            if isinstance(scores, ParseScores):
                assert isinstance(scores.relations, PairScores)
                outputs += [scores.arcs, scores.relations[:]]
            else:
                outputs.append(scores)
        return outputs


def _exported_tasks(config: HyperXConfig, cell: Cell | None) -> list[Task]:
    """Return the tasks of an export: all with labels, or that of the cell.

    Raises:
        UnknownNameError: there is no such task, or no such language.
        HyperlectError: the task has no labels, or the model has nothing for the cell.
    """
    if cell is None:
        tasks = [task for task in config.tasks if task.type is not TaskType.MLM]
    else:
        tasks = [config.task(cell.task)]
        config.require_applicable([cell])
    if not tasks or tasks[0].type is TaskType.MLM:
        what = "The model has no task with labels." if cell is None else f"{cell.task} has none."
        raise HyperlectError(f"ONNX exports hold tasks with labels to predict. {what}")
    return tasks


def export_onnx(
    model: HyperX, cell: Cell | None, folder: Path, quantize: Quantization | None = None
) -> None:
    """Write the ONNX graph of one cell, or of the whole model, with what predicting needs.

    Args:
        model: it is switched to evaluation.
        cell: the one whose adapter is written as constants; None for all tasks and languages.
        folder: where `model.onnx`, `onnx.json` and the tokenizer go.
        quantize: "int8" to quantize weights; activations are quantized while the graph runs.

    Raises:
        HyperlectError: a package is missing, or the task or the cell cannot be exported.
        UnknownNameError: there is no such task, or no such language.
    """
    require_packages("onnx", "onnxruntime", "onnxscript")
    if cell is None and not model.hooks.mixes_cells:
        raise HyperlectError(
            "The model's LoRA acts on projections of positions, which rows of several cells cannot "
            "share. Export one cell."
        )
    graph = _Graph(model.eval(), cell).eval()
    axes = graph.axes()
    sizes = {"row": 2, "subword": 7, "word_subword": 5, "sentence": 3, "word": 4}
    inputs = {name: torch.ones([sizes[axis] for axis in of]).long() for name, of in axes.items()}
    dims = {axis: torch.export.Dim(axis) for of_input in axes.values() for axis in of_input}
    shapes = {name: dict(enumerate(dims[axis] for axis in of)) for name, of in axes.items()}
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            graph,
            kwargs=inputs,
            dynamic_shapes=shapes,
            output_names=list(graph.outputs()),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # stack traces with paths of this machine
    folder.mkdir(parents=True, exist_ok=True)
    large = sum(tensor.nbytes for tensor in graph.state_dict().values()) > LARGEST_FILE
    if quantize is None:
        program.save(folder / ONNX_GRAPH, external_data=large)
    else:
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            full = Path(temporary) / ONNX_GRAPH
            # Without this mark, onnxruntime asks for a pre-processing that changes nothing here.
            program.model.metadata_props["onnx.quant.pre_process"] = "onnxruntime.quant"
            program.save(full, external_data=large)
            quantize_graph(full, folder / ONNX_GRAPH)
    model.tokenizer.save_pretrained(folder)
    config = model.config
    if config.language_features:  # a path of this machine; the graph reads no typology
        features = replace(config.language_features, typology=None)
        config = replace(config, language_features=features)
    first = graph.tasks[0].name
    of_tasks = {task.name: config.index(Cell(task.name, "eng"))[0] for task in graph.tasks}
    of_languages = {code: config.index(Cell(first, code))[1] for code in config.languages}
    numbers = {"task": of_tasks, "language": of_languages}
    described = {
        name: {"axes": of_input} | ({"values": numbers[name]} if name in numbers else {})
        for name, of_input in axes.items()
    }
    data = {
        "format_version": FORMAT_VERSION,
        "cell": cell,
        "opset": OPSET,
        "precision": quantize or "fp32",
        "max_length": model.max_length,
        "inputs": described,
        "outputs": graph.outputs(),
        "model": config.to_dict(),
        "sha256": _digests(folder),
    }
    write_json(folder / ONNX, data, indent=2)


def onnx_usage(model: HyperX, cell: Cell | None) -> str:
    """Return Python that loads an export from ``FOLDER``."""
    task = _exported_tasks(model.config, cell)[0]
    language = cell.language if cell else next(iter(model.languages), "eng")
    inputs = '[["A text", "another"]]' if task.type.reads == "pair" else '["A sentence"]'
    return (
        "from hyperlect.export.onnx import OnnxModel\n\n"
        'model = OnnxModel("FOLDER")\n'
        f'print(model.predict({inputs}, task="{task.name}", language="{language}"))'
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide what the exporter says about its own insides; errors are raised all the same."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def quantize_graph(source: Path, target: Path) -> None:
    """Quantize the constant matrices of a graph to int8, one scale for each column.

    The activations that they multiply are quantized with one scale for each tensor. Those inside a
    feed-forward block have outliers, so what reads them, a matrix with more inputs than outputs,
    stays in fp32. Weights take 7 of the 8 bits: processors without VNNI add two products in 16
    bits, which would overflow in silence. docs/onnx.md has the scores with and without.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(source, load_external_data=False)
    graph = model.graph
    del graph.value_info[:]  # those of some versions of transformers are wrong; others are found
    onnx.save(model, source)
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    matrices = {
        node.name: shapes[node.input[1]]
        for node in graph.node
        if node.op_type == "MatMul" and len(shapes.get(node.input[1], ())) == 2
    }
    quantize_dynamic(
        source,
        target,
        op_types_to_quantize=["MatMul", "Gather"],
        nodes_to_exclude=[name for name, (rows, columns) in matrices.items() if rows > columns],
        per_channel=True,
        weight_type=QuantType.QInt8,
        reduce_range=True,
        use_external_data_format=source.with_name(f"{ONNX_GRAPH}.data").exists(),
        extra_options={"MatMulConstBOnly": True},
    )


def require_packages(*names: str) -> None:
    """Raise `HyperlectError` that says how to install them, where packages are missing."""
    from importlib.util import find_spec

    if missing := [name for name in names if find_spec(name) is None]:
        raise HyperlectError(
            f"{', '.join(missing)} must be installed for ONNX. In your clone: "
            'pip install -e ".[onnx]" -c constraints.txt'
        )


def _digests(folder: Path) -> dict[str, str]:
    """Return the digest of each file of a graph by its name."""
    return {path.name: file_digest(path) for path in sorted(folder.glob(f"{ONNX_GRAPH}*"))}


class OnnxModel(Configured):
    """An exported model in onnxruntime, as `predict.predict` uses a `HyperX`.

    Args:
        folder: that `export_onnx` wrote.
        threads: the number of threads of one forward pass; None for as many as torch uses.

    Attributes:
        config: of the model that was exported.
        cell: the only one that the graph has; None where it has all.
        max_length: the longest input in sub-words.

    Raises:
        RunError: the folder is incomplete, malformed, damaged or of another format version.
        HyperlectError: onnxruntime is missing.
    """

    device = torch.device("cpu")

    def __init__(self, folder: str | Path, threads: int | None = None) -> None:
        folder = Path(folder)
        data = read_json(folder / ONNX, "Export the model again.", FORMAT_VERSION)
        require_packages("onnxruntime")
        import onnxruntime
        from transformers import AutoTokenizer

        with malformed(folder / ONNX):
            self.config = HyperXConfig.from_dict(data["model"])
            self.cell = data["cell"] and Cell(*data["cell"])
            self.max_length = int(data["max_length"])
        if data.get("sha256", digests := _digests(folder)) != digests:
            raise RunError(
                f"{folder / ONNX_GRAPH} is damaged, or was changed after it was written. Export "
                "the model again."
            )
        self.tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or torch.get_num_threads()
        try:
            self.session = onnxruntime.InferenceSession(folder / ONNX_GRAPH, options)
        except Exception as error:  # onnxruntime's errors have no common class
            raise RunError(f"{folder / ONNX_GRAPH} cannot be read: {error}.") from error
        self._inputs = {node.name for node in self.session.get_inputs()}

    def task(self, name: str) -> Task:
        """Return a task that the graph has. Raises `HyperlectError` for another one."""
        task = self.config.task(name)
        if self.cell is not None and name != self.cell.task:
            raise HyperlectError(f"The export holds the cell {self.cell} alone, and not {name}.")
        return task

    @cached_property
    def _heads(self) -> dict[str, Head]:
        """Heads that decode; the graph holds their weights."""
        encoder: Any = SimpleNamespace(hidden_size=1)
        return {
            task.name: HEADS[task.type].start(task, encoder, HeadOptions())
            for task in self.config.tasks
            if task.type is not TaskType.MLM
        }

    def head(self, task: str) -> Head:
        """Return the head of a task, which splits and decodes scores."""
        return self._heads[task]

    def eval_mode(self, *_: Any) -> Any:
        """Do nothing: a graph is always in evaluation mode."""
        return nullcontext()

    # Each pass generates the weights of its cells, and no graph can read features of languages.
    cached_weights = described = eval_mode

    def run(self, batch: Batch) -> HyperXOutput:
        """Run a collated batch, and score the rows of each task.

        Raises:
            HyperlectError: a row is of a cell that the graph does not have.
        """
        index = [self.config.index(cell) for cell in batch.cells]
        for cell, place in zip(batch.cells, index, strict=True):
            if self.cell and (self.task(cell.task), place)[1] != self.config.index(self.cell):
                raise HyperlectError(f"The export holds the cell {self.cell} alone, not {cell}.")
        tasks, languages = np.array(index).T
        inputs = {
            "input_ids": batch.input_ids,
            "attention_mask": batch.attention_mask,
            "token_type_ids": batch.token_type_ids,
            "task": tasks,
            "language": languages,
        }
        parsers = [name for name, rows in batch.tasks.items() if rows.words is not None]
        others = [name for name in batch.tasks if name not in parsers]
        scores: dict[str, Any] = {}
        # The graph takes the words of one parsing task; a further one is a pass of its own.
        for parser in parsers or (None,):
            words = _NO_WORDS if parser is None else batch.tasks[parser].words
            assert words is not None
            sizes = words.sizes
            inputs |= {"subwords": words.subwords, "slots": words.slots, "sizes": sizes}
            outputs = [f"logits.{name}" for name in others]
            if parser is not None:
                outputs += [f"arcs.{parser}", f"relations.{parser}"]
            arrays = self.session.run(outputs, {n: np.asarray(inputs[n]) for n in self._inputs})
            tensors = [torch.from_numpy(array) for array in arrays]
            for name in others:
                scores[name] = _of_rows(tensors.pop(0), batch.tasks[name])
            if parser is not None:
                arcs, relations = tensors
                scores[parser] = ParseScores(arcs, PairTable(relations), sizes[:, 1:] > 0)
            others = []
        return HyperXOutput(torch.empty(0), scores)

    def predict(self, inputs: Inputs, task: Any, language: Any, **options: Any) -> Any:
        """Predict as `HyperX.predict` does; see `predict.predict`."""
        return predict(self, inputs, task, language, **options)


_NO_WORDS = WordIndex(*(torch.zeros(0, dtype=torch.int64),) * 2, torch.zeros((1, 2)).long(), ())


def _of_rows(logits: Tensor, rows: TaskRows) -> Tensor:
    """Select what a task's own head would have scored of the logits of all rows."""
    if rows.positions is not None:
        return logits.flatten(0, 1)[rows.positions]
    return logits[rows.rows]
