"""Batches made one step ahead: the same ones, the same state, the same errors."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import hyperlect.training.loader as loader_module
from hyperlect.data.batching import Batch, make_batch
from hyperlect.data.encoding import encode
from hyperlect.data.mixing import MixedSampler
from hyperlect.data.sampling import CellSampler
from hyperlect.grid import Cell
from hyperlect.recipe import TrainingSection
from hyperlect.training.loader import Loader, make_sampler
from hyperlect.training.schedule import derived_seed

from ..data.made import corpus, tagged
from ..model.made import MLM, POS, TASKS
from ..tiny import wordpiece_tokenizer

TOKENIZER: Any = wordpiece_tokenizer()
MODEL: Any = SimpleNamespace(tasks={task.name: task for task in TASKS}, tokenizer=TOKENIZER)
SENTENCES = [f"the/DET {'cat/NOUN ' * n}sees/VERB" for n in range(9)]
TEXTS = [{"text": "the old dog and a river " * n} for n in range(1, 6)]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[Cell, Any]:
    cache = tmp_path_factory.mktemp("encoded")
    return {
        Cell("pos", "eng"): encode(tagged(*SENTENCES), POS, TOKENIZER, 64, cache),
        Cell("pos", "isl"): encode(tagged(*SENTENCES[::2]), POS, TOKENIZER, 64, cache),
        Cell("mlm", "tur"): encode(corpus(TEXTS), MLM, TOKENIZER, 64, cache),
    }


def settings(**changes: Any) -> TrainingSection:
    return TrainingSection(**{"batching": "mixed", "batch_size": 4, "seed": 3, **changes})


def made(rows: Mapping[Cell, Any], rank: int = 0, count: int = 1, **changes: Any) -> Loader:
    process: Any = SimpleNamespace(
        device=torch.device("cpu"), num_processes=count, process_index=rank
    )
    return Loader(MODEL, rows, settings(**changes), {}, process)


def told(batch: Batch) -> list[Any]:
    """All that a batch holds."""
    tensors = [batch.input_ids, batch.attention_mask, batch.token_type_ids, batch.positions]
    labels = {task: tensor.tolist() for task, tensor in sorted(batch.labels.items())}
    return [batch.cells, batch.rows, labels, *(t.tolist() for t in tensors if t is not None)]


def plain(rows: Mapping[Cell, Any], step: int, **changes: Any) -> list[list[Any]]:
    """The batches of a step, with nothing read ahead and nothing kept."""
    own = settings(**changes)
    sampler = make_sampler(rows, own, {})
    for _ in range(step * own.accumulate):
        sampler.next()
    chance = torch.Generator().manual_seed(derived_seed(own.seed, "masks", step, 0))
    drawn = [sampler.next() for _ in range(own.accumulate)]
    return [told(make_batch(rows, d, MODEL.tasks, TOKENIZER, chance)) for d in drawn]


@pytest.mark.parametrize(
    "changes",
    [{}, {"batching": "single"}, {"accumulate": 3}, {"tokens": 40}, {"tokens": 40, "seed": 4}],
    ids=str,
)
def test_batches_are_those_made_without_reading_ahead(
    rows: dict[Cell, Any], changes: dict[str, Any]
) -> None:
    loader = made(rows, **changes)
    for step in range(6):
        batches = [told(batch) for batch in loader.next(step)]
        assert len(batches) == changes.get("accumulate", 1)
        assert batches == plain(rows, step, **changes)
    loader.close()


def test_the_recipe_chooses_the_sampler(rows: dict[Cell, Any]) -> None:
    assert type(make_sampler(rows, settings(), {})) is MixedSampler
    single = make_sampler(rows, settings(batching="single", tokens=70), {"mlm": 0.5})
    assert type(single) is CellSampler
    assert single.tokens == 70
    assert single.probabilities[Cell("mlm", "tur")] == 0.5


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_state_is_that_of_the_last_step_returned(
    rows: dict[Cell, Any], accumulate: int
) -> None:
    """Whatever lies ready is not in it: it would be lost to a run that goes on."""
    loader = made(rows, accumulate=accumulate)
    assert loader.state_dict()["step"] == 0
    for step in range(7):
        assert loader.state_dict()["step"] + loader.state_dict()["pool taken"] == step * accumulate
        state = json.loads(json.dumps(loader.state_dict()))
        resumed = made(rows, accumulate=accumulate)
        resumed.next(0)  # whatever it has done before
        resumed.load_state_dict(state)
        expected = [told(batch) for batch in loader.next(step)]
        assert [told(batch) for batch in resumed.next(step)] == expected
        resumed.close()
    loader.close()


def test_a_step_may_ask_for_another_than_the_next(rows: dict[Cell, Any]) -> None:
    """As after a state was loaded: what lay ready belongs to another step, with other masks."""
    loader = made(rows)
    loader.next(0)
    state = loader.state_dict()
    loader.next(1)
    loader.load_state_dict(state)
    assert [told(batch) for batch in loader.next(1)] == plain(rows, 1)
    loader.close()


def test_an_error_of_the_thread_reaches_the_caller(
    rows: dict[Cell, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    where: list[str] = []

    def broken(*_: Any) -> Batch:
        where.append(threading.current_thread().name)
        if len(where) == 2:
            raise ValueError("row 7 is broken")
        return make_batch(*_)

    monkeypatch.setattr(loader_module, "make_batch", broken)
    loader = made(rows)
    loader.next(0)
    with pytest.raises(ValueError, match="row 7 is broken"):
        loader.next(1)
    assert all(name.startswith("batches") for name in where)
    loader.close()


def test_the_thread_ends(rows: dict[Cell, Any]) -> None:
    def running() -> list[str]:
        return [t.name for t in threading.enumerate() if t.name.startswith("batches")]

    loader = made(rows)
    loader.next(0)
    assert running()
    loader.close()
    assert not running()


def test_processes_share_each_batch_and_mask_by_themselves(rows: dict[Cell, Any]) -> None:
    whole = made(rows)
    parts = [made(rows, rank, 2) for rank in range(2)]
    for step in range(8):
        (batch,) = whole.next(step)
        (first,), (second,) = (part.next(step) for part in parts)
        drawn = list(zip(batch.cells, batch.rows, strict=True))
        assert list(zip(first.cells, first.rows, strict=True)) == drawn[::2]
        assert list(zip(second.cells, second.rows, strict=True)) == drawn[1::2]
    for loader in (whole, *parts):
        loader.close()


@pytest.mark.parametrize(("size", "count"), [(3, 2), (5, 8), (2, 8), (1, 2), (4, 2)])
def test_each_row_weighs_the_same_however_many_share_a_batch(
    rows: dict[Cell, Any], size: int, count: int
) -> None:
    single = {"batching": "single", "batch_size": size}
    parts = [made(rows, rank, count, **single) for rank in range(count)]
    for step in range(4):
        batches = [part.next(step)[0] for part in parts]
        found: dict[tuple[Cell, int], float] = {}
        for batch in batches:  # the mean over processes of a loss that is a mean over rows
            for row in zip(batch.cells, batch.rows, strict=True):
                found[row] = found.get(row, 0.0) + batch.weight / len(batch.rows) / count
        assert list(found.values()) == pytest.approx([1 / len(found)] * len(found))
    for part in parts:
        part.close()


def test_a_batch_of_one_row_is_given_to_every_process(rows: dict[Cell, Any]) -> None:
    first, second = (made(rows, rank, 2, batch_size=1) for rank in range(2))
    for step in range(4):
        (one,), (other,) = first.next(step), second.next(step)
        assert (one.cells, one.rows) == (other.cells, other.rows)
        assert len(one.rows) == 1
    first.close()
    second.close()
