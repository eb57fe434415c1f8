"""Memory: no more is saved for the backward pass than the trained parameters need."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

from hyperlect.model import HyperX
from tests.tiny import FAMILY_NAMES, tiny_backbone

from .models import loss, padded, tiny_model

LAYERS = 4


class Saved:
    """The storages that operations save for the backward pass, without parameters.

    Attributes:
        sizes: bytes by address.
    """

    def __init__(self, model: nn.Module) -> None:
        self.sizes: dict[int, int] = {}
        self.kept: list[Tensor] = []  # otherwise an address might be used again
        self._excluded = {p.untyped_storage().data_ptr() for p in model.parameters()}
        self._excluded |= {b.untyped_storage().data_ptr() for b in model.buffers()}

    def note(self, tensor: Tensor) -> Tensor:
        address = tensor.untyped_storage().data_ptr()
        if address not in self._excluded:
            self.sizes[address] = tensor.untyped_storage().nbytes()
            self.kept.append(tensor)
        return tensor

    @property
    def nbytes(self) -> int:
        return sum(self.sizes.values())

    def holds(self, tensor: Tensor) -> bool:
        return tensor.untyped_storage().data_ptr() in self.sizes


@contextmanager
def saving(model: nn.Module) -> Iterator[Saved]:
    saved = Saved(model)
    with torch.autograd.graph.saved_tensors_hooks(saved.note, lambda tensor: tensor):
        yield saved


def trained(family: str = "bert", **settings) -> HyperX:
    """Return a model in training mode whose backbone has no dropout, as the trainer has it."""
    model = tiny_model(tiny_backbone(family, layers=LAYERS), head_dropout=0.0, **settings).train()
    model.backbone.eval()
    return model


def saved_bytes(model: HyperX) -> int:
    with saving(model) as saved:
        loss(model, "pos", "isl")
    return saved.nbytes


def gradients(model: HyperX) -> dict[str, Tensor]:
    model.zero_grad()
    loss(model, "pos", "isl").backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def states(model: HyperX) -> tuple[Tensor, ...]:
    out = model(*padded(model.backbone), task="pos", language="eng", output_hidden_states=True)
    return out.hidden_states


@pytest.mark.parametrize("top", [None, 1, 3])
@pytest.mark.parametrize("insertion", ["feed_forward", "layer"])
@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_below_the_first_adapter_nothing_has_a_gradient(
    family: str, insertion: str, top: int | None
):
    model = trained(family, hypernet={"top_layers": top, "insertion": insertion})
    below = LAYERS - (top or LAYERS)
    needed = [state.requires_grad for state in states(model)]
    assert needed == [False] * (below + 1) + [True] * (LAYERS - below)


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_below_the_top_layers_the_model_is_the_encoder(family: str):
    model = trained(family, hypernet={"top_layers": 1}).eval()
    _, plain = tiny_backbone(family, layers=LAYERS)(
        *padded(model.backbone), output_hidden_states=True
    )
    hidden = states(model)
    for mine, expected in zip(hidden[:-1], plain[:-1], strict=True):
        assert torch.equal(mine, expected)
    assert (hidden[-1] - plain[-1]).abs().max() > 0.1
    assert model.adapter_weights("pos", "eng").up_weight.shape[0] == 1


def test_fewer_adapted_layers_save_less():
    sizes = [saved_bytes(trained(hypernet={"top_layers": top})) for top in (1, 2, 3, 4)]
    assert sizes == sorted(sizes)
    steps = [after - before for before, after in itertools.pairwise(sizes)]
    assert min(steps) > 0.5 * sizes[0]


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_a_frozen_backbone_saves_less_than_a_trained_one(family: str):
    frozen, twin = trained(family), trained(family)
    twin.backbone.encoder.requires_grad_(True)
    assert saved_bytes(frozen) < 0.8 * saved_bytes(twin)


@pytest.mark.parametrize("frozen", [True, False])
def test_inputs_of_frozen_maps_are_not_saved(frozen: bool):
    """A linear map needs its input only for the gradient of its weight."""
    model = trained()
    model.backbone.encoder.requires_grad_(not frozen)
    inputs: dict[str, Tensor] = {}
    names = ("query", "key", "value", "intermediate.dense", "output.dense")
    for path, module in model.backbone.encoder.encoder.layer[1:].named_modules():
        # Attention itself needs the input of its output map.
        if path.endswith(names) and not path.endswith("attention.output.dense"):
            module.register_forward_pre_hook(
                lambda _, arguments, path=path: inputs.update({path: arguments[0]})
            )
    with saving(model) as saved:
        loss(model, "pos", "isl")
    assert len(inputs) == 5 * (LAYERS - 1)
    assert {saved.holds(tensor) for tensor in inputs.values()} == {not frozen}


def checkpointed(model: HyperX) -> HyperX:
    model.checkpoint_activations()
    model.train()
    model.backbone.eval()
    return model


@pytest.mark.parametrize("top", [None, 2])
@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_recomputed_activations_give_the_same_gradients(family: str, top: int | None):
    settings = {"hypernet": {"top_layers": top}}
    plain, again = trained(family, **settings), checkpointed(trained(family, **settings))
    recomputed, expected = gradients(again), gradients(plain)
    assert recomputed.keys() == expected.keys()
    for name, gradient in recomputed.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_recomputed_activations_are_not_saved(family: str):
    plain, again = trained(family), checkpointed(trained(family))
    ids, _ = padded(plain.backbone)
    inputs = LAYERS * ids.numel() * 32 * 4  # of each layer, which checkpoints hold in another way
    assert saved_bytes(again) + inputs < 0.6 * saved_bytes(plain)


def test_recomputing_works_with_dropout_and_trained_layer_norms():
    models = [
        tiny_model(train_layer_norms=True).train(),
        tiny_model(train_layer_norms=True).train(),
    ]
    models[1].checkpoint_activations()
    results = []
    for model in models:
        model.train()
        torch.manual_seed(4)
        results.append(gradients(model))
    assert results[0].keys() == results[1].keys()
    for name, gradient in results[0].items():
        torch.testing.assert_close(gradient, results[1][name], rtol=1e-4, atol=1e-6, msg=name)


def test_several_forward_passes_may_come_before_their_backward_passes():
    """The second run of a layer uses the weights of its first, whatever is active by then."""
    plain, again = trained(), checkpointed(trained())
    cells = [("pos", "isl"), ("ner", "eng"), ("topic", "tur")]
    results = []
    for model in (plain, again):
        losses = [loss(model, *cell) for cell in cells]
        with model.hooks.active(model.generate([("mlm", "eng")])[0].unbind()):
            for value in losses:
                value.backward()
        results.append([p.grad.clone() for p in model.adapters.parameters()])
    for mine, expected in zip(*results, strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_evaluation_does_not_recompute(family: str):
    plain, again = trained(family).eval(), checkpointed(trained(family)).eval()
    with torch.no_grad():
        assert torch.equal(loss(plain, "pos", "isl"), loss(again, "pos", "isl"))
    assert not again.training
    assert not any(module.training for module in again.modules() if isinstance(module, nn.Dropout))
