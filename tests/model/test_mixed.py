"""A batch of several cells is the batches of each cell alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hyperlect.data.batching import Batch
from hyperlect.errors import HyperlectError, UnknownNameError
from hyperlect.grid import Cell
from hyperlect.model import HyperX
from hyperlect.tasks import Task, TaskType
from hyperlect.training.loss import batch_loss
from tests.hypernet import twin
from tests.tiny import FAMILY_NAMES

from .made import IDS, MASK, TASKS, make

NLI = Task("nli", TaskType.PAIRS, ("same", "other", "neither"))
# Every type of task, a task in two languages, a language in two tasks, an untrained language.
CELLS = [
    Cell("pos", "eng"), Cell("topic", "tur"), Cell("ner", "isl"), Cell("pos", "isl"),
    Cell("mlm", "tur"), Cell("nli", "eng"), Cell("pos", "eng"), Cell("ner", "dan"),
    Cell("topic", "eng"),
]  # fmt: skip
LENGTHS = [10, 4, 7, 9, 10, 6, 3, 8, 5]
METHODS = (
    "hyperx", "task-hypernet", "language-hypernet", "adapters", "mad-x", "finetune", "factorised",
    "head",
)  # fmt: skip
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def model(family: str = "bert", method: str = "hyperx", **settings) -> HyperX:
    return make(family, method, tasks=(*TASKS, NLI), **settings)


def batch(made: HyperX, rows: list[int] | None = None) -> Batch:
    """Some rows of a batch of every cell; of each the same sub-words, places and labels."""
    chosen = list(range(len(CELLS))) if rows is None else rows
    chance = torch.Generator().manual_seed(3)
    ids = torch.randint(7, 40, (len(CELLS), 10), generator=chance)
    mask = (torch.arange(10) < torch.tensor(LENGTHS)[:, None]).long()
    ids = ids.where(mask.bool(), made.tokenizer.pad_token_id)
    positions = torch.zeros_like(mask, dtype=torch.bool)
    labels: dict[str, list[int]] = {}
    for row in range(len(CELLS)):
        task = made.task(CELLS[row].task)
        places = [1, LENGTHS[row] - 1]
        reads = task.type.reads_words or task.type is TaskType.MLM
        if reads:
            positions[row, places] = True
        if row in chosen:
            new = [row % 2, 1] if reads else [row % 2]
            labels.setdefault(task.name, []).extend(new)
    width = max(LENGTHS[row] for row in chosen)
    given = {task: torch.tensor(values) for task, values in labels.items()}
    cells = [CELLS[row] for row in chosen]
    return Batch(cells, ids[chosen, :width], mask[chosen, :width], positions[chosen, :width], given)


def run(made: HyperX, given: Batch, **options):
    return made(
        given.input_ids, given.attention_mask, task=given.tasks, language=given.languages,
        positions=given.positions, **options,
    )  # fmt: skip


def logits_by_row(made: HyperX, given: Batch) -> list[Tensor]:
    out = run(made, given)
    found: list[Tensor] = [torch.empty(0)] * len(given.cells)
    for task, logits in out.task_logits.items():
        rows = [row for row, cell in enumerate(given.cells) if cell.task == task]
        counts = given.positions[rows].sum(1).tolist() if given.positions[rows].any() else 1
        for row, part in zip(rows, logits.split(counts), strict=True):
            found[row] = part
    return found


def assert_mixed_is_each_alone(made: HyperX) -> None:
    """Logits with and without gradients (so also from the cache), and gradients of the loss."""
    whole = batch(made)
    alone = [batch(made, [row]) for row in range(len(CELLS))]
    with torch.no_grad():
        kept = logits_by_row(made, whole)
    for mine, again, own in zip(logits_by_row(made, whole), kept, alone, strict=True):
        (expected,) = logits_by_row(made, own)
        torch.testing.assert_close(mine, expected, **CLOSE)
        torch.testing.assert_close(again, expected, **CLOSE)
    made.zero_grad()
    batch_loss(made, whole).total.backward()
    found = {n: p.grad.clone() for n, p in made.named_parameters() if p.grad is not None}
    made.zero_grad()
    for own in alone:  # the words of a task weigh the same, so its mean is that of its rows
        (batch_loss(made, own).total / len(CELLS)).backward()
    expected = {n: p.grad for n, p in made.named_parameters() if p.grad is not None}
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_each_row_is_as_alone(family: str, method: str):
    assert_mixed_is_each_alone(model(family, method))


@pytest.mark.parametrize(
    "variant",
    ["generated LayerNorm before and after", "one generator a layer", "after the layer", "gelu",
     "no LayerNorm", "no language"],
)  # fmt: skip
def test_in_other_variants_too(variant: str):
    assert_mixed_is_each_alone(model(hypernet=twin.VARIANTS[variant]))


def test_in_double_precision_the_gradients_are_the_same_to_the_last_digits():
    made = model().double()
    mixed, alone = (
        torch.autograd.grad(value, list(made.adapters.parameters()))
        for value in (
            batch_loss(made, batch(made)).total,
            sum(batch_loss(made, batch(made, [row])).total / 9 for row in range(9)),
        )
    )
    for mine, plain in zip(mixed, alone, strict=True):
        torch.testing.assert_close(mine, plain, rtol=1e-9, atol=1e-10)


def test_logits_are_given_by_task_in_the_order_of_the_rows():
    made = model()
    out = run(made, batch(made))
    shapes = {task: tuple(logits.shape) for task, logits in out.task_logits.items()}
    vocabulary = made.backbone.vocabulary
    assert shapes == {
        "pos": (6, 3), "topic": (2, 2), "ner": (4, 3), "mlm": (2, vocabulary), "nli": (1, 3),
    }  # fmt: skip
    assert out.last_hidden_state.shape == (9, 10, 32)
    with pytest.raises(HyperlectError, match=r"several tasks \(pos, topic, ner, mlm, nli"):
        _ = out.logits
    of_one = run(made, batch(made, [0, 3, 6]))
    assert torch.equal(of_one.logits, of_one.task_logits["pos"])


def test_one_name_for_all_rows_is_that_name_in_each():
    made = model()
    given = batch(made, [0, 3])
    with torch.no_grad():
        short = made(given.input_ids, given.attention_mask, task="pos", language=["eng", "isl"])
        long = made(given.input_ids, given.attention_mask, task=["pos"] * 2, language=["en", "is"])
    assert torch.equal(short.logits, long.logits)
    with torch.no_grad():
        english = made(given.input_ids, given.attention_mask, task="pos", language="eng")
    assert not torch.allclose(short.logits[1], english.logits[1])


def test_hidden_states_of_a_mixed_batch():
    made = model()
    out = run(made, batch(made), output_hidden_states=True)
    assert torch.equal(out.hidden_states[-1], out.last_hidden_state)
    for row in (1, 7):
        alone = run(made, batch(made, [row]), output_hidden_states=True)
        pairs = zip(out.hidden_states, alone.hidden_states, strict=True)
        for mine, plain in pairs:
            torch.testing.assert_close(mine[row, : LENGTHS[row]], plain[0], **CLOSE)


@pytest.mark.parametrize("method", METHODS)
def test_unknown_names_name_their_rows(method: str):
    made = model(method=method)
    with pytest.raises(UnknownNameError) as error:
        made(IDS, MASK, task=["pos", "pso"], language=["Icelandik", "isl"])
    said = str(error.value)
    assert 'row 1: Unknown task "pso". Did you mean "pos"?' in said
    assert 'row 0: Unknown language "Icelandik". Did you mean "Icelandic" (isl)?' in said


def test_as_many_names_as_rows():
    with pytest.raises(HyperlectError, match="2 rows need as many names of a task, not 3"):
        model()(IDS, MASK, task=["pos"] * 3, language="eng")
