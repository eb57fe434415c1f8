"""The encoder through `torch.compile`: the same numbers, or a notice and the encoder as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from hyperlect.model import HyperX
from tests.model.made import loss, make


def gradients(model: HyperX) -> dict[str, torch.Tensor]:
    model.zero_grad()
    (loss(model, "pos", "eng") + loss(model, "ner", "isl")).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.slow
def test_compiled_equals_plain() -> None:
    model = make(head_dropout=0.0).train()
    model.backbone.eval()
    plain, told = gradients(model), []
    model.backbone.compile_encoder(told.append)
    compiled = gradients(model)
    if told:
        pytest.skip(told[0])
    assert plain.keys() == compiled.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(compiled[name], gradient, atol=1e-5, rtol=1e-4)


def test_what_cannot_be_compiled_runs_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        def compiled(**inputs: Any) -> Any:
            raise RuntimeError("no compiler here\nand a long trace")

        return compiled

    monkeypatch.setattr(torch, "compile", refuses)
    model, told = make(), []
    plain = loss(model, "pos", "eng").item()
    model.backbone.compile_encoder(told.append)
    assert [loss(model, "pos", "eng").item() for _ in range(2)] == [plain, plain]
    assert told == ["torch.compile does not work here, so it is not used: no compiler here"]
