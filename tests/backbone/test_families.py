"""The table of families: what is hooked, and where it lies in the encoder."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from hyperlect.backbone import FAMILIES, family_of
from hyperlect.errors import BackboneError
from tests.tiny import FAMILY_NAMES, LAYERS, tiny_encoder

IDS = torch.arange(5, 25).view(2, 10)
MASK = torch.ones_like(IDS)


def recorded(encoder: nn.Module, **modules: nn.Module) -> dict[str, tuple[Any, Any]]:
    """Run the encoder, and return the input and the output of some of its modules."""
    seen: dict[str, tuple[Any, Any]] = {}

    def record(name: str) -> Any:
        def hook(_module: nn.Module, inputs: Any, output: Any) -> None:
            first = output if isinstance(output, torch.Tensor) else output[0]
            seen[name] = (inputs[0] if inputs else None, first)

        return hook

    handles = [module.register_forward_hook(record(name)) for name, module in modules.items()]
    with torch.no_grad():
        encoder(input_ids=IDS, attention_mask=MASK)
    for handle in handles:
        handle.remove()
    return seen


def test_the_tiny_models_cover_the_table():
    assert set(FAMILY_NAMES) == set(FAMILIES)


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_each_layer_has_one_insertion_point(family: str):
    encoder = tiny_encoder(family)
    for insertion in ("feed_forward", "layer"):
        points = FAMILIES[family].insertion_points(encoder, LAYERS, insertion)
        assert len({id(point) for point in points}) == LAYERS


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_the_feed_forward_point_comes_right_before_the_residual_sum(family: str):
    encoder = tiny_encoder(family)
    point = FAMILIES[family].insertion_points(encoder, LAYERS, "feed_forward")[-1]
    layer = FAMILIES[family].insertion_points(encoder, LAYERS, "layer")[-1]
    match family:
        case "modernbert":  # x + FFN(LN(x)), with no LayerNorm after the sum
            seen = recorded(encoder, point=point, block=layer, norm=layer.mlp_norm)
            block_input, summed = seen["norm"][0], seen["block"][1]
        case "eurobert":  # the same
            norm = layer.post_attention_layernorm
            seen = recorded(encoder, point=point, block=layer, norm=norm)
            block_input, summed = seen["norm"][0], seen["block"][1]
        case "gte" | "nomic_bert" | "jina_embeddings_v3":  # LN(x + FFN(x))
            norm = layer.post_mlp_layernorm
            seen = recorded(encoder, point=point, block=layer.mlp, norm=norm)
            block_input, summed = seen["block"][0], seen["norm"][0]
        case "distilbert":  # the same
            norm = layer.output_layer_norm
            seen = recorded(encoder, point=point, block=layer.ffn, norm=norm)
            block_input, summed = seen["block"][0], seen["norm"][0]
        case _:
            norm = layer.output.LayerNorm
            seen = recorded(encoder, point=point, block=layer.intermediate, norm=norm)
            block_input, summed = seen["block"][0], seen["norm"][0]
    assert seen["point"][1].abs().max() > 1e-3
    torch.testing.assert_close(block_input + seen["point"][1], summed)


@pytest.mark.parametrize("family", sorted({*FAMILY_NAMES} - {"modernbert", "eurobert"}))
def test_the_feed_forward_point_comes_after_the_dropout(family: str):
    # ModernBERT has its dropout inside the block, before the last linear map. EuroBERT has none.
    encoder = tiny_encoder(family).train()
    for module in encoder.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.5
    point = FAMILIES[family].insertion_points(encoder, LAYERS, "feed_forward")[0]
    dropped = recorded(encoder, point=point)["point"][1].eq(0).float().mean()
    assert 0.4 < dropped < 0.6


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_the_layer_point_is_what_the_next_layer_reads(family: str):
    encoder = tiny_encoder(family)
    first, second = FAMILIES[family].insertion_points(encoder, LAYERS, "layer")
    seen = recorded(encoder, first=first, second=second)
    assert torch.equal(seen["first"][1], seen["second"][0])


def test_an_unsupported_family_lists_the_supported_ones():
    with pytest.raises(BackboneError) as error:
        family_of("bertt")
    message = str(error.value)
    assert 'Did you mean "bert"?' in message
    for name in FAMILY_NAMES:
        assert f"({name})" in message
