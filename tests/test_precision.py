"""Copies of frozen weights are made once, and change no result."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from hyperlect.precision import KeptCasts, arithmetic

CAST = torch.ops.aten._to_copy.default


class Casts(TorchDispatchMode):
    """Notes the shapes of what is cast."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if func is CAST:
            self.shapes.append(tuple(args[0].shape))
        return func(*args, **(kwargs or {}))


def lowered(dtype: torch.dtype = torch.bfloat16) -> torch.autocast:
    return torch.autocast("cpu", dtype)


def frozen(bias: bool = True) -> nn.Linear:
    return nn.Linear(5, 3, bias=bias).requires_grad_(False)


@pytest.mark.parametrize("bias", [True, False])
def test_a_frozen_map_is_cast_once_and_gives_the_same(bias: bool):
    linear, kept = frozen(bias), KeptCasts()
    inputs = [torch.randn(4, 5, requires_grad=True) for _ in range(2)]
    inputs[1].data = inputs[0].data
    with lowered():
        with Casts() as casts:
            expected = linear(inputs[0])
            assert (3, 5) in casts.shapes
        with kept:
            linear(inputs[1])
        with Casts() as casts, kept:
            own = linear(inputs[1])
            assert casts.shapes == []
    assert own.dtype is torch.bfloat16
    assert torch.equal(own, expected)
    for output in (own, expected):
        output.float().square().sum().backward()
    assert torch.equal(*(tensor.grad for tensor in inputs))


def test_what_is_trained_is_left_to_autocast():
    linear, kept = frozen().requires_grad_(), KeptCasts()
    with lowered(), kept:
        linear(torch.randn(4, 5)).float().sum().backward()
    assert linear.weight.grad is not None
    assert not kept._kept


def test_without_autocast_nothing_is_copied():
    linear, kept, inputs = frozen(), KeptCasts(), torch.randn(4, 5)
    with kept:
        own = linear(inputs)
    assert own.dtype is torch.float32
    assert torch.equal(own, linear(inputs))
    assert not kept._kept


def test_a_change_of_a_parameter_or_of_the_precision_is_seen():
    linear, kept, inputs = frozen(), KeptCasts(), torch.randn(4, 5)

    def same(dtype: torch.dtype) -> bool:
        with lowered(dtype):
            with kept:
                own = linear(inputs)
            return torch.equal(own, linear(inputs))

    assert same(torch.bfloat16)
    assert same(torch.float16)
    with torch.no_grad():
        linear.weight.mul_(2)
    assert same(torch.bfloat16)
    linear.weight.data = torch.randn(3, 5)
    assert same(torch.bfloat16)


def test_arithmetic_is_in_bf16_where_asked_for_and_undone_after():
    linear, inputs = frozen(), torch.randn(4, 5)
    plain = linear(inputs)
    with arithmetic("cpu", "bf16"):
        assert linear(inputs).dtype is torch.bfloat16
        with lowered():
            expected = nn.functional.linear(inputs, linear.weight.clone(), linear.bias.clone())
        assert torch.equal(linear(inputs), expected)
    with arithmetic("cpu", "fp32"):
        assert torch.equal(linear(inputs), plain)
    assert torch.equal(linear(inputs), plain)
