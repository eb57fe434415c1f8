"""Adapter slots: they act while they are filled, and leave no trace."""

from __future__ import annotations

import copy
import io
import threading

import pytest
import torch
from torch import Tensor, nn

from hyperlect.backbone import FAMILIES, AdapterSlots
from hyperlect.errors import BackboneError
from hyperlect.hypernet import AdapterWeights, Grouping
from tests.hypernet import twin
from tests.tiny import FAMILY_NAMES, HIDDEN, LAYERS, tiny_encoder

IDS = torch.arange(5, 25).view(2, 10)
MASK = torch.ones_like(IDS)
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_forward_hooks_with_kwargs")


def weights(seed: int = 0, hidden: int = HIDDEN, layers: int = LAYERS) -> AdapterWeights:
    torch.manual_seed(seed)
    shapes = {"down_weight": (3, hidden), "down_bias": (3,), "up_weight": (hidden, 3)}
    shapes |= dict.fromkeys(("up_bias", "after_weight", "after_bias"), (hidden,))
    return AdapterWeights(**{name: torch.randn(layers, *shape) for name, shape in shapes.items()})


def slots(encoder: nn.Module, family: str, insertion: str = "feed_forward") -> AdapterSlots:
    points = FAMILIES[family].insertion_points(encoder, LAYERS, insertion)
    return AdapterSlots(points, "relu", 1e-5)


@torch.no_grad()
def run(encoder: nn.Module) -> Tensor:
    return encoder(input_ids=IDS, attention_mask=MASK).last_hidden_state


@pytest.mark.parametrize("insertion", ["feed_forward", "layer"])
@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_the_encoder_is_itself_before_between_and_after(family: str, insertion: str):
    plain = run(tiny_encoder(family))
    encoder = tiny_encoder(family)
    state = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    held = slots(encoder, family, insertion)
    assert torch.equal(run(encoder), plain)
    with held.filled(weights()):
        adapted = run(encoder)
        with held.filled(None):
            assert torch.equal(run(encoder), plain)
        assert torch.equal(run(encoder), adapted)
    assert (adapted - plain).abs().max() > 0.1
    assert torch.equal(run(encoder), plain)
    held.remove()
    assert torch.equal(run(encoder), plain)
    assert not any(getattr(module, kind) for module in encoder.modules() for kind in HOOKS)
    assert all(torch.equal(tensor, state[name]) for name, tensor in encoder.state_dict().items())
    assert type(encoder) is type(tiny_encoder(family))


def test_each_layer_gets_its_own_weights_after_the_module():
    layers = nn.ModuleList([nn.Identity(), nn.Linear(4, 4), nn.Identity()])
    held = AdapterSlots(list(layers), "tanh", 1e-5)
    given = weights(hidden=4, layers=3)
    x = torch.randn(2, 5, 4)
    expected = x
    for index, layer in enumerate(layers):
        expected = twin.adapter(layer(expected), dict(given[index].items()), "tanh", 1e-5)
    with held.filled(given):
        for layer in layers:
            x = layer(x)
    torch.testing.assert_close(x, expected)


def test_what_follows_the_hidden_states_in_a_tuple_is_kept():
    class Layer(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, str]:
            return x, "attention"

    layer = Layer()
    held = AdapterSlots([layer], "relu", 1e-5)
    x = torch.randn(3, HIDDEN)
    assert layer(x) == (x, "attention")
    with held.filled(weights(layers=1)):
        adapted, rest = layer(x)
    assert rest == "attention"
    assert not torch.equal(adapted, x)


def test_weights_are_let_go_when_an_error_is_raised():
    encoder = tiny_encoder("bert")
    plain = run(encoder)
    held = slots(encoder, "bert")

    def interrupted() -> None:
        with held.filled(weights()):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert torch.equal(run(encoder), plain)


def test_the_last_weights_are_the_ones_applied():
    encoder = tiny_encoder("bert")
    held = slots(encoder, "bert")
    with held.filled(weights(1)):
        one = run(encoder)
        with held.filled(weights(2)):
            two = run(encoder)
        assert torch.equal(run(encoder), one)
    assert not torch.equal(one, two)


def test_blocks_may_lie_in_each_other_in_any_way():
    encoder = tiny_encoder("bert")
    plain = run(encoder)
    held = slots(encoder, "bert")
    with held.filled(weights(1)):
        one = run(encoder)
    with held.filled(None):
        with held.filled(weights(1)), held.filled(None), held.filled(weights(1)):
            assert torch.equal(run(encoder), one)
        assert torch.equal(run(encoder), plain)
    assert torch.equal(run(encoder), plain)


def test_each_thread_has_weights_of_its_own():
    encoder = tiny_encoder("bert")
    plain = run(encoder)
    held = slots(encoder, "bert")
    expected = []
    for seed in range(3):
        with held.filled(weights(seed)):
            expected.append(run(encoder))
    together = threading.Barrier(4)
    found: dict[int, list[Tensor]] = {}

    def work(number: int) -> None:
        with held.filled(own[number]):
            together.wait(timeout=60)  # all four are inside at the same time
            found[number] = [run(encoder) for _ in range(20)]
            together.wait(timeout=60)

    own = [weights(0), weights(1), weights(2), None]
    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    for number, theirs in enumerate([*expected, plain]):
        assert len(found[number]) == 20
        for mine in found[number]:
            torch.testing.assert_close(mine, theirs)
    assert torch.equal(run(encoder), plain)


def test_weights_of_several_cells_are_applied_by_row():
    encoder = tiny_encoder("bert")
    held = slots(encoder, "bert")
    cells = [weights(1), weights(2)]
    alone = []
    for given in cells:
        with held.filled(given):
            alone.append(run(encoder))
    layers = [AdapterWeights.stack([cell[layer] for cell in cells]) for layer in range(LAYERS)]
    with held.filled(layers, Grouping.of([1, 0])):
        mixed = run(encoder)
    torch.testing.assert_close(mixed, torch.stack([alone[1][0], alone[0][1]]))


def test_a_second_run_sees_the_weights_of_the_first():
    """As `torch.utils.checkpoint` has it: the contexts are asked for in the first run."""
    encoder = tiny_encoder("bert")
    held = slots(encoder, "bert")
    with held.filled(weights(1)):
        first, second = held.kept()
        with first:
            one = run(encoder)
    with held.filled(weights(2)), second:
        assert torch.equal(run(encoder), one)


def test_removed_slots_refuse_weights_and_can_be_put_in_again():
    encoder = tiny_encoder("bert")
    held = slots(encoder, "bert")
    with held.filled(weights()):
        adapted = run(encoder)
    held.remove()
    with held.filled(None):
        run(encoder)
    # Without this error the adapters would silently do nothing.
    with pytest.raises(BackboneError, match="taken out of the encoder"), held.filled(weights()):
        pass
    held.insert()
    held.insert()  # in once, not twice
    with held.filled(weights()):
        assert torch.equal(run(encoder), adapted)


class Held(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = tiny_encoder("bert")
        self.slots = slots(self.encoder, "bert")


@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
def test_a_copy_has_slots_of_its_own(how: str):
    original = Held()
    if how == "deepcopy":
        copied = copy.deepcopy(original)
    else:  # as a process that is spawned gets it
        stream = io.BytesIO()
        torch.save(original, stream)
        stream.seek(0)
        copied = torch.load(stream, weights_only=False)
    plain = run(original.encoder)
    with copied.slots.filled(weights()):
        assert not torch.equal(run(copied.encoder), plain)
        assert torch.equal(run(original.encoder), plain)
    with original.slots.filled(weights()):
        assert torch.equal(run(copied.encoder), plain)
    copied.slots.remove()
    with original.slots.filled(weights()):
        assert not torch.equal(run(original.encoder), plain)
    assert not any(module._forward_hooks for module in copied.encoder.modules())


def test_gradients_reach_the_weights_and_not_the_encoder():
    encoder = tiny_encoder("bert").requires_grad_(False)
    held = slots(encoder, "bert")
    given = weights()
    for _, tensor in given.items():
        tensor.requires_grad_()
    with held.filled(given):
        encoder(input_ids=IDS, attention_mask=MASK).last_hidden_state.square().mean().backward()
    for name, tensor in given.items():
        assert tensor.grad is not None, name
        assert tensor.grad[0].any(), name
        assert tensor.grad[1].any(), name
    assert all(parameter.grad is None for parameter in encoder.parameters())
