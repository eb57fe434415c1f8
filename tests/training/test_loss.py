"""The loss of a step: the mean over the scored units of each task, however the step is divided."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from hyperlect.data.batching import Batch, TaskRows, WordIndex, collate, mask_rows
from hyperlect.data.encoding import encode
from hyperlect.grid import Cell
from hyperlect.heads import ParserHead, ParseScores, TaggingHead
from hyperlect.heads.parsing import Biaffine, PairScores
from hyperlect.model import HyperX
from hyperlect.tasks import Task, TaskType
from hyperlect.training.processes import sum_gradients
from hyperlect.training.trainer import batch_losses, read_losses, task_weights

from ..data.made import corpus, parsed, tagged
from ..model.models import MLM, NER, POS, TOPIC, tiny_model

DEP = Task("dep", TaskType.PARSING, ("obj", "root"))
TASKS = (POS, NER, DEP, TOPIC, MLM)
WORDS = ("the", "cat", "sees", "xyz", "Oslo", "old", "river")

# --- by hand

CELLS = {name: Cell(name, "eng") for name in ("ner", "topic", "dep")}
LOGITS = {
    "ner": torch.tensor([[2.0, 0, -1], [0.5, 0.5, 0], [1.0, 0, 0], [0, 3.0, 1]]),
    "topic": torch.tensor([[1.0, -1.0]]),
}
LABELS = {"ner": [0, 2, 1, 1], "topic": [1], "dep": [1, 0]}
ONE_HOT = torch.eye(3)[None]
RELATIONS = Biaffine(3, 2).requires_grad_(False)  # of one-hot vectors: its weights are the scores
RELATIONS.weight[:, :2, :3] = torch.arange(12.0).view(2, 3, 2).permute(2, 0, 1) % 5
PARSE = ParseScores(
    arcs=torch.tensor([[[1.0, 0, 0], [0, 2.0, -1.0]]]),
    relations=PairScores(
        torch.eye(3)[None, :2], torch.eye(3)[None], RELATIONS.requires_grad_(False)
    ),
    real=torch.tensor([[True, True]]),
)


def batch_by_hand(examples: Mapping[str, int]) -> Batch:
    """A batch with a number of examples of each task, whose heads score as above."""
    tasks = {
        name: TaskRows(
            torch.arange(count),
            counts=(1,) * count,
            labels=torch.tensor(LABELS[name]),
            words=WordIndex.of(torch.tensor([[0, 1, 2]])) if name == "dep" else None,
            heads=torch.tensor([0, 1]) if name == "dep" else None,
        )
        for name, count in examples.items()
    }
    cells = [CELLS[name] for name, count in examples.items() for _ in range(count)]
    indices = tuple(range(len(cells)))
    return Batch(cells, torch.ones(1, 3), torch.ones(1, 3), tasks, indices=indices)


def model_by_hand() -> Any:
    heads = {"ner": TaggingHead(2, 3), "topic": TaggingHead(2, 2), "dep": ParserHead(2, 2)}
    scores = {**LOGITS, "dep": PARSE}
    return SimpleNamespace(run=lambda _: SimpleNamespace(scores=scores), head=heads.__getitem__)


def surprise(task: str) -> float:
    """The mean of -log p(label)."""
    chances = [[math.exp(x) for x in row] for row in LOGITS[task].tolist()]
    values = [-math.log(row[y] / sum(row)) for row, y in zip(chances, LABELS[task], strict=True)]
    return sum(values) / len(values)


def losses_of(batch: Batch) -> tuple[dict[str, float], float]:
    weights = task_weights([batch], ["ner", "topic", "dep"])
    losses, total = batch_losses(model_by_hand(), batch, weights)
    assert not any(loss.requires_grad for loss in losses.values())
    return {task: loss.item() for task, loss in losses.items()}, total.item()


def test_a_loss_is_the_mean_cross_entropy_of_the_labels() -> None:
    losses, total = losses_of(batch_by_hand({"ner": 2}))
    assert losses == pytest.approx({"ner": surprise("ner")})
    assert total == pytest.approx(surprise("ner"))


def test_tasks_count_by_their_share_of_the_examples() -> None:
    losses, total = losses_of(batch_by_hand({"ner": 2, "topic": 1}))
    assert losses == pytest.approx({"ner": surprise("ner"), "topic": surprise("topic")})
    assert total == pytest.approx(2 / 3 * surprise("ner") + 1 / 3 * surprise("topic"))


def test_the_loss_of_trees_is_that_of_heads_and_of_relations() -> None:
    losses, total = losses_of(batch_by_hand({"dep": 3, "topic": 1}))
    heads = [math.log(math.e + 2) - 1, math.log(1 + math.exp(2) + math.exp(-1)) - 2]
    relations = [math.log(1 + math.e) - 1, math.log(math.exp(3) + math.exp(4)) - 3]
    expected = (sum(heads) + sum(relations)) / 2
    assert losses["dep"] == pytest.approx(expected)
    assert total == pytest.approx(3 / 4 * expected + 1 / 4 * surprise("topic"))


def test_a_batch_may_have_nothing_to_score() -> None:
    """As rows of raw text in a script that the encoder does not know: all is unknown."""
    nothing = replace(
        batch_by_hand({"topic": 1}), tasks={"topic": TaskRows(torch.arange(1), counts=(0,))}
    )
    assert losses_of(nothing) == ({}, 0.0)


def test_weights_count_the_examples_and_units_of_all_batches() -> None:
    batches = [batch_by_hand({"ner": 2, "topic": 1}), batch_by_hand({"ner": 1})]
    weights = task_weights(batches, ["dep", "ner", "topic"])
    assert weights == {"dep": (0, 0), "ner": (0.75, 8), "topic": (0.25, 1)}


class TwoProcesses:
    """Stands for an accelerator whose other process has other values."""

    num_processes, device = 2, torch.device("cpu")

    def __init__(self, *others: Tensor) -> None:
        self.others = list(others)

    def reduce(self, tensor: Tensor, reduction: str) -> Tensor:
        assert reduction == "sum"
        return tensor + self.others.pop(0)


def test_weights_count_the_examples_of_all_processes() -> None:
    other: Any = TwoProcesses(torch.tensor([[0.0, 0], [1, 4], [4, 4]]))
    weights = task_weights([batch_by_hand({"ner": 3})], ["dep", "ner", "topic"], other)
    assert weights == {"dep": (0, 0), "ner": (0.5, 8), "topic": (0.5, 4)}


def test_gradients_are_summed_over_processes() -> None:
    """One that a process lacks is zero there; one that all lack stays absent."""
    here, there, nowhere = (torch.nn.Parameter(torch.zeros(2)) for _ in range(3))
    here.grad = torch.tensor([1.0, 2.0])
    other: Any = TwoProcesses(torch.tensor([1.0, 1, 0]), torch.tensor([10.0, 10, 3, 4]))
    sum_gradients([here, there, nowhere], other)
    assert here.grad.tolist() == [11, 12]
    assert there.grad is not None
    assert there.grad.tolist() == [3, 4]
    assert nowhere.grad is None


# --- what is not finite


def losses_and_norm(loss: float = 1.0, norm: float = 0.5) -> tuple[Any, ...]:
    """What `read_losses` takes: two batches, of four tags and of one."""
    batches = [batch_by_hand({"ner": 2, "topic": 1}), batch_by_hand({"ner": 1})]
    one_tag = replace(batches[1].tasks["ner"], labels=torch.tensor([1]))
    batches[1] = replace(batches[1], tasks={"ner": one_tag})
    losses = [{"ner": torch.tensor(1.5), "topic": torch.tensor(2.5)}, {"ner": torch.tensor(loss)}]
    weights = task_weights(batches, ["dep", "ner", "topic"])
    return batches, losses, torch.tensor(norm), weights


def test_the_losses_of_a_step_are_means_over_all_its_units() -> None:
    """Not means over its batches, nor over the processes."""
    batches, losses, norm, weights = losses_and_norm(loss=1.2)
    batches = [replace(batch, tokens=5) for batch in batches]
    means, tokens, length, faults = read_losses(batches, losses, norm, weights)
    assert means == pytest.approx({"ner": (4 * 1.5 + 1.2) / 5, "topic": 2.5})
    assert (tokens, length) == (10, 0.5)
    assert not faults
    weights = {"dep": (0.2, 4.0), "ner": (0.6, 13.0), "topic": (0.2, 1.0)}  # of both processes
    other: Any = TwoProcesses(torch.tensor([8.0, 4.8, 0.0, 7.0]))
    means, tokens, *_ = read_losses(batches, losses, norm, weights, other)
    assert means == pytest.approx({"dep": 2.0, "ner": (4 * 1.5 + 1.2 + 4.8) / 13, "topic": 2.5})
    assert tokens == 17


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_named_with_its_rows(value: float) -> None:
    *_, faults = read_losses(*losses_and_norm(loss=value))
    ((what, rows),) = faults.items()
    assert f"ner:eng is {value}" in what
    assert rows == [(Cell("ner", "eng"), 0)]


def test_a_gradient_that_is_not_finite_is_named_with_all_rows() -> None:
    *_, faults = read_losses(*losses_and_norm(norm=math.nan))
    ((what, rows),) = faults.items()
    assert "gradient" in what
    assert {cell.task for cell, _ in rows} == {"ner", "topic"}


# --- division of a step


@pytest.fixture(scope="module")
def model() -> HyperX:
    return tiny_model(tasks=TASKS, head_dropout=0.0, max_length=24).double()


@pytest.fixture(scope="module")
def rows(model: HyperX, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Cell, Any]]:
    """Rows of every task, from sentences of 2 to 30 words; the longest ones have windows."""
    lengths = [2, 30, 3, 4, 25, 2, 7, 12]
    sentences = [[WORDS[(i * 5 + n) % 7] for i in range(n)] for n in lengths]
    tags = ("DET", "NOUN", "VERB")
    spans = ("O", "B-LOC", "I-LOC")

    def labelled(labels: Sequence[str]) -> Any:
        return tagged(
            *(" ".join(f"{w}/{labels[i % 3]}" for i, w in enumerate(s)) for s in sentences)
        )

    trees = (
        " ".join(f"{w}/{i // 2}/{'obj' if i else 'root'}" for i, w in enumerate(s))
        for s in sentences
    )
    texts = [{"text": " ".join(s), "label": TOPIC.labels[len(s) % 2]} for s in sentences]
    data = {
        Cell("pos", "eng"): labelled(tags),
        Cell("ner", "isl"): labelled(spans),
        Cell("dep", "tur"): parsed(*trees),
        Cell("topic", "eng"): corpus([text for text in texts if len(text["text"]) < 70]),
        Cell("mlm", "fao"): corpus(texts),
    }
    cache = tmp_path_factory.mktemp("cache")
    encoded = {
        cell: encode(examples, model.task(cell.task), model.tokenizer, model.max_length, cache)
        for cell, examples in data.items()
    }
    loaded = [(cell, row) for cell, of_cell in encoded.items() for row in of_cell]
    order = torch.randperm(len(loaded), generator=torch.Generator().manual_seed(1)).tolist()
    return [loaded[place] for place in order]


def divided(model: HyperX, rows: Sequence[tuple[Cell, Any]], bounds: Sequence[int]) -> list[Batch]:
    """Mask all rows, and then collate the parts between bounds."""
    cells = [cell for cell, _ in rows]
    generator = torch.Generator().manual_seed(4)
    masked = mask_rows([row for _, row in rows], cells, model.tasks, model.tokenizer, generator)
    edges = [0, *bounds, len(rows)]
    return [
        collate(masked[a:b], cells[a:b], model.tasks, model.tokenizer)
        for a, b in itertools.pairwise(edges)
        if a < b
    ]


def gradient_of(
    model: HyperX, batches: Sequence[Batch], processes: int = 1
) -> tuple[float, dict[str, Tensor]]:
    """The loss of a step, and its gradient; batches are dealt out to processes."""
    model.zero_grad()
    weights = task_weights(batches, list(model.tasks))
    loss = 0.0
    for rank in range(processes):
        share = batches[rank::processes]
        with model.shared_weights([cell for batch in share for cell in batch.cells]):
            for batch in share:
                _, total = batch_losses(model, batch, weights)
                total.backward()
                loss += total.item()
    return loss, {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("task", ["pos", "ner", "dep", "mlm", "all"])
@pytest.mark.parametrize("processes", [1, 2])
def test_micro_batches_and_processes_have_the_gradient_of_one_batch(
    model: HyperX, rows: list[tuple[Cell, Any]], task: str, processes: int
) -> None:
    """On uneven sentences, with the masks of raw text."""
    chosen = [(cell, row) for cell, row in rows if task in ("all", cell.task)]
    loss, expected = gradient_of(model, divided(model, chosen, []))
    flat = torch.cat([gradient.flatten() for gradient in expected.values()])
    assert flat.norm() > 0.01
    size = len(chosen)
    for bounds in ([size // 2], [1, 2, 5], range(1, size)):
        again, gradient = gradient_of(model, divided(model, chosen, bounds), processes)
        assert again == pytest.approx(loss)
        assert gradient.keys() == expected.keys()
        for name, tensor in gradient.items():
            torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-8, msg=name)
        other = torch.cat([tensor.flatten() for tensor in gradient.values()])
        assert torch.cosine_similarity(flat, other, dim=0) == pytest.approx(1, abs=1e-9)


def test_the_loss_of_a_step_is_the_mean_over_all_its_units(
    model: HyperX, rows: list[tuple[Cell, Any]]
) -> None:
    """Not the mean of the means of rows, which would weigh words of short sentences more."""
    chosen = [(cell, row) for cell, row in rows if cell.task == "pos"]
    loss, _ = gradient_of(model, divided(model, chosen, [3, 4]))
    total = units = 0.0
    means = []
    for batch in divided(model, chosen, range(1, len(chosen))):
        of_task = batch.tasks["pos"]
        mean = model.head("pos").loss(model.run(batch).logits, of_task).item()
        total, units = total + mean * of_task.units, units + of_task.units
        means.append(mean)
    assert loss == pytest.approx(total / units)
    assert loss != pytest.approx(sum(means) / len(means), rel=1e-3)


def test_a_sentence_of_1500_words_trains_without_the_relations_of_all_pairs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They would take memory of the number of words squared, times the number of relations."""
    forward = Biaffine.forward

    def arcs_alone(self: Biaffine, x: Tensor, y: Tensor) -> Tensor:
        assert len(self.weight) == 1, "relations of all pairs"
        return forward(self, x, y)

    monkeypatch.setattr(Biaffine, "forward", arcs_alone)
    relations = ("obj", *(f"r{n}" for n in range(30)), "root")
    task = Task("dep", TaskType.PARSING, relations)
    model = tiny_model(tasks=(task,), languages=("eng",), trained=(), parser="direct")
    tree = " ".join(f"{WORDS[n % 7]}/{n // 2}/{'obj' if n else 'root'}" for n in range(1500))
    encoded = encode(parsed(tree), task, model.tokenizer, model.max_length)
    rows = [(Cell("dep", "eng"), row) for row in encoded]
    batches = divided(model, rows, [])
    assert len(batches[0].cells) > 20  # windows
    loss, gradient = gradient_of(model, batches)
    assert math.isfinite(loss)
    assert gradient["heads.dep.relations.weight"].any()
    (prediction,) = model.predict([[WORDS[n % 7] for n in range(1500)]], "dep", "eng")
    assert len(prediction.heads) == 1500
    assert prediction.heads.count(0) == 1
