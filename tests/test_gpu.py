"""The same model on a GPU: skipped where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from hyperlect.evaluation import evaluate_run
from hyperlect.model import HyperX
from hyperlect.recipe import load_recipe
from hyperlect.training import start

from .model.test_hyperx import adapters_alone
from .model.test_mixed import batch_of, loss_of, mixed_model
from .project import silent, write_project
from .tiny import FAMILY_NAMES

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
]


def gradients(model: HyperX, device: str) -> dict[str, torch.Tensor]:
    model.to(device).zero_grad()
    loss_of(model, [batch_of(model).to(device)]).backward()
    # Copies, since moving the model again moves its gradients too.
    return {
        name: p.grad.detach().cpu().clone()
        for name, p in model.named_parameters()
        if p.grad is not None
    }


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_mixed_batches_have_the_gradients_of_the_cpu(family: str) -> None:
    model = mixed_model(family)
    expected, mine = gradients(model, "cpu"), gradients(model, "cuda")
    assert expected.keys() == mine.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(mine[name], gradient, rtol=1e-3, atol=1e-4)


def test_bf16_is_close_to_full_precision() -> None:
    model = mixed_model().to("cuda")
    batch = batch_of(model).to("cuda")
    plain = loss_of(model, [batch])
    with model.backbone.arithmetic("bf16"):
        rounded = loss_of(model, [batch])
    torch.testing.assert_close(rounded, plain, rtol=0.05, atol=0.05)


def test_copies_in_bf16_follow_the_encoder_to_another_device() -> None:
    model = mixed_model()
    with model.backbone.arithmetic("bf16"), torch.no_grad():
        loss_of(model, [batch_of(model)])
        decoder = model.backbone.output_embeddings
    model.to("cuda")
    with model.backbone.arithmetic("bf16"), torch.no_grad():
        loss_of(model, [batch_of(model).to("cuda")])
        assert model.backbone.output_embeddings.is_cuda
    assert not decoder.is_cuda
    assert all(parameter.dtype is torch.float32 for parameter in model.parameters())


def test_after_bf16_predictions_are_those_of_full_precision() -> None:
    model = mixed_model().to("cuda")
    cell = ("pos", "eng")
    with torch.no_grad():
        expected = model.predict(["Oslo"], *cell)
        with model.backbone.arithmetic("bf16"):
            model.predict(["Oslo"], *cell)
        assert model.predict(["Oslo"], *cell) == expected


def test_batches_are_pinned_and_arrive_complete() -> None:
    batch = batch_of(mixed_model())
    pinned = batch.pin()
    assert pinned.input_ids.is_pinned()
    assert all(rows.labels.is_pinned() for rows in pinned.tasks.values())
    moved = pinned.to("cuda")
    torch.cuda.synchronize()
    assert torch.equal(moved.input_ids.cpu(), batch.input_ids)
    for name, rows in batch.tasks.items():
        assert torch.equal(moved.tasks[name].labels.cpu(), rows.labels)


def test_a_forward_pass_never_waits_for_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """But in the encoder, whose code is transformers'."""
    model = mixed_model().to("cuda").train()
    monkeypatch.setattr(model.backbone, "forward", adapters_alone(model))
    batch = batch_of(model).to("cuda")
    model.run(batch)  # a first pass may set things up
    torch.cuda.synchronize()
    before: Any = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        out = model.run(batch)
        losses = [
            model.head(name).loss(out.scores[name], rows) for name, rows in batch.tasks.items()
        ]
    finally:
        torch.cuda.set_sync_debug_mode(before)
    assert torch.stack(losses).isfinite().all()


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_training_and_scoring(tmp_path: Path, precision: str) -> None:
    settings = {"steps": 6, "batching": "mixed", "accumulate": 2, "precision": precision}
    tasks = ("pos", "ner", "topic", "mlm", "dep")
    recipe = load_recipe(write_project(tmp_path, tasks, settings))
    run = start(recipe, tmp_path / "run", device="cuda", console=silent())
    results, expected = (evaluate_run(run, device=name).cells for name in ("cuda", "cpu"))
    assert len(results) == len(expected) > 0
    for mine, theirs in zip(results, expected, strict=True):
        assert mine.score == pytest.approx(theirs.score, rel=0.02, abs=3)
