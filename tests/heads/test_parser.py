from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from hyperlect.heads import ParserHead, ParseScores
from hyperlect.heads.parser import word_vectors
from hyperlect.tasks import PARSERS
from tests.hypernet import twin
from tests.released.twin import word_numbers

PARITY = Path(__file__).parents[1] / "parity" / "paper_default.safetensors"
LABELS = ("nsubj", "obj", "punct", "root")
WORDS = torch.tensor([[0, 1, 1, 2, 3, -1], [0, 1, 2, -1, -1, -1]])


def parser(form: str, hidden: int = 8, dropout: float = 0.0) -> ParserHead:
    """One whose scores are not all zero."""
    torch.manual_seed(1)
    head = ParserHead(hidden, len(LABELS), form, dropout)  # type: ignore[arg-type]
    return twin.liven(head)


def released(dtype: torch.dtype) -> tuple[dict[str, Tensor], ParseScores]:
    """The released code's tensors, and what the head makes of its hidden states."""
    tensors = load_file(PARITY)
    out = {k.removeprefix("out/dep:tr/"): v for k, v in tensors.items() if "out/dep:tr" in k}
    out |= {k.removeprefix("input/"): v.long() for k, v in tensors.items() if "input/" in k}
    head = ParserHead(48, 5, "direct").to(dtype)
    with torch.no_grad():
        for name in ("arcs", "relations"):
            weight = tensors[f"param/taskmodels_dict.dep.biaffine_{name[:3]}s.weight"]
            getattr(head, name).weight.copy_(weight)
    return out, head(out["last_hidden_state"].to(dtype), word_numbers(out["word_starts"]))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-6)])
def test_scores_are_those_of_the_released_code(dtype: torch.dtype, tolerance: float) -> None:
    out, scores = released(dtype)
    assert scores.real.sum(dim=1).tolist() == [8, 4, 2]
    for mine, theirs in ((scores.arcs, "arc_preds"), (scores.relations, "rel_preds")):
        for sentence, words in enumerate((8, 4, 2)):
            expected = out[theirs][sentence, :words, : words + 1].to(dtype)
            found = mine[sentence, :words, : words + 1]
            assert (found - expected).abs().max() <= tolerance * out[theirs].abs().max()
            assert expected.abs().max() > 1


def test_the_loss_is_that_of_the_released_code_but_for_the_padding_it_counts() -> None:
    out, scores = released(torch.float64)
    heads, relations = (out[name][scores_real(out)] for name in ("labels_arcs", "labels_rels"))
    # There, heads that are padding score zero instead of being none.
    padded = F.pad(scores.arcs, (0, 6), value=-torch.inf)
    counted = ParseScores(padded.masked_fill(padded.isinf(), 0.0), scores.relations, scores.real)
    assert counted.arcs.shape == (3, 8, 15)
    assert counted.loss(heads, relations).item() == pytest.approx(out["loss"].item(), rel=1e-6)
    assert scores.loss(heads, relations) < counted.loss(heads, relations)


def scores_real(out: dict[str, Tensor]) -> Tensor:
    return out["labels_arcs"] >= 0


def test_words_are_means_of_their_sub_words_and_the_root_is_the_first_token() -> None:
    hidden = torch.randn(2, 6, 4)
    vectors, there = word_vectors(hidden, WORDS)
    assert there.tolist() == [[True] * 4, [True] * 3 + [False]]
    first = torch.stack([hidden[0, 0], hidden[0, 1:3].mean(0), hidden[0, 3], hidden[0, 4]])
    torch.testing.assert_close(vectors[0], first)
    torch.testing.assert_close(vectors[1, :3], hidden[1, :3])
    assert not vectors[1, 3].any()


def test_windows_of_a_sentence_are_put_together() -> None:
    hidden = torch.randn(3, 4, 4)
    words = torch.tensor([[0, 1, 2, -1], [-1, 3, 3, -1], [0, 1, -1, -1]])
    vectors, there = word_vectors(hidden, words)
    assert there.sum(dim=1).tolist() == [4, 2]
    rest = torch.stack([*hidden[0, :3], hidden[1, 1:3].mean(0)])
    torch.testing.assert_close(vectors[0], rest)


@pytest.mark.parametrize("form", PARSERS)
def test_scores_are_the_formula(form: str) -> None:
    head = parser(form)
    hidden = torch.randn(2, 6, 8)
    found = head(hidden, WORDS)
    vectors, _ = word_vectors(hidden, WORDS)
    one = torch.ones(1)
    for name, scores in (("arc", found.arcs[..., None]), ("relation", found.relations)):
        weight = head.arcs.weight if name == "arc" else head.relations.weight
        for dependent, other in ((1, 0), (1, 2), (3, 1), (3, 3)):
            x, y = vectors[0, dependent], vectors[0, other]
            if form == "mlp":
                x = F.leaky_relu(head.perceptrons[f"{name}_dependent"](x), 0.1)
                y = F.leaky_relu(head.perceptrons[f"{name}_head"](y), 0.1)
            y = y if name == "arc" else torch.cat([y, one])
            expected = torch.stack([torch.cat([x, one]) @ w @ y for w in weight])
            torch.testing.assert_close(
                scores[0, dependent - 1, other], expected, rtol=1e-4, atol=1e-4
            )


@pytest.mark.parametrize("form", PARSERS)
def test_nothing_depends_on_the_padding(form: str) -> None:
    """Neither scores, loss and trees nor gradients, whatever is beside or behind a sentence."""
    head = parser(form)
    hidden = torch.randn(2, 6, 8)
    other = torch.cat([hidden, torch.full((2, 3, 8), 1e3)], dim=1)
    other[1, 3:] = -7.0
    wide = F.pad(WORDS, (0, 3), value=-1)
    alone = head(hidden[1:, :3], WORDS[1:, :3])
    together, padded = head(hidden, WORDS), head(other, wide)
    for scores in (together, padded):
        torch.testing.assert_close(scores.arcs[1, :2, :3], alone.arcs[0])
        torch.testing.assert_close(scores.relations[1, :2, :3], alone.relations[0])
        assert scores.arcs[1, :, 3:].isinf().all()
    heads, relations = torch.tensor([2, 0, 2, 0, 1]), torch.tensor([0, 3, 1, 3, 2])
    losses = [scores.loss(heads, relations) for scores in (together, padded)]
    torch.testing.assert_close(*losses)
    gradients = [torch.autograd.grad(loss, list(head.parameters())) for loss in losses]
    for first, second in zip(*gradients, strict=True):
        assert first.isfinite().all()
        torch.testing.assert_close(first, second)
    assert together.decode(LABELS)[1] == padded.decode(LABELS)[1] == alone.decode(LABELS)[0]


@pytest.mark.parametrize("form", PARSERS)
def test_training_learns_the_trees(form: str) -> None:
    torch.manual_seed(1)
    head = ParserHead(8, len(LABELS), form)  # type: ignore[arg-type]
    hidden = torch.randn(2, 6, 8)
    heads, relations = torch.tensor([3, 1, 0, 0, 1]), torch.tensor([0, 1, 3, 3, 2])
    start = head(hidden, WORDS).loss(heads, relations)
    # All heads, and all relations, are equally likely.
    uniform = (3 * torch.tensor(4.0).log() + 2 * torch.tensor(3.0).log()) / 5
    torch.testing.assert_close(start, uniform + torch.tensor(float(len(LABELS))).log())
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        head(hidden, WORDS).loss(heads, relations).backward()
        optimizer.step()
    assert head(hidden, WORDS).decode(LABELS) == [([3, 1, 0], [0, 1, 3]), ([0, 1], [3, 2])]


def test_the_root_has_its_relation_and_no_other_word_has() -> None:
    arcs = torch.full((1, 3, 4), -9.0)
    arcs[0, 0, 0] = arcs[0, 1, 0] = arcs[0, 2, 1] = 5.0  # two would be roots
    arcs[0, 1, 1] = 4.0
    relations = torch.zeros(1, 3, 4, len(LABELS))
    relations[..., 3] = 1.0
    relations[..., 0, 3] = -1.0
    relations[0, 2, 1, 2] = 0.5
    scores = ParseScores(arcs, relations, torch.ones(1, 3, dtype=torch.bool))
    assert scores.decode(LABELS) == [([0, 1, 1], [3, 0, 2])]
    assert scores.decode(("a", "b", "c", "d")) == [([0, 1, 1], [0, 3, 3])]


def test_dropout_is_on_words_and_perceptrons() -> None:
    for form in PARSERS:
        head = parser(form, dropout=0.5)
        hidden = torch.randn(2, 6, 8)
        assert not torch.equal(head(hidden, WORDS).arcs, head(hidden, WORDS).arcs)
        head.eval()
        assert torch.equal(head(hidden, WORDS).arcs, head(hidden, WORDS).arcs)
