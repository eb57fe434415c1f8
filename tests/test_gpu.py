"""The same model on a GPU: skipped where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hyperlect.evaluation import evaluate_run
from hyperlect.model import HyperX
from hyperlect.recipe import load_recipe
from hyperlect.training import start
from hyperlect.training.loss import batch_loss

from .model.test_mixed import batch, model
from .project import silent, write_project
from .tiny import FAMILY_NAMES

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
]


def gradients(made: HyperX, device: str) -> dict[str, torch.Tensor]:
    made.to(device).zero_grad()
    batch_loss(made, batch(made).to(device)).total.backward()
    # Copies, since moving the model again moves its gradients too.
    return {
        name: p.grad.detach().cpu().clone()
        for name, p in made.named_parameters()
        if p.grad is not None
    }


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_mixed_batches_give_the_gradients_of_the_cpu(family: str) -> None:
    made = model(family)
    plain, found = gradients(made, "cpu"), gradients(made, "cuda")
    assert plain.keys() == found.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-4)


def test_bf16_is_near_full_precision() -> None:
    made = model().to("cuda")
    given = batch(made).to("cuda")
    plain = batch_loss(made, given).total
    with torch.autocast("cuda", torch.bfloat16):
        rounded = batch_loss(made, given).total
    torch.testing.assert_close(rounded, plain, rtol=0.05, atol=0.05)


def test_kept_weights_are_those_of_the_precision() -> None:
    made = model().to("cuda")
    cells = [("pos", "eng")]
    with torch.no_grad():
        full = made.predict(["Oslo"], *cells[0])
        with torch.autocast("cuda", torch.bfloat16):
            made.predict(["Oslo"], *cells[0])
        assert made.predict(["Oslo"], *cells[0]) == full


def test_batches_are_pinned_and_arrive_whole() -> None:
    made = model()
    given = batch(made)
    pinned = given.pin()
    assert pinned.input_ids.is_pinned()
    assert all(labels.is_pinned() for labels in pinned.labels.values())
    moved = pinned.to("cuda")
    torch.cuda.synchronize()
    assert torch.equal(moved.input_ids.cpu(), given.input_ids)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_and_scoring(tmp_path: Path, precision: str) -> None:
    settings = {"steps": 6, "batching": "mixed", "accumulate": 2, "precision": precision}
    recipe = load_recipe(write_project(tmp_path, ("pos", "ner", "topic", "mlm"), settings))
    run = start(recipe, tmp_path / "run", device="cuda", console=silent())
    found, expected = (evaluate_run(run, device=name).cells for name in ("cuda", "cpu"))
    assert len(found) == len(expected) > 0
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.score == pytest.approx(theirs.score, rel=0.02, abs=2)
