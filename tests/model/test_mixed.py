"""A batch of several cells equals the batches of each cell alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hyperlect.data.batching import Batch, TaskRows
from hyperlect.errors import HyperlectError
from hyperlect.grid import Cell
from hyperlect.methods import METHODS
from hyperlect.model import HyperX
from hyperlect.tasks import Task, TaskType
from hyperlect.training.trainer import batch_losses, task_weights
from tests.hypernet import twin
from tests.tiny import FAMILY_NAMES

from .models import TASKS, tiny_model

NLI = Task("nli", TaskType.PAIRS, ("same", "other", "neither"))
# Every type of task, a task in two languages, a language in two tasks, an untrained language.
CELLS = [
    Cell("pos", "eng"), Cell("topic", "tur"), Cell("ner", "isl"), Cell("pos", "isl"),
    Cell("mlm", "tur"), Cell("nli", "eng"), Cell("pos", "eng"), Cell("ner", "dan"),
    Cell("topic", "eng"),
]  # fmt: skip
LENGTHS = [10, 4, 7, 9, 10, 6, 3, 8, 5]
EVERY = range(len(CELLS))
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def mixed_model(family: str = "bert", method: str = "hyperx", **settings: Any) -> HyperX:
    return tiny_model(family, method, tasks=(*TASKS, NLI), **settings)


def batch_of(model: HyperX, chosen: Sequence[int] = EVERY) -> Batch:
    """Some rows of a batch of every cell; each has the same sub-words, positions and labels."""
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(7, 40, (len(CELLS), 10), generator=generator)
    mask = (torch.arange(10) < torch.tensor(LENGTHS)[:, None]).long()
    ids = ids.where(mask.bool(), model.tokenizer.pad_token_id)
    width = max(LENGTHS[row] for row in chosen)
    tasks = {}
    for name in dict.fromkeys(CELLS[row].task for row in chosen):
        of_task = [(place, row) for place, row in enumerate(chosen) if CELLS[row].task == name]
        reads = model.task(name).type.reads in ("words", "raw")
        labels = [label for _, row in of_task for label in ([row % 2, 1] if reads else [row % 2])]
        positions = [
            place * width + column for place, row in of_task for column in (1, LENGTHS[row] - 1)
        ]
        tasks[name] = TaskRows(
            torch.tensor([place for place, _ in of_task]),
            counts=(2 if reads else 1,) * len(of_task),
            positions=torch.tensor(positions) if reads else None,
            labels=torch.tensor(labels),
        )
    cells, rows = [CELLS[row] for row in chosen], list(chosen)
    return Batch(cells, ids[rows, :width], mask[rows, :width], tasks)


def scores_by_row(model: HyperX, batch: Batch) -> list[Tensor]:
    out = model.run(batch)
    scores: dict[int, Tensor] = {}
    for task, rows in batch.tasks.items():
        split = torch.split(out.scores[task], rows.counts)
        scores |= zip(rows.rows.tolist(), split, strict=True)
    return [scores[row] for row in range(len(batch.cells))]


def loss_of(model: HyperX, batches: Sequence[Batch]) -> Tensor:
    """The loss of a step that has these batches."""
    weights = task_weights(batches, list(model.tasks))
    return torch.stack([batch_losses(model, batch, weights)[1] for batch in batches]).sum()


def gradients(model: HyperX, batches: Sequence[Batch]) -> dict[str, Tensor]:
    model.zero_grad()
    loss_of(model, batches).backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def assert_mixed_equals_each_alone(model: HyperX) -> None:
    """Scores with and without gradients (so from the cache too), and gradients of the loss."""
    whole = batch_of(model)
    alone = [batch_of(model, [row]) for row in EVERY]
    with torch.no_grad(), model.cached_weights():
        scores_by_row(model, whole)
        cached = scores_by_row(model, whole)
    for mine, again, single in zip(scores_by_row(model, whole), cached, alone, strict=True):
        (expected,) = scores_by_row(model, single)
        torch.testing.assert_close(mine, expected, **CLOSE)
        torch.testing.assert_close(again, expected, **CLOSE)
    mixed, expected = gradients(model, [whole]), gradients(model, alone)
    assert mixed.keys() == expected.keys()
    for name, gradient in mixed.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize("method", METHODS)
def test_each_row_is_as_if_it_were_alone(method: str):
    assert_mixed_equals_each_alone(mixed_model(method=method))


@pytest.mark.parametrize("family", FAMILY_NAMES[1:])
def test_so_it_is_in_every_family(family: str):
    assert_mixed_equals_each_alone(mixed_model(family))


@pytest.mark.parametrize(
    "variant",
    ["generated LayerNorm before and after", "one generator a layer", "after the layer", "gelu",
     "no LayerNorm", "no language"],
)  # fmt: skip
def test_so_it_is_in_every_variant(variant: str):
    assert_mixed_equals_each_alone(mixed_model(hypernet=twin.VARIANTS[variant]))


def test_in_double_precision_the_gradients_agree_to_the_last_digits():
    model = mixed_model().double()
    parameters = list(model.adapters.parameters())
    mixed, alone = (
        torch.autograd.grad(loss_of(model, batches), parameters)
        for batches in ([batch_of(model)], [batch_of(model, [row]) for row in EVERY])
    )
    for mine, plain in zip(mixed, alone, strict=True):
        torch.testing.assert_close(mine, plain, rtol=1e-9, atol=1e-10)


def test_one_cell_of_many_rows_beside_many_of_one():
    model = mixed_model()
    rows = [0] * 20 + list(EVERY)
    skewed = batch_of(model, rows)
    for mine, row in zip(scores_by_row(model, skewed), rows, strict=True):
        (expected,) = scores_by_row(model, batch_of(model, [row]))
        torch.testing.assert_close(mine, expected, **CLOSE)


def test_logits_come_by_task_in_the_order_of_the_rows():
    model = mixed_model()
    out = model.run(batch_of(model))
    shapes = {task: tuple(logits.shape) for task, logits in out.scores.items()}
    vocabulary = model.backbone.vocabulary
    assert shapes == {
        "pos": (6, 3), "topic": (2, 2), "ner": (4, 3), "mlm": (2, vocabulary), "nli": (1, 3),
    }  # fmt: skip
    assert out.last_hidden_state.shape == (9, 10, 32)
    with pytest.raises(HyperlectError, match=r"pos, topic, ner, mlm, nli.*scores"):
        _ = out.logits
    of_one = model.run(batch_of(model, [0, 3, 6]))
    assert torch.equal(of_one.logits, of_one.scores["pos"])


def test_one_name_for_all_rows_is_that_name_for_each():
    model = mixed_model()
    batch = batch_of(model, [0, 3])
    ids, mask = batch.input_ids, batch.attention_mask
    with torch.no_grad():
        short = model(ids, mask, task="pos", language=["eng", "isl"])
        long = model(ids, mask, task=["pos"] * 2, language=["en", "is"])
        english = model(ids, mask, task="pos", language="eng")
    assert torch.equal(short.logits, long.logits)
    assert not torch.allclose(short.logits[1], english.logits[1])


def test_the_hidden_states_of_a_mixed_batch():
    model = mixed_model()
    out = model.run(batch_of(model), output_hidden_states=True)
    assert torch.equal(out.hidden_states[-1], out.last_hidden_state)
    for row in (1, 7):
        alone = model.run(batch_of(model, [row]), output_hidden_states=True)
        pairs = zip(out.hidden_states, alone.hidden_states, strict=True)
        for mine, plain in pairs:
            torch.testing.assert_close(mine[row, : LENGTHS[row]], plain[0], **CLOSE)


# --- rows of the same sub-words


@pytest.mark.parametrize(
    ("family", "top", "adapter"),
    [
        *((family, top, "bottleneck") for family in FAMILY_NAMES for top in (None, 1)),
        *((family, 1, "lora") for family in ("bert", "modernbert")),
    ],
)
def test_rows_of_the_same_sub_words_are_one_below_the_lowest_adapter(
    family: str, top: int | None, adapter: str
) -> None:
    model = mixed_model(family, hypernet={"top_layers": top, "adapter": adapter})
    distinct, copies = torch.tensor([0, 2, 3]), torch.tensor([0, 0, 1, 2, 2, 0, 1, 1, 2])
    plain = batch_of(model)
    rows = torch.tensor([0, 2, 6])[copies]  # of 10, 7 and 3 sub-words
    ids, masks = plain.input_ids[rows], plain.attention_mask[rows]
    plain = replace(plain, input_ids=ids, attention_mask=masks)
    with torch.no_grad():
        expected = model.run(plain)
        _, states = model.backbone(ids[[0, 2, 3]], masks[[0, 2, 3]], output_hidden_states=True)
    assert states is not None
    outputs: list[Tensor] = []

    def note(_module: nn.Module, _inputs: Any, output: Any) -> None:
        outputs.append(output if isinstance(output, Tensor) else output[0])

    layers = model.backbone.family.insertion_points(model.backbone.encoder, 2, "layer")
    handles = [layer.register_forward_hook(note) for layer in layers]
    with torch.no_grad():
        mine = model.run(replace(plain, distinct=distinct, copies=copies))
    for handle in handles:
        handle.remove()
    lowest = 0 if top is None else 1  # whose output is that of all rows
    assert [len(output) for output in outputs] == [3] * lowest + [9] * (2 - lowest)
    for output, state in zip(outputs[:lowest], states[1:], strict=False):
        assert torch.equal(output, state)  # to the last bit
    for task, scores in expected.scores.items():
        torch.testing.assert_close(mine.scores[task], scores, **CLOSE)
    with torch.no_grad():  # nothing stays behind
        assert torch.equal(model.run(plain).last_hidden_state, expected.last_hidden_state)


def test_without_adapters_the_whole_encoder_is_shared() -> None:
    model = mixed_model(method="head")
    plain = batch_of(model)
    plain = replace(plain, input_ids=plain.input_ids[:1].repeat(9, 1))
    plain = replace(plain, attention_mask=plain.attention_mask[:1].repeat(9, 1))
    shared = replace(plain, distinct=torch.tensor([0]), copies=torch.zeros(9, dtype=torch.int64))
    with torch.no_grad():
        expected, mine = model.run(plain), model.run(shared)
    for task, scores in expected.scores.items():
        torch.testing.assert_close(mine.scores[task], scores, **CLOSE)
