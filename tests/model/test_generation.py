"""Generated weights: cached for inference on request, and shared by the passes of a step."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

from hyperlect.grid import Cell
from hyperlect.hypernet import AdapterWeights
from hyperlect.model import HyperX, hyperx
from hyperlect.model.hyperx import WeightCache, generate, generate_by_layer

from ..hypernet import twin
from .models import IDS, LANGUAGES, MASK, TASKS, loss, tiny_model

A, B, C = (0, 0), (1, 1), (2, 2)
CLOSE = {"rtol": 1e-4, "atol": 1e-6}


@torch.no_grad()
def logits(model: HyperX, task: str = "pos", language: str = "eng") -> Tensor:
    return model(IDS, MASK, task=task, language=language).logits


def tensors(weights: AdapterWeights) -> list[Tensor]:
    return [tensor for _, tensor in weights.items()]


class CountGenerated:
    """How many cells went through a model's generator, forward and backward."""

    def __init__(self, model: HyperX) -> None:
        self.forward: list[int] = []
        self.backward: list[int] = []
        model.adapters.generator.register_forward_pre_hook(self._count)  # type: ignore[union-attr]

    def _count(self, _module: Any, inputs: tuple[Tensor]) -> None:
        self.forward.append(len(inputs[0]))
        if inputs[0].requires_grad:
            inputs[0].register_hook(lambda gradient: self.backward.append(len(gradient)))


# --- the cache


@torch.no_grad()
def test_cached_weights_are_the_generated_ones():
    cache = WeightCache(tiny_model().adapters)
    first, again = cache.get([A, B]), cache.get([B, A])[::-1]
    for index, cell in enumerate((A, B)):
        pairs = zip(tensors(first[index]), tensors(again[index]), strict=True)
        assert all(one is other for one, other in pairs)
        expected = generate(cache.adapters, [cell])[0]
        for mine, plain in zip(tensors(first[index]), tensors(expected), strict=True):
            torch.testing.assert_close(mine, plain)
    assert len(cache) == 2


def test_inside_the_block_a_cell_is_generated_once():
    model = tiny_model()
    expected = logits(model)
    counted = CountGenerated(model)
    with model.cached_weights():
        first = logits(model)
        assert torch.equal(logits(model), first)
        assert counted.forward == [1]
        logits(model, "ner")
        with torch.no_grad():  # only missing weights are generated
            model(IDS, MASK, task=["pos", "topic"], language="eng")
        assert counted.forward == [1, 1, 1]
        with model.cached_weights():  # the inner block shares the cache of the outer one
            logits(model)
        logits(model)
        assert counted.forward == [1, 1, 1]
    torch.testing.assert_close(first, expected)


def test_outside_of_blocks_nothing_is_cached():
    model = tiny_model()
    counted = CountGenerated(model)
    with model.cached_weights():
        before = logits(model)
    with torch.no_grad():
        for parameter in model.adapters.parameters():
            parameter.add_(1)
    assert not torch.equal(logits(model), before)
    with model.cached_weights():
        assert not torch.equal(logits(model), before)
    assert counted.forward == [1, 1, 1]


def test_an_error_ends_the_block():
    model = tiny_model()

    def interrupted() -> None:
        with model.cached_weights():
            logits(model)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    counted = CountGenerated(model)
    logits(model)
    logits(model)
    assert counted.forward == [1, 1]


def test_gradients_do_not_go_through_the_cache():
    model = tiny_model()
    counted = CountGenerated(model)
    with model.cached_weights():
        logits(model)
        loss(model, "pos", "eng").backward()
    assert counted.forward == [1, 1]
    assert all(parameter.grad is not None for parameter in model.adapters.parameters())


@pytest.mark.parametrize("method", ["adapters", "mad-x", "head", "finetune"])
def test_every_method_has_the_blocks(method: str):
    model = tiny_model(method=method)
    expected = logits(model, "ner", "isl")
    with model.cached_weights():
        for _ in range(2):
            torch.testing.assert_close(logits(model, "ner", "isl"), expected)
    with model.shared_weights([("ner", "isl")]):
        torch.testing.assert_close(logits(model, "ner", "isl"), expected)


@torch.no_grad()
def test_the_weights_that_were_used_longest_ago_are_dropped_first():
    adapters = tiny_model().adapters
    size = generate(adapters, [A])[0].nbytes
    cache = WeightCache(adapters, limit=2 * size + size // 2)
    (a,), _ = cache.get([A]), cache.get([B])
    assert len(cache) == 2
    cache.get([A])  # used again, so that B is the oldest
    cache.get([C])
    cache.get([C])
    assert len(cache) == 2
    generated: list[Any] = []
    adapters.register_forward_pre_hook(lambda _, inputs: generated.append(inputs[0].tolist()))
    assert cache.get([A])[0].up_weight is a.up_weight
    assert generated == []
    assert cache.get([B]) == [None]
    cache.get([B])
    assert generated == [[B[0]]]


@torch.no_grad()
def test_cells_in_turn_do_not_push_each_other_out():
    adapters = tiny_model().adapters
    size = generate(adapters, [A])[0].nbytes
    cache = WeightCache(adapters, limit=2 * size)
    kept = cache.get([A, B])
    for _ in range(3):
        for cell in (C, (0, 1), (0, 2), (1, 0)):
            assert cache.get([cell]) == [None]
    assert [one is other for one, other in zip(cache.get([A, B]), kept, strict=True)] == [True] * 2


@torch.no_grad()
def test_the_first_cells_do_not_exceed_the_limit(monkeypatch: pytest.MonkeyPatch):
    """Their size is known once some of them are generated."""
    adapters = tiny_model().adapters
    monkeypatch.setattr(hyperx, "GENERATED_TOGETHER", 1)
    cache = WeightCache(adapters, limit=2 * generate(adapters, [A])[0].nbytes)
    assert [weights is None for weights in cache.get([A, B, C])] == [False, False, True]
    assert len(cache) == 2


@torch.no_grad()
def test_weights_beyond_the_limit_are_returned_and_not_kept():
    adapters = tiny_model().adapters
    size = generate(adapters, [A])[0].nbytes
    cells = [A, B, C]
    for limit, kept in ((size - 1, 0), (2 * size, 2)):
        cache = WeightCache(adapters, limit=limit)
        weights = cache.get(cells)
        assert len(cache) == kept
        for of_cell, cell in zip(weights, cells, strict=True):
            expected = generate(adapters, [cell])[0]
            torch.testing.assert_close(of_cell.up_weight, expected.up_weight)


@torch.no_grad()
@pytest.mark.parametrize("limit", [0, 2, 100])
@pytest.mark.parametrize("size", [2, 50])
def test_a_batch_is_the_same_whatever_the_cache_holds(limit: int, size: int):
    """Of a few cells, those that are kept are used; of as many as the source's size, none are."""
    model = tiny_model(hypernet={"projection": size})
    cells = [(task, code) for task in ("pos", "ner", "topic") for code in LANGUAGES]
    tasks, languages = (list(names) for names in zip(*cells, strict=True))
    ids, mask = (t[:1].expand(len(cells), -1) for t in (IDS, MASK))
    expected = model(ids, mask, task=tasks, language=languages).last_hidden_state
    weights = model.adapter_weights("pos", "eng").nbytes
    with model.cached_weights(limit * weights):
        for start in (0, 0, 4):
            for some in (slice(start, start + 3), slice(None)):
                output = model(ids[some], mask[some], task=tasks[some], language=languages[some])
                torch.testing.assert_close(output.last_hidden_state, expected[some])


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("variant", [*twin.VARIANTS, "lora", "adapters", "mad-x", "changed"])
def test_a_layer_alone_is_that_of_all_layers(variant: str, gradients: bool):
    settings: dict[str, Any] = {"hypernet": twin.VARIANTS.get(variant, {})}
    if variant == "lora":
        settings = {"hypernet": {"adapter": "lora", "task_base": True}}
    elif variant in ("adapters", "mad-x"):
        settings = {"method": variant}
    model = tiny_model(**settings)
    if variant == "changed":
        for change in model.change_cell("ner", "isl").values():
            torch.nn.init.normal_(change)
    with torch.set_grad_enabled(gradients):
        cells = [model.config.index(Cell(*cell)) for cell in (*CELLS[:4], ("ner", "deu"))]
        arguments = (model.adapters, cells, model.cell_changes)
        every = generate(*arguments)
        for layer in range(len(every.unbind(1))):
            for name, tensor in generate_by_layer(*arguments)(layer).items():
                torch.testing.assert_close(tensor, getattr(every, name)[:, layer])


@torch.no_grad()
def test_many_missing_weights_are_generated_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch):
    model = tiny_model()
    cells = [(task, language) for task in range(2) for language in range(3)]
    expected = generate(model.adapters, cells)
    monkeypatch.setattr(hyperx, "GENERATED_TOGETHER", 4)
    counted = CountGenerated(model)
    weights = WeightCache(model.adapters).get(cells)
    assert counted.forward == [4, 2]
    for number, of_cell in enumerate(weights):
        torch.testing.assert_close(of_cell.up_weight, expected[number].up_weight)


@torch.no_grad()
def test_cached_weights_do_not_hold_on_to_those_of_other_cells():
    """Views would keep everything that was generated together in memory."""
    for weights in WeightCache(tiny_model().adapters).get([A, B, C]):
        for tensor in tensors(weights):
            assert tensor.untyped_storage().nbytes() == tensor.nbytes


@pytest.mark.parametrize("limit", [None, 0])
@pytest.mark.parametrize("cached", [False, True])
def test_threads_do_not_mix_up_their_cells(
    limit: int | None, cached: bool, monkeypatch: pytest.MonkeyPatch
):
    model = tiny_model()
    cells = [(task.name, code) for task in TASKS for code in (*LANGUAGES, "dan")]
    expected = {cell: logits(model, *cell) for cell in cells}
    if limit is not None:
        monkeypatch.setattr(WeightCache.__init__, "__defaults__", (limit,))
    outputs: dict[tuple[int, int, tuple[str, str]], Tensor] = {}
    barrier = threading.Barrier(4)

    def work(number: int) -> None:
        for turn in range(3):
            barrier.wait(timeout=60)
            for place in range(len(cells)):
                cell = cells[(place + 5 * number) % len(cells)]
                outputs[number, turn, cell] = logits(model, *cell)

    with model.cached_weights() if cached else nullcontext():
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=120)
    assert len(outputs) == 4 * 3 * len(cells)
    for (_, _, cell), mine in outputs.items():
        torch.testing.assert_close(mine, expected[cell])


@pytest.fixture
def many_switches() -> Iterator[None]:
    """Let threads take turns much more often."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("many_switches")
def test_threads_that_enter_and_leave_blocks_at_any_time_get_right_answers():
    """A service answers in many threads, each of which opens a block of its own."""
    model = tiny_model()
    cells = [(task, code) for task in ("pos", "ner") for code in LANGUAGES]
    expected = {cell: logits(model, *cell) for cell in cells}
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(30):
                cell = cells[(turn * (number + 1)) % len(cells)]
                with model.cached_weights():
                    torch.testing.assert_close(logits(model, *cell), expected[cell])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert not errors
    counted = CountGenerated(model)
    logits(model)
    logits(model)
    assert counted.forward == [1, 1]  # no block is left open


# --- sharing by the passes of a step

CELLS = [("pos", "eng"), ("ner", "isl"), ("pos", "eng"), ("topic", "fao"), ("mlm", "tur")]


def accumulated(model: HyperX, shared: bool) -> dict[str, Tensor]:
    """The gradients of several batches, with weights generated once or for each of them."""
    model.zero_grad()
    with model.shared_weights(CELLS) if shared else nullcontext():
        for cell in CELLS:
            value = loss(model, *cell)
            with torch.autocast("cpu", enabled=False):
                value.backward()
    named = model.named_parameters()
    return {name: p.grad.clone() for name, p in named if p.grad is not None}


@pytest.mark.parametrize(
    "method", ["hyperx", "task-hypernet", "language-hypernet", "adapters", "mad-x", "head"]
)
def test_shared_weights_give_the_same_gradients(method: str):
    model = tiny_model(method=method)
    shared, expected = accumulated(model, shared=True), accumulated(model, shared=False)
    assert shared.keys() == expected.keys()
    for name, gradient in shared.items():
        torch.testing.assert_close(gradient, expected[name], **CLOSE, msg=name)


def test_the_generator_runs_once_for_a_step_and_for_distinct_cells():
    model = tiny_model().train()
    counted = CountGenerated(model)
    accumulated(model, shared=True)
    assert (counted.forward, counted.backward) == ([4], [4])
    accumulated(model, shared=False)
    assert (counted.forward, counted.backward) == ([4] + [1] * 5, [4] + [1] * 5)


def test_cells_of_equal_weights_are_generated_as_one():
    """Untrained languages share the mean, and some baselines read no language."""
    model = tiny_model()
    counted = CountGenerated(model)
    with model.shared_weights([("pos", "fao"), ("pos", "dan"), ("pos", "eng")]):
        loss(model, "pos", "dan").backward()
    assert counted.forward == [2]
    model = tiny_model(method="task-hypernet")
    counted = CountGenerated(model)
    with model.shared_weights([("pos", "eng"), ("pos", "isl")]):
        loss(model, "pos", "isl").backward()
    assert counted.forward == [1]


def test_mixed_batches_use_shared_weights():
    model = tiny_model()
    tasks, languages = ["topic", "topic"], ["eng", "tur"]

    def gradients(cells: list[tuple[str, str]]) -> list[Tensor]:
        model.zero_grad()
        with model.shared_weights(cells) if cells else nullcontext():
            for _ in range(2):
                out = model(IDS, MASK, task=tasks, language=languages)
                out.logits.square().sum().backward()
        return [p.grad.clone() for p in model.adapters.parameters()]

    cells = list(zip(tasks, languages, strict=True))
    for mine, plain in zip(gradients([*cells, ("pos", "eng")]), gradients([]), strict=True):
        torch.testing.assert_close(mine, plain, rtol=1e-4, atol=1e-5)


def test_a_cell_that_was_not_listed_may_not_be_used():
    model = tiny_model()
    with pytest.raises(KeyError), model.shared_weights([("pos", "eng")]):
        loss(model, "ner", "eng")
    assert loss(model, "ner", "eng").isfinite()  # outside it may


def test_after_an_error_nothing_of_the_block_is_left():
    model = tiny_model()

    def interrupted() -> None:
        with model.shared_weights([("pos", "eng")]):
            loss(model, "pos", "eng").backward()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert all(parameter.grad is None for parameter in model.adapters.parameters())
    loss(model, "pos", "eng").backward()
    assert all(parameter.grad is not None for parameter in model.adapters.parameters())


def test_another_thread_does_not_see_the_shared_weights():
    model = tiny_model()
    expected = logits(model)
    outputs: list[Tensor] = []
    with model.shared_weights([("ner", "isl")]):
        other = threading.Thread(target=lambda: outputs.append(logits(model)))
        other.start()
        other.join()
    assert torch.equal(outputs[0], expected)


# --- precision


def note_active_weights(model: HyperX) -> list[AdapterWeights]:
    """Note the adapter weights that are active in coming passes."""
    seen: list[AdapterWeights] = []
    active: Callable[..., Any] = model.hooks.active

    def note(layers: Any, groups: Any = None) -> Any:
        seen.append(layers[0])
        return active(layers, groups)

    model.hooks.active = note  # type: ignore[method-assign]
    return seen


def test_weights_are_generated_in_fp32_under_autocast_and_do_not_depend_on_sharing():
    model = tiny_model()
    plain = model.adapter_weights("pos", "eng")[0]
    seen = note_active_weights(model)
    with model.backbone.arithmetic("bf16"):
        logits(model)
        with model.shared_weights([("pos", "eng")]):
            logits(model)
        with model.cached_weights():
            logits(model)
    assert len(seen) == 3
    for weights in seen:
        for mine, expected in zip(tensors(weights), tensors(plain), strict=True):
            assert mine.dtype is torch.float32
            assert torch.equal(mine, expected)


def test_gradients_in_bf16_do_not_depend_on_sharing():
    """If the generator went backward in bf16, they would differ by some thousandths."""
    model = tiny_model()
    with model.backbone.arithmetic("bf16"):
        shared, expected = accumulated(model, shared=True), accumulated(model, shared=False)
    for name, gradient in shared.items():
        assert gradient.dtype is torch.float32
        difference = (gradient - expected[name]).abs().max()
        # Heads compute in bf16, where one rounding shows.
        bound = 5e-4 if name.startswith("adapters.") else 1e-2
        assert difference < bound * expected[name].abs().max(), name
