"""Batches that are made one step ahead: the same ones, the same state, the same errors."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import hyperlect.training.trainer as loader_module
from hyperlect.data.batching import Batch, collate, load_rows, mask_rows
from hyperlect.data.encoding import encode
from hyperlect.grid import Cell
from hyperlect.recipe import TrainingSection
from hyperlect.tasks import Task, TaskType
from hyperlect.training.schedule import derived_seed, make_sampler
from hyperlect.training.trainer import Loader

from ..data.made import corpus, parsed, tagged
from ..model.models import MLM, POS, TASKS
from ..tiny import wordpiece_tokenizer

DEP = Task("dep", TaskType.PARSING, ("det", "obj", "root"))
TOKENIZER: Any = wordpiece_tokenizer()
MODEL: Any = SimpleNamespace(tasks={task.name: task for task in (*TASKS, DEP)}, tokenizer=TOKENIZER)
SENTENCES = [f"the/DET {'cat/NOUN ' * n}sees/VERB" for n in range(9)]
TREES = [
    " ".join(f"dog/{i}/{'obj' if i else 'root'}" for i in range(words)) for words in (3, 70, 9)
]
TEXTS = [{"text": "the old dog and a river " * n} for n in range(1, 6)]
Rows = Mapping[Cell, Any]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    cache = tmp_path_factory.mktemp("encoded")
    return {
        Cell("pos", "eng"): encode(tagged(*SENTENCES), POS, TOKENIZER, 64, cache),
        Cell("pos", "isl"): encode(tagged(*SENTENCES[::2]), POS, TOKENIZER, 64, cache),
        Cell("mlm", "tur"): encode(corpus(TEXTS), MLM, TOKENIZER, 64, cache),
        Cell("dep", "eng"): encode(parsed(*TREES), DEP, TOKENIZER, 64, cache),
    }


def settings(**changes: Any) -> TrainingSection:
    return TrainingSection(**{"batching": "mixed", "batch_size": 4, "seed": 3, **changes})


@contextmanager
def loader_of(rows: Rows, rank: int = 0, count: int = 1, **changes: Any) -> Iterator[Loader]:
    process: Any = SimpleNamespace(
        device=torch.device("cpu"), num_processes=count, process_index=rank
    )
    with closing(Loader(MODEL, rows, settings(**changes), {}, process)) as loader:
        yield loader


def content(value: Any) -> Any:
    """Everything that a batch holds, as lists."""
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {name: content(inner) for name, inner in value.items()}
    return content(vars(value)) if hasattr(value, "__dataclass_fields__") else value


def plain_batches(rows: Rows, step: int, **changes: Any) -> list[Any]:
    """The batches of a step, with nothing read ahead and nothing kept."""
    section = settings(**changes)
    sampler = make_sampler(rows, section, {})
    for _ in range(step * section.accumulate):
        sampler.next()
    generator = torch.Generator().manual_seed(derived_seed(section.seed, "masks", step, 0))
    batches = []
    for _ in range(section.accumulate):
        drawn = sampler.next()
        cells, indices = zip(*drawn, strict=True)
        loaded = load_rows(rows, drawn)
        masked = mask_rows(loaded, cells, MODEL.tasks, TOKENIZER, generator)
        batches.append(content(collate(masked, cells, MODEL.tasks, TOKENIZER, indices)))
    return batches


@pytest.mark.parametrize(
    "changes",
    [{}, {"batching": "single"}, {"accumulate": 3}, {"tokens": 40}, {"tokens": 40, "seed": 4}],
    ids=str,
)
def test_batches_are_those_that_are_made_without_reading_ahead(
    rows: Rows, changes: dict[str, Any]
) -> None:
    with loader_of(rows, **changes) as loader:
        for step in range(6):
            batches = [content(batch) for batch in loader.next(step)]
            assert len(batches) == changes.get("accumulate", 1)
            assert batches == plain_batches(rows, step, **changes)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_state_is_that_of_the_last_step_that_was_returned(rows: Rows, accumulate: int) -> None:
    """Whatever lies ready is not counted: a resumed run would lose it."""
    with loader_of(rows, accumulate=accumulate) as loader:
        assert loader.state_dict()["step"] == 0
        for step in range(7):
            state = json.loads(json.dumps(loader.state_dict()))
            assert state["step"] + state["pool taken"] == step * accumulate
            expected = [content(batch) for batch in loader.next(step)]
            with loader_of(rows, accumulate=accumulate) as resumed:
                resumed.next(0)  # whatever it has done before
                resumed.load_state_dict(state)
                assert [content(batch) for batch in resumed.next(step)] == expected


def test_another_step_than_the_next_may_be_asked_for(rows: Rows) -> None:
    """After a state was loaded, what lies ready belongs to another step, with other masks."""
    with loader_of(rows) as loader:
        loader.next(0)
        state = loader.state_dict()
        loader.next(1)
        loader.load_state_dict(state)
        assert [content(batch) for batch in loader.next(1)] == plain_batches(rows, 1)


def test_an_error_of_the_thread_reaches_the_caller(
    rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []

    def broken(*arguments: Any) -> Batch:
        threads.append(threading.current_thread().name)
        if len(threads) == 2:
            raise ValueError("row 7 is broken")
        return collate(*arguments)

    monkeypatch.setattr(loader_module, "collate", broken)
    with loader_of(rows) as loader:
        loader.next(0)
        with pytest.raises(ValueError, match="row 7 is broken"):
            loader.next(1)
    assert all(name.startswith("batches") for name in threads)


def test_the_thread_ends(rows: Rows) -> None:
    def running() -> list[str]:
        return [t.name for t in threading.enumerate() if t.name.startswith("batches")]

    with loader_of(rows) as loader:
        loader.next(0)
        assert running()
    assert not running()


def units_of(batches: list[Batch]) -> Counter[str]:
    return Counter(
        {
            task: sum(batch.tasks[task].units for batch in batches if task in batch.tasks)
            for task in MODEL.tasks
        }
    )


def inputs_of(batches: list[Batch]) -> Counter[tuple[Any, ...]]:
    """Every input of the encoder, with its masks, and the row that it belongs to."""
    return Counter(
        (cell, index, *ids[mask.bool()].tolist())
        for batch in batches
        for cell, index, ids, mask in zip(
            batch.cells, batch.indices, batch.input_ids, batch.attention_mask, strict=True
        )
    )


@pytest.mark.parametrize(("size", "count"), [(4, 2), (3, 2), (5, 8), (1, 2)])
@pytest.mark.parametrize("batching", ["single", "mixed"])
def test_processes_share_each_batch_with_the_masks_of_one(
    rows: Rows, size: int, count: int, batching: str
) -> None:
    """Together they have the inputs and the scored units of one process."""
    changes = {"batching": batching, "batch_size": size, "accumulate": 2}
    with ExitStack() as stack:
        whole = stack.enter_context(loader_of(rows, **changes))
        shares = [stack.enter_context(loader_of(rows, n, count, **changes)) for n in range(count)]
        for step in range(6):
            batches = whole.next(step)
            divided = [batch for loader in shares for batch in loader.next(step)]
            assert inputs_of(divided) == inputs_of(batches)
            assert units_of(divided) == units_of(batches)


def test_more_processes_than_rows_leave_some_without_a_batch(rows: Rows) -> None:
    with loader_of(rows, 1, 2, batch_size=1) as second, loader_of(rows, 0, 2, batch_size=1) as one:
        for step in range(4):
            assert second.next(step) == []
            assert len(one.next(step)[0].cells) >= 1
