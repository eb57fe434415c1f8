"""Adapter hooks: they act while weights are active, and leave no trace."""

from __future__ import annotations

import copy
import io
import threading

import pytest
import torch
from torch import Tensor, nn

from hyperlect.backbone import FAMILIES, AdapterHooks
from hyperlect.errors import BackboneError
from hyperlect.hypernet import AdapterWeights, RowGroups
from tests.hypernet import twin
from tests.tiny import FAMILY_NAMES, HIDDEN, LAYERS, tiny_encoder

IDS = torch.arange(5, 25).view(2, 10)
MASK = torch.ones_like(IDS)
DICTIONARIES = (
    "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_forward_hooks_with_kwargs",
)  # fmt: skip


def random_weights(
    seed: int = 0, hidden: int = HIDDEN, layers: int = LAYERS
) -> list[AdapterWeights]:
    torch.manual_seed(seed)
    shapes = {"down_weight": (3, hidden), "down_bias": (3,), "up_weight": (hidden, 3)}
    shapes |= dict.fromkeys(("up_bias", "after_weight", "after_bias"), (hidden,))
    tensors = {name: torch.randn(layers, *shape) for name, shape in shapes.items()}
    return AdapterWeights(**tensors).unbind()


def hook_into(
    encoder: nn.Module, family: str = "bert", insertion: str = "feed_forward"
) -> AdapterHooks:
    points = FAMILIES[family].insertion_points(encoder, LAYERS, insertion)
    return AdapterHooks(points, "relu", 1e-5)


@torch.no_grad()
def run(encoder: nn.Module) -> Tensor:
    return encoder(input_ids=IDS, attention_mask=MASK).last_hidden_state


@pytest.mark.parametrize("insertion", ["feed_forward", "layer"])
@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_the_encoder_is_itself_before_between_and_after(family: str, insertion: str):
    plain = run(tiny_encoder(family))
    encoder = tiny_encoder(family)
    state = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    hooks = hook_into(encoder, family, insertion)
    _, without_weights = hooks.rerun_contexts()
    assert torch.equal(run(encoder), plain)
    with hooks.active(random_weights()):
        adapted = run(encoder)
        with without_weights:
            assert torch.equal(run(encoder), plain)
        assert torch.equal(run(encoder), adapted)
    assert (adapted - plain).abs().max() > 0.1
    assert torch.equal(run(encoder), plain)
    hooks.remove()
    assert torch.equal(run(encoder), plain)
    assert not any(getattr(module, kind) for module in encoder.modules() for kind in DICTIONARIES)
    assert all(torch.equal(tensor, state[name]) for name, tensor in encoder.state_dict().items())
    assert type(encoder) is type(tiny_encoder(family))


def test_each_layer_has_its_own_weights_and_acts_after_its_module():
    layers = nn.ModuleList([nn.Identity(), nn.Linear(4, 4), nn.Identity()])
    hooks = AdapterHooks(list(layers), "tanh", 1e-5)
    weights = random_weights(hidden=4, layers=3)
    x = torch.randn(2, 5, 4)
    expected = x
    for layer, of_layer in zip(layers, weights, strict=True):
        expected = twin.adapter(layer(expected), dict(of_layer.items()), "tanh", 1e-5)
    with hooks.active(weights):
        for layer in layers:
            x = layer(x)
    torch.testing.assert_close(x, expected)


def test_the_rest_of_an_output_tuple_is_kept():
    class Layer(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, str]:
            return x, "attention"

    layer = Layer()
    hooks = AdapterHooks([layer], "relu", 1e-5)
    x = torch.randn(3, HIDDEN)
    assert layer(x) == (x, "attention")
    with hooks.active(random_weights(layers=1)):
        adapted, rest = layer(x)
    assert rest == "attention"
    assert not torch.equal(adapted, x)


def test_an_error_ends_the_block():
    encoder = tiny_encoder("bert")
    plain = run(encoder)
    hooks = hook_into(encoder)

    def interrupted() -> None:
        with hooks.active(random_weights()):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert torch.equal(run(encoder), plain)


def test_of_nested_blocks_the_innermost_counts():
    encoder = tiny_encoder("bert")
    plain = run(encoder)
    hooks = hook_into(encoder)
    with hooks.active(random_weights(1)):
        one = run(encoder)
        with hooks.active(random_weights(2)):
            two = run(encoder)
            with hooks.active(random_weights(1)):
                assert torch.equal(run(encoder), one)
            assert torch.equal(run(encoder), two)
        assert torch.equal(run(encoder), one)
    assert not torch.equal(one, two)
    assert torch.equal(run(encoder), plain)


def test_each_thread_has_its_own_weights():
    encoder = tiny_encoder("bert")
    plain = run(encoder)
    hooks = hook_into(encoder)
    weights = [random_weights(seed) for seed in range(3)]
    expected = []
    for of_cell in weights:
        with hooks.active(of_cell):
            expected.append(run(encoder))
    barrier = threading.Barrier(4)
    outputs: dict[int, list[Tensor]] = {}

    def work(number: int) -> None:
        barrier.wait(timeout=60)
        if number == 3:  # a thread without weights
            outputs[number] = [run(encoder) for _ in range(20)]
            barrier.wait(timeout=60)
            return
        with hooks.active(weights[number]):
            outputs[number] = [run(encoder) for _ in range(20)]
            barrier.wait(timeout=60)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    for number, theirs in enumerate([*expected, plain]):
        assert len(outputs[number]) == 20
        for mine in outputs[number]:
            torch.testing.assert_close(mine, theirs)
    assert torch.equal(run(encoder), plain)


def test_weights_of_several_cells_are_applied_by_row():
    encoder = tiny_encoder("bert")
    hooks = hook_into(encoder)
    cells = [random_weights(1), random_weights(2)]
    alone = []
    for weights in cells:
        with hooks.active(weights):
            alone.append(run(encoder))
    layers = [AdapterWeights.stack([cell[layer] for cell in cells]) for layer in range(LAYERS)]
    with hooks.active(layers, RowGroups.of([1, 0])):
        mixed = run(encoder)
    torch.testing.assert_close(mixed, torch.stack([alone[1][0], alone[0][1]]))


def test_a_second_run_sees_the_weights_of_the_first():
    """`torch.utils.checkpoint` asks for the contexts in the first run."""
    encoder = tiny_encoder("bert")
    hooks = hook_into(encoder)
    with hooks.active(random_weights(1)):
        first, second = hooks.rerun_contexts()
        with first:
            one = run(encoder)
    with hooks.active(random_weights(2)), second:
        assert torch.equal(run(encoder), one)


def test_removed_hooks_refuse_weights():
    """Without this error the adapters would silently do nothing."""
    hooks = hook_into(tiny_encoder("bert"))
    hooks.remove()
    with pytest.raises(BackboneError, match="removed"), hooks.active(random_weights()):
        pass


class Hooked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = tiny_encoder("bert")
        self.hooks = hook_into(self.encoder)


@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
def test_a_copy_has_its_own_hooks(how: str):
    original = Hooked()
    if how == "deepcopy":
        copied = copy.deepcopy(original)
    else:  # a spawned process gets it in this way
        stream = io.BytesIO()
        torch.save(original, stream)
        stream.seek(0)
        copied = torch.load(stream, weights_only=False)
    plain = run(original.encoder)
    with copied.hooks.active(random_weights()):
        assert not torch.equal(run(copied.encoder), plain)
        assert torch.equal(run(original.encoder), plain)
    with original.hooks.active(random_weights()):
        assert torch.equal(run(copied.encoder), plain)
    copied.hooks.remove()
    with original.hooks.active(random_weights()):
        assert not torch.equal(run(original.encoder), plain)
    assert not any(module._forward_hooks for module in copied.encoder.modules())


def test_gradients_reach_the_weights_and_not_the_encoder():
    encoder = tiny_encoder("bert").requires_grad_(False)
    hooks = hook_into(encoder)
    layers = [layer.apply(lambda t: t.detach().requires_grad_()) for layer in random_weights()]
    with hooks.active(layers):
        encoder(input_ids=IDS, attention_mask=MASK).last_hidden_state.square().mean().backward()
    for layer in layers:
        for name, tensor in layer.items():
            assert tensor.grad is not None, name
            assert tensor.grad.any(), name
    assert all(parameter.grad is None for parameter in encoder.parameters())
