"""Generated weights: kept while they hold, generated once a step, and never stale."""

from __future__ import annotations

import copy
import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from hyperlect.hypernet import AdapterWeights
from hyperlect.model import HyperX
from hyperlect.model.generation import Stacked, WeightCache, generate

from .made import IDS, LANGUAGES, MASK, TASKS, loss, make

A, B, C = (0, 0), (1, 1), (2, 2)
Change = Callable[[torch.nn.Module], object]


def logits(model: HyperX, task: str = "pos", language: str = "eng") -> Tensor:
    with torch.no_grad():
        return model(IDS, MASK, task=task, language=language).logits


def fresh(model: HyperX, task: str = "pos", language: str = "eng") -> Tensor:
    """The same without the cache, which gradients do not go through."""
    return model(IDS, MASK, task=task, language=language).logits.detach()


def tensors(weights: AdapterWeights) -> list[Tensor]:
    return [tensor for _, tensor in weights.items()]


class Counted:
    """How many cells went through a model's generator, forward and backward."""

    def __init__(self, model: HyperX) -> None:
        self.forward: list[int] = []
        self.backward: list[int] = []
        model.adapters.generator.register_forward_pre_hook(self._count)  # type: ignore[union-attr]

    def _count(self, _module: Any, inputs: tuple[Tensor]) -> None:
        self.forward.append(len(inputs[0]))
        if inputs[0].requires_grad:
            inputs[0].register_hook(lambda gradient: self.backward.append(len(gradient)))


def test_what_is_kept_is_what_would_be_generated():
    adapters, cache = make().adapters, WeightCache()
    with torch.no_grad():
        first, again = cache.get(adapters, [A, B]), cache.get(adapters, [B, A])[::-1]
        for index, cell in enumerate((A, B)):
            pairs = zip(tensors(first[index]), tensors(again[index]), strict=True)
            assert all(one is other for one, other in pairs)
            expected = generate(adapters, [cell])[0]
            for mine, plain in zip(tensors(first[index]), tensors(expected), strict=True):
                torch.testing.assert_close(mine, plain)
    assert len(cache) == 2


def test_a_cell_is_generated_once_for_any_number_of_passes():
    model = make()
    counted = Counted(model)
    first = logits(model)
    assert torch.equal(logits(model), first)
    assert counted.forward == [1]
    logits(model, "ner")
    with torch.no_grad():  # only what is missing is generated
        model(IDS, MASK, task=["pos", "topic"], language="eng")
    assert counted.forward == [1, 1, 1]
    torch.testing.assert_close(first, fresh(model))


def test_it_is_not_used_with_gradients_or_in_training():
    model = make()
    counted = Counted(model)
    fresh(model)
    fresh(model)
    model.train()
    logits(model)
    logits(model)
    assert counted.forward == [1] * 4
    assert len(model.generation.cache) == 0


def stepped(optimizer: type, **options: Any) -> Change:
    def change(adapters: torch.nn.Module) -> None:
        for parameter in adapters.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer(adapters.parameters(), lr=0.1, **options).step()
        adapters.zero_grad()

    return change


def in_place(adapters: torch.nn.Module) -> None:
    with torch.no_grad():
        next(adapters.parameters()).add_(1)


def loaded(adapters: torch.nn.Module, assign: bool = False) -> None:
    state = {name: tensor + 0.1 for name, tensor in adapters.state_dict().items()}
    adapters.load_state_dict(state, assign=assign)


def rounded(adapters: torch.nn.Module) -> None:
    adapters.to(torch.bfloat16).to(torch.float32)


CHANGES: dict[str, Change] = {
    "a change in place": in_place,
    "load_state_dict": loaded,
    "load_state_dict that puts new ones": lambda adapters: loaded(adapters, assign=True),
    "AdamW": stepped(torch.optim.AdamW, fused=False, foreach=False),
    "foreach AdamW": stepped(torch.optim.AdamW, foreach=True),
    "fused AdamW": stepped(torch.optim.AdamW, fused=True),
    "SGD": stepped(torch.optim.SGD),
    "another precision and back": rounded,
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_parameters_make_new_weights(change: str):
    model = make()
    before = logits(model)
    CHANGES[change](model.adapters)
    after = logits(model)
    assert not torch.equal(after, before)
    torch.testing.assert_close(after, fresh(model))


def test_another_precision_makes_new_weights():
    model = make()
    single = logits(model)
    model.double()
    assert logits(model).dtype == torch.float64
    torch.testing.assert_close(logits(model).float(), single, rtol=1e-3, atol=1e-3)
    model.float()
    with torch.autocast("cpu", torch.bfloat16):
        logits(model)
    assert torch.equal(logits(model), single)  # not those of half the precision


def test_storage_that_is_used_again_does_not_pass_for_the_old():
    """An allocator may put other parameters where the first ones were."""
    model = make()
    memory = {name: p.detach().numpy().copy() for name, p in model.adapters.named_parameters()}

    def put() -> None:
        for name, parameter in model.adapters.named_parameters():
            parameter.data = torch.from_numpy(memory[name])

    put()
    before = logits(model)
    for array in memory.values():
        array *= 1.5
    put()
    torch.testing.assert_close(logits(model), fresh(model))
    assert not torch.equal(logits(model), before)


def test_parameters_made_in_inference_mode_serve_too():
    """torch does not count changes to such tensors, so nothing can be kept."""
    with torch.inference_mode():
        model = make()
        before = logits(model)
        for parameter in model.adapters.parameters():
            parameter.mul_(1.5)
        assert not torch.equal(logits(model), before)


def test_what_changed_behind_torchs_back_can_be_forgotten():
    model = make()
    logits(model)
    for parameter in model.adapters.parameters():
        parameter.data.mul_(1.1)
    model.generation.cache.clear()
    torch.testing.assert_close(logits(model), fresh(model))


@torch.no_grad()
def test_the_oldest_go_when_there_is_no_room():
    adapters = make().adapters
    size = generate(adapters, [A])[0].nbytes
    cache = WeightCache(2 * size + size // 2)
    (a,), _ = cache.get(adapters, [A]), cache.get(adapters, [B])
    assert (len(cache), cache.nbytes) == (2, 2 * size)
    cache.get(adapters, [A])  # used again, so that B is the oldest
    cache.get(adapters, [C])
    assert (len(cache), cache.nbytes) == (2, 2 * size)
    counted: list[Any] = []
    adapters.register_forward_pre_hook(lambda _, inputs: counted.append(inputs[0].tolist()))
    assert cache.get(adapters, [A])[0].up_weight is a.up_weight
    assert counted == []
    cache.get(adapters, [B])
    assert counted == [[B[0]]]


@torch.no_grad()
def test_more_than_there_is_room_for_is_given_all_the_same():
    adapters = make().adapters
    size = generate(adapters, [A])[0].nbytes
    cells = [A, B, C]
    for limit, kept in ((size - 1, 0), (2 * size, 2)):
        cache = WeightCache(limit)
        found = cache.get(adapters, cells)
        assert (len(cache), cache.nbytes) == (kept, kept * size)
        for weights, cell in zip(found, cells, strict=True):
            expected = generate(adapters, [cell])[0]
            torch.testing.assert_close(weights.up_weight, expected.up_weight)


@torch.no_grad()
def test_what_is_kept_does_not_hold_on_to_the_rest():
    """Views of what was generated together would keep all of it in memory."""
    for weights in WeightCache().get(make().adapters, [A, B, C]):
        for tensor in tensors(weights):
            assert tensor.untyped_storage().nbytes() == tensor.nbytes


@pytest.mark.parametrize("limit", [None, 0])
def test_threads_do_not_mix_their_cells_up(limit: int | None):
    model = make()
    cells = [(task.name, code) for task in TASKS for code in (*LANGUAGES, "dan")]
    expected = {cell: fresh(model, *cell) for cell in cells}
    if limit is not None:
        model.generation.cache.limit = limit
    found: dict[tuple[int, int, tuple[str, str]], Tensor] = {}
    together = threading.Barrier(4)

    def work(number: int) -> None:
        for turn in range(3):
            together.wait(timeout=60)
            for place in range(len(cells)):
                cell = cells[(place + 5 * number) % len(cells)]
                found[number, turn, cell] = logits(model, *cell)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert len(found) == 4 * 3 * len(cells)
    for (_, _, cell), mine in found.items():
        torch.testing.assert_close(mine, expected[cell])


@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
def test_a_copy_starts_empty(how: str):
    model = make()
    model.generation.cache.limit = 12345
    expected = logits(model)
    if how == "deepcopy":
        copied = copy.deepcopy(model)
    else:  # as a process that is spawned gets it
        stream = io.BytesIO()
        torch.save(model, stream)
        stream.seek(0)
        copied = torch.load(stream, weights_only=False)
    cache = copied.generation.cache
    assert (len(cache), cache.nbytes, cache.limit) == (0, 0, 12345)
    in_place(copied.adapters)
    assert not torch.equal(logits(copied), expected)
    assert torch.equal(logits(model), expected)


def test_stacked_weights_are_those_of_the_cells_layer_by_layer():
    made = generate(make().adapters, [A, B, C])
    stacked = Stacked([made[index] for index in range(3)])
    assert len(stacked) == 2
    for layer, weights in enumerate(stacked):
        for name, tensor in weights.items():
            assert torch.equal(tensor, getattr(made, name)[:, layer])
    assert torch.equal(stacked[-1].up_bias, made.up_bias[:, -1])
    (last,) = stacked[1:]
    assert torch.equal(last.up_bias, made.up_bias[:, -1])


CELLS = [("pos", "eng"), ("ner", "isl"), ("pos", "eng"), ("topic", "fao"), ("mlm", "tur")]


@contextmanager
def plainly(_cells: Any) -> Iterator[None]:
    yield


def accumulated(model: HyperX, once: bool) -> dict[str, Tensor]:
    """The gradients of several batches, with the weights of each generated anew or once."""
    model.zero_grad()
    with (model.generated_once if once else plainly)(CELLS):
        for cell in CELLS:
            loss(model, *cell).backward()
    named = model.named_parameters()
    return {name: p.grad.clone() for name, p in named if p.grad is not None}


@pytest.mark.parametrize(
    "method", ["hyperx", "task-hypernet", "language-hypernet", "adapters", "mad-x", "head"]
)
def test_generated_once_the_gradients_are_the_same(method: str):
    model = make(method=method)
    found, expected = accumulated(model, once=True), accumulated(model, once=False)
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-6, msg=name)


def test_the_generator_runs_once_a_step_and_for_distinct_cells():
    model = make().train()
    counted = Counted(model)
    accumulated(model, once=True)
    assert (counted.forward, counted.backward) == ([4], [4])
    accumulated(model, once=False)
    assert (counted.forward, counted.backward) == ([4] + [1] * 5, [4] + [1] * 5)


def test_cells_of_equal_weights_are_generated_as_one():
    """Untrained languages share the mean, and baselines read no language."""
    model = make()
    counted = Counted(model)
    with model.generated_once([("pos", "fao"), ("pos", "dan"), ("pos", "eng")]):
        loss(model, "pos", "dan").backward()
    assert counted.forward == [2]
    model = make(method="task-hypernet")
    counted = Counted(model)
    with model.generated_once([("pos", "eng"), ("pos", "isl")]):
        loss(model, "pos", "isl").backward()
    assert counted.forward == [1]


def test_mixed_batches_use_what_was_generated_once():
    model = make()
    tasks, languages = ["topic", "topic"], ["eng", "tur"]

    def gradients(cells: list[tuple[str, str]]) -> list[Tensor]:
        model.zero_grad()
        with (model.generated_once if cells else plainly)(cells):
            for _ in range(2):
                out = model(IDS, MASK, task=tasks, language=languages)
                out.logits.square().sum().backward()
        return [p.grad.clone() for p in model.adapters.parameters()]

    cells = list(zip(tasks, languages, strict=True))
    for mine, plain in zip(gradients([*cells, ("pos", "eng")]), gradients([]), strict=True):
        torch.testing.assert_close(mine, plain, rtol=1e-4, atol=1e-5)


def test_a_cell_that_was_not_listed_may_not_be_used():
    model = make()
    with pytest.raises(KeyError), model.generated_once([("pos", "eng")]):
        loss(model, "ner", "eng")
    assert loss(model, "ner", "eng").isfinite()  # and outside all is as before


def test_after_an_error_nothing_of_the_block_is_left():
    model = make()

    def interrupted() -> None:
        with model.generated_once([("pos", "eng")]):
            loss(model, "pos", "eng").backward()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert all(parameter.grad is None for parameter in model.adapters.parameters())
    loss(model, "pos", "eng").backward()
    assert all(parameter.grad is not None for parameter in model.adapters.parameters())


def test_another_thread_does_not_see_the_weights_of_a_step():
    model = make()
    expected = logits(model)
    found: list[Tensor] = []
    with model.generated_once([("ner", "isl")]):
        other = threading.Thread(target=lambda: found.append(logits(model)))
        other.start()
        other.join()
    assert torch.equal(found[0], expected)
