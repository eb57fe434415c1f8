from __future__ import annotations

import pytest
import torch

from hyperlect.hypernet import AdapterWeights, adapt
from hyperlect.hypernet.config import ACTIVATIONS

from . import twin

HIDDEN, BOTTLENECK = 5, 3
SHAPES = {"down_weight": (BOTTLENECK, HIDDEN), "down_bias": (BOTTLENECK,)}
SHAPES |= {"up_weight": (HIDDEN, BOTTLENECK), "up_bias": (HIDDEN,)}
NORMS = {"none": (), "after": ("after_weight", "after_bias"), "both": twin.NORMS}


def weights(norms: str = "after", lead: tuple[int, ...] = ()) -> AdapterWeights:
    torch.manual_seed(1)
    shapes = SHAPES | dict.fromkeys(NORMS[norms], (HIDDEN,))
    made = {name: torch.randn(*lead, *shape).double() for name, shape in shapes.items()}
    return AdapterWeights(**made)


@pytest.mark.parametrize("norms", NORMS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_adapter_is_its_formula(norms: str, activation: str):
    z = torch.randn(2, 4, HIDDEN).double()
    given = weights(norms)
    expected = twin.adapter(z, dict(given.items()), activation, 1e-5)
    torch.testing.assert_close(adapt(z, given, activation, 1e-5), expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("norms", NORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_in_bf16_act_on_what_is_not(norms: str, dtype: torch.dtype):
    """As where a LayerNorm, which autocast leaves alone, comes before generated weights."""
    z = torch.randn(2, 4, HIDDEN)
    given = weights(norms).apply(torch.Tensor.float)
    expected = adapt(z, given, "relu", 1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        lowered = adapt(z.to(dtype), given.apply(torch.Tensor.bfloat16), "relu", 1e-5)
    torch.testing.assert_close(lowered.float(), expected, rtol=0.1, atol=0.2)


def test_adapter_gradients():
    z = torch.randn(3, HIDDEN).double().requires_grad_()
    given = weights("both")
    tensors = [tensor.requires_grad_() for _, tensor in given.items()]
    names = [name for name, _ in given.items()]

    def run(z: torch.Tensor, *tensors: torch.Tensor) -> torch.Tensor:
        made = AdapterWeights(**dict(zip(names, tensors, strict=True)))
        return adapt(z, made, "gelu", 1e-5)

    assert torch.autograd.gradcheck(run, (z, *tensors))


def test_zero_scale_and_shift_leave_the_activations_as_they_are():
    z = torch.randn(4, HIDDEN).double()
    given = dict(weights().items())
    given |= {name: torch.zeros(HIDDEN).double() for name in NORMS["after"]}
    assert torch.equal(adapt(z, AdapterWeights(**given), "relu", 1e-5), z)


def test_generated_scale_is_used_as_it_is():
    """Not as 1 + γ: with γ = 1 and β = 0 the residual is a plain LayerNorm's output."""
    z = torch.randn(4, HIDDEN).double()
    given = dict(weights().items())
    given |= {"after_weight": torch.ones(HIDDEN).double(), "after_bias": z.new_zeros(HIDDEN)}
    added = adapt(z, AdapterWeights(**given), "relu", 1e-5) - z
    assert added.mean(-1).abs().max() < 1e-9
    assert torch.allclose(added.var(-1, unbiased=False), z.new_ones(4), atol=1e-3)


def test_weights_are_indexed_and_split_together():
    given = weights("both", lead=(2, 3))
    assert [name for name, _ in given.items()] == [*twin.WEIGHTS, *twin.NORMS]
    for index in (1, -1, slice(0, 1), torch.tensor([1, 0, 1])):
        for name, tensor in given[index].items():
            assert torch.equal(tensor, getattr(given, name)[index])
    layers = given[1].unbind()
    assert len(layers) == 3
    cells = given.unbind(1)
    for layer in range(3):
        for name, tensor in layers[layer].items():
            assert torch.equal(tensor, getattr(given, name)[1, layer])
            assert torch.equal(getattr(cells[layer], name), getattr(given, name)[:, layer])


def test_absent_norms_stay_absent():
    given = weights("none", lead=(2,))
    assert [name for name, _ in given.items()] == list(twin.WEIGHTS)
    for part in (given[0], given.unbind()[0], given.detach()):
        assert part.after_weight is None
        assert part.before_bias is None


def test_detached_weights_have_no_graph():
    given = weights()
    given.up_weight.requires_grad_()
    detached = given.detach()
    assert given.up_weight.requires_grad
    assert not any(tensor.requires_grad for _, tensor in detached.items())
